//! The machines that a document tells of: a folder each, with the programs that are installed there,
//! and a database.
//!
//! `keys` has `rekek` alone, `db` has `rekek-site` alone; what stands at a bare prompt finds both.
//! Between machines there is only the medium that is carried.

use crate::cluster::Cluster;
use crate::folder::Site as Folder;
use crate::markdown::root;
use assert_cmd::cargo::cargo_bin;
use std::path::PathBuf;
use std::process::{Command, Stdio};

pub struct World {
    folder: Folder,
    database: String,
    /// The database as the document calls it.
    called: &'static str,
}

/// The database as documents call it unless they were recorded.
pub const DATABASE: &str = "postgres://operator@db.example/site";
/// The medium as documents call it.
const MEDIUM: &str = "/media/carry";
/// What stands where an operator types the digits that the re-wrap printed.
const DIGITS: &str = "DIGITS";

impl World {
    /// Machines with nothing on them; the database is empty.
    pub fn empty() -> World {
        let database = Cluster::shared().database(None);
        let world = World { folder: Folder::empty(), database, called: DATABASE };
        for (machine, programs) in
            [("", &["rekek", "rekek-site"][..]), ("keys", &["rekek"]), ("db", &["rekek-site"])]
        {
            std::fs::create_dir_all(world.path(machine, "")).unwrap();
            std::fs::create_dir_all(world.programs(machine)).unwrap();
            for program in programs {
                let from = if *program == "rekek" { cargo_bin!("rekek") } else { cargo_bin!("rekek-site") };
                std::os::unix::fs::symlink(from, world.programs(machine).join(program)).unwrap();
            }
        }
        std::fs::create_dir(world.folder.path("carry")).unwrap();
        world
    }

    /// The machine of scripts/demo; a private PostgreSQL was called so when it was recorded.
    pub fn of_demo(called: &'static str) -> World {
        let world = World { called, ..World::empty() };
        world.configure("");
        world
    }

    /// Writes a configuration whose current key is kv2.
    pub fn configure(&self, machine: &str) {
        let config = "[machine_identity]\nenabled = true\ncurrent_encryption_key_id = \"kv2\"\n";
        std::fs::write(self.path(machine, "site.toml"), config).unwrap();
    }

    /// The sample site of the fixtures, its files under `folder` of the machine and in the database.
    pub fn sample(machine: &str, folder: &str) -> World {
        let world = World::empty();
        std::fs::create_dir_all(world.path(machine, folder)).unwrap();
        for name in ["export.csv", "secrets.json", "site.toml"] {
            let to = world.path(machine, folder).join(name);
            std::fs::copy(crate::folder::sample(name), &to).unwrap();
            crate::folder::keep_to_owner(&to);
        }
        world.with_sample_rows()
    }

    /// The same machines with a database that holds the sample site's rows.
    pub fn with_sample_rows(mut self) -> World {
        self.database = Cluster::shared().database(None);
        let export = crate::folder::sample("export.csv");
        self.do_it("", &format!("rekek-site init --db {DATABASE} --rows {}", export.display()));
        self
    }

    /// The known answers of the envelope.
    pub fn with_vectors(self) -> World {
        let name = "fixtures/vectors/envelope-v1.json";
        std::fs::create_dir_all(self.path("", "fixtures/vectors")).unwrap();
        std::fs::copy(root().join(name), self.path("", name)).unwrap();
        self
    }

    /// A site of 150 organizations under kv1: its keys at `keys`, its rows in the database, its
    /// configuration at `db`.
    pub fn under_kv1() -> World {
        let world = World::empty();
        world.do_it("keys", "rekek keygen kv1 --secrets secrets.json");
        world.do_it(
            "keys",
            "rekek generate -o /media/carry/rows.csv --orgs 150 --secrets secrets.json --under kv1 --seed 1",
        );
        world.do_it("db", &format!("rekek-site init --db {DATABASE} --rows /media/carry/rows.csv"));
        world.configure("db");
        world
    }

