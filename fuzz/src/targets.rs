//! What is done with an input that nobody vouches for, and what must hold whatever it is.
//!
//! One function a target. Coverage-guided fuzzing calls them (`fuzz/targets`), and so does
//! `tests/regressions.rs` with every seed and every input that once found a defect, so that what is
//! found here stays found without a fuzzer. The keys are those of the sample site, made up.
//!
//! Each looks for more than a panic: the fast envelope reader is held against the independent one,
//! the CSV reader against the csv crate, a re-wrap's counters against each other, and its output
//! against the whole of `rekek verify`.

use base64::Engine as _;
use rekek::envelope::{self, EnvelopeError, Scratch, Tier, independent};
use rekek::keyring::{self, Keyring};
use rekek::manifest::Manifest;
use rekek::pipeline::{Destination, Job, Observer, OnFailure};
use rekek::publish::Existing;
use rekek::report::{Failure, RewrapReport};
use rekek::rewrap::Rules;
use rekek::row::{KeyId, Sha256Digest, is_absent};
use rekek::signing_key::SigningKeyCheck;
use rekek::site_config::SiteConfig;
use rekek::stop::Stop;
use rekek::table::{self, Compression, Format, Input, Layout, OpenOptions};
use rekek::verify::Verification;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// A target: its name, and what it does with an input.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const ALL: [Target; 9] = [
    ("envelope", envelope),
    ("csv", csv),
    ("parquet", parquet),
    ("arrow", arrow),
    ("arrows", arrows),
    ("secrets", secrets),
    ("signing_key", signing_key),
    ("site_config", site_config),
    ("manifest", manifest),
];

/// The target key of every re-wrap here.
const TO: &str = "kv2";

/// The sample site's keys.
pub static KEYRING: LazyLock<Keyring> = LazyLock::new(|| {
    let mut keyring = Keyring::new();
    let secrets = include_bytes!("../../fixtures/sample/secrets.json");
    keyring.add_secrets("secrets.json", secrets).expect("the sample's secrets are in order");
    keyring
});

thread_local! {
    /// Removed by the thread's end, and after a fuzzer by who started it (scripts/fuzz).
    static FOLDER: tempfile::TempDir = tempfile::tempdir().expect("there is room for a folder");
}

fn path(name: &str) -> PathBuf {
    FOLDER.with(|folder| folder.path().join(name))
}

fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let path = path(name);
    std::fs::write(&path, bytes).expect("there is room for a file");
    path
}

/// What a refusal must be: a line or two that names the file.
fn check_message(message: &str, file: &Path) {
    assert!(message.contains(file.to_str().expect("it is text")), "no file is named: {message}");
    assert!(message.len() < 2000 && message.lines().count() <= 2, "no message for people: {message}");
}

/// The readers of an envelope agree, on every tier that this machine has: with the input as the
/// text, and with the input as the JSON within it.
pub fn envelope(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        same_envelope(text);
    }
    let base64 = base64::engine::general_purpose::STANDARD;
    same_envelope(&base64.encode(data));
    // Spelled so that the reader of the canonical spelling leaves it to the tolerant one.
    let spaced = [b" ", data].concat();
    let (compact, spaced) = (base64.encode(data), base64.encode(spaced));
    assert_eq!(judged(&compact).map_err(class), judged(&spaced).map_err(class), "a space decides");
}

type Parts = (String, envelope::Nonce, Vec<u8>);

fn judged(text: &str) -> Result<Parts, EnvelopeError> {
    independent::read(text).map(|e| (e.key_id, e.nonce, e.ciphertext))
}

/// Which of several defects is named depends on the reader; of which class it is does not.
fn class(error: EnvelopeError) -> Option<u8> {
    match error {
        EnvelopeError::Malformed(_) => None,
        EnvelopeError::UnsupportedVersion(version) => Some(version),
    }
}

fn same_envelope(text: &str) {
    let expected = judged(text).map_err(class);
    for tier in Tier::ALL {
        let Ok(mut scratch) = Scratch::with_tier(tier) else { continue };
        // Twice: what an envelope leaves in the buffers must not show.
        for _ in 0..2 {
            let parts = |e: envelope::Envelope<'_>| {
                (e.key_id.to_owned(), e.nonce, e.body.expose_plaintext().to_vec())
            };
            let read = envelope::read(text, &mut scratch).map(parts).map_err(class);
            assert_eq!(read, expected, "{tier:?}");
        }
        let key_id = envelope::key_id(text, &mut scratch).map(str::to_owned).map_err(class);
        assert_eq!(key_id, expected.clone().map(|(key_id, ..)| key_id), "{tier:?}");
        let Ok((key_id, nonce, ciphertext)) = &expected else { continue };
        let mut written = Vec::new();
        envelope::write(key_id, nonce, ciphertext, &mut scratch, &mut written);
        let written = String::from_utf8(written).expect("base64 is text");
        assert_eq!(judged(&written).map_err(class), expected, "{tier:?}: as it was written");
    }
}

