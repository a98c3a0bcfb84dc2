//! CSV: with a header, as `psql \copy (select …) to … csv header` writes it.
//!
//! An empty value, quoted or not, reads as null and is written unquoted. All columns are read as
//! text; a column of another type is written as [`super::spelling`] has it.
//!
//! The grammar is that of the `csv` crate, which a property test holds this to: a quote opens a
//! quoted value only at its beginning, lines end in `\n`, `\r` or both, empty lines are passed
//! over. What that crate lets pass is refused: a record with more or fewer values than the header,
//! a quoted value that the file's end cuts short, a value that is not UTF-8. It is not used for
//! the work itself since it looks at one byte at a time, and a row has three kilobytes in which
//! there is nothing to find: searching with `memchr` was more than twice as fast in reading, and not
//! quite twice in writing, when both were measured side by side (benches/stages.rs measures this one).

use super::digest::RunningDigest;
use super::layout::is_text;
use super::spelling::{has_spelling, spell};
use super::types::kind;
use super::{
    BATCH_BYTES, BATCH_ROWS, COLUMNS_MAX, FileFacts, ROW_BYTES_MAX, TableError, TableReader, TableRows,
    TableWriter, Text,
};
use crate::row::printable;
use ::arrow::array::{ArrayRef, RecordBatch, StringBuilder};
use ::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use bytes::Bytes;
use memchr::{memchr, memchr_iter, memchr3};
use std::io::{self, Read, Write};
use std::ops::Range;
use std::sync::Arc;

/// Bytes read at a time.
const BLOCK: usize = 1 << 18;

/// Reads a CSV table.
pub(super) struct CsvReader {
    records: Records,
    schema: SchemaRef,
    /// Bytes that each column had in the batch before: about what the next one will need.
    sizes: Vec<usize>,
    ended: bool,
}

impl CsvReader {
    pub(super) fn new(bytes: Box<dyn Read + Send>, digest: RunningDigest) -> Result<Self, TableError> {
        let mut records = Records::new(bytes, digest);
        if !records.next()? {
            return Err(TableError::Table("the file is empty: not even a header is there".into()));
        }
        let width = records.found;
        if width > COLUMNS_MAX {
            return Err(TableError::Table(format!(
                "the header has {width} columns; more than {COLUMNS_MAX} are not read"
            )));
        }
        let mut columns = Vec::with_capacity(width);
        for i in 0..width {
            let name = records.text(i, |i| format!("column {}", i + 1))?;
            columns.push(Field::new(name, DataType::Utf8, true));
        }
        Ok(CsvReader { records, schema: Arc::new(Schema::new(columns)), sizes: vec![0; width], ended: false })
    }
}

impl TableReader for CsvReader {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn next_batch(&mut self) -> Result<Option<RecordBatch>, TableError> {
        let width = self.schema.fields().len();
        let builder = |size: &usize| StringBuilder::with_capacity(BATCH_ROWS, (*size).min(BATCH_BYTES * 2));
        let mut columns: Vec<StringBuilder> = self.sizes.iter().map(builder).collect();
        let (mut rows, mut bytes) = (0, 0);
        while !self.ended && rows < BATCH_ROWS && bytes < BATCH_BYTES {
            if !self.records.next()? {
                self.ended = true;
                break;
            }
            let found = self.records.found;
            if found != width {
                return Err(TableError::Record {
                    line: self.records.line,
                    what: format!("the record has {found} values, the header {width}"),
                });
            }
            for (i, column) in columns.iter_mut().enumerate() {
                match self.records.text(i, |i| printable(self.schema.field(i).name()))? {
                    "" => column.append_null(),
                    text => column.append_value(text),
                }
            }
            bytes += self.records.length();
            rows += 1;
        }
        if rows == 0 {
            return Ok(None);
        }
        for (size, column) in self.sizes.iter_mut().zip(&columns) {
            *size = column.values_slice().len() * 9 / 8;
        }
        let arrays = columns.iter_mut().map(|c| Arc::new(c.finish()) as ArrayRef).collect();
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), arrays);
        Ok(Some(batch.map_err(|e| TableError::Table(e.to_string()))?))
    }

    fn digest(&self) -> &RunningDigest {
        &self.records.digest
    }

    fn finish(&mut self) -> Result<FileFacts, TableError> {
        self.records.finish()
    }
}

