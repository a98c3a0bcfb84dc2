//! The second reader, made of other people's parts: serde_json and the base64 crate.
//!
//! It owns nothing but the rules, written down once more: `verify` reads with it what the fast
//! path wrote, so it never calls, and shares no code with, the readers beside it. It allocates
//! for each envelope; it is there to be right, not to be fast.

use super::{EnvelopeError, NONCE_LEN, Nonce, SCHEME_VERSION};
use base64::Engine as _;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// An envelope that owns its parts.
pub struct OwnedEnvelope {
    /// The key that it names: any string, the empty one included.
    pub key_id: String,
    /// The nonce that it was sealed with.
    pub nonce: Nonce,
    /// The ciphertext with its tag, not checked for length.
    pub ciphertext: Vec<u8>,
}

/// Reads an envelope: the same texts are accepted and refused, with the same class of error, as
/// by [`super::read`].
pub fn read(text: &str) -> Result<OwnedEnvelope, EnvelopeError> {
    let json = base64::engine::general_purpose::STANDARD
        .decode(crate::row::trim(text))
        .map_err(|_| EnvelopeError::Malformed("not canonical base64"))?;
    let json = std::str::from_utf8(&json).map_err(|_| EnvelopeError::Malformed("the JSON is not UTF-8"))?;
    // serde_json's own message may quote the text, so it is dropped here.
    let fields: Fields =
        serde_json::from_str(json).map_err(|_| EnvelopeError::Malformed("not the JSON of an envelope"))?;
    if fields.scheme_version != SCHEME_VERSION {
        return Err(EnvelopeError::UnsupportedVersion(fields.scheme_version));
    }
    let Fields { key_id, nonce, ciphertext, .. } = fields;
    Ok(OwnedEnvelope { key_id, nonce, ciphertext })
}

/// The object as JSON has it. The impls are written by hand because a derived one would read an
/// array as well, in the order of the fields.
struct Fields {
    scheme_version: u8,
    key_id: String,
    nonce: Nonce,
    ciphertext: Vec<u8>,
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an envelope")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
        let (mut scheme_version, mut key_id, mut nonce, mut ciphertext) = (None, None, None, None);
        while let Some(name) = map.next_key::<String>()? {
            match name.as_str() {
                "scheme_version" => once(&mut scheme_version, map.next_value()?)?,
                "key_id" => once(&mut key_id, map.next_value()?)?,
                "nonce" => once(&mut nonce, map.next_value::<NonceList>()?.0)?,
                "ciphertext" => once(&mut ciphertext, map.next_value::<ByteList>()?.0)?,
                _ => return Err(A::Error::custom("unknown field")),
            }
        }
        match (scheme_version, key_id, nonce, ciphertext) {
            (Some(scheme_version), Some(key_id), Some(nonce), Some(ciphertext)) => {
                Ok(Fields { scheme_version, key_id, nonce, ciphertext })
            }
            _ => Err(A::Error::custom("missing field")),
        }
    }
}

fn once<T, E: serde::de::Error>(place: &mut Option<T>, value: T) -> Result<(), E> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(E::custom("repeated field")),
    }
}

struct ByteList(Vec<u8>);

impl<'de> Deserialize<'de> for ByteList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListVisitor;
        impl<'de> Visitor<'de> for ListVisitor {
            type Value = ByteList;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of byte values")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<ByteList, A::Error> {
                // Not `with_capacity`: nothing is allocated by a declared length.
                let mut bytes = Vec::new();
                while let Some(value) = list.next_element::<u8>()? {
                    bytes.push(value);
                }
                Ok(ByteList(bytes))
            }
        }
        deserializer.deserialize_seq(ListVisitor)
    }
}

struct NonceList(Nonce);

impl<'de> Deserialize<'de> for NonceList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListVisitor;
        impl<'de> Visitor<'de> for ListVisitor {
            type Value = NonceList;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of 12 byte values")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<NonceList, A::Error> {
                let mut nonce = [0; NONCE_LEN];
                for place in &mut nonce {
                    *place = list.next_element()?.ok_or_else(|| A::Error::custom("a short nonce"))?;
                }
                if list.next_element::<u8>()?.is_some() {
                    return Err(A::Error::custom("a long nonce"));
                }
                Ok(NonceList(nonce))
            }
        }
        deserializer.deserialize_seq(ListVisitor)
    }
}
