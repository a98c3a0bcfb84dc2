//! Everything that is said to SQLite, for the demo and for evaluation on a laptop.
//!
//! An import is one `BEGIN IMMEDIATE` transaction, which keeps every other writer out from its
//! beginning; so the rows need no locks of their own. SQLite has no SHA-256: rows are compared
//! here, a few hundred at a time. Times and JSON are text, as PostgreSQL would print them.

use super::changes::{Change, Loaded, Row, Source};
use super::connect::failed;
use super::export::{Batches, COLUMNS};
use super::import::{Range, Store};
use super::init::{
    Column, Filling, Generation, KEY_COLUMN, TENANT_COLUMNS, expressions, field_places, key_of,
};
use super::report::{Conflict, Conflicts, ImportCounts, Reason};
use super::{CONFIG, SiteError, TENANTS, Watch};
use crate::manifest::{self, Snapshot};
use crate::row::{Field, KeyId, OrgId, Sha256Digest, is_absent};
use futures_util::TryStreamExt as _;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, Row as _};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

/// How long to wait for another process, where no flag says it.
pub(super) const BUSY: Duration = Duration::from_secs(10);

/// No limit: SQLite counts milliseconds in 31 bits.
pub(super) const FOREVER: Duration = Duration::from_millis(i32::MAX as u64);

/// Rows that are compared at a time.
const CHUNK_ROWS: u64 = 256;

/// The present time, as PostgreSQL prints a `timestamptz` in UTC.
const NOW: &str = "strftime('%Y-%m-%d %H:%M:%f000+00', 'now')";

/// Runs statements without parameters.
pub(super) async fn run(
    connection: &mut SqliteConnection,
    sql: impl Into<String>,
) -> Result<u64, sqlx::Error> {
    Ok(sqlx::raw_sql(AssertSqlSafe(sql.into())).execute(connection).await?.rows_affected())
}

/// The columns of a table; none where there is no such table.
pub(super) async fn columns(
    connection: &mut SqliteConnection,
    table: &str,
) -> Result<BTreeSet<String>, sqlx::Error> {
    let names =
        sqlx::query_scalar::<_, String>("SELECT name FROM pragma_table_info($1)").bind(table.to_owned());
    Ok(names.fetch_all(connection).await?.into_iter().collect())
}

/// Refuses a database that lacks one of the columns.
async fn need(
    connection: &mut SqliteConnection,
    database: &str,
    table: &str,
    wanted: &[&str],
) -> Result<(), SiteError> {
    let there = columns(connection, table).await.map_err(|e| failed("looking at the tables", &e))?;
    let lacking = |what| Err(SiteError::NotASite { database: database.into(), what });
    if there.is_empty() {
        return lacking(format!("has no table {table}: is it the site's?"));
    }
    match wanted.iter().find(|column| !there.contains(**column)) {
        Some(column) => lacking(format!("has a table {table} without the column {column}: not a site's")),
        None => Ok(()),
    }
}

fn text(row: &SqliteRow, index: usize) -> Result<Option<&str>, sqlx::Error> {
    row.try_get(index)
}

/// Reads the rows in one read transaction, in byte order of the id.
pub(super) async fn export(
    connection: &mut SqliteConnection,
    database: &str,
    scope: Option<&BTreeSet<OrgId>>,
    mut batches: Batches<'_>,
) -> Result<Snapshot, SiteError> {
    let fail = |e: sqlx::Error| failed("exporting the rows", &e);
    run(connection, "BEGIN").await.map_err(fail)?;
    need(connection, database, CONFIG, &COLUMNS).await?;
    let version: String =
        sqlx::query_scalar("SELECT sqlite_version()").fetch_one(&mut *connection).await.map_err(fail)?;
    let snapshot = Snapshot { taken_at: manifest::now(), server_version: format!("SQLite {version}") };
    let selected = COLUMNS.map(|c| format!("CAST({c} AS TEXT)")).join(", ");
    let scope = match scope {
        // An OrgId is letters, digits, `_` and `-`: nothing to escape.
        Some(ids) => {
            let ids = ids.iter().map(OrgId::as_str).collect::<Vec<_>>().join("','");
            format!("WHERE organization_id IN ('{ids}')")
        }
        None => String::new(),
    };
    let sql = format!("SELECT {selected} FROM {CONFIG} {scope} ORDER BY organization_id COLLATE BINARY");
    {
        let mut rows = sqlx::query(AssertSqlSafe(sql)).fetch(&mut *connection);
        while let Some(row) = rows.try_next().await.map_err(fail)? {
            let mut values = [None; COLUMNS.len()];
            for (i, value) in values.iter_mut().enumerate() {
                *value = text(&row, i).map_err(fail)?;
            }
            batches.push(values)?;
        }
    }
    batches.finish()?;
    run(connection, "COMMIT").await.map_err(fail)?;
    Ok(snapshot)
}

