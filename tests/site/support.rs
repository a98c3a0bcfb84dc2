//! A rehearsal of a rotation: a folder with keys, and a database under the old key.

use crate::cluster::{Cluster, Session};
pub use crate::folder::Ran;
use crate::folder::Site;
use assert_cmd::cargo::cargo_bin;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// Where the rows are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    Postgres,
    Sqlite,
}

pub const BOTH: [Kind; 2] = [Kind::Postgres, Kind::Sqlite];

pub struct Rehearsal<'c> {
    pub folder: Site,
    pub cluster: &'c Cluster,
    /// The database's name, or nothing for SQLite.
    pub database: String,
    pub url: String,
}

/// Statements that SQLite and PostgreSQL both understand; all new values are visible strangers.
pub const CONFIG: &str = "tenant_identity_config";

impl Rehearsal<'static> {
    /// `orgs` organizations under kv1 in the shared cluster.
    pub fn postgres(orgs: u32) -> Self {
        Rehearsal::on(Cluster::shared(), orgs, 2)
    }

    pub fn of(kind: Kind, orgs: u32, generation: u8) -> Self {
        match kind {
            Kind::Postgres => Rehearsal::on(Cluster::shared(), orgs, generation),
            Kind::Sqlite => {
                let folder = prepared(orgs);
                let rehearsal = Rehearsal {
                    folder,
                    cluster: Cluster::shared(),
                    database: String::new(),
                    url: "sqlite:site.db".into(),
                };
                rehearsal.site(&format!("init --rows made.csv --generation {generation}")).good();
                rehearsal
            }
        }
    }
}

