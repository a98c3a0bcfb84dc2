//! Everything that is said to PostgreSQL (11 or later), in SQL and in `COPY`'s binary format.
//!
//! Each function works in the transaction that its caller began, and names the locks it takes.
//! Statements of an import join the temporary table to the site's tables by index, row by row
//! ([`SETTINGS`]): so the cost follows the rows of the file and not those of the table, and no
//! digest can be taken for a join key (the planner would then digest the whole table).

use super::changes::{Change, Loaded, Row, Source};
use super::connect::{failed, refuses_commit, sqlstate};
use super::export::{Batches, COLUMNS};
use super::import::{Range, Store};
use super::init::{
    Column, Filling, Generation, KEY_COLUMN, TENANT_COLUMNS, expressions, field_places, key_of,
};
use super::report::{Conflict, Conflicts, ImportCounts, Reason};
use super::{CONFIG, Frozen, SiteError, TENANTS, Watch};
use crate::manifest::Snapshot;
use crate::report::LISTED_MAX;
use crate::row::{Field, KeyId, OrgId};
use futures_util::StreamExt as _;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Row as _};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// What every transaction sets for itself.
///
/// - `row_security`: rows that a policy hides would be missing without a word; so it is an error.
/// - `jit`: compiling costs more than these statements.
/// - The time limits are [`no_limits`]' affair.
const SETTINGS: &str = "
    SET LOCAL row_security = off;
    SET LOCAL jit = off;
    SET LOCAL enable_hashjoin = off;
    SET LOCAL enable_mergejoin = off;
    SET LOCAL enable_seqscan = off;
";

/// Pins the `search_path` for the rest of a transaction: see [`Tables::pin`].
const PINNED: &str = "SET LOCAL search_path = pg_catalog, pg_temp";

/// Sets aside the time limits of the transaction or of the session, which are for the service's short
/// statements (`pg_dump` does likewise). `transaction_timeout` is there from PostgreSQL 17 on, and setting
/// what is not there is an error: so the server is asked what it has. (The limit of a statement is set
/// first, so that it does not end the question.)
fn no_limits(of_the_transaction: bool) -> String {
    let local = if of_the_transaction { "LOCAL" } else { "SESSION" };
    format!(
        "SET {local} statement_timeout = 0;
         SELECT pg_catalog.set_config(name, '0', {of_the_transaction}) FROM pg_catalog.pg_settings
         WHERE name OPERATOR(pg_catalog.=) 'idle_in_transaction_session_timeout'
            OR name OPERATOR(pg_catalog.=) 'transaction_timeout';"
    )
}

/// Runs statements without parameters.
async fn run(connection: &mut PgConnection, sql: impl Into<String>) -> Result<u64, sqlx::Error> {
    let done = sqlx::raw_sql(AssertSqlSafe(sql.into())).execute(connection).await?;
    Ok(done.rows_affected())
}

/// The site's tables, as far as the role can see them at all.
#[derive(Default)]
pub(super) struct Tables {
    found: BTreeMap<String, Table>,
    /// The `search_path` by which they were found, which the site's own triggers may go by.
    search_path: String,
}

/// One of them.
struct Table {
    /// With its schema, quoted where that is needed.
    name: String,
    columns: BTreeSet<String>,
}

impl Tables {
    /// Reads the catalogue; locks nothing.
    ///
    /// Nothing in it is looked up by the `search_path` but the tables' names: whoever may create
    /// functions and operators in a schema of the path could have his own called here, with the rights
    /// of this role (CVE-2018-1058).
    async fn read(connection: &mut PgConnection) -> Result<Tables, sqlx::Error> {
        let rows = sqlx::query(
            "SELECT t.name, a.attname::pg_catalog.text, pg_catalog.quote_ident(n.nspname::pg_catalog.text),
                    pg_catalog.current_setting('search_path')
             FROM (VALUES ('tenants'::pg_catalog.text), ('tenant_identity_config')) AS t (name)
             JOIN pg_catalog.pg_class c
               ON c.oid OPERATOR(pg_catalog.=) pg_catalog.to_regclass(t.name)::pg_catalog.oid
             JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
             JOIN pg_catalog.pg_attribute a
               ON a.attrelid OPERATOR(pg_catalog.=) c.oid AND a.attnum OPERATOR(pg_catalog.>) 0
              AND NOT a.attisdropped",
        )
        .persistent(false)
        .fetch_all(connection)
        .await?;
        let mut tables = Tables::default();
        for row in rows {
            let (table, schema): (String, String) = (row.try_get(0)?, row.try_get(2)?);
            let name = format!("{schema}.{table}");
            let found = tables.found.entry(table).or_insert(Table { name, columns: BTreeSet::new() });
            found.columns.insert(row.try_get(1)?);
            tables.search_path = row.try_get(3)?;
        }
        Ok(tables)
    }

    /// Finds the tables by the session's `search_path`, and pins that for the rest of the transaction to
    /// what only a superuser can write to: from here on the tables are named with their schema, and no
    /// name stands for a function of anybody else's (PostgreSQL's manual, CREATE FUNCTION, "Writing
    /// SECURITY DEFINER Functions Safely", has the same rule for the same reason).
    async fn pin(connection: &mut PgConnection) -> Result<Tables, sqlx::Error> {
        let tables = Tables::read(connection).await?;
        run(connection, PINNED).await?;
        Ok(tables)
    }

