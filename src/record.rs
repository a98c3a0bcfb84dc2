//! The change record: one page for the change ticket that says what was rotated, when, by what, how
//! it ended, and who vouches for it.
//!
//! It owns what the page says; how it looks is `templates/record.html`, which is whole in itself: no
//! script, no network, nothing beside it. It opens no table and no secrets file: it repeats what
//! manifests and import reports say, and where those contradict themselves it says so. Those are
//! hostile input: every text of theirs is escaped by the template and made printable here.

mod import;
mod page;

pub use import::{ImportConflict, ImportResult, ImportResultError};
pub use page::page;

use crate::manifest::Manifest;
use crate::report::SignatureFile;
use crate::row::Sha256Digest;
use crate::signature::{self, PublicKeyId, TrustedKey};
use std::path::Path;

/// What is known of a manifest's signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignatureState {
    /// None stands beside it, and nobody said that one must.
    Unsigned,
    /// One does; nobody said whom to trust.
    NotChecked {
        /// The key that it says it was made with.
        key_id: PublicKeyId,
    },
    /// It holds under the trusted key.
    Good(SignatureFile),
    /// It does not, is missing, or could not be looked at.
    Bad(String),
}

impl SignatureState {
    /// Looks for the signature beside a manifest of these bytes: whether it holds under the trusted key,
    /// or, without one, whose it says it is.
    pub fn of(manifest: &Path, bytes: &[u8], trusted: Option<&TrustedKey>) -> SignatureState {
        let found = match trusted {
            Some(key) => key.check(manifest, bytes).map(SignatureState::Good),
            None => signature::claimed_key(manifest).map(|claimed| {
                claimed.map_or(SignatureState::Unsigned, |key_id| SignatureState::NotChecked { key_id })
            }),
        };
        found.unwrap_or_else(|error| SignatureState::Bad(error.to_string()))
    }

    /// Whether it is bad.
    pub fn is_bad(&self) -> bool {
        matches!(self, SignatureState::Bad(_))
    }
}

/// One re-wrap of a record.
#[derive(Debug, Clone)]
pub struct Rewrap {
    /// What it was read from, as it was given.
    pub file: String,
    /// Its bytes' digest.
    pub sha256: Sha256Digest,
    /// The manifest.
    pub manifest: Manifest,
    /// Who vouches for it.
    pub signature: SignatureState,
    /// The report of its import.
    pub import: Option<ImportResult>,
}

/// Why a manifest is not one to record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{file} is the manifest of an export, and says nothing of a rotation; name the manifest of a re-wrap"
)]
pub struct NotOfARewrap {
    file: String,
}
