//! The other commands that write files, and the other formats: of each, the last call of every kind
//! fails once, and is once the last.
//!
//! Whatever fails: what stands under the final names is nothing or whole (a secrets file, which may
//! have somebody's only key: the old one or the new), and the same command run again simply works.

use crate::commands;
use crate::files::{CALLS, Left, each, error_of, left_of};
use crate::folder::{Site, Table};
use crate::strace::{self, Call, Traced};
use std::process::{Command, Stdio};

/// A command that writes files.
struct Writer {
    /// Its program and its line.
    program: &'static str,
    line: &'static str,
    /// The folder as it finds it.
    site: fn() -> Site,
    /// The file that it opens first: before that, the program is being loaded.
    opens: &'static str,
    /// What the names of its files begin with.
    makes: &'static [&'static str],
    /// What stands there; fails on what is half a file.
    left: fn(&Site, &str) -> Left,
}

impl Writer {
    fn command(&self, site: &Site) -> Command {
        let mut command = site.plain_command(self.line);
        if self.program != "rekek" {
            command = Command::new(assert_cmd::cargo::cargo_bin!("rekek-site"));
            command.args(self.line.split(' ')).current_dir(site.path("")).stdin(Stdio::null());
        }
        command
    }

    fn run(&self, site: &Site, injections: &[&str]) -> Traced {
        strace::run_program(&self.command(site), CALLS, injections)
    }

    /// The calls of a run that nothing happens to.
    fn calls(&self) -> Vec<Call> {
        let site = (self.site)();
        let run = self.run(&site, &[]);
        assert_eq!(run.status, Some(0), "{}: {}", self.line, run.stderr);
        assert_eq!((self.left)(&site, self.line), Left::Whole);
        let mut calls = run.calls();
        let begin = calls.iter().position(|call| call.line.contains(self.opens)).unwrap();
        let before = calls.drain(..begin).collect::<Vec<_>>();
        // What is put into a call is put into the same of every thread: into two at once is another test.
        let same = |a: &Call, b: &Call| (&a.name, a.nth) == (&b.name, b.nth);
        let is_one = |call: &Call| before.iter().chain(&calls).filter(|other| same(call, other)).count() == 1;
        // (By writing, too, the runtime of the database's side wakes its threads, now more often and now
        // less, so that no number is that of one write. tests/site/export.rs has a full disk.)
        let counts = |call: &Call| self.program == "rekek" || call.name != "write";
        calls.iter().filter(|call| is_one(call) && counts(call)).cloned().collect()
    }

    /// One call fails.
    fn fails_at(&self, call: &Call) {
        let site = (self.site)();
        let before = site.names();
        let run =
            self.run(&site, &[&format!("{}:error={}:when={}", call.name, error_of(&call.name), call.nth)]);
        let context = format!("{}\n{} fails: {}", self.line, call.line, run.stderr);
        assert!(run.was_injected(), "{context}");
        let left = (self.left)(&site, &context);
        assert_eq!(self.strangers(&site, &before), [""; 0], "{context}");
        match run.status {
            // It knew another way.
            Some(0) => assert_eq!((left, run.stderr.as_str()), (Left::Whole, ""), "{context}"),
            Some(1) => {
                assert!(run.stderr.starts_with(&format!("{}: ", self.program)), "{context}");
                assert!(!run.stderr.contains(".rekek-"), "a temporary name: {context}");
                assert_ne!(left, Left::Alone, "{context}");
                self.run_again(&site, &before, left, &context);
            }
            other => panic!("{other:?}: {context}"),
        }
    }

    /// A call is the last.
    fn is_killed_at(&self, call: &Call) {
        let site = (self.site)();
        let before = site.names();
        let run = self.run(&site, &[&format!("{}:signal=KILL:when={}", call.name, call.nth)]);
        let context = format!("{}\nkilled at {}", self.line, call.line);
        assert_eq!(run.status, None, "{context}");
        let left = (self.left)(&site, &context);
        self.run_again(&site, &before, left, &context);
    }

    /// Runs the same command again, which may find that there is nothing left to do.
    fn run_again(&self, site: &Site, before: &[String], left: Left, context: &str) {
        let again = self.command(site).output().unwrap();
        let said = String::from_utf8_lossy(&again.stderr);
        let done = left == Left::Whole && said.contains(" already");
        assert!(again.status.success() || done, "{context}, run again: {said}");
        assert_eq!((self.left)(site, context), Left::Whole, "{context}, run again: {said}");
        assert_eq!(self.strangers(site, before), [""; 0], "{context}, run again");
    }

    /// The names that are neither its own nor were there.
    fn strangers(&self, site: &Site, before: &[String]) -> Vec<String> {
        let known =
            |name: &String| before.contains(name) || self.makes.iter().any(|own| name.starts_with(own));
        site.names().into_iter().filter(|name| !known(name)).collect()
    }

    fn at_each(&self, calls: &[Call]) {
        each(calls, |call| {
            self.fails_at(call);
            if !["open", "openat", "read", "pread64", "flock"].contains(&call.name.as_str()) {
                self.is_killed_at(call);
            }
        });
    }