    /// The name of one that was found, for a statement.
    fn named(&self, table: &'static str) -> &str {
        &self.found.get(table).expect("it was found to be there").name
    }

    fn has(&self, table: &str, column: &str) -> bool {
        self.found.get(table).is_some_and(|found| found.columns.contains(column))
    }

    /// Refuses a database that lacks one of the columns.
    fn need(&self, database: &str, columns: &[(&str, &str)]) -> Result<(), SiteError> {
        let lacking = |what| SiteError::NotASite { database: database.into(), what };
        for (table, column) in columns {
            if !self.found.contains_key(*table) {
                return Err(lacking(format!(
                    "has no table {table} that this role can see: is it the site's, and the search_path right?"
                )));
            }
            if !self.has(table, column) {
                return Err(lacking(format!(
                    "has a table {table} without the column {column}: not a site's"
                )));
            }
        }
        Ok(())
    }
}

/// Refuses where the role lacks one of the rights, and says how to give all that are missing. The
/// `search_path` is pinned.
async fn check_rights(
    connection: &mut PgConnection,
    tables: &Tables,
    needed: &[(&'static str, &'static str, &'static str)],
    temporary: bool,
) -> Result<(), SiteError> {
    let doing = "looking up the rights of the database role";
    let part = |i: usize| needed.iter().map(|n| [n.0, n.1, n.2][i].to_owned()).collect::<Vec<String>>();
    let names = needed.iter().map(|n| tables.named(n.1).to_owned()).collect::<Vec<String>>();
    let rows = sqlx::query(
        "SELECT n.tab, n.priv, string_agg(quote_ident(n.col), ', ')
         FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS n(priv, tab, col, name)
         WHERE NOT has_column_privilege(to_regclass(n.name)::oid, n.col, n.priv)
         GROUP BY 1, 2 ORDER BY 1, 2",
    )
    .bind(part(0))
    .bind(part(1))
    .bind(part(2))
    .bind(names)
    .persistent(false)
    .fetch_all(&mut *connection)
    .await
    .map_err(|e| failed(doing, &e))?;
    let (role, database, may_create): (String, String, bool) = sqlx::query_as(
        "SELECT quote_ident(current_user), quote_ident(current_database()),
                has_database_privilege(current_database(), 'TEMP')",
    )
    .persistent(false)
    .fetch_one(connection)
    .await
    .map_err(|e| failed(doing, &e))?;
    let (mut missing, mut remedy) = (Vec::new(), Vec::new());
    for row in &rows {
        let get = |i: usize| row.try_get::<String, _>(i).map_err(|e| failed(doing, &e));
        let (table, right, columns) = (get(0)?, get(1)?, get(2)?);
        missing.push(format!("{right} on {table} ({columns})"));
        remedy.push(format!("GRANT {right} ({columns}) ON {table} TO {role};"));
    }
    if temporary && !may_create {
        missing.push(format!("TEMPORARY on the database {database}"));
        remedy.push(format!("GRANT TEMPORARY ON DATABASE {database} TO {role};"));
    }
    if missing.is_empty() {
        return Ok(());
    }
    Err(SiteError::Rights { role, missing: missing.join(", "), remedy: remedy.join(" ") })
}

/// Refuses a server or a session in which nothing may be written, before anything is tried. Whoever set
/// `default_transaction_read_only` meant it; it could be overridden by any `BEGIN READ WRITE`.
pub(super) async fn refuse_read_only(connection: &mut PgConnection, database: &str) -> Result<(), SiteError> {
    let (standby, read_only, source): (bool, bool, String) = sqlx::query_as(
        "SELECT pg_catalog.pg_is_in_recovery(), setting OPERATOR(pg_catalog.=) 'on', source
         FROM pg_catalog.pg_settings WHERE name OPERATOR(pg_catalog.=) 'default_transaction_read_only'",
    )
    .persistent(false)
    .fetch_one(connection)
    .await
    .map_err(|e| failed("looking whether the database may be written to", &e))?;
    let database = database.to_owned();
    if standby {
        let what = "is a standby, which takes no writes; name its primary in the URL".into();
        return Err(SiteError::NotASite { database, what });
    }
    if !read_only {
        return Ok(());
    }
    let set = match source.as_str() {
        "client" => Frozen::Client,
        "database user" => Frozen::RoleInDatabase,
        "user" => Frozen::Role,
        "database" => Frozen::Database,
        "global" => Frozen::EveryRole,
        _ => Frozen::Server,
    };
    Err(SiteError::ReadOnly { database, set })
}

/// Copies the rows out of one read-only snapshot, in byte order of the id. Takes the lock of any
/// reader (`ACCESS SHARE`).
pub(super) async fn export(
    connection: &mut PgConnection,
    database: &str,
    scope: Option<&BTreeSet<OrgId>>,
    mut batches: Batches<'_>,
) -> Result<Snapshot, SiteError> {
    let doing = "exporting the rows";
    let fail = |e: sqlx::Error| failed(doing, &e);
    let needed = COLUMNS.map(|column| ("SELECT", CONFIG, column));
    // This works where nothing may be written, too: on a standby, and in a database that is frozen.
    let settings = format!(
        "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
         SET LOCAL row_security = off; SET LOCAL jit = off; {}",
        no_limits(true)
    );
    run(connection, settings).await.map_err(fail)?;
    let tables = Tables::pin(connection).await.map_err(fail)?;
    // The query among the settings took the snapshot, just after now(): what was committed before that is in it.
    let (taken_at, server_version): (String, String) = sqlx::query_as(
        r#"SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
                  'PostgreSQL ' || current_setting('server_version')"#,
    )
    .persistent(false)
    .fetch_one(&mut *connection)
    .await
    .map_err(fail)?;
    tables.need(database, &needed.map(|(_, table, column)| (table, column)))?;
    check_rights(connection, &tables, &needed, false).await?;

    let mut sql = format!(
        "COPY (SELECT organization_id, encrypted_signing_key_1, encrypted_signing_key_2,
                      encrypted_auth_method_config, signing_key_public_1::text, signing_key_public_2::text
               FROM {}",
        tables.named(CONFIG)
    );
    if let Some(scope) = scope {
        // COPY takes no parameters. An OrgId is letters, digits, `_` and `-`: nothing to escape.
        let ids = scope.iter().map(OrgId::as_str).collect::<Vec<_>>().join("','");
        write!(sql, " WHERE organization_id IN ('{ids}')").expect("a String takes it");
    }
    sql.push_str(" ORDER BY organization_id COLLATE \"C\") TO STDOUT (FORMAT binary)");
    let mut stream = connection.copy_out_raw(&sql).await.map_err(fail)?;
    let mut decoder = CopyDecoder::default();
    while let Some(bytes) = stream.next().await {
        decoder.feed(&bytes.map_err(fail)?);
        while let Some(row) = decoder.next_row(doing)? {
            batches.push(row)?;
        }
    }
    decoder.end(doing)?;
    drop(stream);
    batches.finish()?;
    run(connection, "COMMIT").await.map_err(fail)?;
    Ok(Snapshot { taken_at, server_version })
}

/// Reads `COPY … (FORMAT binary)`: a header of 11 bytes, flags, an extension; then for each row
/// the number of its values and each value's length (-1 is null) and bytes; -1 at the end.
/// (PostgreSQL's manual, COPY, "Binary Format".)
#[derive(Default)]
struct CopyDecoder {
    bytes: Vec<u8>,
    at: usize,
    begun: bool,
    ended: bool,
}

impl CopyDecoder {
    fn feed(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.at);
        self.at = 0;
        self.bytes.extend_from_slice(bytes);
    }

    fn next_row(&mut self, doing: &'static str) -> Result<Option<[Option<&str>; COLUMNS.len()]>, SiteError> {
        let strange = || SiteError::Database { doing, what: "the server's COPY data cannot be read".into() };
        let mut rest = &self.bytes[self.at..];
        if !self.begun {
            let Some((header, _)) = rest.split_at_checked(19) else { return Ok(None) };
            if header != b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0" {
                return Err(strange());
            }
            self.begun = true;
            self.at += 19;
            rest = &rest[19..];
        }
        let Some((count, mut rest)) = rest.split_first_chunk::<2>() else { return Ok(None) };
        match i16::from_be_bytes(*count) {
            -1 => {
                self.ended = true;
                self.at += 2;
                return Ok(None);
            }
            n if n as usize == COLUMNS.len() => {}
            _ => return Err(strange()),
        }
        let mut row = [None; COLUMNS.len()];
        let mut length_of_row = 2;
        for value in &mut row {
            let Some((length, after)) = rest.split_first_chunk::<4>() else { return Ok(None) };
            rest = after;
            length_of_row += 4;
            if let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) {
                let Some((bytes, after)) = rest.split_at_checked(length) else { return Ok(None) };
                *value = Some(std::str::from_utf8(bytes).map_err(|_| strange())?);
                rest = after;
                length_of_row += length;
            }
        }
        self.at += length_of_row;
        Ok(Some(row))
    }

    fn end(&self, doing: &'static str) -> Result<(), SiteError> {
        if self.ended {
            return Ok(());
        }
        Err(SiteError::Database { doing, what: "the server's COPY data ended too early".into() })
    }
}

