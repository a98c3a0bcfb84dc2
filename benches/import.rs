//! An import beside the online way and beside a bare update, on the same rows of one private
//! PostgreSQL with durable commits, in interleaved rounds. Run it with `scripts/bench-import`.
//!
//! - *online*: for each row a select, then a transaction: select for update, update, select and
//!   update of `tenants.version`, commit. (Without its cryptography: what is measured is the
//!   database.)
//! - *import*: `rekek-site import` of a file, the whole process from start to end.
//! - *bare*: one transaction that updates both tables from a table that already holds the new
//!   values and compares nothing. Twice: from a table that holds them as a table does, compressed,
//!   so that the update has only to copy; and from one that holds them plain, so that the update
//!   has to compress them, as any way that brings new values into the database must.
//!
//! - *parts*: what any import that keeps the promises of this one has to do beside the update, each
//!   alone and as cheap as it can be had: loading the values with `COPY` into a temporary table,
//!   locking the rows of both tables in order, and looking at the three values of every row
//!   (fetched, decompressed, digested) twice, before they are replaced and after. With the bare
//!   update their sum is a floor.
//!
//! What came of it, and what was tried, stands in `docs/import-benchmark.md`.

#[allow(dead_code)]
#[path = "../tests/site/cluster.rs"]
mod cluster;

use base64::Engine as _;
use cluster::{Cluster, Durable, Session};
use futures_util::TryStreamExt as _;
use rekek::row::Sha256Digest;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{Connection as _, Executor as _};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |v| v.parse().unwrap_or_else(|_| panic!("{name} is not a number")))
}

