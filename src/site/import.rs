//! The import: a compare-and-swap of every row that was re-wrapped.
//!
//! It owns the steps and their order (DESIGN section 7), and what is refused before anything is
//! connected to; each step's SQL is the [`Store`]'s. Its invariants: no row is written whose
//! fields are not exactly those that were exported; nothing is committed before the whole file was
//! read and found to be the one that its manifest describes; and where a run ends early, what was
//! not committed is rolled back.

use super::changes::{Loaded, Source};
use super::connect::Database;
use super::report::{Conflicts, ImportCounts, ImportReport, Phases};
use super::{SiteError, Step, Watch, block_on, sql_postgres, sql_sqlite, unless_stopped};
use crate::manifest::{Manifest, ManifestError, TableFile};
use crate::report::{ManifestFile, SignatureFile};
use crate::row::{KeyId, Sha256Digest};
use crate::signature::TrustedKey;
use crate::site_config::SiteConfig;
use crate::stop::Stop;
use crate::table::{Format, Input, OpenOptions};
use std::future::Future;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// How often a transaction is tried again after a deadlock, or because rows appeared while others
/// were locked.
const RETRIES: u32 = 3;

/// Seconds to wait for another session's lock, unless told.
pub const LOCK_TIMEOUT: u32 = 10;

/// What to do about rows that somebody changed since the export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnConflict {
    /// Write nothing.
    #[default]
    Abort,
    /// Leave them as they are and write the rest.
    Skip,
}

/// What to import, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// The output of `rekek rewrap`: a file, since it is read twice.
    pub input: PathBuf,
    /// Its format, where neither extension nor manifest shall say it.
    pub format: Option<Format>,
    /// Its manifest; beside it unless told.
    pub manifest: Option<PathBuf>,
    /// The manifest's own digest, carried over by hand.
    pub manifest_sha256: Option<Sha256Digest>,
    /// The key that the manifest must be signed with.
    pub trusted_key: Option<TrustedKey>,
    /// The site's configuration, to compare the target key with.
    pub site_config: Option<PathBuf>,
    /// Do everything and roll it back.
    pub dry_run: bool,
    /// What to do about conflicts.
    pub on_conflict: OnConflict,
    /// Rows of a transaction; all in one unless told.
    pub batch_rows: Option<u64>,
    /// Seconds to wait for a lock; 0 waits for ever.
    pub lock_timeout: u32,
}

impl Options {
    /// An import of `input` as it is done unless told otherwise.
    pub fn new(input: PathBuf) -> Self {
        Options {
            input,
            format: None,
            manifest: None,
            manifest_sha256: None,
            trusted_key: None,
            site_config: None,
            dry_run: false,
            on_conflict: OnConflict::default(),
            batch_rows: None,
            lock_timeout: LOCK_TIMEOUT,
        }
    }

    /// What will not be checked, each in a line for the operator.
    pub fn unchecked(&self) -> Vec<&'static str> {
        let mut unchecked = Vec::new();
        if self.manifest_sha256.is_none() && self.trusted_key.is_none() {
            unchecked.push(
                "the manifest itself is not checked: whoever could alter the file could alter it too; \
                 --trusted-key takes the public key of who signed it, --manifest-sha256 the digest that \
                 rekek rewrap printed",
            );
        }
        if self.site_config.is_none() {
            unchecked.push(
                "it is not checked that the target is the site's current_encryption_key_id; \
                 --site-config takes the service's configuration",
            );
        }
        unchecked
    }
}

/// Changes by their numbers, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) first: u64,
    pub(super) last: u64,
}

/// Rows that one statement writes: not so many that nobody sees it go on, and not so few that the
/// statement itself costs anything.
const UPDATED_AT_A_TIME: u64 = 5_000;

impl Range {
    fn parts(self) -> impl Iterator<Item = Range> {
        let firsts = (self.first..=self.last).step_by(UPDATED_AT_A_TIME as usize);
        firsts.map(move |first| Range { first, last: self.last.min(first + UPDATED_AT_A_TIME - 1) })
    }
}

