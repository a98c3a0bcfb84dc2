//! Moments that are forced, not guessed: the importer stands still at one, by a lock that somebody else
//! holds, until it is killed there, or until a second importer has begun. What every row holds is compared
//! with both files: all old or all new.

use crate::cluster::Session;
use crate::folder::{CIPHERTEXTS, Table};
use crate::relay::{Cut, relay};
use crate::support::{BOTH, CONFIG, Kind, Ran, Rehearsal, counts, finished};
use serde_json::json;
use sqlx::Connection as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use std::collections::BTreeMap;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

const SESSIONS: &str = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'rekek-site'
                        AND datname = current_database()";

/// Each organization: its three fields and the number of its version.
type Rows = BTreeMap<String, ([String; 3], String)>;

/// Organizations under kv1, all at their first version, exported and re-wrapped.
fn rehearsal(kind: Kind) -> Rehearsal<'static> {
    let r = Rehearsal::of(kind, 30, 2);
    r.sql("UPDATE tenants SET version = 'V1-T1700000000000000'");
    r.rewrapped()
}

fn fields(table: &Table, row: usize) -> [String; 3] {
    CIPHERTEXTS.map(|column| table.get(row, column).to_owned())
}

/// What the rows hold before the import of a file, and after it.
fn before_and_after(r: &Rehearsal, file: &str) -> (Rows, Rows) {
    let [old, new] = ["export.csv", file].map(|name| Table::parse(&r.folder.read(name)));
    let (mut before, mut after) = (Rows::new(), Rows::new());
    for row in 0..old.rows.len() {
        let id = old.get(row, "organization_id").to_owned();
        let version = if fields(&old, row) == fields(&new, row) { "V1" } else { "V2" };
        before.insert(id.clone(), (fields(&old, row), "V1".into()));
        after.insert(id, (fields(&new, row), version.into()));
    }
    (before, after)
}

/// What the database holds.
fn held(r: &Rehearsal) -> Rows {
    let name = format!("held-{}.csv", r.folder.names().len());
    r.site(&format!("export -o {name}")).good();
    let table = Table::parse(&r.folder.read(&name));
    let list = if r.database.is_empty() {
        "group_concat(organization_id || ' ' || substr(version, 1, instr(version, '-') - 1), ',')"
    } else {
        "string_agg(organization_id || ' ' || split_part(version, '-', 1), ',')"
    };
    let versions = r.value(&format!("SELECT {list} FROM tenants"));
    let versions: BTreeMap<&str, &str> = versions.split(',').map(|v| v.split_once(' ').unwrap()).collect();
    let id = |row| table.get(row, "organization_id").to_owned();
    (0..table.rows.len())
        .map(|row| (id(row), (fields(&table, row), versions[id(row).as_str()].to_owned())))
        .collect()
}

#[derive(Debug, PartialEq)]
enum All {
    Old,
    New,
}

#[track_caller]
fn all_old_or_all_new(r: &Rehearsal, moment: &str) -> All {
    let (before, after) = before_and_after(r, "out.csv");
    let held = held(r);
    if held == before {
        return All::Old;
    }
    let strange: Vec<_> =
        held.iter().filter(|(id, row)| after.get(*id) != Some(row)).map(|(id, _)| id).collect();
    assert_eq!(held, after, "{moment}: not all old, and not new are {strange:?}");
    All::New
}

/// Rows that an import of the file writes.
fn changed(r: &Rehearsal) -> u64 {
    let (before, after) = before_and_after(r, "out.csv");
    before.iter().filter(|(id, row)| after[*id] != **row).count() as u64
}

/// Waits until an import waits for somebody, in a statement that begins so, at a lock of that kind.
fn stands(r: &Rehearsal, statement: &str, lock: &str) {
    r.session().wait_for(
        &format!(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'rekek-site' AND wait_event_type = 'Lock'
             AND datname = current_database() AND query LIKE '{statement}%' AND wait_event = '{lock}'"
        ),
        "1",
    );
}

