//! What can happen to an import from outside: locks, deadlocks, signals, kill -9 of either side, a
//! connection that goes away.

use crate::cluster::{Cluster, Durable};
use crate::relay::{Cut, pooler, relay};
use crate::support::{BOTH, CONFIG, Kind, Rehearsal, counts, finished};
use sqlx::Connection as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const SESSIONS: &str = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'rekek-site'
                        AND datname = current_database()";
const WAITING: &str = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'rekek-site'
                       AND wait_event_type = 'Lock' AND datname = current_database()";

#[test]
fn a_lock_that_is_held_too_long_ends_the_import() {
    let r = Rehearsal::postgres(12).rewrapped();
    let before = r.state();
    for table in [CONFIG, "tenants"] {
        let mut other = r.session();
        other.run(&format!("BEGIN; SELECT FROM {table} FOR UPDATE"));
        let ran = r.import("--lock-timeout 1");
        assert_eq!(ran.status, 1);
        assert!(ran.stderr.contains("another session held a lock for more than 1 s"), "{}", ran.stderr);
        other.run("ROLLBACK");
        assert_eq!(r.state(), before);
    }
    assert_eq!(r.import("").status, 0);
}

#[test]
fn sqlite_waits_for_its_lock_too() {
    let r = Rehearsal::of(Kind::Sqlite, 12, 2).rewrapped();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let options = SqliteConnectOptions::new().filename(r.path("site.db"));
    let mut holder = runtime.block_on(SqliteConnection::connect_with(&options)).unwrap();
    runtime.block_on(sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut holder)).unwrap();
    let ran = r.import("--lock-timeout 1");
    runtime.block_on(sqlx::raw_sql("ROLLBACK").execute(&mut holder)).unwrap();
    assert_eq!(ran.status, 1);
    assert!(ran.stderr.contains("another session held a lock for more than 1 s"), "{}", ran.stderr);
    assert_eq!(r.import("").status, 0);
}

#[test]
fn two_importers_at_once_write_every_row_once() {
    for kind in BOTH {
        let r = Rehearsal::of(kind, 200, 2);
        r.sql("UPDATE tenants SET version = 'V1-T1700000000000000'");
        let r = r.rewrapped();
        let running = [r.start_import(""), r.start_import("")];
        let ran = running.map(finished);
        for ran in &ran {
            assert_eq!(ran.status, 0, "{kind:?}: {}", ran.stderr);
        }
        let [a, b] = [counts(&ran[0]), counts(&ran[1])];
        assert_eq!((a[0] + b[0], a[1] + b[1]), (a[0].max(b[0]), a[0].max(b[0])), "{a:?} {b:?}");
        assert_eq!(r.value("SELECT count(*) FROM tenants WHERE version LIKE 'V3-%'"), "0");
        let moved = r.value("SELECT count(*) FROM tenants WHERE version LIKE 'V2-%'");
        assert_eq!((moved, r.fields_under("kv1")), (a[0].max(b[0]).to_string(), 0));
    }
}

#[test]
fn a_deadlock_is_tried_again() {
    let r = Rehearsal::postgres(12).rewrapped();
    let id = r.ids()[3].clone();
    let mut other = r.session();
    // The other session shall not be the one that the server picks: it notices too late.
    other.run("SET deadlock_timeout = '60s'");
    other.run(&format!("BEGIN; SELECT FROM tenants WHERE organization_id = '{id}' FOR UPDATE"));
    let import = r.start_import("");
    r.session().wait_for(WAITING, "1");
    // tenants first, then the configuration: the wrong order.
    other.run(&format!("SELECT FROM {CONFIG} WHERE organization_id = '{id}' FOR UPDATE"));
    std::thread::sleep(Duration::from_millis(300));
    other.run("COMMIT");
    let ran = finished(import);
    assert_eq!((ran.status, counts(&ran)[3], r.fields_under("kv1")), (0, 0, 0), "{}", ran.stderr);
    r.session()
        .wait_for("SELECT deadlocks > 0 FROM pg_stat_database WHERE datname = current_database()", "true");
}

#[test]
fn a_signal_rolls_back_at_once() {
    for signal in ["INT", "TERM"] {
        let r = Rehearsal::postgres(12).rewrapped();
        let before = r.state();
        let mut other = r.session();
        other
            .run(&format!("BEGIN; SELECT FROM {CONFIG} WHERE organization_id = '{}' FOR UPDATE", r.ids()[9]));
        let import = r.start_import("--lock-timeout 0");
        r.session().wait_for(WAITING, "1");
        Command::new("kill").args([format!("-{signal}"), import.id().to_string()]).status().unwrap();
        let ran = finished(import);
        assert_eq!(ran.status, 130, "{}", ran.stderr);
        assert!(ran.stderr.contains("interrupted"), "{}", ran.stderr);
        assert_eq!(
            (r.value(SESSIONS).as_str(), ran.stdout.as_str()),
            ("0", ""),
            "its locks are gone with it"
        );
        other.run("ROLLBACK");
        assert_eq!(r.state(), before);
    }
}

