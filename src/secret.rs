//! Keys and plaintexts: wiped when dropped, and without any way to be printed, cloned or
//! serialised.
//!
//! It owns the memory that holds a secret and the one accessor of each; it never formats it.
//! To find every place that touches key material, search for `expose_key`; for every place that
//! touches a plaintext, for `expose_plaintext`.
//!
//! What cannot be wiped from here is what a library keeps for itself: the key schedule inside a
//! cipher is wiped by the cipher (its `zeroize` feature); a JSON or YAML parser may leave a copy
//! of a string it unescaped.

use base64::Engine as _;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Bytes of a master key: AES-256.
pub const KEY_LEN: usize = 32;

/// A 32-byte AES-256 master key (KEK). Lives on the heap, so that moving it leaves no copy.
#[derive(ZeroizeOnDrop)]
pub struct MasterKey(Box<[u8; KEY_LEN]>);

/// Why a text is not a master key. Says nothing of the text itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyTextError {
    /// Not canonical standard base64 (RFC 4648 section 4).
    #[error("is not standard base64")]
    NotBase64,
    /// Base64, but not of 32 bytes.
    #[error("is {0} bytes long, not 32")]
    Length(usize),
}

impl MasterKey {
    /// Reads a key as site secrets spell it: standard base64 of 32 bytes, white space around it
    /// ignored.
    pub fn from_base64(text: &str) -> Result<Self, KeyTextError> {
        let text = crate::row::trim(text);
        let engine = base64::engine::general_purpose::STANDARD;
        let mut decoded = zeroize::Zeroizing::new(vec![0u8; base64::decoded_len_estimate(text.len())]);
        let n = engine.decode_slice(text, &mut decoded).map_err(|_| KeyTextError::NotBase64)?;
        if n != KEY_LEN {
            return Err(KeyTextError::Length(n));
        }
        let mut key = Box::new([0u8; KEY_LEN]);
        key.copy_from_slice(&decoded[..n]);
        Ok(MasterKey(key))
    }

    /// Fills a new key in place, for instance from the operating system's generator.
    pub fn fill_with<E>(fill: impl FnOnce(&mut [u8]) -> Result<(), E>) -> Result<Self, E> {
        let mut key = MasterKey(Box::new([0u8; KEY_LEN]));
        fill(&mut key.0[..])?;
        Ok(key)
    }

    /// The key's bytes. The one accessor.
    pub fn expose_key(&self) -> &[u8; KEY_LEN] {
        &self.0
    }

    /// Whether two keys are the same, in time that does not depend on where they differ.
    pub fn same_material(&self, other: &MasterKey) -> bool {
        self.0.iter().zip(other.0.iter()).fold(0u8, |acc, (a, b)| acc | (a ^ b)) == 0
    }

    /// Whether all 32 bytes are equal: a placeholder, not a key.
    pub fn is_one_byte_repeated(&self) -> bool {
        self.0.iter().fold(0u8, |acc, b| acc | (b ^ self.0[0])) == 0
    }
}

/// A buffer that holds a plaintext for a moment: a thread's scratch space. It wipes what it held
/// when it is cleared, when it grows and when it is dropped.
#[derive(Default, ZeroizeOnDrop)]
pub struct Plaintext(Vec<u8>);

impl Plaintext {
    /// An empty buffer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Wipes the buffer and makes room for `capacity` bytes, so that filling it up to there
    /// cannot move it and leave a copy behind.
    pub fn clear_for(&mut self, capacity: usize) -> &mut Vec<u8> {
        // Only what is in use: after one value of 64 MiB, wiping the whole capacity for each
        // following field would cost more than the field.
        self.0.as_mut_slice().zeroize();
        self.0.clear();
        self.0.reserve(capacity);
        &mut self.0
    }

    /// The plaintext. The one accessor.
    pub fn expose_plaintext(&self) -> &[u8] {
        &self.0
    }

    /// The buffer itself, for a cipher that works in place. Growing it past the capacity asked
    /// for in [`Plaintext::clear_for`] would leave a copy; nothing here does.
    pub fn expose_plaintext_mut(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_32_bytes_of_canonical_base64_with_white_space_around_it_ignored() {
        let text = "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=";
        let key = MasterKey::from_base64(&format!(" \t\n\u{b}\u{c}\r{text}\n")).unwrap();
        assert_eq!(key.expose_key()[..4], [1, 2, 3, 4]);
        assert_eq!(MasterKey::from_base64("").err(), Some(KeyTextError::Length(0)));
        assert_eq!(MasterKey::from_base64("AAAA").err(), Some(KeyTextError::Length(3)));
        assert_eq!(MasterKey::from_base64(text.trim_end_matches('=')).err(), Some(KeyTextError::NotBase64));
        assert_eq!(MasterKey::from_base64(&text.replace("A=", "B=")).err(), Some(KeyTextError::NotBase64));
        let long = "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyAh";
        assert_eq!(MasterKey::from_base64(long).err(), Some(KeyTextError::Length(33)));
    }

    #[test]
    fn material_is_compared_whole() {
        let key = |last: u8| {
            MasterKey::fill_with::<()>(|b| {
                b.fill(7);
                b[31] = last;
                Ok(())
            })
            .unwrap()
        };
        assert!(key(1).same_material(&key(1)) && !key(1).same_material(&key(2)));
        assert!(key(7).is_one_byte_repeated() && !key(1).is_one_byte_repeated());
    }
}
