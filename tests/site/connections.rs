//! Reaching the database: URLs, variables, password files, TLS; and that a password is never told.

use crate::cluster::{Cluster, Durable};
use crate::support::{CONFIG, Rehearsal, ran};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

const SECRET: &str = "hush-Hush";

#[track_caller]
fn silent_about(ran: &crate::support::Ran, secret: &str) {
    let all = format!("{}{}", ran.stdout, ran.stderr);
    assert!(!all.contains(secret), "{all}");
}

#[test]
fn no_error_tells_a_password() {
    let r = Rehearsal::postgres(3).rewrapped();
    let port = r.cluster.port;
    let _ = r.session().try_run("CREATE ROLE locked LOGIN PASSWORD 'right'");
    let database = &r.database;
    let urls = [
        (
            format!("postgres://locked:{SECRET}@127.0.0.1:{port}/{database}"),
            1,
            "password authentication failed",
        ),
        (
            format!("postgres://locked@127.0.0.1:{port}/{database}?password={SECRET}"),
            1,
            "password authentication failed",
        ),
        (format!("postgres://locked:{SECRET}@127.0.0.1:1/{database}"), 1, "cannot connect to"),
        (format!("postgres://locked:{SECRET}@no.such.host.invalid/{database}"), 1, "cannot connect to"),
        (format!("postgres://postgres:{SECRET}@127.0.0.1:{port}/no_such_database"), 1, "does not exist"),
        (format!("postgres://locked:{SECRET}@127.0.0.1:{port}/{database}?sslmode=verify-full"), 1, "TLS"),
        (
            format!("postgres://locked:{SECRET}@127.0.0.1:{port}/{database}?sslmode={SECRET}"),
            2,
            "sslmode is none of",
        ),
        (
            format!("postgres://locked:{SECRET}@127.0.0.1:{port}/{database}?{SECRET}=1"),
            2,
            "a parameter that is not known",
        ),
        (
            format!("postgres://locked:{SECRET}@127.0.0.1:port/{database}"),
            2,
            "the database URL: it is postgres://",
        ),
        (format!("postgres://locked:a/{SECRET}@127.0.0.1:{port}/{database}"), 2, "percent encoding"),
        (format!("postgres://locked:1/{SECRET}@127.0.0.1"), 2, "percent encoding"),
        (format!("postgres://locked:1#{SECRET}@127.0.0.1:{port}/{database}"), 2, "percent encoding"),
        (format!("postgres://locked:1?{SECRET}@127.0.0.1:{port}/{database}"), 2, "percent encoding"),
        (format!("postgres://locked:{SECRET}@@127.0.0.1:{port}/{database}"), 2, "percent encoding"),
        (
            format!("mysql://locked:{SECRET}@127.0.0.1/{database}"),
            2,
            "it begins with neither postgres:// nor sqlite:; ",
        ),
        (format!("locked:{SECRET}@127.0.0.1"), 2, "it begins with neither postgres:// nor sqlite:; "),
    ];
    for (url, status, told) in &urls {
        for line in ["export -o x.csv --report x.json", "inspect", "import out.csv", "init"] {
            let ran = r.site_on(url, line);
            assert_eq!(ran.status, *status, "{line} {url}: {}", ran.stderr);
            assert!(ran.stderr.contains(told), "{line} {url}: {}", ran.stderr);
            silent_about(&ran, SECRET);
        }
    }
    assert!(!r.path("x.json").exists());
    // Usage errors quote arguments: not these.
    let url = &urls[0].0;
    for words in [
        vec!["export".to_owned(), url.clone()],
        vec!["inspect".to_owned(), format!("--dbb={url}")],
        vec![url.clone()],
        vec![
            "import".to_owned(),
            "x".into(),
            "--db".into(),
            "sqlite:x".into(),
            "--on-conflict".into(),
            url.clone(),
        ],
    ] {
        let ran =
            ran(Command::new(assert_cmd::cargo::cargo_bin!("rekek-site")).args(&words).output().unwrap());
        assert_eq!(ran.status, 2, "{}", ran.stderr);
        silent_about(&ran, SECRET);
    }
}

