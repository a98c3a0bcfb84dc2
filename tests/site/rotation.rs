//! Whole rotations, start to end.

use crate::cluster::Cluster;
use crate::support::{BOTH, Kind, Rehearsal, counts};
use rekek::table::Format;

#[test]
fn a_rotation_ends_with_the_old_key_unused() {
    for kind in BOTH {
        for generation in [1, 2] {
            let r = Rehearsal::of(kind, 60, generation).rewrapped();
            let before = r.state();
            let fields = r.fields_under("kv1");
            assert!(fields > 60, "{fields}");

            let dry = r.import("--dry-run");
            assert_eq!(dry.status, 0, "{}", dry.stderr);
            let [updated, 0, unchanged, 0] = counts(&dry) else { panic!("{}", dry.stdout) };
            assert_eq!((updated + unchanged, dry.json()["committed"].as_bool()), (60, Some(false)));
            assert_eq!(r.state(), before, "a dry run changes nothing");

            let real = r.import("");
            assert_eq!((real.status, real.stderr.as_str()), (0, ""));
            assert_eq!(counts(&real), [updated, 0, unchanged, 0]);
            assert_eq!(real.json()["committed"].as_bool(), Some(true));
            assert_eq!(real.json()["batches_committed"].as_u64(), Some(1));
            assert_eq!((r.fields_under("kv1"), r.fields_under("kv2")), (0, fields), "{kind:?}");
            r.folder.write("import.json", &real.stdout);
            let record = r.folder.rekek("report out.csv.manifest.json --import import.json -o -").good();
            assert!(
                record.contains(&format!("✓ Committed, {updated} rows updated, no conflict.")),
                "{record}"
            );

            // The next export re-wraps to all skipped, and the next import finds all applied.
            let again = r.import("");
            assert_eq!((again.status, counts(&again)), (0, [0, updated, unchanged, 0]));
            r.site("export -o second.csv").good();
            let line = "rewrap second.csv -o second-out.csv --secrets secrets.json --to kv2 --json";
            let report = r.folder.rekek(line).json();
            assert_eq!((&report["rows_updated"], &report["rows_failed"]), (&0.into(), &0.into()));

            if generation == 1 {
                let sql = "SELECT count(*) FROM tenant_identity_config WHERE encryption_key_id = 'kv2'";
                assert_eq!(r.value(sql), updated.to_string(), "{kind:?}");
            }
        }
    }
}

#[test]
fn versions_move_on_and_unchanged_rows_are_not_touched() {
    for kind in BOTH {
        let r = Rehearsal::of(kind, 60, 2);
        r.sql("UPDATE tenants SET version = 'V41-T1700000000000000'");
        r.sql("UPDATE tenant_identity_config SET updated_at = '2020-01-01 00:00:00+00'");
        let r = r.rewrapped();
        let [updated, ..] = counts(&r.import(""));
        let count = |sql: &str| r.value(&format!("SELECT count(*) FROM {sql}"));
        assert_eq!(
            count("tenants WHERE version LIKE 'V42-T_%' AND version > 'V42-T17000'"),
            updated.to_string()
        );
        assert_eq!(count("tenants WHERE version = 'V41-T1700000000000000'"), (60 - updated).to_string());
        let touched = "tenant_identity_config WHERE updated_at > '2021-01-01 00:00:00+00'";
        assert_eq!(count(touched), updated.to_string());
        assert!(updated < 60, "some rows have no ciphertext");
        // The time in the version is microseconds of now.
        let micros: u64 =
            r.value("SELECT max(substr(version, 6)) FROM tenants WHERE version LIKE 'V42%'").parse().unwrap();
        let now =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_micros() as u64;
        assert!(now.abs_diff(micros) < 60_000_000, "{micros} against {now}");
    }
}

