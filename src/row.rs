//! The words of a row: organization id, key id, the three ciphertext fields, the source digest.
//!
//! It owns what a value of each may look like and how its column is called; it knows no file and
//! no key.

use base64::Engine as _;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::fmt;

/// White space, wherever rekek ignores it: exactly space, `\t`, `\n`, `\v`, `\f` and `\r`, the
/// same six in Rust and in SQL (`str::trim` and `trim_ascii` take other sets).
pub const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r')
}

/// `text` without white space ([`is_space`]) around it.
pub fn trim(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_ascii() && is_space(c as u8))
}

/// The column that names a row.
pub const ORGANIZATION_ID: &str = "organization_id";

/// One of the three ciphertext columns of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Field {
    /// `encrypted_signing_key_1`: a P-256 private key, PKCS#8 PEM.
    SigningKey1,
    /// `encrypted_signing_key_2`: likewise, the other slot.
    SigningKey2,
    /// `encrypted_auth_method_config`: token-delegation credentials, JSON.
    AuthMethodConfig,
}

impl Field {
    /// All three, in the order in which reports name them.
    pub const ALL: [Field; 3] = [Field::SigningKey1, Field::SigningKey2, Field::AuthMethodConfig];

    /// The ciphertext's column.
    pub const fn column(self) -> &'static str {
        match self {
            Field::SigningKey1 => "encrypted_signing_key_1",
            Field::SigningKey2 => "encrypted_signing_key_2",
            Field::AuthMethodConfig => "encrypted_auth_method_config",
        }
    }

    /// The column, in an output, of the digest of the text that the export had.
    pub const fn source_digest_column(self) -> &'static str {
        match self {
            Field::SigningKey1 => "source_sha256_signing_key_1",
            Field::SigningKey2 => "source_sha256_signing_key_2",
            Field::AuthMethodConfig => "source_sha256_auth_method_config",
        }
    }

    /// The column of the slot's public value, for the two signing keys.
    pub const fn public_column(self) -> Option<&'static str> {
        match self {
            Field::SigningKey1 => Some("signing_key_public_1"),
            Field::SigningKey2 => Some("signing_key_public_2"),
            Field::AuthMethodConfig => None,
        }
    }

    /// Position in [`Field::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// Whether a ciphertext value means "absent": null, empty, or white space only.
pub fn is_absent(text: Option<&str>) -> bool {
    text.is_none_or(|t| t.bytes().all(is_space))
}

/// An organization's id: one or more ASCII letters, digits, `_` and `-`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct OrgId(String);

/// The text is not an organization id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an organization id has only ASCII letters, digits, `_` and `-`, and at least one of them")]
pub struct BadOrgId;

impl OrgId {
    /// Whether `text` is spelled as an organization id.
    pub fn is_valid(text: &str) -> bool {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for OrgId {
    type Err = BadOrgId;
    fn from_str(text: &str) -> Result<Self, BadOrgId> {
        if Self::is_valid(text) { Ok(OrgId(text.to_owned())) } else { Err(BadOrgId) }
    }
}

impl fmt::Display for OrgId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for OrgId {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A master key's id, as a keyring names it: 1 to 255 bytes. (An envelope may name any string;
/// one that is no `KeyId` is simply in no keyring.)
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct KeyId(String);

/// The text is not a key id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a key id is 1 to 255 bytes long")]
pub struct BadKeyId;

impl KeyId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for KeyId {
    type Err = BadKeyId;
    fn from_str(text: &str) -> Result<Self, BadKeyId> {
        if (1..=255).contains(&text.len()) { Ok(KeyId(text.to_owned())) } else { Err(BadKeyId) }
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::borrow::Borrow<str> for KeyId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for KeyId {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A SHA-256 digest (FIPS 180-4): of a field's text exactly as the export had it, or of a file.
/// Spelled as 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sha256Digest([u8; 32]);

/// The source digest of a field. The same type as a file's digest; the name says what it is of.
pub type SourceDigest = Sha256Digest;

/// The text is not 64 lower-case hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a SHA-256 digest is spelled as 64 lower-case hex digits")]
pub struct BadDigest;

impl Sha256Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: impl AsRef<[u8]>) -> Self {
        Sha256Digest(Sha256::digest(bytes.as_ref()).into())
    }

    /// The digest a running hash has come to.
    pub fn of_hasher(hasher: Sha256) -> Self {
        Sha256Digest(hasher.finalize().into())
    }

    /// The raw 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Writes the 64 hex digits without allocating.
    pub fn hex(&self) -> HexDigest {
        let mut out = [0u8; 64];
        hex::encode_to_slice(self.0, &mut out).expect("64 is twice 32");
        HexDigest(out)
    }
}

/// The 64 hex digits of a digest.
pub struct HexDigest([u8; 64]);

impl HexDigest {
    /// The digits as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("hex digits are ASCII")
    }
}

impl std::str::FromStr for Sha256Digest {
    type Err = BadDigest;
    fn from_str(text: &str) -> Result<Self, BadDigest> {
        if text.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(BadDigest);
        }
        let mut bytes = [0u8; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| BadDigest)?;
        Ok(Sha256Digest(bytes))
    }
}

impl fmt::Display for Sha256Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.hex().as_str())
    }
}