    /// At the last call of each name, and at every one that gives a file its name.
    fn at_the_last(&self) {
        let calls = self.calls();
        let names = |call: &Call| call.name.starts_with("link") || call.name.starts_with("rename");
        let is_last = |at: usize| calls[at + 1..].iter().all(|later| later.name != calls[at].name);
        let chosen: Vec<_> = (0..calls.len()).filter(|at| names(&calls[*at]) || is_last(*at)).collect();
        let chosen: Vec<_> = chosen.into_iter().map(|at| calls[at].clone()).collect();
        assert!(chosen.iter().any(names), "{calls:#?}");
        self.at_each(&chosen);
    }
}

/// The sample's site with four rows, as a file and in a database, with a plan and a manifest.
fn site() -> Site {
    let site = Site::sample();
    let mut table = Table::sample();
    table.rows.truncate(4);
    site.write("export.csv", table.text());
    site.write("plan.toml", commands::plan("export.csv", "fleet.csv"));
    site
}

#[test]
fn outputs_of_the_other_formats() {
    for (line, left) in [
        (
            "rewrap export.csv -o out.parquet --secrets secrets.json --to kv2 --threads 1",
            (|site, context| {
                let verify = "verify out.parquet --source export.csv --secrets secrets.json";
                left_of(site, "out.parquet", verify, context)
            }) as fn(&Site, &str) -> Left,
        ),
        ("rewrap export.csv -o out.arrow --secrets secrets.json --to kv2 --threads 1", |site, context| {
            left_of(site, "out.arrow", "verify out.arrow --source export.csv --secrets secrets.json", context)
        }),
    ] {
        Writer { program: "rekek", line, site, opens: "secrets.json", makes: &["out."], left }.at_the_last();
    }
}

#[test]
fn a_generated_export() {
    let left = |site: &Site, context: &str| {
        if !site.path("made.csv").exists() {
            return Left::Nothing;
        }
        let verify = site.rekek("verify made.csv --secrets secrets.json --json");
        assert_eq!((verify.status, &verify.json()["rows"]), (0, &3.into()), "{context}: {}", verify.stdout);
        Left::Whole
    };
    let line = "generate -o made.csv --orgs 3 --secrets secrets.json --under kv1";
    Writer { program: "rekek", line, site, opens: "secrets.json", makes: &["made.csv"], left }.at_the_last();
}

#[test]
fn a_fleet() {
    let left = |site: &Site, context: &str| {
        left_of(site, "fleet.csv", "verify fleet.csv --source export.csv --secrets secrets.json", context)
    };
    let line = "fleet plan.toml --threads 1 --report fleet.json";
    Writer { program: "rekek", line, site, opens: "plan.toml", makes: &["fleet."], left }.at_the_last();
}

#[test]
fn a_change_record() {
    let left = |site: &Site, context: &str| match site.path("record.html").exists() {
        true => {
            assert!(site.read("record.html").trim_end().ends_with("</html>"), "{context}");
            Left::Whole
        }
        false => Left::Nothing,
    };
    let site = || {
        let site = site();
        site.rekek("rewrap export.csv -o out.csv --secrets secrets.json --to kv2").good();
        site
    };
    let line = "report out.csv.manifest.json -o record.html";
    Writer { program: "rekek", line, site, opens: "out.csv.manifest.json", makes: &["record.html"], left }
        .at_the_last();
}

#[test]
fn an_export_from_the_database() {
    let site = || {
        let site = site();
        let mut init = Command::new(assert_cmd::cargo::cargo_bin!("rekek-site"));
        init.args(["init", "--db", "sqlite:site.db", "--rows", "export.csv", "--json"])
            .current_dir(site.path(""));
        assert!(init.output().unwrap().status.success());
        site
    };
    let left = |site: &Site, context: &str| {
        let verify = "rewrap exported.csv --dry-run --secrets secrets.json --to kv2";
        left_of(site, "exported.csv", verify, context)
    };
    let line = "export --db sqlite:site.db -o exported.csv";
    let makes = &["exported.csv", "site.db"];
    Writer { program: "rekek-site", line, site, opens: "site.db", makes, left }.at_the_last();
}

/// The keys of a secrets file without the new one, and whether that is there, whole.
fn keys(site: &Site, name: &str, context: &str) -> (serde_json::Value, Left) {
    let mut json: serde_json::Value = serde_json::from_str(&site.read(name)).expect(context);
    let new = json["machine_identity"]["encryption_keys"].as_object_mut().unwrap().remove("kv9");
    let Some(new) = new else { return (json, Left::Nothing) };
    assert_eq!(new.as_str().map(str::len), Some(44), "{context}");
    (json, Left::Whole)
}

#[test]
fn a_key_that_is_added_to_a_secrets_file_at_every_call() {
    let left = |site: &Site, context: &str| {
        let (kept, left) = keys(site, "secrets.json", context);
        assert_eq!(kept, keys(&Site::sample(), "secrets.json", context).0, "{context}");
        left
    };
    let line = "keygen kv9 --secrets secrets.json";
    let writer = Writer { program: "rekek", line, site, opens: "secrets.json", makes: &[], left };
    writer.at_each(&writer.calls());
}

#[test]
fn a_secrets_file_that_is_begun_at_every_call() {
    let left = |site: &Site, context: &str| match site.path("new.json").exists() {
        true => keys(site, "new.json", context).1,
        false => Left::Nothing,
    };
    let line = "keygen kv9 --secrets new.json";
    let writer = Writer { program: "rekek", line, site, opens: "\".\"", makes: &["new.json"], left };
    writer.at_each(&writer.calls());
}