/// A database that can be imported into, step by step.
pub(super) trait Store {
    /// Checks the tables and the rights; makes the temporary tables.
    async fn prepare(&mut self) -> Result<(), SiteError>;
    /// Loads the file's changes into the temporary table.
    async fn load(&mut self, source: Source, watch: &dyn Watch) -> Result<Loaded, SiteError>;
    /// Begins a transaction.
    async fn begin(&mut self, read_only: bool) -> Result<(), SiteError>;
    /// Locks the rows of a range, configuration first, then tenants, in order of the id, and says
    /// of each what it is; keeps that for [`Store::update`]. In a read-only transaction it only
    /// says it.
    async fn compare(&mut self, range: Range) -> Result<(ImportCounts, Conflicts), SiteError>;
    /// Writes the rows of a range that are to be updated; says how many of each table it wrote.
    async fn update(&mut self, range: Range, target: &KeyId) -> Result<(u64, u64), SiteError>;
    /// Counts the rows written that do not read back as written.
    async fn read_back(&mut self, range: Range, target: &KeyId) -> Result<u64, SiteError>;
    /// Commits.
    async fn commit(&mut self) -> Result<(), SiteError>;
    /// Takes the transaction back.
    async fn rollback(&mut self) -> Result<(), SiteError>;
}

/// Imports a file.
pub fn run(
    database: &Database,
    options: &Options,
    stop: &Stop,
    watch: &dyn Watch,
) -> Result<ImportReport, SiteError> {
    let started = Instant::now();
    let checked = check(options, stop, watch)?;
    let mut run = Run {
        options,
        target: checked.source.target.clone(),
        stop,
        watch,
        phases: Phases { check: started.elapsed().as_secs_f64(), ..Phases::default() },
        counts: ImportCounts::default(),
        conflicts: Conflicts::default(),
        committed: false,
        batches_committed: 0,
        examination: None,
    };
    let ended = block_on(run.connect(database, &checked));
    let made = checked.document.report.as_ref();
    let report = ImportReport {
        command: "import".into(),
        dry_run: options.dry_run,
        target_key_id: run.target,
        counts: run.counts,
        conflicts: run.conflicts.listed,
        conflicts_truncated: run.conflicts.truncated,
        committed: run.committed,
        batches_committed: run.batches_committed,
        input: checked.file,
        manifest: checked.manifest,
        rows_failed_at_rewrap: made.map_or(0, |report| report.counts.rows_failed),
        source_digests_kept: made.is_some_and(|report| report.source_digests_kept),
        manifest_sha256_checked: options.manifest_sha256,
        signature_checked: checked.signature,
        elapsed_seconds: started.elapsed().as_secs_f64(),
        phases: run.phases,
    };
    match ended {
        Ok(()) => Ok(report),
        Err(error) if report.batches_committed == 0 => Err(error),
        Err(error) => Err(SiteError::AfterBatches { report: Box::new(report), source: Box::new(error) }),
    }
}

/// A file that is what its manifest says.
struct Checked {
    source: Source,
    rows: u64,
    file: TableFile,
    manifest: ManifestFile,
    signature: Option<SignatureFile>,
    document: Manifest,
}

/// Step 1, before anything is connected to.
fn check(options: &Options, stop: &Stop, watch: &dyn Watch) -> Result<Checked, SiteError> {
    let name = options.input.display().to_string();
    let path = options.manifest.clone().unwrap_or_else(|| Manifest::path_for(&options.input));
    let shown = path.display().to_string();
    let bytes = Manifest::read_bytes(&path).map_err(|e| match e {
        ManifestError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            SiteError::NoManifest { path: shown.clone(), file: name.clone() }
        }
        e => e.into(),
    })?;
    // Before anything in it is believed.
    let signature = options.trusted_key.as_ref().map(|key| key.check(&path, &bytes)).transpose()?;
    let (document, sha256) = (Manifest::parse(&path, &bytes)?, Sha256Digest::of(&bytes));
    if options.manifest_sha256.is_some_and(|told| told != sha256) {
        return Err(SiteError::ManifestDigest { path: shown });
    }
    let Some(target) = document.target_key_id.clone() else {
        let what = "is that of an export; an import takes what rekek rewrap made of it";
        return Err(SiteError::WrongManifest { path: shown, what });
    };
    if let Some(config) = &options.site_config {
        let current = SiteConfig::read(config)?.current_encryption_key_id;
        if current != target {
            return Err(SiteError::NotCurrent { target, current });
        }
    }
    let input = Input::File(options.input.clone());
    let format = input.format(options.format).unwrap_or(document.output.format);
    let open = OpenOptions { format: Some(format), stop: stop.clone(), ..OpenOptions::default() };
    let source = Source { input, options: open, target, stop: stop.clone() };
    watch.step(Step::Checking, Some(document.output.rows));
    let (facts, rows) = source.facts(|rows| watch.rows(rows))?;
    document.check_output(&name, facts, rows)?;
    let file = TableFile::new(&options.input, format, facts, rows);
    let manifest = ManifestFile { file: shown, sha256, signature: None };
    Ok(Checked { source, rows, file, manifest, signature, document })
}

