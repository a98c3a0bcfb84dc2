//! The site's database: exporting the rows, counting them, and importing what was re-wrapped.
//!
//! ```text
//!  export, inspect:   one snapshot ──> batches in byte order of the id ──> table::writer, or counters
//!  import:            output + manifest ──> changes ──> temporary table ──> lock and compare ──> update
//!                                                                                      └──> read back ──> commit
//! ```
//!
//! It owns the order of the steps, what an import may write and what is a conflict; the SQL of
//! each database stands in one file ([`sql_postgres`], [`sql_sqlite`]). It has no key and no code
//! that could open an envelope. Its invariant: a value that is not the one that was exported, or
//! the one that is to be written, is never overwritten.

pub mod connect;
pub mod export;
pub mod import;
pub mod init;
pub mod inspect;
pub mod report;

mod changes;
mod sql_postgres;
mod sql_sqlite;

use crate::manifest::ManifestError;
use crate::publish::PublishError;
use crate::row::{Field, KeyId};
use crate::signature::SignatureError;
use crate::site_config::SiteConfigError;
use crate::stop::Stop;
use crate::table::TableError;
use std::future::Future;
use std::pin::pin;
use std::time::Duration;

/// Table that says which organizations there are, and at which version each is.
pub const TENANTS: &str = "tenants";

/// Table that has the ciphertext.
pub const CONFIG: &str = "tenant_identity_config";

/// What a long command is doing, for whoever shows it. Rows are those of the file or the table.
pub trait Watch: Sync {
    /// A step begins; `total` rows are to come, where that is known.
    fn step(&self, step: Step, total: Option<u64>);
    /// Another step goes on with the same rows; what is done of them is counted on.
    fn next(&self, step: Step);
    /// So many rows more are done.
    fn rows(&self, rows: u64);
}

/// The steps that a [`Watch`] hears of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Rows are read from the database.
    Reading,
    /// The file is compared with its manifest.
    Checking,
    /// Rows go into the database's temporary table.
    Loading,
    /// Rows are locked and compared.
    Comparing,
    /// Rows are written.
    Writing,
    /// What was written is read back.
    ReadingBack,
    /// The transaction is committed.
    Committing,
}

/// Nobody looks.
pub struct Unwatched;

impl Watch for Unwatched {
    fn step(&self, _: Step, _: Option<u64>) {}
    fn next(&self, _: Step) {}
    fn rows(&self, _: u64) {}
}