/// A CSV table: through the whole of a re-wrap, and record by record as the csv crate reads it.
pub fn csv(data: &[u8]) {
    same_records(data);
    table(Format::Csv, data);
}

/// A Parquet file.
pub fn parquet(data: &[u8]) {
    table(Format::Parquet, data);
}

/// An Arrow file.
pub fn arrow(data: &[u8]) {
    table(Format::Arrow, data);
}

/// An Arrow stream.
pub fn arrows(data: &[u8]) {
    table(Format::Arrows, data);
}

/// All rows of a table; `None` in place of the first that is refused, or of the header.
fn rows(input: &Path) -> Vec<Option<Vec<String>>> {
    let mut rows = vec![];
    let Ok(mut reader) = table::open(&Input::File(input.into()), &OpenOptions::default()) else {
        return vec![None];
    };
    let header = reader.schema().fields().iter().map(|field| field.name().clone()).collect();
    rows.push(Some(header));
    loop {
        match reader.next_batch() {
            Ok(Some(batch)) => {
                let columns: Vec<_> =
                    batch.columns().iter().map(|c| table::Text::of(c).expect("CSV is text")).collect();
                rows.extend((0..batch.num_rows()).map(|row| {
                    Some(columns.iter().map(|c| c.get(row).unwrap_or_default().to_owned()).collect())
                }));
            }
            Ok(None) => return rows,
            Err(_) => {
                rows.push(None);
                return rows;
            }
        }
    }
}

/// Where the csv crate reads a table of even width and valid text to its end, the rows are its
/// rows; and what it would not read is not read here.
fn same_records(data: &[u8]) {
    let ours = rows(&file("records.csv", data));
    let refused = ours.last().is_none_or(Option::is_none);
    // That crate ends an open quote with the file: a line of its own behind the text shows whether
    // it was swallowed.
    let marked = [data, b"\nTHE END\n"].concat();
    let mut reader = ::csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(&marked[..]);
    let mut theirs = vec![];
    for record in reader.byte_records() {
        let record = record.expect("a slice can be read");
        theirs.push(record.iter().map(|v| String::from_utf8(v.to_vec()).ok()).collect::<Option<Vec<_>>>());
    }
    if theirs.pop().flatten().is_none_or(|last| last != ["THE END"]) {
        assert!(refused, "a quote that is never closed was let pass");
        return;
    }
    let width = theirs.first().and_then(|first| first.as_ref().map(Vec::len)).unwrap_or(0);
    let good = |record: &Option<Vec<String>>| record.as_ref().is_some_and(|r| r.len() == width);
    if theirs.iter().all(good) && (1..=4096).contains(&width) {
        assert_eq!(ours, theirs);
    } else {
        assert!(refused, "what the csv crate refuses was let pass");
    }
}

struct Nobody;

impl Observer for Nobody {
    fn rows(&mut self, _: u64) {}
    fn failure(&mut self, failure: &Failure) -> std::io::Result<()> {
        assert!(failure.error.len() < 1000 && failure.error.lines().count() <= 1, "{}", failure.error);
        Ok(())
    }
}

/// A table of any format through the whole of a re-wrap.
fn table(format: Format, data: &[u8]) {
    let input = file(&format!("in.{}", format.name()), data);
    // The input chooses the output's format; most often its own, which is what `verify` compares.
    let choice = data.iter().fold(data.len(), |sum, byte| sum.wrapping_mul(31) + usize::from(*byte));
    let to = [format, format, Format::Csv, Format::Parquet, Format::Arrow, Format::Arrows][choice % 6];
    let output = path(&format!("out.{}", to.name()));
    let report = match rewrap(&input, &output, to) {
        Ok(report) => report,
        Err(error) => {
            // Which of the two it was that could not go on differs.
            let named = if error.contains(output.to_str().expect("it is text")) { &output } else { &input };
            return check_message(&error, named);
        }
    };
    check_counts(&report);
    assert_eq!(report.input.sha256, Sha256Digest::of(data));
    assert_eq!(report.input.bytes, data.len() as u64);
    check_output(&input, &output, &report);
    if to == format {
        check_verified(&input, &output, &report);
    }
}

