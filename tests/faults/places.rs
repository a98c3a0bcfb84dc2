//! Where files go: their mode, what may not stand there, and two runs that want the same name.

use crate::folder::{Ran, Site};
use crate::pair;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::process::{Command, Stdio};

const REWRAP: &str = "rewrap export.csv -o out.csv --secrets secrets.json --to kv2";

#[track_caller]
fn whole(site: &Site) {
    let verify = site.rekek("verify out.csv --source export.csv --secrets secrets.json");
    assert_eq!((verify.status, verify.stderr.as_str()), (0, ""), "{}", verify.stdout);
}

#[test]
fn every_file_is_its_owner_s_alone_whatever_the_umask() {
    for umask in ["000", "022", "077", "777"] {
        let site = Site::sample();
        pair::add(&site);
        let rewrap = format!("{REWRAP} --failures failures.jsonl --report report.json --sign sign.key");
        for line in [
            &rewrap,
            &format!("{rewrap} --force"),
            "report out.csv.manifest.json -o record.html",
            "bench --rows 10 --rounds 1 --threads 1 --plot bench.svg",
            "generate -o generated.csv --orgs 3 --secrets secrets.json --under kv1",
            "keygen kv9 --secrets new.json",
            "keygen kv10 --secrets new.json",
        ] {
            let mut command = Command::new("sh");
            command.args(["-c", &format!("umask {umask}; exec \"$0\" {line}")]);
            let rekek = assert_cmd::cargo::cargo_bin!("rekek");
            let output = command.arg(rekek).current_dir(site.path("")).output().unwrap();
            assert_eq!(output.status.code(), Some(0), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        }
        let made = [
            "out.csv",
            "out.csv.manifest.json",
            "out.csv.manifest.json.minisig",
            "record.html",
            "bench.svg",
            "failures.jsonl",
            "report.json",
            "generated.csv",
            "new.json",
        ];
        for name in made {
            let mode = site.path(name).metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o7777, 0o600, "{name} with umask {umask}");
        }
    }
}

/// A name at which something stands that no careful user would write to, with what it is called.
fn traps(site: &Site) -> Vec<(&'static str, &'static str)> {
    site.write("theirs", "theirs");
    std::fs::create_dir(site.path("folder")).unwrap();
    symlink("theirs", site.path("link")).unwrap();
    symlink("nowhere", site.path("dangling")).unwrap();
    symlink("folder", site.path("link-to-folder")).unwrap();
    symlink("loop", site.path("loop")).unwrap();
    let fifo = Command::new("mkfifo").arg(site.path("fifo")).status().unwrap();
    assert!(fifo.success());
    std::os::unix::net::UnixListener::bind(site.path("socket")).unwrap();
    vec![
        ("folder", "a folder"),
        ("link", "a symbolic link"),
        ("dangling", "a symbolic link"),
        ("link-to-folder", "a symbolic link"),
        ("loop", "a symbolic link"),
        ("fifo", "a special file"),
        ("socket", "a special file"),
        ("/dev/null", "a special file"),
        ("/dev/full", "a special file"),
    ]
}

#[test]
fn nothing_is_written_to_a_link_or_a_special_file() {
    let site = Site::sample();
    let traps = traps(&site);
    let before = site.names();
    for (trap, what) in traps {
        for force in ["", " --force"] {
            for line in [
                format!("rewrap export.csv -o {trap} --output-format csv --secrets secrets.json --to kv2"),
                format!("{REWRAP} --manifest {trap}"),
                format!("{REWRAP} --report {trap}"),
                format!("{REWRAP} --failures {trap}"),
                format!("rewrap export.csv --dry-run --failures {trap} --secrets secrets.json --to kv2"),
                format!("rewrap export.csv --dry-run --report {trap} --secrets secrets.json --to kv2"),
                format!(
                    "rewrap export.csv -o - --manifest {trap} --output-format csv --secrets secrets.json --to kv2"
                ),
                format!("generate -o {trap} --output-format csv --orgs 1 --secrets secrets.json --under kv1"),
            ] {
                let run = site.rekek(&format!("{line}{force}"));
                let message = format!("rekek: {trap} is {what}, not a regular file; name a regular file\n");
                assert_eq!(
                    (run.status, run.stderr.as_str(), run.stdout.as_str()),
                    (1, &*message, ""),
                    "{line}"
                );
            }
        }
    }
    assert_eq!(site.names(), before);
    assert_eq!(site.read("theirs"), "theirs");
    assert_eq!(std::fs::read_dir(site.path("folder")).unwrap().count(), 0);
    assert!(site.path("fifo").symlink_metadata().unwrap().file_type().is_fifo());
}

/// A manifest's default name is one that nobody typed.
#[test]
fn a_trap_beside_the_output_is_seen_before_any_work() {
    for name in ["out.csv.manifest.json", "out.csv.manifest.json.minisig"] {
        for force in ["", " --force"] {
            let site = Site::sample();
            site.write("theirs", "theirs");
            symlink("theirs", site.path(name)).unwrap();
            let run = site.rekek(&format!("{REWRAP}{force}"));
            let message =
                format!("rekek: {name} is a symbolic link, not a regular file; name a regular file\n");
            assert_eq!((run.status, run.stderr), (1, message));
            assert_eq!((site.read("theirs").as_str(), site.path("out.csv").exists()), ("theirs", false));
        }
    }
}

