//! The export: one read-only snapshot of the rows, in byte order of `organization_id`, into a
//! table of any format, with a manifest.
//!
//! It owns [`ExportedBatch`], the proof that a batch came from the database; nothing else can make
//! one. Memory is bounded by a batch.

use super::connect::Database;
use super::report::ExportReport;
use super::{SiteError, Step, Watch, block_on, sql_postgres, sql_sqlite};
use crate::manifest::{self, Manifest, OutputNames, Seals, Snapshot, TableFile, Tool, Vouchers};
use crate::publish::{Existing, Staged};
use crate::report::ManifestFile;
use crate::row::{Field, ORGANIZATION_ID, OrgId, Sha256Digest, is_absent};
use crate::stop::Stop;
use crate::table::{
    BATCH_BYTES, BATCH_ROWS, Compression, Dictionaries, FileFacts, Format, Hashed, TableRows, create,
};
use arrow::array::{Array as _, ArrayRef, AsArray as _, RecordBatch, StringBuilder};
use arrow::datatypes::{DataType, Field as Column, Schema, SchemaRef};
use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

/// The columns of an export, in its order.
pub const COLUMNS: [&str; 6] = [
    ORGANIZATION_ID,
    Field::SigningKey1.column(),
    Field::SigningKey2.column(),
    Field::AuthMethodConfig.column(),
    "signing_key_public_1",
    "signing_key_public_2",
];

/// Where an export goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// A file, published when it is whole.
    File(PathBuf),
    /// Standard output.
    Stdout,
}

/// What to export, and where to.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where to.
    pub output: Output,
    /// In which format.
    pub format: Format,
    /// Only these organizations.
    pub scope: Option<BTreeSet<OrgId>>,
    /// Where the manifest goes; beside a file unless told.
    pub manifest: Option<PathBuf>,
    /// What to do with an output that is there.
    pub existing: Existing,
}

/// Rows that were read from the database.
pub struct ExportedBatch(RecordBatch);

impl TableRows for ExportedBatch {
    fn records(&self) -> &RecordBatch {
        &self.0
    }
}

impl ExportedBatch {
    /// The id of each row, and its ciphertext where it is present.
    pub(super) fn fields(&self) -> impl Iterator<Item = (&str, [Option<&str>; 3])> {
        let ids = self.0.column(0).as_string::<i32>();
        let columns = [1, 2, 3].map(|i| self.0.column(i).as_string::<i32>());
        (0..self.0.num_rows()).map(move |row| {
            let texts =
                columns.map(|c| c.is_valid(row).then(|| c.value(row)).filter(|t| !is_absent(Some(t))));
            (ids.value(row), texts)
        })
    }
}

/// Collects rows into batches: what the SQL of either database pours its rows into.
pub(super) struct Batches<'a> {
    schema: SchemaRef,
    columns: Vec<StringBuilder>,
    rows: usize,
    bytes: usize,
    wanted: Option<BTreeSet<OrgId>>,
    watch: &'a dyn Watch,
    sink: &'a mut dyn FnMut(ExportedBatch) -> Result<(), SiteError>,
}

impl<'a> Batches<'a> {
    pub(super) fn new(
        scope: Option<&BTreeSet<OrgId>>,
        watch: &'a dyn Watch,
        sink: &'a mut dyn FnMut(ExportedBatch) -> Result<(), SiteError>,
    ) -> Self {
        Batches {
            schema: schema(),
            columns: COLUMNS.iter().map(|_| StringBuilder::new()).collect(),
            rows: 0,
            bytes: 0,
            wanted: scope.cloned(),
            watch,
            sink,
        }
    }

    /// One row, in the order of [`COLUMNS`].
    pub(super) fn push(&mut self, row: [Option<&str>; COLUMNS.len()]) -> Result<(), SiteError> {
        if let (Some(wanted), Some(id)) = (&mut self.wanted, row[0].and_then(|id| id.parse().ok())) {
            wanted.remove::<OrgId>(&id);
        }
        for (column, value) in self.columns.iter_mut().zip(row) {
            self.bytes += value.map_or(0, str::len);
            column.append_option(value);
        }
        self.rows += 1;
        if self.rows >= BATCH_ROWS || self.bytes >= BATCH_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), SiteError> {
        if self.rows == 0 {
            return Ok(());
        }
        let arrays = self.columns.iter_mut().map(|c| Arc::new(c.finish()) as ArrayRef).collect();
        let batch =
            RecordBatch::try_new(Arc::clone(&self.schema), arrays).expect("as many columns as the schema");
        self.watch.rows(self.rows as u64);
        (self.rows, self.bytes) = (0, 0);
        (self.sink)(ExportedBatch(batch))
    }

    /// The end of the rows; an organization that was asked for and never came is an error.
    pub(super) fn finish(mut self) -> Result<(), SiteError> {
        self.flush()?;
        match self.wanted.as_ref().and_then(|w| w.first().map(|id| (id.to_string(), w.len() - 1))) {
            Some((first, others)) => Err(SiteError::UnknownOrganization { first, others }),
            None => Ok(()),
        }
    }
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(COLUMNS.map(|name| Column::new(name, DataType::Utf8, true)).to_vec()))
}