/// A change, kept until it is put into the temporary table.
struct Loading {
    ord: u64,
    id: String,
    /// For each field: source digest, new text, its digest.
    fields: [(Option<String>, Option<String>); 3],
}

#[derive(Default)]
struct LoadingRows {
    rows: Vec<Loading>,
    bytes: usize,
}

fn keep(to: &mut LoadingRows, ord: u64, row: &Row<'_>) {
    let fields = [0, 1, 2].map(|i| match &row.fields[i] {
        Change::Absent => (None, None),
        Change::Kept { source } => (Some(source.to_string()), None),
        Change::New { source, text, .. } => (Some(source.to_string()), Some((*text).to_owned())),
    });
    to.bytes += row.id.len() + fields.iter().map(|f| 64 + f.1.as_ref().map_or(0, String::len)).sum::<usize>();
    to.rows.push(Loading { ord, id: row.id.to_owned(), fields });
}

/// An import into SQLite: see [`Store`].
pub(super) struct SqliteStore {
    connection: SqliteConnection,
    database: String,
    lock_timeout: u32,
    has_key_column: bool,
    /// The rows that the last [`Store::compare`] found to be written, by their number, with the
    /// number that their version has come to.
    updated: BTreeMap<u64, u64>,
}

impl SqliteStore {
    pub(super) fn new(connection: SqliteConnection, database: String, lock_timeout: u32) -> Self {
        SqliteStore { connection, database, lock_timeout, has_key_column: false, updated: BTreeMap::new() }
    }

    fn fail(&self, doing: &'static str, error: &sqlx::Error) -> SiteError {
        let code = match error {
            sqlx::Error::Database(e) => e.code().and_then(|c| c.parse::<u32>().ok()),
            _ => None,
        };
        // SQLITE_BUSY, in any of its extended forms.
        if code.is_some_and(|c| c & 0xff == 5) {
            return SiteError::LockTimeout { seconds: self.lock_timeout };
        }
        failed(doing, error)
    }

    async fn step(&mut self, doing: &'static str, sql: impl Into<String>) -> Result<u64, SiteError> {
        match run(&mut self.connection, sql).await {
            Ok(rows) => Ok(rows),
            Err(e) => Err(self.fail(doing, &e)),
        }
    }

    /// Some rows of the temporary table with what the site's tables have for them.
    async fn side_by_side(&mut self, first: u64, last: u64) -> Result<Vec<SqliteRow>, SiteError> {
        let key = if self.has_key_column { "CAST(c.encryption_key_id AS TEXT)" } else { "NULL" };
        let sql = format!(
            "SELECT n.ord, n.organization_id, c.organization_id, t.version,
                       n.source_1, n.text_1, CAST(c.encrypted_signing_key_1 AS TEXT),
                       n.source_2, n.text_2, CAST(c.encrypted_signing_key_2 AS TEXT),
                       n.source_3, n.text_3, CAST(c.encrypted_auth_method_config AS TEXT), {key}
                   FROM temp.rekek_new n
                   LEFT JOIN main.tenant_identity_config c ON c.organization_id = n.organization_id
                   LEFT JOIN main.tenants t ON t.organization_id = n.organization_id
                   WHERE n.ord BETWEEN $1 AND $2 ORDER BY n.ord"
        );
        let rows = sqlx::query(AssertSqlSafe(sql))
            .bind(first as i64)
            .bind(last as i64)
            .fetch_all(&mut self.connection)
            .await;
        rows.map_err(|e| self.fail("comparing the rows", &e))
    }
}

