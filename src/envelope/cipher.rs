//! AES-256-GCM (NIST SP 800-38D) as the envelope uses it: 96-bit nonce, 128-bit tag at the end,
//! no additional authenticated data.
//!
//! It owns the choice of implementation: nothing else names `aes_gcm`, so a site that must use a
//! validated module changes this file alone. It never chooses a nonce and never learns a key id.
//! A failed opening is one opaque error and leaves no plaintext behind.
//!
//! What it cannot wipe: aes-gcm passes the last 16 bytes or fewer of a plaintext through a block on
//! the stack.
//!
//! AES and GHASH choose their instructions at run time (AES-NI or VAES, PCLMULQDQ; ARMv8's), and
//! fall back to constant-time code. Of VAES there is nothing to be had for a field: aes 0.9 takes it only
//! where the processor has AVX-512 too, and for 64 blocks at once, where a field has some 13. Built for the machine it runs on (`-C target-cpu=native`) this
//! crate opens and seals a field in half the time, since those choices are then made when it is
//! compiled.

use super::{Nonce, TAG_LEN};
use crate::secret::{MasterKey, Plaintext};
use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::{AeadInOut as _, Aes256Gcm, KeyInit as _, Tag};

/// A key, expanded once for many openings and sealings. On the heap, so that moving it leaves no
/// copy (making it may: the cipher is expanded on the stack); wiped when dropped (the `zeroize` feature of aes-gcm). No Clone and no Debug.
pub struct Cipher(Box<Aes256Gcm>);

/// The tag did not fit: another key, another nonce or changed bytes. It never says which, nor
/// where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("does not open under its key")]
pub struct AuthenticationFailed;

impl Cipher {
    /// Expands a key.
    pub fn new(key: &MasterKey) -> Self {
        Cipher(Box::new(Aes256Gcm::new(key.expose_key().into())))
    }

    /// Opens `body` where it stands: ciphertext and tag before, plaintext after. If it fails,
    /// `body` is emptied.
    pub fn open(&self, nonce: &Nonce, body: &mut Plaintext) -> Result<(), AuthenticationFailed> {
        let buffer = body.expose_plaintext_mut();
        let opened = match buffer.split_last_chunk_mut::<TAG_LEN>() {
            Some((text, tag)) => self.open_detached(nonce, text.into(), tag).map(|()| text.len()),
            None => Err(AuthenticationFailed),
        };
        buffer.truncate(*opened.as_ref().unwrap_or(&0));
        opened.map(|_| ())
    }

    /// Opens `ciphertext`, tag at its end, into another buffer. If it fails, `into` is empty.
    pub fn open_into(
        &self,
        nonce: &Nonce,
        ciphertext: &[u8],
        into: &mut Plaintext,
    ) -> Result<(), AuthenticationFailed> {
        let buffer = into.clear_for(ciphertext.len());
        let (text, tag) = ciphertext.split_last_chunk::<TAG_LEN>().ok_or(AuthenticationFailed)?;
        buffer.resize(text.len(), 0);
        let opened = InOutBuf::new(text, buffer)
            .map_err(|_| AuthenticationFailed)
            .and_then(|both| self.open_detached(nonce, both, tag));
        if opened.is_err() {
            buffer.clear();
        }
        opened
    }

    fn open_detached(
        &self,
        nonce: &Nonce,
        text: InOutBuf<'_, '_, u8>,
        tag: &[u8; TAG_LEN],
    ) -> Result<(), AuthenticationFailed> {
        // The tag is computed and compared before a byte is decrypted.
        self.0
            .decrypt_inout_detached(nonce.into(), b"", text, &Tag::from(*tag))
            .map_err(|_| AuthenticationFailed)
    }

    /// Seals `plaintext` into `sealed` (cleared first): the ciphertext, then its tag.
    ///
    /// The plaintext is read where it is and the ciphertext written where it goes, so `sealed`
    /// never holds plaintext and need not be wiped.
    pub fn seal(&self, nonce: &Nonce, plaintext: &[u8], sealed: &mut Vec<u8>) {
        sealed.clear();
        sealed.reserve(plaintext.len() + TAG_LEN);
        sealed.resize(plaintext.len(), 0);
        let both = InOutBuf::new(plaintext, sealed).expect("the lengths are equal");
        let tag = self
            .0
            .encrypt_inout_detached(nonce.into(), b"", both)
            .expect("no plaintext in memory is longer than 2^36 - 32 bytes");
        sealed.extend_from_slice(&tag);
    }
}