/// Reads all rows in one snapshot and gives them to `sink` in batches.
pub(super) async fn read(
    database: &Database,
    scope: Option<&BTreeSet<OrgId>>,
    stop: &Stop,
    watch: &dyn Watch,
    sink: &mut dyn FnMut(ExportedBatch) -> Result<(), SiteError>,
) -> Result<Snapshot, SiteError> {
    watch.step(Step::Reading, None);
    let batches = Batches::new(scope, watch, sink);
    match database {
        Database::Postgres(postgres) => {
            let mut connection = postgres.connect(stop).await?;
            super::unless_stopped(
                stop,
                sql_postgres::export(&mut connection, &database.name(), scope, batches),
            )
            .await
        }
        Database::Sqlite(sqlite) => {
            let mut connection = sqlite.connect(false, sql_sqlite::BUSY).await?;
            super::unless_stopped(stop, sql_sqlite::export(&mut connection, &database.name(), scope, batches))
                .await
        }
    }
}

/// Exports the rows.
pub fn run(
    database: &Database,
    options: &Options,
    stop: &Stop,
    watch: &dyn Watch,
) -> Result<ExportReport, SiteError> {
    let started = Instant::now();
    let names = match (&options.output, &options.manifest) {
        (Output::File(path), told) => Some(OutputNames::new(path, told.as_deref())),
        (Output::Stdout, told) => told.as_deref().map(OutputNames::of_stdout),
    };
    if let Some(names) = &names {
        names.check(options.existing)?;
    }
    let (facts, rows, snapshot, staged) = match &options.output {
        Output::Stdout => {
            let (facts, rows, snapshot, _) = write_table(database, options, stop, watch, io::stdout())?;
            (facts, rows, snapshot, None)
        }
        Output::File(path) => {
            let (facts, rows, snapshot, staged) =
                write_table(database, options, stop, watch, Staged::create(path)?)?;
            (facts, rows, snapshot, Some(staged))
        }
    };
    finish(options, names, staged, facts, rows, snapshot, started)
}

fn write_table<W: Write + Send + 'static>(
    database: &Database,
    options: &Options,
    stop: &Stop,
    watch: &dyn Watch,
    target: W,
) -> Result<(FileFacts, u64, Snapshot, W), SiteError> {
    let name = match &options.output {
        Output::File(path) => path.display().to_string(),
        Output::Stdout => "standard output".to_owned(),
    };
    let table = |source| SiteError::table(&format!("cannot write {name}"), source);
    let hashed = Hashed::new(target);
    let mut writer = create(hashed, options.format, Compression::default(), &schema(), Dictionaries::Varying)
        .map_err(table)?;
    let mut rows = 0;
    let mut sink = |batch: ExportedBatch| {
        rows += batch.0.num_rows() as u64;
        writer.write(&batch).map_err(table)
    };
    let snapshot = block_on(read(database, options.scope.as_ref(), stop, watch, &mut sink))?;
    let (facts, target) = writer.finish().and_then(Hashed::finish).map_err(table)?;
    Ok((facts, rows, snapshot, target))
}

/// Makes the manifest, publishes it, with the output where that is a file, and reports.
fn finish(
    options: &Options,
    names: Option<OutputNames>,
    staged: Option<Staged>,
    facts: FileFacts,
    rows: u64,
    snapshot: Snapshot,
    started: Instant,
) -> Result<ExportReport, SiteError> {
    let path = match &options.output {
        Output::File(path) => path.clone(),
        Output::Stdout => "-".into(),
    };
    let output = TableFile::new(&path, options.format, facts, rows);
    let scope: Option<Vec<OrgId>> = options.scope.as_ref().map(|s| s.iter().cloned().collect());
    let manifest = Manifest {
        format: manifest::FORMAT.into(),
        tool: Tool { name: "rekek-site".into(), version: env!("CARGO_PKG_VERSION").into() },
        created_at: manifest::now(),
        target_key_id: None,
        scope: scope.clone(),
        keys: vec![],
        seals: Seals::default(),
        input: None,
        output: output.clone(),
        report: None,
        snapshot: Some(snapshot.clone()),
    };
    let manifest = match names {
        None => None,
        Some(names) => {
            let bytes = manifest.to_bytes(names.manifest())?;
            let vouchers = Vouchers { manifest: &bytes, signature: None };
            names.publish(staged, Some(vouchers), options.existing)?;
            let file = names.manifest().display().to_string();
            Some(ManifestFile { file, sha256: Sha256Digest::of(&bytes), signature: None })
        }
    };
    Ok(ExportReport {
        command: "export".into(),
        rows,
        scope,
        output,
        manifest,
        snapshot,
        elapsed_seconds: started.elapsed().as_secs_f64(),
    })
}
