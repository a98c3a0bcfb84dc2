//! Every command over everything that fails: no key, no plaintext and no failing envelope is in
//! what it says, in what it writes, or in a file's name.

use crate::folder::{CIPHERTEXTS, Site, Table, ran, spoiled};
use crate::needles::Needles;
use base64::Engine as _;
use rekek::keyring::Keyring;
use rekek::secret::Plaintext;
use rekek::table::{self, Input, Layout, OpenOptions};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const BASE64: base64::engine::GeneralPurpose = base64::engine::general_purpose::STANDARD;

/// What must be nowhere.
#[derive(Default)]
struct Secrets {
    /// Keys and plaintexts: nowhere at all.
    keys_and_plaintexts: Needles,
    /// Envelopes that fail: nowhere but where rows stand, as they were.
    envelopes: Needles,
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
    let roles = all.iter().map(|path| (path, role(path)));
    let (mut tables, mut vectors, mut secrets) = (0, 0, 0);
    for (path, role) in roles {
        match role {
            Role::Table => {
                tables += 1;
                table_fixture(path);
            }
            Role::Vectors => {
                vectors += 1;
                vectors_fixture(path);
            }
            Role::Secrets => {
                secrets += 1;
                secrets_fixture(path);
            }
            Role::About => {}
        }
    }
    assert!(tables >= 20 && vectors >= 1 && secrets >= 1, "{tables} {vectors} {secrets}");
}

