//! New keys.

use crate::support::Site;
use base64::Engine as _;
use serde_json::Value;
use std::os::unix::fs::PermissionsExt as _;

#[test]
fn a_key_is_printed_where_no_file_is_named() {
    let site = Site::empty();
    let (a, b) = (site.rekek("keygen kv2"), site.rekek("keygen kv2"));
    assert_eq!(a.status, 0);
    assert!(a.stderr.starts_with("rekek: this is the new key kv2 (fingerprint "), "{}", a.stderr);
    assert_eq!(base64::engine::general_purpose::STANDARD.decode(a.stdout.trim_end()).unwrap().len(), 32);
    assert_ne!(a.stdout, b.stdout);
    assert_eq!(site.names(), Vec::<String>::new());
}

#[test]
fn a_key_is_added_and_everything_else_is_kept() {
    let site = Site::sample();
    let before = site.read("secrets.json");
    std::fs::set_permissions(site.path("secrets.json"), std::fs::Permissions::from_mode(0o400)).unwrap();
    let said = site.rekek("keygen kv3 --secrets secrets.json").good();
    assert!(
        said.starts_with("added the new key kv3 (fingerprint ") && said.ends_with(") to secrets.json\n"),
        "{said}"
    );
    let after = site.read("secrets.json");
    assert_eq!(site.path("secrets.json").metadata().unwrap().permissions().mode() & 0o777, 0o400);
    let (mut a, b): (Value, Value) =
        (serde_json::from_str(&after).unwrap(), serde_json::from_str(&before).unwrap());
    let key = a["machine_identity"]["encryption_keys"].as_object_mut().unwrap().remove("kv3").unwrap();
    assert_eq!(a, b);
    let key = key.as_str().unwrap();
    assert_eq!(after.replace(&format!(", \"kv3\": \"{key}\""), ""), before, "not a byte more is changed");
    assert!(!said.contains(key), "it is not printed");
    assert_eq!(site.names(), ["export.csv", "secrets.json", "site.toml"]);

    let run = site.rekek("keygen kv3 --secrets secrets.json");
    assert_eq!(run.status, 1);
    assert!(run.stderr.ends_with("a key is never replaced: choose another id\n"), "{}", run.stderr);
    assert_eq!(site.read("secrets.json"), after);
    site.rekek("rewrap export.csv -o out.csv --secrets secrets.json --to kv3").good();
}

#[test]
fn a_file_is_begun_for_its_owner_alone() {
    let site = Site::empty();
    let said = site.rekek("keygen kv1 --secrets new.json").good();
    assert!(said.starts_with("began new.json with the new key kv1"), "{said}");
    assert_eq!(site.path("new.json").metadata().unwrap().permissions().mode() & 0o777, 0o600);
    site.write("s.yaml", "machine_identity:\n  encryption_keys: {}\n");
    let run = site.rekek("keygen kv1 --secrets s.yaml");
    assert_eq!(run.status, 1);
    assert!(run.stderr.contains("a key can only be added to a JSON file"), "{}", run.stderr);
}

#[test]
fn keys_added_at_once_are_all_kept() {
    let site = Site::empty();
    site.rekek("keygen first --secrets s.json").good();
    std::thread::scope(|scope| {
        for i in 0..8 {
            let site = &site;
            scope.spawn(move || site.rekek(&format!("keygen k{i} --secrets s.json")).good());
        }
    });
    let secrets: Value = serde_json::from_str(&site.read("s.json")).unwrap();
    assert_eq!(secrets["machine_identity"]["encryption_keys"].as_object().unwrap().len(), 9);
    assert_eq!(site.names(), ["s.json"]);
}

#[test]
fn a_key_that_others_can_read_where_it_was_printed_gets_a_warning() {
    let site = Site::empty();
    for (mode, warned) in [(0o644, true), (0o600, false)] {
        site.write("key", "");
        std::fs::set_permissions(site.path("key"), std::fs::Permissions::from_mode(mode)).unwrap();
        let key = std::fs::File::options().write(true).open(site.path("key")).unwrap();
        let output = site.command("keygen kv1").stdout(key).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        let warning =
            "rekek: warning: standard output holds keys and others can read it (mode 0644); chmod 600 it\n";
        assert_eq!(said.contains(warning), warned, "{said}");
    }
}

/// Neither where its id should stand, which would make the whole file one that nobody reads, nor where a file
/// should be named.
#[test]
fn what_could_be_a_key_is_taken_for_no_id_and_for_no_file_and_is_not_shown() {
    let site = Site::sample();
    let secrets = site.read("secrets.json");
    // (One with a `/` within, as every second has it.)
    let key = base64::engine::general_purpose::STANDARD.encode([[7; 8], [255; 8], [7; 8], [0; 8]].concat());
    assert!(key.contains('/'));
    for line in [
        format!("keygen {key}"),
        format!("keygen {key} --secrets secrets.json"),
        format!("keygen kv9 --secrets {key}"),
        format!("rewrap export.csv --dry-run --to kv2 --secrets {key}"),
        format!("rewrap export.csv --dry-run --to kv2 --secrets secrets.json --vault-key kv9={key}"),
        format!("verify export.csv --to kv2 --secrets folder/{key}"),
        format!("rewrap export.csv --dry-run --to kv2 --secrets kv9={key}"),
        format!("rewrap export.csv --dry-run --to kv2 --secrets secrets.json --vault-key kv9=@{key}"),
        format!("inspect {key}"),
    ] {
        let run = site.rekek(&line);
        assert_eq!((run.status, run.stdout.as_str()), (2, ""), "{line}: {}", run.stderr);
        assert!(run.stderr.contains("could be a key") && !run.stderr.contains(&key), "{}", run.stderr);
    }
    for line in [
        "inspect postgres://u:hushhush@h/d",
        "rewrap postgres:u:hushhush@h --secrets secrets.json --to kv2 --dry-run",
    ] {
        let run = site.rekek(line);
        assert!(run.status == 2 && !run.stderr.contains("hush"), "{}", run.stderr);
    }
    assert_eq!(site.read("secrets.json"), secrets);
    assert_eq!(site.names(), ["export.csv", "secrets.json", "site.toml"]);
    // A file that is called so is one.
    let name = "ab".repeat(32);
    site.write(&name, &secrets);
    site.rekek(&format!("rewrap export.csv --dry-run --to kv2 --secrets {name}")).good();
    // And an output may be called as it likes.
    site.rekek(&format!("rewrap export.csv -o {}.csv --to kv2 --secrets secrets.json", "b".repeat(43)))
        .good();
}