/// `COPY … (FORMAT binary)` for the temporary table: what the loading thread fills.
pub(super) fn encode(to: &mut Vec<u8>, ord: u64, row: &Row<'_>) {
    fn value(to: &mut Vec<u8>, value: Option<&[u8]>) {
        let length = value.map_or(-1, |v| i32::try_from(v.len()).expect("a record is at most 512 MiB"));
        to.extend_from_slice(&length.to_be_bytes());
        to.extend_from_slice(value.unwrap_or_default());
    }
    to.extend_from_slice(&11i16.to_be_bytes());
    value(to, Some(&(ord as i64).to_be_bytes()));
    value(to, Some(row.id.as_bytes()));
    for field in &row.fields {
        let (source, text, digest) = match field {
            Change::Absent => (None, None, None),
            Change::Kept { source } => (Some(source), None, None),
            Change::New { source, text, digest } => (Some(source), Some(text.as_bytes()), Some(digest)),
        };
        value(to, source.map(|s| s.as_bytes().as_slice()));
        value(to, text);
        value(to, digest.map(|d| d.as_bytes().as_slice()));
    }
}

const COPY_HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const COPY_TRAILER: [u8; 2] = (-1i16).to_be_bytes();

/// The digest of a column, as the manifest's side computes it.
fn sha256(column: &str) -> String {
    format!("sha256(convert_to({column}, 'UTF8'))")
}

