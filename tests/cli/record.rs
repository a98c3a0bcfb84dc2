//! The change record: one page, whole in itself, that repeats what manifests say and runs nothing of it.

use crate::signature::key_id;
use crate::support::{Site, minisign};
use serde_json::{Value, json};

const REWRAP: &str = "rewrap export.csv --secrets secrets.json --to kv2 --quiet";

/// A rotation of the sample, and its manifest.
fn rotated() -> (Site, Value) {
    let site = Site::sample();
    site.rekek(&format!("{REWRAP} -o out.csv")).good();
    let manifest = serde_json::from_str(&site.read("out.csv.manifest.json")).unwrap();
    (site, manifest)
}

/// The names of a page's elements, in their order. Every element must be closed in its place.
fn elements(html: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut open: Vec<&str> = Vec::new();
    let mut rest = html.strip_prefix("<!doctype html>").expect("a page begins with its type");
    while let Some(at) = rest.find('<') {
        rest = &rest[at + 1..];
        let tag = &rest[..rest.find('>').expect("a tag ends")];
        assert!(!tag.contains('<'), "a tag in a tag: {tag}");
        rest = &rest[tag.len() + 1..];
        let name = tag.trim_start_matches('/').split([' ', '\n', '/']).next().unwrap();
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "closed in its place");
            continue;
        }
        names.push(name.to_owned());
        if name == "style" {
            rest = rest.split_once("</style>").expect("the style ends").1;
        } else if name != "meta" && !tag.ends_with('/') {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{open:?}");
    names
}

