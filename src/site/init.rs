//! An empty site, for the demo and for tests: the tables of both generations, filled from an
//! export where one is given.
//!
//! It refuses a database that has either table, and makes and fills them in one transaction. A
//! file of SQLite that it made is gone again where that does not succeed.

use super::connect::Database;
use super::report::InitReport;
use super::{CONFIG, SiteError, Step, TENANTS, Watch, block_on, sql_postgres, sql_sqlite, unless_stopped};
use crate::row::{Field, OrgId};
use crate::stop::Stop;
use crate::table::{Format, Input, Layout, OpenOptions, TableError, TableReader, Text, UniqueIds, open};
use arrow::array::RecordBatch;
use std::ffi::OsString;
use std::path::Path;
use std::time::Instant;

/// Which columns the tables have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Generation {
    /// With `encryption_key_id`.
    First,
    /// Without it.
    Second,
}

/// What to make.
#[derive(Debug, Clone)]
pub struct Options {
    /// Which generation.
    pub generation: Generation,
    /// Rows to fill the tables with: any of the tables' columns, by name.
    pub rows: Option<Input>,
    /// Their format, where the name does not say it.
    pub format: Option<Format>,
}

/// A column of the tables: its name, its type in PostgreSQL, what it gets where the export has no
/// value (SQL; `id` stands for the organization's id), and whether SQLite calls it an integer.
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) postgres: &'static str,
    pub(super) otherwise: &'static str,
    pub(super) integer: bool,
}

const fn column(name: &'static str, postgres: &'static str, otherwise: &'static str) -> Column {
    Column { name, postgres, otherwise, integer: false }
}

/// Columns of [`TENANTS`] after the id. The version's default is given by each database's SQL.
pub(super) const TENANT_COLUMNS: [Column; 3] = [
    column("organization_name", "text NOT NULL", "id"),
    column("version", "varchar(64) NOT NULL", "version_now"),
    column("routing_profile_type", "varchar(64)", "NULL"),
];

/// Columns of [`CONFIG`] after the id.
pub(super) const CONFIG_COLUMNS: [Column; 20] = [
    column("issuer", "varchar(512) NOT NULL", "'https://issuer.invalid/' || id"),
    column("default_audience", "varchar(255) NOT NULL", "'audience'"),
    column("allowed_audiences", "jsonb NOT NULL", "'[]'"),
    Column { name: "token_ttl_sec", postgres: "integer NOT NULL", otherwise: "3600", integer: true },
    column("subject_prefix", "varchar(255) NOT NULL", "'subject'"),
    column("enabled", "boolean NOT NULL DEFAULT true", "true"),
    column("created_at", "timestamptz NOT NULL DEFAULT now()", "time_now"),
    column("updated_at", "timestamptz NOT NULL DEFAULT now()", "time_now"),
    column("encrypted_signing_key_1", "text", "NULL"),
    column("encrypted_signing_key_2", "text", "NULL"),
    column("signing_key_public_1", "jsonb", "NULL"),
    column("signing_key_public_2", "jsonb", "NULL"),
    column(
        "current_signing_key_slot",
        "tenant_identity_current_signing_key_slot_t NOT NULL DEFAULT 'signing_key_1'",
        "'signing_key_1'",
    ),
    column("non_active_slot_expires_at", "timestamptz", "NULL"),
    column(KEY_COLUMN, "varchar(255) NOT NULL", "'unknown'"),
    column("token_endpoint", "varchar(512)", "NULL"),
    column("auth_method", "token_delegation_auth_method_t", "NULL"),
    column("encrypted_auth_method_config", "text", "NULL"),
    column("subject_token_audience", "varchar(255)", "NULL"),
    column("token_delegation_created_at", "timestamptz", "NULL"),
];

/// The column that only the first generation has.
pub(super) const KEY_COLUMN: &str = "encryption_key_id";

impl Generation {
    /// Its columns of [`CONFIG`].
    pub(super) fn config_columns(self) -> impl Iterator<Item = &'static Column> {
        CONFIG_COLUMNS.iter().filter(move |c| c.name != KEY_COLUMN || self == Generation::First)
    }
}

/// Rows on their way into the tables: every known column that the export has, as text.
pub(super) struct Filling {
    name: String,
    reader: Box<dyn TableReader>,
    layout: Layout,
    unique: UniqueIds,
    rows: u64,
    /// Names of the known columns, the id first, and where each stands in the file.
    pub(super) columns: Vec<(&'static str, usize)>,
    ignored: Vec<String>,
}

impl Filling {
    fn open(input: &Input, format: Option<Format>, stop: &Stop) -> Result<Filling, SiteError> {
        let name = input.name();
        let options = OpenOptions { format, stop: stop.clone(), ..OpenOptions::default() };
        let fail = |e| SiteError::table(&name, e);
        let reader = open(input, &options).map_err(fail)?;
        let layout = Layout::of(reader.schema()).map_err(fail)?;
        let known: Vec<&'static str> = TENANT_COLUMNS.iter().chain(&CONFIG_COLUMNS).map(|c| c.name).collect();
        let mut columns = vec![(crate::row::ORGANIZATION_ID, layout.organization_id)];
        let mut ignored = Vec::new();
        for (i, field) in reader.schema().fields().iter().enumerate() {
            if let Some(known) = known.iter().find(|k| *k == field.name()) {
                columns.push((*known, i));
            } else if i != layout.organization_id {
                ignored.push(crate::row::printable(field.name()));
            }
        }
        let unique = UniqueIds::new(input, &options);
        Ok(Filling { name, reader, layout, unique, rows: 0, columns, ignored })
    }