/// An import on its way.
struct Run<'a> {
    options: &'a Options,
    target: KeyId,
    stop: &'a Stop,
    watch: &'a dyn Watch,
    phases: Phases,
    counts: ImportCounts,
    conflicts: Conflicts,
    committed: bool,
    batches_committed: u64,
    /// The pass over the file that reads every envelope, until it was waited for.
    examination: Option<oneshot::Receiver<Result<Loaded, SiteError>>>,
}

/// How a batch's transaction ended.
enum Ended {
    Written,
    /// Conflicts, and that is the end of it.
    Aborted,
}

impl Run<'_> {
    async fn connect(&mut self, database: &Database, checked: &Checked) -> Result<(), SiteError> {
        match database {
            Database::Postgres(postgres) => {
                let mut store = sql_postgres::PostgresStore {
                    connection: postgres.connect(self.stop).await?,
                    database: database.name(),
                    lock_timeout: self.options.lock_timeout,
                    tables: Default::default(),
                    backend: 0,
                    read_only: false,
                    all_updated: false,
                };
                let result = self.import(&mut store, checked).await;
                if let (Err(SiteError::Interrupted), true) = (&result, store.backend != 0) {
                    // The statement that was cut off may still be running or waiting in the server.
                    // Where this does not succeed, the closed connection says the same, later.
                    let limit = Duration::from_secs(5);
                    let _ = tokio::time::timeout(limit, async {
                        let mut second = postgres.connect(&Stop::default()).await.ok()?;
                        sql_postgres::end_session(&mut second, store.backend).await.ok()
                    })
                    .await;
                }
                result
            }
            Database::Sqlite(sqlite) => {
                let busy = match self.options.lock_timeout {
                    0 => sql_sqlite::FOREVER,
                    seconds => Duration::from_secs(seconds.into()),
                };
                let connection = sqlite.connect(false, busy).await?;
                let mut store =
                    sql_sqlite::SqliteStore::new(connection, database.name(), self.options.lock_timeout);
                self.import(&mut store, checked).await
            }
        }
    }

    async fn import<S: Store>(&mut self, store: &mut S, checked: &Checked) -> Result<(), SiteError> {
        let stop = self.stop;
        unless_stopped(stop, store.prepare()).await?;

        self.watch.step(Step::Loading, Some(checked.rows));
        let begun = Instant::now();
        let loaded = unless_stopped(stop, store.load(checked.source.clone(), self.watch)).await?;
        self.phases.load = begun.elapsed().as_secs_f64();
        // Not beside the loading, which keeps this process busy enough; from here on only the
        // database works.
        self.examination = Some(checked.source.clone().examine());
        // What was loaded is what was checked, or nothing of it is written.
        checked.document.check_output(&checked.source.input.name(), loaded.facts, loaded.rows)?;

        let unchanged = loaded.rows - loaded.changed;
        self.counts.rows_examined = unchanged;
        self.counts.rows_unchanged = unchanged;
        self.watch.step(Step::Comparing, Some(loaded.changed));
        if loaded.changed == 0 {
            self.examined(checked).await?;
            self.committed = !self.options.dry_run;
            return Ok(());
        }
        let all = Range { first: 1, last: loaded.changed };
        if self.options.batch_rows.is_some() && self.options.on_conflict == OnConflict::Abort {
            store.begin(true).await?;
            let (counts, conflicts) = self.timed(store.compare(all), |p| &mut p.compare).await?;
            store.rollback().await?;
            if counts.rows_conflicted > 0 {
                self.examined(checked).await?;
                self.counts.add(&counts);
                self.conflicts = conflicts;
                return Ok(());
            }
        }
        let rows = self.options.batch_rows.unwrap_or(loaded.changed).max(1);
        let mut first = 1;
        while first <= loaded.changed {
            let range = Range { first, last: loaded.changed.min(first.saturating_add(rows - 1)) };
            match self.batch(store, range, checked).await? {
                Ended::Written => {}
                Ended::Aborted => return Ok(()),
            }
            first = range.last + 1;
        }
        self.committed = !self.options.dry_run;
        Ok(())
    }

    /// One transaction, and again where that is all that is needed.
    async fn batch<S: Store>(
        &mut self,
        store: &mut S,
        range: Range,
        checked: &Checked,
    ) -> Result<Ended, SiteError> {
        for attempt in 0.. {
            match self.transaction(store, range, checked).await {
                Err(SiteError::Deadlock { .. } | SiteError::RowsAppeared) if attempt < RETRIES => {
                    store.rollback().await?;
                    // Long enough for the other session to go on with the locks it waited for.
                    let pause = Duration::from_millis(50 << attempt);
                    unless_stopped(self.stop, async {
                        tokio::time::sleep(pause).await;
                        Ok(())
                    })
                    .await?;
                }
                Err(SiteError::Deadlock { .. }) => return Err(SiteError::Deadlock { times: attempt + 1 }),
                other => return other,
            }
        }
        unreachable!("the loop returns")
    }

    /// Steps 3 to 7 for a range.
    async fn transaction<S: Store>(
        &mut self,
        store: &mut S,
        range: Range,
        checked: &Checked,
    ) -> Result<Ended, SiteError> {
        self.watch.next(Step::Comparing);
        self.timed(store.begin(false), |p| &mut p.compare).await?;
        let (mut counts, conflicts) = self.timed(store.compare(range), |p| &mut p.compare).await?;
        let abort = counts.rows_conflicted > 0 && self.options.on_conflict == OnConflict::Abort;
        if !abort && counts.rows_updated > 0 {
            self.watch.next(Step::Writing);
            let target = self.target.clone();
            let (mut configs, mut tenants) = (0, 0);
            for part in range.parts() {
                let written = self.timed(store.update(part, &target), |p| &mut p.update).await?;
                configs += written.0;
                tenants += written.1;
                self.watch.rows(part.last + 1 - part.first);
            }
            if configs != counts.rows_updated || tenants != counts.rows_updated {
                return Err(SiteError::Counts { configs, tenants, expected: counts.rows_updated });
            }
            self.watch.next(Step::ReadingBack);
            match self.timed(store.read_back(range, &target), |p| &mut p.read_back).await? {
                0 => {}
                rows => return Err(SiteError::ReadBack { rows }),
            }
        }
        let begun = Instant::now();
        self.examined(checked).await?;
        if abort || self.options.dry_run {
            store.rollback().await?;
        } else if self.stop.is_requested() {
            return Err(SiteError::Interrupted);
        } else {
            self.watch.next(Step::Committing);
            // Not to be interrupted: between the word and the answer nobody would know.
            store.commit().await?;
            self.batches_committed += 1;
        }
        self.phases.commit += begun.elapsed().as_secs_f64();
        if abort && self.batches_committed > 0 {
            // Beside rows that are written for good none is counted that would have been.
            counts.rows_examined -= counts.rows_updated;
            counts.rows_updated = 0;
        }
        self.counts.add(&counts);
        self.conflicts.append(conflicts);
        Ok(if abort { Ended::Aborted } else { Ended::Written })
    }

    /// Waits until every envelope of the file was read. A file that has one that it should not have
    /// is an error before there is a report of any kind, and before anything is committed.
    async fn examined(&mut self, checked: &Checked) -> Result<(), SiteError> {
        let Some(examination) = self.examination.take() else { return Ok(()) };
        let whole =
            unless_stopped(self.stop, async { examination.await.map_err(|_| super::changes::died())? })
                .await?;
        // That pass too read the file that was checked.
        Ok(checked.document.check_output(&checked.source.input.name(), whole.facts, whole.rows)?)
    }

    /// A step that a stop may cut off, its time taken.
    async fn timed<T>(
        &mut self,
        step: impl Future<Output = Result<T, SiteError>>,
        phase: impl Fn(&mut Phases) -> &mut f64,
    ) -> Result<T, SiteError> {
        let begun = Instant::now();
        let result = unless_stopped(self.stop, step).await;
        *phase(&mut self.phases) += begun.elapsed().as_secs_f64();
        result
    }
}