/// What a browser would show, roughly: the text between the tags.
fn text(html: &str) -> String {
    let body = html.split_once("<body").unwrap().1;
    let parts = body.split('<').filter_map(|part| Some(part.split_once('>')?.1));
    let text = parts.collect::<Vec<_>>().join(" ");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[track_caller]
fn self_contained(html: &str) {
    elements(html);
    for outside in
        ["<script", "<link", "<img", "<iframe", "src=", "http:", "https:", "@import", "javascript:"]
    {
        assert!(!html.contains(outside), "{outside}");
    }
    assert!(!html.replace("url(#h", "").contains("url("));
    assert!(html.contains("default-src 'none'"));
}

#[test]
fn a_record_says_all_that_the_manifest_says_and_needs_nothing_else() {
    let (site, manifest) = rotated();
    let said = site.rekek("report out.csv.manifest.json -o record.html").good();
    assert!(said.starts_with("record"), "{said}");
    let html = site.read("record.html");
    self_contained(&html);
    let text = text(&html);
    for said in [
        "out.csv",
        "✓ 150 rows examined, none failed: every envelope is under kv2",
        "Target key kv2 , fingerprint 59eb665cde2fc545",
        "all of the export",
        "none is beside the manifest",
        "rows examined 150",
        "updated 145",
        "skipped, all on target 5",
        "failed 0",
        "fields re-encrypted 261",
        "skipped on target 26",
        "absent 163",
        "signing keys not checked 0",
        "125 before",
        "136 before",
        "287 after",
        "Failures None.",
        "No import's report was given",
        manifest["created_at"].as_str().unwrap(),
        manifest["input"]["sha256"].as_str().unwrap(),
        manifest["output"]["sha256"].as_str().unwrap(),
        concat!("rekek ", env!("CARGO_PKG_VERSION")),
    ] {
        assert!(text.contains(said), "{said}: {text}");
    }
    let digest = rekek::row::Sha256Digest::of(site.read("out.csv.manifest.json"));
    assert!(text.contains(&digest.to_string()));
    for key in manifest["keys"].as_array().unwrap() {
        assert!(text.contains(key["fingerprint"].as_str().unwrap()), "{key}");
    }
    // Keys, envelopes: nothing of what the secrets and the tables hold.
    let secrets: Value = serde_json::from_str(&site.read("secrets.json")).unwrap();
    for key in secrets["machine_identity"]["encryption_keys"].as_object().unwrap().values() {
        assert!(!html.contains(key.as_str().unwrap()));
    }
    assert!(!html.contains("eyJz"));

    let again = site.rekek("report out.csv.manifest.json -o record.html");
    assert_eq!(again.status, 1);
    assert!(again.stderr.contains("record.html exists already"), "{}", again.stderr);
    site.rekek("report out.csv.manifest.json -o record.html --force").good();
    assert!(site.rekek("report out.csv.manifest.json -o -").good().starts_with("<!doctype html>"));
}

#[test]
fn hostile_text_comes_out_inert() {
    let (site, mut manifest) = rotated();
    let benign = site.rekek("report out.csv.manifest.json -o -").good();
    let evil = "\"'><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7*7 }}&amp;\u{202e}\u{1b}[2J\0";
    // (A failure more than the page without: it is there in both.)
    let failure = json!({"organization_id": evil, "field": evil, "error": evil});
    for place in
        ["/created_at", "/tool/name", "/tool/version", "/input/file", "/output/file", "/target_key_id"]
    {
        *manifest.pointer_mut(place).unwrap() = evil.into();
    }
    manifest["report"]["current_encryption_key_id"] = evil.into();
    manifest["report"]["input"]["file"] = evil.into();
    manifest["report"]["output"]["file"] = evil.into();
    for key in manifest["keys"].as_array_mut().unwrap() {
        key["fingerprint"] = evil.into();
    }
    let by_key = manifest["report"]["fields_by_source_key"].as_object_mut().unwrap();
    let kv1 = by_key.remove("kv1").unwrap();
    by_key.insert(format!("{evil}1"), kv1);
    manifest["report"]["failures"] = json!([failure]);
    manifest["report"]["rows_failed"] = 1.into();
    let name = "<b>\"x.manifest.json";
    site.write(name, manifest.to_string());
    let run = site.rekek(&format!("report {name} -o -"));
    assert_eq!((run.status, run.stderr.as_str()), (0, ""));
    let known: std::collections::HashSet<_> = elements(&benign).into_iter().collect();
    let unknown: Vec<_> = elements(&run.stdout).into_iter().filter(|name| !known.contains(name)).collect();
    assert_eq!(unknown, Vec::<String>::new());
    for live in ["<script", "<img", "<b>", "\u{202e}", "\u{1b}", "\0"] {
        assert!(!run.stdout.contains(live), "{live:?}");
    }
    assert!(run.stdout.contains("script") && run.stdout.contains("\\u{202e}"), "shown, as text");
    // Every attribute is one that the template wrote.
    let mut tags = run.stdout.split('<').skip(1).map(|part| part.split('>').next().unwrap());
    assert!(tags.all(|tag| !tag.contains("onerror")));
}

#[test]
fn failures_and_contradictions_stand_out() {
    let (site, mut manifest) = rotated();
    let failure = |i: u32| {
        json!({"organization_id": format!("org-{i}"), "field": "encrypted_signing_key_1",
                                  "error": format!("row {i}: does not open under key kv1")})
    };
    manifest["report"]["rows_failed"] = 2.into();
    manifest["report"]["rows_updated"] = 143.into();
    manifest["report"]["failures"] = json!([failure(3), failure(9)]);
    manifest["report"]["failures_truncated"] = true.into();
    site.write("failed.manifest.json", manifest.to_string());
    manifest["report"]["rows_updated"] = 1.into();
    site.write("false.manifest.json", manifest.to_string());
    let html = site.rekek("report failed.manifest.json -o -").good();
    self_contained(&html);
    let failed = text(&html);
    for said in [
        "✗ 2 of 150 rows failed, and are unchanged in the output",
        "org-9 encrypted_signing_key_1 row 9: does not open under key kv1",
        "There were more",
        "Fields of rows that failed are not counted",
    ] {
        assert!(failed.contains(said), "{said}: {failed}");
    }
    assert!(!failed.contains("contradicts itself:"));
    let not_true = text(&site.rekek("report false.manifest.json -o -").good());
    assert!(not_true.contains("✗ The manifest contradicts itself: the rows of its report do not add up"));
}

#[test]
fn many_manifests_are_a_record_of_a_fleet_with_a_table_on_top() {
    let (site, _) = rotated();
    for name in ["b.csv", "c.parquet"] {
        site.rekek(&format!("{REWRAP} -o {name}")).good();
    }
    let html =
        site.rekek("report out.csv.manifest.json b.csv.manifest.json c.parquet.manifest.json -o -").good();
    self_contained(&html);
    let text = text(&html);
    assert!(text.contains("Key rotation record of a fleet") && text.contains("✓ All 3 are whole"), "{text}");
    for (i, name) in ["out.csv", "b.csv", "c.parquet"].into_iter().enumerate() {
        let n = i + 1;
        assert!(html.contains(&format!("<a href=\"#r{n}\">{name}</a>")), "{name}");
        assert!(html.contains(&format!("<article id=\"r{n}\">")), "{name}");
    }
    assert_eq!(elements(&html).iter().filter(|name| *name == "svg").count(), 3);
}

#[test]
fn an_import_is_matched_by_digests_and_another_files_is_told_apart() {
    let (site, manifest) = rotated();
    site.rekek(&format!("{REWRAP} -o other.csv")).good();
    let digest =
        |name: &str| rekek::row::Sha256Digest::of(std::fs::read(site.path(name)).unwrap()).to_string();
    let import = |change: &dyn Fn(&mut Value)| {
        let mut import = json!({
            "command": "import", "dry_run": false, "target_key_id": "kv2", "rows_examined": 150,
            "rows_updated": 140, "rows_already_applied": 5, "rows_unchanged": 5, "rows_conflicted": 0,
            "conflicts": [], "conflicts_truncated": false, "committed": true, "batches_committed": 1,
            "input": manifest["output"], "manifest_sha256_checked": null, "elapsed_seconds": 0.25, "phases": {},
            "manifest": {"file": "out.csv.manifest.json", "sha256": digest("out.csv.manifest.json")},
        });
        change(&mut import);
        site.write("import.json", import.to_string());
        site.rekek("report out.csv.manifest.json other.csv.manifest.json --import import.json -o -")
    };
    let conflict = json!([{"organization_id": "org-<7>", "reason": "source_changed"}]);
    type Change<'a> = &'a dyn Fn(&mut Value);
    let cases: [(Change, &str); 6] = [
        (&|_| {}, "✓ Committed, 140 rows updated, no conflict."),
        (&|i| i["dry_run"] = true.into(), "✗ Only a dry run: 140 rows would have been updated"),
        (&|i| i["committed"] = false.into(), "✗ Not all of it was written: 1 transaction committed."),
        (
            &|i| {
                i["rows_conflicted"] = 1.into();
                i["conflicts"] = conflict.clone();
            },
            "✗ Committed, 140 rows updated; 1 conflicted and are as they were.",
        ),
        (
            &|i| i["manifest"]["sha256"] = "0".repeat(64).into(),
            "✗ This output was imported, by a manifest with another",
        ),
        (
            &|i| {
                i["manifest"]["sha256"] = "0".repeat(64).into();
                i["input"]["sha256"] = "0".repeat(64).into();
            },
            "✗ What was imported under this name has another SHA-256: it is not this output",
        ),
    ];
    for (change, expected) in cases {
        let run = import(change);
        let another = "rekek: what was imported is not the output that out.csv.manifest.json describes (its SHA-256 \
                       differs): the record says so; give the --report of its own import\n";
        let ended = if expected.contains("another SHA-256: it is not") { (3, another) } else { (0, "") };
        assert_eq!((run.status, run.stderr.as_str()), ended, "{expected}");
        self_contained(&run.stdout);
        let text = text(&run.stdout);
        assert!(text.contains(expected), "{expected}: {text}");
        assert_eq!(
            text.matches("No import's report was given").count(),
            1,
            "it is of the one, not of the other"
        );
        assert_eq!(text.contains("All 2 are whole"), expected.starts_with('✓'), "{expected}");
    }
    let stranger = import(&|i| {
        i["manifest"]["sha256"] = "0".repeat(64).into();
        i["input"]["sha256"] = "0".repeat(64).into();
        i["input"]["file"] = "stranger.csv".into();
    });
    assert_eq!(stranger.status, 1);
    assert!(
        stranger.stderr.contains(
            "import.json is the report of an import of stranger.csv, and that is the output of none"
        ),
        "{}",
        stranger.stderr
    );
}

#[test]
fn who_names_another_file_than_a_manifest_is_told_which_one_to_name() {
    let (site, _) = rotated();
    let told = |line: &str, message: &str| {
        let run = site.rekek(&format!("report {line} -o -"));
        assert_eq!((run.status, run.stderr), (1, format!("rekek: {message}\n")));
    };
    told("out.csv", "out.csv is not a manifest; name its own, out.csv.manifest.json");
    std::fs::create_dir_all(site.path("fleet/a")).unwrap();
    site.rekek("fleet fleet --quiet --report fleet.json");
    told(
        "fleet.json",
        "fleet.json is the report of a fleet, not a manifest; name the manifest of each of its outputs",
    );
}

#[test]
fn what_is_no_manifest_of_a_rewrap_is_refused() {
    let (site, mut manifest) = rotated();
    manifest.as_object_mut().unwrap().remove("report");
    site.write("export.csv.manifest.json", manifest.to_string());
    for (line, status, message) in [
        (
            "report export.csv.manifest.json -o r.html",
            1,
            "is the manifest of an export, and says nothing of a",
        ),
        ("report secrets.json -o r.html", 1, "secrets.json is not a manifest of format rekek-manifest/1"),
        ("report out.csv.manifest.json --import secrets.json -o r.html", 1, "is not the report of an import"),
        ("report out.csv.manifest.json -o out.csv.manifest.json --force", 2, "is also a manifest"),
        ("report out.csv.manifest.json -o out.csv --force", 2, "is also what a manifest describes"),
        (
            "report out.csv.manifest.json -o out.csv.manifest.json.minisig --force",
            2,
            "is also the signature of a manifest",
        ),
        ("report out.csv.manifest.json", 2, "--output"),
        ("report -o r.html", 2, "MANIFEST"),
    ] {
        let run = site.rekek(line);
        assert_eq!((run.status, run.stdout.as_str()), (status, ""), "{line}");
        assert!(run.stderr.contains(message), "{line}: {}", run.stderr);
        assert!(!site.path("r.html").exists());
    }
}

/// The site with two key pairs, and a second output, which nobody signed.
fn signed() -> Site {
    let site = Site::sample();
    for key in ["a", "b"] {
        minisign(&site, &format!("-G -W -s {key}.key -p {key}.pub"));
    }
    site.rekek(&format!("{REWRAP} -o out.csv --sign a.key")).good();
    site.rekek(&format!("{REWRAP} -o other.csv")).good();
    site
}

#[test]
fn a_signature_beside_a_manifest_is_named_as_minisign_names_it_and_not_trusted() {
    use base64::Engine as _;
    let site = signed();
    let shown = |site: &Site| text(&site.rekek("report out.csv.manifest.json -o -").good());
    let said = shown(&site);
    assert!(said.contains(&format!("signed by key id {}, not checked", key_id(&site, "a.pub"))), "{said}");

    // A key whose id begins with zeros, of which minisign prints none.
    let beside = "out.csv.manifest.json.minisig";
    let signature = site.read(beside);
    let mut lines: Vec<_> = signature.lines().map(str::to_owned).collect();
    let standard = base64::engine::general_purpose::STANDARD;
    let mut bytes = standard.decode(&lines[1]).unwrap();
    bytes[2..10].copy_from_slice(&[0xe1, 0xe3, 0xb1, 0xab, 0x9c, 0xd9, 0x0e, 0x00]);
    lines[1] = standard.encode(bytes);
    site.write(beside, lines.join("\n") + "\n");
    let said = shown(&site);
    assert!(said.contains("signed by key id ED99CABB1E3E1, not checked"), "{said}");
    let mut minisign = std::process::Command::new("minisign");
    minisign.args(["-V", "-m", "out.csv.manifest.json", "-p", "a.pub"]).current_dir(site.path(""));
    let output = minisign.output().unwrap();
    let theirs =
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success() && theirs.contains(" ED99CABB1E3E1"), "{theirs}");

    site.write(beside, "no signature");
    let said = shown(&site);
    assert!(said.contains("✗ bad: out.csv.manifest.json.minisig is not a minisign signature"), "{said}");
    std::fs::remove_file(site.path(beside)).unwrap();
    assert!(shown(&site).contains("none is beside the manifest"));
}

