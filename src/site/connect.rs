//! Which database, and a connection to it.
//!
//! It owns the reading of the URL and of what the environment adds to it, and the words in which
//! a database's error is told. It never lets a password, or anything that could be a piece of
//! one, into a message: a URL that reads in a surprising way is refused without being quoted.

use super::{SiteError, unless_stopped};
use crate::stop::Stop;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgDatabaseError, PgSeverity, PgSslMode};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _};
use std::fs::File;
use std::io::Read as _;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a connection may take unless `connect_timeout` or `PGCONNECT_TIMEOUT` says otherwise.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// A database, as `--db` names it.
#[derive(Clone)]
pub enum Database {
    /// A PostgreSQL server's.
    Postgres(Postgres),
    /// A file of SQLite.
    Sqlite(Sqlite),
}

/// Where a PostgreSQL database is.
#[derive(Clone)]
pub struct Postgres {
    // Never shown: it has the password.
    options: PgConnectOptions,
    /// Password file, key and certificates, where the URL or a variable names them.
    files: Vec<PathBuf>,
    /// The usual password file, where sqlx passes over it without a word.
    passed_over: Option<PathBuf>,
    connect_timeout: Duration,
}

/// Where a SQLite database is.
#[derive(Clone)]
pub struct Sqlite {
    options: SqliteConnectOptions,
}

/// The query parameters of a URL that are understood. sqlx passes over all others without a word:
/// a misspelt `sslmode` would quietly be a connection without TLS.
const PARAMETERS: [&str; 14] = [
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
    "passfile",
    "connect_timeout",
];

const URL_FORM: &str = "it is postgres://USER@HOST:PORT/DATABASE (what is left out comes from the PG* variables) or \
     sqlite:FILE; an IPv6 address stands in brackets; in a user or a password write characters such as @ : / ? # \
     in percent encoding";

impl Database {
    /// Reads a URL, with the `PG*` variables and the password file for what it leaves out.
    pub fn parse(url: &str) -> Result<Database, SiteError> {
        if let Some(file) = url.strip_prefix("sqlite:") {
            return Sqlite::parse(url, file).map(Database::Sqlite);
        }
        Postgres::parse(url).map(Database::Postgres)
    }

    /// The database's name for a message, without user and password.
    pub fn name(&self) -> String {
        match self {
            Database::Postgres(p) => p.name(),
            Database::Sqlite(s) => s.name(),
        }
    }

    /// The files that it consists of, or that a connection to it reads: nothing may be written over
    /// them.
    pub fn files(&self) -> Vec<PathBuf> {
        match self {
            Database::Postgres(p) => p.files.clone(),
            Database::Sqlite(s) => ["", "-wal", "-shm", "-journal"]
                .map(|end| {
                    let mut name = s.path().as_os_str().to_owned();
                    name.push(end);
                    name.into()
                })
                .into(),
        }
    }
}

