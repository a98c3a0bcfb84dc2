//! What is refused before a row is touched.

use crate::cluster::Cluster;
use crate::support::{BOTH, CONFIG, Rehearsal};

/// The import ends with status 1, says so, and the database is as it was.
#[track_caller]
fn refused(r: &Rehearsal, line: &str, told: &str) {
    let before = r.state();
    let ran = r.site(line);
    assert_eq!((ran.status, ran.stdout.as_str()), (1, ""), "{line}: {}", ran.stderr);
    assert!(ran.stderr.contains(told), "{line}: {}", ran.stderr);
    assert_eq!(r.state(), before, "{line}");
}

#[test]
fn a_file_that_is_not_the_one_its_manifest_describes() {
    let r = Rehearsal::postgres(12).rewrapped();
    let whole = r.folder.read("out.csv");
    // One letter of one envelope, the length kept.
    let at = whole.rfind("eyJ").unwrap() + 40;
    let other = if whole.as_bytes()[at] == b'A' { "B" } else { "A" };
    r.folder.write("out.csv", format!("{}{other}{}", &whole[..at], &whole[at + 1..]));
    refused(&r, "import out.csv", "out.csv is not the file that its manifest describes: its SHA-256 differs");
    // A last row that did not make it across.
    let cut = whole.trim_end().rfind('\n').unwrap() + 1;
    r.folder.write("out.csv", &whole[..cut]);
    refused(&r, "import out.csv", "out.csv is not the file that its manifest describes: it has");
    // A manifest that counts other rows.
    r.folder.write("out.csv", &whole);
    let manifest = r.folder.read("out.csv.manifest.json");
    let mut edited: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    edited["output"]["rows"] = 13.into();
    r.folder.write("out.csv.manifest.json", edited.to_string());
    refused(&r, "import out.csv", "it has 12 rows, the manifest says 13");
}

#[test]
fn a_manifest_that_is_missing_or_not_the_one_that_was_meant() {
    let r = Rehearsal::postgres(12).rewrapped();
    let digest = r.digest("out.csv.manifest.json");
    let wrong = format!("import out.csv --manifest-sha256 {}", r.digest("out.csv"));
    refused(
        &r,
        &wrong,
        "is not the one that was meant: its SHA-256 is not the one given with --manifest-sha256",
    );
    let manifest = r.folder.read("out.csv.manifest.json");
    r.folder.write("out.csv.manifest.json", manifest.replacen("\"this_run\": ", "\"this_run\": 1", 1));
    refused(&r, &format!("import out.csv --manifest-sha256 {digest}"), "is not the one that was meant");
    r.folder.write("out.csv.manifest.json", "{\"format\": \"hush\"}");
    refused(&r, "import out.csv", "is not a manifest of format rekek-manifest/1");
    std::fs::remove_file(r.path("out.csv.manifest.json")).unwrap();
    refused(
        &r,
        "import out.csv",
        "there is no manifest out.csv.manifest.json: without it nobody can say that",
    );
    // An export and its manifest are whole, and still nothing to import.
    refused(&r, "import export.csv", "is that of an export; an import takes what rekek rewrap made of it");
    // Said to be elsewhere, it is taken from there.
    r.folder.write("m.json", manifest);
    let line = format!("import out.csv --manifest m.json --manifest-sha256 {digest} --site-config site.toml");
    let ran = r.site(&line);
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""));
}

#[test]
fn an_envelope_that_names_another_key_than_the_manifest() {
    for kind in BOTH {
        let r = Rehearsal::of(kind, 12, 2).rewrapped();
        r.rewrap("export.csv", "out3.csv", "kv3");
        let manifest = r.folder.read("out3.csv.manifest.json");
        r.folder.write(
            "out3.csv.manifest.json",
            manifest.replacen("\"target_key_id\": \"kv3\"", "\"target_key_id\": \"kv2\"", 1),
        );
        refused(
            &r,
            "import out3.csv",
            "differs from its source and names the key kv3, not the manifest's target kv2",
        );
    }
}