/// An envelope of a length that the service's have: random bytes, since nobody opens it.
fn envelope(key: &str, length: usize, state: &mut u64) -> String {
    let mut byte = || {
        // xorshift64: the bytes shall only not compress.
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        (*state >> 32) as u8
    };
    let mut list = |n: usize| (0..n).map(|_| byte().to_string()).collect::<Vec<_>>().join(",");
    let (nonce, ciphertext) = (list(12), list(length));
    let json =
        format!(r#"{{"scheme_version":1,"key_id":"{key}","nonce":[{nonce}],"ciphertext":[{ciphertext}]}}"#);
    base64::engine::general_purpose::STANDARD.encode(json)
}

const LENGTHS: [usize; 3] = [257, 257, 104];

struct Row {
    id: String,
    old: [String; 3],
    new: [String; 3],
}

fn main() {
    let (rows, rounds) = (setting("REKEK_BENCH_ROWS", 20_000), setting("REKEK_BENCH_ROUNDS", 3));
    let with_online = setting("REKEK_BENCH_ONLINE", 1) == 1;
    let mut state = 88_172_645_463_325_252;
    let rows: Vec<Row> = (0..rows)
        .map(|i| Row {
            id: format!("org-{i:07}-Ab9"),
            old: LENGTHS.map(|n| envelope("kv1", n, &mut state)),
            new: LENGTHS.map(|n| envelope("kv2", n, &mut state)),
        })
        .collect();
    let cluster = Cluster::start(Durable::Yes, "");
    let folder = tempfile::tempdir().unwrap();
    write_file(folder.path(), &rows);
    let database = cluster.database(None);
    let url = cluster.url(&database);
    let mut session = cluster.session(&database);
    let server = session.value("current_setting('server_version')");
    println!(
        "{} rows, {rounds} rounds, PostgreSQL {server}, fsync on, settings as PostgreSQL has them",
        rows.len()
    );
    fill(&folder, &url, &mut session);

    let mut took = BTreeMap::<&str, Vec<f64>>::new();
    let mut phases = BTreeMap::<String, Vec<f64>>::new();
    for _ in 0..rounds {
        for way in [LOAD, LOCK, LOOK] {
            reset(&mut session);
            let seconds = part(cluster.port, &database, way);
            took.entry(way).or_default().push(seconds);
        }
        for way in [BARE_COPY, IMPORT, BARE, ONLINE].into_iter().filter(|w| with_online || *w != ONLINE) {
            reset(&mut session);
            let begun = Instant::now();
            match way {
                ONLINE => online(cluster.port, &database, &rows),
                IMPORT => import(folder.path(), &url, &mut phases),
                BARE => bare(&mut session, "new_plain"),
                _ => bare(&mut session, "new_values"),
            }
            took.entry(way).or_default().push(begun.elapsed().as_secs_f64());
            let old = session.value(
                "SELECT count(*) FROM tenant_identity_config c JOIN keep k USING (organization_id)
                                     WHERE c.encrypted_signing_key_1 = k.encrypted_signing_key_1",
            );
            assert_eq!(old, "0", "{way}: every row was written");
        }
    }
    let median = |values: &[f64]| {
        let mut values = values.to_vec();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let import = median(&took[IMPORT]);
    println!("\n{:<58} {:>8} {:>9}  import takes", "way (median)", "seconds", "rows/s");
    for way in [ONLINE, IMPORT, BARE, BARE_COPY].into_iter().filter(|w| with_online || *w != ONLINE) {
        let seconds = median(&took[way]);
        let ratio = match way {
            ONLINE => format!("1/{:.1} of it (goal: 1/8)", seconds / import),
            IMPORT => String::new(),
            _ => format!("{:.2} times as long (goal: 1.3)", import / seconds),
        };
        println!("{way:<58} {seconds:>8.2} {:>9.0}  {ratio}", rows.len() as f64 / seconds);
    }
    println!();
    for way in [LOAD, LOCK, LOOK] {
        println!("{way:<58} {:>8.2}", median(&took[way]));
    }
    let parts = median(&took[LOAD]) + median(&took[LOCK]) + 2.0 * median(&took[LOOK]);
    for way in [BARE, BARE_COPY] {
        let bare = median(&took[way]);
        let floor = parts + bare;
        println!(
            "a floor: with the {way}: {floor:.2} s, {:.2} times the update alone; import takes {:.2} times that",
            floor / bare,
            import / floor
        );
    }
    let parts: Vec<_> = ["check", "load", "compare", "update", "read_back", "commit"]
        .iter()
        .map(|phase| format!("{phase} {:.2}", median(&phases[*phase])))
        .collect();
    println!("\nof the import, seconds: {}", parts.join(", "));
}

const ONLINE: &str = "online: a transaction a row";
const IMPORT: &str = "import: rekek-site, one transaction, the whole process";
const BARE: &str = "bare update, values plain in their table (it compresses)";
const BARE_COPY: &str = "bare update, values compressed in their table (it copies)";

const LOAD: &str = "part: COPY into a temporary table";
const LOCK: &str = "part: locking the rows of both tables in order";
const LOOK: &str = "part: digests of all values of the table";

/// `out.csv`, as `rekek rewrap` would have written it, its manifest, and the rows to begin with.
fn write_file(folder: &Path, rows: &[Row]) {
    use std::fmt::Write as _;
    let names =
        "organization_id,encrypted_signing_key_1,encrypted_signing_key_2,encrypted_auth_method_config";
    let public = r#"{""v"":1,""kid"":""0123456789abcdef0123456789abcdef"",""alg"":""ES256"",""public_pem"":""-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n-----END PUBLIC KEY-----\n""}"#;
    let mut out = format!(
        "{names},source_sha256_signing_key_1,source_sha256_signing_key_2,source_sha256_auth_method_config\n"
    );
    let mut start = format!("{names},signing_key_public_1,signing_key_public_2,issuer,token_endpoint\n");
    for Row { id, old, new } in rows {
        let digests = old.each_ref().map(|text| Sha256Digest::of(text).to_string());
        writeln!(out, "{id},{},{}", new.join(","), digests.join(",")).unwrap();
        writeln!(
            start,
            "{id},{},\"{public}\",\"{public}\",https://issuer.example/{id},https://token.example/{id}",
            old.join(",")
        )
        .unwrap();
    }
    let manifest = serde_json::json!({
        "format": "rekek-manifest/1", "tool": {"name": "bench", "version": "0"}, "created_at": "", "target_key_id": "kv2",
        "scope": null, "keys": [], "seals": {"this_run": 0, "already_in_export": 0}, "input": null,
        "output": {"file": "out.csv", "format": "csv", "bytes": out.len(), "sha256": Sha256Digest::of(&out), "rows": rows.len()},
    });
    std::fs::write(folder.join("out.csv.manifest.json"), manifest.to_string()).unwrap();
    std::fs::write(folder.join("out.csv"), out).unwrap();
    std::fs::write(folder.join("start.csv"), start).unwrap();
}

fn site(folder: &Path, arguments: &[&str]) -> String {
    let ran =
        Command::new(env!("CARGO_BIN_EXE_rekek-site")).args(arguments).current_dir(folder).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8(ran.stdout).unwrap()
}

/// The site's tables, and beside them what they began with and both tables of new values.
fn fill(folder: &tempfile::TempDir, url: &str, session: &mut Session) {
    site(folder.path(), &["init", "--db", url, "--rows", "start.csv"]);
    session.run(
        "CREATE TABLE keep AS SELECT * FROM tenant_identity_config;
         CREATE TABLE keep_tenants AS SELECT * FROM tenants;
         CREATE TABLE new_values (organization_id text PRIMARY KEY, one text, two text, three text);
         CREATE TABLE new_plain (organization_id text PRIMARY KEY, one text, two text, three text)
             WITH (toast_tuple_target = 8160);
         ALTER TABLE new_plain ALTER one SET STORAGE EXTERNAL, ALTER two SET STORAGE EXTERNAL,
             ALTER three SET STORAGE EXTERNAL",
    );
    for table in ["new_values", "new_plain"] {
        let copy = format!("\\copy {table} from program 'cut -d, -f1-4 out.csv' csv header");
        let psql = Command::new("psql")
            .args(["-X", "-q", "-d", url, "-c", &copy])
            .current_dir(folder.path())
            .status();
        assert!(psql.expect("psql is needed for this benchmark").success());
    }
}

/// The tables as they were, as vacuum leaves them, nothing waiting to be written.
fn reset(session: &mut Session) {
    for sql in [
        "TRUNCATE tenants CASCADE",
        "INSERT INTO tenants SELECT * FROM keep_tenants",
        "INSERT INTO tenant_identity_config SELECT * FROM keep",
        "VACUUM (ANALYZE) tenants",
        "VACUUM (ANALYZE) tenant_identity_config",
        "VACUUM (ANALYZE) new_values",
        "VACUUM (ANALYZE) new_plain",
        "CHECKPOINT",
    ] {
        session.run(sql);
    }
}

fn import(folder: &Path, url: &str, phases: &mut BTreeMap<String, Vec<f64>>) {
    let report = site(folder, &["import", "out.csv", "--db", url, "--json"]);
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    for (phase, seconds) in report["phases"].as_object().unwrap() {
        phases.entry(phase.clone()).or_default().push(seconds.as_f64().unwrap());
    }
}

fn bare(session: &mut Session, from: &str) {
    session.run("BEGIN");
    session.run(&format!(
        "UPDATE tenant_identity_config c SET encrypted_signing_key_1 = n.one, encrypted_signing_key_2 = n.two,
             encrypted_auth_method_config = n.three, updated_at = clock_timestamp()
         FROM {from} n WHERE n.organization_id = c.organization_id"
    ));
    session.run(&format!(
        "UPDATE tenants t SET version = 'V2-T' || trunc(extract(epoch FROM clock_timestamp()) * 1000000)::bigint
         FROM {from} n WHERE n.organization_id = t.organization_id"
    ));
    session.run("COMMIT");
}

/// A part of any import, alone; the seconds that it took.
fn part(port: u16, database: &str, part: &str) -> f64 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let options = PgConnectOptions::new_without_pgpass().host("127.0.0.1").port(port);
        let mut connection =
            PgConnection::connect_with(&options.username("postgres").database(database)).await.unwrap();
        if part == LOAD {
            let stream = connection.copy_out_raw("COPY new_plain TO STDOUT (FORMAT binary)").await.unwrap();
            let chunks: Vec<_> = stream.try_collect().await.unwrap();
            let table = "SET temp_buffers = '128MB';
                CREATE TEMPORARY TABLE loaded (organization_id text, one text, two text, three text)
                    WITH (toast_tuple_target = 8160);
                ALTER TABLE loaded ALTER one SET STORAGE EXTERNAL, ALTER two SET STORAGE EXTERNAL,
                    ALTER three SET STORAGE EXTERNAL";
            connection.execute(table).await.unwrap();
            let begun = Instant::now();
            let mut copy = connection.copy_in_raw("COPY loaded FROM STDIN (FORMAT binary)").await.unwrap();
            for chunk in chunks {
                copy.send(chunk).await.unwrap();
            }
            copy.finish().await.unwrap();
            return begun.elapsed().as_secs_f64();
        }
        let begun = Instant::now();
        let statements = if part == LOCK {
            "BEGIN;
             SELECT count(*) FROM (SELECT FROM tenant_identity_config ORDER BY organization_id COLLATE \"C\"
                 FOR NO KEY UPDATE) AS locked;
             SELECT count(*) FROM (SELECT FROM tenants ORDER BY organization_id COLLATE \"C\"
                 FOR NO KEY UPDATE) AS locked;
             COMMIT"
        } else {
            "SET max_parallel_workers_per_gather = 0; SET jit = off;
             SELECT count(sha256(convert_to(encrypted_signing_key_1, 'UTF8'))),
                    count(sha256(convert_to(encrypted_signing_key_2, 'UTF8'))),
                    count(sha256(convert_to(encrypted_auth_method_config, 'UTF8'))) FROM tenant_identity_config"
        };
        connection.execute(statements).await.unwrap();
        begun.elapsed().as_secs_f64()
    })
}