#[test]
fn variables_and_password_files_fill_in_what_a_url_leaves_out() {
    let r = Rehearsal::postgres(3);
    let _ = r.session().try_run("CREATE ROLE locked LOGIN PASSWORD 'right'");
    r.sql("GRANT SELECT ON ALL TABLES IN SCHEMA public TO locked");
    let port = r.cluster.port.to_string();
    let run = |url: &str, variables: &[(&str, &str)]| {
        ran(r
            .command_on(url, "inspect --json")
            .envs(variables.iter().copied())
            .env("HOME", r.path(""))
            .output()
            .unwrap())
    };
    let place = [
        ("PGHOST", "127.0.0.1"),
        ("PGPORT", &port),
        ("PGDATABASE", r.database.as_str()),
        ("PGUSER", "locked"),
    ];
    let with = |more: &[(&'static str, &'static str)]| [&place[..], more].concat();
    assert_eq!(run("postgres://", &with(&[("PGPASSWORD", "right")])).status, 0);
    assert_eq!(run("postgres://", &with(&[("PGPASSWORD", "wrong")])).status, 1);
    assert_eq!(run(&format!("postgres://locked:right@127.0.0.1:{port}/{}", r.database), &[]).status, 0);

    r.folder.write(
        "pass",
        format!(
            "# a comment\n127.0.0.1:{port}:other:locked:wrong\n127.0.0.1:*:{}:locked:right\n",
            r.database
        ),
    );
    assert_eq!(run("postgres://", &with(&[("PGPASSFILE", "pass")])).status, 0);
    assert_eq!(run("postgres://?passfile=pass&connect_timeout=5", &with(&[])).status, 0);
    std::fs::set_permissions(r.path("pass"), std::fs::Permissions::from_mode(0o644)).unwrap();
    let open = run("postgres://?passfile=pass", &with(&[]));
    assert_eq!(open.status, 2, "a password file that others can read is not used");
    assert!(open.stderr.contains("its mode must be 0600"), "{}", open.stderr);
    for variable in [&[("PGPASSFILE", "pass")][..], &[]] {
        if variable.is_empty() {
            std::fs::rename(r.path("pass"), r.path(".pgpass")).unwrap();
        }
        let open = run("postgres://", &with(variable));
        assert_eq!(open.status, 1);
        let said = "pass was passed over, since others can read it: chmod 600 it\n";
        assert!(open.stderr.ends_with(said), "{}", open.stderr);
    }
    let told = run("postgres://", &with(&[("PGPASSWORD", "wrong")]));
    assert!(told.status == 1 && !told.stderr.contains("passed over"), "{}", told.stderr);

    // What sqlx would pass over without a word.
    for (name, value) in [
        ("PGSSLMODE", "verify-ful"),
        ("PGPORT", "5432x"),
        ("PGSERVICE", "site"),
        ("PGREQUIREAUTH", "scram-sha-256"),
        ("PGCHANNELBINDING", "require"),
        ("PGSSLCRL", "x.crl"),
        ("PGREQUIREPEER", "postgres"),
        ("PGSSLMAXPROTOCOLVERSION", "TLSv1.2"),
    ] {
        let ran = run("postgres://", &[("PGHOST", "127.0.0.1"), (name, value)]);
        assert_eq!(ran.status, 2);
        assert!(ran.stderr.contains(&format!("the environment variable {name}")), "{}", ran.stderr);
    }
}

/// It has the database's password in its memory.
#[test]
fn a_run_leaves_no_core() {
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap(); // which never answers
    let url = format!("postgres://u:hushhush@127.0.0.1:{}/d", server.local_addr().unwrap().port());
    let r = Rehearsal::postgres(1);
    let mut child = r.command_on(&url, "inspect").spawn().unwrap();
    let _client = server.accept().unwrap();
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", child.id())).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().collect::<Vec<_>>()[4..6], ["0", "0"], "{core}");
}

/// A URL has an IPv6 address in brackets, the password file has it without.
#[test]
fn an_ipv6_address_in_a_url() {
    let r = Rehearsal::postgres(3);
    let _ = r.session().try_run("CREATE ROLE locked LOGIN PASSWORD 'right'");
    r.sql("GRANT SELECT ON ALL TABLES IN SCHEMA public TO locked");
    // The server itself listens on 127.0.0.1 only.
    let listener = std::net::TcpListener::bind("[::1]:0").expect("this test needs IPv6 on the loopback");
    let (port, server) = (listener.local_addr().unwrap().port(), r.cluster.port);
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let mut upstream = std::net::TcpStream::connect(("127.0.0.1", server)).unwrap();
            let (mut answers, mut to_client) = (upstream.try_clone().unwrap(), client.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut answers, &mut to_client));
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut client, &mut upstream);
                let _ = upstream.shutdown(std::net::Shutdown::Write);
            });
        }
    });
    r.folder.write("pass", format!(r"\:\:1:{port}:{}:locked:right", r.database));
    std::fs::set_permissions(r.path("pass"), std::fs::Permissions::from_mode(0o600)).unwrap();
    let database = &r.database;
    for (url, status) in [
        (format!("postgres://locked@[::1]:{port}/{database}?passfile=pass"), 0),
        (format!("postgres://locked:right@[::1]:{port}/{database}"), 0),
        (format!("postgres://locked:right@[0:0::1]:{port}/{database}"), 0),
        (format!("postgres://locked:{SECRET}@[::1]:{port}/{database}"), 1),
        (format!("postgres://locked:{SECRET}@[::1:{port}/{database}"), 2),
        (format!("postgres://locked:{SECRET}@[::zz]:{port}/{database}"), 2),
    ] {
        let ran = r.site_on(&url, "inspect --json");
        assert_eq!(ran.status, status, "{url}: {}", ran.stderr);
        let told = format!("cannot connect to the database {database} at [::1]:{port} as locked");
        assert!(status != 1 || ran.stderr.contains(&told), "{}", ran.stderr);
        silent_about(&ran, SECRET);
    }
}

