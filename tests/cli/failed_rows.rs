//! A row that fails is named, its neighbours are unharmed.

use crate::support::{CIPHERTEXTS, Site, Table, key_of, spoiled};
use serde_json::{Value, json};

const REWRAP: &str = "rewrap export.csv -o out.csv --secrets secrets.json --to kv2";

/// What is said of the key that one of the spoiled envelopes names.
const MISSING: &str = "rekek: the key kv9 is missing: 1 field names it, and it is not in secrets.json; give the file \
                       that holds it with another --secrets FILE or --vault-key kv9=FILE\n";

#[test]
fn every_defect_is_named_and_nothing_is_published() {
    let (table, expected) = spoiled();
    for threads in [1, 2] {
        let site = Site::sample();
        site.write("export.csv", table.text());
        let before = site.names();
        let run = site.rekek(&format!("{REWRAP} --threads {threads} --json"));
        let message = format!(
            "{MISSING}rekek: 9 rows failed and nothing was published: mend them and run again, or publish without them by --keep-going\n"
        );
        assert_eq!((run.status, run.stderr.as_str()), (3, message.as_str()));
        let report = run.json();
        assert_eq!(report["missing_keys"], json!({"kv9": 1}));
        assert_eq!((&report["rows_examined"], &report["rows_failed"]), (&json!(150), &json!(expected.len())));
        assert_eq!(report["output"], Value::Null);
        let failures = report["failures"].as_array().unwrap();
        assert_eq!(failures.len(), expected.len());
        for (failure, (_, id, column, error)) in failures.iter().zip(&expected) {
            assert_eq!((&failure["organization_id"], &failure["field"]), (&json!(id), &json!(column)));
            let said = failure["error"].as_str().unwrap();
            assert!(
                said.starts_with(error.as_str()) || said.contains(error.split(": ").nth(1).unwrap()),
                "{said} / {error}"
            );
            assert!(said.starts_with(error.split(':').next().unwrap()), "{said} has the row's number");
        }
        assert_eq!(site.names(), before);
    }
}

#[test]
fn keep_going_publishes_the_others_and_leaves_the_failed_as_they_are() {
    let (table, expected) = spoiled();
    let site = Site::sample();
    site.write("export.csv", table.text());
    let run = site.rekek(&format!("{REWRAP} --keep-going --failures failures.jsonl --report report.json"));
    let message = format!(
        "{MISSING}rekek: 9 rows failed and are unchanged in the output: keep the old keys until they are mended\n"
    );
    assert_eq!((run.status, run.stderr.as_str()), (3, message.as_str()));
    assert!(run.stdout.contains("\nkv9  missing                       1             1\n"), "{}", run.stdout);
    let out = Table::parse(&site.read("out.csv"));
    assert_eq!(out.rows.len(), 150);
    for row in 0..150 {
        let failed = expected.iter().any(|(r, ..)| *r == row);
        for column in CIPHERTEXTS {
            let (old, new) = (table.get(row, column), out.get(row, column));
            if failed {
                assert_eq!(old, new, "row {row} failed: nothing of it is re-wrapped");
            } else if !new.is_empty() {
                assert_eq!(key_of(new), "kv2", "row {row} is unharmed");
            }
        }
    }
    let lines: Vec<Value> =
        site.read("failures.jsonl").lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let report: Value = serde_json::from_str(&site.read("report.json")).unwrap();
    assert_eq!(&lines, report["failures"].as_array().unwrap());
    let sum =
        ["rows_updated", "rows_skipped_all_on_target", "rows_failed"].map(|n| report[n].as_u64().unwrap());
    assert_eq!(sum.iter().sum::<u64>(), 150);
    let verify = site.rekek("verify out.csv --source export.csv --secrets secrets.json");
    assert_eq!(verify.status, 3, "an output with failed rows is not wholly under the target");
}

