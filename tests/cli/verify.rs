//! What `verify` must find: each change to an output that a re-wrap would not have made.

use crate::support::{CIPHERTEXTS, Site, Table, edit_envelope};
use serde_json::{Value, json};

/// The sample site, re-wrapped, and its output as a table.
fn rewrapped() -> (Site, Table) {
    let site = Site::sample();
    site.rekek("rewrap export.csv -o out.csv --secrets secrets.json --to kv2").good();
    let table = Table::parse(&site.read("out.csv"));
    (site, table)
}

/// The checks that have findings, with how many, when `table` is the output. Its manifest is made
/// to fit, so that the manifest alone does not catch everything.
fn found(site: &Site, table: &Table) -> Vec<(String, u64)> {
    let text = table.text();
    site.write("changed.csv", &text);
    let mut manifest: Value = serde_json::from_str(&site.read("out.csv.manifest.json")).unwrap();
    manifest["output"]["bytes"] = json!(text.len());
    manifest["output"]["sha256"] = json!(rekek::row::Sha256Digest::of(&text).to_string());
    manifest["output"]["rows"] = json!(table.rows.len());
    manifest["report"]["output"] = manifest["output"].clone();
    for (counter, rows) in [("rows_examined", table.rows.len()), ("rows_updated", table.rows.len())] {
        manifest["report"][counter] = json!(rows);
    }
    manifest["report"]["rows_skipped_all_on_target"] = json!(0);
    site.write("changed.csv.manifest.json", manifest.to_string());
    let run = site.rekek("verify changed.csv --source export.csv --secrets secrets.json --json");
    let report = run.json();
    let checks = report["checks"].as_object().unwrap();
    let found: Vec<_> = checks
        .iter()
        .map(|(name, check)| (name.clone(), check["findings"].as_u64().unwrap()))
        .filter(|(_, n)| *n > 0)
        .collect();
    assert_eq!(run.status, if found.is_empty() { 0 } else { 3 });
    found
}

fn names(expected: &[(&str, u64)]) -> Vec<(String, u64)> {
    expected.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect()
}

#[test]
fn an_unchanged_output_has_no_findings() {
    let (site, table) = rewrapped();
    assert_eq!(found(&site, &table), []);
}

#[test]
fn rows_that_are_missing_extra_or_moved() {
    let (site, whole) = rewrapped();
    for at in [0, 75, 149] {
        let mut table = whole.clone();
        table.rows.remove(at);
        assert_eq!(found(&site, &table), names(&[("source_rows", 1)]), "row {at} missing");
    }
    for at in [0, 75, 150] {
        let mut table = whole.clone();
        let mut extra = table.rows[3].clone();
        extra[0] = "org-extra".into();
        table.rows.insert(at, extra);
        assert_eq!(found(&site, &table), names(&[("source_rows", 1)]), "one more at {at}");
    }
    let mut table = whole.clone();
    table.rows.swap(10, 11);
    assert_eq!(found(&site, &table), names(&[("source_rows", 1)]), "two neighbours swapped");
    let mut table = whole.clone();
    let row = table.rows.remove(140);
    table.rows.insert(2, row);
    assert!(!found(&site, &table).is_empty(), "one far from its place");
    let mut table = whole.clone();
    table.rows.truncate(0);
    assert_eq!(found(&site, &table), names(&[("source_rows", 150)]));
    let mut table = whole;
    table.rows[7][0] = "org-renamed".into();
    assert_eq!(found(&site, &table), names(&[("source_rows", 2)]), "one missing, one extra");
}

