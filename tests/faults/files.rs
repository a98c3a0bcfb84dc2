//! Every system call of a re-wrap that touches a file fails once, and is once the last.
//!
//! Whatever fails: under the final names stands nothing, or a whole output with its manifest; no
//! other name is left; and the same command run again simply works.

use crate::folder::Site;
use crate::pair;
use crate::strace::{self, Call};

/// The calls that read, write, name or lock files. (Not every processor has `open`.)
pub const CALLS: &str = "?open,openat,read,pread64,write,fsync,fchmod,linkat,renameat,renameat2,rename,unlink,unlinkat,flock,\
                     fsetxattr,lgetxattr,fremovexattr";

/// Makes every file take the way through a temporary name, as on file systems that have no unnamed
/// ones: the mode of the unnamed file cannot be set.
const NAMED: &str = "fchmod:error=EPERM:when=1+2";

const REWRAP: &str = "rewrap in.csv -o out.csv --secrets secrets.json --to kv2 --threads 1 --failures failures.jsonl \
                      --report report.json --sign sign.key";

/// Four rows, of two of which something is re-wrapped, and a key to sign with.
fn site() -> Site {
    let site = Site::sample();
    pair::add(&site);
    let mut table = crate::folder::Table::parse(&site.read("export.csv"));
    table.rows.truncate(4);
    std::fs::remove_file(site.path("export.csv")).unwrap();
    site.write("in.csv", table.text());
    site
}

pub fn error_of(name: &str) -> &'static str {
    match name {
        "open" | "openat" | "write" | "linkat" | "renameat" | "renameat2" | "rename" => "ENOSPC",
        "fchmod" | "unlink" | "unlinkat" => "EPERM",
        "flock" => "ENOLCK",
        "fsetxattr" | "fremovexattr" | "lgetxattr" => "EOPNOTSUPP",
        "read" | "pread64" | "fsync" => "EIO",
        other => panic!("no error is chosen for {other}"),
    }
}

/// The calls of a run from the opening of the secrets on: before that, the program is being loaded.
fn calls(line: &str, staging: &[&str]) -> Vec<Call> {
    let site = site();
    prepare(&site, line);
    let run = strace::run(&site, CALLS, staging, line);
    assert_eq!(run.status, Some(0), "{}", run.stderr);
    let mut calls = run.calls();
    let begin = calls.iter().position(|call| call.line.contains("secrets.json")).unwrap();
    calls.drain(..begin);
    for name in ["write", "fsync", "read", if staging.is_empty() { "linkat" } else { "renameat2" }] {
        assert!(calls.iter().any(|call| call.name == name), "no {name} in {calls:#?}");
    }
    calls
}

/// What `--force` replaces.
fn prepare(site: &Site, line: &str) {
    if line.contains("--force") {
        assert_eq!(site.rekek(&line.replace(" --force", "")).status, 0);
    }
}

/// What stands under the final names.
#[derive(Debug, PartialEq)]
pub enum Left {
    Nothing,
    /// A whole output, its manifest and that one's signature; whether of this run or of the one before.
    Whole,
    /// An output without its manifest.
    Alone,
}

#[track_caller]
fn left(site: &Site, context: &str) -> Left {
    left_of(
        site,
        "out.csv",
        "verify out.csv --source in.csv --secrets secrets.json --trusted-key sign.pub",
        context,
    )
}

/// The same of any output with a manifest, and the command that says of both that they are whole.
#[track_caller]
pub fn left_of(site: &Site, output: &str, verify: &str, context: &str) -> Left {
    let exists = |end: &str| site.path(&format!("{output}{end}")).exists();
    match (exists(""), exists(".manifest.json")) {
        (false, false) => {
            assert!(!exists(".manifest.json.minisig"), "{context}: a signature of nothing");
            Left::Nothing
        }
        (true, false) => Left::Alone,
        (true, true) => {
            let verify = site.rekek(verify);
            assert_eq!(verify.status, 0, "{context}: {}{}", verify.stdout, verify.stderr);
            Left::Whole
        }
        (false, true) => panic!("{context}: a manifest without its output"),
    }
}

/// The names that nothing but these commands' files have.
fn strangers(site: &Site) -> Vec<String> {
    let ours =
        ["in.csv", "secrets.json", "site.toml", "sign.key", "sign.pub", "failures.jsonl", "report.json"];
    let known = |name: &str| ours.contains(&name) || name.starts_with("out.csv");
    site.names().into_iter().filter(|name| !known(name)).collect()
}

