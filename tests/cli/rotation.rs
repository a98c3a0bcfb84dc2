//! A rotation that goes well.

use crate::support::{CIPHERTEXTS, Site, Table, edit_envelope, key_of, sample};
use rekek::row::Sha256Digest;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt as _;

const REWRAP: &str = "rewrap export.csv -o out.csv --secrets secrets.json --site-config site.toml";

#[test]
fn the_sample_site_counts_exactly_what_it_must_and_is_verified_against_its_source() {
    let site = Site::sample();
    let run = site.rekek(&format!("{REWRAP} --json"));
    assert_eq!((run.status, run.stderr.as_str()), (0, ""));
    let report = run.json();
    let expected: Value =
        serde_json::from_slice(&std::fs::read(sample("expected-report.json")).unwrap()).unwrap();
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&report[name], value, "{name}");
    }
    assert_eq!(report["fields_by_source_key"], json!({"kv0": 125, "kv1": 136, "kv2": 26}));
    assert_eq!(site.names(), ["export.csv", "out.csv", "out.csv.manifest.json", "secrets.json", "site.toml"]);

    let disabled = site.read("site.toml").replace("enabled = true", "enabled = false");
    site.write("disabled.toml", disabled);
    let run = site.rekek("rewrap export.csv --dry-run --secrets secrets.json --site-config disabled.toml");
    let warned = "rekek: warning: disabled.toml: machine_identity.enabled is false: this site does not use its master \
                  key; see that it is the right file\n";
    assert_eq!((run.status, run.stderr.as_str()), (0, warned));

    let verified = site.rekek("verify out.csv --source export.csv --secrets secrets.json --json");
    assert_eq!((verified.status, verified.stderr.as_str()), (0, ""));
    let verified = verified.json();
    assert_eq!((&verified["rows"], &verified["fields_opened"]), (&json!(150), &json!(287)));
    for (check, result) in verified["checks"].as_object().unwrap() {
        // A signature takes a key to trust.
        assert_eq!(result, &json!({"done": check != "signature", "findings": 0}), "{check}");
    }
}

#[test]
fn the_output_is_the_export_with_new_envelopes_and_the_digests_of_the_old() {
    let site = Site::sample();
    site.rekek(REWRAP).good();
    let (before, after) = (Table::sample(), Table::parse(&site.read("out.csv")));
    let digests =
        ["source_sha256_signing_key_1", "source_sha256_signing_key_2", "source_sha256_auth_method_config"];
    assert_eq!(after.header, [before.header.clone(), digests.map(str::to_owned).to_vec()].concat());
    assert_eq!(after.rows.len(), before.rows.len());
    for row in 0..before.rows.len() {
        for column in before.header.iter().filter(|c| !CIPHERTEXTS.contains(&c.as_str())) {
            assert_eq!(after.get(row, column), before.get(row, column));
        }
        for (column, digest) in CIPHERTEXTS.into_iter().zip(digests) {
            let (old, new) = (before.get(row, column), after.get(row, column));
            assert_eq!(old.is_empty(), new.is_empty());
            let expected = if old.is_empty() { String::new() } else { Sha256Digest::of(old).to_string() };
            assert_eq!(after.get(row, digest), expected);
            if !new.is_empty() {
                assert_eq!(key_of(new), "kv2");
                assert_eq!(old == new, key_of(old) == "kv2", "what is on target stays as it is");
            }
        }
    }
    for name in ["out.csv", "out.csv.manifest.json"] {
        assert_eq!(site.path(name).metadata().unwrap().permissions().mode() & 0o7777, 0o600);
    }
}