/// Whether a column is absent: null, or nothing but the six white-space characters.
fn absent(column: &str) -> String {
    format!("coalesce(octet_length(btrim({column}, E' \\t\\n\\x0b\\f\\r')) = 0, true)")
}

/// The number in a version `V<n>-T<micros>`; null where it is spelled otherwise. (A regular
/// expression that says the same, with its bounds, takes eight times as long.)
fn version_number() -> String {
    let (n, micros) = ("split_part(substr(t.version, 2), '-T', 1)", "split_part(t.version, '-T', 2)");
    format!(
        "CASE WHEN t.version = 'V' || {n} || '-T' || {micros} AND btrim({n} || {micros}, '0123456789') = ''
                   AND length({n}) BETWEEN 1 AND 18 AND length({micros}) BETWEEN 1 AND 20
              THEN {n}::bigint END"
    )
}

/// For each field an expression, joined by AND. Each is null-free.
fn all_fields(expression: impl Fn(usize, &str) -> String) -> String {
    Field::ALL.map(|f| format!("({})", expression(f.index() + 1, f.column()))).join(" AND ")
}

/// An import into PostgreSQL: see [`Store`].
pub(super) struct PostgresStore {
    pub(super) connection: PgConnection,
    pub(super) database: String,
    pub(super) lock_timeout: u32,
    pub(super) tables: Tables,
    pub(super) backend: i32,
    /// The transaction that was begun last writes nothing and locks nothing.
    pub(super) read_only: bool,
    /// Every row of the range that was compared last is to be updated: the usual case, which
    /// needs no look at each row's outcome.
    pub(super) all_updated: bool,
}

impl PostgresStore {
    fn fail(&self, doing: &'static str, error: &sqlx::Error) -> SiteError {
        match sqlstate(error) {
            Some("55P03") => SiteError::LockTimeout { seconds: self.lock_timeout },
            Some("40P01") => SiteError::Deadlock { times: 1 },
            // It was looked for at the beginning.
            Some("25006") => SiteError::ReadOnly { database: self.database.clone(), set: Frozen::Meanwhile },
            _ => failed(doing, error),
        }
    }

    /// Whether the first generation's column is there.
    fn has_key_column(&self) -> bool {
        self.tables.has(CONFIG, "encryption_key_id")
    }

    /// Gives the rest of the transaction the `search_path` that the session has.
    async fn restore_path(&mut self, doing: &'static str) -> Result<(), SiteError> {
        sqlx::query("SELECT pg_catalog.set_config('search_path', $1, true)")
            .bind(&self.tables.search_path)
            .persistent(false)
            .execute(&mut self.connection)
            .await
            .map_err(|e| self.fail(doing, &e))?;
        Ok(())
    }

    fn another_session(&self) -> SiteError {
        SiteError::AnotherSession { database: self.database.clone() }
    }

    /// The loaded rows that are to be updated, as `n`, each with its version as `v`.
    fn updated_rows(&self) -> String {
        let all = "pg_temp.rekek_new n JOIN pg_temp.rekek_version v ON v.ord OPERATOR(pg_catalog.=) n.ord";
        if self.all_updated {
            return all.to_owned();
        }
        format!(
            "{all} AND v.number IS NOT NULL JOIN pg_temp.rekek_found f
             ON f.ord OPERATOR(pg_catalog.=) n.ord AND f.state OPERATOR(pg_catalog.=) 'updated'"
        )
    }

    /// Ends the transaction, to be begun anew, if a row that was not found when the others were
    /// locked is there now (deleted and inserted again, say): it is not locked, and what was found
    /// of it is not true any more. A row that is locked cannot go away, and an id stands once in
    /// either table; so where as many are seen as were locked, they are the same.
    async fn appeared(&mut self, range: Range, locked: [u64; 2]) -> Result<(), SiteError> {
        let doing = "looking for rows that were put into the tables meanwhile";
        let (configs, tenants): (i64, i64) = sqlx::query_as(AssertSqlSafe(format!(
            "SELECT count(c.organization_id), count(t.organization_id) FROM pg_temp.rekek_new n
             LEFT JOIN {} c ON c.organization_id = n.organization_id
             LEFT JOIN {} t ON t.organization_id = n.organization_id
             WHERE n.ord BETWEEN {} AND {}",
            self.tables.named(CONFIG),
            self.tables.named(TENANTS),
            range.first,
            range.last
        )))
        .persistent(false)
        .fetch_one(&mut self.connection)
        .await
        .map_err(|e| self.fail(doing, &e))?;
        if [configs as u64, tenants as u64] == locked { Ok(()) } else { Err(SiteError::RowsAppeared) }
    }

    async fn step(&mut self, doing: &'static str, sql: impl Into<String>) -> Result<u64, SiteError> {
        match run(&mut self.connection, sql).await {
            Ok(rows) => Ok(rows),
            Err(e) => Err(self.fail(doing, &e)),
        }
    }
}

