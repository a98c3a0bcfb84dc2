//! Signed manifests, beside the real minisign: what one signs the other verifies.

use crate::support::{Ran, Site, Table, encrypt_cheaply, minisign, minisign_with_input};
use crate::terminal::Terminal;
use base64::Engine as _;
use rekek::row::Sha256Digest;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

const REWRAP: &str = "rewrap export.csv -o out.csv --secrets secrets.json --site-config site.toml";
const SIGNATURE: &str = "out.csv.manifest.json.minisig";
const VERIFY: &str = "verify out.csv --trusted-key a.pub --json";

/// The sample site with a key pair of minisign's, without passphrase: `a.key`, `a.pub`.
fn site() -> Site {
    let site = Site::sample();
    minisign(&site, "-G -W -s a.key -p a.pub");
    site
}

/// The same, and a signed output.
fn signed() -> Site {
    let site = site();
    site.rekek(&format!("{REWRAP} --sign a.key")).good();
    site
}

/// The line of a public key's file that is the key.
fn public_key(site: &Site, name: &str) -> String {
    site.read(name).lines().nth(1).unwrap().to_owned()
}

/// The id of a key, as minisign wrote it into the comment of its file.
pub fn key_id(site: &Site, name: &str) -> String {
    site.read(name).lines().next().unwrap().rsplit(' ').next().unwrap().to_owned()
}

fn refused(run: &Ran, status: i32, told: &str) {
    assert_eq!(run.status, status, "{}", run.stderr);
    assert!(run.stderr.contains(told), "{}", run.stderr);
}

#[test]
fn minisign_verifies_what_rekek_signs() {
    let site = site();
    let before = site.names();
    let report = site.rekek(&format!("{REWRAP} --sign a.key --json"));
    assert_eq!((report.status, report.stderr.as_str()), (0, ""));
    let report = report.json();
    let signature = &report["manifest"]["signature"];
    assert_eq!(signature["file"], SIGNATURE);
    assert_eq!(signature["public_key_id"], key_id(&site, "a.pub"));
    let comment = signature["trusted_comment"].as_str().unwrap();
    let parts: Vec<_> = comment.split('\t').collect();
    let time: i64 = parts[0].strip_prefix("timestamp:").unwrap().parse().unwrap();
    assert!((time - jiff::Timestamp::now().as_second()).abs() < 600, "{comment}");
    let digest = format!("sha256:{}", report["manifest"]["sha256"].as_str().unwrap());
    assert_eq!(parts[1..], ["file:out.csv.manifest.json", "hashed", &digest]);
    let new: Vec<_> = site.names().into_iter().filter(|name| !before.contains(name)).collect();
    assert_eq!(new, ["out.csv", "out.csv.manifest.json", SIGNATURE]);
    assert_eq!(site.path(SIGNATURE).metadata().unwrap().permissions().mode() & 0o7777, 0o600);
    let key = public_key(&site, "a.pub");
    assert_eq!(site.read(SIGNATURE).lines().nth(1).unwrap()[..4], *"RUT0".replace("T0", &key[2..4]));
    // -H: only if it is prehashed. -Q prints what it verified of the comment.
    let shown = minisign(&site, "-V -H -Q -m out.csv.manifest.json -p a.pub");
    assert_eq!(shown.trim_end(), comment);
    minisign(&site, &format!("-V -H -q -m out.csv.manifest.json -P {key}"));
}

#[test]
fn the_table_says_who_signed() {
    let site = site();
    let id = key_id(&site, "a.pub");
    let said = site.rekek(&format!("{REWRAP} --sign a.key")).good();
    assert!(said.contains(&format!("\n  signed with key         {id}\n")), "{said}");
    let said = site.rekek("verify out.csv --trusted-key a.pub").good();
    assert!(
        said.contains(&format!("\nsigned with key      {id}\n  says               timestamp:")),
        "{said}"
    );
    // The digest is there to be compared, so all of it is.
    let sha256 = Sha256Digest::of(site.read("out.csv.manifest.json"));
    assert!(said.contains(&format!(" file:out.csv.manifest.json hashed sha256:{sha256}\n")), "{said}");
    let said = site.rekek("verify out.csv").good();
    assert!(said.contains("\n  signature          not checked\n") && !said.contains(&id), "{said}");
}

