//! Databases that are kept from being written to: frozen by a setting that somebody made on purpose, or
//! standbys. Nothing overrides that but the operator; what only reads works there.

use crate::cluster::{Cluster, Durable};
use crate::support::{CONFIG, Rehearsal, counts, finished};

const WAITING: &str = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'rekek-site'
                       AND wait_event_type = 'Lock' AND datname = current_database()";

/// The message for whom it is set.
fn frozen(r: &Rehearsal, set: &str) -> String {
    format!(
        "rekek-site: the database {} at 127.0.0.1:{} is kept from being written to: default_transaction_read_only \
         is on {set}; nothing more was written, ask whoever set it\n  when it may be written to, set that off, or for \
         one command alone append '?options[default_transaction_read_only]=off' to the URL\n",
        r.database, r.cluster.port
    )
}

#[test]
fn a_frozen_database_is_read_and_not_written_to() {
    let r = Rehearsal::postgres(12).rewrapped();
    let before = r.state();
    let database = &r.database;
    let role = format!("freezer_{database}");
    r.sql(&format!(
        "CREATE ROLE {role} LOGIN SUPERUSER; ALTER DATABASE {database} SET default_transaction_read_only = on"
    ));
    let as_role = format!("postgres://{role}@127.0.0.1:{}/{database}", r.cluster.port);
    let import = "import out.csv --json --site-config site.toml";
    let with_digest = format!("{import} --manifest-sha256 {}", r.digest("out.csv.manifest.json"));

    // A dry run locks rows, as an import does: it is refused like one.
    for more in ["", " --dry-run", " --batch-rows 5", " --dry-run --batch-rows 5"] {
        let ran = r.site(&format!("{with_digest}{more}"));
        assert_eq!((ran.status, ran.stdout.as_str()), (1, ""), "{more}");
        assert_eq!(ran.stderr, frozen(&r, "for this database"), "{more}");
    }
    assert_eq!(r.state(), before, "an export works, and has nothing new");
    let inspected = r.site("inspect --json --retired kv1");
    assert_eq!((inspected.status, r.fields_under("kv2")), (3, 0), "{}", inspected.stderr);

    // Wherever it is set, the message says where.
    let reset = format!("ALTER DATABASE {database} RESET default_transaction_read_only");
    let in_database = format!("ALTER ROLE {role} IN DATABASE {database}");
    let frozen_role = |sql: &str, set: &str| {
        let mut session = r.session();
        session.run("SET default_transaction_read_only = off");
        session.run(sql);
        let ran = r.site_on(&as_role, &with_digest);
        assert_eq!((ran.status, ran.stderr), (1, frozen(&r, set)));
    };
    frozen_role(
        &format!("{reset}; ALTER ROLE {role} SET default_transaction_read_only = on"),
        "for this role",
    );
    frozen_role(
        &format!(
            "ALTER ROLE {role} RESET default_transaction_read_only; {in_database} SET default_transaction_read_only = on"
        ),
        "for this role in this database",
    );
    r.sql(&format!("{in_database} RESET default_transaction_read_only"));
    let by_url = format!("{as_role}?options[default_transaction_read_only]=on");
    let ran = r.site_on(&by_url, &with_digest);
    assert_eq!((ran.status, ran.stderr), (1, frozen(&r, "in the URL or in PGOPTIONS")));
    assert_eq!(r.state(), before);

    // What the message says to do works, over whatever is set.
    r.sql(&format!("ALTER DATABASE {database} SET default_transaction_read_only = on"));
    let url = format!("{}?options[default_transaction_read_only]=off", r.url);
    let ran = r.site_on(&url, &with_digest);
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""));
    assert_eq!((counts(&ran)[1], counts(&ran)[3], r.fields_under("kv1")), (0, 0, 0));
    let mut session = r.session();
    session.run("SET default_transaction_read_only = off");
    session.run(&reset);
    session.run(&format!("DROP ROLE {role}"));
}

