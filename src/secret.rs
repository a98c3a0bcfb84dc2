//! Keys and plaintexts: wiped when dropped, and without any way to be printed, cloned or
//! serialised.
//!
//! It owns the memory that holds a secret and the one accessor of each; it never formats it.
//! To find every place that touches key material, search for `expose_key`; for every place that
//! touches a plaintext, for `expose_plaintext`; for the key that signs manifests and its passphrase,
//! `expose_pair` and `expose_passphrase`.
//!
//! What cannot be wiped from here is what a library keeps for itself: the key schedule inside a
//! cipher is wiped by the cipher (its `zeroize` feature); a JSON or YAML parser may leave a copy
//! of a string it unescaped. `tests/faults/memory.rs` looks for all of it.

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
    /// Hex, which reads as base64 of 48 bytes.
    #[error("is 64 hex digits, it seems, and not base64")]
    Hex,
    /// Base64, but not of 32 bytes.
    #[error("is {0} bytes long, not 32")]
    Length(usize),
}

impl MasterKey {
    /// Reads a key as site secrets spell it: standard base64 of 32 bytes, white space around it
    /// ignored.
    pub fn from_base64(text: &str) -> Result<Self, KeyTextError> {
        let text = crate::row::trim(text);
        if text.len() == 2 * KEY_LEN && text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(KeyTextError::Hex);
        }
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

/// Bytes of an Ed25519 key pair as minisign keeps it: the seed, then the public key.
pub const PAIR_LEN: usize = 64;

/// The Ed25519 key pair that signs manifests. On the heap, as [`MasterKey`] is.
#[derive(ZeroizeOnDrop)]
pub struct SignaturePair(Box<[u8; PAIR_LEN]>);

impl SignaturePair {
    /// Takes a copy of the bytes, which the caller wipes.
    pub fn copied_from(bytes: &[u8; PAIR_LEN]) -> Self {
        let mut pair = Box::new([0u8; PAIR_LEN]);
        pair.copy_from_slice(bytes);
        SignaturePair(pair)
    }

    /// The pair's bytes. The one accessor.
    pub fn expose_pair(&self) -> &[u8; PAIR_LEN] {
        &self.0
    }
}

/// Bytes that a passphrase may have: minisign takes no longer one.
pub const PASSPHRASE_MAX: usize = 1024;

/// The passphrase of a key file, as it was typed.
#[derive(ZeroizeOnDrop)]
pub struct Passphrase(Vec<u8>);

impl Passphrase {
    /// Reads one line, without its end, into memory that never moves.
    pub fn read_line(mut from: impl std::io::Read) -> std::io::Result<Self> {
        use std::io::{Error, ErrorKind};
        let mut line = Passphrase(vec![0; PASSPHRASE_MAX + 2]);
        let mut filled = 0;
        loop {
            match from.read(&mut line.0[filled..])? {
                0 => return Err(Error::new(ErrorKind::UnexpectedEof, "no passphrase was given")),
                n => filled += n,
            }
            let end = line.0[..filled].iter().position(|b| *b == b'\n');
            if let Some(end) = end.filter(|end| *end <= PASSPHRASE_MAX) {
                line.0[end..].zeroize();
                line.0.truncate(end);
                return Ok(line);
            }
            if filled > PASSPHRASE_MAX {
                return Err(Error::other(format!("a passphrase has at most {PASSPHRASE_MAX} bytes")));
            }
        }
    }

    /// The passphrase. The one accessor.
    pub fn expose_passphrase(&self) -> &[u8] {
        &self.0
    }
}

/// Bytes of the stack that [`wipe_stack`] overwrites: more than reading, opening and comparing take.
const STACK_WIPED: usize = 128 << 10;

/// Overwrites what functions that have returned left on the stack: a cipher takes the end of a
/// plaintext through a block there, a key is expanded there. For a moment when this thread holds
/// no secret; takes some microseconds.
#[inline(never)]
pub fn wipe_stack() {
    let mut below = [0u64; STACK_WIPED / 8];
    below.zeroize();
    std::hint::black_box(&below);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_passphrase_is_one_line() {
        let read = |text: &[u8]| Passphrase::read_line(text).map(|p| p.expose_passphrase().to_vec());
        assert_eq!(read(b"a horse \n").unwrap(), b"a horse ");
        assert_eq!(read(b"\n").unwrap(), b"");
        let longest = [[b'x'; PASSPHRASE_MAX].as_slice(), b"\n"].concat();
        assert_eq!(read(&longest).unwrap().len(), PASSPHRASE_MAX);
        for refused in [b"".as_slice(), b"no end", &[b'x'; PASSPHRASE_MAX + 1], &[b'x'; 5000]] {
            assert!(read(refused).is_err());
        }
    }

    #[test]
    fn a_key_is_32_bytes_of_canonical_base64_with_white_space_around_it_ignored() {
        let text = "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=";
        let key = MasterKey::from_base64(&format!(" \t\n\u{b}\u{c}\r{text}\n")).unwrap();
        assert_eq!(key.expose_key()[..4], [1, 2, 3, 4]);
        assert_eq!(MasterKey::from_base64("").err(), Some(KeyTextError::Length(0)));
        assert_eq!(MasterKey::from_base64(&"0f".repeat(32)).err(), Some(KeyTextError::Hex));
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