    /// The same, re-wrapped to kv2, signed and carried back; nothing is imported.
    pub fn rewrapped() -> World {
        let world = World::under_kv1();
        world.do_it("keys", "rekek keygen kv2 --secrets secrets.json");
        world.do_it("keys", "minisign -G -s rotation.key -p rotation.pub");
        world.do_it("db", &format!("rekek-site export --db {DATABASE} -o export.csv"));
        world.do_it("db", "cp export.* /media/carry/");
        world.do_it("keys", "cp /media/carry/export.* .");
        let line =
            "rekek rewrap export.csv -o rewrapped.csv --secrets secrets.json --to kv2 --sign rotation.key";
        world.do_it("keys", line);
        world.do_it("keys", "cp rewrapped.* rotation.pub /media/carry/");
        world.do_it("db", "cp /media/carry/rewrapped.* /media/carry/rotation.pub .");
        world
    }

    /// The same, imported.
    pub fn imported() -> World {
        let world = World::rewrapped();
        let line = format!("rekek-site import rewrapped.csv --db {DATABASE}");
        world.do_it("db", &format!("{line} --site-config site.toml --trusted-key rotation.pub"));
        world
    }

    /// Somebody else's work in the database.
    pub fn sql(&self, sql: &str) {
        Cluster::shared().session(&self.database).run(sql);
    }

    /// A file of a machine.
    pub fn path(&self, machine: &str, name: &str) -> PathBuf {
        self.folder.path(if machine.is_empty() { "here" } else { machine }).join(name)
    }

    fn programs(&self, machine: &str) -> PathBuf {
        self.folder.path(&format!("programs-{machine}"))
    }

    /// What differs between a document and this run: the document's, this run's.
    fn places(&self) -> [(&'static str, String); 2] {
        let medium = self.folder.path("carry").display().to_string();
        [(self.called, Cluster::shared().url(&self.database)), (MEDIUM, medium)]
    }

    /// Types a command at a machine: what it prints, stderr among it, in the document's words, and
    /// its exit status.
    pub fn run(&self, machine: &str, script: &str) -> (String, i32) {
        // The document has a passphrase asked for; tests/cli/signature.rs does that on a terminal.
        let mut script = script.replace("minisign -G ", "minisign -G -W ");
        for (theirs, ours) in self.places() {
            script = script.replace(theirs, &ours);
        }
        if script.contains(DIGITS) {
            let manifest = std::fs::read(self.path(machine, "rewrapped.csv.manifest.json")).unwrap();
            script = script.replace(DIGITS, &rekek::row::Sha256Digest::of(manifest).to_string());
        }
        // Without a rekek that the user of this machine installed.
        let path = std::env::var_os("PATH").unwrap_or_default();
        let others = std::env::split_paths(&path)
            .filter(|folder| !["rekek", "rekek-site"].iter().any(|program| folder.join(program).exists()));
        let path = std::env::join_paths(std::iter::once(self.programs(machine)).chain(others)).unwrap();
        let mut shell = Command::new("bash");
        shell.args(["-o", "pipefail", "-c", &format!("exec 2>&1\n{script}")]);
        shell.current_dir(self.path(machine, "")).stdin(Stdio::null());
        shell.env("PATH", path).env("HOME", self.path(machine, ""));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("PG")) {
            shell.env_remove(name);
        }
        let ran = shell.output().expect("bash is there");
        let mut output = String::from_utf8_lossy(&ran.stdout).into_owned();
        for (theirs, ours) in self.places() {
            output = output.replace(&ours, theirs);
        }
        (output, ran.status.code().expect("it ended by itself"))
    }

    /// A command of a scene, which must go well.
    pub fn do_it(&self, machine: &str, script: &str) {
        let (output, status) = self.run(machine, script);
        assert_eq!(status, 0, "{script}: {output}");
    }
}
