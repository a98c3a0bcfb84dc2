//! Every stage by itself, under criterion: an envelope's stages in each tier, each reader and
//! writer of tables, and the whole pipeline into a null sink (read, hash, re-wrap, prove, count,
//! write). For the ratios side by side see `envelope.rs` and `compare.rs`.
//!
//! ```text
//! cargo bench --no-default-features --features rewrap --bench stages            everything
//! cargo bench --no-default-features --features rewrap --bench stages -- read    what has this in its name
//! ```

use criterion::{BatchSize, Criterion, Throughput};
use rekek::envelope::cipher::Cipher;
use rekek::envelope::{self, Scratch, Tier, stages};
use rekek::generate::Generation;
use rekek::keyring::Keyring;
use rekek::pipeline::{Destination, Job, Observer, OnFailure};
use rekek::publish::Existing;
use rekek::report::Failure;
use rekek::rewrap::Rules;
use rekek::secret::{MasterKey, Plaintext};
use rekek::signing_key::SigningKeyCheck;
use rekek::stop::Stop;
use rekek::table::{Compression, Format, Hashed, Input, Layout, OpenOptions, TableRows, create, open};
use std::hint::black_box;
use std::io;
use std::path::{Path, PathBuf};

const ROWS: u64 = 5_000;
const FORMATS: [Format; 4] = [Format::Csv, Format::Parquet, Format::Arrow, Format::Arrows];

/// Two made-up keys.
fn keyring() -> Keyring {
    use base64::Engine as _;
    let key =
        |n: u8| base64::engine::general_purpose::STANDARD.encode((0..32).map(|i| i ^ n).collect::<Vec<_>>());
    let secrets =
        serde_json::json!({"machine_identity": {"encryption_keys": {"kv1": key(1), "kv2": key(2)}}});
    let mut keyring = Keyring::new();
    keyring.add_secrets("bench", secrets.to_string().as_bytes()).expect("two keys");
    keyring
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args().sample_size(20);
    let folder = tempfile::tempdir().expect("a folder");
    let keyring = keyring();
    for format in FORMATS {
        generate(&export(folder.path(), format), format, &keyring);
    }
    fields(&mut criterion, &folder.path().join("export.csv"), &keyring);
    tables(&mut criterion, folder.path());
    pipeline(&mut criterion, folder.path(), &keyring);
    criterion.final_summary();
}

fn export(folder: &Path, format: Format) -> PathBuf {
    folder.join(format!("export.{}", format.name()))
}

fn generate(output: &Path, format: Format, keyring: &Keyring) {
    let generation = Generation {
        format,
        compression: Compression::Usual,
        orgs: ROWS,
        keyring,
        under: vec![(keyring.position("kv1").expect("a key"), 1.0)],
        seed: 1,
        threads: 2,
        stop: Stop::default(),
    };
    generation.publish(output, Existing::Refuse, |_| ()).expect("generated");
}

/// The stages of one envelope (a signing key's), each tier, and the check of a signing key.
fn fields(criterion: &mut Criterion, export: &Path, keyring: &Keyring) {
    let mut reader = open(&Input::File(export.into()), &OpenOptions::default()).expect("a table");
    let layout = Layout::of(reader.schema()).expect("an export");
    let batch = reader.next_batch().expect("rows").expect("rows");
    let texts = layout.texts(&batch);
    let row = (0..batch.num_rows()).find(|i| texts.fields[0].get(*i).is_some()).expect("a signing key");
    let text = texts.fields[0].get(row).expect("a signing key");
    let public = texts.publics[0].as_ref().and_then(|values| values.get(row)).expect("its public value");
    let envelope = envelope::independent::read(text).expect("an envelope");
    let list: Vec<u8> =
        envelope.ciphertext.iter().map(u8::to_string).collect::<Vec<_>>().join(",").into_bytes();
    let json = {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.decode(text).expect("base64")
    };

    let mut group = criterion.benchmark_group("envelope");
    group.throughput(Throughput::Bytes(text.len() as u64));
    let mut decode = stages::decoder();
    group.bench_function("base64 decode", |b| b.iter(|| decode(text)));
    let mut encode = stages::encoder();
    group.bench_function("base64 encode", |b| b.iter(|| encode(&json)));
    for tier in Tier::ALL.into_iter().filter(|tier| tier.is_available()) {
        let name = |stage: &str| format!("{stage}/{}", tier.name());
        let mut read = stages::numbers_in(tier).expect("available");
        group.bench_function(name("numbers in"), |b| b.iter(|| assert!(read(&list))));
        let mut write = stages::numbers_out(tier).expect("available");
        group.bench_function(name("numbers out"), |b| b.iter(|| write(&envelope.ciphertext)));
        let mut scratch = Scratch::with_tier(tier).expect("available");
        group.bench_function(name("text to envelope"), |b| {
            b.iter(|| _ = black_box(envelope::read(text, &mut scratch).expect("an envelope")));
        });
        let mut out = Vec::new();
        group.bench_function(name("envelope to text"), |b| {
            b.iter(|| {
                out.clear();
                envelope::write(
                    &envelope.key_id,
                    &envelope.nonce,
                    &envelope.ciphertext,
                    &mut scratch,
                    &mut out,
                );
                black_box(&out);
            });
        });
    }
    let key = &keyring.keys()[keyring.position("kv1").expect("a key")];
    let (mut plaintext, mut sealed) = (Plaintext::new(), Vec::new());
    let open_it = |plaintext: &mut Plaintext| {
        key.cipher().open_into(&envelope.nonce, &envelope.ciphertext, plaintext).expect("it opens");
    };
    group.bench_function("open", |b| b.iter(|| open_it(&mut plaintext)));
    // (A nonce used twice, under a key that is made up and seals nothing else.)
    let made_up = MasterKey::fill_with::<()>(|key| {
        key.fill(7);
        Ok(())
    });
    let cipher = Cipher::new(&made_up.expect("filled"));
    group.bench_function("seal", |b| {
        b.iter(|| cipher.seal(&envelope.nonce, plaintext.expose_plaintext(), black_box(&mut sealed)));
    });
    for (name, check) in [("embedded", SigningKeyCheck::Embedded), ("full", SigningKeyCheck::Full)] {
        group.bench_function(format!("check of a signing key/{name}"), |b| {
            b.iter(|| check.check(plaintext.expose_plaintext(), public).expect("it belongs there"));
        });
    }
    group.bench_function("source digest", |b| b.iter(|| rekek::row::Sha256Digest::of(black_box(text))));
    group.finish();
}

