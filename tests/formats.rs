//! Files that other programs wrote, and files that nobody should have written.
//!
//! The former (fixtures/formats, see its README) must read as the rows they were written from,
//! and come out the same through every format of ours. The latter, cut, bent and lying about their
//! lengths, must end in an error: no panic, no unbounded memory.

use rekek::row::{Field, Sha256Digest};
use rekek::table::{
    self, BATCH_ROWS, Compression, Dictionaries, Format, Input, Layout, OpenOptions, TableError, TableRows,
    Text,
};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

type Rows = Vec<Vec<Option<String>>>;

struct Table {
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
}

struct Vouched<'a>(&'a RecordBatch);

impl TableRows for Vouched<'_> {
    fn records(&self) -> &RecordBatch {
        self.0
    }
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/formats")
}

fn read(path: &Path) -> Result<Table, TableError> {
    let mut reader = table::open(&Input::File(path.into()), &OpenOptions::default())?;
    let mut batches = vec![];
    while let Some(batch) = reader.next_batch()? {
        assert!((1..=BATCH_ROWS).contains(&batch.num_rows()));
        batches.push(batch);
    }
    let facts = reader.finish()?;
    let bytes = std::fs::read(path).unwrap();
    assert_eq!((facts.bytes, facts.sha256), (bytes.len() as u64, Sha256Digest::of(&bytes)));
    Ok(Table { schema: Arc::clone(reader.schema()), batches })
}

fn write(table: &Table, format: Format) -> tempfile::NamedTempFile {
    let mut file = tempfile::Builder::new().suffix(&format!(".{}", format.name())).tempfile().unwrap();
    let mut writer =
        table::create(Vec::new(), format, Compression::Usual, &table.schema, Dictionaries::Varying).unwrap();
    for batch in &table.batches {
        writer.write(&Vouched(batch)).unwrap();
    }
    file.write_all(&writer.finish().unwrap()).unwrap();
    file
}

fn rows(table: &Table) -> Rows {
    let rows = table.batches.iter().flat_map(|batch| {
        let columns: Vec<_> = batch.columns().iter().map(|c| Text::of(c).unwrap()).collect();
        let row = |i: usize| columns.iter().map(|c| c.get(i).map(str::to_owned)).collect();
        (0..batch.num_rows()).map(row).collect::<Rows>()
    });
    rows.collect()
}

/// CSV has no empty text: it reads as null.
fn as_in_csv(rows: &Rows) -> Rows {
    rows.iter().map(|row| row.iter().map(|v| v.clone().filter(|v| !v.is_empty())).collect()).collect()
}

/// The rows that the fixtures were written from.
fn expected() -> Rows {
    #[derive(serde::Deserialize)]
    struct Expected {
        rows: Rows,
    }
    let json = std::fs::read_to_string(fixtures().join("expected.json")).unwrap();
    serde_json::from_str::<Expected>(&json).unwrap().rows
}

/// The fixtures that are tables.
fn tables() -> Vec<PathBuf> {
    let files = std::fs::read_dir(fixtures()).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files.filter(|path| Format::of_path(path).is_some()).collect();
    files.sort();
    assert!(files.len() >= 19, "fixtures are missing");
    files
}

#[test]
fn what_other_programs_wrote_reads_as_they_meant_it() {
    let (expected, expected_of_csv) = (expected(), as_in_csv(&expected()));
    for path in tables() {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let of_csv = Format::of_path(&path) == Some(Format::Csv);
        let table = read(&path).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(&rows(&table), if of_csv { &expected_of_csv } else { &expected }, "{name}");

        let layout = Layout::of(&table.schema).unwrap();
        assert_eq!(
            (layout.organization_id, layout.fields, layout.publics),
            (0, [1, 2, 3], [Some(4), Some(5)])
        );
        let texts = layout.texts(&table.batches[0]);
        assert_eq!(texts.organization_id.get(0), Some("org-00"));
        assert_eq!(texts.fields[Field::AuthMethodConfig.index()].get(0), expected[0][3].as_deref());

        for format in [Format::Csv, Format::Parquet, Format::Arrow, Format::Arrows] {
            let again =
                read(write(&table, format).path()).unwrap_or_else(|e| panic!("{name} {format:?}: {e}"));
            let expected = if of_csv || format == Format::Csv { &expected_of_csv } else { &expected };
            assert_eq!(&rows(&again), expected, "{name} {format:?}");
            if format != Format::Csv {
                assert_eq!(again.schema.metadata(), table.schema.metadata(), "{name} {format:?}");
                for (now, before) in again.schema.fields().iter().zip(table.schema.fields()) {
                    assert_eq!(now.metadata(), before.metadata(), "{name} {format:?}");
                }
            }
        }
    }
}

