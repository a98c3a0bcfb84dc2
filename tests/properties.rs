//! Properties of the whole re-wrap, over made-up tables with made-up defects: the counters are
//! those of a model and always add up, order is kept with any number of threads, what did not
//! fail opens to what it held, and what failed is unchanged.

use proptest::prelude::*;
use rekek::envelope::{self, NONCE_LEN, Scratch};
use rekek::keyring::Keyring;
use rekek::pipeline::{Destination, Job, Observer, OnFailure};
use rekek::publish::Existing;
use rekek::report::{Failure, RewrapReport};
use rekek::rewrap::{Rules, nonce_generator};
use rekek::row::{Field, Sha256Digest, is_absent};
use rekek::secret::Plaintext;
use rekek::stop::Stop;
use rekek::table::{Compression, Format, Input};
use rekek::verify::Verification;
use std::path::Path;

const TARGET: usize = 2;

fn keyring() -> Keyring {
    let secrets = include_bytes!("../fixtures/sample/secrets.json");
    let mut keyring = Keyring::new();
    keyring.add_secrets("secrets.json", secrets).unwrap();
    let ids: Vec<_> = keyring.keys().iter().map(|k| k.id().as_str()).collect();
    assert_eq!(ids, ["kv1", "kv2", "kv0"]);
    keyring
}

