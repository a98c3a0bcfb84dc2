//! What a command found: counters, failures, files. The documents of `--json` and `--report`.
//!
//! It owns the names, which are the ones that the service's online RPC uses; it never holds a
//! value of a row beside its organization id.

use crate::manifest::TableFile;
use crate::row::{KeyId, Sha256Digest};
use crate::signature::PublicKeyId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Failures, findings or conflicts that a report lists; the rest are only counted.
pub const LISTED_MAX: usize = 1000;

/// One field, or one row, that could not be re-wrapped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The organization, made printable where it is not spelled as an id.
    pub organization_id: String,
    /// The column; `organization_id` where it is the row itself.
    pub field: String,
    /// What is wrong, without quoting a value.
    pub error: String,
}

/// A re-wrap's counters. They always add up: `rows_examined = rows_updated +
/// rows_skipped_all_on_target + rows_failed`, and the fields are those of rows that did not fail.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RewrapCounts {
    /// Rows selected.
    pub rows_examined: u64,
    /// Rows with a field that was re-encrypted.
    pub rows_updated: u64,
    /// Rows with nothing to do.
    pub rows_skipped_all_on_target: u64,
    /// Fields sealed under the target key.
    pub fields_reencrypted: u64,
    /// Fields that were there already.
    pub fields_skipped_on_target: u64,
    /// Fields without ciphertext.
    pub fields_absent: u64,
    /// Rows with a field that failed.
    pub rows_failed: u64,
}

impl std::ops::AddAssign<&RewrapCounts> for RewrapCounts {
    fn add_assign(&mut self, other: &RewrapCounts) {
        let RewrapCounts {
            rows_examined,
            rows_updated,
            rows_skipped_all_on_target,
            fields_reencrypted,
            fields_skipped_on_target,
            fields_absent,
            rows_failed,
        } = other;
        // A manifest may say any number: they end at the largest one instead of beginning anew.
        for (sum, part) in [
            (&mut self.rows_examined, rows_examined),
            (&mut self.rows_updated, rows_updated),
            (&mut self.rows_skipped_all_on_target, rows_skipped_all_on_target),
            (&mut self.fields_reencrypted, fields_reencrypted),
            (&mut self.fields_skipped_on_target, fields_skipped_on_target),
            (&mut self.fields_absent, fields_absent),
            (&mut self.rows_failed, rows_failed),
        ] {
            *sum = sum.saturating_add(*part);
        }
    }
}

/// The report of `rekek rewrap`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RewrapReport {
    /// Always `rewrap`.
    pub command: String,
    /// Whether it was a dry run, which writes no output.
    pub dry_run: bool,
    /// The target key.
    pub current_encryption_key_id: KeyId,
    /// The counters.
    #[serde(flatten)]
    pub counts: RewrapCounts,
    /// The first [`LISTED_MAX`] failures, in the order of the rows.
    pub failures: Vec<Failure>,
    /// Whether there were more.
    pub failures_truncated: bool,
    /// Fields of rows that did not fail, by the key that their envelope named in the input.
    pub fields_by_source_key: BTreeMap<String, u64>,
    /// Fields that name a key which is in none of the secrets given, by its id. (They are among the
    /// failures too.)
    #[serde(default)]
    pub missing_keys: BTreeMap<String, u64>,
    /// Signing keys that were opened and had no public value to compare with.
    pub signing_keys_unchecked: u64,
    /// Whether the source digests are the input's own: they were there already, and were kept unseen. An
    /// import believes them.
    #[serde(default)]
    pub source_digests_kept: bool,
    /// What was read.
    pub input: TableFile,
    /// What was written; null where nothing was.
    pub output: Option<TableFile>,
    /// The manifest; left out where none was written, and in the manifest itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<ManifestFile>,
    /// From the first byte read to the last one written.
    pub elapsed_seconds: f64,
    /// `rows_examined` by `elapsed_seconds`.
    pub rows_per_second: f64,
    /// Threads that worked.
    pub threads: usize,
}

/// Where a manifest is, and its own digest: 64 digits that an operator can carry across the gap
/// by hand and give to `import --manifest-sha256`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestFile {
    /// Its path as given.
    pub file: String,
    /// SHA-256 of its bytes.
    pub sha256: Sha256Digest,
    /// Its signature, where this run made one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<SignatureFile>,
}

/// The signature of a manifest: one that was made, or one that was checked and holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignatureFile {
    /// Its path.
    pub file: String,
    /// The key pair, by the id that minisign shows.
    pub public_key_id: PublicKeyId,
    /// What the signer says of it, vouched for by the same key.
    pub trusted_comment: String,
}