#[test]
fn any_format_crosses() {
    use clap::ValueEnum as _;
    for format in Format::value_variants() {
        let r = Rehearsal::postgres(20);
        let name = format.name();
        r.site(&format!("export -o export.{name}")).good();
        let rewrap = format!("rewrap export.{name} -o out.{name} --secrets secrets.json --to kv2");
        assert_eq!(r.folder.rekek(&rewrap).status, 0);
        let ran = r.site(&format!("import out.{name} --json"));
        assert_eq!((ran.status, counts(&ran)[3]), (0, 0), "{name}: {}", ran.stderr);
        assert_eq!(r.fields_under("kv1"), 0);
    }
}

#[test]
fn init_leaves_nothing_of_an_export_that_is_spoilt() {
    let r = Rehearsal::of(Kind::Sqlite, 30, 2);
    let spoilt = r.folder.read("made.csv").replacen("org-0000020", "org 0000020", 1);
    r.folder.write("spoilt.csv", spoilt);
    let cluster = Cluster::shared();
    let empty = cluster.database(None);
    for url in ["sqlite:new.db", &cluster.url(&empty)] {
        let before = r.folder.names();
        let ran = r.site_on(url, "init --rows spoilt.csv");
        assert_eq!(ran.status, 1);
        assert!(
            ran.stderr.contains("the organization id is missing or not spelled as one"),
            "{}",
            ran.stderr
        );
        assert_eq!(r.folder.names(), before, "no file that was not there before");
        assert_eq!(r.site_on(url, "init --rows made.csv").status, 0);
    }
    // A file that was there stays.
    r.folder.write("mine.db", "");
    assert_eq!(r.site_on("sqlite:mine.db", "init --rows spoilt.csv").status, 1);
    assert!(r.path("mine.db").exists());
}

/// The export as operators make it without rekek-site.
#[test]
fn an_export_that_psql_wrote_is_as_good() {
    let r = Rehearsal::postgres(60);
    let copy =
        "\\copy (select * from tenant_identity_config order by organization_id) to 'export.csv' csv header";
    psql(&r, copy);
    r.rewrap("export.csv", "out.csv", "kv2");
    let verify = r.folder.rekek("verify out.csv --secrets secrets.json --source export.csv");
    assert_eq!(verify.status, 0, "{}", verify.stderr);
    let ran = r.import("");
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""));
    assert_eq!((counts(&ran)[3], r.fields_under("kv1")), (0, 0));
}

fn psql(r: &Rehearsal<'_>, command: &str) {
    let psql = std::process::Command::new("psql")
        .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", &r.url, "-c", command])
        .current_dir(r.path(""))
        .output()
        .expect("psql is needed for this test: install postgresql-client");
    assert!(psql.status.success(), "{}", String::from_utf8_lossy(&psql.stderr));
}

/// Everything that an output has is there for another reader: psql loads it, and PostgreSQL's own SHA-256 says of
/// every source digest that it is that of the text which the database holds, whatever the columns' types.
#[test]
fn psql_reads_an_output_back() {
    let r = Rehearsal::postgres(60);
    let columns = "select * from tenant_identity_config order by organization_id";
    psql(&r, &format!("\\copy ({columns}) to 'export.csv' csv header"));
    r.rewrap("export.csv", "out.csv", "kv2");
    r.sql(
        "CREATE TABLE output (LIKE tenant_identity_config, source_sha256_signing_key_1 text,
             source_sha256_signing_key_2 text, source_sha256_auth_method_config text)",
    );
    psql(&r, "\\copy output from 'out.csv' csv header");
    let mut digests = 0;
    for field in ["signing_key_1", "signing_key_2", "auth_method_config"] {
        let sql = format!(
            "SELECT count(*) FROM output o JOIN tenant_identity_config t USING (organization_id)
             WHERE o.source_sha256_{field} IS DISTINCT FROM encode(sha256(t.encrypted_{field}::bytea), 'hex')
                OR (o.encrypted_{field} = t.encrypted_{field}) "
        );
        assert_eq!(r.value(&sql), "0", "{field}");
        let sql = format!("SELECT count(source_sha256_{field}) FROM output");
        digests += r.value(&sql).parse::<u64>().unwrap();
    }
    assert_eq!((r.value("SELECT count(*) FROM output").as_str(), digests), ("60", r.fields_under("kv1")));
    // What is not re-wrapped came through untouched.
    let rest = "to_jsonb(x) - ARRAY['encrypted_signing_key_1', 'encrypted_signing_key_2', 'encrypted_auth_method_config',
        'source_sha256_signing_key_1', 'source_sha256_signing_key_2', 'source_sha256_auth_method_config']";
    let [before, after] = ["tenant_identity_config", "output"].map(|table| {
        r.value(&format!("SELECT string_agg(({rest})::text, ',' ORDER BY organization_id) FROM {table} x"))
    });
    assert_eq!(before, after);
}

