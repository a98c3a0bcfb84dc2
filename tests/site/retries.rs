//! How often an import tries again, and how it gives up; and a dry run in batches.

use crate::cluster::Session;
use crate::support::{BOTH, CONFIG, Rehearsal, counts, finished};
use serde_json::json;

/// Waits until an import waits for what a session holds.
fn import_waits_for(r: &Rehearsal, holder: &mut Session) {
    let pid = holder.value("SELECT pg_backend_pid()");
    let waits = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'rekek-site'
         AND datname = current_database() AND {pid} = ANY (pg_blocking_pids(pid))"
    );
    r.session().wait_for(&waits, "1");
}

/// Runs a statement that is to wait for the import, in a session of its own, to be had back when it is through.
fn behind_the_import(r: &Rehearsal, mut session: Session, sql: String) -> std::thread::JoinHandle<Session> {
    let pid = session.value("SELECT pg_backend_pid()");
    let waiting = std::thread::spawn(move || {
        session.run(&sql);
        session
    });
    let waits = format!("SELECT cardinality(pg_blocking_pids({pid})) > 0");
    r.session().wait_for(&waits, "true");
    waiting
}

/// Each time that the import comes to write, it meets another session that has what it needs, and wants what
/// it has. A sequence counts the times, since it is not taken back with the transaction.
#[test]
fn a_deadlock_is_tried_again_three_times_and_no_more() {
    for times in [3, 4] {
        let r = Rehearsal::postgres(12).rewrapped();
        let before = r.state();
        let id = r.ids()[3].clone();
        r.sql(&format!(
            "CREATE SEQUENCE times;
             CREATE FUNCTION meets() RETURNS trigger LANGUAGE plpgsql AS $$
                 DECLARE n bigint := nextval('times');
                 BEGIN PERFORM pg_advisory_xact_lock(100 + n); PERFORM pg_advisory_xact_lock(200 + n); RETURN NULL; END $$;
             CREATE TRIGGER meets BEFORE UPDATE ON {CONFIG} FOR EACH STATEMENT EXECUTE FUNCTION meets()"
        ));
        let mut gates = r.session();
        gates.run(&format!("SELECT pg_advisory_lock(100 + n) FROM generate_series(1, {times}) n"));
        let import = r.start_import("--lock-timeout 60");
        for n in 1..=times {
            let mut other = r.session();
            // The other session shall not be the one that the server picks: it notices too late.
            other.run("SET deadlock_timeout = '60s'");
            other.run(&format!("BEGIN; SELECT pg_advisory_xact_lock(200 + {n})"));
            let at_the_gate = format!(
                "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database AND datname = current_database()
                 WHERE locktype = 'advisory' AND NOT granted AND objid = 100 + {n}"
            );
            r.session().wait_for(&at_the_gate, "1");
            let wants = format!("SELECT FROM {CONFIG} WHERE organization_id = '{id}' FOR UPDATE; ROLLBACK");
            let waiting = behind_the_import(&r, other, wants);
            gates.run(&format!("SELECT pg_advisory_unlock(100 + {n})"));
            waiting.join().unwrap();
        }
        let ran = finished(import);
        if times == 3 {
            assert_eq!((ran.status, counts(&ran)[1], counts(&ran)[3]), (0, 0, 0), "{}", ran.stderr);
            assert_eq!(r.fields_under("kv1"), 0);
        } else {
            let told = "rekek-site: other sessions lock the same rows in another order: a deadlock 4 times; nothing of \
                        this transaction was kept, run it again when the site is quieter\n";
            assert_eq!((ran.status, ran.stdout.as_str(), ran.stderr.as_str()), (1, "", told));
            assert_eq!(r.state(), before);
        }
        let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
        r.session().wait_for(deadlocks, &times.to_string());
        assert_eq!(r.value("SELECT last_value FROM times"), "4");
        r.sql(&format!("DROP TRIGGER meets ON {CONFIG}"));
        assert_eq!((r.import("").status, r.fields_under("kv1")), (0, 0), "it can be run again");
    }
}

