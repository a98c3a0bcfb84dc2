//! A private PostgreSQL: started by the tests, on a free loopback port, gone when they end.
//!
//! PostgreSQL refuses to run as root, so root runs it as the user `postgres`. A shell stands
//! between this process and the server and waits on a pipe: however the tests end, by a panic or
//! by kill -9 too, the pipe closes, and the shell stops the server and removes its folder.

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, Connection as _, Row as _};
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

pub struct Cluster {
    folder: PathBuf,
    pub port: u16,
    keeper: std::sync::Mutex<Option<Child>>,
}

/// Whether commits reach the disk: only tests that kill the server need it.
#[derive(Clone, Copy, PartialEq)]
pub enum Durable {
    Yes,
    No,
}

/// The folder of the server's programs. Without PostgreSQL these tests fail, they are not skipped.
fn programs() -> PathBuf {
    let mut found: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok())
        .map(|version: u32| (version, format!("/usr/lib/postgresql/{version}/bin").into()))
        .filter(|(_, folder): &(u32, PathBuf)| folder.join("initdb").exists())
        .collect();
    found.sort();
    if let Some((_, folder)) = found.pop() {
        return folder;
    }
    let told = Command::new("pg_config").arg("--bindir").output().ok();
    let told = told.map(|o| PathBuf::from(String::from_utf8_lossy(&o.stdout).trim().to_owned()));
    match told.filter(|folder| folder.join("initdb").exists()) {
        Some(folder) => folder,
        None => panic!(
            "these tests need a PostgreSQL server: install it (Debian: postgresql), or put pg_config on PATH"
        ),
    }
}

/// The user and group id of `postgres`, if this process is root.
fn server_user() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let id = |flag: &str| {
        let told = Command::new("id").args([flag, "postgres"]).output().unwrap();
        let told = String::from_utf8(told.stdout).unwrap();
        told.trim()
            .parse()
            .expect("as root these tests run the server as the user postgres, which is not there")
    };
    Some((id("-u"), id("-g")))
}

fn as_server(mut command: Command) -> Command {
    if let Some((uid, gid)) = server_user() {
        command.uid(uid).gid(gid);
    }
    command.current_dir("/").env_remove("LANG").env("LC_ALL", "C");
    for name in
        ["PGHOST", "PGPORT", "PGUSER", "PGDATABASE", "PGPASSWORD", "PGPASSFILE", "PGOPTIONS", "PGSSLMODE"]
    {
        command.env_remove(name);
    }
    command
}

impl Cluster {
    /// A server of its own for one test.
    pub fn start(durable: Durable, settings: &str) -> Cluster {
        let programs = programs();
        let folder = tempfile::Builder::new().prefix("rekek-pg-").tempdir().unwrap().keep();
        if let Some((uid, gid)) = server_user() {
            std::os::unix::fs::chown(&folder, Some(uid), Some(gid)).unwrap();
        }
        let mut initdb = as_server(Command::new(programs.join("initdb")));
        initdb.args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync", "-D"]);
        let made = initdb.arg(folder.join("data")).output().unwrap();
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        // The role `locked` needs its password; everybody else is let in.
        let hba = "host all locked all scram-sha-256\nhost all all 127.0.0.1/32 trust\n";
        std::fs::write(folder.join("data/pg_hba.conf"), hba).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let onoff = if durable == Durable::Yes { "on" } else { "off" };
        let conf = format!(
            "port = {port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = ''\nmax_connections = 100\n\
             fsync = {onoff}\nfull_page_writes = {onoff}\ndeadlock_timeout = 200ms\nlog_min_messages = fatal\n{settings}\n"
        );
        std::fs::write(folder.join("data/postgresql.conf"), conf).unwrap();
        let cluster = Cluster { folder, port, keeper: None.into() };
        cluster.launch();
        cluster
    }

