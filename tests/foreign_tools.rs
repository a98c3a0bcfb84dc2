//! Tables go from pyarrow and DuckDB through rekek, in every format, and back to them.
//!
//! Needs a python with pyarrow and duckdb: `python3`, or the one that the environment variable
//! REKEK_PYTHON names. Without it the test fails; it does not skip.

use rekek::table::{self, Compression, Format, Input, OpenOptions, TableError, TableRows};
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use arrow::array::RecordBatch;

struct Vouched(RecordBatch);

impl TableRows for Vouched {
    fn records(&self) -> &RecordBatch {
        &self.0
    }
}

fn python(arguments: &[&str], input: &str) -> Result<(), String> {
    let program = std::env::var("REKEK_PYTHON").unwrap_or_else(|_| "python3".into());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/foreign_tools.py");
    let mut child = Command::new(&program)
        .arg(script)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| format!("cannot run {program} (REKEK_PYTHON names another): {e}"))?;
    // A script that ends early closes the pipe; what it says then is what matters.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let done = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout) + String::from_utf8_lossy(&done.stderr);
    if done.status.success() { Ok(()) } else { Err(said.into_owned()) }
}

fn copy(from: &Path, to: &Path, compression: Compression) -> Result<(), TableError> {
    let mut reader = table::open(&Input::File(from.into()), &OpenOptions::default())?;
    let format = Format::of_path(to).unwrap();
    let to = File::create(to)?;
    let mut writer = table::create(to, format, compression, reader.schema(), reader.dictionaries())?;
    while let Some(batch) = reader.next_batch()? {
        writer.write(&Vouched(batch))?;
    }
    reader.finish()?;
    writer.finish()?;
    Ok(())
}

#[test]
fn tables_of_other_programs_come_back_to_them_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let made = folder.path().join("made");
    std::fs::create_dir(&made).unwrap();
    python(&["make", made.to_str().unwrap()], "").unwrap_or_else(|said| panic!("{said}"));
    let mut inputs: Vec<PathBuf> = std::fs::read_dir(&made).unwrap().map(|e| e.unwrap().path()).collect();
    inputs.sort();
    assert!(inputs.len() >= 28, "{inputs:?}");

    let outputs = [
        ("csv", Compression::Usual),
        ("parquet", Compression::Usual),
        ("parquet", Compression::None),
        ("parquet", Compression::Lz4),
        ("parquet", Compression::Zstd),
        ("arrow", Compression::Usual),
        ("arrow", Compression::Lz4),
        ("arrows", Compression::Usual),
        ("arrows", Compression::Zstd),
    ];
    let mut pairs = String::new();
    for input in &inputs {
        for (extension, compression) in outputs {
            let name = input.file_name().unwrap().to_string_lossy();
            let output = folder.path().join(format!("{name}-{compression:?}.{extension}"));
            match copy(input, &output, compression) {
                Ok(()) => pairs += &format!("{}\t{}\n", input.display(), output.display()),
                // The tables with nested columns, which CSV cannot hold.
                Err(e)
                    if extension == "csv"
                        && ["string.", "null-lists-", "dictionaries-"]
                            .iter()
                            .any(|with| name.starts_with(with)) =>
                {
                    assert!(
                        e.to_string().starts_with("CSV cannot hold the column list, which is "),
                        "{name}: {e}"
                    );
                }
                Err(e) => panic!("{name} to {extension}, {compression:?}: {e}"),
            }
        }
    }
    python(&["compare"], &pairs).unwrap_or_else(|said| panic!("differences:\n{said}"));
}

/// A part of the script that runs rekek on the sample site, in a folder of its own.
#[track_caller]
fn with_rekek(part: &str) {
    let folder = tempfile::tempdir().unwrap();
    let rekek = assert_cmd::cargo::cargo_bin!("rekek");
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/sample");
    let arguments =
        [part, rekek.to_str().unwrap(), sample.to_str().unwrap(), folder.path().to_str().unwrap()];
    python(&arguments, "").unwrap_or_else(|said| panic!("{said}"));
}

/// `rekek rewrap - -o -` as a filter between two engines that stream.
#[test]
fn an_engine_streams_through_rekek_into_another() {
    with_rekek("filter");
}

/// Columns that other programs write and rekek once changed, or could not read again.
#[test]
fn columns_that_are_seldom_met_are_kept_or_refused_by_their_names() {
    with_rekek("odd");
}