#[test]
fn fields_that_are_not_the_source_s() {
    let (site, whole) = rewrapped();
    let [one, two, auth] = CIPHERTEXTS;
    let source = Table::sample();

    // Swapped between rows: both open, to the wrong plaintext.
    let mut table = whole.clone();
    let (a, b) = (table.row_with(0, &[auth]), table.row_with(50, &[auth]));
    let texts = (table.get(a, auth).to_owned(), table.get(b, auth).to_owned());
    (*table.value(b, auth), *table.value(a, auth)) = texts;
    assert_eq!(found(&site, &table), names(&[("source_plaintexts", 2)]));

    // The old envelope put back.
    let mut table = whole.clone();
    let row = table.row_with(0, &[one]);
    *table.value(row, one) = source.get(row, one).to_owned();
    assert_eq!(found(&site, &table), names(&[("target", 1)]));

    // One bit of the ciphertext.
    let mut table = whole.clone();
    let spoiled = edit_envelope(table.get(row, one), |json| {
        let at = json.find("\"ciphertext\":[").unwrap() + 14;
        let digit = json.as_bytes()[at];
        format!("{}{}{}", &json[..at], if digit == b'1' { '2' } else { '1' }, &json[at + 1..])
    });
    *table.value(row, one) = spoiled;
    let checks = found(&site, &table);
    assert!(checks == names(&[("opened", 1)]) || checks == names(&[("envelopes", 1)]), "{checks:?}");

    // No envelope at all; cleared; one where there was none.
    let mut table = whole.clone();
    *table.value(row, one) = "e30=".into();
    assert!(found(&site, &table).contains(&("envelopes".to_owned(), 1)));
    let mut table = whole.clone();
    table.value(row, one).clear();
    assert!(found(&site, &table).iter().any(|(check, _)| check == "source_digests"));
    let mut table = whole.clone();
    let absent = (0..).find(|r| table.get(*r, two).is_empty()).unwrap();
    let text = table.get(row, one).to_owned();
    *table.value(absent, two) = text;
    assert!(found(&site, &table).iter().any(|(check, _)| check == "source_digests"));

    // A source digest, another column.
    let mut table = whole.clone();
    *table.value(row, "source_sha256_signing_key_1") = "0".repeat(64);
    assert_eq!(found(&site, &table), names(&[("source_digests", 1)]));
    let mut table = whole.clone();
    *table.value(row, "issuer") = "https://evil.example".into();
    assert_eq!(found(&site, &table), names(&[("other_columns", 1)]));
}

#[test]
fn a_file_that_is_not_its_manifest_s() {
    let (site, _) = rewrapped();
    let text = site.read("out.csv");
    site.write("out.csv", text.replacen("https://issuer.example/1,", "https://issuer.example/2,", 1));
    let run = site.rekek("verify out.csv --json");
    assert_eq!((run.status, run.stderr.as_str()), (3, "rekek: 1 finding: do not import this file\n"));
    let report = run.json();
    assert_eq!(report["checks"]["manifest"], json!({"done": true, "findings": 1}));
    assert_eq!(report["checks"]["opened"], json!({"done": false, "findings": 0}), "no keys were given");
    let run = site.rekek("verify out.csv --manifest nowhere.json");
    let message = "rekek: cannot read the manifest nowhere.json: No such file or directory (os error 2)\n";
    assert_eq!((run.status, run.stderr.as_str()), (1, message));
    site.write("bad.json", "{\"format\": \"rekek-manifest/1\", \"tool\": 5}");
    let run = site.rekek("verify out.csv --manifest bad.json");
    assert_eq!(run.status, 1);
    assert!(
        run.stderr.contains("bad.json is not a manifest of format rekek-manifest/1: line 1"),
        "{}",
        run.stderr
    );
}

#[test]
fn other_keys_under_the_same_ids_are_noticed() {
    let (site, _) = rewrapped();
    site.rekek("keygen kv2 --secrets other.json").good();
    let run = site.rekek("verify out.csv --secrets other.json --json");
    assert_eq!(run.status, 3);
    let checks = run.json()["checks"].clone();
    assert_eq!(checks["key_fingerprints"]["findings"], 1);
    assert_eq!(checks["opened"]["findings"], 287);
}

