//! CSV: with a header, as `psql \copy (select …) to … csv header` writes it.
//!
//! An empty value, quoted or not, reads as null and is written unquoted. All columns are read as
//! text; a column of another type is written as [`super::spelling`] has it.
//! What the `csv` crate lets pass is refused here: a record with more or fewer values than the
//! header, a quoted value that the file's end cuts short, a value that is not UTF-8.

use super::layout::is_text;
use super::spelling::{has_spelling, spell};
use super::{
    BATCH_BYTES, BATCH_ROWS, COLUMNS_MAX, FileFacts, RECORD_BYTES_MAX, TableError, TableReader, TableRows,
    TableWriter, Text,
};
use crate::row::{Sha256Digest, printable};
use arrow::array::{ArrayRef, RecordBatch, StringBuilder};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use sha2::{Digest as _, Sha256};
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, Read, Write};
use std::sync::Arc;

/// Reads a CSV table.
pub(super) struct CsvReader {
    records: csv::Reader<Tap>,
    record: csv::ByteRecord,
    schema: SchemaRef,
    ended: bool,
}

impl CsvReader {
    pub(super) fn new(bytes: Box<dyn Read + Send>) -> Result<Self, TableError> {
        let mut records = csv::ReaderBuilder::new()
            .has_headers(false) // read as a record, so that it gets the same checks
            .flexible(true) // checked here, with a message for people
            .buffer_capacity(1 << 18)
            .from_reader(Tap::new(bytes));
        let mut record = csv::ByteRecord::new();
        if !read_record(&mut records, &mut record)? {
            return Err(TableError::Table("the file is empty: not even a header is there".into()));
        }
        if record.len() > COLUMNS_MAX {
            return Err(TableError::Table(format!(
                "the header has {} columns; more than {COLUMNS_MAX} are not read",
                record.len()
            )));
        }
        let columns = (0..record.len())
            .map(|i| Ok(Field::new(utf8(&record, i, |i| format!("column {}", i + 1))?, DataType::Utf8, true)))
            .collect::<Result<Vec<_>, TableError>>()?;
        Ok(CsvReader { records, record, schema: Arc::new(Schema::new(columns)), ended: false })
    }
}

/// The next record, or false at the end.
fn read_record(records: &mut csv::Reader<Tap>, record: &mut csv::ByteRecord) -> Result<bool, TableError> {
    let line = records.position().line();
    records.get_mut().allowance = RECORD_BYTES_MAX;
    let more = records.read_byte_record(record).map_err(|e| match e.into_kind() {
        csv::ErrorKind::Io(e) if e.get_ref().is_some_and(|e| e.is::<TooLong>()) => {
            TableError::Record { line, what: format!("the record is longer than {RECORD_BYTES_MAX} bytes") }
        }
        csv::ErrorKind::Io(e) => e.into(),
        other => TableError::Record { line, what: format!("{other:?}") },
    })?;
    let tap = records.get_ref();
    if more && tap.ended && record.len() == 1 && record[0] == *tap.end_mark {
        return Ok(false);
    }
    if !more || (tap.ended && ends_with(record, &tap.end_mark)) {
        return Err(TableError::Record {
            line: record.position().map_or(line, csv::Position::line),
            what: "a quote is opened here and never closed: the file is cut short".into(),
        });
    }
    Ok(true)
}

fn ends_with(record: &csv::ByteRecord, mark: &[u8]) -> bool {
    record.as_slice().windows(mark.len()).any(|w| w == mark)
}

fn utf8(record: &csv::ByteRecord, column: usize, name: impl Fn(usize) -> String) -> Result<&str, TableError> {
    std::str::from_utf8(&record[column]).map_err(|_| TableError::Record {
        line: record.position().map_or(0, csv::Position::line),
        what: format!("the value in {} is not UTF-8", name(column)),
    })
}

impl TableReader for CsvReader {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn next_batch(&mut self) -> Result<Option<RecordBatch>, TableError> {
        let width = self.schema.fields().len();
        let mut columns: Vec<StringBuilder> =
            (0..width).map(|_| StringBuilder::with_capacity(0, 0)).collect();
        let (mut rows, mut bytes) = (0, 0);
        while !self.ended && rows < BATCH_ROWS && bytes < BATCH_BYTES {
            if !read_record(&mut self.records, &mut self.record)? {
                self.ended = true;
                break;
            }
            let record = &self.record;
            if record.len() != width {
                return Err(TableError::Record {
                    line: record.position().map_or(0, csv::Position::line),
                    what: format!("the record has {} values, the header {width}", record.len()),
                });
            }
            for (i, column) in columns.iter_mut().enumerate() {
                let name = |i: usize| printable(self.schema.field(i).name());
                match utf8(record, i, name)? {
                    "" => column.append_null(),
                    text => column.append_value(text),
                }
            }
            bytes += record.as_slice().len();
            rows += 1;
        }
        if rows == 0 {
            return Ok(None);
        }
        let arrays = columns.iter_mut().map(|c| Arc::new(c.finish()) as ArrayRef).collect();
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), arrays);
        Ok(Some(batch.map_err(|e| TableError::Table(e.to_string()))?))
    }

    fn finish(&mut self) -> Result<FileFacts, TableError> {
        let tap = self.records.get_mut();
        Ok(FileFacts { bytes: tap.bytes, sha256: Sha256Digest::of_hasher(std::mem::take(&mut tap.hasher)) })
    }
}