#[test]
fn batches_are_committed_one_by_one_and_a_second_run_resumes() {
    for kind in BOTH {
        let r = Rehearsal::of(kind, 60, 2).rewrapped();
        let ran = r.import("--batch-rows 10");
        let [updated, 0, _, 0] = counts(&ran) else { panic!("{}", ran.stderr) };
        assert_eq!(ran.json()["batches_committed"].as_u64(), Some(updated.div_ceil(10)));
        assert_eq!((r.fields_under("kv1"), ran.json()["committed"].as_bool()), (0, Some(true)));
        let ran = r.import("--batch-rows 7");
        assert_eq!((ran.status, counts(&ran)[1]), (0, updated));
    }
}

#[test]
fn a_batched_import_that_was_stopped_says_how_far_it_came_and_resumes() {
    let r = Rehearsal::postgres(60);
    r.sql("UPDATE tenants SET version = 'V1-T1700000000000000'");
    let r = r.rewrapped();
    let ids = r.ids();
    let mut other = r.session();
    other.run(&format!("BEGIN; SELECT FROM tenants WHERE organization_id = '{}' FOR UPDATE", ids[30]));
    let ran = r.import("--batch-rows 5 --lock-timeout 1 --report stopped.json");
    assert_eq!(ran.status, 1);
    // What was committed before is documented, though it ended by an error.
    let report = ran.json();
    assert_eq!(serde_json::from_str::<serde_json::Value>(&r.folder.read("stopped.json")).unwrap(), report);
    let batches = report["batches_committed"].as_u64().unwrap();
    assert_eq!(report["committed"].as_bool(), Some(false));
    assert_eq!((counts(&ran)[0], counts(&ran)[3]), (batches * 5, 0));
    let moved = "SELECT count(*) FROM tenants WHERE version LIKE 'V2-%'";
    assert_eq!(r.value(moved), (batches * 5).to_string());
    assert!(ran.stderr.contains("another session held a lock for more than 1 s"), "{}", ran.stderr);
    assert!(ran.stderr.contains("batches with") && ran.stderr.contains("were committed"), "{}", ran.stderr);
    let left = r.fields_under("kv1");
    assert!(left > 0);
    other.run("ROLLBACK");
    let ran = r.import("--batch-rows 5");
    let [updated, applied, _, 0] = counts(&ran) else { panic!("{}", ran.stderr) };
    assert!(updated > 0 && applied >= 25 && applied % 5 == 0, "{updated} {applied}");
    assert_eq!(r.fields_under("kv1"), 0);
}

#[test]
fn init_refuses_a_database_that_has_the_tables() {
    for kind in BOTH {
        let r = Rehearsal::of(kind, 3, 2);
        let before = r.site("export -o one.csv").good();
        let ran = r.site("init --rows made.csv");
        assert_eq!(ran.status, 1);
        assert!(
            ran.stderr.contains("has a table tenants already; init makes a new site only"),
            "{}",
            ran.stderr
        );
        assert!(!before.is_empty());
    }
    // Half a site is no empty database either.
    let cluster = Cluster::shared();
    let r = Rehearsal::of(Kind::Sqlite, 3, 2);
    let half = cluster.database(None);
    cluster.session(&half).run("CREATE TABLE tenant_identity_config (organization_id text)");
    assert_eq!(r.site_on(&cluster.url(&half), "init").status, 1);
}
