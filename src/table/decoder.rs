//! The border to the arrow and parquet crates: what they say becomes a [`TableError`].
//!
//! It owns how their errors and their panics are told. It never lets a panic out, and never
//! passes on more of a message than a line.

use super::TableError;
use ::arrow::error::ArrowError;
use ::parquet::errors::ParquetError;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs a decoder on bytes that nobody vouches for.
///
/// The crates promise errors, not panics, for malformed input, and keep that promise nearly
/// everywhere; fuzzers still find an `unwrap` or an index out of bounds now and then. Such a panic
/// is a malformed file here, nothing more: the decoder's state is never used again after it (every
/// reader stops at its first error), which is what makes `AssertUnwindSafe` true. An allocation
/// that fails aborts and cannot be caught; that is why lengths are checked before they get here.
pub(super) fn guarded<T>(
    format: &str,
    decode: impl FnOnce() -> Result<T, TableError>,
) -> Result<T, TableError> {
    catch_unwind(AssertUnwindSafe(decode)).unwrap_or_else(|_| {
        Err(TableError::Table(format!("the {format} is malformed: its decoder could not go on")))
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

    #[test]
    fn a_panic_becomes_an_error() {
        let result: Result<(), _> = guarded("Parquet file", || panic!("a test's panic, to be caught"));
        assert_eq!(
            result.unwrap_err().to_string(),
            "the Parquet file is malformed: its decoder could not go on"
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
