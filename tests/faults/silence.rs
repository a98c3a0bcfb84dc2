//! Every command over everything that fails: no key, no plaintext and no envelope is in what it
//! says, in what it writes (but the rows), or in a file's name. (A process's environment is looked
//! through in memory.rs, at the end of every command.)

use crate::files::each;
use crate::folder::{CIPHERTEXTS, Site, Table, edit_envelope, ran, spoiled};
use crate::needles::Needles;
use crate::{commands, pair};
use base64::Engine as _;
use rekek::keyring::Keyring;
use rekek::secret::Plaintext;
use rekek::table::{self, Input, Layout, OpenOptions};
use serde_json::Value;
use std::collections::HashMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const BASE64: base64::engine::GeneralPurpose = base64::engine::general_purpose::STANDARD;

/// What must be nowhere.
#[derive(Default)]
struct Secrets {
    /// Keys and plaintexts: nowhere at all.
    keys_and_plaintexts: Needles,
    /// Envelopes, and what else rows have: nowhere but where rows stand.
    of_rows: Needles,
}

/// What a fixture is for.
enum Role {
    /// A table, to be read by everything that reads tables.
    Table,
    /// Known answers, of which a table is made.
    Vectors,
    /// Secrets, in every role that they could get into by mistake.
    Secrets,
    /// What tells of the fixtures, or what is expected of them.
    About,
}

/// A fixture that is not known here is an error: it has to be covered.
fn role(path: &Path) -> Role {
    let name = path.file_name().unwrap().to_str().unwrap();
    match name {
        "README.md" | "expected.json" | "expected-report.json" | "site.toml" => Role::About,
        "envelope-v1.json" => Role::Vectors,
        _ if name.starts_with("secrets") => Role::Secrets,
        _ if rekek::table::Format::of_path(path).is_some() => Role::Table,
        _ => panic!("{}: no test of silence covers this fixture", path.display()),
    }
}

fn fixtures(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() { fixtures(&entry, into) } else { into.push(entry) }
    }
}