#[test]
fn the_manifest_says_what_the_files_are() {
    let site = Site::sample();
    let report = site.rekek(&format!("{REWRAP} --json")).json();
    let manifest: Value = serde_json::from_str(&site.read("out.csv.manifest.json")).unwrap();
    assert_eq!(manifest["format"], "rekek-manifest/1");
    assert_eq!(manifest["tool"], json!({"name": "rekek", "version": env!("CARGO_PKG_VERSION")}));
    assert_eq!((&manifest["target_key_id"], &manifest["scope"]), (&json!("kv2"), &Value::Null));
    assert_eq!(manifest["seals"], json!({"this_run": 261, "already_in_export": 26}));
    for (entry, name) in [("input", "export.csv"), ("output", "out.csv")] {
        let bytes = std::fs::read(site.path(name)).unwrap();
        let expected = json!({
            "file": name, "format": "csv", "bytes": bytes.len(), "rows": 150,
            "sha256": Sha256Digest::of(&bytes).to_string(),
        });
        assert_eq!(manifest[entry], expected);
        assert_eq!(report[entry], expected);
    }
    let keys = manifest["keys"].as_array().unwrap();
    let opened: Vec<_> =
        keys.iter().map(|k| (k["key_id"].as_str().unwrap(), k["fields_opened"].as_u64())).collect();
    assert_eq!(opened, [("kv1", Some(136)), ("kv2", Some(26)), ("kv0", Some(125))]);
    // Made with Python's hmac module from the key in secrets.json.
    assert_eq!(keys[1]["fingerprint"], "59eb665cde2fc545");
    let digest = Sha256Digest::of(site.read("out.csv.manifest.json")).to_string();
    assert_eq!(report["manifest"], json!({"file": "out.csv.manifest.json", "sha256": digest}));
    let mut without = report.clone();
    without.as_object_mut().unwrap().remove("manifest");
    assert_eq!(manifest["report"], without, "the report, without its manifest entry");
}

#[test]
fn rewrapping_an_output_skips_everything_and_keeps_its_source_digests() {
    let site = Site::sample();
    assert_eq!(site.rekek(REWRAP).status, 0);
    let report = site.rekek("rewrap out.csv --dry-run --secrets secrets.json --to kv2 --json").json();
    assert_eq!(report["rows_skipped_all_on_target"], 150);
    assert_eq!(report["fields_skipped_on_target"], 287);
    assert_eq!((&report["fields_reencrypted"], &report["output"]), (&json!(0), &Value::Null));

    // To another key, before it was imported: the digests still describe what the database holds.
    site.rekek("keygen kv3 --secrets secrets.json").good();
    site.rekek("rewrap out.csv -o again.csv --secrets secrets.json --to kv3").good();
    let (out, again) = (Table::parse(&site.read("out.csv")), Table::parse(&site.read("again.csv")));
    assert_eq!(out.header, again.header);
    for (a, b) in out.rows.iter().zip(&again.rows) {
        assert_eq!(a[a.len() - 3..], b[b.len() - 3..]);
    }
    site.rekek("verify again.csv --source out.csv --secrets secrets.json").good();
    let run = site.rekek("verify again.csv --source export.csv --secrets secrets.json --json");
    assert_eq!(run.status, 3, "the export is not the file it was made from");
    let findings = run.json()["findings"].clone();
    assert_eq!(findings.as_array().unwrap().len(), 1);
    assert_eq!(findings[0]["check"], "source_file", "all rows and plaintexts are the same nevertheless");
}

#[test]
fn a_dry_run_does_all_the_work_and_writes_nothing() {
    let site = Site::sample();
    let before = site.names();
    let report = site.rekek("rewrap export.csv --dry-run --secrets secrets.json --to kv2 --json").json();
    assert_eq!((&report["dry_run"], &report["fields_reencrypted"]), (&json!(true), &json!(261)));
    assert_eq!(site.rekek(&format!("{REWRAP} --dry-run")).status, 0);
    assert_eq!(site.names(), before);
    site.rekek("rewrap export.csv --dry-run --secrets secrets.json --to kv2 --report dry.json --quiet")
        .good();
    assert!(site.read("dry.json").contains("\"dry_run\": true"), "a report that was asked for is written");
}