impl fmt::Debug for Sha256Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.hex().as_str())
    }
}

impl Serialize for Sha256Digest {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.hex().as_str())
    }
}

impl<'de> Deserialize<'de> for Sha256Digest {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Characters of a text that a message has, at the most.
const SHOWN_MAX: usize = 64;

/// What a message has instead of a text that could be a key.
pub const COULD_BE_KEY: &str = "(not shown: it could be a key)";

/// What a message has instead of what stands for an organization id and is not spelled as one.
pub const NO_ORG_ID: &str = "?";

/// Whether a text could be a master key that has come to stand in another's place: 32 bytes in
/// base64 of either alphabet, padded or not, or in hex; white space around it ignored.
pub fn could_be_key(text: &str) -> bool {
    use base64::alphabet::{STANDARD, URL_SAFE};
    use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
    let text = trim(text);
    let lenient = GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let in_base64 = |alphabet| {
        let mut bytes = zeroize::Zeroizing::new([0; 33]);
        GeneralPurpose::new(alphabet, lenient).decode_slice(text, &mut *bytes) == Ok(32)
    };
    match text.len() {
        43 | 44 => in_base64(&STANDARD) || in_base64(&URL_SAFE),
        64 => text.bytes().all(|b| b.is_ascii_hexdigit()),
        _ => false,
    }
}

/// An organization id as a row has it, made fit for a message. One that is not spelled as an id,
/// or too long to be one, is some other value, of which a message has nothing: the row's number
/// says where it is.
pub fn printable_org_id(text: &str) -> String {
    if OrgId::is_valid(text) && text.len() <= SHOWN_MAX { text.to_owned() } else { NO_ORG_ID.to_owned() }
}

/// A text from a file, made fit for a message: control characters escaped, cut after 64
/// characters, and nothing of what could be a key. For key ids and column names; never for a value
/// of another column.
pub fn printable(text: &str) -> String {
    if could_be_key(text) {
        return COULD_BE_KEY.to_owned();
    }
    let mut out: String = text.chars().take(SHOWN_MAX).flat_map(char::escape_debug).collect();
    if text.chars().nth(SHOWN_MAX).is_some() {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_is_exactly_six_characters() {
        let spaces: Vec<u8> = (0..=255).filter(|b| is_space(*b)).collect();
        assert_eq!(spaces, [0x09, 0x0a, 0x0b, 0x0c, 0x0d, 0x20]);
        assert_eq!(trim(" \t\n\u{b}\u{c}\rx y\u{b}"), "x y");
        assert_eq!(trim("\u{a0}x\u{2003}"), "\u{a0}x\u{2003}", "no other space is white space here");
    }

    #[test]
    fn absent_is_null_empty_or_white_space() {
        assert!(is_absent(None) && is_absent(Some("")) && is_absent(Some(" \u{b}\n")));
        assert!(!is_absent(Some("x")) && !is_absent(Some("\u{a0}")));
    }

    #[test]
    fn ids_have_their_spelling() {
        for good in ["a", "A-b_9"] {
            assert!(good.parse::<OrgId>().is_ok());
        }
        for bad in ["", "a b", "ä", "a/b", "a\n"] {
            assert!(bad.parse::<OrgId>().is_err(), "{bad:?}");
        }
        assert!("k".repeat(255).parse::<KeyId>().is_ok());
        assert!("k".repeat(256).parse::<KeyId>().is_err() && "".parse::<KeyId>().is_err());
    }

    #[test]
    fn a_digest_is_spelled_one_way() {
        let d = Sha256Digest::of("abc");
        let hex = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(d.to_string(), hex, "FIPS 180-2, appendix B.1");
        assert_eq!(hex.parse::<Sha256Digest>(), Ok(d));
        assert!(hex.to_uppercase().parse::<Sha256Digest>().is_err());
        assert!(hex[1..].parse::<Sha256Digest>().is_err());
    }

    #[test]
    fn what_a_message_quotes_is_short_and_without_control_characters() {
        assert_eq!(printable("a\u{1b}[31m\n"), "a\\u{1b}[31m\\n");
        assert_eq!(printable(&"x".repeat(100)).chars().count(), 65);
    }

    #[test]
    fn what_could_be_a_key_or_is_no_id_is_not_quoted() {
        let bytes: Vec<u8> = (0..32).map(|i| 250 - i).collect();
        let standard = base64::engine::general_purpose::STANDARD.encode(&bytes);
        let url = base64::engine::general_purpose::URL_SAFE.encode(&bytes);
        for key in [&standard, &url, &hex::encode(&bytes), &hex::encode_upper(&bytes)] {
            for key in [key.clone(), key.trim_end_matches('=').to_owned(), format!(" {key}\n")] {
                assert_eq!(printable(&key), COULD_BE_KEY, "{key}");
            }
        }
        for other in ["kv1", "", &standard[1..], &"a".repeat(45), &"g".repeat(64), &hex::encode(&bytes[1..])]
        {
            assert_eq!(printable(other), other);
        }
        assert_eq!(printable_org_id("org-1_B"), "org-1_B");
        for other in ["", "a b", "org/1", &"a".repeat(65), &standard] {
            assert_eq!(printable_org_id(other), NO_ORG_ID, "{other}");
        }
    }
}
