//! Memory is bounded by the batch, not by the file: four times the rows, the same peak.
//!
//! A test binary of its own, so that nothing else runs beside what is measured.

#[path = "memory/peak.rs"]
mod peak;

use assert_cmd::cargo::cargo_bin;
use std::path::Path;
use std::process::Command;

/// One measurement at a time.
static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());

/// Runs `rekek` and returns the peak of its resident memory, in KiB.
#[track_caller]
fn peak(folder: &Path, line: &str) -> u64 {
    let mut command = Command::new(cargo_bin!("rekek"));
    command.args(line.split_whitespace()).current_dir(folder);
    // How much is in work at once follows the threads, and they the machine.
    if !line.starts_with("keygen") && !line.contains("--threads") {
        command.args(["--threads", "2"]);
    }
    peak::peak(command)
}

const HEADER: &str =
    "organization_id,encrypted_signing_key_1,encrypted_signing_key_2,encrypted_auth_method_config";

/// An envelope of so many bytes of plaintext, under a key of the sample site.
fn envelope(folder: &Path, plaintext: usize) -> String {
    std::fs::copy("fixtures/sample/secrets.json", folder.join("s.json")).unwrap();
    let mut keyring = rekek::keyring::Keyring::new();
    keyring.add_secrets("s.json", &std::fs::read(folder.join("s.json")).unwrap()).unwrap();
    let key = &keyring.keys()[keyring.position("kv1").unwrap()];
    let (mut sealed, mut text) = (Vec::new(), Vec::new());
    key.cipher().seal(&[7; 12], &vec![b'x'; plaintext], &mut sealed);
    rekek::envelope::write("kv1", &[7; 12], &sealed, &mut Default::default(), &mut text);
    String::from_utf8(text).unwrap()
}

/// One row of 64 MiB, through every format.
#[test]
fn a_row_of_64_mib_still_works() {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let text = envelope(folder, 14 << 20);
    assert!(text.len() > 64 << 20);
    std::fs::write(folder.join("1.csv"), format!("{HEADER}\norg-1,,,{text}\norg-2,,,\n")).unwrap();
    for (from, to) in
        [("1.csv", "2.parquet"), ("2.parquet", "3.arrow"), ("3.arrow", "4.arrows"), ("4.arrows", "5.csv")]
    {
        // The first re-wraps it; the others open it, and find it on target.
        let kib = peak(folder, &format!("rewrap {from} -o {to} --secrets s.json --to kv2"));
        println!("{from} to {to}: peak {kib} KiB");
        assert!(kib <= 1 << 20, "{from} to {to} took {kib} KiB for a row of {} bytes", text.len());
    }
    peak(folder, "verify 5.csv --source 4.arrows --secrets s.json --to kv2");
}

/// Rows of half a megabyte: what is in work at once is bounded in bytes, not only in rows.
#[test]
fn a_peak_does_not_grow_with_wide_rows() {
    use std::io::Write as _;
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let text = envelope(folder, 100_000);
    assert!(text.len() > 400_000);
    let mut peaks = Vec::new();
    for rows in [60, 240] {
        let mut file = std::fs::File::create(folder.join("in.csv")).unwrap();
        writeln!(file, "{HEADER}").unwrap();
        (0..rows).for_each(|i| writeln!(file, "org-{i:05},,,{text}").unwrap());
        peaks.push([
            ("rewrap", peak(folder, "rewrap in.csv -o out.csv --secrets s.json --to kv2 --force")),
            ("verify", peak(folder, "verify out.csv --source in.csv --secrets s.json")),
        ]);
    }
    for ((command, small), (_, large)) in peaks[0].into_iter().zip(peaks[1]) {
        println!("{command}: peak {small} KiB at 60 rows of 0.5 MB, {large} KiB at 240");
        assert!(large <= small + (16 << 10), "{command} grew from {small} to {large} KiB");
    }
}