/// kill -9, seen through to its end: the server gives up what the importer held by itself, though it was
/// waiting for a lock that is held on. (PostgreSQL looks for its client there from version 14 on.)
fn killed(r: &Rehearsal, mut import: Child) {
    import.kill().unwrap(); // SIGKILL
    import.wait().unwrap();
    r.session().wait_for(SESSIONS, "0");
}

/// After a kill, the same import finishes; and it was in only if it had been written.
fn finishes(r: &Rehearsal, found: All, moment: &str) {
    let all = changed(r);
    let ran = r.import("");
    let [updated, applied, _, conflicted] = counts(&ran);
    let expected = if found == All::Old { (all, 0) } else { (0, all) };
    assert_eq!((ran.status, (updated, applied), conflicted), (0, expected, 0), "{moment}: {}", ran.stderr);
    assert_eq!(all_old_or_all_new(r, moment), All::New);
    assert_eq!(counts(&r.import(""))[..2], [0, all], "{moment}");
}

/// A trigger's function that waits for the holder of an advisory lock.
const WAITS: &str = "CREATE FUNCTION waits() RETURNS trigger LANGUAGE plpgsql
                     AS $$ BEGIN PERFORM pg_advisory_xact_lock_shared(7); RETURN NEW; END $$;";

#[test]
fn kill_9_where_the_importer_stands() {
    let advisory = || "SELECT pg_advisory_lock(7)".to_owned();
    let row = |table: &str| {
        let middle = format!("(SELECT organization_id FROM {table} ORDER BY 1 LIMIT 1 OFFSET 15)");
        format!("BEGIN; SELECT FROM {table} WHERE organization_id = {middle} FOR UPDATE")
    };
    let trigger = |when: &str| format!("{WAITS} CREATE {when} EXECUTE FUNCTION waits()");
    // What the database has, what somebody holds, and the statement and the lock at which the import stands.
    let moments = [
        (
            "after the load, no row locked",
            String::new(),
            format!("BEGIN; LOCK TABLE {CONFIG} IN EXCLUSIVE MODE"),
            ("INSERT INTO pg_temp.rekek_found", "relation"),
        ),
        (
            "half of the configuration locked",
            String::new(),
            row(CONFIG),
            ("INSERT INTO pg_temp.rekek_found", "transactionid"),
        ),
        (
            "half of tenants locked",
            String::new(),
            row("tenants"),
            ("INSERT INTO pg_temp.rekek_version", "transactionid"),
        ),
        (
            "half of the configuration written",
            trigger(&format!(
                "TRIGGER waits BEFORE UPDATE ON {CONFIG} FOR EACH ROW WHEN (NEW.organization_id > 'org-0000014')"
            )),
            advisory(),
            ("UPDATE public.tenant_identity_config", "advisory"),
        ),
        (
            "between the two updates",
            trigger("TRIGGER waits BEFORE UPDATE ON tenants FOR EACH STATEMENT"),
            advisory(),
            ("UPDATE public.tenants", "advisory"),
        ),
        (
            "after the updates, before the read-back",
            trigger("CONSTRAINT TRIGGER waits AFTER UPDATE ON tenants DEFERRABLE INITIALLY DEFERRED FOR EACH ROW"),
            advisory(),
            ("SET CONSTRAINTS ALL IMMEDIATE", "advisory"),
        ),
        // What is deferred comes before the read-back; so this defers something anew.
        (
            "in the server's COMMIT",
            trigger("TABLE late (id text); CREATE CONSTRAINT TRIGGER waits AFTER INSERT ON late DEFERRABLE FOR EACH ROW")
                + "; CREATE FUNCTION defers() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                         SET CONSTRAINTS waits DEFERRED; INSERT INTO late VALUES (NEW.organization_id); RETURN NEW;
                     END $$;
                     CREATE CONSTRAINT TRIGGER defers AFTER UPDATE ON tenants DEFERRABLE INITIALLY DEFERRED
                     FOR EACH ROW EXECUTE FUNCTION defers()",
            advisory(),
            ("COMMIT", "advisory"),
        ),
    ];
    for (moment, set_up, hold, (statement, lock)) in moments {
        let r = rehearsal(Kind::Postgres);
        r.sql(&set_up);
        let mut holder = r.session();
        holder.run(&hold);
        let import = r.start_import("--lock-timeout 0");
        stands(&r, statement, lock);
        killed(&r, import);
        assert_eq!(all_old_or_all_new(&r, moment), All::Old, "{moment}");
        drop(holder);
        finishes(&r, All::Old, moment);
    }
}