/// A file with a manifest that was made to fit it: what is in it is looked at all the same.
#[test]
fn a_value_that_is_no_envelope_and_digests_that_do_not_fit() {
    let r = Rehearsal::postgres(12).rewrapped();
    let whole = crate::folder::Table::parse(&r.folder.read("out.csv"));
    let row = whole.row_with(0, &["encrypted_signing_key_1"]);
    let spoil = |column: &str, value: &str, told: &str| {
        let mut table = whole.clone();
        *table.value(row, column) = value.to_owned();
        r.folder.write("spoilt.csv", table.text());
        let mut manifest: serde_json::Value =
            serde_json::from_str(&r.folder.read("out.csv.manifest.json")).unwrap();
        manifest["output"]["bytes"] = table.text().len().into();
        manifest["output"]["sha256"] = r.digest("spoilt.csv").into();
        r.folder.write("spoilt.csv.manifest.json", manifest.to_string());
        refused(&r, "import spoilt.csv", told);
        assert!(
            value.is_empty()
                || column == "organization_id"
                || !r.site("import spoilt.csv").stderr.contains(value),
            "no value is quoted"
        );
    };
    spoil(
        "encrypted_signing_key_1",
        "plaintext",
        "encrypted_signing_key_1 differs from its source and is no envelope",
    );
    spoil("encrypted_signing_key_1", "", "encrypted_signing_key_1 has a source digest and no value");
    spoil("source_sha256_signing_key_1", "", "encrypted_signing_key_1 has a value and no source digest");
    spoil("source_sha256_signing_key_1", "abc", "encrypted_signing_key_1 has a source digest that is none");
    spoil("organization_id", "", "it has no organization_id");
    let other = whole.get(row + 1, "organization_id").to_owned();
    spoil("organization_id", &other, &format!("the organization id {other} is there already"));
}

#[test]
fn a_manifest_that_the_trusted_key_did_not_sign() {
    let r = Rehearsal::postgres(12).rewrapped();
    let minisign = |line: &str| {
        let mut minisign = std::process::Command::new("minisign");
        let minisign = minisign.args(line.split(' ')).current_dir(r.path("")).output();
        assert!(minisign.expect("minisign is installed by scripts/test").status.success(), "{line}");
    };
    minisign("-G -W -s a.key -p a.pub");
    minisign("-G -W -s b.key -p b.pub");
    let line = "import out.csv --site-config site.toml --json --trusted-key a.pub";
    let (manifest, signature) = ("out.csv.manifest.json", "out.csv.manifest.json.minisig");
    refused(&r, line, "out.csv.manifest.json is not signed, out.csv.manifest.json.minisig is not there");
    minisign("-S -m out.csv.manifest.json -s b.key");
    refused(&r, line, "out.csv.manifest.json is signed with the key ");
    let ran =
        r.folder.rekek("rewrap export.csv -o out.csv --secrets secrets.json --to kv2 --force --sign a.key");
    assert_eq!(ran.status, 0, "{}", ran.stderr);
    let (good, signed) = (r.folder.read(manifest), r.folder.read(signature));
    r.folder.write(signature, signed.replace("file:out.csv", "file:yes.csv"));
    refused(
        &r,
        line,
        "out.csv.manifest.json.minisig was altered: the signature or its trusted comment does not",
    );
    r.folder.write(signature, &signed);
    // An attacker who can change output and manifest, and whom the manifest's own digests do not stop.
    let (ours, other) = (r.digest("out.csv"), r.digest("export.csv"));
    r.folder.write(manifest, good.replace(&ours, &other));
    refused(&r, line, "out.csv.manifest.json is not the manifest that was signed");
    // Before it connects, and before it reads what nobody vouches for.
    r.folder.write(manifest, "not JSON");
    let ran = r.site_on("postgres://nobody@127.0.0.1:1/none", line);
    assert_eq!(ran.status, 1);
    assert!(ran.stderr.contains("is not the manifest that was signed"), "{}", ran.stderr);
    r.folder.write(manifest, &good);
    refused(&r, &line.replace("a.pub", "none.pub"), "cannot read the trusted key none.pub");
    refused(&r, &line.replace("a.pub", "site.toml"), "site.toml is not a minisign public key");

    let ran = r.site(line);
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""), "a signature is enough: there is no warning");
    let key = r.folder.read("a.pub").lines().nth(1).unwrap().to_owned();
    let checked = ran.json()["signature_checked"].clone();
    assert!(r.folder.read("a.pub").contains(checked["public_key_id"].as_str().unwrap()));
    assert_eq!(checked["file"], signature);
    let ran = r.site(&line.replace("a.pub", &key).replace(" --json", ""));
    assert_eq!((ran.status, ran.stderr.as_str()), (0, ""));
    assert!(ran.stdout.contains("\nsigned with key    ") && ran.stdout.contains("says"), "{}", ran.stdout);
    let report = r.import("").json();
    assert_eq!(report["signature_checked"], serde_json::Value::Null);
}

