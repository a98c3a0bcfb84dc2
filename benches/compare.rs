//! A whole export, re-wrapped by what a user would write instead and by rekek in each format, in
//! one run on the same generated rows; and what its unavoidable stages cost in that same run. Run
//! it with `scripts/compare`.
//!
//! - *python*: `benches/peer.py`, CSV to CSV on two processes. It makes no digest and no
//!   manifest, and publishes nothing atomically.
//! - *plain*: the same in Rust as one writes it: the csv crate and [`plain`], rayon over chunks of
//!   8,192 rows, as the online service re-wraps a field, with the proof added.
//! - *rekek*: the program from its start to its end, with every digest, the proof, the check of
//!   signing keys and the manifest.
//!
//! The ways take turns, and what is printed is the median of the rounds. The files lie in memory
//! where the system has a folder for that (`/dev/shm`): a disk's speed is the disk's. The stages
//! are measured on one thread, batch by batch in turns: *read* cuts the file into batches, *kernel*
//! is `Rewrapper::row` (open, check the signing key, seal, read back, open again), *source digests*
//! is SHA-256 of every field's text, *file digests* that of both files' bytes, *write* makes a file
//! of the batches. What they sum to, divided by the threads, nobody can be faster than.

mod plain;

use rayon::prelude::*;
use rekek::keyring::Keyring;
use rekek::pipeline::row_at;
use rekek::rewrap::{Rewrapper, Rules, SEALS_MAX, SealBudget};
use rekek::row::{Sha256Digest, is_absent};
use rekek::table::{Compression, Format, Input, Layout, OpenOptions, TableRows, create, open};
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const REKEK: &str = env!("CARGO_BIN_EXE_rekek");
const PEER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/peer.py");
const THREADS: usize = 2;

fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |v| v.parse().unwrap_or_else(|_| panic!("{name} is not a number")))
}

fn rekek(arguments: &[&str]) {
    let status = Command::new(REKEK).args(arguments).stdout(Stdio::null()).status().expect("rekek runs");
    assert!(status.success(), "rekek {}", arguments.join(" "));
}

/// From an export to an output.
type Run = Box<dyn Fn(&Path, &Path)>;

/// Something that takes an export to an output; its name says which formats.
struct Way {
    name: &'static str,
    format: Format,
    run: Run,
    times: Vec<f64>,
}

