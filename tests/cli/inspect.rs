//! Counting, and the check before a key is removed.

use crate::support::{CIPHERTEXTS, Site, Table, edit_envelope};
use serde_json::json;

#[test]
fn fields_and_rows_are_counted_by_the_key_they_name() {
    let site = Site::sample();
    let run = site.rekek("inspect export.csv --json");
    assert_eq!((run.status, run.stderr.as_str()), (0, ""));
    let report = run.json();
    assert_eq!(
        (&report["rows"], &report["fields"], &report["malformed"]),
        (&json!(150), &json!(287), &json!(0))
    );
    assert_eq!(report["fields_by_key"], json!({"kv0": 125, "kv1": 136, "kv2": 26}));
    assert_eq!((&report["retired"], &report["repeated_nonces"]), (&json!({}), &json!(null)));
    let rows: u64 = report["rows_by_key"].as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum();
    assert!(rows > 150, "rows with two keys count under both");
}

#[test]
fn a_retired_key_is_gone_only_when_no_field_names_it() {
    let site = Site::sample();
    let run = site.rekek("inspect export.csv --retired kv0 --retired kv1 --retired kv7 --json");
    let message =
        "rekek: key kv0 is still in use: 125 fields name it; key kv1 is still in use: 136 fields name it\n";
    assert_eq!((run.status, run.stderr.as_str()), (3, message));
    assert_eq!(run.json()["retired"], json!({"kv0": 125, "kv1": 136, "kv7": 0}));

    site.rekek("rewrap export.csv -o out.csv --secrets secrets.json --to kv2").good();
    let run = site.rekek("inspect out.csv --retired kv0 --retired kv1");
    let notes = "rekek: note: this file was written by a re-wrap: it tells nothing about what the database holds\n\
                 rekek: note: backups taken before the import still need kv0, kv1\n";
    assert_eq!((run.status, run.stderr.as_str()), (0, notes));
    let report = site.rekek("inspect out.csv --json").json();
    assert_eq!(report["manifest_checked"], true);
}

/// What an export of some organizations does not name, the others may.
#[test]
fn an_export_of_selected_organizations_answers_nothing_for_the_site() {
    let site = Site::sample();
    site.rekek("rewrap export.csv -o out.csv --org org-0000001 --secrets secrets.json --to kv2").good();
    let run = site.rekek("inspect out.csv --retired kv0 --json");
    let answer = "rekek: the file has selected organizations only (1), and cannot say that no other names the key: \
                  inspect an export of all of them, or the database\n";
    assert_eq!(run.status, 3);
    assert!(run.stderr.ends_with(answer), "{}", run.stderr);
    assert_eq!(run.json()["scope"], json!(["org-0000001"]));
    let run = site.rekek("inspect out.csv");
    assert!(run.status == 0 && run.stdout.contains("1 selected organizations"), "{}", run.stdout);
    assert_eq!(site.rekek("inspect export.csv --json").json()["scope"], json!(null));
}

#[test]
fn several_keys_in_one_argument_are_not_gone() {
    let site = Site::sample();
    let run = site.rekek("inspect export.csv --retired kv0,kv7");
    let answer =
        "rekek: no field names kv0,kv7, but fields name kv0: if that is meant, ask for --retired kv0\n";
    assert_eq!((run.status, run.stderr.as_str()), (3, answer));
}

