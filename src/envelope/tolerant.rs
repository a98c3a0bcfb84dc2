//! Any JSON spelling (RFC 8259) of an envelope: white space, fields in another order, escapes.
//!
//! It owns the judgement of everything that is not spelled canonically. It reads the four fields
//! and nothing else: the moment a value is not of the shape that its field must have, the text is
//! refused, so there is no general JSON reader here, no nesting to follow and no recursion. It
//! never allocates by anything that the text declares, only by what it holds.

use super::{EnvelopeError, NONCE_LEN, Nonce, SCHEME_VERSION};
use crate::secret::Plaintext;

const fn malformed<T>(reason: &'static str) -> Result<T, EnvelopeError> {
    Err(EnvelopeError::Malformed(reason))
}

/// Reads the object: the nonce is returned, the key id and the ciphertext are left in `key_id`
/// and `body`. `name` is room for the fields' names.
pub(super) fn read(
    json: &[u8],
    name: &mut String,
    key_id: &mut String,
    body: &mut Plaintext,
) -> Result<Nonce, EnvelopeError> {
    let Ok(json) = std::str::from_utf8(json) else {
        return malformed("the JSON is not UTF-8");
    };
    let mut json = Cursor { text: json, at: 0 };
    let mut version = None;
    let mut seen_key_id = false;
    let mut nonce = None;
    let mut seen_ciphertext = false;

    json.skip_space();
    json.expect(b'{', "not a JSON object")?;
    json.skip_space();
    if json.peek() != Some(b'}') {
        loop {
            json.string(name)?;
            json.skip_space();
            json.expect(b':', "no colon after a field's name")?;
            json.skip_space();
            let repeated = match name.as_str() {
                "scheme_version" => version.replace(json.byte_value()?).is_some(),
                "key_id" => {
                    // Checked first: a second one must not overwrite the first.
                    if !seen_key_id {
                        json.string(key_id)?;
                    }
                    std::mem::replace(&mut seen_key_id, true)
                }
                "nonce" => nonce.replace(json.nonce()?).is_some(),
                "ciphertext" => {
                    if !seen_ciphertext {
                        json.ciphertext(body)?;
                    }
                    std::mem::replace(&mut seen_ciphertext, true)
                }
                _ => return malformed("an unknown field"),
            };
            if repeated {
                return malformed("a repeated field");
            }
            json.skip_space();
            if json.peek() != Some(b',') {
                break;
            }
            json.at += 1;
            json.skip_space();
        }
    }
    json.expect(b'}', "the JSON object is not closed")?;
    json.skip_space();
    if json.peek().is_some() {
        return malformed("something after the JSON object");
    }
    let (Some(version), true, Some(nonce), true) = (version, seen_key_id, nonce, seen_ciphertext) else {
        return malformed("a missing field");
    };
    // Last: only what has the shape of an envelope can be one of another version.
    if version != SCHEME_VERSION {
        return Err(EnvelopeError::UnsupportedVersion(version));
    }
    Ok(nonce)
}

struct Cursor<'j> {
    text: &'j str,
    at: usize,
}