#[test]
fn one_thread_and_many_give_the_same_order() {
    let site = Site::empty();
    site.rekek("keygen kv1 --secrets s.json").good();
    site.rekek("keygen kv2 --secrets s.json").good();
    site.rekek("generate -o in.csv --orgs 5000 --secrets s.json --under kv1 --under kv2").good();
    let ids = |name: &str| {
        let table = Table::parse(&site.read(name));
        let ids: Vec<_> = (0..table.rows.len()).map(|r| table.get(r, "organization_id").to_owned()).collect();
        ids
    };
    let expected = ids("in.csv");
    for threads in [1, 2, 7] {
        let out = format!("out{threads}.csv");
        let line = format!("rewrap in.csv -o {out} --secrets s.json --to kv2 --threads {threads} --json");
        assert_eq!(site.rekek(&line).json()["threads"], threads);
        assert!(ids(&out) == expected, "{threads} threads");
        site.rekek(&format!("verify {out} --source in.csv --secrets s.json --threads {threads}")).good();
    }
}

#[test]
fn a_selection_is_all_that_is_in_the_output_and_the_manifest_says_so() {
    let site = Site::sample();
    site.write("orgs.txt", "\norg-0000008\n  org-0000001 \n\n");
    let line = format!("{REWRAP} --org org-0000003_X --orgs-file orgs.txt --json");
    let report = site.rekek(&line).json();
    assert_eq!((&report["rows_examined"], &report["input"]["rows"]), (&json!(3), &json!(150)));
    let out = Table::parse(&site.read("out.csv"));
    let ids: Vec<_> = (0..out.rows.len()).map(|r| out.get(r, "organization_id").to_owned()).collect();
    assert_eq!(ids, ["org-0000001", "org-0000003_X", "org-0000008"], "in the order of the export");
    let manifest: Value = serde_json::from_str(&site.read("out.csv.manifest.json")).unwrap();
    assert_eq!(manifest["scope"], json!(["org-0000001", "org-0000003_X", "org-0000008"]));
    assert_eq!(manifest["seals"]["already_in_export"], 26, "the whole export's count, not the selection's");
    site.rekek("verify out.csv --source export.csv --secrets secrets.json").good();
}

#[test]
fn a_pipe_is_a_file_too() {
    let site = Site::sample();
    let export = std::fs::read(site.path("export.csv")).unwrap();
    let line = "rewrap - -o - --input-format csv --output-format csv --secrets secrets.json --to kv2 --manifest m.json";
    let run = site.rekek_with_input(line, &export);
    assert_eq!(run.status, 0, "{}", run.stderr);
    assert_eq!(Table::parse(&run.stdout).rows.len(), 150);
    assert!(run.stderr.contains("fields re-encrypted"), "the report goes to stderr: {}", run.stderr);
    site.write("out.csv", &run.stdout);
    site.rekek("verify out.csv --manifest m.json --source export.csv --secrets secrets.json").good();
    // The secrets by standard input instead.
    let secrets = std::fs::read(site.path("secrets.json")).unwrap();
    let run = site.rekek_with_input("rewrap export.csv -o out2.csv --secrets - --to kv2 --quiet", &secrets);
    assert_eq!((run.status, run.stdout.as_str(), run.stderr.as_str()), (0, "", ""));
}

