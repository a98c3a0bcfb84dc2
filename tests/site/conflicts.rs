//! Rows that somebody changed since the export: typed, listed, and never written.

use crate::support::{BOTH, CONFIG, Kind, Rehearsal, counts, finished};
use serde_json::{Value, json};

/// Changes that the service makes (SCHEMA.md, "Who else writes"), and what they are called.
fn changes(id: &str) -> [(String, &'static str); 6] {
    let row = |set: &str| format!("UPDATE {CONFIG} SET {set} WHERE organization_id = '{id}'");
    [
        (row("encrypted_signing_key_1 = 'rotated'"), "source_changed"),
        (row("encrypted_signing_key_1 = NULL, signing_key_public_1 = NULL"), "source_changed"),
        (row("encrypted_auth_method_config = 'set by the service'"), "source_changed"),
        (format!("DELETE FROM {CONFIG} WHERE organization_id = '{id}'"), "config_not_found"),
        (format!("DELETE FROM tenants WHERE organization_id = '{id}'"), "config_not_found"),
        (
            format!("UPDATE tenants SET version = 'version 7' WHERE organization_id = '{id}'"),
            "version_unreadable",
        ),
    ]
}

#[test]
fn a_row_that_was_changed_is_left_alone() {
    for kind in BOTH {
        for number in 0..6 {
            let r = Rehearsal::of(kind, 12, 2).rewrapped();
            let id = r.ids()[2].clone();
            let (sql, reason) = changes(&id)[number].clone();
            r.sql(&sql);
            let before = r.state();

            let aborted = r.import("");
            assert_eq!(aborted.status, 3, "{kind:?} {sql}: {}", aborted.stderr);
            let report = aborted.json();
            assert_eq!(report["conflicts"], json!([{"organization_id": id, "reason": reason}]), "{sql}");
            assert_eq!((&report["committed"], &report["batches_committed"]), (&json!(false), &json!(0)));
            let advice = match reason {
                "source_changed" => "export and re-wrap again what was changed (--org)",
                "config_not_found" => "what was deleted needs nothing, if it is the right database",
                _ => "mend tenants.version where it cannot be read, and import again",
            };
            let left = "rekek-site: 1 row conflicts and was left as it is";
            let said =
                format!("{left}, nothing was written; {advice}; --on-conflict skip writes the other rows\n");
            assert!(aborted.stderr.ends_with(&said), "{}", aborted.stderr);
            assert_eq!(r.state(), before, "abort writes nothing: {sql}");

            // In batches too nothing is written, however late the conflict stands.
            let batched = r.import("--batch-rows 1");
            assert_eq!((batched.status, &batched.json()["conflicts"]), (3, &report["conflicts"]));
            assert_eq!(r.state(), before);

            let skipped = r.import("--on-conflict skip");
            assert_eq!((skipped.status, counts(&skipped)[3]), (3, 1), "{}", skipped.stderr);
            assert_eq!(skipped.json()["committed"], json!(true));
            let said = format!("{left}, the other rows were written; {advice}\n");
            assert!(skipped.stderr.ends_with(&said), "{}", skipped.stderr);
            let rest = counts(&r.import("--on-conflict skip"));
            assert_eq!((rest[0], rest[3]), (0, 1), "the rest is applied, the row still is not");
        }
    }
}

/// A configuration without its row of tenants (the foreign key forbids it, but a restore may lack that key):
/// there is no version to move on. The text for people says what the reason's name does not.
#[test]
fn a_row_that_is_missing_in_tenants_is_a_version_that_cannot_be_read() {
    for kind in BOTH {
        let r = Rehearsal::of(kind, 12, 2).rewrapped();
        let id = r.ids()[2].clone();
        let unbound = match kind {
            Kind::Postgres => format!("ALTER TABLE {CONFIG} DROP CONSTRAINT {CONFIG}_organization_id_fkey"),
            Kind::Sqlite => "PRAGMA foreign_keys = off".to_owned(),
        };
        r.sql(&format!("{unbound}; DELETE FROM tenants WHERE organization_id = '{id}'"));
        let kept = format!("SELECT count(*) FROM {CONFIG} WHERE organization_id = '{id}'");
        assert_eq!(r.value(&kept), "1");
        let before = r.state();
        let ran = r.import("");
        assert_eq!(ran.status, 3, "{kind:?}: {}", ran.stderr);
        assert_eq!(ran.json()["conflicts"], json!([{"organization_id": id, "reason": "version_unreadable"}]));
        let said = r.site("import out.csv --site-config site.toml").stdout;
        let line = format!(
            "{id}: version_unreadable (no row in tenants, or its version there is not spelled V<n>-T<micros>)\n"
        );
        assert!(said.contains(&line), "{said}");
        assert_eq!(r.state(), before);
    }
}

#[test]
fn white_space_for_nothing_is_no_change() {
    for kind in BOTH {
        let r = Rehearsal::of(kind, 30, 2).rewrapped();
        // The six white-space characters, in both databases the same.
        let white = match kind {
            Kind::Postgres => "E' \\t\\n\\x0b\\f\\r'",
            Kind::Sqlite => "char(32, 9, 10, 11, 12, 13)",
        };
        let absent = format!(
            "SELECT count(*) FROM {CONFIG} WHERE encrypted_signing_key_1 IS NOT NULL AND encrypted_auth_method_config IS NULL"
        );
        assert_ne!(r.value(&absent), "0");
        r.sql(&format!("UPDATE {CONFIG} SET encrypted_auth_method_config = {white} WHERE encrypted_auth_method_config IS NULL"));
        let ran = r.import("");
        assert_eq!((ran.status, counts(&ran)[3]), (0, 0), "{kind:?}: {}", ran.stderr);
        // Another kind of space is a value.
        let r = Rehearsal::of(kind, 30, 2).rewrapped();
        r.sql(&format!("UPDATE {CONFIG} SET encrypted_auth_method_config = '\u{a0}' WHERE encrypted_auth_method_config IS NULL"));
        assert_eq!(r.import("").status, 3);
    }
}

#[test]
fn a_thousand_conflicts_are_listed_and_all_are_counted() {
    let r = Rehearsal::postgres(1100).rewrapped();
    r.sql(&format!(
        "UPDATE {CONFIG} SET encrypted_signing_key_1 = 'rotated' WHERE encrypted_signing_key_1 IS NOT NULL"
    ));
    let report = r.import("").json();
    let all = r.ids().len() as u64;
    assert!(all > 1000);
    assert_eq!(report["rows_conflicted"], json!(all));
    assert_eq!(report["conflicts"].as_array().map(Vec::len), Some(1000));
    assert_eq!(report["conflicts_truncated"], json!(true));
    let first: Vec<Value> =
        r.ids()[..3].iter().map(|id| json!({"organization_id": id, "reason": "source_changed"})).collect();
    assert_eq!(report["conflicts"].as_array().unwrap()[..3], first, "in the order of the file");
}

/// A rotation as the service does it, on a row that an import is about to write.
const WAITING: &str = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'rekek-site'
                       AND wait_event_type = 'Lock' AND datname = current_database()";

#[test]
fn a_rotation_that_commits_while_the_import_waits_for_it_is_kept() {
    let r = Rehearsal::postgres(20).rewrapped();
    let id = r.ids()[5].clone();
    let mut service = r.session();
    service.run(&format!(
        "BEGIN; UPDATE {CONFIG} SET encrypted_signing_key_2 = 'the new key' WHERE organization_id = '{id}'"
    ));
    let import = r.start_import("");
    r.session().wait_for(WAITING, "1");
    service.run("COMMIT");
    let ran = finished(import);
    assert_eq!(ran.status, 3, "{}", ran.stderr);
    assert_eq!(ran.json()["conflicts"], json!([{"organization_id": id, "reason": "source_changed"}]));
    let kept = format!("SELECT encrypted_signing_key_2 FROM {CONFIG} WHERE organization_id = '{id}'");
    assert_eq!(r.value(&kept), "the new key");
    assert_eq!(r.fields_under("kv2"), 0);
}

#[test]
fn a_rotation_that_is_taken_back_while_the_import_waits_is_no_conflict() {
    let r = Rehearsal::postgres(20).rewrapped();
    let id = r.ids()[5].clone();
    let mut service = r.session();
    service.run(&format!(
        "BEGIN; UPDATE {CONFIG} SET encrypted_signing_key_2 = 'x' WHERE organization_id = '{id}'"
    ));
    let import = r.start_import("");
    r.session().wait_for(WAITING, "1");
    service.run("ROLLBACK");
    let ran = finished(import);
    assert_eq!((ran.status, counts(&ran)[3], r.fields_under("kv1")), (0, 0, 0), "{}", ran.stderr);
}

/// What is written is the row that was locked in the end, and only the columns that are the import's.
#[test]
fn another_column_that_changes_while_the_import_waits_is_kept_and_no_conflict() {
    let r = Rehearsal::postgres(20).rewrapped();
    let id = r.ids()[5].clone();
    let mut service = r.session();
    service.run(&format!(
        "BEGIN; UPDATE {CONFIG} SET issuer = 'https://new.example' WHERE organization_id = '{id}';
         UPDATE tenants SET version = 'V41-T1700000000000000' WHERE organization_id = '{id}'"
    ));
    let import = r.start_import("");
    r.session().wait_for(WAITING, "1");
    service.run("COMMIT");
    let ran = finished(import);
    assert_eq!((ran.status, counts(&ran)[3], r.fields_under("kv1")), (0, 0, 0), "{}", ran.stderr);
    let kept = format!(
        "SELECT issuer || ' ' || substr(version, 1, 5) FROM {CONFIG} JOIN tenants USING (organization_id)
         WHERE organization_id = '{id}'"
    );
    assert_eq!(r.value(&kept), "https://new.example V42-T");
}

#[test]
fn a_delete_that_commits_while_the_import_waits_is_seen() {
    let r = Rehearsal::postgres(20).rewrapped();
    let id = r.ids()[5].clone();
    let mut service = r.session();
    service.run(&format!("BEGIN; DELETE FROM tenants WHERE organization_id = '{id}'"));
    let import = r.start_import("");
    r.session().wait_for(WAITING, "1");
    service.run("COMMIT");
    let ran = finished(import);
    assert_eq!(ran.json()["conflicts"], json!([{"organization_id": id, "reason": "config_not_found"}]));
}

#[test]
fn a_rotation_that_comes_while_the_import_holds_the_row_waits_and_is_kept() {
    let r = Rehearsal::postgres(20).rewrapped();
    let ids = r.ids();
    let (first, last) = (ids[0].clone(), ids[ids.len() - 1].clone());
    // Somebody holds the last row, so the import stands still with all others locked.
    let mut holder = r.session();
    holder.run(&format!("BEGIN; SELECT FROM {CONFIG} WHERE organization_id = '{last}' FOR UPDATE"));
    let import = r.start_import("");
    r.session().wait_for(WAITING, "1");
    let mut service = r.session();
    let rotate =
        format!("UPDATE {CONFIG} SET encrypted_signing_key_1 = 'newest' WHERE organization_id = '{first}'");
    let rotation = std::thread::spawn(move || service.run(&rotate));
    r.session().wait_for(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()",
        "2",
    );
    // Readers are not held up meanwhile.
    assert_eq!(r.value(&format!("SELECT count(*) FROM {CONFIG}")), "20");
    holder.run("ROLLBACK");
    let ran = finished(import);
    assert_eq!((ran.status, counts(&ran)[3]), (0, 0), "{}", ran.stderr);
    assert_eq!(rotation.join().unwrap(), 1);
    let kept = format!("SELECT encrypted_signing_key_1 FROM {CONFIG} WHERE organization_id = '{first}'");
    assert_eq!(r.value(&kept), "newest");
}

/// A conflict that comes up after the comparison that precedes the batches.
#[test]
fn a_late_conflict_stops_a_batched_import_at_its_batch() {
    let r = Rehearsal::postgres(30).rewrapped();
    let ids = r.ids();
    let mut service = r.session();
    let id = ids[20].clone();
    service.run(&format!(
        "BEGIN; UPDATE {CONFIG} SET encrypted_signing_key_1 = 'x' WHERE organization_id = '{id}'"
    ));
    let import = r.start_import("--batch-rows 5");
    r.session().wait_for(WAITING, "1");
    service.run("COMMIT");
    let ran = finished(import);
    let report = ran.json();
    assert_eq!(ran.status, 3, "{}", ran.stderr);
    assert_eq!(report["conflicts"], json!([{"organization_id": id, "reason": "source_changed"}]));
    assert_eq!(report["committed"], json!(false));
    let batches = report["batches_committed"].as_u64().unwrap();
    assert!(batches >= 4, "{batches}");
    let written = format!(
        "SELECT count(*) FROM tenants WHERE version LIKE 'V%' AND organization_id IN
        (SELECT organization_id FROM {CONFIG} WHERE updated_at > now() - interval '1 hour')"
    );
    assert_eq!(r.value(&written), (batches * 5).to_string());
    // Counted is what is written for good, and none that was rolled back with the conflict.
    assert_eq!(counts(&ran)[0], batches * 5);
}

/// A row that is deleted and inserted again while the import waits for its lock is a row that the
/// import's locks do not hold: the next one to change it must not be overwritten.
#[test]
fn a_row_put_back_while_the_import_waits_is_locked_like_the_others() {
    let r = Rehearsal::postgres(20).rewrapped();
    let ids = r.ids();
    let (early, late) = (ids[2].clone(), ids[9].clone());
    r.sql(&format!("CREATE TABLE copy AS SELECT * FROM {CONFIG} WHERE organization_id = '{early}'"));
    let mut holder = r.session();
    holder.run(&format!("BEGIN; SELECT FROM {CONFIG} WHERE organization_id = '{late}' FOR UPDATE"));
    let mut restorer = r.session();
    restorer.run(&format!(
        "BEGIN; DELETE FROM {CONFIG} WHERE organization_id = '{early}'; INSERT INTO {CONFIG} SELECT * FROM copy"
    ));
    let import = r.start_import("");
    let waits_for = |session: &mut crate::cluster::Session| {
        let pid = session.value("SELECT pg_backend_pid()");
        let waits = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'rekek-site'
                             AND datname = current_database() AND {pid} = ANY (pg_blocking_pids(pid))"
        );
        r.session().wait_for(&waits, "1");
    };
    waits_for(&mut restorer);
    restorer.run("COMMIT");
    waits_for(&mut holder);
    let mut service = r.session();
    service.run(&format!(
        "BEGIN; UPDATE {CONFIG} SET encrypted_signing_key_1 = 'NEWER SECRET' WHERE organization_id = '{early}'"
    ));
    holder.run("ROLLBACK");
    waits_for(&mut service);
    service.run("COMMIT");
    let ran = finished(import);
    let kept = format!("SELECT encrypted_signing_key_1 FROM {CONFIG} WHERE organization_id = '{early}'");
    assert_eq!(r.value(&kept), "NEWER SECRET");
    assert_eq!(ran.status, 3, "{}", ran.stderr);
    assert_eq!(ran.json()["conflicts"], json!([{"organization_id": early, "reason": "source_changed"}]));
}

#[test]
fn a_row_with_an_odd_id_fails_its_re_wrap_and_hinders_no_import() {
    let r = Rehearsal::postgres(10);
    r.sql(&format!(
        "UPDATE {CONFIG} SET enabled = enabled;
         INSERT INTO tenants SELECT 'acme corp', organization_name, version FROM tenants LIMIT 1;
         CREATE TABLE copy AS SELECT * FROM {CONFIG} LIMIT 1;
         UPDATE copy SET organization_id = 'acme corp';
         INSERT INTO {CONFIG} SELECT * FROM copy"
    ));
    r.site("export -o export.csv").good();
    let line = "rewrap export.csv -o out.csv --secrets secrets.json --to kv2 --keep-going";
    assert_eq!(r.folder.rekek(line).status, 3);
    let ran = r.import("");
    assert_eq!((ran.status, counts(&ran)[3]), (0, 0), "{}", ran.stderr);
    assert_eq!(ran.json()["rows_failed_at_rewrap"], json!(1));
    assert!(
        ran.stderr.contains("1 rows of the file could not be re-wrapped when it was made"),
        "{}",
        ran.stderr
    );
    assert!(r.fields_under("kv1") > 0, "the odd one still names the old key");
}