#[test]
fn metadata_of_other_programs_is_kept() {
    for name in
        ["pyarrow-snappy.parquet", "pyarrow-lz4.feather", "pyarrow-plain.arrows", "pyarrow-views.arrows"]
    {
        let table = read(&fixtures().join(name)).unwrap();
        assert_eq!(table.schema.metadata().get("made by").map(String::as_str), Some("scripts/make-fixtures"));
        assert_eq!(table.schema.field(6).metadata().get("of").map(String::as_str), Some("note"), "{name}");
    }
}

#[test]
fn a_pipe_carries_csv_and_streams_and_nothing_else() {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    let folder = tempfile::tempdir().unwrap();
    for (fixture, reads) in [
        ("psql.csv", true),
        ("pyarrow-plain.arrows", true),
        ("pyarrow-zstd-large.arrow", false),
        ("pyarrow-snappy.parquet", false),
    ] {
        let source = fixtures().join(fixture);
        let pipe = folder.path().join(fixture);
        mknodat(CWD, &pipe, FileType::Fifo, Mode::RWXU, 0).unwrap();
        if !reads {
            let error = read(&pipe).map(drop).unwrap_err().to_string();
            assert!(error.contains("cannot be read from a pipe") && error.contains("arrows"), "{error}");
            continue;
        }
        let bytes = std::fs::read(&source).unwrap();
        let to = pipe.clone();
        let writer = std::thread::spawn(move || {
            // Slowly, so that the reader has to wait for it.
            let mut pipe = std::fs::OpenOptions::new().write(true).open(to).unwrap();
            for part in bytes.chunks(3000) {
                std::thread::sleep(std::time::Duration::from_millis(20));
                pipe.write_all(part).unwrap();
            }
        });
        let mut reader = table::open(&Input::File(pipe), &OpenOptions::default()).unwrap();
        let mut rows = 0;
        while let Some(batch) = reader.next_batch().unwrap() {
            rows += batch.num_rows();
        }
        writer.join().unwrap();
        assert_eq!(rows, expected().len());
        let bytes = std::fs::read(source).unwrap();
        assert_eq!(reader.finish().unwrap().sha256, Sha256Digest::of(bytes));
    }
    for format in [Format::Parquet, Format::Arrow] {
        let options = OpenOptions { format: Some(format), ..Default::default() };
        let error = table::open(&Input::Stdin, &options).map(drop).unwrap_err().to_string();
        assert!(error.contains("--input-format arrows"), "{error}");
    }
}

#[test]
fn a_wait_for_a_pipe_can_be_interrupted() {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("never.arrows");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::RWXU, 0).unwrap();
    let options = OpenOptions::default();
    let stop = options.stop.clone();
    let signal = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(50));
        stop.request();
    });
    let end = table::open(&Input::File(pipe), &options).map(drop);
    assert!(matches!(end, Err(TableError::Interrupted)), "{:?}", end.err());
    signal.join().unwrap();
}