impl Store for PostgresStore {
    /// Looks at the tables and the rights, and makes the temporary tables. Locks nothing of the
    /// site's.
    async fn prepare(&mut self) -> Result<(), SiteError> {
        let doing = "preparing the import";
        // For what stands outside of transactions: the loading of a large file must not end by a
        // role's usual limits for short statements.
        self.step(doing, no_limits(false)).await?;
        // One transaction: what is looked up here is looked up by the server's own functions.
        self.step(doing, "START TRANSACTION").await?;
        self.tables = Tables::pin(&mut self.connection).await.map_err(|e| failed(doing, &e))?;
        let (version, backend): (i32, i32) =
            sqlx::query_as("SELECT current_setting('server_version_num')::int, pg_backend_pid()")
                .persistent(false)
                .fetch_one(&mut self.connection)
                .await
                .map_err(|e| failed(doing, &e))?;
        self.backend = backend;
        if version < 110_000 {
            let what = "is older than PostgreSQL 11, which is the first that can compute SHA-256".into();
            return Err(SiteError::NotASite { database: self.database.clone(), what });
        }
        refuse_read_only(&mut self.connection, &self.database).await?;
        let mut needed = vec![
            ("SELECT", CONFIG, "organization_id"),
            ("SELECT", TENANTS, "organization_id"),
            ("SELECT", TENANTS, "version"),
            ("UPDATE", TENANTS, "version"),
            ("UPDATE", CONFIG, "updated_at"),
        ];
        for field in Field::ALL {
            needed.push(("SELECT", CONFIG, field.column()));
            needed.push(("UPDATE", CONFIG, field.column()));
        }
        if self.has_key_column() {
            needed.push(("SELECT", CONFIG, "encryption_key_id"));
            needed.push(("UPDATE", CONFIG, "encryption_key_id"));
        }
        let columns: Vec<_> = needed.iter().map(|(_, table, column)| (*table, *column)).collect();
        self.tables.need(&self.database, &columns)?;
        check_rights(&mut self.connection, &self.tables, &needed, true).await?;

        // A site may have triggers on events, such as the making of a table, which find what they name by the
        // path that the site gave them.
        self.restore_path(doing).await?;
        // Where the server can (14), it looks whether we are still there, so that the locks of an
        // importer that was killed go away at once and not at the end of its statement.
        let check = if version >= 140_000 { "SET client_connection_check_interval = '1s';" } else { "" };
        let seconds = self.lock_timeout;
        // Every step reads the temporary table again: with the usual 8 MB of buffers it would be
        // written to a file and read back each time. Memory is taken as the table needs it.
        // Values stay as they are in the temporary table, inline up to a page: it is for the
        // site's table to compress them, in the way the site chose.
        let external: String = (1..=3).fold(String::new(), |mut sql, i| {
            write!(sql, "ALTER TABLE pg_temp.rekek_new ALTER text_{i} SET STORAGE EXTERNAL;")
                .expect("a String");
            sql
        });
        self.step(
            doing,
            format!(
                "SET lock_timeout = '{seconds}s'; SET temp_buffers = '128MB'; {check}
                 CREATE TEMPORARY TABLE rekek_new (
                     ord bigint PRIMARY KEY, organization_id pg_catalog.text NOT NULL,
                     source_1 pg_catalog.bytea, text_1 pg_catalog.text, digest_1 pg_catalog.bytea,
                     source_2 pg_catalog.bytea, text_2 pg_catalog.text, digest_2 pg_catalog.bytea,
                     source_3 pg_catalog.bytea, text_3 pg_catalog.text, digest_3 pg_catalog.bytea
                 ) WITH (toast_tuple_target = 8160, autovacuum_enabled = off);
                 {external}
                 CREATE TEMPORARY TABLE rekek_found (
                     ord bigint PRIMARY KEY, state pg_catalog.text NOT NULL
                 ) ON COMMIT DELETE ROWS;
                 CREATE TEMPORARY TABLE rekek_version (
                     ord bigint PRIMARY KEY, number bigint
                 ) ON COMMIT DELETE ROWS;
                 CREATE TEMPORARY VIEW rekek_outcome AS
                 SELECT n.ord, n.organization_id,
                     CASE WHEN f.ord IS NULL THEN 'config_not_found'
                          WHEN f.state OPERATOR(pg_catalog.=) 'updated' AND v.number IS NULL THEN 'version_unreadable'
                          ELSE f.state END AS outcome
                 FROM pg_temp.rekek_new n
                 LEFT JOIN pg_temp.rekek_found f ON f.ord OPERATOR(pg_catalog.=) n.ord
                 LEFT JOIN pg_temp.rekek_version v ON v.ord OPERATOR(pg_catalog.=) n.ord;
                 COMMIT;"
            ),
        )
        .await?;
        Ok(())
    }

    /// Copies the changes into the temporary table.
    async fn load(&mut self, source: Source, watch: &dyn Watch) -> Result<Loaded, SiteError> {
        let doing = "loading the new values";
        let mut changes = source.spawn(encode, |chunk: &Vec<u8>| chunk.len());
        let statement = "COPY pg_temp.rekek_new FROM STDIN (FORMAT binary)";
        let mut copy = self.connection.copy_in_raw(statement).await.map_err(|e| failed(doing, &e))?;
        copy.send(COPY_HEADER).await.map_err(|e| failed(doing, &e))?;
        let loaded = loop {
            match changes.next().await {
                Ok(Some(chunk)) => {
                    copy.send(chunk.content).await.map_err(|e| failed(doing, &e))?;
                    watch.rows(chunk.rows);
                }
                Ok(None) => break changes.end()?,
                Err(e) => {
                    // Whatever the server says to that, the file's fault is what counts.
                    let _ = copy.abort("the file is not as it should be").await;
                    return Err(e);
                }
            }
        };
        copy.send(COPY_TRAILER.as_slice()).await.map_err(|e| failed(doing, &e))?;
        copy.finish().await.map_err(|e| failed(doing, &e))?;
        Ok(loaded)
    }

