//! Which format a file has, and opening it.

use super::decoder::{guarded_reader, guarded_writer};
use super::memory::{FromStart, MemoryFile};
use super::{Dictionaries, RunningDigest, TableError, TableReader, TableWriter, arrow, csv, parquet};
use crate::stop::Stop;
use ::arrow::datatypes::SchemaRef;
use rustix::fs::{CWD, Mode, OFlags};
use std::fs::{File, Metadata};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// A format of tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Comma-separated values with a header, as `psql \copy … csv header` writes them (RFC 4180,
    /// with `\n` as the line's end).
    Csv,
    /// Apache Parquet.
    Parquet,
    /// An Arrow IPC file (Feather version 2).
    Arrow,
    /// An Arrow IPC stream: what pipes carry.
    Arrows,
}

impl Format {
    /// The format that a file's extension names.
    pub fn of_path(path: &Path) -> Option<Format> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "csv" => Some(Format::Csv),
            "parquet" => Some(Format::Parquet),
            "arrow" | "feather" => Some(Format::Arrow),
            "arrows" => Some(Format::Arrows),
            _ => None,
        }
    }

    /// The name, as flags and manifests spell it.
    pub fn name(self) -> &'static str {
        match self {
            Format::Csv => "csv",
            Format::Parquet => "parquet",
            Format::Arrow => "arrow",
            Format::Arrows => "arrows",
        }
    }

    /// Whether a file of this format can be read from its first byte to its last, as a pipe is.
    /// The others have their directory at the end.
    fn streams(self) -> bool {
        matches!(self, Format::Csv | Format::Arrows)
    }
}

/// Where a table comes from.
#[derive(Debug, Clone)]
pub enum Input {
    /// A file.
    File(PathBuf),
    /// Standard input.
    Stdin,
    /// Memory.
    Memory(MemoryFile),
}

impl Input {
    /// Reads an argument: `-` is standard input.
    pub fn from_argument(argument: &Path) -> Input {
        if argument.as_os_str() == "-" { Input::Stdin } else { Input::File(argument.to_owned()) }
    }

    /// The name for a message or a manifest: the path as it was given, `-`, or what memory is called.
    pub fn name(&self) -> String {
        match self {
            Input::File(path) => path.display().to_string(),
            Input::Stdin => "-".into(),
            Input::Memory(memory) => memory.name().to_owned(),
        }
    }

    /// The path, if it is a file.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Input::File(path) => Some(path),
            Input::Stdin | Input::Memory(_) => None,
        }
    }

    /// Whether opening it a second time gives the same bytes: a regular file or memory, no pipe.
    pub fn can_be_read_again(&self) -> bool {
        match self {
            Input::File(path) => path.metadata().is_ok_and(|m| m.is_file()),
            Input::Stdin => false,
            Input::Memory(_) => true,
        }
    }

    /// The format: the one given, else the one the extension names.
    pub fn format(&self, given: Option<Format>) -> Option<Format> {
        given.or_else(|| self.path().and_then(Format::of_path))
    }
}

/// How to open a table for reading.
#[derive(Debug, Clone, Default)]
pub struct OpenOptions {
    /// The format; otherwise the extension's.
    pub format: Option<Format>,
    /// Ends a wait for standard input.
    pub stop: Stop,
    /// Whether the file's digest is not wanted: it is read for something else.
    pub unhashed: bool,
}

/// Opens a table for reading. Of the file, only its header is read here.
pub fn open(input: &Input, options: &OpenOptions) -> Result<Box<dyn TableReader>, TableError> {
    let format = input.format(options.format).ok_or_else(|| {
        TableError::Table("cannot tell the format by the name; say it with --input-format".into())
    })?;
    let (file, regular) = match input {
        Input::Stdin => (rustix::io::dup(rustix::stdio::stdin()).map_err(io::Error::from)?.into(), false),
        Input::File(path) => open_file(path)?,
        Input::Memory(memory) => (memory.descriptor()?, true),
    };
    if !format.streams() && !regular {
        return Err(TableError::Table(format!(
            "{} cannot be read from a pipe: its directory stands at its end. \
             Name a regular file, or pass an Arrow stream (--input-format arrows)",
            if format == Format::Parquet { "a Parquet file" } else { "an Arrow file" }
        )));
    }
    let bytes = |file| -> Box<dyn Read + Send> {
        match input {
            Input::Memory(_) => Box::new(FromStart::new(file)),
            _ if regular => Box::new(file),
            _ => Box::new(Waiting { file, stop: options.stop.clone() }),
        }
    };
    let digest = if options.unhashed { RunningDigest::unwanted() } else { RunningDigest::default() };
    match format {
        Format::Csv => guarded_reader("CSV file", || csv::CsvReader::new(bytes(file), digest)),
        Format::Arrows => {
            guarded_reader("Arrow stream", || arrow::ArrowStreamReader::new(bytes(file), digest))
        }
        Format::Arrow => guarded_reader("Arrow file", || arrow::ArrowFileReader::new(file, digest)),
        Format::Parquet => guarded_reader("Parquet file", || parquet::ParquetReader::new(file, digest)),
    }
}