/// The importer has said COMMIT, after everything was read back, and waits for the answer.
#[test]
fn kill_9_around_the_word_commit() {
    for (cut, expected) in [(Cut::Held, All::Old), (Cut::Unanswered, All::New)] {
        let moment = format!("{cut:?}");
        let r = rehearsal(Kind::Postgres);
        let relay = relay(r.cluster.port, cut);
        let url = format!("postgres://postgres@127.0.0.1:{}/{}", relay.port, r.database);
        let mut import = r.command_on(&url, "import out.csv --site-config site.toml");
        let import = import.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        relay.committing.recv_timeout(Duration::from_secs(60)).expect("it comes to the commit");
        if expected == All::New {
            // The server has committed when another session sees it.
            let moved = "SELECT count(*) > 0 FROM tenants WHERE version LIKE 'V2-%'";
            r.session().wait_for(moved, "true");
        }
        killed(&r, import);
        assert_eq!(all_old_or_all_new(&r, &moment), expected);
        finishes(&r, expected, &moment);
    }
}

/// A reader of SQLite's, which a writer's COMMIT waits for.
struct Reader(tokio::runtime::Runtime, Option<SqliteConnection>);

impl Reader {
    fn begin(r: &Rehearsal) -> Reader {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let options = SqliteConnectOptions::new().filename(r.path("site.db"));
        let mut connection = runtime.block_on(SqliteConnection::connect_with(&options)).unwrap();
        let sql = "BEGIN; SELECT count(*) FROM tenants";
        runtime.block_on(sqlx::raw_sql(sql).fetch_all(&mut connection)).unwrap();
        Reader(runtime, Some(connection))
    }

    fn end(mut self) {
        self.0.block_on(self.1.take().unwrap().close()).unwrap();
    }
}

#[track_caller]
fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(20), "never: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until an import is in its COMMIT: it has SQLite's pending lock, the byte at 1 GiB, which a writer
/// takes when it waits for the readers to leave.
fn commits_to_sqlite(import: &Child) {
    let pid = import.id().to_string();
    wait_until("a pending lock", || {
        let locks = std::fs::read_to_string("/proc/locks").unwrap();
        locks.lines().any(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            words.contains(&"WRITE") && words.contains(&pid.as_str()) && words.contains(&"1073741824")
        })
    });
}

#[test]
fn kill_9_in_the_commit_of_sqlite() {
    let r = rehearsal(Kind::Sqlite);
    let reader = Reader::begin(&r);
    let mut import = r.start_import("--lock-timeout 60");
    commits_to_sqlite(&import);
    import.kill().unwrap();
    import.wait().unwrap();
    assert_eq!(all_old_or_all_new(&r, "a reader still reads"), All::Old);
    reader.end();
    assert_eq!(all_old_or_all_new(&r, "it has left"), All::Old);
    finishes(&r, All::Old, "killed in its COMMIT");
}