/// The file, cut in records.
struct Records {
    input: Box<dyn Read + Send>,
    /// Takes what the buffer is done with.
    digest: RunningDigest,
    /// Bytes of the file: what was read and not yet queued for the digest, the present record, and
    /// what was read beyond it.
    buffer: Vec<u8>,
    /// The present record, with the byte that ends it.
    record: Range<usize>,
    /// Line of the file at which the present record begins, from 1.
    line: u64,
    /// Its first values: no more than a table may have columns, and one.
    values: Vec<Value>,
    /// How many values it has.
    found: usize,
    /// The text of values that had quotes within their quotes.
    unescaped: Vec<u8>,
    begun: bool,
    /// The last read filled the room that it was given.
    filled: bool,
    at_end: bool,
}

/// Where a value of the present record is.
enum Value {
    /// As it stands, at this place of the record.
    Plain(Range<usize>),
    /// At this place of [`Records::unescaped`].
    Unescaped(Range<usize>),
}

/// What a place in a record belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// The beginning of a value.
    Begin,
    /// A value without quotes, or what follows a closing quote.
    Bare,
    /// A quoted value.
    Quoted,
    /// A quote in a quoted value: its end, or the first of two that stand for one.
    Quote,
}

impl Records {
    fn new(input: Box<dyn Read + Send>, digest: RunningDigest) -> Self {
        Records {
            input,
            digest,
            buffer: Vec::new(),
            record: 0..0,
            line: 1,
            values: vec![],
            found: 0,
            unescaped: vec![],
            begun: false,
            filled: false,
            at_end: false,
        }
    }

    /// Bytes of the present record.
    fn length(&self) -> usize {
        self.record.len()
    }

    /// Reads on; false at the file's end. What is before the present record is dropped.
    fn read_more(&mut self) -> Result<bool, TableError> {
        if self.at_end {
            return Ok(false);
        }
        let held = self.buffer.len() - self.record.start;
        if held > ROW_BYTES_MAX {
            return Err(TableError::Record {
                line: self.line,
                what: format!("the record is longer than {ROW_BYTES_MAX} bytes"),
            });
        }
        // In a record of megabytes, more at a time; but not from a pipe, which gives little at a time:
        // room for half a record would be made, and wiped, for every few kilobytes of it.
        let room = if self.filled { BLOCK.max(held / 2) } else { BLOCK };
        self.let_go(room);
        self.buffer.resize(held + room, 0);
        let read = loop {
            match self.input.read(&mut self.buffer[held..]) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                read => break read,
            }
        };
        let n = *read.as_ref().unwrap_or(&0);
        self.filled = n == room;
        self.buffer.truncate(held + n);
        self.at_end = read? == 0;
        Ok(!self.at_end)
    }

    /// Queues what is before the present record for the digest, and makes room behind what is kept.
    fn let_go(&mut self, room: usize) {
        let done = self.record.start;
        self.record = 0..self.record.len();
        let held = self.buffer.len() - done;
        if done >= BLOCK / 2 && done >= held {
            // The block itself goes; the little that is kept of it is copied.
            let mut kept = Vec::with_capacity(held + room);
            kept.extend_from_slice(&self.buffer[done..]);
            let block = std::mem::replace(&mut self.buffer, kept);
            self.digest.push(Bytes::from(block).slice(..done));
        } else if done > 0 {
            // A block that waits for so little would take many times its bytes.
            self.digest.push(Bytes::copy_from_slice(&self.buffer[..done]));
            self.buffer.drain(..done);
        }
    }

    /// The digest of the whole file, of which nothing is left to read.
    fn finish(&mut self) -> Result<FileFacts, TableError> {
        self.record = self.buffer.len()..self.buffer.len();
        self.let_go(0);
        self.digest.finish()
    }

    /// Goes to the next record; false at the end of the file.
    fn next(&mut self) -> Result<bool, TableError> {
        self.line += memchr_iter(b'\n', &self.buffer[self.record.clone()]).count() as u64;
        self.record = self.record.end..self.record.end;
        self.values.clear();
        self.found = 0;
        self.unescaped.clear();
        if !std::mem::replace(&mut self.begun, true) {
            while self.buffer.len() < 3 && self.read_more()? {}
            if self.buffer.starts_with(b"\xef\xbb\xbf") {
                self.record = 3..3; // a byte order mark
            }
        }
        // Empty lines, and the second byte of the line's end before.
        loop {
            match self.buffer.get(self.record.start).copied() {
                Some(b'\n') => self.line += 1,
                Some(b'\r') => {}
                Some(_) => break,
                None if self.read_more()? => continue,
                None => return Ok(false),
            }
            self.record = self.record.start + 1..self.record.start + 1;
        }
        self.cut()?;
        Ok(true)
    }

    /// Cuts the record that begins at `record.start` in values, and finds its end.
    ///
    /// All places are counted from the record's beginning, which moves when more is read.
    fn cut(&mut self) -> Result<(), TableError> {
        let mut place = Place::Begin;
        let (mut begin, mut at, mut quotes) = (0, 0, 0);
        loop {
            let rest = &self.buffer[self.record.start + at..];
            let found = match place {
                Place::Begin | Place::Quote => (!rest.is_empty()).then_some(0),
                Place::Bare => memchr3(b',', b'\n', b'\r', rest),
                Place::Quoted => memchr(b'"', rest),
            };
            let byte = found.map(|n| rest[n]);
            at += found.unwrap_or(rest.len());
            let Some(byte) = byte else {
                // The record is known to reach this far: what is read keeps all of it.
                self.record.end = self.record.start + at;
                if self.read_more()? {
                    continue;
                }
                if place == Place::Quoted {
                    return Err(TableError::Record {
                        line: self.line,
                        what: "a quote is opened here and never closed: the file is cut short".into(),
                    });
                }
                self.value(begin..at, quotes, place);
                return Ok(());
            };
            match (place, byte) {
                (Place::Begin, b'"') => (place, quotes) = (Place::Quoted, 1),
                (Place::Quoted, _) => (place, quotes) = (Place::Quote, quotes + 1),
                (Place::Quote, b'"') => (place, quotes) = (Place::Quoted, quotes + 1),
                (_, b',') => {
                    self.value(begin..at, quotes, place);
                    (place, begin, quotes) = (Place::Begin, at + 1, 0);
                }
                (_, b'\n' | b'\r') => {
                    self.value(begin..at, quotes, place);
                    self.record.end = self.record.start + at + 1;
                    return Ok(());
                }
                _ => place = Place::Bare,
            }
            at += 1;
        }
    }

    /// Notes a value, given with its quotes: how many were met in their function, and whether the
    /// value ended with one.
    fn value(&mut self, range: Range<usize>, quotes: usize, end: Place) {
        self.found += 1;
        if self.found > COLUMNS_MAX + 1 {
            // Too many already: a line of commas would take many times its size to note them all.
            return;
        }
        if quotes == 0 {
            self.values.push(Value::Plain(range));
        } else if quotes == 2 && end == Place::Quote {
            self.values.push(Value::Plain(range.start + 1..range.end - 1));
        } else {
            let begin = self.unescaped.len();
            unescape(&self.buffer[self.record.start..][range][1..], &mut self.unescaped);
            self.values.push(Value::Unescaped(begin..self.unescaped.len()));
        }
    }

    /// A value of the present record; `name` says which, should it not be text.
    fn text(&self, i: usize, name: impl Fn(usize) -> String) -> Result<&str, TableError> {
        let bytes = match &self.values[i] {
            Value::Plain(place) => &self.buffer[self.record.start..][place.clone()],
            Value::Unescaped(place) => &self.unescaped[place.clone()],
        };
        std::str::from_utf8(bytes).map_err(|_| TableError::Record {
            line: self.line,
            what: format!("the value in {} is not UTF-8", name(i)),
        })
    }
}