#[test]
fn a_peak_does_not_grow_with_the_rows() {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    peak(folder, "keygen kv1 --secrets s.json");
    peak(folder, "keygen kv2 --secrets s.json");
    let mut peaks = Vec::new();
    for orgs in [10_000, 40_000] {
        let generate =
            format!("generate -o in.csv --orgs {orgs} --secrets s.json --under kv1=9 --under kv2 --force");
        peaks.push([
            ("generate", peak(folder, &generate)),
            ("inspect", peak(folder, "inspect in.csv")),
            ("rewrap", peak(folder, "rewrap in.csv -o out.csv --secrets s.json --to kv2 --force")),
            ("verify", peak(folder, "verify out.csv --source in.csv --secrets s.json")),
        ]);
    }
    for ((command, small), (_, large)) in peaks[0].into_iter().zip(peaks[1]) {
        println!("{command}: peak {small} KiB at 10,000 organizations, {large} KiB at 40,000");
        // How many batches are in work at once differs from run to run, by 16 MiB at the most; the
        // file grew by 90 MB.
        assert!(large <= small + (16 << 10), "{command} grew from {small} to {large} KiB");
        assert!(large <= 64 << 10, "{command} took {large} KiB");
    }
}

/// In every format, and far below what the file grew by (90 MB; compressed, the Parquet
/// file holds as much).
#[test]
fn a_peak_does_not_grow_with_the_rows_in_any_format() {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    peak(folder, "keygen kv1 --secrets s.json");
    peak(folder, "keygen kv2 --secrets s.json");
    for format in ["csv", "parquet", "arrow", "arrows"] {
        let [small, large] = [10_000, 40_000].map(|orgs| {
            let under = "--secrets s.json --under kv1 --force";
            let made = peak(folder, &format!("generate -o in.{format} --orgs {orgs} {under}"));
            let how = "--secrets s.json --to kv2 --force";
            made.max(peak(folder, &format!("rewrap in.{format} -o out.{format} {how}")))
        });
        println!("{format}: peak {small} KiB at 10,000 organizations, {large} KiB at 40,000");
        assert!(large <= small + (32 << 10), "{format} grew from {small} to {large} KiB");
        assert!(large <= 256 << 10, "{format} took {large} KiB");
        // Unless told, as many threads are used as there are cores.
        let how = "--secrets s.json --to kv2 --force --threads 64";
        let many = peak(folder, &format!("rewrap in.{format} -o out.{format} {how}"));
        println!("{format}: peak {many} KiB with 64 threads");
        assert!(many <= 256 << 10, "{format} took {many} KiB with 64 threads");
    }
}

/// That no organization stands twice costs nothing where the ids are in order, and elsewhere what
/// docs/performance.md says: 20 to 40 bytes a row, and 60 for a moment, when the table of hashes grows.
#[test]
fn ids_out_of_order_cost_at_most_sixty_bytes_a_row() {
    use std::io::Write as _;
    const ROWS: u64 = 500_000;
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let write = |name: &str, ids: &mut dyn Iterator<Item = u64>| {
        let mut file = std::io::BufWriter::new(std::fs::File::create(folder.join(name)).unwrap());
        writeln!(file, "{HEADER}").unwrap();
        ids.for_each(|i| writeln!(file, "org-{i:07},,,").unwrap());
    };
    write("few.csv", &mut (0..ROWS / 10));
    write("ascending.csv", &mut (0..ROWS));
    write("descending.csv", &mut (0..ROWS).rev());
    let [few, ascending, descending] =
        ["few", "ascending", "descending"].map(|name| peak(folder, &format!("inspect {name}.csv")) << 10);
    println!(
        "peaks: {few} bytes ({} rows in order), {ascending} ({ROWS}), {descending} (out of order)",
        ROWS / 10
    );
    assert!(ascending < few + (8 << 20), "ids in order: {few} bytes became {ascending}");
    let a_row = descending.saturating_sub(ascending) as f64 / ROWS as f64;
    assert!((16.0..=64.0).contains(&a_row), "ids out of order take {a_row:.1} bytes a row");
}

