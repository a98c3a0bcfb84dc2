//! Exports: one snapshot, in byte order, published whole.

use crate::folder::Table;
use crate::support::{BOTH, CONFIG, Kind, Rehearsal, finished, ran};
use std::process::{Command, Stdio};

#[test]
fn rows_come_in_byte_order_with_a_manifest() {
    for kind in BOTH {
        let r = Rehearsal::of(kind, 5, 2);
        // Orders of languages, and of numbers, would have these otherwise.
        for id in ["b", "B", "a-b", "a_b", "aB", "a"] {
            r.sql(&format!("INSERT INTO tenants VALUES ('{id}', 'n', 'V1-T1', NULL)"));
            r.sql(&format!(
                "INSERT INTO {CONFIG} (organization_id, issuer, default_audience, allowed_audiences, token_ttl_sec,
                     subject_prefix, enabled, created_at, updated_at, current_signing_key_slot)
                 VALUES ('{id}', 'i', 'd', '[]', 1, 's', true, '2026-01-01', '2026-01-01', 'signing_key_1')"
            ));
        }
        let report: serde_json::Value =
            serde_json::from_str(&r.site("export -o x.csv --json").good()).unwrap();
        let table = Table::parse(&r.folder.read("x.csv"));
        assert_eq!(
            table.header,
            [
                "organization_id",
                "encrypted_signing_key_1",
                "encrypted_signing_key_2",
                "encrypted_auth_method_config",
                "signing_key_public_1",
                "signing_key_public_2"
            ]
        );
        let ids: Vec<&str> = table.rows.iter().map(|row| row[0].as_str()).collect();
        assert!(ids.is_sorted() && ids.len() == 11, "{ids:?}");
        let manifest: serde_json::Value =
            serde_json::from_str(&r.folder.read("x.csv.manifest.json")).unwrap();
        assert_eq!(manifest["output"]["sha256"], r.digest("x.csv"));
        assert_eq!((&manifest["output"]["rows"], &report["rows"]), (&11.into(), &11.into()));
        assert_eq!(report["manifest"]["sha256"], r.digest("x.csv.manifest.json"));
        let server = manifest["snapshot"]["server_version"].as_str().unwrap();
        assert!(
            server.starts_with(if kind == Kind::Postgres { "PostgreSQL 1" } else { "SQLite 3" }),
            "{server}"
        );
        assert!(manifest["snapshot"]["taken_at"].as_str().unwrap().ends_with('Z'));
        // rekek reads it, and knows it whole.
        assert_eq!(r.folder.rekek("inspect x.csv --json").json()["rows"], 11);

        // Nothing is replaced unless told.
        let before = r.digest("x.csv");
        let ran = r.site("export -o x.csv");
        assert_eq!((ran.status, r.digest("x.csv")), (1, before));
        assert!(ran.stderr.contains("x.csv exists already"), "{}", ran.stderr);
        r.sql(&format!("DELETE FROM {CONFIG} WHERE organization_id = 'a'"));
        r.site("export -o x.csv --force").good();
        assert_eq!(Table::parse(&r.folder.read("x.csv")).rows.len(), 10);
        // Standard output carries the data, and the same.
        let piped = r.site("export -o - --output-format csv --json");
        assert_eq!((piped.status, piped.stdout), (0, r.folder.read("x.csv")));
        assert!(piped.stderr.contains("\"command\": \"export\""), "{}", piped.stderr);
    }
}

#[test]
fn organizations_can_be_chosen_and_must_be_there() {
    for kind in BOTH {
        let r = Rehearsal::of(kind, 20, 2);
        let all = r.site("export -o all.csv").good();
        assert!(!all.is_empty());
        let ids: Vec<String> =
            Table::parse(&r.folder.read("all.csv")).rows.iter().map(|row| row[0].clone()).collect();
        r.site(&format!("export -o two.csv --org {} --org {}", ids[7], ids[3])).good();
        let two: Vec<String> =
            Table::parse(&r.folder.read("two.csv")).rows.iter().map(|row| row[0].clone()).collect();
        assert_eq!(two, [ids[3].clone(), ids[7].clone()]);
        let manifest: serde_json::Value =
            serde_json::from_str(&r.folder.read("two.csv.manifest.json")).unwrap();
        assert_eq!(manifest["scope"], serde_json::json!([ids[3], ids[7]]));
        let ran = r.site(&format!("export -o none.csv --org {} --org nobody", ids[0]));
        assert_eq!(ran.status, 1);
        assert!(ran.stderr.contains("the database has no organization nobody"), "{}", ran.stderr);
        assert!(!r.path("none.csv").exists() && !r.path("none.csv.manifest.json").exists());
    }
}

