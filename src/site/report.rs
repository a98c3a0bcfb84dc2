//! What each command found: the documents of `--json` and `--report`.

use crate::census::Census;
use crate::manifest::{Snapshot, TableFile};
use crate::report::{LISTED_MAX, ManifestFile, SignatureFile};
use crate::row::{KeyId, OrgId, Sha256Digest};
use serde::{Deserialize, Serialize};

/// The report of `rekek-site export`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExportReport {
    /// Always `export`.
    pub command: String,
    /// Rows written.
    pub rows: u64,
    /// The organizations asked for; null is all.
    pub scope: Option<Vec<OrgId>>,
    /// The file.
    pub output: TableFile,
    /// Its manifest; null where the output went to standard output and no manifest was named.
    pub manifest: Option<ManifestFile>,
    /// The moment of the database that it is.
    pub snapshot: Snapshot,
    /// From connecting to publishing.
    pub elapsed_seconds: f64,
}

/// The report of `rekek-site inspect`; the names are those of `rekek inspect`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InspectReport {
    /// Always `inspect`.
    pub command: String,
    /// The counts.
    #[serde(flatten)]
    pub census: Census,
    /// The moment of the database that was looked at.
    pub snapshot: Snapshot,
    /// From connecting to the last row.
    pub elapsed_seconds: f64,
}

/// The report of `rekek-site init`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InitReport {
    /// Always `init`.
    pub command: String,
    /// Which generation of the tables was made.
    pub generation: u8,
    /// Organizations that were put in.
    pub rows: u64,
    /// Columns of the file that the tables do not have.
    pub columns_ignored: Vec<String>,
    /// From connecting to the commit.
    pub elapsed_seconds: f64,
}

/// Why a row was not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// A field is neither what the export had nor what is to be written: somebody changed it since.
    SourceChanged,
    /// There is no configuration of this organization any more.
    ConfigNotFound,
    /// The organization has no row in `tenants`, or its version there is not spelled `V<n>-T<micros>`.
    VersionUnreadable,
}

impl Reason {
    /// The name, as the report spells it.
    pub fn name(self) -> &'static str {
        match self {
            Reason::SourceChanged => "source_changed",
            Reason::ConfigNotFound => "config_not_found",
            Reason::VersionUnreadable => "version_unreadable",
        }
    }
}

/// A row that was not written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conflict {
    /// The organization.
    pub organization_id: String,
    /// Why.
    pub reason: Reason,
}

/// What became of the rows of an import. They always add up: `rows_examined = rows_updated +
/// rows_already_applied + rows_unchanged + rows_conflicted`.
///
/// Where nothing was committed (a dry run, conflicts under `abort`) `rows_updated` says what would
/// have been. Where batches were committed before one with a conflict, it is what they wrote.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportCounts {
    /// Rows of the file that were come to.
    pub rows_examined: u64,
    /// Rows written.
    pub rows_updated: u64,
    /// Rows that had exactly the new text in every field.
    pub rows_already_applied: u64,
    /// Rows in which the file has no new text.
    pub rows_unchanged: u64,
    /// Rows that were left alone: see the conflicts.
    pub rows_conflicted: u64,
}

impl ImportCounts {
    pub(super) fn add(&mut self, other: &ImportCounts) {
        self.rows_examined += other.rows_examined;
        self.rows_updated += other.rows_updated;
        self.rows_already_applied += other.rows_already_applied;
        self.rows_unchanged += other.rows_unchanged;
        self.rows_conflicted += other.rows_conflicted;
    }
}

/// Conflicts of a run: the first [`LISTED_MAX`] of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Conflicts {
    pub(super) listed: Vec<Conflict>,
    pub(super) truncated: bool,
}

impl Conflicts {
    pub(super) fn push(&mut self, conflict: Conflict) {
        if self.listed.len() < LISTED_MAX {
            self.listed.push(conflict);
        } else {
            self.truncated = true;
        }
    }

    pub(super) fn append(&mut self, other: Conflicts) {
        self.truncated |= other.truncated;
        for conflict in other.listed {
            self.push(conflict);
        }
    }
}

/// Where the time of an import went, in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Phases {
    /// Comparing the file with its manifest.
    pub check: f64,
    /// Into the temporary table.
    pub load: f64,
    /// Locking configuration rows and tenants, and comparing each with what the export had and
    /// what is to be written.
    pub compare: f64,
    /// Both updates.
    pub update: f64,
    /// Reading the digests back.
    pub read_back: f64,
    /// Committing, or rolling back.
    pub commit: f64,
}

/// The report of `rekek-site import`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImportReport {
    /// Always `import`.
    pub command: String,
    /// Whether it was a dry run, which does everything and rolls it back.
    pub dry_run: bool,
    /// The key that every new envelope is under.
    pub target_key_id: KeyId,
    /// The counters.
    #[serde(flatten)]
    pub counts: ImportCounts,
    /// The first [`LISTED_MAX`] conflicts, in the order of the file.
    pub conflicts: Vec<Conflict>,
    /// Whether there were more.
    pub conflicts_truncated: bool,
    /// Whether all that was to be written is.
    pub committed: bool,
    /// Transactions committed that wrote a row or found it written.
    pub batches_committed: u64,
    /// The file.
    pub input: TableFile,
    /// Its manifest.
    pub manifest: ManifestFile,
    /// Rows of the file that could not be re-wrapped when it was made (`rekek rewrap --keep-going`),
    /// as its manifest tells: they are among the unchanged ones, under the keys that they had.
    pub rows_failed_at_rewrap: u64,
    /// Whether the re-wrap took the source digests from its own input and computed none, as its manifest
    /// tells: what the database was compared with is only as good as that input.
    pub source_digests_kept: bool,
    /// The digest that the manifest was compared with, where one was given.
    pub manifest_sha256_checked: Option<Sha256Digest>,
    /// The manifest's signature, which holds under the trusted key, where one was given.
    pub signature_checked: Option<SignatureFile>,
    /// From the first byte read to the answer to the last commit.
    pub elapsed_seconds: f64,
    /// Where that time went.
    pub phases: Phases,
}