#[test]
fn nothing_is_said_of_any_fixture() {
    let mut all = Vec::new();
    fixtures(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures"), &mut all);
    let roles: Vec<_> = all.iter().map(|path| (path, role(path))).collect();
    let count = |of: fn(&Role) -> bool| roles.iter().filter(|(_, role)| of(role)).count();
    assert!(count(|role| matches!(role, Role::Table)) >= 20);
    assert!(count(|role| matches!(role, Role::Vectors)) >= 1);
    assert!(count(|role| matches!(role, Role::Secrets)) >= 1);
    each(&roles, |(path, role)| match role {
        Role::Table => table_fixture(path),
        Role::Vectors => vectors_fixture(path),
        Role::Secrets => secrets_fixture(path),
        Role::About => {}
    });
}

/// The keys of a secrets file, and the keyring.
fn keys_of(site: &Site, secrets: &mut Secrets) -> Keyring {
    let text = site.read("secrets.json");
    let json: Value = serde_json::from_str(&text).unwrap();
    for key in json["machine_identity"]["encryption_keys"].as_object().unwrap().values() {
        secrets.keys_and_plaintexts.add_also_numbers("a key", &BASE64.decode(key.as_str().unwrap()).unwrap());
    }
    secrets.keys_and_plaintexts.add_also_numbers("the key that signs", &pair::seed());
    let mut keyring = Keyring::new();
    keyring.add_secrets("secrets.json", text.as_bytes()).unwrap();
    keyring
}

/// The plaintext of an envelope, if it opens.
fn opened(keyring: &Keyring, text: &str) -> Option<Vec<u8>> {
    let envelope = rekek::envelope::independent::read(text).ok()?;
    let key = &keyring.keys()[keyring.position(&envelope.key_id)?];
    let mut plaintext = Plaintext::new();
    key.cipher().open_into(&envelope.nonce, &envelope.ciphertext, &mut plaintext).ok()?;
    Some(plaintext.expose_plaintext().to_vec())
}

/// What every PKCS#8 PEM begins and ends with, which is no secret.
const PEM: [&str; 3] = [
    "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg",
    "-----END PRIVATE KEY-----\n",
    "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE",
];

/// A field's text, its plaintext if it opens, and what is in it if it does not.
fn add_field(secrets: &mut Secrets, keyring: &Keyring, text: &str) {
    secrets.of_rows.add_text("an envelope", text.trim().as_bytes());
    match opened(keyring, text) {
        Some(plaintext) => {
            secrets.keys_and_plaintexts.add_also_numbers("a plaintext", &plaintext);
            PEM.iter().for_each(|text| secrets.keys_and_plaintexts.allow(text.as_bytes()));
        }
        None => {
            if let Ok(json) = BASE64.decode(text.trim()) {
                secrets.of_rows.add_text("the JSON of an envelope that fails", &json);
            }
        }
    }
}

/// What a table has in its fields.
fn add_table(secrets: &mut Secrets, keyring: &Keyring, path: &Path) {
    let mut reader = table::open(&Input::File(path.to_owned()), &OpenOptions::default()).unwrap();
    let layout = Layout::of(reader.schema()).unwrap();
    while let Some(batch) = reader.next_batch().unwrap() {
        let texts = layout.texts(&batch);
        for column in &texts.fields {
            (0..batch.num_rows())
                .filter_map(|row| column.get(row))
                .for_each(|text| add_field(secrets, keyring, text));
        }
    }
}

fn table_fixture(path: &Path) {
    let site = Site::sample();
    let mut secrets = Secrets::default();
    let keyring = keys_of(&site, &mut secrets);
    add_table(&mut secrets, &keyring, path);
    let name = path.file_name().unwrap().to_str().unwrap();
    if name != "export.csv" {
        std::fs::copy(path, site.path(name)).unwrap();
    }
    over_a_table(&site, name, &secrets);
}

/// One row for each vector, its envelope in the column that has no public value.
fn vectors_fixture(path: &Path) {
    let vectors: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let site = Site::empty();
    site.write(
        "secrets.json",
        serde_json::json!({"machine_identity": {"encryption_keys": vectors["keys"]}}).to_string(),
    );
    let mut secrets = Secrets::default();
    let keyring = keys_of(&site, &mut secrets);
    let mut table = Table { header: vec!["organization_id".into()], rows: vec![] };
    table.header.extend(CIPHERTEXTS.map(String::from));
    for (row, vector) in vectors["decode"].as_array().unwrap().iter().enumerate() {
        let envelope = vector["envelope"].as_str().unwrap();
        add_field(&mut secrets, &keyring, envelope);
        table.rows.push(vec![format!("org-{row:03}"), String::new(), String::new(), envelope.to_owned()]);
    }
    // One vector has a plaintext where an envelope belongs. As such it is looked for where no rows are.
    for row in 0..table.rows.len() {
        let text = table.get(row, CIPHERTEXTS[2]);
        if opened(&keyring, text).is_none() {
            secrets.keys_and_plaintexts.allow(text.as_bytes());
        }
    }
    site.write("vectors.csv", table.text());
    over_a_table(&site, "vectors.csv", &secrets);
}

/// The sample's rows with every defect that a row can have.
#[test]
fn nothing_is_said_of_rows_that_fail() {
    let (table, _) = spoiled();
    let site = Site::sample();
    site.write("spoiled.csv", table.text());
    let mut secrets = Secrets::default();
    let keyring = keys_of(&site, &mut secrets);
    for row in 0..table.rows.len() {
        for column in CIPHERTEXTS {
            let text = table.get(row, column);
            add_field(&mut secrets, &keyring, text);
        }
    }
    over_a_table(&site, "spoiled.csv", &secrets);
}

/// Every command that takes a table, which is called TABLE, and what becomes of its output.
pub const OVER_A_TABLE: &[&str] = &[
    "inspect TABLE --nonces --retired kv1",
    "inspect TABLE --json",
    "verify TABLE",
    "verify TABLE --secrets secrets.json --to kv2 --json",
    "rewrap TABLE --dry-run --secrets secrets.json --to kv2 --check-signing-keys full --failures f1.jsonl --report r1.json",
    "rewrap TABLE -o whole.arrow --secrets secrets.json --to kv2 --json",
    "rewrap TABLE -o out.arrow --secrets secrets.json --to kv2 --keep-going --failures f2.jsonl --report r2.json",
    "rewrap TABLE -o out2.csv --secrets secrets.json --to kv2 --keep-going --json --trust-target",
    "rewrap TABLE -o signed.parquet --secrets secrets.json --to kv2 --keep-going --sign sign.key --report r6.json",
    "verify signed.parquet --trusted-key sign.pub --source TABLE --secrets secrets.json",
    "verify signed.parquet --trusted-key sign.key --json",
    "verify out.arrow --source TABLE --secrets secrets.json",
    "verify out.arrow --source TABLE --secrets secrets.json --json",
    "rewrap out.arrow -o again.arrow --secrets secrets.json --to kv2 --keep-going",
    "fleet plan.toml --report r5.json --sign sign.key",
    "fleet plan.toml --keep-going --json --site-reports .",
    "report out.arrow.manifest.json whole.arrow.manifest.json -o record.html",
    "report signed.parquet.manifest.json -o record2.html --trusted-key sign.pub",
];

const OF_THE_SITE: &[&str] = &[
    "init --rows TABLE --db sqlite:a.db",
    "init --rows TABLE --db sqlite:b.db --generation 1 --json",
    "inspect --db sqlite:a.db --retired kv1",
    "inspect --db sqlite:a.db --retired kv1 --json",
    "export --db sqlite:a.db -o exported.arrow --report r3.json",
    "import TABLE --db sqlite:a.db",
    "import whole.arrow --db sqlite:a.db --dry-run --json",
    "import signed.parquet --trusted-key sign.pub --db sqlite:a.db --dry-run --json",
    "import out.arrow --db sqlite:a.db --report r4.json",
    "import out.arrow --db sqlite:b.db --on-conflict skip --json",
];

fn over_a_table(site: &Site, name: &str, secrets: &Secrets) {
    pair::add(site);
    site.write("plan.toml", commands::plan(name, "fleet.arrow"));
    let mut failed = 0;
    for line in OVER_A_TABLE {
        let command = site.command(&line.replace("TABLE", name));
        failed += u32::from(silent(site, command, secrets) != Some(0));
    }
    let stdout =
        site.rekek(&format!("rewrap {name} -o - --output-format arrows --secrets secrets.json --to kv2"));
    secrets.keys_and_plaintexts.none_in(stdout.stdout.as_bytes(), name);
    nowhere(secrets, stdout.stderr.as_bytes(), name);
    for line in OF_THE_SITE {
        failed += u32::from(silent(site, rekek_site(site, &line.replace("TABLE", name)), secrets) != Some(0));
    }
    // (The secret key that is no public one always fails.)
    assert!(failed > 1 || name == "export.csv", "{name}: nothing failed");
}

/// What takes no table and fails at nothing.
pub const OF_THEIR_OWN: &[&str] = &[
    "generate -o made.arrow --orgs 3 --secrets secrets.json --under kv2",
    "bench --rows 20 --rounds 1 --threads 2 --plot bench.svg",
    "keygen kv7 --secrets secrets.json",
    "keygen kv8 --secrets new.json",
    "completions bash",
    "man pages",
];

#[test]
fn nothing_is_said_where_nothing_fails_and_a_new_key_only_where_it_was_asked_for() {
    let site = Site::sample();
    let mut secrets = Secrets::default();
    let _ = keys_of(&site, &mut secrets);
    for line in OF_THEIR_OWN {
        assert_eq!(silent(&site, site.command(line), &secrets), Some(0), "{line}");
    }
    for (id, name) in [("kv7", "secrets.json"), ("kv8", "new.json")] {
        let json: Value = serde_json::from_str(&site.read(name)).unwrap();
        let text = json["machine_identity"]["encryption_keys"][id].as_str().unwrap();
        secrets.keys_and_plaintexts.add("a new key", &BASE64.decode(text).unwrap());
    }
    // Again, now that the new keys are known: they are there, and their fingerprints are told.
    for line in
        ["keygen kv7 --secrets secrets.json", "rewrap export.csv -o out.csv --secrets secrets.json --to kv7"]
    {
        silent(&site, site.command(line), &secrets);
    }
    let printed = site.rekek("keygen kv9");
    let key = BASE64.decode(printed.stdout.strip_suffix('\n').unwrap()).unwrap();
    let mut new = Needles::default();
    new.add_also_numbers("the key that was printed", &key);
    assert_eq!(key.len(), 32);
    new.none_in(printed.stderr.as_bytes(), "keygen's stderr");
}

fn rekek_site(site: &Site, line: &str) -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("rekek-site"));
    command.args(line.split_whitespace()).current_dir(site.path("")).stdin(Stdio::null());
    command
}

