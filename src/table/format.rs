//! Which format a file has, and opening it.

use super::{TableError, TableReader, TableWriter, csv};
use crate::stop::Stop;
use arrow::datatypes::SchemaRef;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// A format of tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Comma-separated values with a header, as `psql \copy … csv header` writes them (RFC 4180,
    /// with `\n` as the line's end).
    Csv,
}

impl Format {
    /// The format that a file's extension names.
    pub fn of_path(path: &Path) -> Option<Format> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "csv" => Some(Format::Csv),
            _ => None,
        }
    }

    /// The name, as flags and manifests spell it.
    pub fn name(self) -> &'static str {
        match self {
            Format::Csv => "csv",
        }
    }
}

/// Where a table comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A file.
    File(PathBuf),
    /// Standard input.
    Stdin,
}

impl Input {
    /// Reads an argument: `-` is standard input.
    pub fn from_argument(argument: &Path) -> Input {
        if argument.as_os_str() == "-" { Input::Stdin } else { Input::File(argument.to_owned()) }
    }

    /// The name for a message or a manifest: the path as it was given, or `-`.
    pub fn name(&self) -> String {
        match self {
            Input::File(path) => path.display().to_string(),
            Input::Stdin => "-".into(),
        }
    }

    /// The path, if it is a file.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Input::File(path) => Some(path),
            Input::Stdin => None,
        }
    }

    /// Whether opening it a second time gives the same bytes: a regular file, no pipe.
    pub fn can_be_read_again(&self) -> bool {
        self.path().is_some_and(|path| path.metadata().is_ok_and(|m| m.is_file()))
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
}

/// Opens a table for reading. Of the file, only its header is read here.
pub fn open(input: &Input, options: &OpenOptions) -> Result<Box<dyn TableReader>, TableError> {
    let format = input.format(options.format).ok_or_else(|| {
        TableError::Table("cannot tell the format by the name; say it with --input-format".into())
    })?;
    let bytes: Box<dyn Read + Send> = match input {
        Input::Stdin => Box::new(WaitingStdin { stop: options.stop.clone() }),
        Input::File(path) => {
            let file = File::open(path)?;
            if file.metadata()?.is_dir() {
                return Err(io::Error::from(io::ErrorKind::IsADirectory).into());
            }
            Box::new(file)
        }
    };
    Ok(match format {
        Format::Csv => Box::new(csv::CsvReader::new(bytes)?),
    })
}

/// How an output's bytes are compressed, where its format can do that.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Compression {
    /// The format's usual way.
    #[default]
    Usual,
}

/// Begins a table: writes its header to `to`.
pub fn create<W: Write + Send + 'static>(
    to: W,
    format: Format,
    _compression: Compression,
    schema: &SchemaRef,
) -> Result<Box<dyn TableWriter<W>>, TableError> {
    Ok(match format {
        Format::Csv => Box::new(csv::CsvWriter::new(to, schema)?),
    })
}

/// Standard input that can be interrupted while it waits: the signal only sets a flag, and a
/// plain `read` would go on waiting for bytes that may never come.
struct WaitingStdin {
    stop: Stop,
}

impl Read for WaitingStdin {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let stdin = rustix::stdio::stdin();
        loop {
            if self.stop.is_requested() {
                // Not ErrorKind::Interrupted: readers take that as "try again".
                return Err(io::Error::other("interrupted"));
            }
            let mut fds = [PollFd::new(&stdin, PollFlags::IN)];
            let tick = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
            match poll(&mut fds, Some(&tick)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => continue,
                Ok(_) => return Ok(rustix::io::read(stdin, buf)?),
                Err(e) => return Err(e.into()),
            }
        }
    }
}