impl Postgres {
    fn parse(url: &str) -> Result<Postgres, SiteError> {
        let bad = || SiteError::Url(URL_FORM);
        let rest = url.strip_prefix("postgres://").or_else(|| url.strip_prefix("postgresql://"));
        let rest = rest.ok_or(SiteError::Url(
            "it begins with neither postgres:// nor sqlite:; a file of SQLite's is named sqlite:FILE, a database of \
             PostgreSQL's postgres://USER@HOST:PORT/DATABASE",
        ))?;
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = place.split_once('/').unwrap_or((place, ""));
        // An unescaped # / ? @ in a password moves the rest of it into another part of the URL,
        // from where it would get into messages as a host's or a database's name.
        let misplaced = rest.contains('#')
            || database.contains(['/', '@', ':'])
            || query.contains('@')
            || authority.matches('@').count() > 1;
        if misplaced {
            return Err(bad());
        }
        check_variables()?;
        let (place, address) = without_ipv6(place).ok_or_else(bad)?;
        // First, so that a parameter `host` counts more, as it does for libpq.
        let mut kept: Vec<String> = address.iter().map(|address| format!("host={address}")).collect();
        let mut connect_timeout = None;
        let mut passfile = None;
        let variables = ["PGPASSFILE", "PGSSLKEY", "PGSSLCERT", "PGSSLROOTCERT"];
        let mut files: Vec<_> =
            variables.into_iter().filter_map(std::env::var_os).map(PathBuf::from).collect();
        if let Some(home) = std::env::var_os("HOME").map(PathBuf::from) {
            files.push(home.join(".pgpass"));
            files.extend(
                ["postgresql.crt", "postgresql.key", "root.crt"]
                    .map(|name| home.join(".postgresql").join(name)),
            );
        }
        for parameter in query.split('&').filter(|p| !p.is_empty()) {
            let (name, value) = parameter.split_once('=').ok_or_else(bad)?;
            if !PARAMETERS.contains(&name) && !name.starts_with("options[") {
                return Err(SiteError::Url(
                    "it has a parameter that is not known; known are sslmode, sslrootcert, sslcert, sslkey, host, \
                     hostaddr, port, dbname, user, password, passfile, connect_timeout, application_name, options",
                ));
            }
            if ["passfile", "sslkey", "sslcert", "sslrootcert"].contains(&name) {
                files.push(percent_decoded(value).ok_or_else(bad)?.into());
            }
            match name {
                "connect_timeout" => {
                    let seconds = value
                        .parse()
                        .map_err(|_| SiteError::Url("connect_timeout is not a whole number of seconds"))?;
                    connect_timeout = Some(seconds);
                }
                "passfile" => passfile = Some(PathBuf::from(percent_decoded(value).ok_or_else(bad)?)),
                "sslmode" => {
                    value.parse::<PgSslMode>().map_err(|_| {
                        SiteError::Url(
                            "sslmode is none of disable, allow, prefer, require, verify-ca, verify-full",
                        )
                    })?;
                    kept.push(parameter.to_owned());
                }
                _ => kept.push(parameter.to_owned()),
            }
        }
        let connect_timeout =
            connect_timeout.or_else(|| std::env::var("PGCONNECT_TIMEOUT").ok()?.parse().ok());
        let told = place.split_once('@').is_some_and(|(user, _)| user.contains(':'))
            || kept.iter().any(|parameter| parameter.starts_with("password="))
            || passfile.is_some()
            || std::env::var_os("PGPASSWORD").is_some();
        let url = format!("postgres://{place}?{}", kept.join("&"));
        // The message of sqlx could quote a part of the URL.
        let mut options: PgConnectOptions = url.parse().map_err(|_| bad())?;
        if let Some(file) = passfile
            && let Some(password) = password_from(&file, &options)?
        {
            options = options.password(&password);
        }
        if options.get_application_name().is_none() {
            options = options.application_name("rekek-site");
        }
        Ok(Postgres {
            // No number with a fraction is read; and a pooler may refuse what it does not know.
            options: options.disable_statement_logging().extra_float_digits(None),
            files,
            passed_over: if told { None } else { readable_password_file() },
            connect_timeout: match connect_timeout {
                Some(0) => Duration::MAX, // as libpq: no limit
                Some(seconds) => Duration::from_secs(seconds),
                None => CONNECT_TIMEOUT,
            },
        })
    }

    fn name(&self) -> String {
        let place = match self.options.get_socket() {
            Some(folder) => folder.display().to_string(),
            None if self.options.get_host().contains(':') => {
                format!("[{}]:{}", self.options.get_host(), self.options.get_port())
            }
            None => format!("{}:{}", self.options.get_host(), self.options.get_port()),
        };
        let database = self.options.get_database().unwrap_or(self.options.get_username());
        format!("the database {database} at {place}")
    }