/// Opens an input by its name; says whether it is a regular file.
fn open_file(path: &Path) -> Result<(File, bool), TableError> {
    let (file, metadata) = open_unblocked(path)?;
    if metadata.is_dir() {
        return Err(io::Error::from(io::ErrorKind::IsADirectory).into());
    }
    Ok((file, metadata.is_file()))
}

/// A FIFO that nobody writes to would hold an open without NONBLOCK, deaf to signals; [`Waiting`]
/// waits for its bytes. A regular file takes no notice of the flag.
fn open_unblocked(path: &Path) -> io::Result<(File, Metadata)> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::openat(CWD, path, flags, Mode::empty())?);
    let metadata = file.metadata()?;
    Ok((file, metadata))
}

/// Opens a file that is no table (keys, organizations) by its name, with what the system says of it.
/// It may be a pipe, such as a shell's `<(…)`: a wait for it ends when a stop is asked for.
pub fn open_interruptible(path: &Path, stop: &Stop) -> io::Result<(Box<dyn Read + Send>, Metadata)> {
    let (file, metadata) = open_unblocked(path)?;
    // (Reading a folder is an error of its own.)
    let waits = !metadata.is_file() && !metadata.is_dir();
    Ok((if waits { Box::new(interruptible(file, stop)) } else { Box::new(file) }, metadata))
}

/// How an output's bytes are compressed, where its format can do that.
///
/// Ciphertext in base64 of decimal numbers has half of its bits to spare. A row of 3,369 bytes
/// takes, in Parquet, 1,769 bytes and 12 us with snappy, 1,217 and 15 us with zstd, 1,803 and 17 us
/// with lz4, and 3 us with none. Snappy is what most writers of Parquet use unasked; zstd is for
/// small media across the air gap. Arrow and CSV, which are for pipes and for speed, are plain
/// unless told otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Compression {
    /// The format's usual way: snappy in Parquet, none in Arrow and CSV.
    #[default]
    Usual,
    /// No compression.
    None,
    /// Snappy (Parquet).
    Snappy,
    /// LZ4 (Parquet, Arrow).
    Lz4,
    /// Zstandard, level 1 (Parquet, Arrow).
    Zstd,
}

/// Begins a table: writes its header to `to`.
///
/// A column that the format cannot hold, or a compression that it does not have, is refused here.
/// `dictionaries` is what is known of those of the batches to come: an Arrow file keeps a column's
/// dictionary only if it is fixed.
pub fn create<W: Write + Send + 'static>(
    to: W,
    format: Format,
    compression: Compression,
    schema: &SchemaRef,
    dictionaries: Dictionaries,
) -> Result<Box<dyn TableWriter<W>>, TableError> {
    let name = format.name();
    match format {
        Format::Csv => {
            if !matches!(compression, Compression::Usual | Compression::None) {
                return Err(TableError::Table("CSV has no compression".into()));
            }
            guarded_writer(name, || csv::CsvWriter::new(to, schema))
        }
        Format::Parquet => {
            guarded_writer(name, || parquet::ParquetWriter::new(to, schema, parquet::codec(compression)))
        }
        Format::Arrow => {
            let begin = || arrow::ArrowWriter::file(to, schema, dictionaries, arrow::codec(compression)?);
            guarded_writer(name, begin)
        }
        Format::Arrows => {
            let begin = || arrow::ArrowWriter::stream(to, schema, dictionaries, arrow::codec(compression)?);
            guarded_writer(name, begin)
        }
    }
}

/// Standard input, for whatever is read from it: a table, keys, organizations. A wait for it ends
/// when a stop is asked for.
pub fn standard_input(stop: &Stop) -> io::Result<impl Read + Send + use<>> {
    Ok(interruptible(rustix::io::dup(rustix::stdio::stdin())?.into(), stop))
}

/// A pipe or a terminal: a wait for it ends when a stop is asked for.
pub fn interruptible(file: File, stop: &Stop) -> impl Read + Send + use<> {
    Waiting { file, stop: stop.clone() }
}

/// A pipe that can be interrupted while it waits: the signal only sets a flag, and a plain `read`
/// would go on waiting for bytes that may never come.
struct Waiting {
    file: File,
    stop: Stop,
}

/// The wait was ended by a signal. It travels as an `io::Error` and becomes
/// [`TableError::Interrupted`].
#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
pub(super) struct WaitInterrupted;

impl Read for Waiting {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        loop {
            if self.stop.is_requested() {
                // Not ErrorKind::Interrupted: readers take that as "try again".
                return Err(io::Error::other(WaitInterrupted));
            }
            let mut fds = [PollFd::new(&self.file, PollFlags::IN)];
            let tick = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
            match poll(&mut fds, Some(&tick)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => continue,
                Ok(_) => match rustix::io::read(&self.file, &mut *buf) {
                    Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => continue,
                    read => return Ok(read?),
                },
                Err(e) => return Err(e.into()),
            }
        }
    }
}