/// Fails if anything of it is there.
#[track_caller]
fn nowhere(secrets: &Secrets, place: &[u8], context: &str) {
    secrets.keys_and_plaintexts.none_in(place, context);
    secrets.of_rows.none_in(place, context);
}

/// The files below a folder, each with what changes when it is written to.
fn files(site: &Site) -> HashMap<PathBuf, impl PartialEq + use<>> {
    let mut all = Vec::new();
    fixtures(&site.path(""), &mut all);
    let stamp = |path: &PathBuf| {
        path.symlink_metadata().map(|m| (m.ino(), m.len(), m.ctime(), m.ctime_nsec())).unwrap()
    };
    all.into_iter().map(|path| (path.clone(), stamp(&path))).collect()
}

/// Whether rows stand in a file of that name.
fn has_rows(path: &Path) -> bool {
    rekek::table::Format::of_path(path).is_some() || path.to_str().unwrap().contains(".db")
}

/// Runs it and looks through all it says and all it leaves, here or where nothing of it should be.
#[track_caller]
fn silent(site: &Site, mut command: Command, secrets: &Secrets) -> Option<i32> {
    let before = files(site);
    let context = format!("{command:?}");
    // A key's file is where keys belong.
    let for_keys: Vec<_> = match command.get_args().any(|word| word == "keygen") {
        true => command.get_args().map(|word| site.path(word.to_str().unwrap())).collect(),
        false => vec![],
    };
    let elsewhere = Site::empty();
    let output = command.env("HOME", elsewhere.path("")).env("TMPDIR", elsewhere.path("")).output().unwrap();
    assert_eq!(elsewhere.names(), [""; 0], "{context}");
    let status = output.status.code();
    let ran = ran(output);
    assert!(!ran.stderr.contains("panicked"), "{context}: {}", ran.stderr);
    nowhere(secrets, ran.stdout.as_bytes(), &context);
    nowhere(secrets, ran.stderr.as_bytes(), &context);
    for (path, stamp) in files(site) {
        if before.get(&path) == Some(&stamp) {
            continue;
        }
        let context = format!("{context}: {}", path.display());
        nowhere(secrets, path.to_str().unwrap().as_bytes(), &context);
        let content = std::fs::read(&path).unwrap();
        if has_rows(&path) {
            secrets.keys_and_plaintexts.none_in(&content, &context);
        } else if !for_keys.contains(&path) {
            nowhere(secrets, &content, &context);
        }
    }
    status
}