/// An import of a file that the folder has, left to run.
fn start(r: &Rehearsal, file: &str) -> Child {
    let digest = r.digest(&format!("{file}.manifest.json"));
    let line = format!(
        "import {file} --json --site-config site.toml --lock-timeout 60 --manifest-sha256 {digest} --on-conflict skip"
    );
    r.command(&line).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// How two imports end, of which the first has locked every row when the second begins.
fn one_behind_the_other(r: &Rehearsal, files: [&str; 2]) -> [Ran; 2] {
    if r.database.is_empty() {
        let reader = Reader::begin(r);
        let first = start(r, files[0]);
        commits_to_sqlite(&first);
        let second = start(r, files[1]);
        let open = format!("/proc/{}/fd", second.id());
        wait_until("the second has the database open", || {
            let mut files = std::fs::read_dir(&open).into_iter().flatten().flatten();
            files.any(|file| std::fs::read_link(file.path()).is_ok_and(|to| to.ends_with("site.db")))
        });
        reader.end();
        return [first, second].map(finished);
    }
    let holder = at_the_update(r);
    let first = start(r, files[0]);
    stands(r, "UPDATE public.tenant_identity_config", "advisory");
    let second = start(r, files[1]);
    stands(r, "INSERT INTO pg_temp.rekek_found", "transactionid");
    drop(holder);
    [first, second].map(finished)
}

/// Lets every import stand where it has locked all rows and begins to write, until this session is gone.
fn at_the_update(r: &Rehearsal) -> Session {
    r.sql(&format!("{WAITS} CREATE TRIGGER waits BEFORE UPDATE ON {CONFIG} EXECUTE FUNCTION waits()"));
    let mut holder = r.session();
    holder.run("SELECT pg_advisory_lock(7)");
    holder
}

#[test]
fn a_second_importer_finds_what_the_first_has_written() {
    for kind in BOTH {
        let r = rehearsal(kind);
        let all = changed(&r);
        let [first, second] = one_behind_the_other(&r, ["out.csv", "out.csv"]);
        assert_eq!((first.status, second.status), (0, 0), "{kind:?}: {}{}", first.stderr, second.stderr);
        let unchanged = counts(&first)[2];
        assert_eq!(counts(&first), [all, 0, unchanged, 0], "{kind:?}");
        assert_eq!(counts(&second), [0, all, unchanged, 0], "{kind:?}");
        assert_eq!(all_old_or_all_new(&r, "both"), All::New);
    }
}

/// Two re-wraps of one export differ in every envelope. The first to lock the rows is the one that counts.
#[test]
fn of_two_different_files_the_first_to_lock_wins() {
    for kind in BOTH {
        for files in [["out.csv", "other.csv"], ["other.csv", "out.csv"]] {
            let r = rehearsal(kind);
            r.rewrap("export.csv", "other.csv", "kv2");
            let all = changed(&r);
            let [first, second] = one_behind_the_other(&r, files);
            assert_eq!((first.status, second.status), (0, 3), "{kind:?}: {}", first.stderr);
            assert_eq!((counts(&first)[0], counts(&first)[3]), (all, 0), "{kind:?} {files:?}");
            assert_eq!((counts(&second)[..2].to_vec(), counts(&second)[3]), (vec![0, 0], all));
            let conflicts = second.json()["conflicts"].clone();
            let mut reasons = conflicts.as_array().unwrap().iter().map(|c| c["reason"].clone());
            assert!(reasons.all(|reason| reason == json!("source_changed")), "{conflicts}");
            assert_eq!(held(&r), before_and_after(&r, files[0]).1, "{kind:?} {files:?}");
        }
    }
}

#[test]
fn a_second_importer_writes_what_a_killed_first_one_did_not() {
    let r = rehearsal(Kind::Postgres);
    let all = changed(&r);
    let holder = at_the_update(&r);
    let mut first = start(&r, "out.csv");
    stands(&r, "UPDATE public.tenant_identity_config", "advisory");
    let second = start(&r, "out.csv");
    stands(&r, "INSERT INTO pg_temp.rekek_found", "transactionid");
    first.kill().unwrap();
    first.wait().unwrap();
    // The second has the locks now, and stands where the first stood.
    r.session().wait_for(SESSIONS, "1");
    stands(&r, "UPDATE public.tenant_identity_config", "advisory");
    assert_eq!(all_old_or_all_new(&r, "the first is dead"), All::Old);
    drop(holder);
    let second = finished(second);
    assert_eq!((second.status, counts(&second)[0], counts(&second)[1]), (0, all, 0), "{}", second.stderr);
    assert_eq!(all_old_or_all_new(&r, "the second"), All::New);
}
