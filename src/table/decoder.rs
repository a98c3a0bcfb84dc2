//! The border to the arrow and parquet crates: what they say becomes a [`TableError`].
//!
//! It owns how their errors and their panics are told. Every reader and every writer stands behind
//! it ([`GuardedReader`], [`GuardedWriter`]). It never lets a panic out, and never passes on more of
//! a message than a line.

use super::{Dictionaries, FileFacts, RunningDigest, TableError, TableReader, TableRows, TableWriter};
use crate::caught::caught;
use ::arrow::array::RecordBatch;
use ::arrow::datatypes::SchemaRef;
use ::arrow::error::ArrowError;
use ::parquet::errors::ParquetError;
use std::io;

/// Opens a reader of `format`, and guards it from then on.
pub(super) fn guarded_reader<R: TableReader + 'static>(
    format: &'static str,
    open: impl FnOnce() -> Result<R, TableError>,
) -> Result<Box<dyn TableReader>, TableError> {
    let inner: Box<dyn TableReader> = Box::new(caught(open).unwrap_or_else(|| Err(malformed(format)))?);
    let (schema, digest) = (inner.schema().clone(), inner.digest().clone());
    let dictionaries = inner.dictionaries();
    Ok(Box::new(GuardedReader { format, schema, dictionaries, digest, inner: Some(inner) }))
}

fn malformed(format: &str) -> TableError {
    TableError::Table(format!("the {format} is malformed: its decoder could not go on"))
}

/// A reader whose panics are errors.
struct GuardedReader {
    format: &'static str,
    schema: SchemaRef,
    dictionaries: Dictionaries,
    digest: RunningDigest,
    /// Gone once it has panicked.
    inner: Option<Box<dyn TableReader>>,
}

impl GuardedReader {
    fn guarded<T>(
        &mut self,
        read: impl FnOnce(&mut dyn TableReader) -> Result<T, TableError>,
    ) -> Result<T, TableError> {
        let inner = self.inner.as_deref_mut().ok_or_else(|| malformed(self.format))?;
        caught(|| read(inner)).unwrap_or_else(|| {
            self.inner = None;
            Err(malformed(self.format))
        })
    }
}

impl TableReader for GuardedReader {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn dictionaries(&self) -> Dictionaries {
        self.dictionaries
    }

    fn next_batch(&mut self) -> Result<Option<RecordBatch>, TableError> {
        self.guarded(|inner| inner.next_batch())
    }

    fn bytes_shared(&mut self) -> usize {
        self.inner.as_mut().map_or(0, |inner| inner.bytes_shared())
    }

    fn digest(&self) -> &RunningDigest {
        &self.digest
    }

    fn finish(&mut self) -> Result<FileFacts, TableError> {
        self.guarded(|inner| inner.finish())
    }
}

/// Begins a table of `format`, and guards its writer from then on.
pub(super) fn guarded_writer<W: 'static, T: TableWriter<W> + 'static>(
    format: &'static str,
    begin: impl FnOnce() -> Result<T, TableError>,
) -> Result<Box<dyn TableWriter<W>>, TableError> {
    let inner = caught(begin).unwrap_or_else(|| Err(unwritable(format)))?;
    Ok(Box::new(GuardedWriter { format, inner: Some(Box::new(inner)) }))
}

fn unwritable(format: &str) -> TableError {
    TableError::Table(format!("the rows cannot be written as {format}: its encoder could not go on"))
}

/// A writer whose panics are errors: rows of strange types come this far.
struct GuardedWriter<W> {
    format: &'static str,
    /// Gone once it has panicked.
    inner: Option<Box<dyn TableWriter<W>>>,
}

impl<W> TableWriter<W> for GuardedWriter<W> {
    fn write(&mut self, rows: &dyn TableRows) -> Result<(), TableError> {
        let inner = self.inner.as_deref_mut().ok_or_else(|| unwritable(self.format))?;
        caught(|| inner.write(rows)).unwrap_or_else(|| {
            self.inner = None;
            Err(unwritable(self.format))
        })
    }

    fn finish(self: Box<Self>) -> Result<W, TableError> {
        let GuardedWriter { format, inner } = *self;
        let inner = inner.ok_or_else(|| unwritable(format))?;
        caught(|| inner.finish()).unwrap_or_else(|| Err(unwritable(format)))
    }
}

/// Handles rows of a table, of which `first_row` is the first: a panic is an error that names it.
pub fn guarded_rows<T, E: From<TableError>>(
    first_row: u64,
    handle: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    caught(handle).unwrap_or_else(|| {
        let what = "this row, or one of the next, could not be handled".into();
        Err(TableError::Row { row: first_row, what }.into())
    })
}

/// What arrow says of the `place`.
pub(super) fn arrow_error(place: &str, e: ArrowError) -> TableError {
    match e {
        ArrowError::IoError(_, e) => e.into(),
        ArrowError::ExternalError(e) => external(place, e),
        e => TableError::Table(format!("{place}: {}", one_line(&e.to_string()))),
    }
}

/// What parquet says of the `place`.
pub(super) fn parquet_error(place: &str, e: ParquetError) -> TableError {
    match e {
        ParquetError::External(e) => external(place, e),
        e => TableError::Table(format!("{place}: {}", one_line(&e.to_string()))),
    }
}