#[test]
fn with_a_trusted_key_each_signature_is_good_or_bad() {
    let site = signed();
    let [a, b] = ["a.pub", "b.pub"].map(|name| key_id(&site, name));
    let manifest = site.read("out.csv.manifest.json");
    let spelled = site.read("a.pub").lines().nth(1).unwrap().to_owned();
    let good = format!("✓ good, by the trusted key {a} (timestamp:");
    for key in ["a.pub", &spelled] {
        let html = site.rekek(&format!("report out.csv.manifest.json -o - --trusted-key {key}")).good();
        self_contained(&html);
        let said = text(&html);
        assert!(
            said.contains(&good) && said.contains(" file:out.csv.manifest.json hashed sha256:"),
            "{said}"
        );
    }
    let bad = |line: &str, summary: &str, told: &str| {
        let run = site.rekek(&format!("report {line} -o -"));
        let end =
            format!("rekek: {summary} manifests are not signed with the trusted key: the record says why\n");
        assert_eq!((run.status, run.stderr.as_str()), (3, end.as_str()), "{line}");
        self_contained(&run.stdout);
        let said = text(&run.stdout);
        assert!(said.contains(&format!("✗ bad: {told}")), "{told}: {said}");
        said
    };
    let other = format!("out.csv.manifest.json is signed with the key {a}, not with the trusted key {b}");
    bad("out.csv.manifest.json --trusted-key b.pub", "1 of 1", &other);
    let both = "out.csv.manifest.json other.csv.manifest.json --trusted-key a.pub";
    let said = bad(
        both,
        "1 of 2",
        "other.csv.manifest.json is not signed, other.csv.manifest.json.minisig is not there",
    );
    assert!(said.contains(&good) && said.contains("✗ 1 of 2 have something to look at"), "{said}");

    // What the real minisign signs afterwards is as good.
    minisign(&site, "-S -s a.key -m other.csv.manifest.json");
    let said = text(&site.rekek(&format!("report {both} -o -")).good());
    assert_eq!(said.matches(&good).count(), 2, "{said}");
    assert!(said.contains("✓ All 2 are whole"), "{said}");

    site.write("out.csv.manifest.json", manifest.replacen("\"created_at\": \"2", "\"created_at\": \"3", 1));
    let altered = "out.csv.manifest.json is not the manifest that was signed";
    bad("out.csv.manifest.json --trusted-key a.pub", "1 of 1", altered);
    // The record is there all the same: it is what says why.
    let run = site.rekek("report out.csv.manifest.json --trusted-key a.pub -o record.html");
    assert_eq!(run.status, 3);
    assert!(run.stdout.starts_with("record") && site.read("record.html").contains(altered));

    for (line, status, told) in [
        ("--trusted-key a.key -o r.html", 1, "a.key is not a minisign public key"),
        ("--trusted-key none.pub -o r.html", 1, "cannot read the trusted key none.pub"),
        ("--trusted-key a.pub -o a.pub --force", 2, "the record a.pub is also the trusted key"),
    ] {
        let run = site.rekek(&format!("report out.csv.manifest.json {line}"));
        assert_eq!((run.status, run.stdout.as_str()), (status, ""), "{line}");
        assert!(run.stderr.contains(told), "{line}: {}", run.stderr);
        assert!(!site.path("r.html").exists());
    }
}
