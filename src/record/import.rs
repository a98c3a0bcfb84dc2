//! What an import's report says, as far as a record repeats it.
//!
//! The report is `rekek-site`'s, from the other side of the gap; this side has none of its code and
//! reads the document alone. What a newer one says besides is let be.

use super::Rewrap;
use crate::caught::caught;
use crate::manifest::{Manifest, TableFile};
use crate::publish;
use crate::report::ManifestFile;
use crate::row::Sha256Digest;
use serde::Deserialize;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// Bytes that an import's report may have: it lists a thousand conflicts.
const BYTES_MAX: u64 = 16 << 20;

/// The report of `rekek-site import`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct ImportResult {
    command: String,
    /// Whether everything was rolled back, as asked.
    pub dry_run: bool,
    /// Rows of the file that were come to.
    pub rows_examined: u64,
    /// Rows written.
    pub rows_updated: u64,
    /// Rows that were written before.
    pub rows_already_applied: u64,
    /// Rows without anything new.
    pub rows_unchanged: u64,
    /// Rows that were left alone.
    pub rows_conflicted: u64,
    /// The first conflicts.
    pub conflicts: Vec<ImportConflict>,
    /// Whether there were more.
    pub conflicts_truncated: bool,
    /// Whether all that was to be written is.
    pub committed: bool,
    /// Transactions committed.
    pub batches_committed: u64,
    /// The file that was imported.
    pub input: TableFile,
    /// Its manifest.
    pub manifest: ManifestFile,
    /// The digest that the manifest was compared with, where one was given.
    pub manifest_sha256_checked: Option<Sha256Digest>,
    /// Seconds that it took.
    pub elapsed_seconds: f64,
}

/// A row that an import did not write.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ImportConflict {
    /// The organization.
    pub organization_id: String,
    /// Why.
    pub reason: String,
}

/// Why a file is not an import's report.
#[derive(Debug, thiserror::Error)]
pub enum ImportResultError {
    /// It could not be read.
    #[error("cannot read the import's report {path}: {source}", path = .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is something else.
    #[error(
        "{path} is not the report of an import; name what `rekek-site import --report` wrote", path = .0.display()
    )]
    Format(PathBuf),
}

impl ImportResult {
    /// Reads it.
    pub fn read(path: &Path) -> Result<ImportResult, ImportResultError> {
        let io = |source| ImportResultError::Io { path: path.to_owned(), source };
        let mut bytes = Vec::new();
        publish::open_regular(path).map_err(io)?.take(BYTES_MAX + 1).read_to_end(&mut bytes).map_err(io)?;
        if bytes.len() as u64 > BYTES_MAX {
            return Err(io(std::io::ErrorKind::FileTooLarge.into()));
        }
        let result = caught(|| serde_json::from_slice::<ImportResult>(&bytes)).and_then(Result::ok);
        let result = result.filter(|result| result.command == "import");
        result.ok_or_else(|| ImportResultError::Format(path.to_owned()))
    }

    /// Whether the output that this manifest describes was imported, by its bytes.
    pub fn is_of_bytes(&self, manifest: &Manifest) -> bool {
        self.input.sha256 == manifest.output.sha256
    }

    /// Whether it was imported by the manifest of this digest.
    pub fn is_by_manifest(&self, sha256: Sha256Digest) -> bool {
        self.manifest.sha256 == sha256
    }

    /// Which of the re-wraps this is the import of: by digests, or where none has them by the
    /// output's name, if only one has that name. A record then says that the bytes differ.
    pub fn find(&self, rewraps: &[Rewrap]) -> Option<usize> {
        let only = |is: &dyn Fn(&Rewrap) -> bool| {
            let mut found = rewraps.iter().enumerate().filter(|(_, rewrap)| is(rewrap));
            found.next().filter(|_| found.next().is_none()).map(|(i, _)| i)
        };
        only(&|r| self.is_of_bytes(&r.manifest) && self.is_by_manifest(r.sha256))
            .or_else(|| only(&|r| self.is_by_manifest(r.sha256)))
            .or_else(|| only(&|r| self.is_of_bytes(&r.manifest)))
            .or_else(|| only(&|r| self.input.file == r.manifest.output.file))
    }
}