impl Cursor<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek();
        self.at += usize::from(byte.is_some());
        byte
    }

    fn expect(&mut self, byte: u8, otherwise: &'static str) -> Result<(), EnvelopeError> {
        if self.next() == Some(byte) { Ok(()) } else { malformed(otherwise) }
    }

    /// JSON's own white space (RFC 8259 section 2): four characters, not the six around a text.
    fn skip_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    /// An integer from 0 to 255, in the one way in which JSON spells it: RFC 8259 section 6 has
    /// no leading zero and no plus; a fraction or an exponent makes it another type of number to
    /// every reader of this format, and so does the minus of `-0`.
    fn byte_value(&mut self) -> Result<u8, EnvelopeError> {
        const BAD: &str = "a number that is not an integer from 0 to 255";
        let start = self.at;
        let mut value = 0u8;
        while let Some(digit @ b'0'..=b'9') = self.peek() {
            let Some(next) = value.checked_mul(10).and_then(|v| v.checked_add(digit - b'0')) else {
                return malformed(BAD);
            };
            value = next;
            self.at += 1;
        }
        match self.at - start {
            0 => malformed(BAD),
            1 => Ok(value),
            _ if self.text.as_bytes()[start] == b'0' => malformed(BAD),
            _ => Ok(value),
        }
        // What follows the digits (`.`, `e`, another sign) is refused by whoever reads on.
    }

    /// A list of byte values, each handed to `take`.
    fn list(&mut self, mut take: impl FnMut(u8) -> Result<(), EnvelopeError>) -> Result<(), EnvelopeError> {
        const BAD: &str = "a field that is not a list of byte values";
        self.expect(b'[', BAD)?;
        self.skip_space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(());
        }
        loop {
            take(self.byte_value()?)?;
            self.skip_space();
            match self.next() {
                Some(b',') => self.skip_space(),
                Some(b']') => return Ok(()),
                _ => return malformed(BAD),
            }
        }
    }

    fn nonce(&mut self) -> Result<Nonce, EnvelopeError> {
        const BAD: &str = "a nonce that is not 12 bytes long";
        let mut nonce = [0; NONCE_LEN];
        let mut n = 0;
        self.list(|value| {
            let Some(place) = nonce.get_mut(n) else { return malformed(BAD) };
            *place = value;
            n += 1;
            Ok(())
        })?;
        if n == NONCE_LEN { Ok(nonce) } else { malformed(BAD) }
    }

    fn ciphertext(&mut self, body: &mut Plaintext) -> Result<(), EnvelopeError> {
        // Room for all there can be (a value takes two bytes at the least), so that the buffer, in
        // which a plaintext will stand, is never moved.
        let body = body.clear_for((self.text.len() - self.at) / 2);
        self.list(|value| {
            body.push(value);
            Ok(())
        })
    }

    /// A string, unescaped into `into` (cleared first).
    fn string(&mut self, into: &mut String) -> Result<(), EnvelopeError> {
        const OPEN: &str = "a string without end";
        into.clear();
        self.expect(b'"', "a name or key id that is not a string")?;
        loop {
            let start = self.at;
            // All three stops are ASCII, so both ends are at character boundaries.
            while self.peek().is_some_and(|byte| !matches!(byte, b'"' | b'\\' | ..b' ')) {
                self.at += 1;
            }
            into.push_str(&self.text[start..self.at]);
            match self.next() {
                Some(b'"') => return Ok(()),
                Some(b'\\') => into.push(self.escape()?),
                Some(_) => return malformed("a control character in a string"),
                None => return malformed(OPEN),
            }
        }
    }

    /// What follows a reverse solidus (RFC 8259 section 7).
    fn escape(&mut self) -> Result<char, EnvelopeError> {
        const LONE: &str = "half a surrogate pair in a string";
        Ok(match self.next() {
            Some(byte @ (b'"' | b'\\' | b'/')) => char::from(byte),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                let first = self.four_hex()?;
                // A surrogate is no character: it must be a high one with a low one after it.
                match char::from_u32(first) {
                    Some(char) => char,
                    None if first >= 0xdc00 => return malformed(LONE),
                    None => {
                        self.expect(b'\\', LONE)?;
                        self.expect(b'u', LONE)?;
                        let second = self.four_hex()?;
                        if !(0xdc00..=0xdfff).contains(&second) {
                            return malformed(LONE);
                        }
                        let Some(char) =
                            char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00))
                        else {
                            return malformed(LONE);
                        };
                        char
                    }
                }
            }
            _ => return malformed("an escape that JSON does not have"),
        })
    }

    fn four_hex(&mut self) -> Result<u32, EnvelopeError> {
        let mut value = 0;
        for _ in 0..4 {
            let Some(digit) = self.next().and_then(|byte| char::from(byte).to_digit(16)) else {
                return malformed("an escape without four hex digits");
            };
            value = value << 4 | digit;
        }
        Ok(value)
    }
}