/// What another program wrote as one batch is in memory whole, and once.
#[test]
fn a_batch_of_160_mib_is_held_once() {
    use arrow::array::{ArrayRef, LargeStringArray, RecordBatch, StringArray};
    use arrow::ipc::writer::{FileWriter, StreamWriter};
    use std::sync::Arc;
    const ROWS: usize = 40;
    const NOTE: usize = 4 << 20;
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let text = envelope(folder, 100);
    {
        let ids = (0..ROWS).map(|i| Some(format!("org-{i:02}")));
        let nothing = || Arc::new(StringArray::from(vec![None::<&str>; ROWS])) as ArrayRef;
        let mut columns = HEADER.split(',');
        let mut column = |values: ArrayRef| (columns.next().unwrap(), values, true);
        let note = "x".repeat(NOTE);
        let batch = RecordBatch::try_from_iter_with_nullable([
            column(Arc::new(ids.collect::<StringArray>())),
            column(Arc::new(StringArray::from(vec![text.as_str(); ROWS]))),
            column(nothing()),
            column(nothing()),
            ("note", Arc::new(LargeStringArray::from(vec![note.as_str(); ROWS])), true),
        ]);
        let batch = batch.unwrap();
        let create = |name: &str| std::fs::File::create(folder.join(name)).unwrap();
        let mut file = FileWriter::try_new(create("in.arrow"), batch.schema_ref()).unwrap();
        file.write(&batch).unwrap();
        file.finish().unwrap();
        let mut stream = StreamWriter::try_new(create("in.arrows"), batch.schema_ref()).unwrap();
        stream.write(&batch).unwrap();
        stream.finish().unwrap();
    }
    for format in ["arrow", "arrows"] {
        let kib = peak(folder, &format!("rewrap in.{format} -o out.{format} --secrets s.json --to kv2"));
        println!("{format}: peak {kib} KiB for a batch of {} KiB", (ROWS * NOTE) >> 10);
        assert!(kib as usize <= ((ROWS * NOTE) >> 10) + (80 << 10), "{format} took {kib} KiB");
    }
}

/// The dictionary of a column is kept until the end, and nothing of the batch that it came with.
#[test]
fn a_dictionary_keeps_no_batch_in_memory() {
    use arrow::array::{ArrayRef, DictionaryArray, LargeStringArray, RecordBatch, StringArray};
    use arrow::datatypes::Int8Type;
    use arrow::ipc::writer::{FileWriter, StreamWriter};
    use std::sync::Arc;
    const ROWS: usize = 20;
    const NOTE: usize = 4 << 20;
    const BATCHES: usize = 4;
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let text = envelope(folder, 100);
    {
        let note = "x".repeat(NOTE);
        let words: ArrayRef = Arc::new(StringArray::from(vec!["a", "b"]));
        let batch = |number: usize| {
            let ids = (0..ROWS).map(|i| Some(format!("org-{number}-{i:02}")));
            let keys = (0..ROWS).map(|i| i as i8 % 2).collect::<Vec<_>>();
            let nothing = || Arc::new(StringArray::from(vec![None::<&str>; ROWS])) as ArrayRef;
            let mut columns = HEADER.split(',');
            let mut column = |values: ArrayRef| (columns.next().unwrap(), values, true);
            let batch = RecordBatch::try_from_iter_with_nullable([
                column(Arc::new(ids.collect::<StringArray>())),
                column(Arc::new(StringArray::from(vec![text.as_str(); ROWS]))),
                column(nothing()),
                column(nothing()),
                ("kind", Arc::new(DictionaryArray::<Int8Type>::new(keys.into(), Arc::clone(&words))), true),
                ("note", Arc::new(LargeStringArray::from(vec![note.as_str(); ROWS])), true),
            ]);
            batch.unwrap()
        };
        let create = |name: &str| std::fs::File::create(folder.join(name)).unwrap();
        let schema = batch(0).schema();
        let mut file = FileWriter::try_new(create("in.arrow"), &schema).unwrap();
        let mut stream = StreamWriter::try_new(create("in.arrows"), &schema).unwrap();
        for number in 0..BATCHES {
            file.write(&batch(number)).unwrap();
            stream.write(&batch(number)).unwrap();
        }
        file.finish().unwrap();
        stream.finish().unwrap();
    }
    for format in ["arrow", "arrows"] {
        let kib = peak(folder, &format!("rewrap in.{format} -o out.{format} --secrets s.json --to kv2"));
        println!("{format}: peak {kib} KiB for {BATCHES} batches of {} KiB", (ROWS * NOTE) >> 10);
        // The one that is read, and the one before it, whose last rows are still in work.
        assert!(kib as usize <= 2 * ((ROWS * NOTE) >> 10) + (64 << 10), "{format} took {kib} KiB");
    }
}