/// Where the key's id stands in a row of [`SqliteStore::side_by_side`].
const KEY_AT: usize = 13;

/// What a row's field is, of one row of [`SqliteStore::side_by_side`].
struct Compared<'a> {
    source: Option<Sha256Digest>,
    new: Option<&'a str>,
    now: Option<&'a str>,
}

impl<'a> Compared<'a> {
    fn of(row: &'a SqliteRow, field: Field) -> Result<Self, sqlx::Error> {
        let at = 4 + 3 * field.index();
        let source = text(row, at)?.map(|s| s.parse().expect("loaded from a digest"));
        Ok(Compared { source, new: text(row, at + 1)?, now: text(row, at + 2)? })
    }

    fn is_source(&self) -> bool {
        match self.source {
            Some(source) => self.now.is_some_and(|now| Sha256Digest::of(now) == source),
            None => is_absent(self.now),
        }
    }

    fn is_applied(&self) -> bool {
        match self.new {
            Some(new) => self.now == Some(new),
            None => self.is_source(),
        }
    }
}

/// The number in `V<n>-T<micros>`.
fn version_number(version: &str) -> Option<u64> {
    let digits =
        |s: &str, most: usize| (1..=most).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_digit());
    let (number, time) = version.strip_prefix('V')?.split_once("-T")?;
    if digits(number, 18) && digits(time, 20) { number.parse().ok() } else { None }
}