/// The target is the last of [`keyring`].
#[derive(Debug, Clone)]
enum Value {
    Absent(&'static str),
    Sealed { key: usize, plaintext: Vec<u8> },
    Malformed(&'static str),
    UnknownKey,
    WrongKey,
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        3 => prop::sample::select(vec!["", " ", "\n\t\u{b}"]).prop_map(Value::Absent),
        8 => (0..3usize, prop::collection::vec(any::<u8>(), 0..60))
            .prop_map(|(key, plaintext)| Value::Sealed { key, plaintext }),
        1 => prop::sample::select(vec!["e30=", "x", "null", "\u{a0}"]).prop_map(Value::Malformed),
        1 => Just(Value::UnknownKey),
        1 => Just(Value::WrongKey),
    ]
}

fn seal(keyring: &Keyring, key: usize, id: &str, plaintext: &[u8]) -> String {
    use rand_chacha::rand_core::Rng as _;
    let mut nonce = [0; NONCE_LEN];
    nonce_generator().unwrap().fill_bytes(&mut nonce);
    let (mut sealed, mut text) = (Vec::new(), Vec::new());
    keyring.keys()[key].cipher().seal(&nonce, plaintext, &mut sealed);
    envelope::write(id, &nonce, &sealed, &mut Scratch::default(), &mut text);
    String::from_utf8(text).unwrap()
}

fn text(keyring: &Keyring, value: &Value) -> String {
    match value {
        Value::Absent(text) | Value::Malformed(text) => (*text).to_owned(),
        Value::Sealed { key, plaintext } => {
            seal(keyring, *key, keyring.keys()[*key].id().as_str(), plaintext)
        }
        Value::UnknownKey => seal(keyring, 0, "kv9", b"x"),
        Value::WrongKey => seal(keyring, 0, "kv2", b"x"),
    }
}

struct Nobody;
impl Observer for Nobody {
    fn rows(&mut self, _: u64) {}
    fn failure(&mut self, _: &Failure) -> std::io::Result<()> {
        Ok(())
    }
}

fn rewrap(keyring: &Keyring, from: &Path, to: &Path, threads: usize) -> RewrapReport {
    let job = Job {
        input: Input::File(from.into()),
        input_format: None,
        output: Destination::File(to.into()),
        output_format: Format::Csv,
        compression: Compression::default(),
        manifest: None,
        signer: None,
        existing: Existing::Refuse,
        keyring,
        target: TARGET,
        scope: None,
        rules: Rules::default(),
        on_failure: OnFailure::KeepGoing,
        threads,
        stop: Stop::default(),
    };
    job.run(&mut Nobody).unwrap()
}

fn records(path: &Path) -> Vec<csv::StringRecord> {
    csv::Reader::from_path(path).unwrap().records().map(Result::unwrap).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_rewrap_does_what_the_model_says(rows in prop::collection::vec([value(), value(), value()], 0..40)) {
        let keyring = keyring();
        let folder = tempfile::tempdir().unwrap();
        let export = folder.path().join("export.csv");
        let mut writer = csv::Writer::from_path(&export).unwrap();
        let columns = Field::ALL.map(Field::column);
        writer.write_record(["note", columns[0], columns[1], "organization_id", columns[2]]).unwrap();
        let texts: Vec<[String; 3]> = rows.iter().map(|row| row.each_ref().map(|v| text(&keyring, v))).collect();
        for (i, [a, b, c]) in texts.iter().enumerate() {
            // Ids in no order: the check for repeated ones has to work for it.
            writer.write_record(["a \"note\"\n", a, b, &format!("org-{}", (i * 7) % 41), c]).unwrap();
        }
        writer.flush().unwrap();

        // The model.
        let fails = |row: &[Value; 3]| row.iter().any(|v| !matches!(v, Value::Absent(_) | Value::Sealed { .. }));
        let good: Vec<&[Value; 3]> = rows.iter().filter(|row| !fails(row)).collect();
        let count = |test: fn(&Value) -> bool| good.iter().flat_map(|row| row.iter()).filter(|v| test(v)).count() as u64;
        let updated = |row: &[Value; 3]| row.iter().any(|v| matches!(v, Value::Sealed { key, .. } if *key != TARGET));

        for threads in [1, 3] {
            let out = folder.path().join(format!("out-{threads}.csv"));
            let report = rewrap(&keyring, &export, &out, threads);
            let counts = &report.counts;
            prop_assert_eq!(counts.rows_examined, rows.len() as u64);
            prop_assert_eq!(counts.rows_failed, (rows.len() - good.len()) as u64);
            prop_assert_eq!(counts.rows_updated, good.iter().filter(|row| updated(row)).count() as u64);
            prop_assert_eq!(counts.rows_examined, counts.rows_updated + counts.rows_skipped_all_on_target + counts.rows_failed);
            prop_assert_eq!(counts.fields_absent, count(|v| matches!(v, Value::Absent(_))));
            prop_assert_eq!(counts.fields_skipped_on_target, count(|v| matches!(v, Value::Sealed { key: TARGET, .. })));
            let fields = counts.fields_absent + counts.fields_skipped_on_target + counts.fields_reencrypted;
            prop_assert_eq!(fields, 3 * good.len() as u64);
            let by_key: u64 = report.fields_by_source_key.values().sum();
            prop_assert_eq!(by_key, counts.fields_skipped_on_target + counts.fields_reencrypted);

            let written = records(&out);
            prop_assert_eq!(written.len(), rows.len());
            for ((record, row), old) in written.iter().zip(&rows).zip(&texts) {
                prop_assert_eq!(&record[0], "a \"note\"\n");
                for (f, at) in [1, 2, 4].into_iter().enumerate() {
                    let digest = if is_absent(Some(&old[f])) { String::new() } else { Sha256Digest::of(&old[f]).to_string() };
                    prop_assert_eq!(&record[5 + f], &digest);
                    match &row[f] {
                        Value::Sealed { plaintext, key } if !fails(row) => {
                            prop_assert_eq!(record[at] == old[f], *key == TARGET);
                            let envelope = envelope::independent::read(&record[at]).unwrap();
                            prop_assert_eq!(envelope.key_id.as_str(), keyring.keys()[TARGET].id().as_str());
                            let mut opened = Plaintext::new();
                            keyring.keys()[TARGET].cipher().open_into(&envelope.nonce, &envelope.ciphertext, &mut opened).unwrap();
                            prop_assert_eq!(opened.expose_plaintext(), &plaintext[..]);
                        }
                        _ => prop_assert_eq!(&record[at], &old[f]),
                    }
                }
            }
            let verification = Verification {
                input: Input::File(out.clone()),
                input_format: None,
                manifest: None,
                signature: None,
                keyring: Some(&keyring),
                target: None,
                source: Some(Input::File(export.clone())),
                source_format: None,
                threads,
                stop: Stop::default(),
            };
            let verified = verification.run(|_| ()).unwrap();
            let bad = rows.iter().flatten().filter(|v| !matches!(v, Value::Absent(_) | Value::Sealed { .. })).count();
            prop_assert_eq!(verified.findings_total(), bad as u64, "{:?}", verified.findings);
        }
    }
}