/// Why a command could not be carried out. Says what and where and how to go on; never quotes a
/// value, an envelope or a password.
#[derive(Debug, thiserror::Error)]
pub enum SiteError {
    /// The URL of the database.
    #[error("the database URL: {0}")]
    Url(&'static str),
    /// A `PG*` variable that would be ignored without a word.
    #[error("the environment variable {name} {what}")]
    Variable {
        /// Its name.
        name: &'static str,
        /// What is wrong with it.
        what: &'static str,
    },
    /// No connection.
    #[error("cannot connect to {to}: {what}")]
    Connect {
        /// The server, without the password.
        to: String,
        /// Why, in the server's or the system's words.
        what: String,
    },
    /// The database said no.
    #[error("{doing}: {what}")]
    Database {
        /// What was being done.
        doing: &'static str,
        /// Why not.
        what: String,
    },
    /// The connection went away.
    #[error(
        "{doing}: the connection to the database was lost ({what}); nothing of this transaction was kept, run it again"
    )]
    Lost {
        /// What was being done.
        doing: &'static str,
        /// The system's words.
        what: String,
    },
    /// The connection went away between the word to commit and the answer.
    #[error(
        "the connection was lost while committing: whether the rows were written is not known; \
         run the import again, those that were count as already applied"
    )]
    LostAtCommit,
    /// Somebody else held a lock for too long.
    #[error(
        "another session held a lock for more than {seconds} s while rows were locked; nothing of this \
             transaction was kept: run it again, or wait longer with --lock-timeout"
    )]
    LockTimeout {
        /// The time limit.
        seconds: u32,
    },
    /// A deadlock, again and again.
    #[error(
        "other sessions lock the same rows in another order: a deadlock {times} times; nothing of this \
             transaction was kept, run it again when the site is quieter"
    )]
    Deadlock {
        /// How often it was tried.
        times: u32,
    },
    /// The role may not do what is needed.
    #[error("the database role {role} lacks rights: {missing}\n  to give them: {remedy}")]
    Rights {
        /// The role.
        role: String,
        /// Which rights on what.
        missing: String,
        /// The statement that gives them.
        remedy: String,
    },
    /// It is not a database of the site.
    #[error("{database} {what}")]
    NotASite {
        /// Which database.
        database: String,
        /// What it lacks, or has too much.
        what: String,
    },
    /// Somebody keeps the database from being written to.
    #[error(
        "{database} is kept from being written to: default_transaction_read_only is on {set}; nothing more was \
             written, ask whoever set it\n  when it may be written to, set that off, or for one command \
             alone append '?options[default_transaction_read_only]=off' to the URL"
    )]
    ReadOnly {
        /// Which database.
        database: String,
        /// For whom that is set, or since when.
        set: Frozen,
    },
    /// What was loaded is not in the session in which it is to be used.
    #[error(
        "the connection to {database} changes its session between transactions, as a pooler in transaction mode \
             does it; nothing more was written, connect to the server itself"
    )]
    AnotherSession {
        /// Which database.
        database: String,
    },
    /// Organizations were asked for that the database does not have.
    #[error("the database has no organization {first}{}; nothing was written; see how it is spelled, and leave it out if it was deleted", more(.others))]
    UnknownOrganization {
        /// One of them.
        first: String,
        /// How many more.
        others: usize,
    },
    /// The file is not the one that its manifest describes, or there is no manifest.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// There is no manifest beside the file.
    #[error(
        "there is no manifest {path}: without it nobody can say that {file} is whole; bring it over too, \
             or name it with --manifest"
    )]
    NoManifest {
        /// Where it was looked for.
        path: String,
        /// The file.
        file: String,
    },
    /// It is the manifest of something that cannot be imported.
    #[error("the manifest {path} {what}")]
    WrongManifest {
        /// The manifest.
        path: String,
        /// Why it cannot be used.
        what: &'static str,
    },
    /// The manifest is not the one whose digest was carried over by hand.
    #[error(
        "the manifest {path} is not the one that was meant: its SHA-256 is not the one given with \
             --manifest-sha256; bring both over again"
    )]
    ManifestDigest {
        /// The manifest.
        path: String,
    },
    /// The manifest has no signature that holds under the trusted key.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// The site's configuration could not be read.
    #[error(transparent)]
    Config(#[from] SiteConfigError),
    /// The service writes under another key.
    #[error(
        "the file is under the key {}, the site's current_encryption_key_id is {}: the service would be given \
             envelopes that it does not expect; set current_encryption_key_id to the file's first",
        crate::row::printable(target.as_str()), crate::row::printable(current.as_str())
    )]
    NotCurrent {
        /// The file's target key.
        target: KeyId,
        /// The site's.
        current: KeyId,
    },
    /// A table's file could not be read or written.
    #[error("{file}: {source}")]
    Table {
        /// The file.
        file: String,
        /// What and where.
        source: TableError,
    },
    /// A value of the file is not what an import takes.
    #[error("{file}, row {row} (organization {organization}): {} {what}", .field.column())]
    Value {
        /// The file.
        file: String,
        /// The row, from 1.
        row: u64,
        /// The organization's id, printable.
        organization: String,
        /// The field.
        field: Field,
        /// What is wrong.
        what: String,
    },
    /// What was written does not read back as what was to be written.
    #[error(
        "{rows} rows do not read back as they were written (a trigger, or a fault of the database); \
             nothing was kept"
    )]
    ReadBack {
        /// How many.
        rows: u64,
    },
    /// Two updates that belong together did not touch the same number of rows.
    #[error(
        "{configs} rows of tenant_identity_config and {tenants} of tenants were written where {expected} \
             of each were expected (a trigger or a rule?); nothing was kept"
    )]
    Counts {
        /// Rows of the configuration table.
        configs: u64,
        /// Rows of tenants.
        tenants: u64,
        /// Rows that were to be written.
        expected: u64,
    },
    /// Rows of the file were put into the tables, again and again, while others were waited for.
    #[error(
        "other sessions put rows of the file into the tables while they were being locked; nothing was kept, \
             run it again"
    )]
    RowsAppeared,
    /// The output could not be written.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The system said no.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// Why not.
        source: std::io::Error,
    },
    /// Some transactions of a batched import were committed before it ended.
    #[error(
        "{source}\n  before that {batches} batches with {rows} rows were committed; run it again to go on from there",
        batches = .report.batches_committed, rows = .report.counts.rows_updated
    )]
    AfterBatches {
        /// How far it came: the document as it is at the end, for those transactions.
        report: Box<report::ImportReport>,
        /// What ended it.
        source: Box<SiteError>,
    },
    /// Told to stop by a signal; what was not committed was rolled back.
    #[error("interrupted")]
    Interrupted,
}

/// For whom `default_transaction_read_only` is on, or since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Frozen {
    /// `ALTER ROLE … IN DATABASE … SET`.
    #[error("for this role in this database")]
    RoleInDatabase,
    /// `ALTER ROLE … SET`.
    #[error("for this role")]
    Role,
    /// `ALTER DATABASE … SET`.
    #[error("for this database")]
    Database,
    /// `ALTER ROLE ALL SET`.
    #[error("for every role")]
    EveryRole,
    /// The server's configuration.
    #[error("for the whole server")]
    Server,
    /// Whoever started the command said so.
    #[error("in the URL or in PGOPTIONS")]
    Client,
    /// It was not when the command began.
    #[error("since this import began")]
    Meanwhile,
}

fn more(others: &usize) -> String {
    if *others == 0 { String::new() } else { format!(" and {others} more of those asked for") }
}

impl SiteError {
    /// Whether it was a signal that ended it.
    pub fn is_interruption(&self) -> bool {
        match self {
            SiteError::Interrupted => true,
            SiteError::AfterBatches { source, .. } => source.is_interruption(),
            _ => false,
        }
    }

    fn table(file: &str, source: TableError) -> SiteError {
        match source {
            TableError::Interrupted => SiteError::Interrupted,
            source => SiteError::Table { file: file.to_owned(), source },
        }
    }
}

/// Runs a future on this thread: the commands are one conversation with one server.
fn block_on<T>(future: impl Future<Output = Result<T, SiteError>>) -> Result<T, SiteError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|source| SiteError::Io { doing: "starting", source })?;
    runtime.block_on(future)
}

/// How often a wait looks whether it shall end.
const TICK: Duration = Duration::from_millis(50);

/// The future's value, or [`SiteError::Interrupted`] as soon as a stop is asked for. The future is
/// dropped then, in the middle of whatever it was doing.
async fn unless_stopped<T>(
    stop: &Stop,
    future: impl Future<Output = Result<T, SiteError>>,
) -> Result<T, SiteError> {
    let mut future = pin!(future);
    loop {
        if stop.is_requested() {
            return Err(SiteError::Interrupted);
        }
        tokio::select! {
            biased;
            value = &mut future => return value,
            () = tokio::time::sleep(TICK) => {}
        }
    }
}
