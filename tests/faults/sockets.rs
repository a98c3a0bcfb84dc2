//! `rekek` opens no socket and starts no other program.
//!
//! Here every command is traced. And `scripts/test` runs all other tests of the command line with
//! every `rekek` under [`folder::without_sockets`], where the first call about a socket kills.

use crate::folder::{self, Site};
use crate::{commands, pair, strace};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};

/// All that could reach another machine or another program. (By io_uring a socket could be had
/// without any call of its own.)
const CALLS: &str = "%network,execve,execveat,fork,vfork,clone,clone3,io_uring_setup";

/// Command lines of every kind.
pub const LINES: &[&str] = &[
    "--help",
    "rewrap",
    "rewrap export.csv -o out.csv --secrets secrets.json --site-config site.toml --threads 2",
    "rewrap export.csv -o out.parquet --secrets secrets.json --to kv2 --report r.json --failures f.jsonl",
    "rewrap export.csv -o - --output-format arrows --secrets secrets.json --to kv2",
    "rewrap export.csv --dry-run --secrets secrets.json --to kv2 --json",
    "rewrap export.csv --dry-run --secrets secrets.json --to kv9",
    "rewrap nowhere.csv --dry-run --secrets secrets.json --to kv2",
    "rewrap export.csv -o signed.csv --secrets secrets.json --to kv2 --sign sign.key",
    "inspect export.csv --retired kv1 --nonces",
    "verify out.csv --source export.csv --secrets secrets.json",
    "verify out.parquet --json",
    "verify signed.csv --trusted-key sign.pub",
    "report out.csv.manifest.json -o record.html",
    "keygen kv3",
    "keygen kv3 --secrets secrets.json",
    "completions bash",
    "man pages",
    "fleet plan.toml --report fleet.json --sign sign.key",
    "bench --rows 20 --rounds 1 --threads 2 --plot bench.svg",
    "generate -o made.arrow --orgs 3 --secrets secrets.json --under kv1",
];

#[test]
fn no_command_opens_a_socket_or_starts_a_program() {
    let site = Site::sample();
    pair::add(&site);
    site.write("plan.toml", commands::plan("export.csv", "fleet.csv"));
    for line in LINES {
        let calls = strace::run(&site, CALLS, &[], line).calls();
        assert_eq!(calls[0].name, "execve", "the program itself");
        for call in &calls[1..] {
            let thread =
                ["clone", "clone3"].contains(&call.name.as_str()) && call.line.contains("CLONE_THREAD");
            assert!(thread, "{line}: {}", call.line);
        }
    }
}

/// The tracer sees a socket where there is one, and kills for it.
#[test]
fn the_tracer_would_see_a_socket() {
    let mut site = Command::new(assert_cmd::cargo::cargo_bin!("rekek-site"));
    // (Port 1: nobody is there, and nobody need be.)
    site.args(["inspect", "--db", "postgres://nobody@127.0.0.1:1/nothing"]).stdin(Stdio::null());
    let plain = site.output().unwrap();
    assert_eq!(plain.status.code(), Some(1), "{}", String::from_utf8_lossy(&plain.stderr));
    let killed = folder::without_sockets(&site).output().unwrap();
    assert_eq!(killed.status.signal(), Some(9), "{}", String::from_utf8_lossy(&killed.stderr));
    let traced = strace::run_program(&site, CALLS, &[]);
    assert!(traced.log.contains(" socket(AF_INET"), "{}", traced.log);
    // And what is asked of every rekek in the other tests does it no harm.
    let site = Site::sample();
    let rekek = folder::without_sockets(&site.plain_command("inspect export.csv")).output().unwrap();
    assert_eq!(rekek.status.code(), Some(0));
}