    /// Connects.
    pub(super) async fn connect(&self, stop: &Stop) -> Result<PgConnection, SiteError> {
        let fail = |what: String| SiteError::Connect {
            to: format!("{} as {}", self.name(), self.options.get_username()),
            what,
        };
        let refused = |error: sqlx::Error| {
            let mut what = describe(&error);
            // Class 28: invalid authorization.
            if let Some(file) = &self.passed_over
                && sqlstate(&error).is_some_and(|code| code.starts_with("28"))
            {
                let file = file.display();
                what += &format!(
                    "; the password file {file} was passed over, since others can read it: chmod 600 it"
                );
            }
            fail(what)
        };
        unless_stopped(stop, async {
            let connecting = PgConnection::connect_with(&self.options);
            if self.connect_timeout == Duration::MAX {
                return connecting.await.map_err(refused);
            }
            match tokio::time::timeout(self.connect_timeout, connecting).await {
                Ok(connected) => connected.map_err(refused),
                Err(_) => Err(fail(format!("no answer within {} s", self.connect_timeout.as_secs()))),
            }
        })
        .await
    }
}

impl Sqlite {
    fn parse(url: &str, file: &str) -> Result<Sqlite, SiteError> {
        let file = file.trim_start_matches("//").split('?').next().unwrap_or_default();
        if file.is_empty() || file == ":memory:" {
            return Err(SiteError::Url("SQLite's form is sqlite:FILE"));
        }
        let options = url.parse::<SqliteConnectOptions>();
        let options = options.map_err(|_| SiteError::Url("SQLite's form is sqlite:FILE"))?;
        Ok(Sqlite { options: options.create_if_missing(false).disable_statement_logging() })
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        self.options.get_filename()
    }

    fn name(&self) -> String {
        format!("the database {}", self.path().display())
    }

    /// Opens the file; `create` makes it where it is not there. `busy` is how long to wait for
    /// another process's lock.
    pub(super) async fn connect(&self, create: bool, busy: Duration) -> Result<SqliteConnection, SiteError> {
        let fail = |what| SiteError::Connect { to: self.name(), what };
        if !create && !self.path().exists() {
            return Err(fail("there is no such file".into()));
        }
        if !may_be_sqlite(self.path()) {
            return Err(fail("this file is not a database of SQLite's".into()));
        }
        let options = self.options.clone().create_if_missing(create).busy_timeout(busy);
        SqliteConnection::connect_with(&options).await.map_err(|e| fail(describe(&e)))
    }
}

/// The password file that is looked into unless told (as libpq has it), if it is not: others can read it.
fn readable_password_file() -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt as _;
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".pgpass"));
    let file = std::env::var_os("PGPASSFILE").map(PathBuf::from).or_else(home)?;
    let readable = file.metadata().is_ok_and(|m| m.permissions().mode() & 0o077 != 0);
    readable.then_some(file)
}

/// Whether a file is new or begins as SQLite's do. Of what cannot be read SQLite itself says why.
fn may_be_sqlite(path: &Path) -> bool {
    let mut header = Vec::new();
    let read = |file: File| file.take(16).read_to_end(&mut header);
    !path.is_file()
        || File::open(path).and_then(read).is_err()
        || header.is_empty()
        || header == b"SQLite format 3\0"
}

/// libpq's variables that ask for something of the connection which is not done here, with the values that ask
/// for nothing, or for what is done anyway: TLS is 1.2 or 1.3.
const UNKEPT: [(&str, &[&str]); 12] = [
    ("PGREQUIREAUTH", &[]),
    ("PGCHANNELBINDING", &["disable", "prefer"]),
    ("PGGSSENCMODE", &["disable", "prefer"]),
    ("PGREQUIREPEER", &[]),
    ("PGREQUIRESSL", &["0"]),
    ("PGSSLCERTMODE", &["allow"]),
    ("PGSSLCRL", &[]),
    ("PGSSLCRLDIR", &[]),
    ("PGSSLMINPROTOCOLVERSION", &["TLSv1", "TLSv1.1", "TLSv1.2"]),
    ("PGSSLMAXPROTOCOLVERSION", &["TLSv1.3"]),
    ("PGSSLNEGOTIATION", &["postgres"]),
    ("PGTARGETSESSIONATTRS", &["any"]),
];

