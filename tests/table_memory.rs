//! Memory follows the batch and not the table, in every format, compressed or not.
//!
//! One test in a process of its own: it reads the process's peak.

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use rekek::table::{self, Compression, Dictionaries, Format, Input, OpenOptions, TableRows};
use std::fs::File;
use std::sync::Arc;

struct Vouched<'a>(&'a RecordBatch);

impl TableRows for Vouched<'_> {
    fn records(&self) -> &RecordBatch {
        self.0
    }
}

/// The process's peak resident memory, in MiB.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() >> 10
}

/// 300 rows of 3 KiB that do not compress to nothing.
fn batch() -> RecordBatch {
    let mut state = 1_u64;
    let mut value = || {
        let digit = |_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            char::from(b'A' + (state % 26) as u8)
        };
        Some((0..1000).map(digit).collect::<String>())
    };
    let names = ["organization_id", "encrypted_signing_key_1", "encrypted_auth_method_config"];
    let columns = names.map(|_| Arc::new((0..300).map(|_| value()).collect::<StringArray>()) as ArrayRef);
    let fields = names.map(|name| Field::new(name, DataType::Utf8, true));
    RecordBatch::try_new(Arc::new(Schema::new(fields.to_vec())), columns.to_vec()).unwrap()
}

#[test]
fn a_table_of_hundreds_of_megabytes_takes_tens_of_them() {
    const BATCHES: usize = 300;
    let (batch, folder) = (batch(), tempfile::tempdir().unwrap());
    let before = peak();
    for (format, compression) in [
        (Format::Csv, Compression::None),
        (Format::Arrows, Compression::None),
        (Format::Arrow, Compression::Zstd),
        (Format::Parquet, Compression::None),
        (Format::Parquet, Compression::Snappy),
    ] {
        let path = folder.path().join(format!("{compression:?}.{}", format.name()));
        let (to, schema) = (File::create(&path).unwrap(), batch.schema());
        let mut writer = table::create(to, format, compression, &schema, Dictionaries::Varying).unwrap();
        for _ in 0..BATCHES {
            writer.write(&Vouched(&batch)).unwrap();
        }
        writer.finish().unwrap();
        let mut reader = table::open(&Input::File(path.clone()), &OpenOptions::default()).unwrap();
        let mut rows = 0;
        while let Some(batch) = reader.next_batch().unwrap() {
            rows += batch.num_rows();
        }
        assert_eq!(rows, BATCHES * 300);
        reader.finish().unwrap();
        std::fs::remove_file(path).unwrap();
        let taken = peak() - before;
        eprintln!("{format:?} {compression:?}: {taken} MiB");
        assert!(taken < 120, "{format:?} {compression:?}: {taken} MiB for a table of 270");
    }
}