#[test]
fn a_trusted_key_is_its_file_or_the_key_itself() {
    let site = signed();
    let key = public_key(&site, "a.pub");
    site.write("bare.pub", &key);
    for trusted in ["a.pub", "bare.pub", &key] {
        let run =
            site.rekek(&format!("verify out.csv --trusted-key {trusted} --secrets secrets.json --json"));
        assert_eq!((run.status, run.stderr.as_str()), (0, ""), "{trusted}");
        let report = run.json();
        assert_eq!(report["checks"]["signature"], json!({"done": true, "findings": 0}));
        assert_eq!(report["signature"]["public_key_id"], key_id(&site, "a.pub"));
        assert_eq!(report["signature"]["file"], SIGNATURE);
    }
    let unchecked = site.rekek("verify out.csv --json").json();
    assert_eq!(unchecked["checks"]["signature"], json!({"done": false, "findings": 0}));
    assert_eq!(unchecked["signature"], Value::Null);
    for (trusted, told) in [
        ("none.pub", "cannot read the trusted key none.pub: No such file"),
        ("export.csv", "cannot read the trusted key export.csv: it is longer than"),
        ("site.toml", "site.toml is not a minisign public key; name the .pub file"),
        ("a.key", "a.key is not a minisign public key; name the .pub file"),
    ] {
        refused(&site.rekek(&format!("verify out.csv --trusted-key {trusted}")), 1, told);
    }
}

#[test]
fn what_minisign_signed_is_taken_but_not_its_legacy_kind() {
    let site = site();
    site.rekek(REWRAP).good();
    minisign(&site, "-S -m out.csv.manifest.json -s a.key -t by-hand");
    let run = site.rekek(VERIFY);
    assert_eq!((run.status, run.stderr.as_str()), (0, ""));
    assert_eq!(run.json()["signature"]["trusted_comment"], "by-hand");
    minisign(&site, "-S -l -m out.csv.manifest.json -s a.key");
    finding(&site, "is a signature of minisign's legacy kind, which is not taken: sign the manifest again");
}

/// Status 3, and a finding of the signature alone that says so.
#[track_caller]
fn finding(site: &Site, told: &str) {
    let run = site.rekek(VERIFY);
    assert_eq!((run.status, run.stderr.as_str()), (3, "rekek: 1 finding: do not import this file\n"));
    let report = run.json();
    assert_eq!(report["checks"]["signature"], json!({"done": true, "findings": 1}));
    assert_eq!(report["signature"], Value::Null);
    let finding = &report["findings"][0];
    assert_eq!(finding["check"], "signature");
    assert!(finding["error"].as_str().unwrap().contains(told), "{finding}");
}

#[test]
fn verify_finds_every_signature_that_does_not_hold() {
    let site = signed();
    let (manifest, signature) = (site.read("out.csv.manifest.json"), site.read(SIGNATURE));
    let lines: Vec<_> = signature.lines().collect();
    let with = |line: usize, text: &str| {
        let mut lines = lines.clone();
        lines[line] = text;
        site.write(SIGNATURE, lines.join("\n") + "\n");
    };

    std::fs::remove_file(site.path(SIGNATURE)).unwrap();
    let missing =
        "out.csv.manifest.json is not signed, out.csv.manifest.json.minisig is not there: bring it over";
    finding(&site, missing);

    site.write(SIGNATURE, "hello");
    finding(&site, "out.csv.manifest.json.minisig is not a minisign signature; bring it over again");

    // The manifest, by one digit that no other check looks at.
    site.write(SIGNATURE, &signature);
    site.write("out.csv.manifest.json", manifest.replacen("\"created_at\": \"2", "\"created_at\": \"3", 1));
    finding(&site, "out.csv.manifest.json is not the manifest that was signed: it was altered or exchanged");
    site.write("out.csv.manifest.json", &manifest);

    // The comment, whoever vouches for it; the signature; the signature of the comment.
    let altered =
        "out.csv.manifest.json.minisig was altered: the signature or its trusted comment does not hold";
    with(2, &lines[2].replace("timestamp:1", "timestamp:2"));
    finding(&site, altered);
    let other = |line: usize, at: usize| {
        let mut bytes = base64::engine::general_purpose::STANDARD.decode(lines[line]).unwrap();
        bytes[at] ^= 1;
        base64::engine::general_purpose::STANDARD.encode(bytes)
    };
    with(1, &other(1, 20));
    finding(&site, altered);
    with(3, &other(3, 20));
    finding(&site, altered);
    with(2, "trusted comment: ");
    finding(&site, "does not hold for out.csv.manifest.json: one of the two was altered");
    // Whatever is in the untrusted one is nobody's business.
    with(0, "untrusted comment: hello");
    assert_eq!(site.rekek(VERIFY).status, 0);

    // Somebody else's signature, and one that only claims to be ours.
    minisign(&site, "-G -W -s b.key -p b.pub");
    minisign(&site, "-S -m out.csv.manifest.json -s b.key");
    let told = format!(
        "is signed with the key {}, not with the trusted key {}: find out who signed it",
        key_id(&site, "b.pub"),
        key_id(&site, "a.pub")
    );
    finding(&site, &told);
    let theirs =
        base64::engine::general_purpose::STANDARD.decode(site.read(SIGNATURE).lines().nth(1).unwrap());
    let ours = base64::engine::general_purpose::STANDARD.decode(lines[1]).unwrap();
    let claimed = [&ours[..10], &theirs.unwrap()[10..]].concat();
    with(1, &base64::engine::general_purpose::STANDARD.encode(claimed));
    finding(&site, altered);
}