/// Variables that sqlx would pass over where they do not parse: a misspelt `PGSSLMODE` would
/// quietly be a connection that nobody verifies.
fn check_variables() -> Result<(), SiteError> {
    let wrong = |name: &'static str, ok: fn(&str) -> bool| match std::env::var(name) {
        Ok(value) => !ok(&value),
        Err(std::env::VarError::NotPresent) => false,
        Err(std::env::VarError::NotUnicode(_)) => true,
    };
    if wrong("PGSSLMODE", |v| v.parse::<PgSslMode>().is_ok()) {
        let what = "is none of disable, allow, prefer, require, verify-ca, verify-full";
        return Err(SiteError::Variable { name: "PGSSLMODE", what });
    }
    if wrong("PGPORT", |v| v.parse::<u16>().is_ok()) {
        return Err(SiteError::Variable { name: "PGPORT", what: "is not a port's number" });
    }
    if wrong("PGCONNECT_TIMEOUT", |v| v.parse::<u64>().is_ok()) {
        return Err(SiteError::Variable {
            name: "PGCONNECT_TIMEOUT",
            what: "is not a whole number of seconds",
        });
    }
    // What nobody here would keep: a connection that looks as if it did is worse than none.
    for (name, harmless) in UNKEPT {
        let asks = std::env::var_os(name)
            .is_some_and(|value| !value.is_empty() && !harmless.iter().any(|h| value == *h));
        if asks {
            let what = "is not supported, and what it asks for would not be kept: unset it, and see with psql that the \
                        server is the right one";
            return Err(SiteError::Variable { name, what });
        }
    }
    if std::env::var_os("PGSERVICE").is_some_and(|v| !v.is_empty()) {
        return Err(SiteError::Variable {
            name: "PGSERVICE",
            what: "is not supported: name host, port and database in the URL",
        });
    }
    Ok(())
}

/// Takes an IPv6 address, which a URL has in brackets, out of `USER@HOST:PORT/DATABASE`: sqlx would
/// look up the name `[::1]`, in the password file too. `None` where the brackets hold none.
fn without_ipv6(place: &str) -> Option<(String, Option<Ipv6Addr>)> {
    let host = place.find('@').map_or(0, |at| at + 1);
    let Some(inside) = place[host..].strip_prefix('[') else { return Some((place.to_owned(), None)) };
    let (address, after) = inside.split_once(']')?;
    let address = address.parse().ok()?;
    Some((format!("{}localhost{after}", &place[..host]), Some(address)))
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first == b'%' {
            let [a, b, after @ ..] = after else { return None };
            let mut byte = [0];
            hex::decode_to_slice([*a, *b], &mut byte).ok()?;
            bytes.push(byte[0]);
            rest = after;
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).ok()
}

/// The password that a password file (libpq's format: `host:port:database:user:password`, `*` for
/// any, `\` before `:` and `\`) has for a connection.
fn password_from(file: &Path, options: &PgConnectOptions) -> Result<Option<String>, SiteError> {
    let doing = "reading the password file that the database URL names";
    let io = |source| SiteError::Io { doing, source };
    let metadata = std::fs::metadata(file).map_err(io)?;
    use std::os::unix::fs::PermissionsExt as _;
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(io(std::io::Error::other("others can read it; its mode must be 0600")));
    }
    let text = std::fs::read_to_string(file).map_err(io)?;
    let host = match options.get_socket() {
        Some(_) => "localhost".to_owned(),
        None if options.get_host().starts_with('/') => "localhost".to_owned(),
        None => options.get_host().to_owned(),
    };
    let port = options.get_port().to_string();
    let database = options.get_database().unwrap_or(options.get_username());
    let wanted = [&host, &port, database, options.get_username()];
    for line in text.lines().filter(|l| !l.starts_with('#')) {
        let mut parts = vec![String::new()];
        let mut letters = line.chars();
        while let Some(letter) = letters.next() {
            let count = parts.len();
            let part = &mut parts[count - 1];
            match letter {
                '\\' => part.extend(letters.next()),
                ':' if count < 5 => parts.push(String::new()),
                letter => part.push(letter),
            }
        }
        if parts.len() == 5 && wanted.iter().zip(&parts).all(|(w, p)| p == "*" || p == w) {
            return Ok(parts.pop());
        }
    }
    Ok(None)
}