/// A quoted value without its first quote: two quotes stand for one, one closes, and what follows
/// then is taken as it is.
fn unescape(mut text: &[u8], to: &mut Vec<u8>) {
    while let Some(quote) = memchr(b'"', text) {
        to.extend_from_slice(&text[..quote]);
        text = &text[quote + 1..];
        if text.first() != Some(&b'"') {
            break;
        }
        to.push(b'"');
        text = &text[1..];
    }
    to.extend_from_slice(text);
}

/// Writes a CSV table, in many small writes: `W` gathers them.
pub(super) struct CsvWriter<W: Write> {
    to: W,
}

impl<W: Write> CsvWriter<W> {
    pub(super) fn new(mut to: W, schema: &Schema) -> Result<Self, TableError> {
        for column in schema.fields() {
            if !is_text(column.data_type()) && !has_spelling(column.data_type()) {
                return Err(TableError::Table(format!(
                    "CSV cannot hold the column {}, which is {}",
                    printable(column.name()),
                    kind(column.data_type())
                )));
            }
        }
        write_record(&mut to, schema.fields().iter().map(|f| (f.name().as_str(), false)))?;
        Ok(CsvWriter { to })
    }
}

/// Writes a record of values, each with whether it is known to need no quotes. A line that is empty
/// would be passed over, so the only value of a record is quoted when it is empty.
fn write_record<'a>(to: &mut impl Write, values: impl Iterator<Item = (&'a str, bool)>) -> io::Result<()> {
    let (mut count, mut empty) = (0, true);
    for (value, bare) in values {
        if count > 0 {
            to.write_all(b",")?;
        }
        if bare {
            to.write_all(value.as_bytes())?;
        } else {
            write_value(to, value.as_bytes())?;
        }
        count += 1;
        empty &= value.is_empty();
    }
    to.write_all(if count == 1 && empty { b"\"\"\n" } else { b"\n" })
}