    async fn begin(&mut self, read_only: bool) -> Result<(), SiteError> {
        // Not READ WRITE: a database that is frozen while batches are committed is left alone from then on.
        let mode = if read_only { "READ ONLY" } else { "" };
        // A commit that a crash could take back would let the old key be retired too early.
        let durable = "SELECT set_config('synchronous_commit', 'on', true)
                       WHERE current_setting('synchronous_commit') = 'off'";
        let limits = no_limits(true);
        let sql =
            format!("BEGIN ISOLATION LEVEL READ COMMITTED {mode}; {PINNED}; {SETTINGS} {limits} {durable}");
        let doing = "beginning the transaction";
        self.read_only = read_only;
        self.step(doing, sql).await?;
        // Behind a pooler that gives each transaction another session there may even be a temporary table,
        // of an import before this one.
        let backend: i32 = sqlx::query_scalar("SELECT pg_backend_pid()")
            .persistent(false)
            .fetch_one(&mut self.connection)
            .await
            .map_err(|e| self.fail(doing, &e))?;
        if backend == self.backend { Ok(()) } else { Err(self.another_session()) }
    }

    /// Locks the configuration rows, then the tenants' rows, each in byte order of the id:
    /// `FOR NO KEY UPDATE`, the lock that the updates themselves need. Readers are not held up,
    /// nor are foreign keys' checks. In a read-only transaction nothing is locked.
    ///
    /// The same statement that locks a row looks at it, which saves fetching each value from its
    /// TOAST table once more. Where it waited for another session, PostgreSQL (READ COMMITTED)
    /// evaluates what it selects anew from the version that it locked in the end; so what is found
    /// is what is locked. A row that came into the table after the statement's snapshot is neither:
    /// see [`PostgresStore::appeared`].
    ///
    /// A row can be unchanged since the export or already applied but not both, since one of its
    /// new texts has another digest than its source: the usual one is looked for first.
    async fn compare(&mut self, range: Range) -> Result<(ImportCounts, Conflicts), SiteError> {
        let doing = "locking and comparing the rows";
        let Range { first, last } = range;
        let is_source = |i: usize, column: &str| {
            let (digest, absent) = (sha256(&format!("t.{column}")), absent(&format!("t.{column}")));
            format!(
                "CASE WHEN n.source_{i} IS NULL THEN {absent} ELSE coalesce({digest} = n.source_{i}, false) END"
            )
        };
        let applied = all_fields(|i, column| {
            let source = is_source(i, column);
            format!(
                "CASE WHEN n.text_{i} IS NULL THEN {source} ELSE coalesce(t.{column} = n.text_{i}, false) END"
            )
        });
        let unchanged_since = all_fields(is_source);
        let state = format!(
            "CASE WHEN {unchanged_since} THEN 'updated' WHEN {applied} THEN 'already_applied' \
             ELSE 'source_changed' END"
        );
        let number = version_number();
        let lock = if self.read_only { "" } else { "FOR NO KEY UPDATE OF t" };
        let mut found = [0; 2];
        for ((table, into, value), found) in
            [(CONFIG, "rekek_found", state.as_str()), (TENANTS, "rekek_version", number.as_str())]
                .into_iter()
                .zip(&mut found)
        {
            let table = self.tables.named(table).to_owned();
            *found = self
                .step(
                    doing,
                    format!(
                        "INSERT INTO pg_temp.{into} SELECT ord, value FROM (
                             SELECT n.ord, {value} AS value
                             FROM pg_temp.rekek_new n JOIN {table} t ON t.organization_id = n.organization_id
                             WHERE n.ord BETWEEN {first} AND {last}
                             ORDER BY t.organization_id COLLATE \"C\" {lock}
                         ) AS found"
                    ),
                )
                .await?;
        }
        let rows = last + 1 - first;
        if !self.read_only && found != [rows; 2] {
            self.appeared(range, found).await?;
        }

