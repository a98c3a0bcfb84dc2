//! Stopped from outside: nothing half-written is ever under a final name.

use crate::support::{Site, Table};
use std::io::Write as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args(["-s", name, &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

/// The command with signals as an option of env(1) has them.
fn with_signals(rekek: Command, how: &str) -> Command {
    let mut command = Command::new("env");
    command.arg(how).arg(rekek.get_program()).args(rekek.get_args());
    command
}

#[test]
fn a_signal_ends_a_run_that_waits_for_input_with_no_file_left() {
    for name in ["INT", "TERM", "QUIT"] {
        for threads in [1, 2] {
            let site = Site::sample();
            let before = site.names();
            let line = format!(
                "rewrap - --input-format csv -o out.csv --secrets secrets.json --to kv2 --threads {threads}"
            );
            // (A shell's `scripts/test &` has SIGQUIT ignored, and rekek would heed that.)
            let mut command = with_signals(site.command(&line), "--default-signal");
            command.current_dir(site.path(""));
            let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            let mut stdin = child.stdin.take().unwrap();
            // All rows but the last, and then nothing: it waits, with its handlers long in place.
            let mut table = Table::sample();
            table.rows.pop();
            stdin.write_all(table.text().as_bytes()).unwrap();
            std::thread::sleep(Duration::from_millis(300));
            signal(&child, name);
            let output = child.wait_with_output().unwrap();
            let said = String::from_utf8(output.stderr).unwrap();
            let message = "rekek: interrupted; nothing was left behind\n";
            assert_eq!(
                (output.status.code(), said.as_str()),
                (Some(130), message),
                "SIG{name}, {threads} threads"
            );
            assert_eq!(site.names(), before);
            drop(stdin);
        }
    }
}

/// What nohup promises.
#[test]
fn a_closed_terminal_ends_a_run_unless_it_was_to_go_on() {
    for (how, expected) in [("--default-signal=HUP", Some(130)), ("--ignore-signal=HUP", Some(0))] {
        let site = Site::sample();
        let mut command = with_signals(site.command("inspect - --input-format csv"), how);
        command.current_dir(site.path(""));
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        std::thread::sleep(Duration::from_millis(300));
        signal(&child, "HUP");
        // (It may have ended, and have closed the pipe.)
        let _ = stdin.write_all(Table::sample().text().as_bytes());
        drop(stdin);
        assert_eq!(child.wait().unwrap().code(), expected, "{how}");
    }
}

/// Sent while it waits, a signal ends it.
#[track_caller]
fn ends_by_a_signal(child: Child, line: &str) {
    std::thread::sleep(Duration::from_millis(300));
    signal(&child, "INT");
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{line}: {said}");
    assert!(said.ends_with("rekek: interrupted; nothing was left behind\n"), "{line}: {said}");
}

#[test]
fn a_signal_ends_every_wait_for_standard_input() {
    for line in [
        "rewrap export.csv --dry-run --secrets - --to kv2",
        "rewrap export.csv --dry-run --secrets secrets.json --to kv2 --orgs-file -",
        "rewrap - --input-format csv --dry-run --secrets secrets.json --to kv2",
        "inspect - --input-format csv",
        "verify - --input-format csv",
        "verify export.csv --secrets -",
        "verify export.csv --secrets secrets.json --source - --source-format csv",
    ] {
        let site = Site::sample();
        let mut child = site.command(line).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdin = child.stdin.take().unwrap();
        ends_by_a_signal(child, line);
        drop(stdin);
    }
}

fn fifo(site: &Site, name: &str) {
    assert!(std::process::Command::new("mkfifo").arg(site.path(name)).status().unwrap().success());
}

#[test]
fn a_signal_ends_a_wait_for_a_pipe_that_nobody_writes_to() {
    for line in [
        "rewrap export.csv --dry-run --secrets pipe --to kv2",
        "rewrap export.csv --dry-run --secrets secrets.json --vault-key kv3=pipe --to kv2",
        "rewrap export.csv --dry-run --secrets secrets.json --to kv2 --orgs-file pipe",
        "rewrap pipe --input-format csv --dry-run --secrets secrets.json --to kv2",
    ] {
        let site = Site::sample();
        fifo(&site, "pipe");
        let child = site.command(line).stderr(Stdio::piped()).spawn().unwrap();
        ends_by_a_signal(child, line);
    }
}

#[test]
fn keys_and_organizations_come_through_pipes() {
    let site = Site::sample();
    let whole = site.read("secrets.json");
    for (name, text, line) in [
        ("keys", whole.as_str(), "rewrap export.csv --dry-run --secrets keys --to kv2"),
        (
            "orgs",
            "org-0000001\n",
            "rewrap export.csv --dry-run --secrets secrets.json --to kv2 --orgs-file orgs",
        ),
    ] {
        fifo(&site, name);
        let child = site.command(line).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(100));
        let mut pipe = std::fs::OpenOptions::new().write(true).open(site.path(name)).unwrap();
        let (first, rest) = text.split_at(5);
        pipe.write_all(first.as_bytes()).unwrap();
        std::thread::sleep(Duration::from_millis(100));
        pipe.write_all(rest.as_bytes()).unwrap();
        drop(pipe);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn a_signal_or_kill_9_in_mid_run_leaves_nothing_or_everything() {
    let site = Site::empty();
    site.rekek("keygen kv1 --secrets s.json").good();
    site.rekek("keygen kv2 --secrets s.json").good();
    site.rekek("generate -o in.csv --orgs 4000 --secrets s.json --under kv1").good();
    let line = "rewrap in.csv -o out.csv --secrets s.json --to kv2 --quiet";
    let mut stopped = 0;
    for (i, name) in ["INT", "KILL", "TERM", "KILL", "INT", "KILL", "TERM", "KILL"].into_iter().enumerate() {
        let mut child = site.command(line).stderr(Stdio::null()).spawn().unwrap();
        // Late enough for the handlers to stand, early enough to meet a run in the middle.
        std::thread::sleep(Duration::from_millis(40 + 12 * i as u64));
        signal(&child, name);
        let status = child.wait().unwrap();
        match (site.path("out.csv").exists(), site.path("out.csv.manifest.json").exists()) {
            (false, manifest) => {
                assert!(!manifest, "a manifest without its file");
                let expected = if name == "KILL" { None } else { Some(130) };
                assert_eq!(status.code(), expected, "SIG{name}");
                stopped += 1;
            }
            // Killed between the two: the next run knows it, and replaces it.
            (true, false) => {
                let again = site.rekek(line);
                assert_eq!(again.status, 0, "{}", again.stderr);
                assert!(again.stderr.contains("out.csv is what a stopped run left"), "{}", again.stderr);
            }
            (true, true) => {
                assert_eq!(site.rekek("verify out.csv --source in.csv --secrets s.json").status, 0)
            }
        }
        for name in ["out.csv", "out.csv.manifest.json"] {
            std::fs::remove_file(site.path(name)).ok();
        }
        assert_eq!(site.names(), ["in.csv", "s.json"], "nothing to clean up after SIG{name}");
    }
    assert!(stopped > 0, "no run was stopped in the middle");
    site.rekek(line).good();
}

#[test]
fn of_two_runs_into_one_output_one_wins_whole() {
    let site = Site::empty();
    site.rekek("keygen kv1 --secrets s.json").good();
    site.rekek("keygen kv2 --secrets s.json").good();
    site.rekek("generate -o in.csv --orgs 2000 --secrets s.json --under kv1").good();
    let run = || site.rekek("rewrap in.csv -o out.csv --secrets s.json --to kv2 --quiet");
    let runs = std::thread::scope(|scope| {
        let both = [scope.spawn(run), scope.spawn(run)];
        both.map(|thread| thread.join().unwrap())
    });
    let mut statuses = runs.each_ref().map(|run| run.status);
    statuses.sort();
    assert_eq!(statuses, [0, 1], "{} {}", runs[0].stderr, runs[1].stderr);
    site.rekek("verify out.csv --source in.csv --secrets s.json").good();
}