#[test]
fn a_target_that_is_not_the_sites_current_key() {
    let r = Rehearsal::postgres(12).rewrapped();
    r.folder.write("old.toml", "[machine_identity]\ncurrent_encryption_key_id = \"kv1\"\n");
    let told = "the file is under the key kv2, the site's current_encryption_key_id is kv1";
    refused(&r, "import out.csv --site-config old.toml", told);
    refused(&r, "import out.csv --site-config none.toml", "cannot read the site configuration none.toml");

    let disabled = "[machine_identity]\nenabled = false\ncurrent_encryption_key_id = \"kv2\"\n";
    r.folder.write("disabled.toml", disabled);
    let ran = r.site("import out.csv --site-config disabled.toml --dry-run");
    let warned = "rekek-site: warning: disabled.toml: machine_identity.enabled is false: this site does not use its \
                  master key; see that it is the right file\n";
    assert!(ran.status == 0 && ran.stderr.contains(warned), "{}", ran.stderr);
}

#[test]
fn what_is_not_checked_is_said() {
    let r = Rehearsal::postgres(3).rewrapped();
    let ran = r.site("import out.csv");
    assert_eq!(ran.status, 0);
    let told = "warning: the manifest itself is not checked: whoever could alter the file could alter it too; \
                --trusted-key takes the public key of who signed it, --manifest-sha256 the digest that rekek rewrap";
    assert!(ran.stderr.contains(told), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("warning: it is not checked that the target is the site's current"),
        "{}",
        ran.stderr
    );
}

#[test]
fn a_database_that_is_not_a_sites() {
    let r = Rehearsal::postgres(3).rewrapped();
    let cluster = Cluster::shared();
    let empty = cluster.url(&cluster.database(None));
    std::fs::write(r.path("empty.db"), "").unwrap();
    for url in [empty.as_str(), "sqlite:empty.db"] {
        for (line, table) in [("import out.csv", CONFIG), ("export -o x.csv", CONFIG), ("inspect", CONFIG)] {
            let ran = r.site_on(url, line);
            assert_eq!((ran.status, ran.stdout.as_str()), (1, ""), "{url} {line}");
            let table = if line == "import out.csv" && !url.starts_with("sqlite") { "t" } else { table };
            assert!(ran.stderr.contains(&format!("has no table {table}")), "{}", ran.stderr);
        }
    }
    let half = cluster.database(None);
    cluster
        .session(&half)
        .run("CREATE TABLE tenants (organization_id text); CREATE TABLE tenant_identity_config (x int)");
    let ran = r.site_on(&cluster.url(&half), "import out.csv");
    assert!(ran.stderr.contains("without the column"), "{}", ran.stderr);
    assert_eq!(r.site_on("sqlite:none.db", "export -o x.csv").status, 1);
    std::fs::write(r.path("site.toml"), "current = 'kv2'\n").unwrap();
    let other = r.site_on("sqlite:site.toml", "export -o x.csv");
    let told =
        "rekek-site: cannot connect to the database site.toml: this file is not a database of SQLite's\n";
    assert_eq!((other.status, other.stderr.as_str()), (1, told));
    assert!(!r.path("none.db").exists(), "an export makes no database");
    assert!(!r.path("x.csv").exists());
}