/// Runs the same command again, as somebody would who has only read what it said.
#[track_caller]
fn run_again(site: &Site, line: &str, context: &str) {
    let again = site.rekek(line);
    assert_eq!(again.status, 0, "{context}, run again: {}", again.stderr);
    assert_eq!(left(site, context), Left::Whole);
    assert_eq!(strangers(site), Vec::<String>::new(), "{context}, run again");
}

/// Does something for every item, on two threads.
pub fn each<T: Sync>(items: &[T], run: impl Fn(&T) + Sync) {
    let next = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(item) = items.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
                    run(item);
                }
            });
        }
    });
}

fn fails_at_every_call(line: &str, staging: &[&str]) {
    let calls = calls(line, staging);
    each(&calls, |call| {
        if !staging.is_empty() && call.name == "fchmod" {
            return; // it is what the staging spoils
        }
        let site = site();
        prepare(&site, line);
        let injection = format!("{}:error={}:when={}", call.name, error_of(&call.name), call.nth);
        let run = strace::run(&site, CALLS, &[staging, &[injection.as_str()]].concat(), line);
        let context = format!("{line}\n{} fails: {}", call.line, run.stderr);
        assert!(run.was_injected(), "{context}");
        let left = left(&site, &context);
        assert_eq!(strangers(&site), Vec::<String>::new(), "{context}");
        match run.status {
            // It knew another way.
            Some(0) => assert_eq!((left, run.stderr.as_str()), (Left::Whole, ""), "{context}"),
            Some(1) => {
                let said = run.stderr.strip_prefix("rekek: ").expect(&context);
                assert_eq!(said.lines().count(), 1, "{context}");
                assert!(said.contains(" (os error ") || said.contains("no storage space"), "{context}");
                assert!(!said.contains(".rekek-"), "a temporary name: {context}");
                let published = said.contains("out.csv and its manifest are whole and published");
                if published {
                    assert_eq!(left, Left::Whole, "{context}");
                    return;
                }
                if !line.contains("--force") {
                    assert_eq!(left, Left::Nothing, "{context}");
                    assert!(!site.path("failures.jsonl").exists() && !site.path("report.json").exists());
                }
                run_again(&site, line, &context);
            }
            other => panic!("{other:?}: {context}"),
        }
    });
}

fn is_killed_at_every_call(line: &str, staging: &[&str]) {
    let calls = calls(line, staging);
    let alone = std::sync::atomic::AtomicUsize::new(0);
    each(&calls, |call| {
        let site = site();
        prepare(&site, line);
        let injection = format!("{}:signal=KILL:when={}", call.name, call.nth);
        if !staging.is_empty() && call.name == "fchmod" {
            return; // as above
        }
        let run = strace::run(&site, CALLS, &[staging, &[injection.as_str()]].concat(), line);
        let context = format!("{line}\nkilled at {}", call.line);
        assert_eq!(run.status, None, "{context}");
        assert!(run.log.lines().last().unwrap().ends_with("= ?"), "{context}: {}", run.log);
        match left(&site, &context) {
            Left::Whole if !line.contains("--force") => {
                let again = site.rekek(line);
                assert_eq!(again.status, 1, "{context}");
                let said = again.stderr.lines().last().unwrap();
                assert!(said.contains(" exists already; choose another name"), "{said}");
                return;
            }
            Left::Alone => drop(alone.fetch_add(1, std::sync::atomic::Ordering::Relaxed)),
            Left::Whole | Left::Nothing => {}
        }
        run_again(&site, line, &context);
    });
    assert!(alone.into_inner() > 0, "no run was killed between the output and its manifest");
}

#[test]
fn a_call_that_fails_leaves_nothing_half_done() {
    fails_at_every_call(REWRAP, &[]);
}

#[test]
fn a_call_that_fails_leaves_nothing_half_done_where_files_need_a_temporary_name() {
    fails_at_every_call(REWRAP, &[NAMED]);
}

#[test]
fn a_call_that_fails_while_an_output_is_replaced() {
    fails_at_every_call(&format!("{REWRAP} --force"), &[]);
}

#[test]
fn kill_9_at_any_call_needs_no_cleaning_up() {
    is_killed_at_every_call(REWRAP, &[]);
}

#[test]
fn kill_9_at_any_call_needs_no_cleaning_up_where_files_need_a_temporary_name() {
    is_killed_at_every_call(REWRAP, &[NAMED]);
}

#[test]
fn kill_9_while_an_output_is_replaced() {
    is_killed_at_every_call(&format!("{REWRAP} --force"), &[]);
}