#[test]
fn init_makes_no_tables_in_a_frozen_database() {
    let mut r = Rehearsal::postgres(3);
    r.database = r.cluster.database(None);
    r.url = r.cluster.url(&r.database);
    r.sql(&format!("ALTER DATABASE {} SET default_transaction_read_only = on", r.database));
    let ran = r.site("init --rows made.csv");
    assert_eq!((ran.status, ran.stdout.as_str()), (1, ""));
    assert_eq!(ran.stderr, frozen(&r, "for this database"));
    assert_eq!(r.value("SELECT count(*) FROM pg_class WHERE relname = 'tenants'"), "0");
    let url = format!("{}?options[default_transaction_read_only]=off", r.url);
    r.site_on(&url, "init --rows made.csv").good();
}

/// A freeze that begins while an import in batches is at work, on the whole server: what was committed is,
/// and no transaction begins after that.
#[test]
fn a_freeze_between_two_batches_is_heeded() {
    let cluster = Cluster::start(Durable::No, "");
    let r = Rehearsal::on(&cluster, 30, 2).rewrapped();
    let fields = r.fields_under("kv1");
    let mut holder = r.session();
    holder.run(&format!("BEGIN; SELECT FROM {CONFIG} WHERE organization_id = '{}' FOR UPDATE", r.ids()[10]));
    let import = r.start_import("--batch-rows 5 --lock-timeout 60");
    r.session().wait_for(WAITING, "1");
    r.session().run("ALTER SYSTEM SET default_transaction_read_only = on");
    r.session().run("SELECT pg_reload_conf()");
    // A session that begins with it began after the server has told it to all others.
    let begun = std::time::Instant::now();
    while r.value("SELECT current_setting('default_transaction_read_only')") != "on" {
        assert!(begun.elapsed().as_secs() < 20, "the server does not read its configuration");
    }
    holder.run("COMMIT");
    let ran = finished(import);
    let batches = ran.json()["batches_committed"].as_u64().unwrap();
    // (The batch that waited was begun before.)
    let written = batches * 5;
    assert_eq!((ran.status, counts(&ran)[0]), (1, written), "{}", ran.stderr);
    let told = frozen(&r, "since this import began");
    let rest = format!(
        "  before that {batches} batches with {written} rows were committed; run it again to go on from there\n"
    );
    assert_eq!(ran.stderr, told + &rest);

    let ran = r.import("");
    assert_eq!((ran.status, ran.stderr), (1, frozen(&r, "for the whole server")));
    let left = r.fields_under("kv1");
    assert!(0 < left && left < fields, "{left}");
    let mut session = r.session();
    session.run("SET default_transaction_read_only = off");
    session.run("ALTER SYSTEM RESET default_transaction_read_only");
    session.run("SELECT pg_reload_conf()");
    while r.value("SELECT current_setting('default_transaction_read_only')") != "off" {
        assert!(begun.elapsed().as_secs() < 60, "the server does not read its configuration");
    }
    let ran = r.import("");
    assert_eq!((ran.status, counts(&ran)[1], counts(&ran)[3]), (0, written, 0), "{}", ran.stderr);
    assert_eq!(r.fields_under("kv1"), 0);
}

#[test]
fn a_standby_is_read_and_not_written_to() {
    let cluster = Cluster::start(Durable::Yes, "");
    let r = Rehearsal::on(&cluster, 12, 2).rewrapped();
    let before = r.state();
    let empty = cluster.database(None);
    cluster.kill();
    // A standby without a primary: it stays as it is.
    std::fs::write(cluster.folder().join("data/standby.signal"), "").unwrap();
    cluster.launch();
    assert_eq!(r.value("SELECT pg_is_in_recovery()"), "true");
    let import = format!(
        "import out.csv --site-config site.toml --manifest-sha256 {}",
        r.digest("out.csv.manifest.json")
    );
    for (database, line) in [
        (&r.database, import.clone()),
        (&r.database, format!("{import} --dry-run")),
        (&empty, "init --rows made.csv".to_owned()),
    ] {
        let ran = r.site_on(&cluster.url(database), &line);
        let told = format!(
            "rekek-site: the database {database} at 127.0.0.1:{} is a standby, which takes no writes; name its primary \
             in the URL\n",
            cluster.port
        );
        assert_eq!((ran.status, ran.stdout, ran.stderr), (1, String::new(), told), "{line}");
    }
    assert_eq!(r.state(), before);
    assert!(r.fields_under("kv1") > 0 && r.fields_under("kv2") == 0);
}
