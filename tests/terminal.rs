//! What the programs show on a terminal and in a log: colour only where it is wanted, lines that
//! fit, progress.

use assert_cmd::cargo::cargo_bin;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};

const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/sample");

fn rekek(line: &str) -> Command {
    let mut command = Command::new(cargo_bin!("rekek"));
    command.args(line.split(' ')).current_dir(SAMPLE).stdin(Stdio::null());
    for name in ["CI", "CLICOLOR", "CLICOLOR_FORCE", "NO_COLOR"] {
        command.env_remove(name);
    }
    command.env("TERM", "xterm-256color");
    command
}

/// Runs a command with both its outputs on a terminal of so many columns; what the terminal got.
fn on_terminal(mut command: Command, columns: u16) -> String {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let terminal = openpt(flags).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    tcsetwinsize(&terminal, Winsize { ws_row: 50, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap();
    let open = || File::options().read(true).write(true).open(Path::new(name.to_str().unwrap())).unwrap();
    let mut child = command.stdout(open()).stderr(open()).spawn().unwrap();
    drop(command);
    // Until the last one has closed the other side, which reads as an error.
    let mut said = Vec::new();
    let mut terminal = File::from(terminal);
    let mut block = [0; 4096];
    while let Ok(n @ 1..) = terminal.read(&mut block) {
        said.extend_from_slice(&block[..n]);
    }
    child.wait().unwrap();
    String::from_utf8(said).unwrap().replace("\r\n", "\n")
}

fn plain(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}

fn piped(mut command: Command) -> (String, String) {
    let output = command.output().unwrap();
    (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
}

const INSPECT: &str = "inspect export.csv --retired kv1 --progress never";

#[test]
fn colour_is_for_terminals_and_never_the_only_sign() {
    let coloured = on_terminal(rekek(INSPECT), 200);
    assert!(coloured.contains("\x1b[1m"), "{coloured:?}");
    // The same words in a pipe, without an escape.
    let (table, said) = piped(rekek(INSPECT));
    assert!(!table.contains('\x1b') && !said.contains('\x1b'));
    assert_eq!(plain(&coloured), format!("{table}{said}"));
    for (name, value) in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        for ci in [false, true] {
            let mut command = rekek(INSPECT);
            command.env(name, value);
            if ci {
                command.env("CI", "true");
            }
            assert_eq!(on_terminal(command, 200), format!("{table}{said}"), "{name}={value}, CI: {ci}");
        }
    }
    // What clap says, too; and one who insists gets colour anywhere.
    let mut wrong = rekek("inspect --wrong");
    wrong.env("TERM", "dumb").env("CI", "true");
    assert!(!on_terminal(wrong, 200).contains('\x1b'));
    let mut forced = rekek(INSPECT);
    forced.env("TERM", "dumb").env("CLICOLOR_FORCE", "1");
    assert!(piped(forced).0.contains("\x1b[1m"));
}

#[test]
fn lines_fit_a_narrow_terminal_and_nothing_is_cut() {
    let line = "rewrap export.csv --dry-run --secrets secrets.json --to kv2 --progress never";
    // How long it took differs each time.
    let stable =
        |text: &str| plain(text).lines().filter(|l| !l.starts_with("time")).collect::<Vec<_>>().join("\n");
    let words = |text: &str| stable(text).split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let (table, said) = piped(rekek(line));
    let all = words(&format!("{table}{said}"));
    for columns in [80, 50, 30] {
        let text = on_terminal(rekek(line), columns);
        for line in plain(&text).lines() {
            assert!(line.chars().count() <= usize::from(columns), "{columns}: {line}");
        }
        let shown = words(&text);
        for word in &all {
            assert!(shown.contains(word), "{columns}: {word} is missing in {text}");
        }
    }
}

#[test]
fn a_log_has_progress_in_whole_lines_where_it_is_asked_for() {
    let (_, said) = piped(rekek("inspect export.csv --progress always"));
    let lines: Vec<_> = said.lines().collect();
    let [first, .., last] = lines[..] else { panic!("{said}") };
    assert!(first.starts_with("rekek: ") && first.contains(" rows, "), "{said}");
    assert!(last.starts_with("rekek: 150 of about 150 rows, ") && last.contains(" rows/s, "), "{said}");
    assert!(!said.contains(['\r', '\x1b']));
    // Short runs say nothing, unless asked to.
    for when in ["auto", "never"] {
        assert_eq!(piped(rekek(&format!("inspect export.csv --progress {when}"))).1, "");
    }
    let refused = piped(rekek("rewrap a.csv --dry-run --secrets s --to k --quiet --progress always")).1;
    assert!(refused.contains("'--quiet' cannot be used with '--progress <WHEN>'"), "{refused}");
}

#[test]
fn a_terminal_has_a_bar_that_is_gone_at_the_end() {
    let text = on_terminal(rekek("inspect export.csv --json"), 80);
    let (json, _) = piped(rekek("inspect export.csv --json"));
    assert!(text.ends_with(&json), "{text:?}");
    // A dumb terminal cannot take a line back: it is treated as a log.
    let mut dumb = rekek("inspect export.csv --json");
    dumb.env("TERM", "dumb");
    assert_eq!(on_terminal(dumb, 80), json);
}
