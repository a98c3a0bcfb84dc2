//! read → re-wrap → write → manifest: the program on one screen.
//!
//! It owns the order of things: what is checked before the first row, what is read, proven and
//! counted in between, and that an output gets its name only when every check has passed, its
//! manifest after it. Threads are [`crate::parallel`]'s, rules are [`crate::rewrap`]'s, bytes are
//! [`crate::table`]'s.

mod batch;

pub(crate) use batch::{Columns, rewrap as rewrap_batch};
pub use batch::{OrgIdText, Scope, VerifiedBatch, row_at};

use crate::census::add_bounded;
use crate::keyring::Keyring;
use crate::manifest::{self, KeyUse, Manifest, ManifestError, OutputNames, Seals, TableFile, Tool, Vouchers};
use crate::parallel::{Interrupted, Item, NoThreads, ordered_map};
use crate::publish::{Existing, PublishError, Staged};
use crate::report::{Failure, LISTED_MAX, ManifestFile, RewrapCounts, RewrapReport};
use crate::rewrap::{BudgetSpent, Rewrapper, Rules, SEALS_MAX, SealBudget, Work};
use crate::row::{OrgId, Sha256Digest};
use crate::signature::SignatureError;
use crate::signer::Signer;
use crate::stop::Stop;
use crate::table::{
    self, Compression, Dictionaries, FileFacts, Format, Input, OpenOptions, RunningDigest, TableError,
    TableReader, UniqueIds,
};
use arrow::array::RecordBatch;
use batch::Done;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;
use table::Hashed;

/// What to do with rows that fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// Publish nothing.
    Withhold,
    /// Publish the output, with the failed rows as they are.
    KeepGoing,
}

/// Where an output goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// Nowhere: a dry run.
    DryRun,
    /// A file, published when it is whole.
    File(PathBuf),
    /// Standard output.
    Stdout,
    /// Written like a file, digest included, and let go: what is measured is all but the disk.
    Discarded,
}

/// A re-wrap as it was asked for.
pub struct Job<'a> {
    /// The export.
    pub input: Input,
    /// Its format, where its name does not tell.
    pub input_format: Option<Format>,
    /// The output.
    pub output: Destination,
    /// Its format.
    pub output_format: Format,
    /// Its compression.
    pub compression: Compression,
    /// Where the manifest goes; if not told, beside a file, and nowhere for standard output.
    pub manifest: Option<PathBuf>,
    /// Signs the manifest.
    pub signer: Option<&'a Signer>,
    /// Whether files that are there already are replaced.
    pub existing: Existing,
    /// The keys.
    pub keyring: &'a Keyring,
    /// The target's place in the keyring.
    pub target: usize,
    /// The organizations to re-wrap; all of them if none.
    pub scope: Option<BTreeSet<OrgId>>,
    /// Rules of re-wrap.
    pub rules: Rules,
    /// What to do with rows that fail.
    pub on_failure: OnFailure,
    /// Threads that work.
    pub threads: usize,
    /// Ends the run early.
    pub stop: Stop,
}