#[test]
fn a_server_that_does_not_answer_is_not_waited_for_for_ever() {
    let r = Rehearsal::postgres(3);
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let ran =
        r.site_on(&format!("postgres://locked:{SECRET}@127.0.0.1:{port}/x?connect_timeout=1"), "inspect");
    assert_eq!(ran.status, 1);
    assert!(ran.stderr.contains("no answer within 1 s"), "{}", ran.stderr);
    silent_about(&ran, SECRET);
}

fn openssl(folder: &std::path::Path, line: &str) {
    let made = Command::new("openssl").args(line.split_whitespace()).current_dir(folder).output();
    let made = made.expect("openssl makes this test's certificates: install it");
    assert!(made.status.success(), "{line}: {}", String::from_utf8_lossy(&made.stderr));
}

/// TLS as far as a site can ask for it: the server's certificate and name verified against the
/// site's own authority, and the client known by a certificate.
#[test]
fn tls_up_to_verify_full_with_client_certificates() {
    let cluster = Cluster::start(Durable::No, "");
    let r = Rehearsal::on(&cluster, 3, 2);
    let folder = r.path("");
    for authority in ["ca", "other"] {
        openssl(
            &folder,
            &format!(
                "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN={authority} -keyout {authority}.key -out {authority}.crt"
            ),
        );
    }
    for (name, subject) in [("server", "localhost"), ("client", "certified")] {
        openssl(
            &folder,
            &format!(
                "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN={subject} -keyout {name}.key -out {name}.csr"
            ),
        );
        r.folder.write("ext", format!("subjectAltName=DNS:{subject}\nbasicConstraints=critical,CA:FALSE\n"));
        openssl(
            &folder,
            &format!(
                "x509 -req -in {name}.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out {name}.crt"
            ),
        );
    }
    let data = cluster.folder().join("data");
    for name in ["server.key", "server.crt", "ca.crt"] {
        std::fs::copy(r.path(name), data.join(name)).unwrap();
        std::fs::set_permissions(data.join(name), std::fs::Permissions::from_mode(0o600)).unwrap();
        use std::os::unix::fs::MetadataExt as _;
        let owner = data.metadata().unwrap();
        std::os::unix::fs::chown(data.join(name), Some(owner.uid()), Some(owner.gid())).unwrap();
    }
    let hba = "hostssl all certified all cert\nhost all certified all reject\nhost all all all trust\n";
    std::fs::write(data.join("pg_hba.conf"), hba).unwrap();
    r.sql("CREATE ROLE certified LOGIN; GRANT SELECT ON tenant_identity_config TO certified");
    for setting in ["ssl = on", "ssl_ca_file = 'ca.crt'"] {
        r.session().run(&format!("ALTER SYSTEM SET {setting}"));
    }
    r.session().run("SELECT pg_reload_conf()");
    r.session().wait_for("SELECT current_setting('ssl')", "on");
    std::thread::sleep(std::time::Duration::from_millis(300));

    let inspect = |host: &str, role: &str, parameters: &str| {
        let url = format!("postgres://{role}@{host}:{}/{}?{parameters}", cluster.port, r.database);
        r.site_on(&url, "inspect --json")
    };
    let good = |host: &str, role: &str, parameters: &str| {
        let ran = inspect(host, role, parameters);
        assert_eq!(ran.status, 0, "{host} {role} {parameters}: {}", ran.stderr);
    };
    let bad = |host: &str, role: &str, parameters: &str| {
        let ran = inspect(host, role, parameters);
        assert_eq!(ran.status, 1, "{host} {role} {parameters}");
        assert!(ran.stderr.contains("cannot connect to"), "{}", ran.stderr);
    };
    let certificate = "sslcert=client.crt&sslkey=client.key";
    for mode in ["disable", "prefer", "require"] {
        good("localhost", "postgres", &format!("sslmode={mode}"));
    }
    good("localhost", "postgres", "sslmode=verify-full&sslrootcert=ca.crt");
    good("127.0.0.1", "postgres", "sslmode=verify-ca&sslrootcert=ca.crt");
    good("localhost", "certified", &format!("sslmode=verify-full&sslrootcert=ca.crt&{certificate}"));
    bad("127.0.0.1", "postgres", "sslmode=verify-full&sslrootcert=ca.crt");
    bad("localhost", "postgres", "sslmode=verify-full&sslrootcert=other.crt");
    bad("localhost", "postgres", "sslmode=verify-ca");
    bad("localhost", "certified", "sslmode=verify-full&sslrootcert=ca.crt");
    bad("localhost", "certified", "sslmode=disable");
}