#[test]
fn without_a_manifest_there_is_nothing_that_is_signed() {
    let site = signed();
    std::fs::remove_file(site.path("out.csv.manifest.json")).unwrap();
    let run = site.rekek(VERIFY);
    assert_eq!(run.status, 3);
    let told = "there is no manifest of out.csv, so nothing that a signature could vouch for";
    assert!(run.json()["findings"][0]["error"].as_str().unwrap().contains(told), "{}", run.stdout);
}

#[test]
fn a_passphrase_is_asked_on_the_terminal_and_not_shown() {
    let site = Site::sample();
    // As the real minisign encrypts it: scrypt with 1 GiB.
    minisign_with_input(&site, "-G -s a.key -p a.pub", "correct horse\ncorrect horse\n");
    let command = site.command("rewrap export.csv -o out.csv --secrets - --to kv2 --sign a.key --json");
    // Standard input is the secrets', the terminal the passphrase's.
    let mut terminal = Terminal::start(&command, "secrets.json");
    terminal.wait_for("passphrase of a.key: ");
    terminal.type_in("correct horse\n");
    let ended = terminal.end();
    assert_eq!((ended.status, ended.stderr.as_str()), (0, ""));
    assert_eq!(ended.shown, "passphrase of a.key: \r\n");
    assert!(ended.echoes, "the terminal is as it was");
    assert!(!ended.stdout.contains("horse"));
    let report: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(report["manifest"]["signature"]["public_key_id"], key_id(&site, "a.pub"));
    minisign(&site, "-V -H -q -m out.csv.manifest.json -p a.pub");
    assert_eq!(site.rekek(VERIFY).status, 0);
}

#[test]
fn a_wrong_passphrase_or_none_ends_the_run_before_it_begins() {
    let site = site();
    encrypt_cheaply(&site, "a.key", "horse");
    site.write("message", "hello");
    minisign_with_input(&site, "-S -m message -s a.key", "horse\n");
    minisign(&site, "-V -q -m message -p a.pub");
    let before = site.names();
    let wrong = "rekek: the passphrase is not that of a.key (or the file is damaged); run again\n";
    let none = "rekek: cannot read the passphrase of a.key: no passphrase was given\n";
    let long = "rekek: cannot read the passphrase of a.key: a passphrase has at most 1024 bytes\n";
    let interrupted = "rekek: interrupted; nothing was left behind\n";
    for (typed, status, told) in [
        ("donkey\n", 1, wrong),
        ("\n", 1, wrong),
        ("horse \n", 1, wrong),
        ("\u{4}", 1, none),
        (&("x".repeat(1025) + "\n"), 1, long),
        ("hor\u{3}", 130, interrupted),
        // Ctrl-Z does not stop it: it would go on with a terminal that shows what is typed.
        ("hor\u{1a}\n", 1, wrong),
    ] {
        let mut terminal = Terminal::start(&site.command(&format!("{REWRAP} --sign a.key")), "/dev/null");
        terminal.wait_for("passphrase of a.key: ");
        terminal.type_in(typed);
        let ended = terminal.end();
        assert_eq!((ended.status, ended.stderr.as_str()), (status, told), "{typed:?}");
        assert!(!ended.shown.contains("donkey") && !ended.shown.contains("hor"), "{:?}", ended.shown);
        assert!(ended.echoes, "{typed:?}");
        assert_eq!(site.names(), before);
    }
    let mut terminal = Terminal::start(&site.command(&format!("{REWRAP} --sign a.key")), "/dev/null");
    terminal.wait_for("passphrase of a.key: ");
    terminal.type_in("horse\n");
    assert_eq!(terminal.end().status, 0);
    assert_eq!(site.rekek(VERIFY).status, 0);
}