/// A link to a folder on the way is the operator's own layout.
#[test]
fn a_folder_may_be_reached_by_a_link_and_must_be_there() {
    let site = Site::sample();
    std::fs::create_dir(site.path("real")).unwrap();
    symlink("real", site.path("link")).unwrap();
    site.rekek(&REWRAP.replace("out.csv", "link/out.csv")).good();
    assert!(site.path("real/out.csv").is_file() && site.path("real/out.csv.manifest.json").is_file());
    // (And the same file by another name is the same file.)
    let run = site.rekek(&format!("{REWRAP} --report link/../out.csv"));
    assert_eq!(run.status, 2, "{}", run.stderr);
    symlink("nowhere", site.path("dangling")).unwrap();
    for folder in ["dangling", "missing", "export.csv"] {
        let run = site.rekek(&REWRAP.replace("out.csv", &format!("{folder}/out.csv")));
        assert_eq!(run.status, 1);
        assert!(run.stderr.starts_with(&format!("rekek: cannot write {folder}/out.csv: ")), "{}", run.stderr);
    }
}

/// A run that another one finds in the middle of publishing: one of its calls is delayed.
fn start_delayed(site: &Site, line: &str, call: &str, nth: u32, micros: u32) -> std::process::Child {
    let rekek = site.plain_command(line);
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}")]);
    command.args(["-e", &format!("inject={call}:delay_enter={micros}:when={nth}")]);
    command.arg(rekek.get_program()).args(rekek.get_args()).current_dir(site.path(""));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("strace is installed (scripts/test does it)")
}

fn ended(child: std::process::Child) -> Ran {
    let output = child.wait_with_output().unwrap();
    Ran {
        status: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn wait_for(path: &std::path::Path) -> u64 {
    loop {
        match path.metadata() {
            Ok(metadata) => return metadata.ino(),
            Err(_) => std::thread::sleep(std::time::Duration::from_millis(2)),
        }
    }
}

/// The output of a run that lives has its name, its manifest not yet: no other run takes it for
/// what a dead one left.
#[test]
fn an_output_that_waits_for_its_manifest_is_not_taken_for_a_dead_run_s() {
    let site = Site::sample();
    let first = start_delayed(&site, REWRAP, "linkat", 2, 1_000_000);
    let output = wait_for(&site.path("out.csv"));
    assert!(!site.path("out.csv.manifest.json").exists(), "the first run is on its way to the manifest");
    let second = site.rekek(REWRAP);
    let exists = "out.csv exists already; choose another name, or --force to replace it\n";
    assert_eq!((second.status, second.stderr.ends_with(exists)), (1, true), "{}", second.stderr);
    let first = ended(first);
    assert_eq!((first.status, first.stderr.as_str()), (0, ""));
    assert_eq!(site.path("out.csv").metadata().unwrap().ino(), output, "the first run's");
    whole(&site);
}

/// Two runs that may replace each other's output: never one's output beside the other's manifest, nor
/// one's signature.
#[test]
fn of_two_runs_that_replace_one_output_the_last_wins_whole() {
    // What replaces nothing is a signature and then, the last, a manifest.
    for (sign, manifest) in [("", 1), (" --sign sign.key", 2)] {
        let site = Site::sample();
        pair::add(&site);
        let line = format!("{REWRAP} --force{sign}");
        let first = start_delayed(&site, &line, "renameat2", manifest, 700_000);
        wait_for(&site.path("out.csv"));
        let second = start_delayed(&site, &line, "renameat2", manifest, 1_400_000);
        for run in [first, second] {
            let run = ended(run);
            assert_eq!((run.status, run.stderr.as_str()), (0, ""));
        }
        whole(&site);
        if !sign.is_empty() {
            site.rekek("verify out.csv --trusted-key sign.pub").good();
        }
    }
}

#[test]
fn an_output_that_came_while_a_run_was_at_work_is_not_touched() {
    let site = Site::sample();
    let line = REWRAP.replace("export.csv", "- --input-format csv");
    let mut child = site.command(&line).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (begin, end) = {
        let text = site.read("export.csv");
        let half = text.len() / 2;
        (text[..half].to_owned(), text[half..].to_owned())
    };
    use std::io::Write as _;
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(begin.as_bytes()).unwrap();
    site.rekek(REWRAP).good();
    let before = (site.read("out.csv"), site.read("out.csv.manifest.json"));
    stdin.write_all(end.as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    let exists = "rekek: out.csv exists already; choose another name, or --force to replace it\n";
    assert_eq!((output.status.code(), said.as_str()), (Some(1), exists));
    assert!(before == (site.read("out.csv"), site.read("out.csv.manifest.json")));
    whole(&site);
}
