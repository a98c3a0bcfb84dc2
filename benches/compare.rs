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
//! - *2 runs at once*: two processes of rekek with one thread each, over the same export. They have nothing to
//!   do with each other, so what they gain over one after the other is what the machine's second core
//!   gives: no program of two threads can be expected to gain more.
//!
//! The ways and the stages take turns, and what is printed is the median of the rounds. The files lie
//! in memory where the system has a folder for that (`/dev/shm`): a disk's speed is the disk's. The
//! stages are those of `rekek bench` ([`StageTimes`]), over the same export on one thread. What they
//! sum to, divided by the threads, nobody can be faster than.

mod plain;

use rayon::prelude::*;
use rekek::bench::{Stage, StageTimes, Subject};
use rekek::keyring::Keyring;
use rekek::stop::Stop;
use rekek::table::{Format, Input};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

const REKEK: &str = env!("CARGO_BIN_EXE_rekek");
const PEER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/peer.py");
const THREADS: usize = 2;

fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |v| v.parse().unwrap_or_else(|_| panic!("{name} is not a number")))
}

fn start(arguments: &[&str]) -> Child {
    Command::new(REKEK).args(arguments).stdout(Stdio::null()).spawn().expect("rekek runs")
}

fn rekek(arguments: &[&str]) {
    let status = start(arguments).wait().expect("it ends");
    assert!(status.success(), "rekek {}", arguments.join(" "));
}

/// From an export to an output.
type Run = Box<dyn Fn(&Path, &Path)>;

/// Something that takes an export to an output; its name says which formats.
struct Way {
    name: &'static str,
    format: Format,
    /// How many times the export is re-wrapped in one run.
    exports: u64,
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