#[test]
fn without_a_terminal_an_encrypted_key_is_an_error() {
    let site = site();
    encrypt_cheaply(&site, "a.key", "horse");
    let before = site.names();
    let command = site.command(&format!("{REWRAP} --sign a.key"));
    // Neither what is piped in nor the environment is a passphrase.
    let mut alone = Command::new("setsid");
    alone.arg("--wait").arg(command.get_program()).args(command.get_args());
    alone.current_dir(site.path("")).stdin(std::fs::File::open(site.path("site.toml")).unwrap());
    let output = alone.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    let told =
        "rekek: a.key is encrypted, and there is no terminal to ask for its passphrase: run rekek in one";
    assert!(stderr.starts_with(told), "{stderr}");
    assert_eq!(site.names(), before);
}

#[test]
fn a_file_that_is_no_key_signs_nothing() {
    let site = site();
    let key = site.read("a.key");
    let standard = base64::engine::general_purpose::STANDARD;
    let bytes = standard.decode(key.lines().nth(1).unwrap()).unwrap();
    let with = |at: usize, new: &[u8]| {
        let mut bytes = bytes.clone();
        bytes[at..at + new.len()].copy_from_slice(new);
        format!("untrusted comment: spoiled\n{}\n", standard.encode(bytes))
    };
    let scrypt = |operations: u64, memory: u64| {
        let mut key = standard.decode(with(2, b"Sc").lines().nth(1).unwrap()).unwrap();
        key[38..46].copy_from_slice(&operations.to_le_bytes());
        key[46..54].copy_from_slice(&memory.to_le_bytes());
        format!("untrusted comment: costly\n{}\n", standard.encode(key))
    };
    let public = site.read("a.pub");
    let before = site.names();
    for (name, text, told) in [
        ("its public half", public.as_str(), "is not a minisign secret key; name the .key file"),
        ("nothing", "", "is not a minisign secret key"),
        ("a line too few", "untrusted comment: hello\n", "is not a minisign secret key"),
        ("cut", &key[..key.len() - 9], "is not a minisign secret key"),
        ("another algorithm", &with(0, b"XX"), "is not a minisign secret key"),
        ("another encryption", &with(2, b"Ar"), "is a minisign secret key of an unknown kind"),
        ("another checksum", &with(4, b"B3"), "is a minisign secret key of an unknown kind"),
        ("another secret half", &with(62, &[1; 32]), "bad.key is damaged"),
        ("a wrong checksum", &with(126, &[1; 32]), "bad.key is damaged"),
        ("2 GiB", &scrypt(67_108_864, 2_147_483_648), "asks for more memory or time than minisign"),
        ("all there is", &scrypt(u64::MAX, u64::MAX), "asks for more memory or time than minisign"),
        ("for years", &scrypt(u64::MAX, 16_777_216), "asks for more memory or time than minisign"),
    ] {
        site.write("bad.key", text);
        let run = site.rekek(&format!("{REWRAP} --sign bad.key"));
        assert!(run.status == 1 && run.stderr.contains(told), "{name}: {}", run.stderr);
        std::fs::remove_file(site.path("bad.key")).unwrap();
        assert_eq!(site.names(), before, "{name}");
    }
    refused(
        &site.rekek(&format!("{REWRAP} --sign none.key")),
        1,
        "cannot read the signing key none.key: No such",
    );
}

#[test]
fn the_signing_key_is_never_written_over_and_warned_of_where_others_can_read_it() {
    let site = site();
    for (line, told) in [
        ("-o a.key --output-format csv --force --sign a.key", "the output a.key is also the signing key"),
        ("-o out.csv --manifest a.key --force --sign a.key", "the manifest a.key is also the signing key"),
        ("-o out.csv --report a.key --force --sign a.key", "the report a.key is also the signing key"),
        (
            "-o out.csv --failures ./a.key --force --sign a.key",
            "the failures file ./a.key is also the signing key",
        ),
        ("-o out.csv --sign -", "the signing key cannot come from standard input; name its file"),
        ("-o - --output-format csv --sign a.key", "there is no manifest to sign"),
        (
            "-o out.csv --report out.csv.manifest.json.minisig --sign a.key",
            "out.csv.manifest.json.minisig is also the report",
        ),
    ] {
        let run = site.rekek(&format!("rewrap export.csv {line} --secrets secrets.json --to kv2"));
        refused(&run, 2, told);
    }
    // Its name is that of the signature: even --force must not remove it.
    std::fs::rename(site.path("a.key"), site.path(SIGNATURE)).unwrap();
    let run = site.rekek(&format!("{REWRAP} --force --sign {SIGNATURE}"));
    refused(&run, 2, "out.csv.manifest.json.minisig is also the signing key; choose another name");
    std::fs::rename(site.path(SIGNATURE), site.path("a.key")).unwrap();
    std::fs::set_permissions(site.path("a.key"), std::fs::Permissions::from_mode(0o640)).unwrap();
    let run = site.rekek(&format!("{REWRAP} --sign a.key"));
    let warning = "rekek: warning: a.key holds keys and others can read it (mode 0640); chmod 600 it\n";
    assert_eq!((run.status, run.stderr.as_str()), (0, warning));
}