/// Old or new: what every row holds, by the key that it names.
fn all_old_or_all_new(r: &Rehearsal, fields: u64, moment: &str) -> bool {
    let (old, new) = (r.fields_under("kv1"), r.fields_under("kv2"));
    assert!((old, new) == (fields, 0) || (old, new) == (0, fields), "{moment}: {old} old and {new} new");
    let moved = "SELECT count(*) FROM tenants WHERE version LIKE 'V2-%'";
    assert_eq!(r.value(moved) == "0", new == 0, "{moment}: versions move with their rows");
    new > 0
}

#[test]
fn kill_9_of_the_importer_leaves_all_old_or_all_new() {
    for kind in BOTH {
        let base = Rehearsal::of(kind, 400, 2);
        base.sql("UPDATE tenants SET version = 'V1-T1700000000000000'");
        let base = base.rewrapped();
        let fields = base.fields_under("kv1");
        let begun = Instant::now();
        assert_eq!(base.import("--dry-run").status, 0);
        let whole = begun.elapsed();
        let (mut old, mut new, moments) = (0, 0, 24);
        for moment in 0..moments {
            // Moments spread over the whole run and a little more.
            let delay = whole * moment * 13 / (moments * 10);
            let r = match kind {
                Kind::Postgres => {
                    let database = base.cluster.database(Some(&base.database));
                    Rehearsal {
                        folder: crate::folder::Site::empty(),
                        url: base.cluster.url(&database),
                        database,
                        ..base
                    }
                }
                Kind::Sqlite => Rehearsal {
                    folder: crate::folder::Site::empty(),
                    url: base.url.clone(),
                    database: String::new(),
                    ..base
                },
            };
            for name in ["out.csv", "out.csv.manifest.json", "site.toml"] {
                std::fs::copy(base.path(name), r.path(name)).unwrap();
            }
            if kind == Kind::Sqlite {
                std::fs::copy(base.path("site.db"), r.path("site.db")).unwrap();
            }
            let mut import = r.start_import("");
            std::thread::sleep(delay);
            import.kill().unwrap(); // SIGKILL
            import.wait().unwrap();
            if kind == Kind::Postgres {
                r.session().wait_for(SESSIONS, "0");
            }
            if all_old_or_all_new(&r, fields, &format!("{kind:?}, killed after {delay:?}")) {
                new += 1;
            } else {
                old += 1;
            }
            // And it can be run again.
            let ran = r.import("");
            assert_eq!((ran.status, r.fields_under("kv1")), (0, 0), "{}", ran.stderr);
        }
        assert!(old > 0, "{kind:?}: {old} old, {new} new");
    }
}

#[test]
fn kill_9_of_the_server_leaves_all_old_or_all_new() {
    let cluster = Cluster::start(Durable::Yes, "");
    let base = Rehearsal::on(&cluster, 400, 2);
    base.sql("UPDATE tenants SET version = 'V1-T1700000000000000'");
    let base = base.rewrapped();
    let fields = base.fields_under("kv1");
    let begun = Instant::now();
    assert_eq!(base.import("--dry-run").status, 0);
    let whole = begun.elapsed();
    for moment in 0..5 {
        let database = cluster.database(Some(&base.database));
        let r =
            Rehearsal { folder: crate::folder::Site::empty(), url: cluster.url(&database), database, ..base };
        for name in ["out.csv", "out.csv.manifest.json", "site.toml"] {
            std::fs::copy(base.path(name), r.path(name)).unwrap();
        }
        let import = r.start_import("");
        std::thread::sleep(whole * (2 * moment + 1) / 10);
        cluster.kill();
        let ran = finished(import);
        cluster.launch();
        let is_new = all_old_or_all_new(&r, fields, &format!("moment {moment}: {}", ran.stderr));
        if ran.status == 0 {
            assert!(is_new, "what was said to be committed is there after the crash");
        } else {
            assert_eq!(ran.status, 1, "{}", ran.stderr);
            let line = &ran.stderr;
            assert!(line.contains("the connection") || line.contains("cannot connect"), "{line}");
        }
        let again = r.import("");
        assert_eq!((again.status, r.fields_under("kv1")), (0, 0), "{}", again.stderr);
    }
}