/// The file's bytes on their way to the CSV reader: counted, hashed, limited for each record, and
/// with an end mark behind them.
///
/// The mark is how a quote that is never closed is noticed: the `csv` crate ends such a value
/// with the file, without a word. A line that is one random word follows the file's last byte; if
/// it does not come back as a record of its own, something swallowed it.
struct Tap {
    inner: Box<dyn Read + Send>,
    hasher: Sha256,
    bytes: u64,
    allowance: usize,
    ended: bool,
    end_mark: Box<[u8]>,
    /// What is still to be given out of the end mark's line.
    tail: io::Cursor<Vec<u8>>,
}

/// A record went past [`RECORD_BYTES_MAX`].
#[derive(Debug, thiserror::Error)]
#[error("record too long")]
struct TooLong;

impl Tap {
    fn new(inner: Box<dyn Read + Send>) -> Self {
        let word = format!("{:016x}{:016x}", RandomState::new().hash_one(0), RandomState::new().hash_one(1));
        let tail = io::Cursor::new(format!("\n{word}\n").into_bytes());
        Tap {
            inner,
            hasher: Sha256::new(),
            bytes: 0,
            allowance: RECORD_BYTES_MAX,
            ended: false,
            end_mark: word.into_bytes().into(),
            tail,
        }
    }
}

impl Read for Tap {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.allowance == 0 {
            return Err(io::Error::other(TooLong));
        }
        if !self.ended {
            let n = self.inner.read(buf)?;
            if n > 0 || buf.is_empty() {
                self.hasher.update(&buf[..n]);
                self.bytes += n as u64;
                self.allowance = self.allowance.saturating_sub(n);
                return Ok(n);
            }
            self.ended = true;
        }
        self.tail.read(buf)
    }
}

/// Writes a CSV table.
pub(super) struct CsvWriter<W: Write> {
    records: csv::Writer<W>,
}

impl<W: Write> CsvWriter<W> {
    pub(super) fn new(to: W, schema: &Schema) -> Result<Self, TableError> {
        for column in schema.fields() {
            if !is_text(column.data_type()) && !has_spelling(column.data_type()) {
                return Err(TableError::Table(format!(
                    "CSV cannot hold the column {}, which is {}",
                    printable(column.name()),
                    column.data_type()
                )));
            }
        }
        let mut records = csv::WriterBuilder::new().buffer_capacity(1 << 18).from_writer(to);
        records.write_record(schema.fields().iter().map(|f| f.name())).map_err(csv_error)?;
        Ok(CsvWriter { records })
    }
}