#[test]
fn without_a_manifest_it_says_what_was_not_checked() {
    let (site, _) = rewrapped();
    std::fs::remove_file(site.path("out.csv.manifest.json")).unwrap();
    let run = site.rekek("verify out.csv --to kv2 --secrets secrets.json");
    let warning = "rekek: warning: no manifest is there: whether the file is whole and unchanged was not checked; bring it \
         over too, or name it with --manifest\n";
    assert_eq!((run.status, run.stderr.as_str()), (0, warning));
    assert!(run.stdout.contains("\nscope                not known: no manifest says it\n"), "{}", run.stdout);
    assert_eq!(site.rekek("verify out.csv --to kv1").status, 3);
    assert_eq!(
        site.rekek("verify export.csv --secrets secrets.json").status,
        0,
        "an export can be opened too"
    );
}

#[test]
fn a_manifest_that_contradicts_itself() {
    let (site, _) = rewrapped();
    let whole: Value = serde_json::from_str(&site.read("out.csv.manifest.json")).unwrap();
    type Edit = fn(&mut Value);
    let edits: [(&str, Edit); 8] = [
        ("its target is not its report's", |m| m["report"]["current_encryption_key_id"] = json!("kv0")),
        ("the rows of its report do not add up", |m| m["report"]["rows_updated"] = json!(1)),
        ("its report's failures are not those that it counts", |m| m["report"]["rows_failed"] = json!(77)),
        ("fewer seals than fields that were re-encrypted", |m| m["seals"]["this_run"] = json!(0)),
        ("its target is not among its keys", |m| m["keys"] = json!([])),
        ("its scope names an organization twice", |m| m["scope"] = json!(["a", "a"])),
        ("the file has more rows than its scope", |m| m["scope"] = json!(["a"])),
        ("its target is not its report's", |m| m["target_key_id"] = Value::Null),
    ];
    for (what, edit) in edits {
        let mut manifest = whole.clone();
        edit(&mut manifest);
        site.write("edited.json", manifest.to_string());
        let run = site.rekek("verify out.csv --manifest edited.json --secrets secrets.json --json");
        assert_eq!(run.status, 3, "{what}");
        let findings = run.json()["findings"].to_string();
        assert!(findings.contains(&format!("the manifest contradicts itself: {what}")), "{what}: {findings}");
    }
    // A row deleted, and the scope narrowed to fit: it is shown, and with the source it is found.
    let mut table = Table::parse(&site.read("out.csv"));
    table.rows.pop();
    let ids: Vec<_> = (0..table.rows.len()).map(|r| json!(table.get(r, "organization_id"))).collect();
    let mut manifest = whole;
    manifest["scope"] = json!(ids);
    site.write("edited.json", manifest.to_string());
    let run = site.rekek("verify out.csv --manifest edited.json --source export.csv --secrets secrets.json");
    assert_eq!(run.status, 3);
    assert!(run.stdout.contains("scope                149 selected organizations\n"), "{}", run.stdout);
}

#[test]
fn fingerprints_are_good_only_if_all_were_compared() {
    let (site, _) = rewrapped();
    let secrets: Value = serde_json::from_str(&site.read("secrets.json")).unwrap();
    let kv2 = secrets["machine_identity"]["encryption_keys"]["kv2"].as_str().unwrap();
    site.write("kv2.yaml", format!("machine_identity:\n  encryption_keys:\n    kv2: {kv2}\n"));
    let checks = site.rekek("verify out.csv --secrets kv2.yaml --json").json()["checks"].clone();
    assert_eq!(checks["key_fingerprints"], json!({"done": false, "findings": 0}));
    assert_eq!(checks["opened"], json!({"done": true, "findings": 0}));
}

#[test]
fn a_key_that_is_missing_is_said_with_how_many_fields_name_it() {
    let (site, _) = rewrapped();
    site.rekek("keygen kv7 --secrets other.json").good();
    let run = site.rekek("verify out.csv --secrets other.json --json");
    assert_eq!((run.status, &run.json()["missing_keys"]), (3, &json!({"kv2": 287})));
    let said = "rekek: the key kv2 is missing: 287 fields name it, and it is not in other.json; give the file that \
                holds it with another --secrets FILE or --vault-key kv2=FILE\n";
    assert!(run.stderr.starts_with(said), "{}", run.stderr);
}