#[test]
fn a_file_of_another_format_is_told_from_a_broken_one() {
    let folder = tempfile::tempdir().unwrap();
    for (fixture, name, expected) in [
        (
            "pyarrow-plain.arrows",
            "x.arrow",
            "this is an Arrow stream, not an Arrow file: its format is named arrows",
        ),
        (
            "pyarrow-zstd-large.arrow",
            "x.arrows",
            "this is an Arrow file, not an Arrow stream: its format is named arrow",
        ),
        ("pyarrow-plain.arrows", "x.parquet", "this is no Parquet file, or it is cut short"),
        ("psql.csv", "x.parquet", "this is no Parquet file, or it is cut short"),
        ("psql.csv", "x.arrow", "this is no Arrow file, or it is cut short"),
        (
            "psql.csv",
            "x.arrows",
            "the Arrow data is malformed: no message stands where one should, or its metadata is too long",
        ),
    ] {
        let path = folder.path().join(name);
        std::fs::copy(fixtures().join(fixture), &path).unwrap();
        assert_eq!(read(&path).map(drop).unwrap_err().to_string(), expected);
    }
    let path = folder.path().join("old.feather");
    std::fs::write(&path, b"FEA1 and so on, with FEA1").unwrap();
    assert!(read(&path).map(drop).unwrap_err().to_string().contains("Feather file of version 1"));
}

/// Reads what a hostile file has; only that it ends is of interest.
fn end_of(name: &str, bytes: &[u8]) -> Result<usize, TableError> {
    let mut file = tempfile::Builder::new().suffix(name).tempfile().unwrap();
    file.write_all(bytes).unwrap();
    let mut reader = table::open(&Input::File(file.path().into()), &OpenOptions::default())?;
    let mut rows = 0;
    while let Some(batch) = reader.next_batch()? {
        rows += batch.num_rows();
        // A lying length of a column without values could go on for years.
        if rows > 1_000_000 {
            break;
        }
    }
    Ok(rows)
}

/// No allocation past this: one that a declared length asks for fails, and aborts the test.
fn limit_memory() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let bytes = Some(6 << 30);
    setrlimit(Resource::As, Rlimit { current: bytes, maximum: bytes }).unwrap();
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    for fixture in [
        "pyarrow-plain.arrows",
        "pyarrow-dictionaries-grown.arrows",
        "pyarrow-lz4.feather",
        "pyarrow-dictionaries-grown.arrow",
        "pyarrow-snappy.parquet",
        "duckdb-zstd.parquet",
    ] {
        let bytes = std::fs::read(fixtures().join(fixture)).unwrap();
        let near_an_end = |cut: &usize| *cut < 600 || *cut + 600 > bytes.len() || cut.is_multiple_of(13);
        for cut in (0..bytes.len()).filter(near_an_end) {
            let end = end_of(fixture, &bytes[..cut]);
            assert!(end.is_err(), "{fixture} cut at {cut} of {}: {end:?}", bytes.len());
        }
        let longer = [bytes.as_slice(), b"\0"].concat();
        assert!(end_of(fixture, &longer).is_err(), "{fixture} with a byte more");
    }
    // What is left of a CSV may be a shorter table; it may not be a panic.
    let bytes = std::fs::read(fixtures().join("psql.csv")).unwrap();
    for cut in 0..bytes.len() {
        let _ = end_of("psql.csv", &bytes[..cut]);
    }
}

#[test]
fn a_bent_file_is_an_error_or_other_rows_but_never_a_panic() {
    limit_memory();
    // A generator of our own, so that a failure can be repeated: xorshift64*.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: usize| {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % below
    };
    for path in tables() {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let whole = std::fs::read(&path).unwrap();
        for round in 0..400 {
            let mut bytes = whole.clone();
            // Directories and headers are where lengths stand: half of the blows go there.
            let at = match round % 4 {
                0 => bytes.len() - 1 - random(bytes.len().min(1500)),
                1 => random(bytes.len().min(1500)),
                _ => random(bytes.len()),
            };
            let lengths: [&[u8]; 6] = [
                &i32::MAX.to_le_bytes(),
                &[0xff; 4],
                &[0xff, 0xff, 0xff, 0xff, 0x0f],
                &(1_i64 << 40).to_le_bytes(),
                &i64::MAX.to_le_bytes(),
                &i64::MIN.to_le_bytes(),
            ];
            match round % 3 {
                0 => bytes[at] ^= 1 << random(8),
                1 => bytes[at] = random(256) as u8,
                _ => {
                    for (byte, lie) in bytes[at..].iter_mut().zip(lengths[random(lengths.len())]) {
                        *byte = *lie;
                    }
                }
            }
            let _ = end_of(&name, &bytes);
        }
    }
}
