//! What the machines and the database hold where a part of a document begins.

use crate::folder::{CIPHERTEXTS, Table};
use crate::world::{DATABASE, World};

pub fn readme(heading: &str, world: Option<World>) -> Option<World> {
    match heading {
        "A rotation" => Some(World::sample("", "fixtures/sample")),
        // Each part imports into the site as it was before.
        "A signed rotation" | "The site database" => world.map(World::with_sample_rows),
        _ => world,
    }
}

pub fn runbook(heading: &str, world: Option<World>) -> Option<World> {
    match heading {
        "Before you begin" => Some(World::under_kv1()),
        "When rows fail" => Some(with_failing_rows()),
        "When rows conflict" => Some(with_changed_rows()),
        "After the import, while the old key is there" | "When the new key is lost" => {
            Some(World::imported())
        }
        "Rehearse it" => Some(World::empty()),
        _ => world,
    }
}

pub fn demo(heading: &str, _: Option<World>) -> Option<World> {
    let postgres = heading.contains("--postgres");
    Some(World::of_demo(if postgres { "postgres://postgres@127.0.0.1:38519/site" } else { DATABASE }))
}

/// Three rows of the sample site are spoiled, and the key kv0 is in a file of its own.
fn with_failing_rows() -> World {
    let world = World::sample("keys", "");
    let mut table = Table::sample();
    let [one, two, _] = CIPHERTEXTS;
    *table.value(10, one) = "e30=".into();
    let (a, b) = (table.row_with(50, &[one, two]), table.row_with(60, &[one, two]));
    let swapped = std::mem::take(table.value(a, one));
    *table.value(a, one) = std::mem::replace(table.value(b, one), swapped);
    std::fs::write(world.path("keys", "export.csv"), table.text()).unwrap();
    let script = r#"python3 - <<'END'
import json, os
secrets = json.load(open("secrets.json"))
keys = secrets["machine_identity"]["encryption_keys"]
old = {"machine_identity": {"encryption_keys": {"kv0": keys.pop("kv0")}}}
os.umask(0o077)
json.dump(secrets, open("secrets.json", "w"))
json.dump(old, open("old.json", "w"))
END"#;
    world.do_it("keys", script);
    world
}

/// After the export an organization put its signing key into the other slot, one lost its
/// token-delegation credentials, one was deleted.
fn with_changed_rows() -> World {
    let world = World::rewrapped();
    let export = std::fs::read_to_string(world.path("db", "export.csv")).unwrap();
    let table = Table::parse(&export);
    let [one, two, auth] = CIPHERTEXTS;
    let id = |row: usize| table.get(row, "organization_id");
    let rotated = table.row_with(20, &[one]);
    let cleared = table.row_with(40, &[one, auth]);
    let deleted = table.row_with(60, &[one]);
    world.sql(&format!(
        "UPDATE tenant_identity_config SET {two} = {one}, signing_key_public_2 = signing_key_public_1
         WHERE organization_id = '{}'",
        id(rotated)
    ));
    let cleared = id(cleared);
    world.sql(&format!(
        "UPDATE tenant_identity_config SET {auth} = NULL, auth_method = 'none' WHERE organization_id = '{cleared}'"
    ));
    world.sql(&format!("DELETE FROM tenants WHERE organization_id = '{}'", id(deleted)));
    world
}

/// The fifty sites of scripts/demo-fleet.
pub fn fleet(heading: &str, world: Option<World>) -> Option<World> {
    if heading != "Fifty sites, three of them broken" {
        return world;
    }
    let world = World::empty();
    world.do_it(
        "",
        r#"mkdir sites kept
        for i in $(seq -w 1 50); do
            site=sites/site-$i
            mkdir $site
            for key in kv1 kv2; do rekek keygen $key --secrets $site/secrets.json; done
            rekek generate -o $site/export.csv --orgs $((10#$i * 4)) --secrets $site/secrets.json --under kv1 \
                --seed $((10#$i))
            printf '[machine_identity]\nenabled = true\ncurrent_encryption_key_id = "kv2"\n' >$site/site.toml
        done
        cp sites/site-07/secrets.json kept/07.json
        cp sites/site-23/export.csv kept/23.csv"#,
    );
    Some(world)
}