    /// The next rows, each with its values in the order of [`Filling::columns`].
    pub(super) fn next(&mut self) -> Result<Option<Rows>, SiteError> {
        let fail = |name: &str, e| SiteError::table(name, e);
        let Some(batch) = self.reader.next_batch().map_err(|e| fail(&self.name, e))? else { return Ok(None) };
        let texts = self.layout.texts(&batch);
        for i in 0..batch.num_rows() {
            self.rows += 1;
            let id = texts.organization_id.get(i).unwrap_or_default();
            if !OrgId::is_valid(id) {
                let what = "the organization id is missing or not spelled as one".into();
                return Err(fail(&self.name, TableError::Row { row: self.rows, what }));
            }
            self.unique.check(id).map_err(|e| fail(&self.name, e))?;
        }
        for (name, i) in &self.columns {
            if Text::of(batch.column(*i)).is_none() {
                return Err(fail(&self.name, TableError::Table(format!("the column {name} is not text"))));
            }
        }
        Ok(Some(Rows { columns: self.columns.iter().map(|c| c.1).collect(), batch }))
    }
}

/// Some rows of a [`Filling`].
pub(super) struct Rows {
    batch: RecordBatch,
    columns: Vec<usize>,
}

impl Rows {
    pub(super) fn len(&self) -> usize {
        self.batch.num_rows()
    }

    pub(super) fn columns(&self) -> Vec<Text<'_>> {
        let text = |i: &usize| Text::of(self.batch.column(*i)).expect("Filling::next checked the types");
        self.columns.iter().map(text).collect()
    }
}

/// Makes the tables, and fills them.
pub fn run(
    database: &Database,
    options: &Options,
    stop: &Stop,
    watch: &dyn Watch,
) -> Result<InitReport, SiteError> {
    let started = Instant::now();
    let mut filling = match &options.rows {
        Some(input) => Some(Filling::open(input, options.format, stop)?),
        None => None,
    };
    watch.step(Step::Loading, None);
    let has = |table: &str| SiteError::NotASite {
        database: database.name(),
        what: format!("has a table {table} already; init makes a new site only"),
    };
    let made = match database {
        Database::Sqlite(sqlite) if !sqlite.path().exists() => Some(sqlite.path()),
        _ => None,
    };
    let ended = block_on(unless_stopped(stop, async {
        match database {
            Database::Postgres(postgres) => {
                let mut connection = postgres.connect(stop).await?;
                sql_postgres::refuse_read_only(&mut connection, &database.name()).await?;
                if let Some(table) = sql_postgres::has_table(&mut connection).await? {
                    return Err(has(table));
                }
                sql_postgres::init(&mut connection, options.generation, filling.as_mut(), watch).await
            }
            Database::Sqlite(sqlite) => {
                let mut connection = sqlite.connect(true, sql_sqlite::BUSY).await?;
                for table in [TENANTS, CONFIG] {
                    let columns = sql_sqlite::columns(&mut connection, table).await;
                    if !columns.map_err(|e| super::connect::failed("looking at the tables", &e))?.is_empty() {
                        return Err(has(table));
                    }
                }
                sql_sqlite::init(&mut connection, options.generation, filling.as_mut(), watch).await
            }
        }
    }));
    if let (Err(_), Some(path)) = (&ended, made) {
        // It was not there before, and holds nothing. What SQLite keeps beside it is its journal.
        for path in [path.to_owned(), path.with_file_name(journal_name(path))] {
            let _ = std::fs::remove_file(path);
        }
    }
    ended?;
    let rows = filling.as_ref().map_or(0, |f| f.rows);
    Ok(InitReport {
        command: "init".into(),
        generation: match options.generation {
            Generation::First => 1,
            Generation::Second => 2,
        },
        rows,
        columns_ignored: filling.map_or(vec![], |f| f.ignored),
        elapsed_seconds: started.elapsed().as_secs_f64(),
    })
}

fn journal_name(database: &Path) -> OsString {
    let mut name = database.file_name().unwrap_or_default().to_owned();
    name.push("-journal");
    name
}

/// `INSERT … SELECT` expressions for the columns of one table, given which of them the staging
/// table has: `value` turns a column that is there, `otherwise` a default, into SQL.
pub(super) fn expressions(
    columns: &mut dyn Iterator<Item = &'static Column>,
    there: &[(&'static str, usize)],
    value: impl Fn(&Column) -> String,
    otherwise: impl Fn(&Column) -> String,
) -> (String, String) {
    let (mut names, mut values) = (vec!["organization_id".to_owned()], vec!["id".to_owned()]);
    for column in columns {
        names.push(column.name.to_owned());
        let default = otherwise(column);
        values.push(if there.iter().any(|(name, _)| *name == column.name) {
            format!("coalesce({}, {default})", value(column))
        } else {
            default
        });
    }
    (names.join(", "), values.join(", "))
}

/// A sensible key id for the first generation's column: the first ciphertext's, as far as anyone
/// can read it.
pub(super) fn key_of(texts: [Option<&str>; 3]) -> Option<String> {
    let mut present = texts.into_iter().flatten();
    present.find_map(|text| crate::envelope::independent::read(text).ok()).map(|envelope| envelope.key_id)
}

/// Where the ciphertext columns stand among [`Filling::columns`].
pub(super) fn field_places(columns: &[(&'static str, usize)]) -> [usize; 3] {
    Field::ALL.map(|f| columns.iter().position(|c| c.0 == f.column()).expect("Layout::of asks for all three"))
}