/// The online way, its statements prepared.
fn online(port: u16, database: &str, rows: &[Row]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let options = PgConnectOptions::new_without_pgpass().host("127.0.0.1").port(port);
        let mut connection =
            PgConnection::connect_with(&options.username("postgres").database(database)).await.unwrap();
        for row in rows {
            let select = "SELECT encrypted_signing_key_1, encrypted_signing_key_2, encrypted_auth_method_config
                          FROM tenant_identity_config WHERE organization_id = $1";
            type Texts = (String, String, String);
            let read: Texts = sqlx::query_as(select).bind(&row.id).fetch_one(&mut connection).await.unwrap();
            connection.execute("BEGIN").await.unwrap();
            let select = "SELECT encrypted_signing_key_1, encrypted_signing_key_2, encrypted_auth_method_config
                          FROM tenant_identity_config WHERE organization_id = $1 FOR UPDATE";
            let locked: Texts = sqlx::query_as(select).bind(&row.id).fetch_one(&mut connection).await.unwrap();
            assert_eq!(read, locked);
            let update = "UPDATE tenant_identity_config SET encrypted_signing_key_1 = $2, encrypted_signing_key_2 = $3,
                          encrypted_auth_method_config = $4, updated_at = now() WHERE organization_id = $1";
            let update = sqlx::query(update).bind(&row.id).bind(&row.new[0]).bind(&row.new[1]).bind(&row.new[2]);
            update.execute(&mut connection).await.unwrap();
            let select = "SELECT version FROM tenants WHERE organization_id = $1 FOR UPDATE";
            let version: String = sqlx::query_scalar(select).bind(&row.id).fetch_one(&mut connection).await.unwrap();
            let update = sqlx::query("UPDATE tenants SET version = $2 WHERE organization_id = $1");
            let next = version.replacen("V1-", "V2-", 1);
            update.bind(&row.id).bind(next).execute(&mut connection).await.unwrap();
            connection.execute("COMMIT").await.unwrap();
        }
    });
}
