//! What a name stands for in the database: whoever may create functions in a schema of the `search_path`
//! must not have them called with the importer's rights (CVE-2018-1058), and the site's own triggers go on
//! to find what they name.

use crate::cluster::Cluster;
use crate::support::{CONFIG, Rehearsal, counts};

/// A function or an operator of somebody else's in `public`, which tells when it is called.
fn stranger((name, arguments, returns): (&str, &str, &str)) -> String {
    format!(
        "CREATE FUNCTION public.{name}({arguments}) RETURNS {returns} LANGUAGE plpgsql AS
         $$ BEGIN RAISE EXCEPTION 'a stranger was called'; END $$;"
    )
}

fn strange_operator((name, left, right, function): (&str, &str, &str, &str)) -> String {
    format!(
        "CREATE OPERATOR public.{name} (LEFTARG = {left}, RIGHTARG = {right}, FUNCTION = public.{function});"
    )
}

/// Export, inspection, rehearsal and import of everything.
fn rotate(r: &Rehearsal) {
    r.site("inspect").good();
    r.site("export -o again.csv --force").good();
    r.site(&format!("export -o one.csv --org {}", r.ids()[0])).good();
    let ran = r.import("--dry-run --report dry.json");
    assert_eq!(counts(&ran)[0], 12, "{}", ran.stderr);
    let ran = r.import("--batch-rows 5 --report import.json");
    assert_eq!((ran.status, counts(&ran)[0]), (0, 12), "{}", ran.stderr);
    assert_eq!(r.fields_under("kv1"), 0);
}

#[test]
fn no_function_of_a_strangers_is_called() {
    // Values of the type varchar fit a function made for them better than the server's own for text.
    let better = [
        ("starts_with", "varchar, text", "boolean"),
        ("substr", "varchar, int", "text"),
        ("btrim", "varchar, text", "text"),
        ("convert_to", "varchar, name", "bytea"),
        ("octet_length", "varchar", "int"),
        ("unnest", "text[]", "SETOF text"),
        ("quote_ident", "name", "text"),
        ("count", "text", "bigint"),
        ("split_part", "text, text, int", "text"),
        ("equal", "varchar, text", "boolean"),
        ("joined", "text, bigint", "text"),
        ("times", "numeric, int", "numeric"),
    ]
    .map(stranger);
    let better_operators = [
        ("=", "varchar", "text", "equal"),
        ("||", "text", "bigint", "joined"),
        ("*", "numeric", "int", "times"),
    ]
    .map(strange_operator);
    // And where the server's own come last, the very same will do.
    let first = [
        ("sha256", "bytea", "bytea"),
        ("convert_to", "text, name", "bytea"),
        ("octet_length", "text", "int"),
        ("clock_timestamp", "", "timestamptz"),
        ("now", "", "timestamptz"),
        ("set_config", "text, text, boolean", "text"),
        ("current_setting", "text", "text"),
        ("to_regclass", "text", "regclass"),
        ("to_char", "timestamp, text", "text"),
        ("has_column_privilege", "oid, text, text", "boolean"),
        ("has_database_privilege", "name, text", "boolean"),
        ("pg_backend_pid", "", "int"),
        ("pg_is_in_recovery", "", "boolean"),
        ("trunc", "numeric", "numeric"),
        ("same", "bigint, bigint", "boolean"),
    ]
    .map(stranger);
    let first_operators = [("=", "bigint", "bigint", "same")].map(strange_operator);
    let views = "CREATE VIEW public.pg_settings AS SELECT 1 / 0 AS name; CREATE VIEW public.pg_class AS SELECT 1 / 0 AS oid;";
    for generation in [1, 2] {
        let r = Rehearsal::on(Cluster::shared(), 12, generation).rewrapped();
        r.sql(&format!(
            "ALTER TABLE {CONFIG} DROP CONSTRAINT tenant_identity_config_organization_id_fkey;
             ALTER TABLE {CONFIG} ALTER organization_id TYPE varchar(64), ALTER encrypted_signing_key_1 TYPE varchar;
             ALTER TABLE tenants ALTER organization_id TYPE varchar(64), ALTER version TYPE varchar(64);"
        ));
        r.sql(&(better.concat() + &better_operators.concat()));
        let path = if generation == 1 {
            "\"$user\", public"
        } else {
            r.sql(&(first.concat() + &first_operators.concat() + views));
            "public, pg_catalog"
        };
        r.sql(&format!("ALTER DATABASE {} SET search_path = {path}", r.database));
        rotate(&r);
    }
}

/// The tables stand in a schema whose name needs quotes, a trigger of theirs names a table of another
/// one, and a deferred one likewise: all by the `search_path`, as for the service.
#[test]
fn the_triggers_of_a_site_find_what_they_name() {
    let r = Rehearsal::postgres(12).rewrapped();
    r.sql(&format!(
        "CREATE SCHEMA \"The \"\"Site\"\"\"; CREATE SCHEMA journal; CREATE TABLE journal.seen (what text);
         ALTER TABLE {CONFIG} SET SCHEMA \"The \"\"Site\"\"\"; ALTER TABLE tenants SET SCHEMA \"The \"\"Site\"\"\";
         ALTER DATABASE {} SET search_path = \"The \"\"Site\"\"\", journal",
        r.database
    ));
    r.sql(&format!(
        "CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN INSERT INTO seen VALUES (TG_ARGV[0]); RETURN NEW; END $$;
         CREATE TRIGGER at_once AFTER UPDATE ON {CONFIG} FOR EACH ROW EXECUTE FUNCTION noted('at once');
         CREATE CONSTRAINT TRIGGER at_last AFTER UPDATE ON tenants DEFERRABLE INITIALLY DEFERRED
         FOR EACH ROW EXECUTE FUNCTION noted('at last');
         CREATE FUNCTION event() RETURNS event_trigger LANGUAGE plpgsql AS
         $$ BEGIN INSERT INTO seen VALUES ('event'); END $$;
         CREATE EVENT TRIGGER event ON ddl_command_end EXECUTE FUNCTION event()"
    ));
    rotate(&r);
    assert_ne!(r.value("SELECT count(*)::text FROM seen WHERE what = 'event'"), "0");
    for what in ["at once", "at last"] {
        assert_eq!(r.value(&format!("SELECT count(*)::text FROM seen WHERE what = '{what}'")), "12");
    }
}