fn prepared(orgs: u32) -> Site {
    let folder = Site::empty();
    folder.write("secrets.json", r#"{"machine_identity":{"encryption_keys":{}}}"#);
    folder.write("site.toml", "[machine_identity]\nenabled = true\ncurrent_encryption_key_id = \"kv2\"\n");
    for key in ["kv1", "kv2", "kv3"] {
        assert_eq!(folder.rekek(&format!("keygen {key} --secrets secrets.json")).status, 0);
    }
    let line = format!("generate -o made.csv --orgs {orgs} --secrets secrets.json --under kv1 --seed 7");
    let made = folder.rekek(&line);
    assert_eq!(made.status, 0, "{}", made.stderr);
    folder
}

impl<'c> Rehearsal<'c> {
    pub fn on(cluster: &'c Cluster, orgs: u32, generation: u8) -> Self {
        let database = cluster.database(None);
        let url = cluster.url(&database);
        let rehearsal = Rehearsal { folder: prepared(orgs), cluster, database, url };
        rehearsal.site(&format!("init --rows made.csv --generation {generation}")).good();
        rehearsal
    }

    /// Exports and re-wraps to kv2: `export.csv` and `out.csv` with their manifests.
    pub fn rewrapped(self) -> Self {
        self.site("export -o export.csv").good();
        self.rewrap("export.csv", "out.csv", "kv2");
        self
    }

    pub fn rewrap(&self, from: &str, to: &str, key: &str) {
        let ran = self.folder.rekek(&format!("rewrap {from} -o {to} --secrets secrets.json --to {key}"));
        assert_eq!(ran.status, 0, "{}", ran.stderr);
    }

    /// Writes the manifest that fits a file of so many rows under kv2, however it was made.
    pub fn vouch_for(&self, name: &str, rows: u64) {
        let bytes = self.path(name).metadata().unwrap().len();
        let manifest = serde_json::json!({
            "format": "rekek-manifest/1", "tool": {"name": "test", "version": "0"}, "created_at": "",
            "target_key_id": "kv2", "scope": null, "keys": [],
            "seals": {"this_run": rows, "already_in_export": 0}, "input": null,
            "output": {"file": name, "format": "csv", "bytes": bytes, "sha256": self.digest(name), "rows": rows},
        });
        self.folder.write(&format!("{name}.manifest.json"), manifest.to_string());
    }

    /// The SHA-256 of a file of the folder.
    pub fn digest(&self, name: &str) -> String {
        rekek::row::Sha256Digest::of(std::fs::read(self.folder.path(name)).unwrap()).to_string()
    }

    /// A command of `rekek-site` with the database put in.
    pub fn command(&self, line: &str) -> Command {
        self.command_on(&self.url, line)
    }

    pub fn command_on(&self, url: &str, line: &str) -> Command {
        let mut command = Command::new(cargo_bin!("rekek-site"));
        command.args(line.split_whitespace()).args(["--db", url]);
        command.current_dir(self.folder.path("")).stdin(Stdio::null());
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("PG")) {
            command.env_remove(name);
        }
        command
    }

    pub fn site(&self, line: &str) -> Ran {
        ran(self.command(line).output().unwrap())
    }

    pub fn site_on(&self, url: &str, line: &str) -> Ran {
        ran(self.command_on(url, line).output().unwrap())
    }

    /// An import with everything checked, so that there is no warning.
    pub fn import(&self, more: &str) -> Ran {
        ran(self.import_command(more).output().unwrap())
    }

    pub fn import_command(&self, more: &str) -> Command {
        let manifest = self.digest("out.csv.manifest.json");
        self.command(&format!(
            "import out.csv --json --site-config site.toml --manifest-sha256 {manifest} {more}"
        ))
    }

    /// The same, left to run.
    pub fn start_import(&self, more: &str) -> Child {
        self.import_command(more).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    pub fn session(&self) -> Session {
        self.cluster.session(&self.database)
    }

    /// Runs SQL in the database, whichever it is.
    #[track_caller]
    pub fn sql(&self, sql: &str) {
        if self.database.is_empty() {
            self.sqlite(sql);
        } else {
            self.session().run(sql);
        }
    }

    /// One value out of the database, whichever it is.
    #[track_caller]
    pub fn value(&self, sql: &str) -> String {
        if self.database.is_empty() { self.sqlite(sql).expect("a row") } else { self.session().value(sql) }
    }

    fn sqlite(&self, sql: &str) -> Option<String> {
        use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
        use sqlx::{AssertSqlSafe, Connection as _, Row as _};
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let options = SqliteConnectOptions::new().filename(self.folder.path("site.db"));
            let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
            let sql = if sql.starts_with("SELECT") {
                format!("SELECT CAST(({sql}) AS TEXT)")
            } else {
                sql.to_owned()
            };
            let rows = sqlx::raw_sql(AssertSqlSafe(sql.clone())).fetch_all(&mut connection).await;
            let rows = rows.unwrap_or_else(|e| panic!("{sql}: {e}"));
            rows.first().map(|row| row.try_get::<Option<String>, _>(0).unwrap().unwrap_or_default())
        })
    }

    /// Everything that an import could change, of every row, as one digest.
    pub fn state(&self) -> String {
        let name = format!("state-{}.csv", self.folder.names().len());
        self.site(&format!("export -o {name}")).good();
        let rows = self.digest(&name);
        let list = if self.database.is_empty() {
            "SELECT group_concat(v, ',') FROM (SELECT t.organization_id || version || updated_at AS v FROM tenants t
             JOIN tenant_identity_config c ON c.organization_id = t.organization_id ORDER BY 1)"
        } else {
            "SELECT md5(string_agg(t.organization_id || version || updated_at::text, ',' ORDER BY t.organization_id))
             FROM tenants t JOIN tenant_identity_config c USING (organization_id)"
        };
        rows + &self.value(list)
    }

    /// The ids of rows with a first signing key, in order.
    pub fn ids(&self) -> Vec<String> {
        let table = crate::folder::Table::parse(&self.folder.read("export.csv"));
        let id = table.column("organization_id");
        let key = table.column("encrypted_signing_key_1");
        table.rows.iter().filter(|row| !row[key].is_empty()).map(|row| row[id].clone()).collect()
    }

    /// Fields that still name a key.
    pub fn fields_under(&self, key: &str) -> u64 {
        let report = self.site(&format!("inspect --json --retired {key}")).json();
        report["retired"][key].as_u64().unwrap()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path(name)
    }
}

/// What parses as an envelope that names a key, of so many bytes of ciphertext; it opens under none.
pub fn envelope(key: &str, bytes: usize) -> String {
    use base64::Engine as _;
    let ciphertext = "7,".repeat(bytes - 1) + "7";
    let json = format!(
        r#"{{"scheme_version":1,"key_id":"{key}","nonce":[1,2,3,4,5,6,7,8,9,10,11,12],"ciphertext":[{ciphertext}]}}"#
    );
    base64::engine::general_purpose::STANDARD.encode(json)
}

pub fn ran(output: std::process::Output) -> Ran {
    Ran {
        status: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

pub fn finished(child: Child) -> Ran {
    ran(child.wait_with_output().unwrap())
}

/// The counters of an import's report: updated, already applied, unchanged, conflicted.
pub fn counts(ran: &Ran) -> [u64; 4] {
    let report = ran.json();
    let get = |name: &str| report[name].as_u64().unwrap_or_else(|| panic!("{name}: {}", ran.stderr));
    let all = ["rows_updated", "rows_already_applied", "rows_unchanged", "rows_conflicted"].map(get);
    assert_eq!(all.iter().sum::<u64>(), get("rows_examined"), "the counters add up");
    all
}