/// Commands over a file that is wrong as a whole, which is called TABLE.
const OVER_A_BROKEN_FILE: &[&str] = &[
    "inspect TABLE --retired kv1",
    "inspect TABLE --nonces --json",
    "verify TABLE --secrets secrets.json --json",
    "verify export.csv --source TABLE --secrets secrets.json",
    "rewrap TABLE -o TABLE.out.csv --secrets secrets.json --to kv2 --keep-going --failures TABLE.jsonl --sign sign.key",
    "rewrap TABLE -o TABLE.out.parquet --secrets secrets.json --to kv2 --keep-going --report TABLE.json",
    "rewrap TABLE --dry-run --secrets secrets.json --to kv2 --check-signing-keys off --json",
    "fleet plan.toml --dry-run --json",
];

fn over_a_broken_file(site: &Site, name: &str, secrets: &Secrets) {
    site.write("plan.toml", commands::plan(name, "fleet.arrow"));
    let run = |line: &&str| silent(site, site.plain_command(&line.replace("TABLE", name)), secrets);
    let failed = OVER_A_BROKEN_FILE.iter().filter(|line| run(line) != Some(0)).count();
    for line in
        [format!("init --rows {name} --db sqlite:{name}.db"), format!("import {name} --db sqlite:export.db")]
    {
        silent(site, rekek_site(site, &line), secrets);
    }
    assert!(failed > 0, "{name}: nothing failed");
}