/// What a database's error may say: the server's own words where they name tables, roles and
/// states, and only the SQLSTATE where they could quote a value (data exceptions, violated
/// constraints, a trigger's own message).
pub(super) fn describe(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(e) => {
            if let Some(e) = e.try_downcast_ref::<PgDatabaseError>() {
                let code = e.code();
                // Something in a function, whose statements may be made of values; and PL/pgSQL's RAISE, whatever
                // state it gives to its own words.
                let inside =
                    e.r#where().is_some() && !["08", "40", "53", "54", "57", "58"].contains(&&code[..2]);
                let raised = e.routine() == Some("exec_stmt_raise");
                return match &code[..2] {
                    _ if inside || raised => {
                        format!("the database refused it (SQLSTATE {code}; its log has the words)")
                    }
                    "22" => format!("a value does not fit its column (SQLSTATE {code})"),
                    "23" => match e.constraint() {
                        Some(name) => format!("the constraint {name} is violated (SQLSTATE {code})"),
                        None => format!("a constraint is violated (SQLSTATE {code})"),
                    },
                    "08" | "0A" | "25" | "28" | "3D" | "3F" | "40" | "42" | "53" | "54" | "55" | "57"
                    | "58" | "XX" => {
                        format!("{} (SQLSTATE {code})", e.message())
                    }
                    _ => format!("the database refused it (SQLSTATE {code}; its log has the words)"),
                };
            }
            // SQLite's messages name tables, columns and states, never values.
            e.message().to_owned()
        }
        sqlx::Error::Io(e) => e.to_string(),
        sqlx::Error::Tls(e) => format!("TLS: {e}"),
        sqlx::Error::Configuration(e) => e.to_string(),
        sqlx::Error::Protocol(_) => "the server does not speak as PostgreSQL does".into(),
        sqlx::Error::ColumnDecode { index, .. } => format!("the column {index} has an unexpected type"),
        _ => "the database driver failed".into(),
    }
}

/// The SQLSTATE of a PostgreSQL error.
pub(super) fn sqlstate(error: &sqlx::Error) -> Option<&str> {
    match error {
        sqlx::Error::Database(e) => e.try_downcast_ref::<PgDatabaseError>().map(PgDatabaseError::code),
        _ => None,
    }
}

/// Whether an answer to COMMIT says that nothing was written: an error, not a fatal one, of the server
/// itself. After any other nobody knows; a pooler, too, answers for a server that is gone (class 08).
pub(super) fn refuses_commit(error: &sqlx::Error) -> bool {
    let sqlx::Error::Database(e) = error else { return false };
    let Some(e) = e.try_downcast_ref::<PgDatabaseError>() else { return false };
    e.severity() == PgSeverity::Error && !e.code().starts_with("08")
}

/// The error of a statement.
pub(super) fn failed(doing: &'static str, error: &sqlx::Error) -> SiteError {
    let what = describe(error);
    let gone = match error {
        sqlx::Error::Io(_) | sqlx::Error::WorkerCrashed => true,
        // The server was told to end (57P01 to 57P03), or a pooler has lost it (class 08): the same for
        // whoever waits here.
        _ => sqlstate(error).is_some_and(|code| code.starts_with("57P") || code.starts_with("08")),
    };
    if gone { SiteError::Lost { doing, what } } else { SiteError::Database { doing, what } }
}
