//! Tables in files: reading an export in batches, writing an output in batches.
//!
//! It owns the formats (one file each beneath it), which columns a table must have, and how their
//! text is reached whatever type it arrives in. It knows nothing of envelopes and keys. A batch
//! is an Arrow record batch of at most [`BATCH_ROWS`] rows and about [`BATCH_BYTES`] bytes (one
//! row of up to [`ROW_BYTES_MAX`] is always let through), so memory follows the batch and not the
//! file.
//!
//! What a foreign file makes a reader hold beyond that is bounded too. An Arrow record batch is
//! decoded whole (512 MiB at the most), and so are the Parquet pages from which a batch is made
//! (1 GiB), by what is there and by what is declared, decompressed; more is refused before it is
//! allocated. (Whoever keeps several batches keeps as many of the largest rows: a re-wrap 32 MiB of
//! them, see [`crate::parallel`].) `tests/bounds.rs` holds files that lie about their lengths, and
//! the largest that do not, to 2 GiB of address space, with any number of threads.

mod arrow;
mod build;
mod csv;
mod decoder;
mod digest;
mod format;
mod layout;
mod leftovers;
mod memory;
mod parquet;
#[cfg(test)]
mod round;
mod slices;
mod source;
mod spelling;
mod standing_alone;
mod types;
mod unique;

pub use build::{TextBuilder, plain_text_type};
pub use decoder::guarded_rows;
pub use digest::{Hashed, RunningDigest};
pub use format::{
    Compression, Format, Input, OpenOptions, create, interruptible, open, open_interruptible, standard_input,
};
pub use layout::{Layout, Text, Texts};
pub use memory::MemoryFile;
pub use slices::bytes_of_batch;
#[cfg(feature = "rewrap")]
pub(crate) use spelling::spell;
pub use types::without_dictionaries;
pub use unique::UniqueIds;

use crate::row::Sha256Digest;
use ::arrow::array::RecordBatch;
use ::arrow::datatypes::SchemaRef;
use std::io;

/// Rows of a batch, at the most.
pub const BATCH_ROWS: usize = 512;

/// Bytes after which a batch is closed.
pub const BATCH_BYTES: usize = 1 << 20;

/// Bytes that one row may have: one of 64 MiB goes through, a file that is one endless quoted value
/// does not fill the memory.
pub const ROW_BYTES_MAX: usize = 128 << 20;

/// Columns a table may have; PostgreSQL's own limit is 1,600.
pub const COLUMNS_MAX: usize = 4096;

/// What is known of a table's dictionaries before its first batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dictionaries {
    /// A column has one, the same in every batch, and all together are small enough to be written as
    /// they are.
    Fixed,
    /// Nothing: any batch may have its own.
    Varying,
    /// They have values of rows that are left out, which must not get into what is written, nor may anything
    /// else that a batch has beside its rows.
    OfOtherRows,
}

/// A table that is read once, from its first row to its last.
pub trait TableReader: Send {
    /// The columns, in the file's order.
    fn schema(&self) -> &SchemaRef;

    /// What is known of the dictionaries of its columns.
    fn dictionaries(&self) -> Dictionaries {
        Dictionaries::Varying
    }

    /// The next batch, never empty; `None` at the end of the table.
    fn next_batch(&mut self) -> Result<Option<RecordBatch>, TableError>;

    /// Bytes that came into memory for the batch before and for those that follow it, and stay there
    /// until all of them are gone. Each is told once; 0 where a batch has its memory for itself.
    fn bytes_shared(&mut self) -> usize {
        0
    }

    /// The digest of the file, on its way.
    fn digest(&self) -> &RunningDigest;

    /// Reads what is left of the file and says what the whole of it was. Called after
    /// [`TableReader::next_batch`] has returned `None`.
    fn finish(&mut self) -> Result<FileFacts, TableError>;
}

/// A table that is written once, batch by batch.
///
/// What may be written is a type that vouches for its rows ([`TableRows`]), never a bare record
/// batch: in a re-wrap that is the verified batch, which only the round trip can make.
pub trait TableWriter<W>: Send {
    /// Appends the rows.
    fn write(&mut self, rows: &dyn TableRows) -> Result<(), TableError>;

    /// Writes the format's end and gives the file back.
    fn finish(self: Box<Self>) -> Result<W, TableError>;
}

/// Rows that some module vouches for: those that came through the round trip, those that were
/// generated, those that were read from the database.
pub trait TableRows {
    /// The rows, in the columns of the writer's schema.
    fn records(&self) -> &RecordBatch;
}

/// Length and digest of a file's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileFacts {
    /// Length in bytes.
    pub bytes: u64,
    /// SHA-256 of all of them.
    pub sha256: Sha256Digest,
}

/// Why a table could not be read or written. Names the place, never a value.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The file's bytes could not be had, or could not be written.
    #[error("{0}")]
    Io(#[source] std::io::Error),
    /// A record is not what its format or its header asks for.
    #[error("line {line}: {what}")]
    Record {
        /// Line of the file at which the record begins, from 1.
        line: u64,
        /// What is wrong with it.
        what: String,
    },
    /// A row is not what a table of this kind must have.
    #[error("row {row}: {what}")]
    Row {
        /// Number of the row, from 1, the header not counted.
        row: u64,
        /// What is wrong with it.
        what: String,
    },
    /// The table as a whole: its columns, its format.
    #[error("{0}")]
    Table(String),
    /// Told to stop by a signal.
    #[error("interrupted")]
    Interrupted,
}

impl From<std::io::Error> for TableError {
    fn from(e: std::io::Error) -> Self {
        if is_interruption(&e) { TableError::Interrupted } else { TableError::Io(e) }
    }
}

/// Whether a read failed because a stop ended its wait ([`standard_input`]).
pub fn is_interruption(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|e| e.is::<format::WaitInterrupted>())
}