/// Rows as they are: what is measured is the writer.
struct Unchanged(arrow::array::RecordBatch);

impl TableRows for Unchanged {
    fn records(&self) -> &arrow::array::RecordBatch {
        &self.0
    }
}

fn tables(criterion: &mut Criterion, folder: &Path) {
    for hashed in [false, true] {
        let mut group = criterion.benchmark_group(if hashed { "read, hashed" } else { "read" });
        group.throughput(Throughput::Elements(ROWS));
        for format in FORMATS {
            let input = Input::File(export(folder, format));
            group.bench_function(format.name(), |b| {
                b.iter(|| {
                    let options = OpenOptions { unhashed: !hashed, ..OpenOptions::default() };
                    let mut reader = open(&input, &options).expect("a table");
                    while let Some(batch) = reader.next_batch().expect("rows") {
                        black_box(batch);
                    }
                    if hashed {
                        reader.finish().expect("its digest");
                    }
                });
            });
        }
        group.finish();
    }
    let mut reader =
        open(&Input::File(export(folder, Format::Csv)), &OpenOptions::default()).expect("a table");
    let mut batches = vec![];
    while let Some(batch) = reader.next_batch().expect("rows") {
        batches.push(batch);
    }
    let (schema, dictionaries) = (reader.schema(), reader.dictionaries());
    for hashed in [false, true] {
        let mut group = criterion.benchmark_group(if hashed { "write, hashed" } else { "write" });
        group.throughput(Throughput::Elements(ROWS));
        for format in FORMATS {
            let rows = || batches.iter().cloned().map(Unchanged).collect::<Vec<_>>();
            group.bench_function(format.name(), |b| {
                b.iter_batched(
                    rows,
                    |rows| match hashed {
                        true => {
                            let to = Hashed::new(io::sink());
                            let mut writer = create(to, format, Compression::Usual, schema, dictionaries)
                                .expect("a table");
                            rows.iter().for_each(|rows| writer.write(rows).expect("written"));
                            black_box(writer.finish().and_then(Hashed::finish).expect("written"));
                        }
                        false => {
                            let to = io::BufWriter::with_capacity(1 << 18, io::sink());
                            let mut writer = create(to, format, Compression::Usual, schema, dictionaries)
                                .expect("a table");
                            rows.iter().for_each(|rows| writer.write(rows).expect("written"));
                            black_box(writer.finish().expect("written"));
                        }
                    },
                    BatchSize::PerIteration,
                );
            });
        }
        group.finish();
    }
}

/// Nobody looks on.
struct Unwatched;

impl Observer for Unwatched {
    fn rows(&mut self, _: u64) {}
    fn failure(&mut self, failure: &Failure) -> io::Result<()> {
        panic!("{} failed", failure.organization_id)
    }
}

fn pipeline(criterion: &mut Criterion, folder: &Path, keyring: &Keyring) {
    let mut group = criterion.benchmark_group("pipeline into a null sink");
    group.throughput(Throughput::Elements(ROWS));
    for format in FORMATS {
        for threads in [1, 2] {
            let job = Job {
                input: Input::File(export(folder, format)),
                input_format: None,
                output: Destination::Discarded,
                output_format: format,
                compression: Compression::Usual,
                manifest: None,
                signer: None,
                existing: Existing::Refuse,
                keyring,
                target: keyring.position("kv2").expect("the target"),
                scope: None,
                rules: Rules::default(),
                on_failure: OnFailure::Withhold,
                threads,
                stop: Stop::default(),
            };
            group.bench_function(format!("{}, {threads} threads", format.name()), |b| {
                b.iter(|| job.run(&mut Unwatched).expect("re-wrapped"));
            });
        }
    }
    group.finish();
}