    let ring = keyring(&secrets);
    let mut ways = ways(&secrets);
    let mut stages = [Format::Csv, Format::Arrow].map(|format| Stages { format, rounds: vec![] });
    for _ in 0..rounds {
        for way in &mut ways {
            let output = folder.join(format!("output.{}", way.format.name()));
            let begun = Instant::now();
            (way.run)(&exports[&way.format], &output);
            way.times.push(begun.elapsed().as_secs_f64());
            let manifest = rekek::manifest::Manifest::path_for(&output);
            for file in [&output, &manifest] {
                _ = std::fs::remove_file(file);
            }
        }
        for stages in &mut stages {
            stages.measure(&exports[&stages.format], &ring);
        }
    }
    report(&ways, rows, rounds);
    for stages in &stages {
        stages.report(rows, &ways);
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

fn ways(secrets: &Path) -> Vec<Way> {
    let mut ways = Vec::new();
    let mut add = |name, format, run: Run| {
        ways.push(Way { name, format, exports: 1, run, times: vec![] });
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
    for (name, format) in [
        ("rekek, CSV to CSV, 2 runs at once", Format::Csv),
        ("rekek, Arrow to Arrow, 2 runs at once", Format::Arrow),
        ("rekek, Parquet to Parquet, 2 runs at once", Format::Parquet),
    ] {
        let secrets = secrets.to_owned();
        let run: Run = Box::new(move |from, to| {
            let other = to.with_extension(format!("other.{}", format.name()));
            let both = [to, &other].map(|to| {
                let what = ["rewrap", text(from), "-o", text(to), "--quiet"];
                let how = ["--secrets", text(&secrets), "--to", "kv2", "--threads", "1"];
                start(&[what.as_slice(), how.as_slice()].concat())
            });
            for mut run in both {
                assert!(run.wait().expect("it ends").success(), "two runs of rekek at once");
            }
            for file in [rekek::manifest::Manifest::path_for(&other), other] {
                std::fs::remove_file(file).expect("it is there");
            }
        });
        ways.push(Way { name, format, exports: 2, run, times: vec![] });
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

fn median(times: impl IntoIterator<Item = f64>) -> f64 {
    let mut times: Vec<_> = times.into_iter().collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// What a way took, round by round.
fn times<'a>(ways: &'a [Way], name: &str) -> &'a [f64] {
    &ways.iter().find(|way| way.name == name).expect("a way").times
}

fn seconds(ways: &[Way], name: &str) -> f64 {
    median(times(ways, name).iter().copied())
}

fn report(ways: &[Way], rows: u64, rounds: u64) {
    println!(
        "{rows} generated organizations, {rounds} rounds, envelopes by the tier {}",
        rekek::envelope::Tier::chosen().name()
    );
    println!("{:<42}{:>9}{:>10}{:>11}{:>10}", "", "seconds", "rows/s", "x python", "x plain");
    let python = seconds(ways, "python, CSV to CSV, 2 processes");
    let plain = seconds(ways, "plain Rust, CSV to CSV, 2 threads");
    for way in ways {
        let took = seconds(ways, way.name);
        let each = took / way.exports as f64;
        let speed = rows as f64 / each;
        println!("{:<42}{took:>9.2}{speed:>10.0}{:>10.1}x{:>9.1}x", way.name, python / each, plain / each);
    }
    for format in ["CSV to CSV", "Arrow to Arrow", "Parquet to Parquet"] {
        let [one, two, both] = ["1 thread", "2 threads", "2 runs at once"]
            .map(|how| seconds(ways, &format!("rekek, {format}, {how}")));
        let (threads, machine) = (one / two, 2.0 * one / both);
        println!("{format}, from 1 thread to 2: {threads:.2}x; the machine, from 1 run to 2: {machine:.2}x");
    }
}

fn keyring(secrets: &Path) -> Keyring {
    let mut keyring = Keyring::new();
    keyring.add_secrets("secrets", &std::fs::read(secrets).expect("secrets")).expect("keys");
    keyring
}

/// The stages of a run in one format, in each round.
struct Stages {
    format: Format,
    rounds: Vec<StageTimes>,
}

impl Stages {
    fn measure(&mut self, export: &Path, keyring: &Keyring) {
        let [source, target] = ["kv1", "kv2"].map(|key| keyring.position(key).expect("a key"));
        let bytes = export.metadata().expect("a file").len();
        let input = Input::File(export.into());
        let subject = Subject { input, bytes, format: self.format, keyring, source, target };
        self.rounds.push(StageTimes::measure(&subject, &Stop::default(), &mut |_| ()).expect("measured"));
    }

    /// Prints the stages, and holds the whole run of each round against the sum of its stages.
    fn report(&self, rows: u64, ways: &[Way]) {
        let name = match self.format {
            Format::Csv => "CSV to CSV",
            _ => "Arrow to Arrow",
        };
        println!("stages, {name}, ns a row on one thread");
        for stage in Stage::ALL {
            let cost = median(self.rounds.iter().map(|round| round.nanoseconds_per_row(stage)));
            println!("  {:<38}{cost:>9.0}", stage.name());
        }
        let bound = |round: &StageTimes| {
            Stage::ALL.iter().map(|stage| round.nanoseconds_per_row(*stage)).sum::<f64>() / THREADS as f64
        };
        let bounds: Vec<_> = self.rounds.iter().map(bound).collect();
        let run = times(ways, &format!("rekek, {name}, 2 threads"));
        let run: Vec<_> = run.iter().map(|seconds| seconds * 1e9 / rows as f64).collect();
        let ratios: Vec<_> = run.iter().zip(&bounds).map(|(run, bound)| run / bound).collect();
        let each = ratios.iter().map(|ratio| format!("{ratio:.2}")).collect::<Vec<_>>().join(", ");
        println!("  {:<38}{:>9.0}", "their sum, on 2 threads", median(bounds));
        println!("  {:<38}{:>9.0}{:>7.2} of that ({each})", "rekek, 2 threads", median(run), median(ratios));
    }
}