/// A file that lost its last rows on its way must not say that a key may go.
#[test]
fn a_file_that_was_cut_or_changed_answers_nothing() {
    let site = Site::sample();
    site.rekek("rewrap export.csv -o out.csv --secrets secrets.json --to kv2").good();
    let whole = site.read("out.csv");
    let cut = &whole[..=whole[..whole.len() - 1].rfind('\n').unwrap()];
    for spoilt in [cut, &whole[..whole.len() / 2], &whole.replacen("org-", "arg-", 1)] {
        site.write("out.csv", spoilt);
        let run = site.rekek("inspect out.csv --retired kv0");
        assert_eq!((run.status, run.stdout.as_str()), (1, ""), "{}", run.stderr);
        let said = run.stderr.strip_prefix("rekek: out.csv is not the file that its manifest describes: ");
        assert!(said.is_some_and(|said| said.ends_with("; bring both over again\n")), "{}", run.stderr);
    }
    std::fs::remove_file(site.path("out.csv.manifest.json")).unwrap();
    site.write("out.csv", cut);
    let run = site.rekek("inspect out.csv --retired kv0");
    let note = "rekek: note: no manifest is beside the file: whether it is whole was not checked\n";
    assert!(run.status == 0 && run.stderr.contains(note), "{}", run.stderr);
}

#[test]
fn a_malformed_envelope_is_named_and_forbids_a_key_s_removal() {
    let site = Site::sample();
    let mut table = Table::sample();
    let row = table.row_with(5, &CIPHERTEXTS[..1]);
    *table.value(row, CIPHERTEXTS[0]) = "{}".into();
    site.write("export.csv", table.text());
    let run = site.rekek("inspect export.csv --json");
    assert_eq!(run.status, 0, "counting is not judging");
    let report = run.json();
    assert_eq!(report["malformed"], 1);
    assert_eq!(report["failures"][0]["organization_id"], table.get(row, "organization_id"));
    let run = site.rekek("inspect export.csv --retired kv7");
    let message = "rekek: 1 envelopes are malformed, and nobody can say which key they name\n";
    assert_eq!((run.status, run.stderr.as_str()), (3, message));
}

#[test]
fn a_file_that_names_endlessly_many_keys_does_not_fill_the_memory() {
    let site = Site::sample();
    let mut table = Table::sample();
    let text = table.get(table.row_with(0, &CIPHERTEXTS[2..]), CIPHERTEXTS[2]).to_owned();
    let row = table.rows[0].clone();
    let column = table.column(CIPHERTEXTS[2]);
    table.rows = (0..10_100)
        .map(|i| {
            let mut row = row.clone();
            row[0] = format!("org-{i:06}");
            row[2].clear();
            row[3].clear();
            row[column] = edit_envelope(&text, |json| json.replace("\"kv", &format!("\"{i}-")));
            row
        })
        .collect();
    site.write("export.csv", table.text());
    let report = site.rekek("inspect export.csv --json --threads 1").json();
    let by_key = report["fields_by_key"].as_object().unwrap();
    assert_eq!((by_key.len(), &by_key["(other key ids)"]), (10_001, &json!(100)));
}

#[test]
fn a_nonce_used_twice_under_one_key_is_found() {
    let site = Site::sample();
    assert_eq!(site.rekek("inspect export.csv --nonces --json").json()["repeated_nonces"], 0);
    let said = site.rekek("inspect export.csv --nonces").good();
    assert!(said.contains("\n  malformed        0\nrepeated nonces    0\n\nkey  fields  rows\n"), "{said}");
    let mut table = Table::sample();
    let (a, b) = (table.row_with(5, &CIPHERTEXTS[..1]), table.row_with(140, &CIPHERTEXTS[..1]));
    *table.value(b, CIPHERTEXTS[0]) = table.get(a, CIPHERTEXTS[0]).to_owned();
    site.write("export.csv", table.text());
    let run = site.rekek("inspect export.csv --nonces --json");
    assert_eq!((run.status, run.stderr.as_str()), (3, "rekek: 1 fields repeat a nonce under the same key\n"));
    assert_eq!(run.json()["repeated_nonces"], 1);
    // Under another key the same nonce is another matter.
    let other = edit_envelope(table.get(a, CIPHERTEXTS[0]), |json| json.replace("\"kv", "\"kw"));
    *table.value(b, CIPHERTEXTS[0]) = other;
    site.write("export.csv", table.text());
    assert_eq!(site.rekek("inspect export.csv --nonces --json").json()["repeated_nonces"], 0);
}