#[test]
fn a_role_without_the_rights() {
    let r = Rehearsal::postgres(12).rewrapped();
    let role = format!("reader_{}", r.database);
    r.sql(&format!("CREATE ROLE {role} LOGIN; REVOKE TEMPORARY ON DATABASE {} FROM public", r.database));
    let url = r.url.replacen("postgres@", &format!("{role}@"), 1);
    let before = r.state();
    let ran = r.site_on(&url, "export -o x.csv");
    assert_eq!(ran.status, 1);
    assert!(
        ran.stderr.contains(&format!("the database role {role} lacks rights: SELECT on {CONFIG} (")),
        "{}",
        ran.stderr
    );

    r.sql(&format!("GRANT SELECT ON tenants, {CONFIG} TO {role}"));
    let manifest = r.digest("out.csv.manifest.json");
    let line = format!("import out.csv --site-config site.toml --manifest-sha256 {manifest}");
    let ran = r.site_on(&url, &line);
    assert_eq!(ran.status, 1);
    for told in [
        &format!(
            "UPDATE on {CONFIG} (updated_at, encrypted_signing_key_1, encrypted_signing_key_2, encrypted_auth_method_config)"
        ),
        "UPDATE on tenants (version)",
        &format!("TEMPORARY on the database {}", r.database),
    ] {
        assert!(ran.stderr.contains(told), "{told}: {}", ran.stderr);
    }
    assert!(!ran.stderr.contains("SELECT on"), "it has that: {}", ran.stderr);
    assert_eq!(r.state(), before);

    // The remedy that it names is the remedy.
    let remedy = ran.stderr.split("to give them: ").nth(1).unwrap().trim().to_owned();
    r.sql(&remedy);
    let ran = r.site_on(&url, &line);
    assert_eq!((ran.status, r.fields_under("kv1")), (0, 0), "{}", ran.stderr);
}

/// Rows that a policy hides would be missing without a word: that is an error, not a short export.
#[test]
fn rows_behind_a_policy() {
    let r = Rehearsal::postgres(12).rewrapped();
    let role = format!("hidden_{}", r.database);
    r.sql(&format!(
        "CREATE ROLE {role} LOGIN; GRANT ALL ON tenants, {CONFIG} TO {role};
         ALTER TABLE {CONFIG} ENABLE ROW LEVEL SECURITY;
         CREATE POLICY a_few ON {CONFIG} USING (organization_id > 'org-0000005')"
    ));
    let url = r.url.replacen("postgres@", &format!("{role}@"), 1);
    for line in ["export -o x.csv", "inspect", "import out.csv"] {
        let ran = r.site_on(&url, line);
        assert_eq!(ran.status, 1, "{line}");
        assert!(ran.stderr.contains("row-level security"), "{}", ran.stderr);
    }
}

#[test]
fn arguments_that_make_no_sense() {
    let r = Rehearsal::postgres(3).rewrapped();
    for line in [
        "import -",
        "import out.csv --batch-rows 0",
        "import out.csv --manifest-sha256 abc",
        "import out.csv --on-conflict perhaps",
        "import out.csv --report out.csv",
        "import out.csv --report site.toml --site-config site.toml",
        "export -o x.unknown",
        "export -o x.csv --org a/b",
        "init --generation 3",
        "init --rows rows.unknown",
    ] {
        let ran = r.site(line);
        assert_eq!((ran.status, ran.stdout.as_str()), (2, ""), "{line}: {}", ran.stderr);
        assert!(!ran.stderr.is_empty());
    }
    // There is no --force to replace it with.
    for line in ["import out.csv --report site.toml", "inspect --report site.toml"] {
        let ran = r.site(line);
        assert_eq!(ran.status, 1, "{line}");
        assert!(
            ran.stderr
                .ends_with("rekek-site: site.toml exists already; choose another name for the report\n"),
            "{}",
            ran.stderr
        );
    }
}