impl<W: Write + Send> TableWriter<W> for CsvWriter<W> {
    fn write(&mut self, rows: &dyn TableRows) -> Result<(), TableError> {
        let batch = rows.records();
        let columns = batch.columns().iter().zip(batch.schema_ref().fields());
        let columns = columns
            .map(
                |(array, column)| {
                    if is_text(column.data_type()) { Ok(Arc::clone(array)) } else { spell(array, column) }
                },
            )
            .collect::<Result<Vec<_>, _>>()?;
        let columns: Vec<_> = columns.iter().map(|c| Text::of(c).expect("it is text, or spelled")).collect();
        for row in 0..batch.num_rows() {
            for column in &columns {
                self.records.write_field(column.get(row).unwrap_or_default()).map_err(csv_error)?;
            }
            self.records.write_record(None::<&[u8]>).map_err(csv_error)?;
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<W, TableError> {
        self.records.into_inner().map_err(|e| TableError::Io(e.into_error()))
    }
}

fn csv_error(e: csv::Error) -> TableError {
    match e.into_kind() {
        csv::ErrorKind::Io(e) => e.into(),
        other => TableError::Table(format!("{other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Vec<Vec<Option<String>>>, TableError> {
        let mut reader = CsvReader::new(Box::new(io::Cursor::new(bytes.to_vec())))?;
        let mut rows = vec![];
        while let Some(batch) = reader.next_batch()? {
            for row in 0..batch.num_rows() {
                let value = |c: &ArrayRef| Text::of(c).unwrap().get(row).map(str::to_owned);
                rows.push(batch.columns().iter().map(value).collect());
            }
        }
        let facts = reader.finish()?;
        assert_eq!(facts, FileFacts { bytes: bytes.len() as u64, sha256: Sha256Digest::of(bytes) });
        Ok(rows)
    }

    fn refusal(bytes: &[u8]) -> String {
        read(bytes).unwrap_err().to_string()
    }

    #[test]
    fn values_are_taken_as_they_are() {
        let rows = read(b"a,b,c\n1,\"x, \"\"y\"\"\r\nz\",\n\"\", 2 ,\\N\n").unwrap();
        let some = |s: &str| Some(s.to_owned());
        assert_eq!(rows[0], [some("1"), some("x, \"y\"\r\nz"), None]);
        assert_eq!(rows[1], [None, some(" 2 "), some("\\N")]);
        assert_eq!(read(b"a,b\n1,2").unwrap().len(), 1, "no line's end at the end");
        assert_eq!(read(b"a,b\r\n1,\"2\"").unwrap().len(), 1);
        assert_eq!(read("\u{feff}a,b\n1,2\n".as_bytes()).unwrap().len(), 1, "a byte order mark");
    }

    #[test]
    fn what_is_not_a_table_is_refused_with_its_place() {
        assert_eq!(refusal(b""), "the file is empty: not even a header is there");
        assert_eq!(refusal(b"a,b\n1,2\n3\n"), "line 3: the record has 1 values, the header 2");
        assert_eq!(refusal(b"a,b\n\"1\n\",2,3\n"), "line 2: the record has 3 values, the header 2");
        assert_eq!(refusal(b"a,b\n1,\xff\n"), "line 2: the value in b is not UTF-8");
        assert_eq!(refusal(b"a,\xff\n"), "line 1: the value in column 2 is not UTF-8");
        assert_eq!(refusal(b"a,b\n\xc3,\xa9\n"), "line 2: the value in a is not UTF-8", "a split character");
        let wide = ",".repeat(COLUMNS_MAX);
        assert_eq!(refusal(wide.as_bytes()), "the header has 4097 columns; more than 4096 are not read");
    }

    #[test]
    fn a_quote_that_is_never_closed_is_an_error() {
        for (text, line) in [
            ("a,b\n1,\"2", 2),
            ("a,b\n1,\"2\n3,4\n", 2),
            ("a,b\n1,2\n3,\"4\"\"", 3),
            ("a,b\n1,2\n3,\"", 3),
            ("a,\"b", 1),
        ] {
            let expected =
                format!("line {line}: a quote is opened here and never closed: the file is cut short");
            assert_eq!(refusal(text.as_bytes()), expected, "{text:?}");
        }
    }

    #[test]
    fn a_batch_is_closed_by_rows_and_by_bytes() {
        let sizes = |text: String| {
            let mut reader = CsvReader::new(Box::new(io::Cursor::new(text.into_bytes()))).unwrap();
            std::iter::from_fn(|| reader.next_batch().unwrap()).map(|b| b.num_rows()).collect::<Vec<_>>()
        };
        assert_eq!(sizes("a\n".to_owned() + &"1\n".repeat(BATCH_ROWS + 1)), [BATCH_ROWS, 1]);
        let big = "x".repeat(BATCH_BYTES / 2);
        assert_eq!(sizes(format!("a\n{big}\n{big}\n{big}\n")), [2, 1]);
    }

    struct Rows(RecordBatch);
    impl TableRows for Rows {
        fn records(&self) -> &RecordBatch {
            &self.0
        }
    }

    #[test]
    fn a_column_that_csv_cannot_hold_is_named_at_once() {
        let list = DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true)));
        for refused in [list, DataType::Binary, DataType::Time32(::arrow::datatypes::TimeUnit::Second)] {
            let schema =
                Schema::new(vec![Field::new("a", DataType::Int64, true), Field::new("b", refused, true)]);
            let error = CsvWriter::new(Vec::new(), &schema).map(drop).unwrap_err().to_string();
            assert!(error.starts_with("CSV cannot hold the column b, which is "), "{error}");
        }
    }

    #[test]
    fn what_is_written_reads_back_the_same() {
        let text = "a,\"b,c\",d\n1,\"x, \"\"y\"\"\r\nz\",\n, 2 ,\"q\nr\"\n";
        let mut reader = CsvReader::new(Box::new(io::Cursor::new(text.as_bytes()))).unwrap();
        let mut writer = Box::new(CsvWriter::new(Vec::new(), reader.schema()).unwrap());
        while let Some(batch) = reader.next_batch().unwrap() {
            writer.write(&Rows(batch)).unwrap();
        }
        assert_eq!(String::from_utf8(writer.finish().unwrap()).unwrap(), text);
    }
}