/// A row of tenants that is not there when the import locks the others, and is when it has: each time anew.
#[test]
fn rows_that_appear_are_waited_out_three_times_and_no_more() {
    for times in [3, 4] {
        let r = Rehearsal::postgres(20).rewrapped();
        let ids = r.ids();
        let (gate, absent, late) = (&ids[0], &ids[2], &ids[9]);
        let delete = format!("DELETE FROM tenants WHERE organization_id = '{absent}'");
        r.sql(&format!(
            "ALTER TABLE {CONFIG} DROP CONSTRAINT {CONFIG}_organization_id_fkey;
             CREATE TABLE copy AS SELECT * FROM tenants WHERE organization_id = '{absent}'; {delete}"
        ));
        let before = r.state();
        let lock = |table: &str, id: &str| {
            format!("BEGIN; SELECT FROM {table} WHERE organization_id = '{id}' FOR UPDATE")
        };
        let mut at_the_gate = r.session();
        at_the_gate.run(&lock(CONFIG, gate));
        let import = r.start_import("--lock-timeout 60");
        for _ in 0..times {
            // It has not looked at tenants yet.
            import_waits_for(&r, &mut at_the_gate);
            r.sql(&delete);
            let mut holder = r.session();
            holder.run(&lock("tenants", late));
            at_the_gate.run("COMMIT");
            // Now it has, and whoever wants the gate next comes right behind it.
            import_waits_for(&r, &mut holder);
            let next = behind_the_import(&r, r.session(), lock(CONFIG, gate));
            r.sql("INSERT INTO tenants SELECT * FROM copy");
            holder.run("COMMIT");
            at_the_gate = next.join().unwrap();
        }
        at_the_gate.run("COMMIT");
        let ran = finished(import);
        if times == 3 {
            assert_eq!((ran.status, counts(&ran)[1], counts(&ran)[3]), (0, 0, 0), "{}", ran.stderr);
            assert_eq!(r.fields_under("kv1"), 0);
        } else {
            let told = "rekek-site: other sessions put rows of the file into the tables while they were being locked; \
                        nothing was kept, run it again\n";
            assert_eq!((ran.status, ran.stdout.as_str(), ran.stderr.as_str()), (1, "", told));
            r.sql(&delete);
            assert_eq!(r.state(), before);
            r.sql("INSERT INTO tenants SELECT * FROM copy");
            assert_eq!((r.import("").status, r.fields_under("kv1")), (0, 0), "it can be run again");
        }
    }
}

#[test]
fn a_dry_run_in_batches_says_what_one_in_one_says_and_writes_nothing() {
    for kind in BOTH {
        let r = Rehearsal::of(kind, 60, 2).rewrapped();
        let before = r.state();
        let same = |more: &str, status: i32| {
            let [whole, batched] = ["", "--batch-rows 7"].map(|b| r.import(&format!("--dry-run {b} {more}")));
            assert_eq!((whole.status, batched.status), (status, status), "{kind:?}: {}", batched.stderr);
            assert_eq!(batched.stderr, whole.stderr, "{kind:?} {more}");
            let mut reports = [whole.json(), batched.json()];
            for report in &mut reports {
                assert_eq!(report["dry_run"], json!(true));
                assert_eq!((&report["committed"], &report["batches_committed"]), (&json!(false), &json!(0)));
                for name in ["elapsed_seconds", "phases"] {
                    report.as_object_mut().unwrap().remove(name);
                }
            }
            assert_eq!(reports[0], reports[1], "{kind:?} {more}");
            counts(&batched)
        };
        let [updated, 0, _, 0] = same("", 0) else { panic!("there is nothing that would be written") };
        assert!(updated > 50);
        let ran = r.site("import out.csv --site-config site.toml --dry-run --batch-rows 7");
        assert!(ran.stdout.contains("no: a dry run, everything was rolled back"), "{}", ran.stdout);
        assert_eq!(r.state(), before, "{kind:?}");

        // A conflict in a late batch.
        let id = r.ids()[30].clone();
        r.sql(&format!(
            "UPDATE {CONFIG} SET encrypted_signing_key_1 = 'rotated' WHERE organization_id = '{id}'"
        ));
        let before = r.state();
        for how in ["abort", "skip"] {
            let [would, 0, _, 1] = same(&format!("--on-conflict {how}"), 3) else { panic!("{kind:?} {how}") };
            assert_eq!(would, updated - 1, "{kind:?} {how}");
        }
        assert_eq!(r.state(), before, "{kind:?}");
        // And it was true.
        let ran = r.import("--on-conflict skip --batch-rows 7");
        assert_eq!((ran.status, counts(&ran)[0], counts(&ran)[3]), (3, updated - 1, 1), "{}", ran.stderr);
    }
}