#[test]
fn no_signature_of_an_older_output_stays_beside_a_new_manifest() {
    let site = signed();
    let first = site.read(SIGNATURE);
    let run = site.rekek(&format!("{REWRAP} --sign a.key"));
    refused(&run, 1, "out.csv exists already; choose another name, or --force to replace it");
    site.rekek(&format!("{REWRAP} --sign a.key --force")).good();
    assert_ne!(site.read(SIGNATURE), first);
    assert_eq!(site.rekek(VERIFY).status, 0);
    // Without --sign the old one goes.
    site.rekek(&format!("{REWRAP} --force")).good();
    assert!(!site.path(SIGNATURE).exists());
    // A signature that lost its output is not taken for the next one's.
    site.write(SIGNATURE, first);
    for name in ["out.csv", "out.csv.manifest.json"] {
        std::fs::remove_file(site.path(name)).unwrap();
    }
    let told = "out.csv.manifest.json.minisig exists already; choose another name, or --force to replace it";
    refused(&site.rekek(REWRAP), 1, told);
    // Nor where the output goes to standard output.
    let to_stdout = "rewrap export.csv -o - --output-format csv --manifest out.csv.manifest.json \
                     --secrets secrets.json --to kv2 --report report.json";
    refused(&site.rekek(to_stdout), 1, told);
    let run = site.rekek(&format!("{to_stdout} --force"));
    assert_eq!(run.status, 0, "{}", run.stderr);
    assert!(!site.path(SIGNATURE).exists());
    let run = site.rekek(&format!("{to_stdout} --force --sign a.key"));
    site.write("out.csv", &run.stdout);
    assert_eq!(site.rekek(VERIFY).status, 0);
    assert_eq!(Table::parse(&run.stdout).rows.len(), 150);
}

#[test]
fn the_manifest_is_last_so_that_an_output_without_it_is_named_signed_or_not() {
    let site = signed();
    // What is left of a run that was killed before its manifest had its name.
    std::fs::remove_file(site.path("out.csv.manifest.json")).unwrap();
    let told = "out.csv exists already, and without a manifest: if a run that was stopped left it there";
    for line in [REWRAP.to_owned(), format!("{REWRAP} --sign a.key")] {
        refused(&site.rekek(&line), 1, told);
    }
    site.rekek(&format!("{REWRAP} --sign a.key --force")).good();
    assert_eq!(site.rekek(VERIFY).status, 0);
}

#[test]
fn a_dry_run_opens_the_key_and_writes_nothing() {
    let site = site();
    let before = site.names();
    site.rekek("rewrap export.csv --dry-run --secrets secrets.json --to kv2 --sign a.key").good();
    assert_eq!(site.names(), before);
    let run = site.rekek("rewrap export.csv --dry-run --secrets secrets.json --to kv2 --sign a.pub");
    refused(&run, 1, "a.pub is not a minisign secret key");
}

#[test]
fn a_file_s_name_cannot_break_the_trusted_comment() {
    let site = site();
    let name = "out\n\tx: \u{e9}.csv";
    let mut command = site.command("rewrap export.csv --secrets secrets.json --to kv2 --sign a.key -o");
    assert!(command.args([name, "--quiet"]).status().unwrap().success());
    let mut minisign = Command::new("minisign");
    minisign.args(["-V", "-Q", "-p", "a.pub", "-m", &format!("{name}.manifest.json")]);
    let shown = minisign.current_dir(site.path("")).output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert_eq!(shown.split('\t').nth(1), Some("file:out\\n\\tx: \u{e9}.csv.manifest.json"), "{shown}");
}