fn external(place: &str, e: Box<dyn std::error::Error + Send + Sync>) -> TableError {
    match e.downcast::<io::Error>() {
        // What is refused where the decoder reads comes back wrapped in an error of that read.
        Ok(e) if e.get_ref().is_some_and(|e| e.is::<ParquetError>()) => {
            e.into_inner().map_or_else(|| unreachable!("it was just seen"), |e| external(place, e))
        }
        Ok(e) => (*e).into(),
        Err(e) => match e.downcast::<ParquetError>() {
            Ok(e) => parquet_error(place, *e),
            Err(e) => TableError::Table(format!("{place}: {}", one_line(&e.to_string()))),
        },
    }
}

/// The beginning of a message from elsewhere, without control characters.
fn one_line(text: &str) -> String {
    const CHARACTERS: usize = 300;
    let mut out: String = text.chars().take(CHARACTERS).flat_map(char::escape_debug).collect();
    if text.chars().nth(CHARACTERS).is_some() {
        out.push('…');
    }
    out.replace("\\\"", "\"").replace("\\'", "'")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Panics wherever it is told to.
    struct Panics {
        schema: SchemaRef,
        digest: RunningDigest,
        at: &'static str,
    }

    impl Panics {
        fn at(&self, place: &str) {
            assert!(self.at != place, "a test's panic, to be caught");
        }
    }

    impl TableReader for Panics {
        fn schema(&self) -> &SchemaRef {
            &self.schema
        }
        fn next_batch(&mut self) -> Result<Option<RecordBatch>, TableError> {
            self.at("next");
            Ok(None)
        }
        fn digest(&self) -> &RunningDigest {
            &self.digest
        }
        fn finish(&mut self) -> Result<FileFacts, TableError> {
            self.at("finish");
            Err(TableError::Interrupted)
        }
    }

    impl TableRows for Panics {
        fn records(&self) -> &RecordBatch {
            unreachable!("nobody looks at them")
        }
    }

    impl TableWriter<()> for Panics {
        fn write(&mut self, _: &dyn TableRows) -> Result<(), TableError> {
            self.at("write");
            Ok(())
        }
        fn finish(self: Box<Self>) -> Result<(), TableError> {
            self.at("end");
            Ok(())
        }
    }

    fn panics(at: &'static str) -> Result<Panics, TableError> {
        let schema = SchemaRef::new(::arrow::datatypes::Schema::empty());
        let panics = Panics { schema, digest: RunningDigest::default(), at };
        panics.at("begin");
        Ok(panics)
    }

    #[test]
    fn a_panic_of_a_reader_is_an_error_wherever_it_happens_and_the_last() {
        const MALFORMED: &str = "the Parquet file is malformed: its decoder could not go on";
        let open = |at| guarded_reader("Parquet file", || panics(at));
        assert_eq!(open("begin").map(drop).unwrap_err().to_string(), MALFORMED);
        let mut reader = open("next").unwrap();
        assert_eq!(reader.next_batch().unwrap_err().to_string(), MALFORMED);
        assert_eq!(reader.finish().unwrap_err().to_string(), MALFORMED, "it is not used again");
        let mut reader = open("finish").unwrap();
        assert!(reader.next_batch().unwrap().is_none());
        assert_eq!(reader.finish().unwrap_err().to_string(), MALFORMED);
    }

    #[test]
    fn a_panic_of_a_writer_is_an_error_wherever_it_happens_and_the_last() {
        const UNWRITABLE: &str = "the rows cannot be written as parquet: its encoder could not go on";
        let begin = |at| guarded_writer("parquet", || panics(at));
        let rows = panics("nowhere").unwrap();
        assert_eq!(begin("begin").map(drop).unwrap_err().to_string(), UNWRITABLE);
        let mut writer = begin("write").unwrap();
        assert_eq!(writer.write(&rows).unwrap_err().to_string(), UNWRITABLE);
        assert_eq!(writer.finish().unwrap_err().to_string(), UNWRITABLE, "it is not used again");
        let mut writer = begin("end").unwrap();
        writer.write(&rows).unwrap();
        assert_eq!(writer.finish().unwrap_err().to_string(), UNWRITABLE);
    }

    #[test]
    fn a_panic_over_rows_names_the_first_of_them() {
        let result: Result<(), TableError> = guarded_rows(513, || panic!("a test's panic, to be caught"));
        assert_eq!(
            result.unwrap_err().to_string(),
            "row 513: this row, or one of the next, could not be handled"
        );
    }

    #[test]
    fn an_io_error_stays_one() {
        let pipe = || io::Error::from(io::ErrorKind::BrokenPipe);
        for error in [
            arrow_error("x", ArrowError::from(pipe())),
            arrow_error("x", ArrowError::ExternalError(Box::new(ParquetError::from(pipe())))),
            parquet_error("x", ParquetError::from(pipe())),
        ] {
            assert!(matches!(error, TableError::Io(e) if e.kind() == io::ErrorKind::BrokenPipe));
        }
    }

    #[test]
    fn what_others_say_is_one_line() {
        let error =
            arrow_error("batch 3", ArrowError::ParseError(format!("a\n\u{1b}'b'{}", "x".repeat(400))));
        let text = error.to_string();
        assert!(
            text.starts_with("batch 3: Parser error: a\\n\\u{1b}'b'xxx") && text.ends_with("x…"),
            "{text}"
        );
    }
}
