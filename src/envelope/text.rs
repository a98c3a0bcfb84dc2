//! Base64 (RFC 4648 section 4): an envelope's text to its JSON and back.
//!
//! It owns the choice of codec and the buffer that JSON lives in; it never accepts anything but
//! the canonical spelling: padded, without line breaks, unused bits zero. One value has one text.
//!
//! base64-turbo is a young crate, chosen because base64 took a fifth of a field before it (see
//! `benches/envelope.rs`). So it is pinned to the version whose kernels were read, and tested here
//! against the base64 crate over every length that its kernels treat in a way of their own. It
//! sees ciphertext, never a key or a plaintext.

use super::EnvelopeError;
use base64_turbo::STANDARD;

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

/// `text` without white space ([`crate::row::is_space`]) around it.
pub(super) fn trim(mut text: &[u8]) -> &[u8] {
    while let Some((first, rest)) = text.split_first()
        && crate::row::is_space(*first)
    {
        text = rest;
    }
    while let Some((last, rest)) = text.split_last()
        && crate::row::is_space(*last)
    {
        text = rest;
    }
    text
}

/// Decodes `text` into `buffer`.
pub(super) fn decode<'b>(text: &[u8], buffer: &'b mut Buffer) -> Result<&'b [u8], EnvelopeError> {
    let room = buffer.at_least(STANDARD.decoded_len_estimate(text.len()));
    match STANDARD.decode_slice(text, room) {
        Ok(n) => Ok(&room[..n]),
        Err(_) => Err(EnvelopeError::Malformed("not canonical base64")),
    }
}

/// Appends the text of `json` to `out`.
pub(super) fn encode(json: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + STANDARD.encoded_len(json.len()), 0);
    let written = STANDARD.encode_slice(json, &mut out[start..]);
    assert_eq!(written, Ok(out.len() - start), "the room is what the encoder asks for");
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD as REFERENCE;
    use proptest::prelude::*;
    use proptest::sample::Index;

    fn decoded(text: &[u8]) -> Option<Vec<u8>> {
        // A buffer that has been used: what is left in it must not show.
        let mut buffer = Buffer(vec![0xa5; 64]);
        decode(text, &mut buffer).ok().map(<[u8]>::to_vec)
    }

    fn encoded(bytes: &[u8]) -> String {
        let mut out = Vec::new();
        encode(bytes, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_is_trimmed_is_what_a_row_calls_white_space() {
        for text in ["", " ", "a", " \t\n\u{b}\u{c}\ra b\r\u{c}\u{b}\n\t ", "\u{a0}a\u{2003}", "\u{85} a \0"]
        {
            assert_eq!(trim(text.as_bytes()), crate::row::trim(text).as_bytes());
        }
    }

    #[test]
    fn every_length_is_what_the_base64_crate_makes_of_it() {
        let bytes: Vec<u8> = (0..1_500u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        for n in 0..=bytes.len() {
            let text = REFERENCE.encode(&bytes[..n]);
            assert_eq!(encoded(&bytes[..n]), text);
            assert_eq!(decoded(text.as_bytes()).as_deref(), Some(&bytes[..n]));
        }
    }

    #[test]
    fn a_large_value_too() {
        // Beyond the caches' size, where the codec takes to streaming stores.
        let bytes: Vec<u8> = (0..48u32 << 20).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let text = encoded(&bytes);
        assert!(text == REFERENCE.encode(&bytes));
        assert!(decoded(text.as_bytes()) == Some(bytes));
    }

    #[test]
    fn a_byte_that_is_not_of_the_alphabet_is_refused_wherever_it_stands() {
        for n in [0, 3, 4, 15, 16, 24, 25, 26, 48, 64, 191, 192, 193, 400] {
            let text = REFERENCE.encode(vec![0x5a; n]);
            for at in 0..text.len() {
                for byte in
                    [0, b'\n', b' ', b'-', b'_', b'=', b'.', b'@', b'[', b'`', b'{', 0x7f, 0x80, 0xc1, 0xff]
                {
                    let mut spoilt = text.clone().into_bytes();
                    spoilt[at] = byte;
                    assert_eq!(decoded(&spoilt), REFERENCE.decode(&spoilt).ok(), "{byte} at {at} of {n}");
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..Default::default() })]

        #[test]
        fn it_judges_as_the_base64_crate_does(
            bytes in proptest::collection::vec(any::<u8>(), 0..700),
            replaced in proptest::option::of((any::<Index>(), any::<u8>())),
            cut in proptest::option::of(0usize..6),
            last in proptest::option::of(any::<u8>()),
        ) {
            let text = REFERENCE.encode(&bytes);
            prop_assert_eq!(&encoded(&bytes), &text);
            let mut text = text.into_bytes();
            if let Some((at, byte)) = replaced && !text.is_empty() {
                let at = at.index(text.len());
                text[at] = byte;
            }
            // The unused bits of the last character, the length, the padding.
            if let Some(last) = last && let Some(at) = text.iter().rposition(|byte| *byte != b'=') {
                text[at] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"[usize::from(last & 63)];
            }
            text.truncate(text.len().saturating_sub(cut.unwrap_or(0)));
            prop_assert_eq!(decoded(&text), REFERENCE.decode(&text).ok());
        }
    }
}