impl Store for SqliteStore {
    async fn prepare(&mut self) -> Result<(), SiteError> {
        let doing = "preparing the import";
        let mut wanted = vec!["organization_id", "updated_at"];
        wanted.extend(Field::ALL.map(Field::column));
        need(&mut self.connection, &self.database, CONFIG, &wanted).await?;
        need(&mut self.connection, &self.database, TENANTS, &["organization_id", "version"]).await?;
        let there = columns(&mut self.connection, CONFIG).await.map_err(|e| failed(doing, &e))?;
        self.has_key_column = there.contains("encryption_key_id");
        self.step(
            doing,
            "CREATE TEMPORARY TABLE rekek_new (
                 ord INTEGER PRIMARY KEY, organization_id TEXT NOT NULL,
                 source_1 TEXT, text_1 TEXT, source_2 TEXT, text_2 TEXT, source_3 TEXT, text_3 TEXT)",
        )
        .await?;
        Ok(())
    }

    async fn load(&mut self, source: Source, watch: &dyn Watch) -> Result<Loaded, SiteError> {
        let doing = "loading the new values";
        // Only the temporary database is written: this locks nothing of the site's.
        self.step(doing, "BEGIN").await?;
        let mut changes = source.spawn(keep, |chunk: &LoadingRows| chunk.bytes);
        while let Some(chunk) = changes.next().await? {
            for row in chunk.content.rows {
                let mut insert =
                    sqlx::query("INSERT INTO temp.rekek_new VALUES ($1, $2, $3, $4, $5, $6, $7, $8)")
                        .bind(row.ord as i64)
                        .bind(row.id);
                for (source, text) in row.fields {
                    insert = insert.bind(source).bind(text);
                }
                insert.execute(&mut self.connection).await.map_err(|e| failed(doing, &e))?;
            }
            watch.rows(chunk.rows);
        }
        let loaded = changes.end()?;
        self.step(doing, "COMMIT").await?;
        Ok(loaded)
    }

    /// Keeps every other writer out, unless it is only to be read.
    async fn begin(&mut self, read_only: bool) -> Result<(), SiteError> {
        let sql = if read_only { "BEGIN" } else { "BEGIN IMMEDIATE" };
        self.step("beginning the transaction", sql).await.map(drop)
    }

    /// (`BEGIN IMMEDIATE` locked everything.)
    async fn compare(&mut self, range: Range) -> Result<(ImportCounts, Conflicts), SiteError> {
        let (mut counts, mut conflicts) = (ImportCounts::default(), Conflicts::default());
        self.updated.clear();
        let mut first = range.first;
        while first <= range.last {
            let last = range.last.min(first + CHUNK_ROWS - 1);
            for row in self.side_by_side(first, last).await? {
                let fail = |e| failed("comparing the rows", &e);
                let fields = [
                    Compared::of(&row, Field::SigningKey1).map_err(fail)?,
                    Compared::of(&row, Field::SigningKey2).map_err(fail)?,
                    Compared::of(&row, Field::AuthMethodConfig).map_err(fail)?,
                ];
                counts.rows_examined += 1;
                let version = text(&row, 3).map_err(fail)?.and_then(version_number);
                let reason = if text(&row, 2).map_err(fail)?.is_none() {
                    Reason::ConfigNotFound
                } else if fields.iter().all(Compared::is_applied) {
                    counts.rows_already_applied += 1;
                    continue;
                } else if !fields.iter().all(Compared::is_source) {
                    Reason::SourceChanged
                } else if let Some(version) = version {
                    counts.rows_updated += 1;
                    self.updated.insert(row.try_get::<i64, _>(0).map_err(fail)? as u64, version + 1);
                    continue;
                } else {
                    Reason::VersionUnreadable
                };
                counts.rows_conflicted += 1;
                let organization_id = text(&row, 1).map_err(fail)?.unwrap_or_default().to_owned();
                conflicts.push(Conflict { organization_id, reason });
            }
            first = last + 1;
        }
        Ok((counts, conflicts))
    }

    async fn update(&mut self, range: Range, target: &KeyId) -> Result<(u64, u64), SiteError> {
        let doing = "writing the new values";
        let key = if self.has_key_column { ", encryption_key_id = $2" } else { "" };
        let config = format!(
            "UPDATE main.tenant_identity_config AS c SET
                 encrypted_signing_key_1 = coalesce(n.text_1, c.encrypted_signing_key_1),
                 encrypted_signing_key_2 = coalesce(n.text_2, c.encrypted_signing_key_2),
                 encrypted_auth_method_config = coalesce(n.text_3, c.encrypted_auth_method_config),
                 updated_at = {NOW}{key}
             FROM temp.rekek_new n WHERE n.ord = $1 AND c.organization_id = n.organization_id"
        );
        let tenants = "UPDATE main.tenants SET version = $2
                       WHERE organization_id = (SELECT organization_id FROM temp.rekek_new WHERE ord = $1)";
        let mut written = (0, 0);
        let updated: Vec<(u64, u64)> =
            self.updated.range(range.first..=range.last).map(|(ord, number)| (*ord, *number)).collect();
        for (ord, number) in updated {
            let mut query = sqlx::query(AssertSqlSafe(config.clone())).bind(ord as i64);
            if self.has_key_column {
                query = query.bind(target.as_str().to_owned());
            }
            let done = query.execute(&mut self.connection).await.map_err(|e| self.fail(doing, &e))?;
            written.0 += done.rows_affected();
            let micros =
                SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_micros());
            let query = sqlx::query(tenants).bind(ord as i64).bind(format!("V{number}-T{micros}"));
            let done = query.execute(&mut self.connection).await.map_err(|e| self.fail(doing, &e))?;
            written.1 += done.rows_affected();
        }
        Ok(written)
    }

    /// Each row written, with the site's tables as they are now: the texts, the version one
    /// further, the key's id where the table has it.
    async fn read_back(&mut self, range: Range, target: &KeyId) -> Result<u64, SiteError> {
        let fail = |e| failed("reading the values back", &e);
        let (mut wrong, mut first) = (0, range.first);
        while first <= range.last {
            let last = range.last.min(first + CHUNK_ROWS - 1);
            for row in self.side_by_side(first, last).await? {
                let ord = row.try_get::<i64, _>(0).map_err(fail)? as u64;
                let Some(number) = self.updated.get(&ord) else { continue };
                let mut right =
                    text(&row, 3).map_err(fail)?.and_then(version_number).is_some_and(|now| now == *number);
                for field in Field::ALL {
                    right &= Compared::of(&row, field).map_err(fail)?.is_applied();
                }
                if self.has_key_column {
                    right &= text(&row, KEY_AT).map_err(fail)? == Some(target.as_str());
                }
                wrong += u64::from(!right);
            }
            first = last + 1;
        }
        Ok(wrong)
    }

    async fn commit(&mut self) -> Result<(), SiteError> {
        self.step("committing", "COMMIT").await.map(drop)
    }

    async fn rollback(&mut self) -> Result<(), SiteError> {
        self.step("rolling back", "ROLLBACK").await.map(drop)
    }
}