/// Whether none of a column's values needs quotes, where all of them can be looked through at once,
/// which is faster than one by one.
fn is_bare(text: &Text<'_>) -> bool {
    match text {
        Text::Utf8(array) => {
            let places = array.value_offsets();
            let all = places[0] as usize..places[places.len() - 1] as usize;
            !needs_quotes(&array.value_data()[all])
        }
        _ => false,
    }
}

fn needs_quotes(bytes: &[u8]) -> bool {
    memchr3(b'"', b',', b'\n', bytes).is_some() || memchr(b'\r', bytes).is_some()
}

fn write_value(to: &mut impl Write, mut value: &[u8]) -> io::Result<()> {
    if !needs_quotes(value) {
        return to.write_all(value);
    }
    to.write_all(b"\"")?;
    while let Some(quote) = memchr(b'"', value) {
        to.write_all(&value[..=quote])?;
        to.write_all(b"\"")?;
        value = &value[quote + 1..];
    }
    to.write_all(value)?;
    to.write_all(b"\"")
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
        let columns: Vec<_> = columns.iter().map(|text| (text, is_bare(text))).collect();
        for row in 0..batch.num_rows() {
            let values = columns.iter().map(|(text, bare)| (text.get(row).unwrap_or_default(), *bare));
            write_record(&mut self.to, values)?;
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<W, TableError> {
        Ok(self.to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::Sha256Digest;
    use proptest::prelude::*;

    fn read(bytes: &[u8]) -> Result<Vec<Vec<Option<String>>>, TableError> {
        let mut reader = CsvReader::new(Box::new(io::Cursor::new(bytes.to_vec())), RunningDigest::default())?;
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
            let mut reader =
                CsvReader::new(Box::new(io::Cursor::new(text.into_bytes())), RunningDigest::default())
                    .unwrap();
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
        let mut reader =
            CsvReader::new(Box::new(io::Cursor::new(text.as_bytes())), RunningDigest::default()).unwrap();
        let mut writer = Box::new(CsvWriter::new(Vec::new(), reader.schema()).unwrap());
        while let Some(batch) = reader.next_batch().unwrap() {
            writer.write(&Rows(batch)).unwrap();
        }
        assert_eq!(String::from_utf8(writer.finish().unwrap()).unwrap(), text);
    }

    /// Gives out a few bytes at a time, so that everything is cut everywhere.
    struct Dripping(Vec<u8>, usize);
    impl Read for Dripping {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            let n = self.1.min(self.0.len()).min(buf.len());
            buf[..n].copy_from_slice(&self.0[..n]);
            self.0.drain(..n);
            Ok(n)
        }
    }

    /// All records, or the refusal of a quote that is never closed.
    fn ours(text: &[u8], drip: usize) -> Result<Vec<Vec<Vec<u8>>>, String> {
        let mut records = Records::new(Box::new(Dripping(text.to_vec(), drip)), RunningDigest::default());
        let mut out = vec![];
        while records.next().map_err(|e| e.to_string())? {
            let value = |v: &Value| match v {
                Value::Plain(place) => records.buffer[records.record.start..][place.clone()].to_vec(),
                Value::Unescaped(place) => records.unescaped[place.clone()].to_vec(),
            };
            out.push(records.values.iter().map(value).collect());
        }
        Ok(out)
    }

    /// The same by the `csv` crate, which ends an open quote with the file: a line of its own
    /// behind the text shows whether it was swallowed.
    fn theirs(text: &[u8]) -> Option<Vec<Vec<Vec<u8>>>> {
        let marked = [text, b"\nTHE END\n"].concat();
        let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(&marked[..]);
        let records = reader.byte_records().map(|r| r.unwrap().iter().map(<[u8]>::to_vec).collect());
        let mut records: Vec<Vec<Vec<u8>>> = records.collect();
        (records.pop()? == [b"THE END".to_vec()]).then_some(records)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, ..Default::default() })]

        #[test]
        fn records_are_those_of_the_csv_crate(text in "[ab,\"\n\r\u{e9}]{0,40}", drip in 1..9usize) {
            match theirs(text.as_bytes()) {
                Some(records) => prop_assert_eq!(ours(text.as_bytes(), drip), Ok(records)),
                None => prop_assert!(ours(text.as_bytes(), drip).unwrap_err().contains("never closed")),
            }
        }

        #[test]
        fn what_is_written_is_what_the_csv_crate_writes(values in prop::collection::vec("[a,\"\n\r ]{0,6}", 1..4)) {
            let mut written = vec![];
            write_record(&mut written, values.iter().map(|v| (v.as_str(), false))).unwrap();
            let mut expected = csv::Writer::from_writer(vec![]);
            expected.write_record(&values).unwrap();
            prop_assert_eq!(written, expected.into_inner().unwrap());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 40, ..Default::default() })]

        /// Over many blocks, of which some go to the digest whole and some are copied.
        #[test]
        fn records_of_any_size_are_those_of_the_csv_crate_and_no_byte_misses_the_digest(
            parts in prop::collection::vec(("[ab,\"\n]{0,12}", prop_oneof![Just(0), 1..9usize, 1..BLOCK]), 1..40),
            drip in prop_oneof![Just(usize::MAX), 1_000..2 * BLOCK],
        ) {
            let text: String = parts.iter().map(|(text, filler)| text.clone() + &"x".repeat(*filler)).collect();
            let Some(records) = theirs(text.as_bytes()) else { return Ok(()) };
            let digest = RunningDigest::default();
            let mut ours = Records::new(Box::new(Dripping(text.clone().into_bytes(), drip)), digest);
            let mut count = 0;
            while ours.next().unwrap() {
                let values = ours.values.iter().map(|value| match value {
                    Value::Plain(place) => &ours.buffer[ours.record.start..][place.clone()],
                    Value::Unescaped(place) => &ours.unescaped[place.clone()],
                });
                prop_assert!(values.eq(records[count].iter().map(Vec::as_slice)), "record {}", count);
                count += 1;
            }
            prop_assert_eq!(count, records.len());
            let sha256 = Sha256Digest::of(text.as_bytes());
            prop_assert_eq!(ours.finish().unwrap(), FileFacts { bytes: text.len() as u64, sha256 });
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 500, ..Default::default() })]

        /// Columns without anything to quote are written another way, and so is each text type.
        #[test]
        fn tables_are_written_as_the_csv_crate_writes_them(
            rows in prop::collection::vec(("[ab]{0,3}", "[a,\"\n\r ]{0,3}"), 1..12),
            text_type in prop::sample::select(vec![DataType::Utf8, DataType::LargeUtf8, DataType::Utf8View]),
            skip in any::<prop::sample::Index>(),
        ) {
            let texts: [Vec<&str>; 2] = [
                rows.iter().map(|row| row.0.as_str()).collect(),
                rows.iter().map(|row| row.1.as_str()).collect(),
            ];
            let schema = ["bare", "any"].map(|name| Field::new(name, text_type.clone(), true));
            let schema = Arc::new(Schema::new(schema.to_vec()));
            let columns = texts.map(|texts| {
                let texts: ArrayRef = Arc::new(::arrow::array::StringArray::from(texts));
                ::arrow::compute::cast(&texts, &text_type).unwrap()
            });
            let batch = RecordBatch::try_new(Arc::clone(&schema), columns.to_vec()).unwrap();
            // What is sliced off is not looked at, and not written.
            let skip = skip.index(rows.len());
            let batch = batch.slice(skip, rows.len() - skip);
            let mut writer = Box::new(CsvWriter::new(vec![], &schema).unwrap());
            writer.write(&Rows(batch)).unwrap();
            let mut expected = csv::Writer::from_writer(vec![]);
            expected.write_record(["bare", "any"]).unwrap();
            for row in &rows[skip..] {
                expected.write_record([&row.0, &row.1]).unwrap();
            }
            let (written, expected) = (writer.finish().unwrap(), expected.into_inner().unwrap());
            prop_assert_eq!(String::from_utf8(written).unwrap(), String::from_utf8(expected).unwrap());
        }
    }

    #[test]
    fn a_record_without_end_does_not_fill_the_memory() {
        struct Endless(u64);
        impl Read for Endless {
            fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
                self.0 += buf.len() as u64;
                assert!(self.0 < 2 * ROW_BYTES_MAX as u64, "it goes on reading");
                buf.fill(b'x');
                Ok(buf.len())
            }
        }
        let reader = CsvReader::new(Box::new(Endless(0)), RunningDigest::default());
        let error = reader.map(drop).unwrap_err().to_string();
        assert_eq!(error, format!("line 1: the record is longer than {ROW_BYTES_MAX} bytes"));
    }
}