fn rewrap(input: &Path, output: &Path, format: Format) -> Result<RewrapReport, String> {
    let job = Job {
        input: Input::File(input.into()),
        input_format: None,
        output: Destination::File(output.into()),
        output_format: format,
        compression: Compression::Usual,
        manifest: None,
        signer: None,
        existing: Existing::Replace,
        keyring: &KEYRING,
        target: KEYRING.position(TO).expect("the sample has it"),
        scope: None,
        rules: Rules::default(),
        on_failure: OnFailure::KeepGoing,
        threads: 1,
        stop: Stop::default(),
    };
    job.run(&mut Nobody).map_err(|error| error.to_string())
}

fn check_counts(report: &RewrapReport) {
    let counts = &report.counts;
    assert_eq!(
        counts.rows_examined,
        counts.rows_updated + counts.rows_skipped_all_on_target + counts.rows_failed
    );
    let fields = counts.fields_reencrypted + counts.fields_skipped_on_target + counts.fields_absent;
    assert_eq!(fields, 3 * (counts.rows_examined - counts.rows_failed));
    let by_key: u64 = report.fields_by_source_key.values().sum();
    assert_eq!(by_key, counts.fields_reencrypted + counts.fields_skipped_on_target);
    let output = report.output.as_ref().expect("it is published whatever fails");
    assert_eq!((report.input.rows, output.rows), (counts.rows_examined, counts.rows_examined));
}

/// The output reads back with the rows that were counted, in the order of the input.
fn check_output(input: &Path, output: &Path, report: &RewrapReport) {
    let ids = |path: &Path| {
        let mut reader = table::open(&Input::File(path.into()), &OpenOptions::default()).unwrap();
        let layout = Layout::of(reader.schema()).unwrap();
        let (mut ids, mut on_target) = (vec![], 0);
        while let Some(batch) = reader.next_batch().unwrap() {
            let texts = layout.texts(&batch);
            for row in 0..batch.num_rows() {
                ids.push(texts.organization_id.get(row).map(str::to_owned));
                let fields = texts.fields.iter().map(|f| f.get(row)).filter(|text| !is_absent(*text));
                on_target += fields
                    .filter(|text| independent::read(text.unwrap_or_default()).is_ok_and(|e| e.key_id == TO))
                    .count() as u64;
            }
        }
        (ids, on_target, reader.finish().unwrap())
    };
    let (before, _, _) = ids(input);
    let (after, on_target, facts) = ids(output);
    assert_eq!(before, after, "rows were lost, added or moved");
    let told = report.output.as_ref().expect("it is published whatever fails");
    assert_eq!((facts.bytes, facts.sha256), (told.bytes, told.sha256));
    // (A row that failed may hold others that name the target.)
    let counts = &report.counts;
    assert!(on_target >= counts.fields_reencrypted + counts.fields_skipped_on_target);
}

/// `rekek verify` finds nothing where no row failed.
fn check_verified(input: &Path, output: &Path, report: &RewrapReport) {
    let verification = Verification {
        input: Input::File(output.into()),
        input_format: None,
        manifest: Some(Manifest::read(&Manifest::path_for(output)).expect("it was just written").0),
        signature: None,
        keyring: Some(&KEYRING),
        target: None,
        source: Some(Input::File(input.into())),
        source_format: None,
        threads: 1,
        stop: Stop::default(),
    };
    let verified = verification.run(|_| ()).expect("what was just written can be read");
    if report.counts.rows_failed == 0 {
        assert_eq!(verified.findings, []);
    }
}

/// Secrets as JSON and as YAML, what a vault prints, and a key added to a file.
pub fn secrets(data: &[u8]) {
    for name in ["s.json", "s.yaml", "-"] {
        let mut keyring = Keyring::new();
        let added = keyring.add_secrets(name, data);
        if let Err(error) = &added {
            check_message(&error.to_string(), Path::new(name));
        }
        let id: KeyId = "kv9".parse().expect("it is a key id");
        if let Err(error) = Keyring::new().add_vault(&id, name, data) {
            check_message(&error.to_string(), Path::new(name));
        }
        for key in keyring.keys() {
            // Refused or not, it comes to an end.
            let _ = keyring.target(key.id());
        }
        if name == "s.json" && added.is_ok() {
            same_as_another_parser(data, &keyring);
        }
        added_key(name, data, &keyring);
    }
}