/// A writer that commits in the middle of an export is either all in it or not at all.
#[test]
fn an_export_is_one_snapshot() {
    let r = Rehearsal::postgres(300);
    // One statement moves the mark to all rows at once, again and again.
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let writer = {
        let (stop, mut session) = (stop.clone(), r.session());
        std::thread::spawn(move || {
            let mut n = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                n += 1;
                session.run(&format!("UPDATE {CONFIG} SET encrypted_auth_method_config = 'mark {n}'"));
            }
        })
    };
    for n in 0..5 {
        r.site(&format!("export -o x{n}.csv")).good();
        let table = Table::parse(&r.folder.read(&format!("x{n}.csv")));
        let marks: std::collections::BTreeSet<&str> = table.rows.iter().map(|row| row[3].as_str()).collect();
        assert_eq!(table.rows.len(), 300);
        assert!(marks.len() <= 1 || !marks.iter().any(|m| m.starts_with("mark")), "{marks:?}");
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    writer.join().unwrap();
}

#[test]
fn an_interrupted_export_leaves_nothing() {
    let r = Rehearsal::postgres(10);
    let before = r.folder.names();
    let mut other = r.session();
    other.run(&format!("BEGIN; LOCK TABLE {CONFIG} IN ACCESS EXCLUSIVE MODE"));
    let export = r.command("export -o x.csv").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'rekek-site'
                   AND wait_event_type = 'Lock' AND datname = current_database()";
    r.session().wait_for(waiting, "1");
    Command::new("kill").args(["-INT", &export.id().to_string()]).status().unwrap();
    let ran = finished(export);
    assert_eq!((ran.status, r.folder.names()), (130, before), "{}", ran.stderr);
}

#[test]
fn an_export_that_cannot_be_written_says_so() {
    let r = Rehearsal::of(Kind::Sqlite, 3, 2);
    let disk = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let full = ran(r.command("export -o - --output-format csv").stdout(disk).output().unwrap());
    let said = "rekek-site: cannot write standard output: No space left on device (os error 28)\n";
    assert_eq!((full.status, full.stderr.as_str()), (1, said));
}

#[test]
fn inspect_counts_as_rekek_does_and_answers() {
    for kind in BOTH {
        let r = Rehearsal::of(kind, 30, 2).rewrapped();
        let (site, file) =
            (r.site("inspect --json").json(), r.folder.rekek("inspect export.csv --json").json());
        for name in ["rows", "fields", "fields_by_key", "rows_by_key", "malformed"] {
            assert_eq!(site[name], file[name], "{name}");
        }
        let no = r.site("inspect --retired kv1");
        assert_eq!(no.status, 3);
        assert!(no.stderr.contains("key kv1 is still in use"), "{}", no.stderr);
        assert_eq!(r.import("").status, 0);
        let yes = r.site("inspect --retired kv1");
        assert_eq!(
            (yes.status, yes.stderr.contains("backups taken before the import still need kv1")),
            (0, true)
        );
        // Nobody can say what a malformed one names.
        r.sql(&format!(
            "UPDATE {CONFIG} SET encrypted_auth_method_config = 'broken' WHERE organization_id = '{}'",
            r.ids()[0]
        ));
        let no = r.site("inspect --retired kv1 --json");
        assert_eq!((no.status, &no.json()["malformed"]), (3, &1.into()));
        assert!(no.stderr.contains("1 envelopes are malformed") && !no.stderr.contains("broken"));
        assert_eq!(r.site("inspect").status, 0);
    }
}

/// Not even with --force: the database would be gone.
#[test]
fn nothing_is_written_over_the_database_or_what_its_connection_reads() {
    let r = Rehearsal::of(Kind::Sqlite, 12, 2);
    let before = r.state();
    for line in [
        "export -o site.db --output-format csv --force",
        "export -o site.db-wal --output-format csv --force",
        "export -o x.csv --manifest site.db --force",
        "export -o x.csv --report site.db --force",
        "inspect --report site.db",
    ] {
        let ran = r.site(line);
        assert_eq!(ran.status, 2, "{line}: {}", ran.stderr);
        assert!(ran.stderr.contains("is also the database; choose another name"), "{line}: {}", ran.stderr);
    }
    // Nor by standard output, opened without cutting it short.
    for line in ["export -o - --output-format csv --manifest q.json", "inspect"] {
        let database = std::fs::File::options().write(true).open(r.path("site.db")).unwrap();
        let output = r.command(line).stdout(database).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{line}: {said}");
        assert!(said.contains("standard output is redirected into the database"), "{line}: {said}");
    }
    assert_eq!(r.state(), before);
    let r = Rehearsal::postgres(12);
    std::fs::write(r.path(".pgpass"), "").unwrap();
    let mut command = r.command("export -o .pgpass --output-format csv --force");
    let output = command.env("HOME", r.path("")).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains(".pgpass is also a file that the connection reads"), "{said}");
    r.folder.write("passwords", "");
    let url = format!("{}?passfile=passwords", r.url);
    let ran = r.site_on(&url, "export -o passwords --output-format csv --force");
    assert_eq!(ran.status, 2, "{}", ran.stderr);
    assert!(ran.stderr.contains("is also a file that the connection reads"), "{}", ran.stderr);
}