fn main() {
    let rows = setting("REKEK_COMPARE_ROWS", 1_000_000);
    let rounds = setting("REKEK_COMPARE_ROUNDS", 3);
    let memory = Path::new("/dev/shm");
    let folder =
        if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.expect("a folder");
    let folder = folder.path();
    let secrets = folder.join("secrets.json");
    for key in ["kv1", "kv2"] {
        rekek(&["keygen", key, "--secrets", text(&secrets)]);
    }
    let exports: HashMap<Format, PathBuf> = [Format::Csv, Format::Arrow, Format::Parquet]
        .into_iter()
        .map(|format| (format, folder.join(format!("export.{}", format.name()))))
        .collect();
    for export in exports.values() {
        let rows = rows.to_string();
        let of = ["--orgs", &rows, "--secrets", text(&secrets), "--under", "kv1", "--seed", "1"];
        rekek(&[&["generate", "-o", text(export)][..], &of[..]].concat());
    }

    let mut ways = ways(&secrets);
    for round in 0..rounds {
        for way in &mut ways {
            // One pass of a minute or two tells enough of the slowest.
            if round > 0 && way.name.starts_with("python") {
                continue;
            }
            let output = folder.join(format!("output.{}", way.format.name()));
            let begun = Instant::now();
            (way.run)(&exports[&way.format], &output);
            way.times.push(begun.elapsed().as_secs_f64());
            let manifest = rekek::manifest::Manifest::path_for(&output);
            for file in [&output, &manifest] {
                _ = std::fs::remove_file(file);
            }
        }
    }
    report(&mut ways, rows, rounds);
    for format in [Format::Csv, Format::Arrow] {
        stages(&exports[&format], format, &secrets, rows, &mut ways);
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

fn ways(secrets: &Path) -> Vec<Way> {
    let mut ways = Vec::new();
    let mut add = |name, format, run: Run| {
        ways.push(Way { name, format, run, times: vec![] });
    };
    let at = secrets.to_owned();
    let python = std::env::var("REKEK_PYTHON").unwrap_or_else(|_| "python3".into());
    add(
        "python, CSV to CSV, 2 processes",
        Format::Csv,
        Box::new(move |from, to| {
            let arguments = [PEER, text(from), text(to), text(&at), "kv2", "2"];
            let status =
                Command::new(&python).args(arguments).stdout(Stdio::null()).status().expect("python runs");
            assert!(status.success(), "the Python peer, which needs the package cryptography");
        }),
    );
    let keys = keys(secrets);
    add(
        "plain Rust, CSV to CSV, 2 threads",
        Format::Csv,
        Box::new(move |from, to| rewrap_plainly(from, to, &keys)),
    );
    for (name, format, threads) in [
        ("rekek, CSV to CSV, 1 thread", Format::Csv, "1"),
        ("rekek, CSV to CSV, 2 threads", Format::Csv, "2"),
        ("rekek, Arrow to Arrow, 1 thread", Format::Arrow, "1"),
        ("rekek, Arrow to Arrow, 2 threads", Format::Arrow, "2"),
        ("rekek, Parquet to Parquet, 1 thread", Format::Parquet, "1"),
        ("rekek, Parquet to Parquet, 2 threads", Format::Parquet, "2"),
    ] {
        let secrets = secrets.to_owned();
        add(
            name,
            format,
            Box::new(move |from, to| {
                let what = ["rewrap", text(from), "-o", text(to), "--quiet"];
                let how = ["--secrets", text(&secrets), "--to", "kv2", "--threads", threads];
                rekek(&[what.as_slice(), how.as_slice()].concat());
            }),
        );
    }
    ways
}

fn keys(secrets: &Path) -> HashMap<String, [u8; 32]> {
    use base64::Engine as _;
    let secrets: serde_json::Value =
        serde_json::from_slice(&std::fs::read(secrets).expect("secrets")).expect("JSON");
    let keys = secrets["machine_identity"]["encryption_keys"].as_object().expect("keys");
    let key = |text: &serde_json::Value| {
        let key =
            base64::engine::general_purpose::STANDARD.decode(text.as_str().expect("text")).expect("base64");
        key.try_into().expect("32 bytes")
    };
    keys.iter().map(|(id, text)| (id.clone(), key(text))).collect()
}

fn rewrap_plainly(from: &Path, to: &Path, keys: &HashMap<String, [u8; 32]>) {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(THREADS).build().expect("threads");
    let mut reader = csv::Reader::from_path(from).expect("a table");
    let header = reader.headers().expect("a header").clone();
    let fields: Vec<usize> = (0..header.len()).filter(|i| header[*i].starts_with("encrypted_")).collect();
    let mut writer = csv::Writer::from_path(to).expect("a file");
    writer.write_record(&header).expect("written");
    let mut records = reader.into_records();
    loop {
        let chunk: Vec<_> = records.by_ref().take(8192).map(|record| record.expect("a record")).collect();
        if chunk.is_empty() {
            break;
        }
        let rewrap = |record: csv::StringRecord| -> csv::StringRecord {
            let value = |(i, text): (usize, &str)| match fields.contains(&i) && !text.is_empty() {
                true => plain::rewrap(text, &keys["kv1"], &keys["kv2"]),
                false => text.to_owned(),
            };
            record.iter().enumerate().map(value).collect()
        };
        let done: Vec<_> = pool.install(|| chunk.into_par_iter().map(rewrap).collect());
        done.iter().for_each(|record| writer.write_record(record).expect("written"));
    }
    writer.flush().expect("written");
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn seconds(ways: &mut [Way], name: &str) -> f64 {
    median(&mut ways.iter_mut().find(|way| way.name == name).expect("a way").times)
}

fn report(ways: &mut [Way], rows: u64, rounds: u64) {
    println!(
        "{rows} generated organizations, {rounds} rounds, envelopes by the tier {}",
        rekek::envelope::Tier::chosen().name()
    );
    println!("{:<40}{:>9}{:>11}{:>11}{:>11}", "", "seconds", "rows/s", "x python", "x plain");
    let python = seconds(ways, "python, CSV to CSV, 2 processes");
    let plain = seconds(ways, "plain Rust, CSV to CSV, 2 threads");
    for way in ways.iter_mut() {
        let took = median(&mut way.times);
        let speed = rows as f64 / took;
        println!("{:<40}{took:>9.2}{speed:>11.0}{:>10.1}x{:>10.1}x", way.name, python / took, plain / took);
    }
    for format in ["CSV to CSV", "Arrow to Arrow", "Parquet to Parquet"] {
        let [one, two] = ["1 thread", "2 threads"].map(|t| seconds(ways, &format!("rekek, {format}, {t}")));
        println!("{:<40}{:>8.2}x", format!("{format}, from 1 thread to 2"), one / two);
    }
}

/// Rows as they are: what is measured is the writer.
struct Unchanged(arrow::array::RecordBatch);

impl TableRows for Unchanged {
    fn records(&self) -> &arrow::array::RecordBatch {
        &self.0
    }
}

/// Measures the stages over the same export, and holds the whole run against their sum.
fn stages(export: &Path, format: Format, secrets: &Path, rows: u64, ways: &mut [Way]) {
    let mut keyring = Keyring::new();
    keyring.add_secrets("secrets", &std::fs::read(secrets).expect("secrets")).expect("keys");
    let target = keyring.position("kv2").expect("the target");
    let budget = SealBudget::new(SEALS_MAX);
    let mut rewrapper = Rewrapper::new(&keyring, target, Rules::default(), &budget).expect("a generator");
    let options = OpenOptions { unhashed: true, ..OpenOptions::default() };
    let mut reader = open(&Input::File(export.into()), &options).expect("a table");
    let layout = Layout::of(reader.schema()).expect("an export");
    let written = export.with_file_name("written");
    let to = BufWriter::with_capacity(1 << 18, File::create(&written).expect("a file"));
    let mut writer = create(to, format, Compression::Usual, reader.schema()).expect("a table");

    let [mut read, mut kernel, mut digests, mut write] = [Duration::ZERO; 4];
    let mut first = 1;
    loop {
        let begun = Instant::now();
        let batch = reader.next_batch().expect("rows");
        read += begun.elapsed();
        let Some(batch) = batch else { break };
        let texts = layout.texts(&batch);
        let begun = Instant::now();
        for i in 0..batch.num_rows() {
            let row = row_at(&texts, first, i);
            assert!(rewrapper.row(&row).expect("below the limit").is_ok());
        }
        kernel += begun.elapsed();
        let begun = Instant::now();
        for i in 0..batch.num_rows() {
            for text in
                row_at(&texts, first, i).fields.into_iter().flatten().filter(|text| !is_absent(Some(text)))
            {
                std::hint::black_box(Sha256Digest::of(text));
            }
        }
        digests += begun.elapsed();
        first += batch.num_rows() as u64;
        let begun = Instant::now();
        writer.write(&Unchanged(batch)).expect("written");
        write += begun.elapsed();
    }
    let begun = Instant::now();
    let to = writer.finish().expect("written").into_inner().expect("written");
    write += begun.elapsed();
    drop(to);
    // The output has three digests a row more than the input; both files are hashed.
    let files = hashed(export) + hashed(&written);

    let each = |time: Duration| time.as_secs_f64() * 1e9 / rows as f64;
    let all = read + kernel + digests + files + write;
    let name = match format {
        Format::Csv => "CSV to CSV",
        _ => "Arrow to Arrow",
    };
    println!("stages, {name}, ns a row on one thread");
    for (stage, time) in [
        ("read", read),
        ("kernel", kernel),
        ("source digests", digests),
        ("file digests", files),
        ("write", write),
        ("sum", all),
    ] {
        println!("  {stage:<38}{:>9.0}", each(time));
    }
    let bound = all.as_secs_f64() / THREADS as f64;
    let whole = seconds(ways, &format!("rekek, {name}, 2 threads"));
    println!("  {:<38}{:>9.0}", "sum, on 2 threads", bound * 1e9 / rows as f64);
    println!("  {:<38}{:>9.0}{:>7.2} of that", "rekek, 2 threads", whole * 1e9 / rows as f64, whole / bound);
    std::fs::remove_file(&written).expect("it is there");
}

fn hashed(path: &Path) -> Duration {
    let mut file = File::open(path).expect("a file");
    let mut block = vec![0; 1 << 20];
    let (mut hasher, mut took) = (Sha256::new(), Duration::ZERO);
    loop {
        let n = file.read(&mut block).expect("read");
        if n == 0 {
            std::hint::black_box(hasher.finalize());
            return took;
        }
        let begun = Instant::now();
        hasher.update(&block[..n]);
        took += begun.elapsed();
    }
}
