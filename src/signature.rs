//! The signature of a manifest, in the format of minisign: who vouches for it.
//!
//! It owns where a signature stands and whether it holds under a key that the operator trusts. It
//! never sees a secret key and could not make a signature: `signer` does, on the keys' side alone.
//! Its invariant: what it hands on of a signature was vouched for by that signature.
//!
//! What decides is minisign-verify, which minisign's author keeps and which has no dependency.
//! Only the prehashed kind (`ED`) is taken, and never without its trusted comment.

use crate::publish;
use crate::report::SignatureFile;
use crate::row::Sha256Digest;
use base64::Engine as _;
use minisign_verify::{Error, PublicKey, Signature};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Bytes that a signature or a public key may have; minisign's own limit for both comments
/// together is below 10 KiB.
const BYTES_MAX: u64 = 64 << 10;

/// What stands before the digest of the manifest in a trusted comment of ours.
pub(crate) const SHA256_LABEL: &str = "sha256:";

/// The id of a signing key pair: the eight bytes that minisign gives it, as hex digits.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PublicKeyId(String);

impl PublicKeyId {
    /// Of the bytes as they stand in a key and in a signature.
    pub(crate) fn of(bytes: [u8; 8]) -> Self {
        // minisign prints it as a little-endian number, without leading zeros.
        PublicKeyId(format!("{:X}", u64::from_le_bytes(bytes)))
    }

    /// Of the base64 of a public key or a signature, which both begin with an algorithm's two
    /// bytes and the key's id.
    fn of_base64(text: &str) -> Option<Self> {
        let bytes = base64::engine::general_purpose::STANDARD.decode(text.trim()).ok()?;
        Some(Self::of(bytes.get(2..10)?.try_into().ok()?))
    }
}

impl fmt::Display for PublicKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for PublicKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a manifest cannot be trusted. Each says how to go on.
#[derive(Debug, thiserror::Error)]
pub enum SignatureError {
    /// The trusted key's file could not be read.
    #[error(
        "cannot read the trusted key {path}: {source}; it is a minisign public key (RW…) or the file of one",
        path = .path.display()
    )]
    KeyIo {
        /// What was taken for a file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The trusted key's file is none.
    #[error(
        "{path} is not a minisign public key; name the .pub file that `minisign -G` wrote, or give the line in it \
         that begins with RW", path = .path.display()
    )]
    NotAKey {
        /// The file.
        path: PathBuf,
    },
    /// There is no manifest, and so nothing that is signed.
    #[error(
        "there is no manifest of {file}, so nothing that a signature could vouch for: bring its manifest and the \
         manifest's signature over too"
    )]
    NoManifest {
        /// The file.
        file: String,
    },
    /// There is no signature.
    #[error(
        "{manifest} is not signed, {path} is not there: bring it over too, or have the manifest signed \
         (rekek rewrap --sign, or minisign -S)", manifest = .manifest.display(), path = .path.display()
    )]
    Missing {
        /// The manifest.
        manifest: PathBuf,
        /// Where its signature was looked for.
        path: PathBuf,
    },
    /// The signature could not be read.
    #[error("cannot read the signature {path}: {source}", path = .path.display())]
    Io {
        /// The signature.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not a signature.
    #[error("{path} is not a minisign signature; bring it over again", path = .path.display())]
    Format {
        /// The file.
        path: PathBuf,
    },
    /// A signature of the kind before minisign 0.10, which is not prehashed.
    #[error(
        "{path} is a signature of minisign's legacy kind, which is not taken: sign the manifest again, without -l",
        path = .path.display()
    )]
    Legacy {
        /// The signature.
        path: PathBuf,
    },
    /// Somebody else's signature.
    #[error(
        "{manifest} is signed with the key {found}, not with the trusted key {trusted}: find out who signed it, \
         and do not use it before", manifest = .manifest.display()
    )]
    OtherKey {
        /// The manifest.
        manifest: PathBuf,
        /// The key that the signature names.
        found: PublicKeyId,
        /// The key that was trusted.
        trusted: PublicKeyId,
    },
    /// The manifest has another digest than its signature names.
    #[error(
        "{manifest} is not the manifest that was signed: it was altered or exchanged since; do not use it, bring \
         output, manifest and signature over again", manifest = .manifest.display()
    )]
    ManifestAltered {
        /// The manifest.
        manifest: PathBuf,
    },
    /// The signature names the manifest as it is, and does not hold.
    #[error(
        "{path} was altered: the signature or its trusted comment does not hold; do not use the manifest, bring \
         output, manifest and signature over again", path = .path.display()
    )]
    SignatureAltered {
        /// The signature.
        path: PathBuf,
    },
    /// The signature does not hold, and does not say what it is of.
    #[error(
        "{path} does not hold for {manifest}: one of the two was altered; do not use the manifest, bring output, \
         manifest and signature over again", path = .path.display(), manifest = .manifest.display()
    )]
    Altered {
        /// The signature.
        path: PathBuf,
        /// The manifest.
        manifest: PathBuf,
    },
}

/// Where the signature of a manifest stands.
pub fn path_for(manifest: &Path) -> PathBuf {
    let mut name = manifest.as_os_str().to_owned();
    name.push(".minisig");
    name.into()
}