        let mut counts = ImportCounts::default();
        let outcomes: Vec<(String, i64)> = sqlx::query_as(
            "SELECT outcome, count(*) FROM pg_temp.rekek_outcome WHERE ord BETWEEN $1 AND $2 GROUP BY outcome",
        )
        .bind(first as i64)
        .bind(last as i64)
        .persistent(false)
        .fetch_all(&mut self.connection)
        .await
        .map_err(|e| failed(doing, &e))?;
        for (outcome, rows) in outcomes {
            counts.rows_examined += rows as u64;
            *match outcome.as_str() {
                "updated" => &mut counts.rows_updated,
                "already_applied" => &mut counts.rows_already_applied,
                _ => &mut counts.rows_conflicted,
            } += rows as u64;
        }
        if counts.rows_examined != rows {
            return Err(self.another_session());
        }
        self.all_updated = counts.rows_updated == counts.rows_examined;
        let mut conflicts = Conflicts::default();
        if counts.rows_conflicted > 0 {
            let rows: Vec<(String, String)> = sqlx::query_as(
                "SELECT organization_id, outcome FROM pg_temp.rekek_outcome
                 WHERE ord BETWEEN $1 AND $2 AND outcome NOT IN ('updated', 'already_applied')
                 ORDER BY ord LIMIT $3",
            )
            .bind(first as i64)
            .bind(last as i64)
            .bind(LISTED_MAX as i64 + 1)
            .persistent(false)
            .fetch_all(&mut self.connection)
            .await
            .map_err(|e| failed(doing, &e))?;
            for (organization_id, outcome) in rows {
                let reason = match outcome.as_str() {
                    "config_not_found" => Reason::ConfigNotFound,
                    "version_unreadable" => Reason::VersionUnreadable,
                    _ => Reason::SourceChanged,
                };
                conflicts.push(Conflict { organization_id, reason });
            }
        }
        Ok((counts, conflicts))
    }

    /// Writes the rows that are `updated`. The rows are locked already; nothing more is.
    ///
    /// The site's triggers run here and find what they name by the session's `search_path`, as they do
    /// for the service; so the two statements name the server's functions and operators in full.
    async fn update(&mut self, range: Range, target: &KeyId) -> Result<(u64, u64), SiteError> {
        let doing = "writing the new values";
        let (first, last) = (range.first, range.last);
        self.restore_path(doing).await?;
        // coalesce hands the stored value of an unchanged field through, compressed as it is.
        let columns = Field::ALL.map(|f| {
            let (column, i) = (f.column(), f.index() + 1);
            format!("{column} = coalesce(n.text_{i}, c.{column})")
        });
        let key = if self.has_key_column() { ", encryption_key_id = $1" } else { "" };
        let updated = self.updated_rows();
        let rows = format!(
            "FROM {updated} WHERE n.ord OPERATOR(pg_catalog.>=) {first} AND n.ord OPERATOR(pg_catalog.<=) {last}"
        );
        let sql = format!(
            "UPDATE {} c SET {}, updated_at = pg_catalog.clock_timestamp(){key}
             {rows} AND c.organization_id OPERATOR(pg_catalog.=) n.organization_id",
            self.tables.named(CONFIG),
            columns.join(", ")
        );
        let mut query = sqlx::query(AssertSqlSafe(sql)).persistent(false);
        if self.has_key_column() {
            query = query.bind(target.as_str());
        }
        let configs = match query.execute(&mut self.connection).await {
            Ok(done) => done.rows_affected(),
            Err(e) => return Err(self.fail(doing, &e)),
        };
        let sql = format!(
            "UPDATE {} t
             SET version = pg_catalog.concat('V', v.number OPERATOR(pg_catalog.+) 1, '-T', pg_catalog.trunc(
                 extract(epoch FROM pg_catalog.clock_timestamp()) OPERATOR(pg_catalog.*) 1000000)::bigint)
             {rows} AND t.organization_id OPERATOR(pg_catalog.=) n.organization_id",
            self.tables.named(TENANTS)
        );
        let tenants = self.step("moving tenants.version on", sql).await?;
        Ok((configs, tenants))
    }

    /// How many of the rows written do not hold what was to be written: the texts, the version one
    /// further, the key's id where the table has it. What is deferred to the commit comes first, and with
    /// it the last of the site's triggers.
    async fn read_back(&mut self, range: Range, target: &KeyId) -> Result<u64, SiteError> {
        let doing = "reading the digests back";
        self.step(doing, format!("SET CONSTRAINTS ALL IMMEDIATE; {PINNED}")).await?;
        let (first, last) = (range.first, range.last);
        let as_written = all_fields(|i, column| {
            let (digest, absent) = (sha256(&format!("c.{column}")), absent(&format!("c.{column}")));
            format!(
                "CASE WHEN n.source_{i} IS NULL THEN {absent}
                      ELSE coalesce({digest} = coalesce(n.digest_{i}, n.source_{i}), false) END"
            )
        });
        let updated = self.updated_rows();
        let key = if self.has_key_column() { "AND c.encryption_key_id IS NOT DISTINCT FROM $1" } else { "" };
        let sql = format!(
            "SELECT count(*) FILTER (WHERE NOT (
                 c.organization_id IS NOT NULL AND {as_written} {key}
                 AND coalesce(starts_with(t.version, 'V' || (v.number + 1) || '-T'), false)
             ))
             FROM {updated}
             LEFT JOIN {} c ON c.organization_id = n.organization_id
             LEFT JOIN {} t ON t.organization_id = n.organization_id
             WHERE n.ord BETWEEN {first} AND {last}",
            self.tables.named(CONFIG),
            self.tables.named(TENANTS)
        );
        let mut query = sqlx::query_scalar::<_, i64>(AssertSqlSafe(sql)).persistent(false);
        if self.has_key_column() {
            query = query.bind(target.as_str());
        }
        match query.fetch_one(&mut self.connection).await {
            Ok(wrong) => Ok(wrong as u64),
            Err(e) => Err(self.fail(doing, &e)),
        }
    }

    async fn commit(&mut self) -> Result<(), SiteError> {
        match run(&mut self.connection, "COMMIT").await {
            Ok(_) => Ok(()),
            Err(e) if refuses_commit(&e) => Err(self.fail("committing", &e)),
            Err(_) => Err(SiteError::LostAtCommit),
        }
    }

    async fn rollback(&mut self) -> Result<(), SiteError> {
        self.step("rolling back", "ROLLBACK").await.map(drop)
    }
}

