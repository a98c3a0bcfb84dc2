//! Synthetic exports.

use crate::support::{CIPHERTEXTS, Site, Table, key_of};
use std::collections::HashSet;

fn site_with_keys() -> Site {
    let site = Site::empty();
    for key in ["kv0", "kv1", "kv2"] {
        site.rekek(&format!("keygen {key} --secrets s.json")).good();
    }
    site
}

#[test]
fn a_seed_gives_the_same_layout_and_plaintexts_and_never_the_same_nonces() {
    let site = site_with_keys();
    for (name, seed, threads) in [("a.csv", 7, 1), ("b.csv", 7, 2), ("c.csv", 8, 2)] {
        let keys = "--secrets s.json --under kv0=1 --under kv1=3";
        site.rekek(&format!("generate -o {name} --orgs 700 {keys} --seed {seed} --threads {threads}")).good();
    }
    let [a, b, c] = ["a.csv", "b.csv", "c.csv"].map(|name| Table::parse(&site.read(name)));
    let mut nonces = HashSet::new();
    let mut fields = 0;
    for row in 0..700 {
        for column in &a.header {
            let (one, two) = (a.get(row, column), b.get(row, column));
            if !CIPHERTEXTS.contains(&column.as_str()) {
                assert_eq!(one, two, "row {row}, {column}");
            } else if one.is_empty() {
                assert_eq!(two, "");
            } else {
                assert_eq!(key_of(one), key_of(two));
                for text in [one, two] {
                    nonces.insert(rekek::envelope::independent::read(text).unwrap().nonce);
                    fields += 1;
                }
            }
        }
    }
    assert_eq!(nonces.len(), fields);
    assert!(a.rows != c.rows);
    // The same plaintexts: one is, row by row, an export of the other.
    site.rekek("rewrap a.csv -o out.csv --secrets s.json --to kv2").good();
    let run = site.rekek("verify out.csv --source b.csv --secrets s.json --json").json();
    assert_eq!(run["checks"]["source_plaintexts"]["findings"], 0);
}

#[test]
fn it_has_every_column_and_every_kind_of_row() {
    let site = site_with_keys();
    site.rekek("generate -o g.csv --orgs 2000 --secrets s.json --under kv0=1 --under kv1=8 --under kv2")
        .good();
    let table = Table::parse(&site.read("g.csv"));
    assert_eq!(table.rows.len(), 2000);
    for column in [
        "organization_id",
        "organization_name",
        "version",
        "routing_profile_type",
        "issuer",
        "default_audience",
        "allowed_audiences",
        "token_ttl_sec",
        "subject_prefix",
        "enabled",
        "created_at",
        "updated_at",
        "signing_key_public_1",
        "signing_key_public_2",
        "current_signing_key_slot",
        "non_active_slot_expires_at",
        "token_endpoint",
        "auth_method",
        "subject_token_audience",
        "token_delegation_created_at",
    ] {
        table.column(column);
    }
    for column in CIPHERTEXTS {
        let absent = (0..2000).filter(|r| table.get(*r, column).is_empty()).count();
        assert!((1..2000).contains(&absent), "{column}: {absent}");
    }
    let report = site.rekek("inspect g.csv --json").json();
    let fields = |key: &str| report["fields_by_key"][key].as_u64().unwrap() as f64;
    let all = report["fields"].as_u64().unwrap() as f64;
    for (key, share) in [("kv0", 0.1), ("kv1", 0.8), ("kv2", 0.1)] {
        assert!((fields(key) / all - share).abs() < 0.05, "{key}: {}", fields(key) / all);
    }
    // Real keys with their public values: the fullest check passes, with nothing left out.
    let line = "rewrap g.csv --dry-run --secrets s.json --to kv2 --check-signing-keys full --json";
    let report = site.rekek(line).json();
    assert_eq!((&report["rows_failed"], &report["signing_keys_unchecked"]), (&0.into(), &0.into()));
    let ids: Vec<_> = (0..2000).map(|r| table.get(r, "organization_id")).collect();
    assert!(ids.is_sorted());
}

#[test]
fn it_refuses_what_rewrap_would() {
    let site = site_with_keys();
    let run = site.rekek("generate -o g.csv --orgs 10 --secrets s.json --under kv9");
    assert_eq!(
        (run.status, run.stderr.as_str()),
        (1, "rekek: the key kv9 is in none of the secrets given; make it first with `rekek keygen`\n")
    );
    site.rekek("generate -o g.csv --orgs 10 --secrets s.json --under kv1").good();
    let run = site.rekek("generate -o g.csv --orgs 10 --secrets s.json --under kv1");
    let message = "rekek: g.csv exists already; choose another name, or --force to replace it\n";
    assert_eq!((run.status, run.stderr.as_str()), (1, message));
    let run =
        site.rekek("generate -o s.json --output-format csv --orgs 10 --secrets s.json --under kv1 --force");
    assert_eq!(run.status, 2);
    site.rekek("generate -o none.csv --orgs 0 --secrets s.json --under kv1").good();
    assert_eq!(site.rekek("inspect none.csv --json").json()["rows"], 0);
}
