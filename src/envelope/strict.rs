//! The canonical spelling of an envelope's JSON, and only that: compact, the fields in their
//! order, no escape in the key id.
//!
//! It owns the fast path in both directions. It never refuses an envelope: what it does not
//! recognise, it leaves to `tolerant`, so a mistake here may cost time but must never accept what
//! `tolerant` would refuse. That is the invariant, and the tests hold both against each other.

use super::{NONCE_LEN, Nonce, SCHEME_VERSION, numbers, text::Buffer, tier::Kernel};
use crate::secret::Plaintext;

const HEAD: &[u8] = br#"{"scheme_version":1,"key_id":""#;
const NONCE: &[u8] = br#"","nonce":["#;
const CIPHERTEXT: &[u8] = br#"],"ciphertext":["#;
const TAIL: &[u8] = b"]}";

const _: () = assert!(SCHEME_VERSION == 1, "HEAD spells the version out");

/// Reads the canonical spelling: the key id and the nonce, and the ciphertext into `body`. `None`
/// means that somebody else must look.
pub(super) fn read<'j>(json: &'j [u8], body: &mut Plaintext, kernel: Kernel) -> Option<(&'j str, Nonce)> {
    let rest = json.strip_prefix(HEAD)?.strip_suffix(TAIL)?;
    let (key_id, rest) = rest.split_at(memchr::memchr(b'"', rest)?);
    // An escape or a raw control character is for `tolerant` to judge.
    if key_id.iter().any(|byte| matches!(byte, b'\\' | ..b' ')) {
        return None;
    }
    let key_id = std::str::from_utf8(key_id).ok()?;
    let rest = rest.strip_prefix(NONCE)?;
    let end = memchr::memchr(b']', &rest[..rest.len().min(NONCE_LIST_MAX + 1)])?;
    let (list, rest) = rest.split_at(end);
    let mut nonce = [0; numbers::room_to_read(NONCE_LIST_MAX)];
    if kernel.read(list, &mut nonce)? != NONCE_LEN {
        return None;
    }
    let list = rest.strip_prefix(CIPHERTEXT)?;
    let room = numbers::room_to_read(list.len());
    let body = body.clear_for(room);
    body.resize(room, 0);
    let n = kernel.read(list, body)?;
    body.truncate(n);
    Some((key_id, *nonce.first_chunk()?))
}

/// Bytes of the longest canonical list of [`NONCE_LEN`] values.
const NONCE_LIST_MAX: usize = 4 * NONCE_LEN - 1;

/// Writes the canonical spelling to the front of `buffer`.
pub(super) fn write<'b>(
    key_id: &str,
    nonce: &Nonce,
    ciphertext: &[u8],
    buffer: &'b mut Buffer,
    kernel: Kernel,
) -> &'b [u8] {
    let fixed = HEAD.len() + NONCE.len() + CIPHERTEXT.len() + TAIL.len();
    // An escaped byte takes six at the most (`\u00xx`).
    let room = fixed + 6 * key_id.len() + numbers::room_to_write(NONCE_LEN + ciphertext.len());
    let buffer = buffer.at_least(room);
    let mut at = put(buffer, 0, HEAD);
    at = escape(key_id, buffer, at);
    at = put(buffer, at, NONCE);
    at = list(nonce, buffer, at, kernel);
    at = put(buffer, at, CIPHERTEXT);
    at = list(ciphertext, buffer, at, kernel);
    at = put(buffer, at, TAIL);
    &buffer[..at]
}

fn put(buffer: &mut [u8], at: usize, bytes: &[u8]) -> usize {
    buffer[at..at + bytes.len()].copy_from_slice(bytes);
    at + bytes.len()
}

/// Writes the values; what follows overwrites the comma after the last one.
fn list(values: &[u8], buffer: &mut [u8], at: usize, kernel: Kernel) -> usize {
    at + kernel.write(values, &mut buffer[at..]).saturating_sub(1)
}

/// Writes a string's content, escaping what RFC 8259 section 7 says must be: the quotation mark,
/// the reverse solidus and the control characters below U+0020, in the short form where there is
/// one. That is what serde_json does too, and so what the service writes.
fn escape(string: &str, buffer: &mut [u8], mut at: usize) -> usize {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    if !string.bytes().any(|byte| matches!(byte, b'"' | b'\\' | ..b' ')) {
        return put(buffer, at, string.as_bytes());
    }
    for byte in string.bytes() {
        let short = match byte {
            b'"' | b'\\' => byte,
            0x08 => b'b',
            0x09 => b't',
            0x0a => b'n',
            0x0c => b'f',
            0x0d => b'r',
            ..b' ' => {
                let hex = |nibble: u8| HEX[usize::from(nibble)];
                at = put(buffer, at, &[b'\\', b'u', b'0', b'0', hex(byte >> 4), hex(byte & 15)]);
                continue;
            }
            _ => {
                at = put(buffer, at, &[byte]);
                continue;
            }
        };
        at = put(buffer, at, &[b'\\', short]);
    }
    at
}
