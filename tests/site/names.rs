//! What a name stands for in the database: whoever may create functions in a schema of the `search_path`
//! must not have them called with the importer's rights (CVE-2018-1058), and the site's own triggers go on
//! to find what they name.

use crate::cluster::Cluster;
use crate::support::{CONFIG, Rehearsal, counts};

/// A function or an operator of somebody else's in `public`, which tells when it is called.
fn stranger(name: &str, arguments: &str, returns: &str) -> String {
    format!(
        "CREATE FUNCTION public.{name}({arguments}) RETURNS {returns} LANGUAGE plpgsql AS
         $$ BEGIN RAISE EXCEPTION 'a stranger was called'; END $$;"
    )
}

fn strange_operator(name: &str, left: &str, right: &str, function: &str) -> String {
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
        stranger("starts_with", "varchar, text", "boolean"),
        stranger("substr", "varchar, int", "text"),
        stranger("btrim", "varchar, text", "text"),
        stranger("convert_to", "varchar, name", "bytea"),
        stranger("octet_length", "varchar", "int"),
        stranger("unnest", "text[]", "SETOF text"),
        stranger("quote_ident", "name", "text"),
        stranger("count", "text", "bigint"),
        stranger("split_part", "text, text, int", "text"),
        stranger("equal", "varchar, text", "boolean"),
        strange_operator("=", "varchar", "text", "equal"),
        stranger("joined", "text, bigint", "text"),
        strange_operator("||", "text", "bigint", "joined"),
        stranger("times", "numeric, int", "numeric"),
        strange_operator("*", "numeric", "int", "times"),
    ];
    // And where the server's own come last, the very same will do.
    let first = [
        stranger("sha256", "bytea", "bytea"),
        stranger("convert_to", "text, name", "bytea"),
        stranger("octet_length", "text", "int"),
        stranger("clock_timestamp", "", "timestamptz"),
        stranger("now", "", "timestamptz"),
        stranger("set_config", "text, text, boolean", "text"),
        stranger("current_setting", "text", "text"),
        stranger("to_regclass", "text", "regclass"),
        stranger("to_char", "timestamp, text", "text"),
        stranger("has_column_privilege", "oid, text, text", "boolean"),
        stranger("has_database_privilege", "name, text", "boolean"),
        stranger("pg_backend_pid", "", "int"),
        stranger("pg_is_in_recovery", "", "boolean"),
        stranger("trunc", "numeric", "numeric"),
        stranger("same", "bigint, bigint", "boolean"),
        strange_operator("=", "bigint", "bigint", "same"),
        "CREATE VIEW public.pg_settings AS SELECT 1 / 0 AS name;".into(),
        "CREATE VIEW public.pg_class AS SELECT 1 / 0 AS oid;".into(),
    ];
    for generation in [1, 2] {
        let r = Rehearsal::on(Cluster::shared(), 12, generation).rewrapped();
        r.sql(&format!(
            "ALTER TABLE {CONFIG} DROP CONSTRAINT tenant_identity_config_organization_id_fkey;
             ALTER TABLE {CONFIG} ALTER organization_id TYPE varchar(64), ALTER encrypted_signing_key_1 TYPE varchar;
             ALTER TABLE tenants ALTER organization_id TYPE varchar(64), ALTER version TYPE varchar(64);"
        ));
        r.sql(&better.concat());
        let path = if generation == 1 {
            "\"$user\", public"
        } else {
            r.sql(&first.concat());
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