/// Ends another session of the same role, so that what it holds is free now and not when the
/// server notices that its client is gone.
pub(super) async fn end_session(connection: &mut PgConnection, backend: i32) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT pg_catalog.pg_terminate_backend($1)")
        .bind(backend)
        .persistent(false)
        .execute(&mut *connection)
        .await?;
    for _ in 0..100 {
        let there: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT FROM pg_catalog.pg_stat_activity WHERE pid OPERATOR(pg_catalog.=) $1)",
        )
        .bind(backend)
        .persistent(false)
        .fetch_one(&mut *connection)
        .await?;
        if !there {
            break;
        }
        tokio::time::sleep(super::TICK).await;
    }
    Ok(())
}

/// The first of the site's tables that is there.
pub(super) async fn has_table(connection: &mut PgConnection) -> Result<Option<&'static str>, SiteError> {
    let tables = Tables::read(connection).await.map_err(|e| failed("looking at the tables", &e))?;
    Ok([TENANTS, CONFIG].into_iter().find(|table| tables.found.contains_key(*table)))
}

/// Makes the tables and fills them, in one transaction.
pub(super) async fn init(
    connection: &mut PgConnection,
    generation: Generation,
    filling: Option<&mut Filling>,
    watch: &dyn Watch,
) -> Result<(), SiteError> {
    let doing = "making the tables";
    let fail = |e: sqlx::Error| failed(doing, &e);
    let definitions = |columns: &mut dyn Iterator<Item = &'static Column>| {
        columns.map(|c| format!("{} {}", c.name, c.postgres)).collect::<Vec<_>>().join(", ")
    };
    let tenants = definitions(&mut TENANT_COLUMNS.iter());
    let config = definitions(&mut generation.config_columns());
    run(
        connection,
        format!(
            "BEGIN;
             CREATE TYPE tenant_identity_current_signing_key_slot_t AS ENUM ('signing_key_1', 'signing_key_2');
             CREATE TYPE token_delegation_auth_method_t AS ENUM ('none', 'client_secret_basic');
             CREATE TABLE {TENANTS} (organization_id text PRIMARY KEY, {tenants});
             CREATE TABLE {CONFIG} (
                 organization_id text PRIMARY KEY REFERENCES {TENANTS} (organization_id) ON DELETE CASCADE, {config})"
        ),
    )
    .await
    .map_err(fail)?;
    if let Some(filling) = filling {
        let columns = filling.columns.clone();
        let mut names: Vec<&str> = columns.iter().map(|c| c.0).collect();
        names[0] = "id";
        let staged = names.iter().map(|n| format!("{n} text")).collect::<Vec<_>>().join(", ");
        run(
            connection,
            format!("CREATE TEMPORARY TABLE rekek_rows ({staged}, key_of_fields text) ON COMMIT DROP"),
        )
        .await
        .map_err(fail)?;
        let doing = "filling the tables";
        let fail = |e: sqlx::Error| failed(doing, &e);
        let places = field_places(&columns);
        let mut copy = connection
            .copy_in_raw("COPY pg_temp.rekek_rows FROM STDIN (FORMAT binary)")
            .await
            .map_err(fail)?;
        copy.send(COPY_HEADER).await.map_err(fail)?;
        loop {
            let rows = match filling.next() {
                Ok(Some(rows)) => rows,
                Ok(None) => break,
                Err(e) => {
                    let _ = copy.abort("the file is not as it should be").await;
                    return Err(e);
                }
            };
            let texts = rows.columns();
            let mut bytes = Vec::new();
            for i in 0..rows.len() {
                bytes.extend_from_slice(&(columns.len() as i16 + 1).to_be_bytes());
                let key = key_of(places.map(|p| texts[p].get(i)));
                for value in texts.iter().map(|t| t.get(i)).chain([key.as_deref()]) {
                    let length = value.map_or(-1, |v| v.len() as i32);
                    bytes.extend_from_slice(&length.to_be_bytes());
                    bytes.extend_from_slice(value.unwrap_or_default().as_bytes());
                }
            }
            copy.send(bytes).await.map_err(fail)?;
            watch.rows(rows.len() as u64);
        }
        copy.send(COPY_TRAILER.as_slice()).await.map_err(fail)?;
        copy.finish().await.map_err(fail)?;

        let kind = |c: &Column| c.postgres.split(" NOT NULL").next().unwrap_or(c.postgres).to_owned();
        let value = |c: &Column| format!("r.{}::{}", c.name, kind(c));
        let otherwise = |c: &Column| match c.otherwise {
            "version_now" => {
                "'V1-T' || trunc(extract(epoch FROM clock_timestamp()) * 1000000)::bigint".to_owned()
            }
            "time_now" => "now()".to_owned(),
            _ if c.name == KEY_COLUMN => "coalesce(key_of_fields, 'unknown')".to_owned(),
            sql if sql.starts_with('\'') && !sql.contains("||") => format!("{sql}::{}", kind(c)),
            sql => sql.to_owned(),
        };
        for (table, (names, values)) in [
            (TENANTS, expressions(&mut TENANT_COLUMNS.iter(), &columns, value, otherwise)),
            (CONFIG, expressions(&mut generation.config_columns(), &columns, value, otherwise)),
        ] {
            run(
                connection,
                format!("INSERT INTO {table} ({names}) SELECT {values} FROM pg_temp.rekek_rows r"),
            )
            .await
            .map_err(fail)?;
        }
    }
    run(connection, "COMMIT").await.map_err(fail)?;
    Ok(())
}
