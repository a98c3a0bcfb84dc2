//! Base64 (RFC 4648 section 4): an envelope's text to its JSON and back.
//!
//! It owns the choice of codec and the buffer that JSON lives in; it never accepts anything but
//! the canonical spelling: padded, without line breaks, unused bits zero. One value has one text.

use super::EnvelopeError;
use base64_simd::{AsOut as _, STANDARD};

/// Bytes that only ever grow in number, so that making room costs nothing once it is warm: what
/// was there before is overwritten, never cleared first.
#[derive(Default)]
pub(super) struct Buffer(Vec<u8>);

impl Buffer {
    /// At least `len` bytes, with whatever was in them.
    pub(super) fn at_least(&mut self, len: usize) -> &mut [u8] {
        if self.0.len() < len {
            self.0.resize(len, 0);
        }
        &mut self.0
    }
}

/// Decodes `text` into `buffer`.
pub(super) fn decode<'b>(text: &[u8], buffer: &'b mut Buffer) -> Result<&'b [u8], EnvelopeError> {
    let room = buffer.at_least(STANDARD.estimated_decoded_length(text.len()));
    match STANDARD.decode(text, room.as_out()) {
        Ok(json) => Ok(json),
        Err(_) => Err(EnvelopeError::Malformed("not canonical base64")),
    }
}

/// Appends the text of `json` to `out`.
pub(super) fn encode(json: &[u8], out: &mut Vec<u8>) {
    STANDARD.encode_append(json, out);
}