#[test]
fn a_connection_lost_at_commit_is_safe_to_run_again() {
    for cut in [Cut::BeforeTheServer, Cut::AfterTheServer, Cut::BehindAPooler] {
        let r = Rehearsal::postgres(30);
        r.sql("UPDATE tenants SET version = 'V1-T1700000000000000'");
        let r = r.rewrapped();
        let fields = r.fields_under("kv1");
        let url = format!("postgres://postgres@127.0.0.1:{}/{}", relay(r.cluster.port, cut).port, r.database);
        let ran = r.site_on(&url, "import out.csv --site-config site.toml");
        assert_eq!(ran.status, 1, "{cut:?}: {}", ran.stderr);
        let told = "the connection was lost while committing: whether the rows were written is not known; \
                    run the import again, those that were count as already applied";
        assert!(ran.stderr.contains(told), "{cut:?}: {}", ran.stderr);
        r.session().wait_for(SESSIONS, "0");
        let is_new = all_old_or_all_new(&r, fields, "after the cut");
        assert_eq!(is_new, cut != Cut::BeforeTheServer);
        let again = r.import("");
        assert_eq!((again.status, counts(&again)[3]), (0, 0), "{}", again.stderr);
        assert_eq!(counts(&again)[usize::from(is_new)], counts(&r.import(""))[1], "{cut:?}");
        assert_eq!(r.value("SELECT count(*) FROM tenants WHERE version LIKE 'V3-%'"), "0", "no row twice");
    }
}

/// The temporary table is not in the session of the transaction; or one is there that nothing was loaded into.
#[test]
fn a_pooler_that_changes_sessions_is_noticed() {
    let table =
        "CREATE TEMPORARY TABLE rekek_new (ord bigint PRIMARY KEY, organization_id text, source_1 bytea,
        text_1 text, digest_1 bytea, source_2 bytea, text_2 text, digest_2 bytea, source_3 bytea, text_3 text,
        digest_3 bytea)";
    for (elsewhere, back) in [("BEGIN", "none"), ("COPY", "BEGIN")] {
        let r = Rehearsal::postgres(12).rewrapped();
        let before = r.state();
        let port = pooler(r.cluster.port, &r.database, table, elsewhere, back);
        let url = format!("postgres://postgres@127.0.0.1:{port}/{}", r.database);
        let ran = r.site_on(&url, "import out.csv --site-config site.toml");
        let told = format!(
            "the connection to the database {} at 127.0.0.1:{port} changes its session between transactions, as a \
             pooler in transaction mode does it; nothing more was written, connect to the server itself\n",
            r.database
        );
        assert_eq!((ran.status, ran.stdout.as_str()), (1, ""), "{elsewhere}: {}", ran.stderr);
        assert!(ran.stderr.ends_with(&told), "{elsewhere}: {}", ran.stderr);
        assert_eq!(r.state(), before);
        assert_eq!(r.import("").status, 0);
    }
}

/// The file is swapped for another whole one after it was compared with its manifest: what was
/// loaded is compared once more.
#[test]
fn a_file_that_changes_after_it_was_checked() {
    let r = Rehearsal::postgres(30).rewrapped();
    let before = r.state();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("postgres://postgres@{}/{}", listener.local_addr().unwrap(), r.database);
    let line = "import out.csv --site-config site.toml";
    let import = r.command_on(&url, line).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // It connects when it has checked the file; the server answers when the file is another.
    let (mut client, _) = listener.accept().unwrap();
    r.rewrap("export.csv", "other.csv", "kv2");
    std::fs::copy(r.path("other.csv"), r.path("out.csv")).unwrap();
    let mut server = TcpStream::connect(("127.0.0.1", r.cluster.port)).unwrap();
    let (mut from_server, mut to_client) = (server.try_clone().unwrap(), client.try_clone().unwrap());
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from_server, &mut to_client);
    });
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut client, &mut server);
        let _ = server.shutdown(Shutdown::Both);
    });
    let ran = finished(import);
    assert_eq!(ran.status, 1);
    assert!(ran.stderr.contains("out.csv is not the file that its manifest describes"), "{}", ran.stderr);
    assert_eq!(r.state(), before);
}

#[test]
fn a_connection_lost_half_way_changes_nothing() {
    let r = Rehearsal::postgres(30).rewrapped();
    let before = r.state();
    let mut other = r.session();
    other.run(&format!("BEGIN; SELECT FROM {CONFIG} WHERE organization_id = '{}' FOR UPDATE", r.ids()[9]));
    let import = r.start_import("");
    r.session().wait_for(WAITING, "1");
    r.session().run(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE application_name = 'rekek-site' AND datname = current_database()",
    );
    let ran = finished(import);
    assert_eq!(ran.status, 1);
    assert!(
        ran.stderr.contains("locking and comparing the rows: the connection to the database was lost"),
        "{}",
        ran.stderr
    );
    other.run("ROLLBACK");
    assert_eq!(r.state(), before);
}