/// The keys of a secrets file, and the keyring.
fn keys_of(site: &Site, secrets: &mut Secrets) -> Keyring {
    let text = site.read("secrets.json");
    let json: Value = serde_json::from_str(&text).unwrap();
    for key in json["machine_identity"]["encryption_keys"].as_object().unwrap().values() {
        secrets.keys_and_plaintexts.add_also_numbers("a key", &BASE64.decode(key.as_str().unwrap()).unwrap());
    }
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

/// A field's text: its plaintext if it opens, and the text itself and what is in it, if it does not.
fn add_field(secrets: &mut Secrets, keyring: &Keyring, text: &str) {
    match opened(keyring, text) {
        Some(plaintext) => {
            secrets.keys_and_plaintexts.add_also_numbers("a plaintext", &plaintext);
            PEM.iter().for_each(|text| secrets.keys_and_plaintexts.allow(text.as_bytes()));
        }
        None => {
            secrets.envelopes.add_text("an envelope that fails", text.trim().as_bytes());
            if let Ok(json) = BASE64.decode(text.trim()) {
                secrets.envelopes.add_text("the JSON of an envelope that fails", &json);
            }
        }
    }
}

fn table_fixture(path: &Path) {
    let site = Site::sample();
    let mut secrets = Secrets::default();
    let keyring = keys_of(&site, &mut secrets);
    let mut reader = table::open(&Input::File(path.to_owned()), &OpenOptions::default()).unwrap();
    let layout = Layout::of(reader.schema()).unwrap();
    while let Some(batch) = reader.next_batch().unwrap() {
        let texts = layout.texts(&batch);
        for column in &texts.fields {
            (0..batch.num_rows())
                .filter_map(|row| column.get(row))
                .for_each(|text| add_field(&mut secrets, &keyring, text));
        }
    }
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
    let (table, expected) = spoiled();
    let site = Site::sample();
    site.write("spoiled.csv", table.text());
    let mut secrets = Secrets::default();
    let keyring = keys_of(&site, &mut secrets);
    for row in 0..table.rows.len() {
        for column in CIPHERTEXTS {
            let text = table.get(row, column);
            add_field(&mut secrets, &keyring, text);
            if expected.iter().any(|(r, _, c, _)| (*r, *c) == (row, column)) {
                secrets.envelopes.add_text("an envelope that fails", text.as_bytes());
            }
        }
    }
    over_a_table(&site, "spoiled.csv", &secrets);
}

/// Every command that takes a table, and what becomes of its output.
fn over_a_table(site: &Site, name: &str, secrets: &Secrets) {
    let tail = "--secrets secrets.json --to kv2";
    let mut failed = 0;
    let plan = format!(
        "[[site]]\nname = 'one'\ninput = '{name}'\noutput = 'fleet.arrow'\nsecrets = 'secrets.json'\n"
    );
    site.write("plan.toml", plan + "to = 'kv2'\n");
    for line in [
        format!("inspect {name} --nonces --retired kv1"),
        format!("inspect {name} --json"),
        format!("verify {name}"),
        format!("verify {name} --secrets secrets.json --to kv2 --json"),
        format!(
            "rewrap {name} --dry-run {tail} --check-signing-keys full --failures f1.jsonl --report r1.json"
        ),
        format!("rewrap {name} -o whole.arrow {tail} --json"),
        format!("rewrap {name} -o out.arrow {tail} --keep-going --failures f2.jsonl --report r2.json"),
        format!("rewrap {name} -o out2.arrow {tail} --keep-going --json --trust-target"),
        format!("verify out.arrow --source {name} --secrets secrets.json"),
        format!("verify out.arrow --source {name} --secrets secrets.json --json"),
        format!("rewrap out.arrow -o again.arrow {tail} --keep-going"),
        "fleet plan.toml --report r5.json".to_owned(),
        "fleet plan.toml --keep-going --json --site-reports .".to_owned(),
        "report out.arrow.manifest.json whole.arrow.manifest.json -o record.html".to_owned(),
        "report out.arrow.manifest.json -o record2.html".to_owned(),
    ] {
        failed += u32::from(silent(site, site.command(&line), secrets) != Some(0));
    }
    let stdout = site.rekek(&format!("rewrap {name} -o - --output-format arrows {tail}"));
    secrets.keys_and_plaintexts.none_in(stdout.stdout.as_bytes(), name);
    nowhere(secrets, stdout.stderr.as_bytes(), name);
    for line in [
        format!("init --rows {name} --db sqlite:a.db"),
        format!("init --rows {name} --db sqlite:b.db --generation 1 --json"),
        "inspect --db sqlite:a.db --retired kv1".to_owned(),
        "inspect --db sqlite:a.db --retired kv1 --json".to_owned(),
        "export --db sqlite:a.db -o exported.arrow --report r3.json".to_owned(),
        format!("import {name} --db sqlite:a.db"),
        "import whole.arrow --db sqlite:a.db --dry-run --json".to_owned(),
        "import out.arrow --db sqlite:a.db --report r4.json".to_owned(),
        "import out.arrow --db sqlite:b.db --on-conflict skip --json".to_owned(),
    ] {
        failed += u32::from(silent(site, rekek_site(site, &line), secrets) != Some(0));
    }
    assert!(failed > 0 || name == "export.csv", "{name}: nothing failed");
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
    secrets.envelopes.none_in(place, context);
}

/// Runs it and looks through all it says and all it leaves.
#[track_caller]
fn silent(site: &Site, mut command: Command, secrets: &Secrets) -> Option<i32> {
    let before = site.names();
    let context = format!("{command:?}");
    let output = command.output().unwrap();
    let status = output.status.code();
    let ran = ran(output);
    assert!(!ran.stderr.contains("panicked"), "{context}: {}", ran.stderr);
    nowhere(secrets, ran.stdout.as_bytes(), &context);
    nowhere(secrets, ran.stderr.as_bytes(), &context);
    for name in site.names().into_iter().filter(|name| !before.contains(name)) {
        nowhere(secrets, name.as_bytes(), &context);
        let content = std::fs::read(site.path(&name)).unwrap();
        let context = format!("{context}: {name}");
        if name.ends_with(".arrow") || name.ends_with(".db") {
            secrets.keys_and_plaintexts.none_in(&content, &context);
        } else {
            nowhere(secrets, &content, &context);
        }
    }
    status
}

/// Secrets that cannot be used, or that stand where something else should.
fn secrets_fixture(path: &Path) {
    let site = Site::sample();
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