/// A site with a few rows of the sample, to be broken, and in a database.
fn few_rows() -> (Site, Table) {
    let site = Site::sample();
    pair::add(&site);
    let mut table = Table::sample();
    let full = table.row_with(1, &CIPHERTEXTS);
    table.rows = table.rows[full - 1..full + 5].to_vec();
    site.write("export.csv", table.text());
    assert_eq!(
        rekek_site(&site, "init --rows export.csv --db sqlite:export.db").status().unwrap().code(),
        Some(0)
    );
    (site, table)
}

#[test]
fn nothing_is_said_of_a_text_file_that_is_wrong_as_a_whole() {
    let (site, table) = few_rows();
    let mut secrets = Secrets::default();
    let keyring = keys_of(&site, &mut secrets);
    add_table(&mut secrets, &keyring, &site.path("export.csv"));
    let text = table.text();
    let lines: Vec<_> = text.lines().collect();
    let row = table.row_with(1, &CIPHERTEXTS);
    let envelope = text.find(table.get(row, CIPHERTEXTS[1])).unwrap() + 200;
    let quoted = text.rfind("\"{").unwrap() + 20;
    let with = |at: usize, byte: u8| {
        let mut bytes = text.clone().into_bytes();
        bytes[at] = byte;
        bytes
    };
    let exchanged = |a: &str, b: &str| {
        let mut table = table.clone();
        let (a, b) = (table.column(a), table.column(b));
        table.header.swap(a, b);
        table.text().into_bytes()
    };
    let with_row =
        |line: String| [&lines[..=row], &[&line], &lines[row + 2..]].concat().join("\n").into_bytes();
    let id = "organization_id";
    let broken: Vec<(&str, Vec<u8>)> = vec![
        ("cut in an envelope", text[..envelope].into()),
        ("cut in a quoted value", text[..quoted].into()),
        ("cut in the header", text[..40].into()),
        ("not UTF-8 in an envelope", with(envelope, 0xff)),
        ("not UTF-8 in a public value", with(quoted, 0xff)),
        ("not UTF-8 in an id", with(lines[0].len() + 3, 0xff)),
        ("a quote in an envelope", with(envelope, b'"')),
        ("a comma in an envelope", with(envelope, b',')),
        ("a line's end in an envelope", with(envelope, b'\n')),
        ("zero in an envelope", with(envelope, 0)),
        ("a spoilt letter in an envelope", with(envelope, b'!')),
        ("a value more", with_row(format!("{},x", lines[row + 1]))),
        ("a value less", with_row(lines[row + 1].split_once(',').unwrap().1.into())),
        ("a value that moved", with_row(lines[row + 1].split_once(',').unwrap().1.to_owned() + ",")),
        ("an organization twice", with_row(lines[row].into())),
        ("id and signing key exchanged", exchanged(id, CIPHERTEXTS[0])),
        ("id and configuration exchanged", exchanged(id, CIPHERTEXTS[2])),
        ("signing key and public value exchanged", exchanged(CIPHERTEXTS[0], "signing_key_public_1")),
        ("no header", lines[1..].join("\n").into()),
        ("a row glued to the header", text.replacen('\n', ",", 1).into()),
        ("the envelopes alone", (table.get(row, CIPHERTEXTS[0]).to_owned() + "\n").repeat(3).into()),
        ("UTF-16", text.encode_utf16().flat_map(u16::to_le_bytes).collect()),
    ];
    for (i, (what, bytes)) in broken.iter().enumerate() {
        let name = format!("{i}-{}.csv", what.replace([' '], "-"));
        site.write(&name, bytes);
        over_a_broken_file(&site, &name, &secrets);
    }
}