/// Makes the tables and fills them, in one transaction.
pub(super) async fn init(
    connection: &mut SqliteConnection,
    generation: Generation,
    filling: Option<&mut Filling>,
    watch: &dyn Watch,
) -> Result<(), SiteError> {
    let fail = |e: sqlx::Error| failed("making the tables", &e);
    let define = |c: &Column| {
        let kind = if c.integer { "INTEGER" } else { "TEXT" };
        format!("{} {kind}{}", c.name, if c.postgres.contains("NOT NULL") { " NOT NULL" } else { "" })
    };
    let tenants = TENANT_COLUMNS.iter().map(define).collect::<Vec<_>>().join(", ");
    let config = generation.config_columns().map(define).collect::<Vec<_>>().join(", ");
    run(
        connection,
        format!(
            "BEGIN IMMEDIATE;
             CREATE TABLE {TENANTS} (organization_id TEXT NOT NULL PRIMARY KEY, {tenants});
             CREATE TABLE {CONFIG} (
                 organization_id TEXT NOT NULL PRIMARY KEY
                     REFERENCES {TENANTS} (organization_id) ON DELETE CASCADE, {config})"
        ),
    )
    .await
    .map_err(fail)?;
    if let Some(filling) = filling {
        let fail = |e: sqlx::Error| failed("filling the tables", &e);
        let there = filling.columns.clone();
        let mut names: Vec<&str> = there.iter().map(|c| c.0).collect();
        names[0] = "id";
        // One row of values with names, from which both tables are filled.
        let micros = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_micros());
        let parameters = (1..=names.len() + 1).map(|i| format!("${i}")).collect::<Vec<_>>().join(", ");
        let value = |c: &Column| c.name.to_owned();
        let otherwise = |c: &Column| match c.otherwise {
            "version_now" => format!("'V1-T{micros}'"),
            "time_now" => NOW.to_owned(),
            _ if c.name == KEY_COLUMN => "coalesce(key_of_fields, 'unknown')".to_owned(),
            "true" => "'t'".to_owned(),
            sql => sql.to_owned(),
        };
        let inserts = [
            (TENANTS, expressions(&mut TENANT_COLUMNS.iter(), &there, value, otherwise)),
            (CONFIG, expressions(&mut generation.config_columns(), &there, value, otherwise)),
        ]
        .map(|(table, (columns, values))| {
            format!(
                "WITH r ({}, key_of_fields) AS (VALUES ({parameters}))
                 INSERT INTO {table} ({columns}) SELECT {values} FROM r",
                names.join(", ")
            )
        });
        let places = field_places(&there);
        while let Some(rows) = filling.next()? {
            let texts = rows.columns();
            for i in 0..rows.len() {
                let key = key_of(places.map(|p| texts[p].get(i)));
                for sql in &inserts {
                    let mut query = sqlx::query(AssertSqlSafe(sql.clone()));
                    for text in &texts {
                        query = query.bind(text.get(i).map(str::to_owned));
                    }
                    query.bind(key.clone()).execute(&mut *connection).await.map_err(fail)?;
                }
            }
            watch.rows(rows.len() as u64);
        }
    }
    run(connection, "COMMIT").await.map_err(fail)?;
    Ok(())
}