    /// The one that all other tests share, each with databases of its own.
    pub fn shared() -> &'static Cluster {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        SHARED.get_or_init(|| Cluster::start(Durable::No, ""))
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Starts the server (again).
    pub fn launch(&self) {
        let mut shell = as_server(Command::new("/bin/sh"));
        let script = r#""$1/postgres" -D "$2/data" 2>>"$2/log" & server=$!
                        read -r word
                        if [ "$word" != keep ]; then kill -INT $server; wait $server; rm -rf "$2"; fi"#;
        shell.args(["-c", script, "sh"]).arg(programs()).arg(&self.folder);
        // Out of the reach of a Ctrl-C, which would take the shell before it can clean up.
        shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        *self.keeper.lock().unwrap() = Some(shell.spawn().unwrap());
        let begun = Instant::now();
        while Session::try_open(self.port, "postgres", "postgres").is_err() {
            let log = || std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            assert!(begun.elapsed() < Duration::from_secs(60), "the server does not start: {}", log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// kill -9 of the whole server at once: the postmaster and every process under it.
    pub fn kill(&self) {
        let postmaster = std::fs::read_to_string(self.folder.join("data/postmaster.pid")).unwrap();
        let postmaster = postmaster.lines().next().unwrap().to_owned();
        let children = Command::new("pgrep").args(["-P", &postmaster]).output().unwrap();
        let children = String::from_utf8(children.stdout).unwrap();
        let all: Vec<&str> = std::iter::once(postmaster.as_str()).chain(children.lines()).collect();
        let _ = Command::new("kill").arg("-9").args(&all).stderr(Stdio::null()).status().unwrap();
        let begun = Instant::now();
        while all.iter().any(|pid| is_running(pid)) {
            assert!(begun.elapsed() < Duration::from_secs(20), "the server does not die");
            std::thread::sleep(Duration::from_millis(20));
        }
        if let Some(mut keeper) = self.keeper.lock().unwrap().take() {
            use std::io::Write as _;
            let _ = keeper.stdin.take().unwrap().write_all(b"keep\n");
            keeper.wait().unwrap();
        }
    }

    pub fn session(&self, database: &str) -> Session {
        Session::try_open(self.port, database, "postgres").unwrap()
    }

    /// A new database, empty or a copy of another.
    pub fn database(&self, template: Option<&str>) -> String {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        // CREATE DATABASE copies a template that nobody is connected to; one at a time.
        static ONE_AT_A_TIME: std::sync::Mutex<()> = std::sync::Mutex::new(());
        let _held = ONE_AT_A_TIME.lock().unwrap_or_else(|e| e.into_inner());
        let name = format!("site_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let template = template.unwrap_or("template0");
        self.session("postgres").run(&format!("CREATE DATABASE {name} TEMPLATE {template}"));
        name
    }

    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }
}

/// Whether a process is there and no zombie.
fn is_running(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|s| !s.rsplit(')').next().unwrap_or("").trim_start().starts_with('Z'))
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(mut keeper) = self.keeper.lock().unwrap().take() {
            drop(keeper.stdin.take());
            let _ = keeper.wait();
        }
    }
}

/// A session of somebody else's, such as the service's.
pub struct Session {
    runtime: tokio::runtime::Runtime,
    connection: PgConnection,
}

impl Session {
    fn try_open(port: u16, database: &str, role: &str) -> Result<Session, sqlx::Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let options = PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(port)
            .username(role)
            .database(database)
            .application_name("test");
        let connection = runtime.block_on(PgConnection::connect_with(&options))?;
        Ok(Session { runtime, connection })
    }

    #[track_caller]
    pub fn run(&mut self, sql: &str) -> u64 {
        self.try_run(sql).unwrap_or_else(|e| panic!("{sql}: {e}"))
    }

    pub fn try_run(&mut self, sql: &str) -> Result<u64, sqlx::Error> {
        let query = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        Ok(self.runtime.block_on(query.execute(&mut self.connection))?.rows_affected())
    }

    /// The one value of a query, as text.
    #[track_caller]
    pub fn value(&mut self, sql: &str) -> String {
        let sql = format!("SELECT (({sql})::text)");
        let row =
            self.runtime.block_on(sqlx::raw_sql(AssertSqlSafe(sql.clone())).fetch_one(&mut self.connection));
        let value: Option<String> = row.unwrap_or_else(|e| panic!("{sql}: {e}")).get(0);
        value.unwrap_or_default()
    }

    /// Waits until a query's value is what it shall be.
    #[track_caller]
    pub fn wait_for(&mut self, sql: &str, wanted: &str) {
        let begun = Instant::now();
        loop {
            let value = self.value(sql);
            if value == wanted {
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "{sql} is {value}, never {wanted}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