/// rekek unescapes the keys in JSON by itself: what it takes is what a parser takes.
fn same_as_another_parser(data: &[u8], keyring: &Keyring) {
    let Ok(document) = serde_json::from_slice::<serde_json::Value>(data) else { return };
    for key in keyring.keys() {
        let text = document["machine_identity"]["encryption_keys"][key.id().as_str()].as_str();
        let theirs =
            rekek::secret::MasterKey::from_base64(text.expect("it was found")).expect("it was taken");
        assert_eq!(keyring::fingerprint(&theirs), key.fingerprint());
    }
}

fn added_key(name: &str, data: &[u8], before: &Keyring) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let key = rekek::secret::MasterKey::fill_with::<()>(|bytes| {
        bytes.fill(7);
        Ok(())
    });
    let (id, key) = ("kv9".parse::<KeyId>().expect("it is a key id"), key.expect("nothing fails"));
    let Ok(text) = keyring::insert_into_secrets(name, text, &id, &key) else { return };
    let mut after = Keyring::new();
    after.add_secrets(name, text.as_bytes()).expect("a key was added to a good file");
    let prints = |keyring: &Keyring| {
        let keys = keyring.keys().iter();
        keys.map(|key| (key.id().clone(), key.fingerprint().to_owned())).collect::<Vec<_>>()
    };
    let mut expected = prints(before);
    expected.push((id, keyring::fingerprint(&key)));
    assert_eq!(prints(&after), expected, "adding a key changed others");
}

/// A private key and the public value beside it, parted by the first zero byte.
pub fn signing_key(data: &[u8]) {
    let (private, public) = match data.iter().position(|byte| *byte == 0) {
        Some(at) => (&data[..at], &data[at + 1..]),
        None => (data, data),
    };
    let Ok(public) = std::str::from_utf8(public) else { return };
    // What the embedded public key is believed in, recomputing may refute; never the other way
    // round, unless the embedded one is no key at all.
    let _ = SigningKeyCheck::Full.check(private, public);
    let _ = SigningKeyCheck::Embedded.check(private, public);
    assert_eq!(SigningKeyCheck::Off.check(private, public), Ok(()));
}

/// A site's configuration.
pub fn site_config(data: &[u8]) {
    let path = file("site.toml", data);
    match SiteConfig::read(&path) {
        Err(error) => check_message(&error.to_string(), &path),
        Ok(config) => {
            let key = config.current_encryption_key_id.as_str();
            assert!((1..=255).contains(&key.len()));
        }
    }
}

/// A manifest: what is read and written again reads the same.
pub fn manifest(data: &[u8]) {
    let path = file("m.manifest.json", data);
    match Manifest::read(&path) {
        Err(error) => check_message(&error.to_string(), &path),
        Ok((manifest, digest)) => {
            assert_eq!(digest, Sha256Digest::of(data));
            // Fractions of seconds may lose their last digit; a second time nothing is lost.
            let again = |m: &Manifest| {
                let path = file("again.manifest.json", &m.to_bytes(Path::new("m")).unwrap());
                Manifest::read(&path).expect("it was written here").0
            };
            let once = again(&manifest);
            assert_eq!(once.output, manifest.output);
            assert_eq!((&once.scope, &once.keys), (&manifest.scope, &manifest.keys));
            assert_eq!(once.seals, manifest.seals);
        }
    }
}

/// Manifests to begin with: an export's and an output's.
pub fn manifests() -> Vec<(String, Vec<u8>)> {
    let header =
        "organization_id,encrypted_signing_key_1,encrypted_signing_key_2,encrypted_auth_method_config";
    let input = file("seed.csv", format!("{header}\norg-1,,,\norg-2,,e30=,\n").as_bytes());
    let output = path("seed-out.csv");
    rewrap(&input, &output, Format::Csv).expect("the table is in order");
    let whole = std::fs::read(Manifest::path_for(&output)).expect("it was just written");
    let (mut manifest, _) = Manifest::read(&Manifest::path_for(&output)).expect("it was just written");
    manifest.report = None;
    manifest.input = None;
    manifest.scope = Some(vec!["org-1".parse().expect("it is an id")]);
    vec![("output".into(), whole), ("scoped".into(), manifest.to_bytes(Path::new("m")).unwrap())]
}