#[test]
fn nothing_is_said_of_a_binary_file_that_is_wrong_as_a_whole() {
    let (site, _) = few_rows();
    for format in ["parquet", "arrow", "arrows"] {
        let whole = format!("whole.{format}");
        let line = format!("generate -o {whole} --orgs 6 --secrets secrets.json --under kv1 --under kv2");
        assert_eq!(site.rekek(&line).status, 0);
        let mut secrets = Secrets::default();
        let keyring = keys_of(&site, &mut secrets);
        add_table(&mut secrets, &keyring, &site.path(&whole));
        let bytes = std::fs::read(site.path(&whole)).unwrap();
        let length = bytes.len();
        let cut = [length / 3, length * 2 / 3, length - 9].map(|at| bytes[..at].to_vec());
        let spoilt = [length / 4, length / 2, length * 3 / 4, length - 200, length - 40].map(|at| {
            let mut spoilt = bytes.clone();
            spoilt[at..at + 24].iter_mut().for_each(|byte| *byte ^= 0x55);
            spoilt
        });
        for (i, bytes) in cut.iter().chain(&spoilt).enumerate() {
            let name = format!("{i}.{format}");
            site.write(&name, bytes);
            over_a_broken_file(&site, &name, &secrets);
        }
    }
}

/// Every way in which somebody might have written a key.
fn spellings(key: &[u8]) -> [String; 6] {
    let padded = BASE64.encode(key);
    let url_safe = padded.replace('+', "-").replace('/', "_");
    let bare = |text: &str| text.trim_end_matches('=').to_owned();
    [bare(&padded), bare(&url_safe), padded, url_safe, hex::encode(key), hex::encode_upper(key)]
}

/// Commands that are given a key, KEY, where an id belongs: on the command line, or in a file.
const KEY_FOR_AN_ID: &[&str] = &[
    "KEY",
    "keygen kv1 KEY",
    "rewrap export.csv --dry-run --secrets secrets.json --to kv2 --threads KEY",
    "keygen KEY --secrets none/new.json",
    "keygen kv1 --secrets named.json",
    "generate -o made.csv --orgs 1 --secrets secrets.json --under KEY",
    "generate -o made.csv --orgs 1 --secrets named.json --under kv1",
    "inspect export.csv --retired KEY",
    "inspect in-id.csv --nonces --json",
    "inspect in-envelope.csv --retired kv1",
    "inspect in-envelope.csv --json",
    "verify export.csv --manifest manifest.json --secrets secrets.json",
    "verify in-envelope.csv --secrets secrets.json --json",
    "rewrap export.csv --dry-run --secrets secrets.json --to KEY",
    "rewrap export.csv --dry-run --secrets secrets.json --site-config key.toml",
    "rewrap export.csv --dry-run --secrets secrets.json --vault-key KEY=kv2.vault --to kv2",
    "rewrap export.csv --dry-run --secrets named.json --to kv1",
    "rewrap in-id.csv --dry-run --secrets secrets.json --to kv2 --json",
    "rewrap in-id.csv -o id.csv --secrets secrets.json --to kv2 --keep-going --failures id.jsonl --report id.json",
    "rewrap in-envelope.csv -o envelope.csv --secrets secrets.json --to kv2 --keep-going --report envelope.json",
    "rewrap in-envelope.csv --dry-run --secrets secrets.json --to kv2 --failures envelope.jsonl",
    "fleet plan.toml --dry-run",
    "fleet plan.toml --json --report fleet.json",
];

const KEY_FOR_AN_ID_OF_THE_SITE: &[&str] = &[
    "init --rows in-id.csv --db sqlite:id.db",
    "init --rows in-envelope.csv --db sqlite:envelope.db",
    "inspect --db sqlite:envelope.db --retired KEY",
    "inspect --db sqlite:envelope.db --json",
    "export --db sqlite:id.db -o ids.csv --report ids.json",
    "import out.csv --site-config key.toml --db sqlite:export.db",
    "import out.csv --manifest manifest.json --db sqlite:export.db",
    "import envelope.csv --db sqlite:export.db --json",
];

/// A key that was pasted where an id belongs is not said again, on the command line neither.
#[test]
fn a_key_is_not_taken_for_an_id_and_shown() {
    no_key_is_shown_for_an_id(KEY_FOR_AN_ID, KEY_FOR_AN_ID_OF_THE_SITE);
}