/// The key that the signature beside a manifest says it was made with; none if no signature is there.
/// Whether it holds is not found out: that takes a key to trust ([`TrustedKey::check`]).
pub fn claimed_key(manifest: &Path) -> Result<Option<PublicKeyId>, SignatureError> {
    let path = path_for(manifest);
    match read_beside(manifest, &path) {
        Ok(text) => decode(&text).map(|(_, id)| Some(id)).ok_or(SignatureError::Format { path }),
        Err(SignatureError::Missing { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The signature of a manifest, which stands at `path` or is missing.
fn read_beside(manifest: &Path, path: &Path) -> Result<Vec<u8>, SignatureError> {
    read_small(path).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => {
            SignatureError::Missing { manifest: manifest.into(), path: path.into() }
        }
        _ => SignatureError::Io { path: path.into(), source },
    })
}

/// A public key that the operator trusts.
#[derive(Debug, Clone)]
pub struct TrustedKey {
    key: PublicKey,
    id: PublicKeyId,
}

/// A text that is not the base64 of a minisign public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is not a minisign public key")]
pub struct NotAPublicKey;

impl FromStr for TrustedKey {
    type Err = NotAPublicKey;

    /// The key itself: the second line of its file.
    fn from_str(text: &str) -> Result<Self, NotAPublicKey> {
        let text = text.trim();
        let key = PublicKey::from_base64(text).map_err(|_| NotAPublicKey)?;
        let id = PublicKeyId::of_base64(text).ok_or(NotAPublicKey)?;
        Ok(TrustedKey { key, id })
    }
}

impl TrustedKey {
    /// Reads the file that `minisign -G` writes, or one with nothing but the key.
    pub fn read(path: &Path) -> Result<Self, SignatureError> {
        let bytes = read_small(path).map_err(|source| SignatureError::KeyIo { path: path.into(), source })?;
        let key = std::str::from_utf8(&bytes).ok().and_then(|text| {
            let mut lines = text.lines().filter(|line| !line.trim().is_empty());
            let (first, second) = (lines.next()?, lines.next());
            second.unwrap_or(first).parse().ok()
        });
        key.ok_or_else(|| SignatureError::NotAKey { path: path.into() })
    }

    /// The key's id.
    pub fn id(&self) -> &PublicKeyId {
        &self.id
    }

    /// Looks for the signature of `manifest` beside it, and whether it holds for its bytes. Nothing
    /// of them should be believed before.
    pub fn check(&self, manifest: &Path, bytes: &[u8]) -> Result<SignatureFile, SignatureError> {
        let path = path_for(manifest);
        let text = read_beside(manifest, &path)?;
        let comment = self.check_text(manifest, bytes, &path, &text)?;
        let file = path.display().to_string();
        Ok(SignatureFile { file, public_key_id: self.id.clone(), trusted_comment: comment })
    }

    /// The trusted comment of a signature that holds.
    pub(crate) fn check_text(
        &self,
        manifest: &Path,
        bytes: &[u8],
        path: &Path,
        text: &[u8],
    ) -> Result<String, SignatureError> {
        let (path, manifest) = (path.to_owned(), manifest.to_owned());
        let Some((signature, found)) = decode(text) else { return Err(SignatureError::Format { path }) };
        match self.key.verify(bytes, &signature, false) {
            Ok(()) => Ok(signature.trusted_comment().to_owned()),
            Err(Error::UnexpectedKeyId) => {
                Err(SignatureError::OtherKey { manifest, found, trusted: self.id.clone() })
            }
            Err(Error::UnexpectedAlgorithm) => Err(SignatureError::Legacy { path }),
            // It fails for the manifest and for the comment alike. What the comment says is not to
            // be trusted then, and serves only to tell the operator where to look.
            Err(_) => Err(match named_digest(signature.trusted_comment()) {
                Some(named) if named != Sha256Digest::of(bytes) => {
                    SignatureError::ManifestAltered { manifest }
                }
                Some(_) => SignatureError::SignatureAltered { path },
                None => SignatureError::Altered { path, manifest },
            }),
        }
    }
}

/// A signature, and the id of the key that it says it was made with.
fn decode(text: &[u8]) -> Option<(Signature, PublicKeyId)> {
    let text = std::str::from_utf8(text).ok()?;
    let id = PublicKeyId::of_base64(text.lines().nth(1)?)?;
    Some((Signature::decode(text).ok()?, id))
}

/// The digest of the manifest that a trusted comment of ours names.
fn named_digest(comment: &str) -> Option<Sha256Digest> {
    comment.split('\t').find_map(|part| part.strip_prefix(SHA256_LABEL))?.parse().ok()
}

fn read_small(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    publish::open_regular(path)?.take(BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > BYTES_MAX {
        return Err(std::io::Error::other(format!("it is longer than {BYTES_MAX} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_spelled_as_minisign_spells_it() {
        assert_eq!(
            PublicKeyId::of([0xf4, 0xb0, 0x63, 0x0e, 0x7e, 0x26, 0x01, 0x74]).to_string(),
            "7401267E0E63B0F4"
        );
        assert_eq!(
            PublicKeyId::of([0xe1, 0xe3, 0xb1, 0xab, 0x9c, 0xd9, 0x0e, 0x03]).to_string(),
            "30ED99CABB1E3E1"
        );
    }
}