/// A trigger that changes what is written, or drops it: seen before the commit.
#[test]
fn what_does_not_read_back_as_written_is_rolled_back() {
    let cases = [
        (
            "NEW.encrypted_signing_key_1 := NEW.encrypted_signing_key_1 || ' '; RETURN NEW;",
            "do not read back as they were written",
        ),
        ("RETURN CASE WHEN NEW.encrypted_signing_key_2 IS NULL THEN NEW END;", "were written where"),
    ];
    for (body, told) in cases {
        let r = Rehearsal::postgres(30).rewrapped();
        let before = r.state();
        r.sql(&format!(
            "CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$;
             CREATE TRIGGER meddle BEFORE UPDATE ON {CONFIG} FOR EACH ROW EXECUTE FUNCTION meddle()"
        ));
        let ran = r.import("");
        assert_eq!(ran.status, 1);
        assert!(ran.stderr.contains(told), "{}", ran.stderr);
        assert_eq!(r.state(), before);
    }
}

#[test]
fn a_version_or_a_key_id_that_does_not_move_is_rolled_back() {
    for kind in BOTH {
        for (table, column) in [("tenants", "version"), (CONFIG, "encryption_key_id")] {
            let r = Rehearsal::of(kind, 10, 1).rewrapped();
            let before = r.state();
            r.sql(&match kind {
                Kind::Postgres => format!(
                    "CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql
                         AS $$ BEGIN NEW.{column} := OLD.{column}; RETURN NEW; END $$;
                     CREATE TRIGGER meddle BEFORE UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION meddle()"
                ),
                Kind::Sqlite => format!(
                    "CREATE TRIGGER meddle AFTER UPDATE ON {table} BEGIN
                         UPDATE {table} SET {column} = OLD.{column} WHERE organization_id = OLD.organization_id;
                     END"
                ),
            });
            let ran = r.import("");
            assert_eq!(ran.status, 1, "{kind:?} {table}");
            assert!(ran.stderr.contains("do not read back as they were written"), "{}", ran.stderr);
            assert_eq!(r.state(), before);
        }
    }
}

#[test]
fn what_is_deferred_to_the_commit_is_part_of_a_dry_run() {
    let r = Rehearsal::postgres(10).rewrapped();
    r.sql(&format!(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not today'; END $$;
         CREATE CONSTRAINT TRIGGER refuse AFTER UPDATE ON {CONFIG} DEFERRABLE INITIALLY DEFERRED
         FOR EACH ROW EXECUTE FUNCTION refuse()"
    ));
    assert_eq!((r.import("--dry-run").status, r.import("").status), (1, 1));
}

/// Whatever state a trigger gives to its own words, they may quote a value.
#[test]
fn the_words_of_a_trigger_are_not_told() {
    for state in ["P0001", "42501", "XX000", "57014"] {
        let r = Rehearsal::postgres(10).rewrapped();
        r.sql(&format!(
            "CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN RAISE 'it was %', OLD.encrypted_signing_key_1 USING ERRCODE = '{state}'; END $$;
             CREATE TRIGGER tell BEFORE UPDATE ON {CONFIG} FOR EACH ROW EXECUTE FUNCTION tell()"
        ));
        let ran = r.import("");
        assert_eq!(ran.status, 1);
        let told = format!("the database refused it (SQLSTATE {state}; its log has the words)\n");
        assert!(ran.stderr.ends_with(&told) && !ran.stderr.contains("it was"), "{}", ran.stderr);
    }
}

/// An output made of an output has its digests from there; the import says so.
#[test]
fn digests_that_a_rewrap_did_not_compute_are_told_of() {
    let r = Rehearsal::postgres(10).rewrapped();
    r.rewrap("out.csv", "again.csv", "kv3");
    let ran = r.site("import again.csv --json --on-conflict skip --report again.json");
    let told = "rekek-site: warning: the file was made of an output, and has that one's source digests: rows were compared \
                with what these say, not with what the re-wrap saw\n";
    assert!(ran.status == 0 && ran.stderr.ends_with(told), "{}", ran.stderr);
    assert_eq!(ran.json()["source_digests_kept"], serde_json::json!(true));
    assert_eq!(r.fields_under("kv1"), 0);
}

#[test]
fn a_report_that_cannot_be_written_does_not_hide_the_commit() {
    let r = Rehearsal::postgres(10).rewrapped();
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let output = r.import_command("").stdout(full).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said.contains("the import itself was committed (") && said.contains("only its report failed"),
        "{said}"
    );
    assert_eq!(r.fields_under("kv1"), 0);
}

#[test]
fn a_pipe_for_a_manifest_is_refused_and_not_waited_for() {
    let r = Rehearsal::postgres(3).rewrapped();
    assert!(std::process::Command::new("mkfifo").arg(r.path("pipe")).status().unwrap().success());
    for line in ["import out.csv --manifest pipe", "import out.csv --site-config pipe"] {
        let ran = r.site(line);
        assert_eq!(ran.status, 1);
        assert!(ran.stderr.contains("it is not a regular file"), "{}", ran.stderr);
    }
}