#[track_caller]
fn no_key_is_shown_for_an_id(of_rekek: &[&str], of_the_site: &[&str]) {
    let (original, table) = few_rows();
    let bytes = BASE64.decode(original.rekek("keygen kv9").stdout.trim()).unwrap();
    for key in spellings(&bytes) {
        let (site, _) = few_rows();
        let mut secrets = Secrets::default();
        let _ = keys_of(&site, &mut secrets);
        secrets.of_rows.add("a key where an id belongs", &bytes);
        let with = |column: &str, value: &dyn Fn(&str) -> String, rows: &[usize]| {
            let mut table = table.clone();
            rows.iter().for_each(|row| *table.value(*row, column) = value(table.get(*row, column)));
            table.text()
        };
        let row = table.row_with(0, &CIPHERTEXTS);
        site.write("in-id.csv", with("organization_id", &|_| key.clone(), &[2]));
        site.write("twice.csv", with("organization_id", &|_| key.clone(), &[2, 3]));
        let named = |text: &str| {
            edit_envelope(text, |json| {
                let (head, tail) = json.split_once("\"key_id\":\"").unwrap();
                format!("{head}\"key_id\":\"{key}{}", &tail[tail.find('"').unwrap()..])
            })
        };
        site.write("in-envelope.csv", with(CIPHERTEXTS[0], &named, &[row]));
        site.write("key.toml", format!("[machine_identity]\ncurrent_encryption_key_id = \"{key}\"\n"));
        site.write("orgs.txt", format!("{key}\n"));
        let kv2 = BASE64.encode([7; 31].iter().chain(&[9]).copied().collect::<Vec<u8>>());
        site.write(
            "named.json",
            format!(r#"{{"machine_identity":{{"encryption_keys":{{"{key}":"{kv2}"}}}}}}"#),
        );
        let vault =
            format!(r#"{{"data":{{"data":{{"UsernamePassword":{{"username":"","password":"{kv2}"}}}}}}}}"#);
        site.write("kv2.vault", vault);
        site.write("plan.toml", commands::plan("export.csv", "fleet.csv").replace("kv2", &key));
        site.rekek("rewrap export.csv -o out.csv --secrets secrets.json --to kv2").good();
        site.write(
            "manifest.json",
            site.read("out.csv.manifest.json").replace("\"kv2\"", &format!("\"{key}\"")),
        );
        for line in of_rekek {
            silent(&site, site.plain_command(&line.replace("KEY", &key)), &secrets);
        }
        for line in of_the_site {
            silent(&site, rekek_site(&site, &line.replace("KEY", &key)), &secrets);
        }
    }
}

/// Secrets that cannot be used, or that stand where something else should.
fn secrets_fixture(path: &Path) {
    let site = Site::sample();
    pair::add(&site);
    let mut secrets = Secrets::default();
    std::fs::copy(path, site.path("secrets.json")).unwrap();
    let _ = keys_of(&site, &mut secrets);
    let good = site.read("secrets.json");
    let json: Value = serde_json::from_str(&good).unwrap();
    let keys = json["machine_identity"]["encryption_keys"].as_object().unwrap().clone();
    let key = keys["kv1"].as_str().unwrap();
    for key in keys.values() {
        // (What is no base64 any more is looked for as it stands.)
        secrets.keys_and_plaintexts.add_text("a key's text", key.as_str().unwrap().as_bytes());
    }
    let vault = |password: &str| {
        format!(r#"{{"data":{{"data":{{"UsernamePassword":{{"username":"","password":"{password}"}}}}}}}}"#)
    };
    let yaml = format!("machine_identity:\n  encryption_keys:\n    kv1: {key}\n");
    let broken = [
        good.replace("kv0", "kv1"),
        good.replace("=\"", "==\""),
        good.replace("=\"", "\\u003d\\u0021\""),
        good.replace("\"encryption_keys\": {", "\"encryption_keys\": {{"),
        good.replace("\"encryption_keys\": {", "\"encryption_keys\": [").replace("}}", "]}"),
        good.replace("\"kv1\": ", "\"kv1\": [") + "]",
        good[..good.len() / 2].to_owned(),
        good.replace("machine_identity", "machine_id"),
        good.replace("\"kv1\": \"", &format!("\"{key}\": \"")),
        good.replace(&key[..12], ""),
        format!("\u{feff}{good}"),
        key.to_owned(),
        format!("\"{key}\""),
        yaml.replace("kv1: ", "kv1: [") + "]",
        yaml.replace("kv1: ", "kv1: &a ") + "    kv1: *a\n",
        yaml.replace("kv1: ", "kv1: *") + "\n",
        yaml.replace("kv1: ", "kv1: !!int "),
        yaml.replace("kv1: ", "kv1: |\n      x") + "\n",
        yaml.replace("kv1: ", &format!("? {key}\n    : ")),
        yaml.replace("    kv1", "\tkv1"),
        vault(&key[..40]),
        vault(key).replace("UsernamePassword", "Other"),
        vault(key).replace("\"username\"", "username"),
        vault(key),
    ];
    let mut failed = 0;
    for text in &broken {
        for name in ["bad.json", "bad.yaml"] {
            site.write(name, text);
            for line in [
                format!("rewrap export.csv --dry-run --secrets {name} --to kv2 --json"),
                format!("rewrap export.csv --dry-run --vault-key kv2={name} --to kv2"),
                format!("verify export.csv --secrets {name}"),
                format!("generate -o g.csv --orgs 1 --secrets {name} --under kv2"),
                format!("keygen kv1 --secrets {name}"),
            ] {
                failed += u32::from(silent(&site, site.command(&line), &secrets) != Some(0));
                std::fs::remove_file(site.path("g.csv")).ok();
                std::fs::remove_file(site.path("g.csv.manifest.json")).ok();
            }
        }
    }
    assert!(failed as usize > broken.len() * 5, "{failed} failed");

    // In every role that is not its own.
    let forced = |format: &str| format!("--input-format {format}");
    for format in ["csv", "parquet", "arrow", "arrows"] {
        let format = forced(format);
        for line in [
            format!("inspect secrets.json {format}"),
            format!("verify secrets.json {format}"),
            format!("rewrap secrets.json {format} --dry-run --secrets secrets.json --to kv2"),
            format!(
                "verify export.csv --secrets secrets.json --source secrets.json --source-{}",
                &format[8..]
            ),
        ] {
            assert_ne!(silent(&site, site.command(&line), &secrets), Some(0), "{line}");
        }
        for line in [
            format!("import secrets.json {format} --db sqlite:s.db"),
            format!("init --rows secrets.json {format} --db sqlite:s.db"),
        ] {
            assert_ne!(silent(&site, rekek_site(&site, &line), &secrets), Some(0), "{line}");
        }
    }
    let rewrap = "rewrap export.csv --dry-run --secrets secrets.json";
    for line in [
        "inspect secrets.json".to_owned(),
        format!("{rewrap} --site-config secrets.json"),
        format!("{rewrap} --to kv2 --orgs-file secrets.json"),
        format!("{rewrap} --to kv2 --secrets secrets.json"),
        format!("{rewrap} --to kv2 --vault-key kv2=secrets.json"),
        format!("{rewrap} --to kv2 --report secrets.json --force"),
        format!("{rewrap} --to kv2 --sign secrets.json"),
        "rewrap export.csv --dry-run --secrets sign.key --to kv2".to_owned(),
        "rewrap export.csv --dry-run --vault-key kv2=sign.key --to kv2".to_owned(),
        "verify export.csv --trusted-key secrets.json".to_owned(),
        "verify export.csv --trusted-key sign.key".to_owned(),
        "verify export.csv --manifest secrets.json".to_owned(),
        "keygen kv9 --secrets export.csv".to_owned(),
        "fleet secrets.json".to_owned(),
        "report secrets.json -o record.html".to_owned(),
        "report export.csv -o record.html --import secrets.json".to_owned(),
    ] {
        assert_ne!(silent(&site, site.command(&line), &secrets), Some(0), "{line}");
    }
    for line in [
        "import export.csv --manifest secrets.json --db sqlite:s.db",
        "import export.csv --site-config secrets.json --db sqlite:s.db",
        "import export.csv --report secrets.json --db sqlite:s.db",
        "inspect --db sqlite:secrets.json",
        "export --db sqlite:secrets.json -o e.csv",
    ] {
        assert_ne!(silent(&site, rekek_site(&site, line), &secrets), Some(0), "{line}");
    }
}