#[test]
fn keys_come_from_several_files_of_several_kinds() {
    let site = Site::sample();
    let secrets: Value = serde_json::from_str(&site.read("secrets.json")).unwrap();
    let key = |id: &str| secrets["machine_identity"]["encryption_keys"][id].as_str().unwrap().to_owned();
    site.write("old.yaml", format!("machine_identity:\n  encryption_keys:\n    kv0: {}\n", key("kv0")));
    site.write(
        "old.json",
        format!(r#"{{"machine_identity":{{"encryption_keys":{{"kv1":"{}"}}}}}}"#, key("kv1")),
    );
    let data = format!(r#"{{"UsernamePassword":{{"username":"","password":"{}"}}}}"#, key("kv2"));
    site.write(
        "kv2.json",
        format!(r#"{{"request_id":"x","data":{{"data":{data},"metadata":{{"version":1}}}}}}"#),
    );
    let line = "rewrap export.csv -o out.csv --secrets old.yaml --secrets old.json --vault-key kv2=kv2.json --to kv2";
    site.rekek(line).good();
    site.rekek("verify out.csv --source export.csv --secrets secrets.json").good();
}

#[test]
fn force_replaces_an_output_with_its_manifest_and_signature() {
    let site = Site::sample();
    site.rekek(REWRAP).good();
    let first = (site.read("out.csv"), site.read("out.csv.manifest.json"));
    site.write("out.csv.manifest.json.minisig", "an old signature");
    site.rekek(&format!("{REWRAP} --force")).good();
    assert!(first.0 != site.read("out.csv") && first.1 != site.read("out.csv.manifest.json"));
    assert!(!site.path("out.csv.manifest.json.minisig").exists());
    site.rekek("verify out.csv --source export.csv --secrets secrets.json").good();
}

#[test]
fn no_manifest_of_an_older_output_stays_beside_a_new_one() {
    let site = Site::sample();
    site.rekek(REWRAP).good();
    let exists = "rekek: out.csv exists already; choose another name, or --force to replace it\n";
    let run = site.rekek(&format!("{REWRAP} --manifest elsewhere.json"));
    assert_eq!((run.status, run.stderr.as_str()), (1, exists), "it has a manifest, if at another place");
    site.rekek(&format!("{REWRAP} --manifest elsewhere.json --force")).good();
    assert!(!site.path("out.csv.manifest.json").exists());
    site.rekek("verify out.csv --manifest elsewhere.json --source export.csv --secrets secrets.json").good();
    // A manifest that lost its output.
    site.rekek(&format!("{REWRAP} --force")).good();
    std::fs::remove_file(site.path("out.csv")).unwrap();
    let run = site.rekek(&format!("{REWRAP} --manifest third.json"));
    assert_eq!(run.status, 1);
    assert!(run.stderr.contains("out.csv.manifest.json exists already"), "{}", run.stderr);
    // Something else under the output's name.
    site.rekek(&format!("{REWRAP} --force")).good();
    site.rekek("generate -o out.csv --orgs 5 --secrets secrets.json --under kv1 --force").good();
    assert!(!site.path("out.csv.manifest.json").exists());
    site.rekek("rewrap out.csv --dry-run --secrets secrets.json --to kv2").good();
}

#[test]
fn a_selection_stays_one_when_it_is_rewrapped_again() {
    let site = Site::sample();
    site.rekek(&format!("{REWRAP} --org org-0000001 --org org-0000008")).good();
    site.rekek("keygen kv3 --secrets secrets.json").good();
    site.rekek("rewrap out.csv -o again.csv --secrets secrets.json --to kv3").good();
    let manifest: Value = serde_json::from_str(&site.read("again.csv.manifest.json")).unwrap();
    assert_eq!(manifest["scope"], json!(["org-0000001", "org-0000008"]));
    let checks =
        site.rekek("verify again.csv --source export.csv --secrets secrets.json --json").json()["checks"]
            .clone();
    assert_eq!(checks["source_rows"], json!({"done": true, "findings": 0}));
}

#[test]
fn what_is_on_target_can_be_trusted() {
    let site = Site::sample();
    site.rekek(REWRAP).good();
    // One that names the target and does not open under it.
    let mut table = Table::parse(&site.read("out.csv"));
    let row = table.row_with(0, &CIPHERTEXTS[..1]);
    let old = Table::sample().get(row, CIPHERTEXTS[0]).to_owned();
    *table.value(row, CIPHERTEXTS[0]) =
        edit_envelope(&old, |json| json.replace("\"kv1\"", "\"kv2\"").replace("\"kv0\"", "\"kv2\""));
    site.write("in.csv", table.text());
    let line = "rewrap in.csv --dry-run --secrets secrets.json --to kv2 --json";
    assert_eq!(site.rekek(line).status, 3);
    let run = site.rekek(&format!("{line} --trust-target"));
    assert_eq!((run.status, &run.json()["rows_skipped_all_on_target"]), (0, &json!(150)));
}

#[test]
fn an_export_s_own_manifest_is_checked() {
    let site = Site::sample();
    site.rekek(REWRAP).good();
    let line = "rewrap out.csv -o again.csv --secrets secrets.json --to kv2";
    let text = site.read("out.csv");
    site.write("out.csv", &text[..text.rfind("org-").unwrap()]);
    let run = site.rekek(line);
    assert_eq!((run.status, run.stdout.as_str()), (1, ""));
    assert!(run.stderr.starts_with("rekek: out.csv is not the file that its manifest describes: it has "));
    assert!(!site.path("again.csv").exists());
    site.write("out.csv", &text);
    site.rekek(line).good();
}

/// Two credentials are exchanged on the way to the keys, and the digests that tell are put in: an import would
/// believe them, and say that all is well.
#[test]
fn source_digests_are_not_taken_from_an_export() {
    let site = Site::sample();
    site.rekek(REWRAP).good();
    let mut manifest: serde_json::Value = serde_json::from_str(&site.read("out.csv.manifest.json")).unwrap();
    assert_eq!(manifest["report"]["source_digests_kept"], json!(false));
    manifest["target_key_id"] = json!(null);
    manifest["report"] = json!(null);
    manifest["output"]["file"] = json!("forged.csv");
    std::fs::copy(site.path("out.csv"), site.path("forged.csv")).unwrap();
    let line = "rewrap forged.csv -o again.csv --secrets secrets.json --to kv2";
    site.write("forged.csv.manifest.json", manifest.to_string());
    let run = site.rekek(line);
    assert_eq!((run.status, run.stdout.as_str()), (1, ""));
    let told = "rekek: forged.csv has source digests, and its manifest is that of an export, which never has any: \
                somebody put them in, and an import would believe them; find out who, and export again\n";
    assert_eq!(run.stderr, told);
    // Of an output they are kept, and that is told, here and to whoever imports it.
    std::fs::remove_file(site.path("forged.csv.manifest.json")).unwrap();
    let said = site.rekek(line).good();
    assert!(
        said.contains("source digests            the input's own, kept as they are: an import believes them"),
        "{said}"
    );
    let manifest: serde_json::Value = serde_json::from_str(&site.read("again.csv.manifest.json")).unwrap();
    assert_eq!(manifest["report"]["source_digests_kept"], json!(true));
}

#[test]
fn signing_keys_are_compared_in_every_mode() {
    let site = Site::sample();
    for (how, unchecked) in [("embedded", 0), ("full", 0), ("off", 212)] {
        let line = format!(
            "rewrap export.csv --dry-run --secrets secrets.json --to kv2 --check-signing-keys {how} --json"
        );
        let report = site.rekek(&line).json();
        assert_eq!(
            (&report["rows_failed"], &report["signing_keys_unchecked"]),
            (&json!(0), &json!(unchecked)),
            "{how}"
        );
    }
}

#[test]
fn a_file_of_keys_that_others_can_read_gets_a_warning() {
    let site = Site::sample();
    std::fs::set_permissions(site.path("secrets.json"), std::fs::Permissions::from_mode(0o640)).unwrap();
    let run = site.rekek(REWRAP);
    let warning =
        "rekek: warning: secrets.json holds keys and others can read it (mode 0640); chmod 600 it\n";
    assert_eq!((run.status, run.stderr.as_str()), (0, warning));
    // What holds no keys may be read by all.
    std::fs::set_permissions(site.path("site.toml"), std::fs::Permissions::from_mode(0o644)).unwrap();
    let run = site.rekek("rewrap export.csv --dry-run --secrets site.toml --to kv2");
    let what = "not YAML of the shape of secrets, machine_identity.encryption_keys.<key id>";
    assert_eq!(run.status, 1);
    assert!(run.stderr.starts_with(&format!("rekek: site.toml: {what}, at line ")), "{}", run.stderr);
}

/// The old key as target, or the export in the output's place: all is well with the file, and nothing was rotated.
#[test]
fn who_changed_or_proved_nothing_is_told_so() {
    let site = Site::sample();
    site.rekek("rewrap export.csv -o out.csv --secrets secrets.json --to kv2").good();
    let said = site.rekek("rewrap out.csv -o again.csv --secrets secrets.json --to kv2").good();
    let expected = "next: nothing was re-encrypted: every field was under kv2 already; is it the new key?\n";
    assert!(said.contains(expected), "{said}");
    let run = site.rekek("verify export.csv --secrets secrets.json");
    let expected = "next: nothing of a re-wrap was verified: this is an export, not an output\n";
    assert!(run.status == 0 && run.stdout.contains(expected), "{}", run.stdout);
}