#[test]
fn without_its_public_value_a_swapped_key_passes_and_is_counted() {
    let mut table = Table::sample();
    let [one, ..] = CIPHERTEXTS;
    let (a, b) = (table.row_with(50, &[one]), table.row_with(60, &[one]));
    let (text_a, text_b) = (table.get(a, one).to_owned(), table.get(b, one).to_owned());
    (*table.value(a, one), *table.value(b, one)) = (text_b, text_a);
    for row in [a, b] {
        table.value(row, "signing_key_public_1").clear();
    }
    let site = Site::sample();
    site.write("export.csv", table.text());
    let report = site.rekek(&format!("{REWRAP} --json")).json();
    assert_eq!((&report["rows_failed"], &report["signing_keys_unchecked"]), (&json!(0), &json!(2)));
    // An export without the columns at all.
    let mut table = Table::sample();
    for column in ["signing_key_public_1", "signing_key_public_2"] {
        let at = table.column(column);
        table.header.remove(at);
        table.rows.iter_mut().for_each(|row| drop(row.remove(at)));
    }
    site.write("export.csv", table.text());
    let report = site.rekek("rewrap export.csv --dry-run --secrets secrets.json --to kv2 --json").json();
    assert_eq!((&report["rows_failed"], &report["signing_keys_unchecked"]), (&json!(0), &json!(212)));
}

#[test]
fn a_stream_stops_at_the_first_failed_row() {
    let (table, _) = spoiled();
    let site = Site::sample();
    let line = "rewrap - -o - --input-format csv --output-format csv --secrets secrets.json --to kv2";
    let run = site.rekek_with_input(line, table.text().as_bytes());
    assert_eq!(run.status, 3);
    assert!(run.stdout.lines().count() <= 1, "all rows are in the first batch: only the header may be out");
    assert!(run.stderr.contains("the output on standard output is not whole"), "{}", run.stderr);
}

#[test]
fn what_came_before_the_first_failed_row_is_in_the_stream_and_nothing_after_it() {
    let site = Site::empty();
    site.rekek("keygen kv1 --secrets s.json").good();
    site.rekek("keygen kv2 --secrets s.json").good();
    site.rekek("generate -o export.csv --orgs 6000 --secrets s.json --under kv1").good();
    let mut table = Table::parse(&site.read("export.csv"));
    *table.value(3000, CIPHERTEXTS[2]) = "not an envelope".into();
    site.write("export.csv", table.text());
    let run = site.rekek("rewrap export.csv -o - --output-format csv --secrets s.json --to kv2");
    assert_eq!(run.status, 3);
    let ids: Vec<_> =
        run.stdout.lines().filter_map(|l| l.strip_prefix("org-")?.get(..7)?.parse::<usize>().ok()).collect();
    assert!(ids.len() > 500 && ids.len() <= 3000, "{}", ids.len());
    assert!(ids.iter().copied().eq(0..ids.len()));
    assert!(
        run.stderr.contains("rows examined              6,000"),
        "all of it is examined nevertheless: {}",
        run.stderr
    );
}

#[test]
fn a_report_lists_a_thousand_failures_and_the_file_takes_them_all() {
    let site = Site::empty();
    site.rekek("keygen kv1 --secrets s.json").good();
    site.rekek("keygen kv2 --secrets s.json").good();
    site.rekek("generate -o export.csv --orgs 1200 --secrets s.json --under kv1").good();
    let mut table = Table::parse(&site.read("export.csv"));
    for row in 0..1200 {
        *table.value(row, CIPHERTEXTS[2]) = "not an envelope".into();
    }
    site.write("export.csv", table.text());
    let run = site.rekek("rewrap export.csv --dry-run --secrets s.json --to kv2 --failures f.jsonl --json");
    assert_eq!(run.status, 3);
    let report = run.json();
    assert_eq!(report["failures"].as_array().unwrap().len(), 1000);
    assert_eq!((&report["failures_truncated"], &report["rows_failed"]), (&json!(true), &json!(1200)));
    assert_eq!(site.read("f.jsonl").lines().count(), 1200);
}