/// Why a re-wrap came to no end. Nothing is published then.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// Told to stop.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
    /// Too many threads.
    #[error(transparent)]
    Threads(#[from] NoThreads),
    /// The export could not be read.
    #[error("cannot read {file}: {source}")]
    Read {
        /// Its name.
        file: String,
        /// Why.
        source: TableError,
    },
    /// The output could not be written.
    #[error("cannot write {file}: {source}")]
    Write {
        /// Its name.
        file: String,
        /// Why.
        source: TableError,
    },
    /// A batch could not be handled; the export's name is added where it is known.
    #[error("{0}")]
    Batch(#[from] TableError),
    /// It could not be published.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// A manifest could not be read, or does not match.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The manifest's new signature does not hold.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// Selected organizations that the export does not have.
    #[error(
        "{file} does not have {count} of the organizations asked for: {named}; leave them out, or export them first"
    )]
    UnknownOrgs {
        /// The export.
        file: String,
        /// How many.
        count: usize,
        /// The first few.
        named: String,
    },
    /// Digests that an import would believe, in a file that never has any.
    #[error(
        "{file} has source digests, and its manifest is that of an export, which never has any: somebody put them in, and \
         an import would believe them; find out who, and export again"
    )]
    DigestsInExport {
        /// The export.
        file: String,
    },
    /// The limit of seals.
    #[error(transparent)]
    Budget(#[from] BudgetSpent),
    /// The operating system gave no random bytes.
    #[error("the operating system gave no random bytes: {0}")]
    Random(#[from] getrandom::Error),
    /// A caller's own sink, for instance a failures file.
    #[error(transparent)]
    Sink(#[from] io::Error),
}

/// What looks on while a re-wrap runs: progress, a file that takes every failure.
pub trait Observer: Send {
    /// So many rows were read.
    fn rows(&mut self, rows: u64);
    /// A row failed.
    fn failure(&mut self, failure: &Failure) -> io::Result<()>;
    /// All rows are through, and nothing is published yet: the last moment at which what cannot be
    /// kept of them keeps the output from its name.
    fn end(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Job<'_> {
    /// Does it. The report says what happened; whether the output was published is in
    /// [`RewrapReport::output`].
    pub fn run(&self, observer: &mut dyn Observer) -> Result<RewrapReport, PipelineError> {
        let begun = Instant::now();
        self.check_destinations()?;
        // An export that was cut short in transfer, or changed, is noticed by its manifest.
        let input_manifest = Manifest::beside(&self.input)?;

        let mut source = ExportReader::open(&self.input, self.input_format, &self.stop)?;
        let columns = Columns::of(source.reader.schema()).map_err(|e| source.fail(e))?;
        let kept = columns.keeps_source_digests();
        if kept && input_manifest.as_ref().is_some_and(|manifest| manifest.target_key_id.is_none()) {
            return Err(PipelineError::DigestsInExport { file: self.input.name() });
        }
        let dictionaries = match &self.scope {
            Some(_) => Dictionaries::OfOtherRows,
            None => source.reader.dictionaries(),
        };
        let mut output = Output::begin(self, &columns, dictionaries)?;
        let scope: Option<Scope> = self.scope.as_ref().map(|s| s.iter().cloned().map(OrgIdText).collect());
        let budget = SealBudget::new(SEALS_MAX);
        let mut total = Total::new(self, input_manifest.as_ref(), kept);

        let file = self.input.name();
        let digests = [Some(source.digest()), output.digest.clone()];
        ordered_map(
            self.threads,
            &self.stop,
            || source.next(),
            || Ok(Rewrapper::new(self.keyring, self.target, self.rules, &budget)?),
            |rewrapper, ExportBatch { first_row, rows, .. }| {
                batch::rewrap(rewrapper, &columns, scope.as_ref(), self.target, first_row, &rows).map_err(
                    |e| match e {
                        PipelineError::Batch(source) => PipelineError::Read { file: file.clone(), source },
                        other => other,
                    },
                )
            },
            |done| {
                observer.rows(done.rows_read);
                done.failures.iter().try_for_each(|failure| observer.failure(failure))?;
                total.add(&done);
                if total.withheld() { Ok(()) } else { output.write(&done) }
            },
            || digests.iter().flatten().filter(|digest| digest.work()).count() > 0,
        )?;

        let input = source.finish()?;
        if let Some(manifest) = &input_manifest {
            manifest.check_output(&self.input.name(), facts_of(&input), input.rows)?;
        }
        total.check_scope(self)?;
        observer.end()?;
        let published = !total.withheld() && self.output != Destination::DryRun;
        let written = if published { output.finish()? } else { None };
        let file = written.as_ref().map(|(facts, _)| self.output_file(*facts, &total));
        let report = total.report(self, input.clone(), file.clone(), begun);
        let Some((_, staged)) = written else { return Ok(report) };
        self.publish(staged, &report, &total)
    }

    fn check_destinations(&self) -> Result<(), PipelineError> {
        if let Some(names) = self.names() {
            names.check(self.existing)?;
        }
        Ok(())
    }

    /// The names of all that is published: none if no file is.
    fn names(&self) -> Option<OutputNames> {
        match (&self.output, &self.manifest) {
            (Destination::DryRun | Destination::Discarded, _) | (Destination::Stdout, None) => None,
            (Destination::File(path), manifest) => Some(OutputNames::new(path, manifest.as_deref())),
            (Destination::Stdout, Some(manifest)) => Some(OutputNames::of_stdout(manifest)),
        }
    }

    fn output_file(&self, facts: FileFacts, total: &Total) -> TableFile {
        let path = match &self.output {
            Destination::File(path) => path.as_path(),
            _ => Path::new("-"),
        };
        TableFile::new(path, self.output_format, facts, total.rows_written)
    }

    /// Gives the output its name and the manifest after it, with its signature.
    fn publish(
        &self,
        staged: Option<Staged>,
        report: &RewrapReport,
        total: &Total,
    ) -> Result<RewrapReport, PipelineError> {
        if self.stop.is_requested() {
            return Err(Interrupted.into());
        }
        let manifest = Manifest {
            format: manifest::FORMAT.into(),
            tool: Tool { name: "rekek".into(), version: env!("CARGO_PKG_VERSION").into() },
            created_at: manifest::now(),
            target_key_id: Some(report.current_encryption_key_id.clone()),
            scope: total.scope.clone(),
            keys: total.key_uses(self),
            seals: Seals { this_run: total.work.sealed, already_in_export: total.work.found_on_target },
            input: Some(report.input.clone()),
            output: report.output.clone().expect("there is an output to publish"),
            report: Some(report.clone()),
            snapshot: None,
        };
        let mut report = report.clone();
        let Some(names) = self.names() else { return Ok(report) };
        let bytes = manifest.to_bytes(names.manifest())?;
        let signed = self.signer.map(|signer| signer.sign(names.manifest(), &bytes)).transpose()?;
        let signature = signed.as_ref().map(|signed| signed.bytes.as_slice());
        names.publish(staged, Some(Vouchers { manifest: &bytes, signature }), self.existing)?;
        report.manifest = Some(ManifestFile {
            file: names.manifest().display().to_string(),
            sha256: Sha256Digest::of(&bytes),
            signature: signed.map(|signed| signed.file),
        });
        Ok(report)
    }
}

fn facts_of(file: &TableFile) -> FileFacts {
    FileFacts { bytes: file.bytes, sha256: file.sha256 }
}

/// An export, batch by batch, each with the number of its first row; every organization id once.
pub struct ExportReader {
    name: String,
    format: Format,
    /// The table.
    pub reader: Box<dyn TableReader>,
    organization_id: usize,
    unique: UniqueIds,
    rows: u64,
}

impl ExportReader {
    /// Opens it and looks at its header.
    pub fn open(input: &Input, format: Option<Format>, stop: &Stop) -> Result<ExportReader, PipelineError> {
        let options = OpenOptions { format, stop: stop.clone(), ..OpenOptions::default() };
        let fail = |source| read_error(&input.name(), source);
        let reader = table::open(input, &options).map_err(fail)?;
        let layout = table::Layout::of(reader.schema()).map_err(fail)?;
        Ok(ExportReader {
            name: input.name(),
            format: input.format(format).expect("it could be opened"),
            reader,
            organization_id: layout.organization_id,
            unique: UniqueIds::new(input, &options),
            rows: 0,
        })
    }

    /// An error with this file's name.
    pub fn fail(&self, source: TableError) -> PipelineError {
        read_error(&self.name, source)
    }

    /// The next batch with the number of its first row, from 1.
    #[expect(clippy::should_implement_trait, reason = "an Iterator has the Result outside")]
    pub fn next(&mut self) -> Result<Option<ExportBatch>, PipelineError> {
        self.read().map_err(|e| self.fail(e))
    }

    fn read(&mut self) -> Result<Option<ExportBatch>, TableError> {
        let Some(batch) = self.reader.next_batch()? else { return Ok(None) };
        let bytes = table::bytes_of_batch(&batch).max(self.reader.bytes_shared());
        let first_row = self.rows + 1;
        let ids = table::Text::of(batch.column(self.organization_id)).expect("Layout::of checked it");
        for i in 0..batch.num_rows() {
            self.rows += 1;
            match ids.get(i) {
                Some(id) if !id.is_empty() => self.unique.check(id)?,
                _ => {
                    return Err(TableError::Row { row: self.rows, what: "it has no organization_id".into() });
                }
            }
        }
        Ok(Some(ExportBatch { first_row, rows: batch, bytes }))
    }

    /// The file's digest, for whoever is free to hash.
    pub fn digest(&self) -> RunningDigest {
        self.reader.digest().clone()
    }

    /// Reads what is left and says what the whole file was.
    pub fn finish(&mut self) -> Result<TableFile, PipelineError> {
        let facts = self.reader.finish().map_err(|e| self.fail(e))?;
        Ok(TableFile::new(Path::new(&self.name), self.format, facts, self.rows))
    }
}

/// Some rows of an export.
pub struct ExportBatch {
    /// The number of the first of them, from 1.
    pub first_row: u64,
    /// The rows.
    pub rows: RecordBatch,
    /// What they keep in memory, or what they and those that follow them keep together.
    bytes: usize,
}

impl Item for ExportBatch {
    fn bytes(&self) -> usize {
        self.bytes
    }
}

fn read_error(file: &str, source: TableError) -> PipelineError {
    match source {
        TableError::Interrupted => Interrupted.into(),
        source => PipelineError::Read { file: file.to_owned(), source },
    }
}

/// The output on its way: nothing in a dry run.
struct Output {
    name: String,
    writer: Option<Box<dyn table::TableWriter<Hashed<Sink>>>>,
    digest: Option<RunningDigest>,
}

impl Output {
    fn begin(job: &Job<'_>, columns: &Columns, dictionaries: Dictionaries) -> Result<Output, PipelineError> {
        let (name, sink) = match &job.output {
            Destination::DryRun => return Ok(Output { name: String::new(), writer: None, digest: None }),
            Destination::File(path) => (path.display().to_string(), Sink::File(Staged::create(path)?)),
            Destination::Stdout => ("-".to_owned(), Sink::Stdout(io::stdout())),
            Destination::Discarded => ("-".to_owned(), Sink::Nothing(io::sink())),
        };
        let hashed = Hashed::new(sink);
        let digest = hashed.digest().clone();
        let (format, schema) = (job.output_format, columns.schema());
        let writer = table::create(hashed, format, job.compression, schema, dictionaries)
            .map_err(|source| PipelineError::Write { file: name.clone(), source })?;
        Ok(Output { name, writer: Some(writer), digest: Some(digest) })
    }

    fn write(&mut self, done: &Done) -> Result<(), PipelineError> {
        let Some(writer) = &mut self.writer else { return Ok(()) };
        writer.write(&done.rows).map_err(|source| PipelineError::Write { file: self.name.clone(), source })
    }

    /// The whole output's facts, and the file to publish if it is one.
    fn finish(self) -> Result<Option<(FileFacts, Option<Staged>)>, PipelineError> {
        let Some(writer) = self.writer else { return Ok(None) };
        let fail = |source| PipelineError::Write { file: self.name.clone(), source };
        let (facts, sink) = writer.finish().and_then(Hashed::finish).map_err(fail)?;
        Ok(Some((
            facts,
            match sink {
                Sink::File(staged) => Some(staged),
                Sink::Stdout(_) | Sink::Nothing(_) => None,
            },
        )))
    }
}

enum Sink {
    File(Staged),
    Stdout(io::Stdout),
    Nothing(io::Sink),
}

impl Write for Sink {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Sink::File(file) => file.write(buf),
            Sink::Stdout(stdout) => stdout.write(buf),
            Sink::Nothing(sink) => sink.write(buf),
        }
    }
    fn flush(&mut self) -> io::Result<()> {
        match self {
            Sink::File(file) => file.flush(),
            Sink::Stdout(stdout) => stdout.flush(),
            Sink::Nothing(sink) => sink.flush(),
        }
    }
}

/// The sums of a run, and from them the report.
struct Total {
    counts: RewrapCounts,
    failures: Vec<Failure>,
    failures_seen: u64,
    missing_keys: BTreeMap<String, u64>,
    by_source: Vec<u64>,
    work: Work,
    rows_written: u64,
    missing: BTreeSet<OrgId>,
    /// What the output's rows were selected by: now, or when its input was made.
    scope: Option<Vec<OrgId>>,
    source_digests_kept: bool,
    on_failure: OnFailure,
}

impl Total {
    fn new(job: &Job<'_>, input: Option<&Manifest>, source_digests_kept: bool) -> Total {
        let selected = job.scope.as_ref().map(|scope| scope.iter().cloned().collect());
        let keys = job.keyring.keys().len();
        Total {
            counts: RewrapCounts::default(),
            failures: Vec::new(),
            failures_seen: 0,
            missing_keys: BTreeMap::new(),
            by_source: vec![0; keys],
            work: Work { opened: vec![0; keys], ..Work::default() },
            rows_written: 0,
            missing: job.scope.clone().unwrap_or_default(),
            scope: selected.or_else(|| input.and_then(|manifest| manifest.scope.clone())),
            source_digests_kept,
            on_failure: job.on_failure,
        }
    }

    fn add(&mut self, done: &Done) {
        let (sum, part) = (&mut self.counts, &done.counts);
        sum.rows_examined += part.rows_examined;
        sum.rows_updated += part.rows_updated;
        sum.rows_skipped_all_on_target += part.rows_skipped_all_on_target;
        sum.fields_reencrypted += part.fields_reencrypted;
        sum.fields_skipped_on_target += part.fields_skipped_on_target;
        sum.fields_absent += part.fields_absent;
        sum.rows_failed += part.rows_failed;
        self.rows_written += part.rows_examined;
        let room = LISTED_MAX - self.failures.len();
        self.failures.extend(done.failures.iter().take(room).cloned());
        self.failures_seen += done.failures.len() as u64;
        done.missing_keys.iter().for_each(|(key, n)| add_bounded(&mut self.missing_keys, key, *n));
        add_each(&mut self.by_source, &done.by_source);
        add_each(&mut self.work.opened, &done.work.opened);
        self.work.sealed += done.work.sealed;
        self.work.found_on_target += done.work.found_on_target;
        self.work.signing_keys_unchecked += done.work.signing_keys_unchecked;
        for id in &done.met {
            self.missing.remove(id);
        }
    }

    /// Whether a failure keeps the output from being published.
    fn withheld(&self) -> bool {
        self.counts.rows_failed > 0 && self.on_failure == OnFailure::Withhold
    }

    fn check_scope(&self, job: &Job<'_>) -> Result<(), PipelineError> {
        if self.missing.is_empty() {
            return Ok(());
        }
        let first: Vec<_> = self.missing.iter().take(5).map(OrgId::as_str).collect();
        let more = if self.missing.len() > first.len() { ", …" } else { "" };
        Err(PipelineError::UnknownOrgs {
            file: job.input.name(),
            count: self.missing.len(),
            named: first.join(", ") + more,
        })
    }

    /// The keys that opened something, and the target.
    fn key_uses(&self, job: &Job<'_>) -> Vec<KeyUse> {
        let uses = job.keyring.keys().iter().zip(&self.work.opened).enumerate();
        uses.filter(|(i, (_, opened))| *i == job.target || **opened > 0)
            .map(|(_, (key, opened))| KeyUse {
                key_id: key.id().clone(),
                fingerprint: key.fingerprint().to_owned(),
                fields_opened: *opened,
            })
            .collect()
    }

    fn report(
        &self,
        job: &Job<'_>,
        input: TableFile,
        output: Option<TableFile>,
        begun: Instant,
    ) -> RewrapReport {
        let elapsed = begun.elapsed().as_secs_f64();
        let keys = job.keyring.keys();
        let by_source = keys.iter().zip(&self.by_source).filter(|(_, n)| **n > 0);
        RewrapReport {
            command: "rewrap".into(),
            dry_run: job.output == Destination::DryRun,
            current_encryption_key_id: keys[job.target].id().clone(),
            counts: self.counts.clone(),
            failures: self.failures.clone(),
            failures_truncated: self.failures_seen > self.failures.len() as u64,
            fields_by_source_key: by_source.map(|(k, n)| (k.id().as_str().to_owned(), *n)).collect(),
            missing_keys: self.missing_keys.clone(),
            signing_keys_unchecked: self.work.signing_keys_unchecked,
            source_digests_kept: self.source_digests_kept,
            input,
            output,
            manifest: None,
            elapsed_seconds: elapsed,
            rows_per_second: self.counts.rows_examined as f64 / elapsed.max(1e-9),
            threads: job.threads,
        }
    }
}

fn add_each(sum: &mut [u64], part: &[u64]) {
    for (sum, part) in sum.iter_mut().zip(part) {
        *sum += part;
    }
}
