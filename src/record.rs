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
use crate::publish;
use crate::row::Sha256Digest;
use std::io::{self, Read as _};
use std::path::Path;

/// Bytes of a signature that are looked at; minisign's own limit is below.
const SIGNATURE_BYTES_MAX: u64 = 64 << 10;

/// What is known of a manifest's signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignatureState {
    /// None stands beside it.
    Unsigned,
    /// One does; nobody said whom to trust.
    NotChecked {
        /// The key that it says it was made with.
        key_id: String,
    },
    /// It holds under the trusted key.
    Good {
        /// The trusted key.
        key_id: String,
        /// What the signer says with it.
        comment: String,
    },
    /// It does not, or could not be looked at.
    Bad(String),
}

impl SignatureState {
    /// Looks for a signature beside a manifest, in the format of minisign, and at whose it says it is.
    /// Whether it holds is not found out here.
    pub fn beside(manifest: &Path) -> SignatureState {
        let mut name = manifest.as_os_str().to_owned();
        name.push(".minisig");
        let mut text = String::new();
        let read = publish::open_regular(Path::new(&name))
            .and_then(|file| file.take(SIGNATURE_BYTES_MAX).read_to_string(&mut text));
        match read {
            Err(error) if error.kind() == io::ErrorKind::NotFound => SignatureState::Unsigned,
            Err(error) => SignatureState::Bad(format!("the signature cannot be read: {error}")),
            Ok(_) => match signing_key_id(&text) {
                Some(key_id) => SignatureState::NotChecked { key_id },
                None => SignatureState::Bad("the signature beside it is not one of minisign".into()),
            },
        }
    }
}

/// The key that a signature says it was made with: its second line is the base64 of an algorithm's
/// two bytes, the key's id in eight, and 64 of signature; minisign prints the id as a little-endian
/// number.
fn signing_key_id(signature: &str) -> Option<String> {
    use base64::Engine as _;
    let line = signature.lines().nth(1)?;
    let bytes = base64::engine::general_purpose::STANDARD.decode(line.trim()).ok()?;
    let bytes: [u8; 74] = bytes.try_into().ok()?;
    let id = bytes[2..10].try_into().expect("they are eight");
    Some(format!("{:016X}", u64::from_le_bytes(id)))
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