/// Usage errors are clap's, which quotes what it does not understand.
#[test]
fn no_usage_error_tells_a_password() {
    use std::os::unix::ffi::OsStrExt as _;
    let odd = std::ffi::OsStr::from_bytes(b"postgres://u:hushhush\xff@h/d");
    let url = "postgres://u:hushhush@h/d".as_ref();
    let (db, sqlite) = ("--db".as_ref(), "sqlite:x".as_ref());
    let cases: [&[&std::ffi::OsStr]; 14] = [
        // Where a file should be named.
        &["import".as_ref(), url, db, sqlite],
        &["import".as_ref(), "x".as_ref(), db, sqlite, "--manifest".as_ref(), url],
        &["import".as_ref(), "x".as_ref(), db, sqlite, "--site-config".as_ref(), url],
        &["inspect".as_ref(), db, sqlite, "--report".as_ref(), url],
        &["export".as_ref(), db, sqlite, "-o".as_ref(), url, "--output-format".as_ref(), "csv".as_ref()],
        &["init".as_ref(), db, sqlite, "--rows".as_ref(), url],
        &["inspect".as_ref(), "postgres://u@h/db?password=hushhush&sslmode=require".as_ref()],
        &["inspect".as_ref(), "host=db user=x password=hushhush".as_ref()],
        &["inspect".as_ref(), "hushhush".as_ref()],
        &[
            "import".as_ref(),
            "x".as_ref(),
            "--db".as_ref(),
            "sqlite:x".as_ref(),
            "--on-conflict".as_ref(),
            "postgres://u:a=b=hushhush=c@h/d".as_ref(),
        ],
        &["import".as_ref(), "x".as_ref(), "--lock-timeout=hushhush".as_ref()],
        &["--hushhush@h".as_ref()],
        &["inspect".as_ref(), "--db".as_ref(), odd],
        &["export".as_ref(), odd],
    ];
    for arguments in cases {
        let output =
            std::process::Command::new(assert_cmd::cargo::cargo_bin!("rekek-site")).args(arguments).output();
        let ran = crate::support::ran(output.unwrap());
        assert_eq!((ran.status, ran.stdout.as_str()), (2, ""), "{arguments:?}: {}", ran.stderr);
        assert!(!ran.stderr.is_empty() && !ran.stderr.contains("hush"), "{arguments:?}: {}", ran.stderr);
    }
}

/// Every limit that this server has (`transaction_timeout` from PostgreSQL 17 on; a server that does not have
/// it refuses whoever sets it).
#[test]
fn a_role_s_limits_for_short_statements_do_not_end_an_import() {
    let r = Rehearsal::postgres(200).rewrapped();
    let limits =
        "name IN ('statement_timeout', 'idle_in_transaction_session_timeout', 'transaction_timeout')";
    // What is set in the import's transaction is written down there, and one of its statements takes longer.
    r.sql(&format!(
        "CREATE TABLE seen AS SELECT name, setting FROM pg_settings WHERE false;
         CREATE FUNCTION sees() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             INSERT INTO seen SELECT name, setting FROM pg_settings WHERE {limits};
             PERFORM pg_sleep(0.3); RETURN NULL; END $$;
         CREATE TRIGGER sees BEFORE UPDATE ON {CONFIG} FOR EACH STATEMENT EXECUTE FUNCTION sees();
         DO $$ DECLARE there text; BEGIN
             FOR there IN SELECT name FROM pg_settings WHERE {limits} LOOP
                 EXECUTE format('ALTER DATABASE %I SET %I = %L', current_database(), there, '100ms');
             END LOOP;
         END $$"
    ));
    assert_eq!(r.value("SELECT current_setting('statement_timeout')"), "100ms");
    let ran = r.import("");
    assert_eq!(ran.status, 0, "{}", ran.stderr);
    let there = r.value(&format!(
        "SELECT string_agg(name || '=0', ' ' ORDER BY name) FROM pg_settings WHERE {limits}"
    ));
    assert!(there.contains("idle_in_transaction_session_timeout=0 statement_timeout=0"), "{there}");
    assert_eq!(r.value("SELECT string_agg(name || '=' || setting, ' ' ORDER BY name) FROM seen"), there);
    // An export has none either: here from a view whose rows come slowly.
    r.sql(&format!(
        "ALTER TABLE {CONFIG} RENAME TO rows;
         CREATE VIEW {CONFIG} AS SELECT * FROM rows WHERE pg_sleep(0.002) IS NOT NULL"
    ));
    r.site("export -o slow.csv").good();
}
