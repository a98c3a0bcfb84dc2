//! The envelope, scheme version 1: one ciphertext as stored in one column.
//!
//! ```text
//!  text ──trim, base64──> JSON ──strict, else tolerant──> key id, nonce, ciphertext ──cipher──> plaintext
//!  text <──────base64──── JSON <───────write──────────── key id, nonce, ciphertext <──cipher── plaintext
//! ```
//!
//! A value is standard base64 (RFC 4648 section 4) of a JSON object (RFC 8259):
//!
//! ```text
//! {"scheme_version":1,"key_id":"kv1","nonce":[12 byte values],"ciphertext":[byte values]}
//! ```
//!
//! It owns the format: which texts are envelopes ([`read`], [`key_id`]), how one is spelled
//! ([`write`]), and how a body is opened and sealed ([`cipher`]). It knows no file, no row and no
//! keyring, and it never puts any part of its input into an error.
//!
//! Three readers agree on every input, and the tests hold them to it. `strict` takes the one
//! spelling that writers of this format produce, at full speed, and refuses to judge anything
//! else. `tolerant` takes every spelling of the same object, and is the judge. [`independent`]
//! is made of other people's parts (serde_json and the base64 crate) and shares nothing with the
//! other two but the error type, so that a mistake of ours cannot hide from it. It alone is there
//! without the feature `rewrap`: it is how `rekek-site` learns which key an envelope names, and
//! nothing that could open one comes with it.
//!
//! The numbers, not the cipher, are what a plain implementation spends its time on. How they are
//! read and written is chosen at run time: [`Tier`].

#[cfg(feature = "rewrap")]
pub mod cipher;
pub mod independent;
#[cfg(feature = "rewrap")]
#[doc(hidden)]
pub mod stages;

#[cfg(feature = "rewrap")]
mod numbers;
#[cfg(feature = "rewrap")]
#[cfg_attr(any(not(target_arch = "x86_64"), feature = "portable"), path = "envelope/no_simd.rs")]
mod simd;
#[cfg(feature = "rewrap")]
mod strict;
#[cfg(feature = "rewrap")]
mod text;
#[cfg(feature = "rewrap")]
mod tier;
#[cfg(feature = "rewrap")]
mod tolerant;

#[cfg(all(test, feature = "rewrap"))]
mod tests;

#[cfg(feature = "rewrap")]
pub use tier::{Tier, TierUnavailable, UnknownTier};

#[cfg(feature = "rewrap")]
use crate::secret::Plaintext;

/// The scheme version that this module reads and writes.
pub const SCHEME_VERSION: u8 = 1;

/// Bytes of a nonce: 96 bits, the length for which NIST SP 800-38D (5.2.1.1) asks.
pub const NONCE_LEN: usize = 12;

/// Bytes of the tag at the end of every ciphertext: 128 bits.
pub const TAG_LEN: usize = 16;

/// A nonce (the initialization vector of NIST SP 800-38D).
pub type Nonce = [u8; NONCE_LEN];

/// Why a text is not an envelope that rekek reads. Never quotes the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// Not an envelope at all: not canonical base64, not JSON, or not the four fields. The reason
    /// is for people; which of several defects it names depends on the reader.
    #[error("malformed envelope: {0}")]
    Malformed(&'static str),
    /// An envelope in every other respect, but of a scheme version that is not ours.
    #[error("scheme version {0} is not supported")]
    UnsupportedVersion(u8),
}

/// One thread's buffers for reading and writing envelopes. They grow to the largest envelope met
/// and stay there, so that a field costs no allocation once they are warm.
#[cfg(feature = "rewrap")]
#[derive(Default)]
pub struct Scratch {
    /// The JSON, decoded or about to be encoded. Holds ciphertext only.
    json: text::Buffer,
    /// A field's name with its escapes resolved.
    name: String,
    /// The key id with its escapes resolved, where it has any.
    key_id: String,
    /// The ciphertext, opened in place.
    body: Plaintext,
    /// How numbers are read and written.
    kernel: tier::Kernel,
}

#[cfg(feature = "rewrap")]
impl Scratch {
    /// Empty buffers, working with the [tier chosen](Tier::chosen) for this machine.
    pub fn new() -> Self {
        Self::default()
    }

    /// Wipes the plaintext that was opened last.
    pub fn wipe(&mut self) {
        self.body.clear_for(0);
    }

    /// Empty buffers, working with a tier of the caller's choice: for measuring and for testing.
    pub fn with_tier(tier: Tier) -> Result<Self, TierUnavailable> {
        Ok(Self { kernel: tier::Kernel::of(tier)?, ..Self::default() })
    }
}

/// An envelope that was read; its parts live in the [`Scratch`] that it was read with.
#[cfg(feature = "rewrap")]
pub struct Envelope<'s> {
    /// The key that it names: any string, the empty one included.
    pub key_id: &'s str,
    /// The nonce that it was sealed with.
    pub nonce: Nonce,
    /// The ciphertext with its tag, not checked for length; to be opened where it is
    /// ([`cipher::Cipher::open`]), hence the type.
    pub body: &'s mut Plaintext,
}

/// Reads an envelope in any of its spellings; white space ([`crate::row::is_space`]) around the
/// whole text is ignored.
#[cfg(feature = "rewrap")]
pub fn read<'s>(text: &str, scratch: &'s mut Scratch) -> Result<Envelope<'s>, EnvelopeError> {
    read_bytes(text.as_bytes(), scratch)
}

/// [`read`], for a text that nobody has checked to be UTF-8, as [`write`] leaves it: what is
/// canonical base64 is ASCII, so to check it first would be work done twice (a tenth of a field).
#[cfg(feature = "rewrap")]
pub fn read_bytes<'s>(text: &[u8], scratch: &'s mut Scratch) -> Result<Envelope<'s>, EnvelopeError> {
    let Scratch { json, name, key_id, body, kernel } = scratch;
    let json = text::decode(text::trim(text), json)?;
    if let Some((key_id, nonce)) = strict::read(json, body, *kernel) {
        return Ok(Envelope { key_id, nonce, body });
    }
    let nonce = tolerant::read(json, name, key_id, body)?;
    Ok(Envelope { key_id, nonce, body })
}

/// Reads only which key an envelope names. It accepts and refuses exactly what [`read`] does: a
/// key id taken from something that is no envelope would be a guess.
#[cfg(feature = "rewrap")]
pub fn key_id<'s>(text: &str, scratch: &'s mut Scratch) -> Result<&'s str, EnvelopeError> {
    read(text, scratch).map(|envelope| envelope.key_id)
}

/// Appends an envelope's text to `out`, in the canonical spelling: compact, fields in order,
/// strings escaped only where JSON demands it.
#[cfg(feature = "rewrap")]
pub fn write(key_id: &str, nonce: &Nonce, ciphertext: &[u8], scratch: &mut Scratch, out: &mut Vec<u8>) {
    let json = strict::write(key_id, nonce, ciphertext, &mut scratch.json, scratch.kernel);
    text::encode(json, out);
}
