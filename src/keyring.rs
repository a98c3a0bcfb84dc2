//! The keyring: every master key of the site secrets, by key id, ready to open and seal.
//!
//! It owns what a secrets file looks like and which keys are refused. A key comes from a file or
//! from standard input, never from the command line or the environment, and is never written
//! anywhere; an error names a key by its id and a place by line and column.

use crate::caught::caught;
use crate::envelope::cipher::Cipher;
use crate::row::{KeyId, printable};
use crate::secret::{KeyTextError, MasterKey};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;
use std::marker::PhantomData;
use zeroize::Zeroizing;

/// Bytes that a secrets file may have.
pub const SECRETS_BYTES_MAX: u64 = 16 << 20;

/// What a fingerprint is the HMAC of.
const FINGERPRINT_TEXT: &[u8] = b"rekek key fingerprint v1";

/// A master key with its id, its expanded cipher and its fingerprint.
pub struct Key {
    id: KeyId,
    material: MasterKey,
    cipher: Cipher,
    fingerprint: String,
}

impl Key {
    fn new(id: KeyId, material: MasterKey) -> Key {
        let (cipher, fingerprint) = (Cipher::new(&material), fingerprint(&material));
        Key { id, material, cipher, fingerprint }
    }

    /// The key's id.
    pub fn id(&self) -> &KeyId {
        &self.id
    }

    /// What opens and seals under this key.
    pub fn cipher(&self) -> &Cipher {
        &self.cipher
    }

    /// See [`fingerprint`].
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }
}

/// First 16 hex digits of HMAC-SHA-256 (RFC 2104) under the key of the ASCII text
/// `rekek key fingerprint v1`: two people can compare keys by it without showing them.
pub fn fingerprint(key: &MasterKey) -> String {
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(key.expose_key()).expect("any length is a key");
    mac.update(FINGERPRINT_TEXT);
    hex::encode(&mac.finalize().into_bytes()[..8])
}

/// Why a keyring could not be made. Says which key and which file; never what stands there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyringError {
    /// Neither JSON nor YAML of the shape that is read here.
    #[error("{file}: {what}, at line {line}, column {column}")]
    Format {
        /// The file.
        file: String,
        /// What was expected.
        what: &'static str,
        /// From 1.
        line: u64,
        /// From 1.
        column: u64,
    },
    /// The file has no keys where they are looked for.
    #[error("{file}: no {place} is there; is it the right file?")]
    NoKeys {
        /// The file.
        file: String,
        /// The path in the document.
        place: &'static str,
    },
    /// A key id that is empty or too long.
    #[error("{file}: the key id {id} is not 1 to 255 bytes long")]
    KeyId {
        /// The file.
        file: String,
        /// The id, cut.
        id: String,
    },
    /// A key where its id belongs. (Messages name keys by their ids.)
    #[error("{file}: what stands for a key id is a key; were the two exchanged?")]
    IdIsKey {
        /// The file.
        file: String,
    },
    /// A key that is not 32 bytes of base64.
    #[error("{file}: the key {id} {error}; a master key is 32 bytes as standard base64")]
    KeyText {
        /// The file.
        file: String,
        /// The key.
        id: String,
        /// What is wrong.
        error: KeyTextError,
    },
    /// An id given twice, in one file or in two.
    #[error("the key id {id} is given twice: in {first} and in {second}; keep one of them")]
    Repeated {
        /// The id.
        id: String,
        /// Where it was first.
        first: String,
        /// Where it was again.
        second: String,
    },
    /// A new key's id that the file has already.
    #[error("the key {id} is in {file} already; a key is never replaced: choose another id")]
    IsThere {
        /// The id.
        id: String,
        /// The file.
        file: String,
    },
    /// The target is not among the keys.
    #[error("the target key {id} is in none of the secrets given (they hold {known}); add it there first")]
    NoTarget {
        /// The target.
        id: String,
        /// The ids that are there.
        known: String,
    },
    /// The target and another key are the same 32 bytes.
    #[error(
        "the target key {id} is the same 32 bytes as the key {other}: nothing would be rotated; make a new key"
    )]
    TargetNotNew {
        /// The target.
        id: String,
        /// The other key.
        other: String,
    },
    /// The target is one byte, repeated.
    #[error(
        "the target key {id} is one byte repeated: a placeholder, not a key; make one with `rekek keygen`"
    )]
    TargetPlaceholder {
        /// The target.
        id: String,
    },
}

/// Every key that was loaded, each id once.
#[derive(Default)]
pub struct Keyring {
    keys: Vec<Key>,
    /// Where each key of `keys` came from.
    files: Vec<String>,
}

impl Keyring {
    /// A keyring without keys.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the keys of a site's secrets: `machine_identity.encryption_keys.<key-id>` = base64 of
    /// 32 bytes, in a JSON or YAML document; other content is ignored. `file` is its name, for
    /// messages and to tell JSON from YAML.
    pub fn add_secrets(&mut self, file: &str, text: &[u8]) -> Result<(), KeyringError> {
        let keys = if is_json(file, text) {
            let keys = parse_json::<Secrets<&RawValue>>(file, text)?.keys();
            let read = |(id, raw)| Ok((id, KeyText::from_json(file, text, raw)?));
            keys.map(|keys| keys.into_iter().map(read).collect::<Result<Vec<_>, KeyringError>>())
                .transpose()?
        } else {
            parse_yaml::<Secrets<KeyText>>(file, text, SECRETS_SHAPE)?.keys()
        };
        let keys = keys.ok_or(KeyringError::NoKeys {
            file: file.to_owned(),
            place: "machine_identity.encryption_keys",
        })?;
        keys.into_iter().try_for_each(|(id, key)| self.add(file, id, key))
    }

    /// Takes one key from what `vault kv get -format=json` (or `bao`) prints for its path, whose
    /// data is `{"UsernamePassword":{"username":"","password":"<base64>"}}`; of a version 2 secrets
    /// engine or of version 1, which has one `data` less.
    pub fn add_vault(&mut self, id: &KeyId, file: &str, text: &[u8]) -> Result<(), KeyringError> {
        let password = if is_json(file, text) {
            let raw = parse_json::<VaultAnswer<&RawValue>>(file, text)?.password();
            raw.map(|raw| KeyText::from_json(file, text, raw)).transpose()?
        } else {
            parse_yaml::<VaultAnswer<KeyText>>(file, text, VAULT_SHAPE)?.password()
        };
        let password = password
            .ok_or(KeyringError::NoKeys { file: file.to_owned(), place: "data.UsernamePassword.password" })?;
        self.add(file, id.as_str().to_owned(), password)
    }

    fn add(&mut self, file: &str, id: String, key: KeyText) -> Result<(), KeyringError> {
        let file = file.to_owned();
        if MasterKey::from_base64(&id).is_ok() {
            return Err(KeyringError::IdIsKey { file });
        }
        let Ok(id) = id.parse::<KeyId>() else {
            return Err(KeyringError::KeyId { file, id: printable(&id) });
        };
        // Of an id that stands twice that is what is said, whatever the second key is.
        self.refuse_repeated(&file, &id)?;
        let key = key.0.map_err(|error| KeyringError::KeyText {
            file: file.clone(),
            id: printable(id.as_str()),
            error,
        })?;
        self.add_key(&file, id, key)
    }

    /// Takes a key that comes from no secrets file; `origin` says in messages where from.
    pub fn add_key(&mut self, origin: &str, id: KeyId, key: MasterKey) -> Result<(), KeyringError> {
        self.refuse_repeated(origin, &id)?;
        self.keys.push(Key::new(id, key));
        self.files.push(origin.to_owned());
        Ok(())
    }

    fn refuse_repeated(&self, file: &str, id: &KeyId) -> Result<(), KeyringError> {
        let Some(at) = self.position(id.as_str()) else { return Ok(()) };
        let (first, second) = (self.files[at].clone(), file.to_owned());
        Err(KeyringError::Repeated { id: printable(id.as_str()), first, second })
    }

    /// The keys, in the order in which they were given.
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// Where in [`Keyring::keys`] the key of that id stands. (A site has a handful of keys: a walk
    /// over them is as fast as any map.)
    pub fn position(&self, id: &str) -> Option<usize> {
        self.keys.iter().position(|key| key.id.as_str() == id)
    }

    /// The key to re-wrap to; refuses one that is missing, that equals another key, or that is a
    /// placeholder.
    pub fn target(&self, id: &KeyId) -> Result<usize, KeyringError> {
        let id_text = || printable(id.as_str());
        let Some(at) = self.position(id.as_str()) else {
            let mut known: Vec<_> = self.keys.iter().map(|k| printable(k.id.as_str())).collect();
            known.sort();
            let known = if known.is_empty() { "no key".to_owned() } else { known.join(", ") };
            return Err(KeyringError::NoTarget { id: id_text(), known });
        };
        let target = &self.keys[at];
        if target.material.is_one_byte_repeated() {
            return Err(KeyringError::TargetPlaceholder { id: id_text() });
        }
        let same = |(i, key): &(usize, &Key)| *i != at && key.material.same_material(&target.material);
        if let Some((_, other)) = self.keys.iter().enumerate().find(same) {
            return Err(KeyringError::TargetNotNew { id: id_text(), other: printable(other.id.as_str()) });
        }
        Ok(at)
    }
}

/// Which of the two a document is: by its name, else by its first character.
fn is_json(file: &str, text: &[u8]) -> bool {
    let name = file.to_ascii_lowercase();
    let yaml = name.ends_with(".yaml") || name.ends_with(".yml");
    !yaml && text.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'{')
}

/// An error has the place only: the parsers' own messages could quote what stands there.
fn format_error(file: &str, what: &'static str, line: u64, column: u64) -> KeyringError {
    KeyringError::Format { file: file.to_owned(), what, line, column }
}

const SHAPE: &str = "not the expected shape";
const SECRETS_SHAPE: &str = "not YAML of the shape of secrets, machine_identity.encryption_keys.<key id>";
const VAULT_SHAPE: &str = "neither JSON nor YAML as `vault kv get -format=json` (or yaml) prints it";

/// A parser that panics has met a document that it cannot read.
fn parsed<T, E>(
    file: &str,
    parse: impl FnOnce() -> Result<T, E>,
    error: impl FnOnce(E) -> KeyringError,
) -> Result<T, KeyringError> {
    let parsed = caught(parse).ok_or_else(|| format_error(file, "its parser could not go on", 0, 0))?;
    parsed.map_err(error)
}

/// JSON, in which the keys are taken as they stand: of a string that it unescapes, the parser would
/// leave a copy.
fn parse_json<'a, T: Deserialize<'a>>(file: &str, text: &'a [u8]) -> Result<T, KeyringError> {
    parsed(
        file,
        || serde_json::from_slice(text),
        |e| {
            let what = if e.is_data() { SHAPE } else { "not JSON" };
            format_error(file, what, e.line() as u64, e.column() as u64)
        },
    )
}

/// YAML, in which the keys are decoded where the parser hands them over.
fn parse_yaml<T: for<'de> Deserialize<'de>>(
    file: &str,
    text: &[u8],
    shape: &'static str,
) -> Result<T, KeyringError> {
    let options = serde_saphyr::options! { with_snippet: false };
    parsed(
        file,
        || serde_saphyr::from_slice_with_options(text, options),
        |e| {
            let (line, column) = e.location().map_or((0, 0), |l| (l.line(), l.column()));
            format_error(file, shape, line, column)
        },
    )
}

/// A site's secrets, each key given as a `K`.
#[derive(Deserialize)]
struct Secrets<K> {
    machine_identity: Option<MachineIdentity<K>>,
}

#[derive(Deserialize)]
struct MachineIdentity<K> {
    encryption_keys: Option<Keys<K>>,
}

impl<K> Secrets<K> {
    fn keys(self) -> Option<Vec<(String, K)>> {
        Some(self.machine_identity?.encryption_keys?.0)
    }
}

/// A map that keeps repeated ids apart, which serde's own would merge in silence.
struct Keys<K>(Vec<(String, K)>);

#[derive(Deserialize)]
struct VaultAnswer<K> {
    data: Option<VaultData<K>>,
}

#[derive(Deserialize)]
struct VaultData<K> {
    data: Option<VaultInner<K>>,
    #[serde(rename = "UsernamePassword")]
    username_password: Option<UsernamePassword<K>>,
}

#[derive(Deserialize)]
struct VaultInner<K> {
    #[serde(rename = "UsernamePassword")]
    username_password: Option<UsernamePassword<K>>,
}

#[derive(Deserialize)]
struct UsernamePassword<K> {
    password: K,
}

impl<K> VaultAnswer<K> {
    fn password(self) -> Option<K> {
        let VaultData { data, username_password } = self.data?;
        let found = data.map_or(username_password, |inner| inner.username_password);
        Some(found?.password)
    }
}

impl<'de, K: Deserialize<'de>> Deserialize<'de> for Keys<K> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Entries<K>(PhantomData<K>);
        impl<'de, K: Deserialize<'de>> Visitor<'de> for Entries<K> {
            type Value = Keys<K>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("keys by id")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Keys<K>, A::Error> {
                let mut keys = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    keys.push(entry);
                }
                Ok(Keys(keys))
            }
        }
        d.deserialize_map(Entries(PhantomData))
    }
}

/// A key's text, decoded at once, so that no copy is made here.
struct KeyText(Result<MasterKey, KeyTextError>);

impl KeyText {
    /// The key that a value of the document `text` is.
    fn from_json(file: &str, text: &[u8], value: &RawValue) -> Result<KeyText, KeyringError> {
        let Some(escaped) = value.get().strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
            // It is a slice of `text`: its place is the difference of their addresses.
            let at = value.get().as_ptr() as usize - text.as_ptr() as usize;
            let (line, column) = crate::site_config::place(&String::from_utf8_lossy(&text[..at]), at);
            return Err(format_error(file, SHAPE, line as u64, column as u64));
        };
        let unescaped = unescaped(escaped);
        let text = std::str::from_utf8(&unescaped);
        Ok(KeyText(text.map_err(|_| KeyTextError::NotBase64).and_then(MasterKey::from_base64)))
    }
}

/// What stands between the quotes of a JSON string (RFC 8259, section 7), as bytes that are wiped.
/// A character beyond ASCII, which no key has, becomes a byte that is no text.
fn unescaped(escaped: &str) -> Zeroizing<Vec<u8>> {
    let mut plain = Zeroizing::new(Vec::with_capacity(escaped.len()));
    let mut rest = escaped.bytes();
    while let Some(byte) = rest.next() {
        plain.push(match (byte == b'\\').then(|| rest.next()).flatten() {
            None => byte,
            Some(b'b') => 0x08,
            Some(b'f') => 0x0c,
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(b'u') => {
                let digit = |n: u32, b: u8| n * 16 + char::from(b).to_digit(16).unwrap_or(0xff);
                let code = rest.by_ref().take(4).fold(0, digit);
                u8::try_from(code).ok().filter(u8::is_ascii).unwrap_or(0xff)
            }
            Some(quote_slash_or_backslash) => quote_slash_or_backslash,
        });
    }
    plain
}

impl<'de> Deserialize<'de> for KeyText {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = KeyText;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key as base64")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<KeyText, E> {
                Ok(KeyText(MasterKey::from_base64(text)))
            }
            fn visit_string<E: serde::de::Error>(self, text: String) -> Result<KeyText, E> {
                self.visit_str::<E>(&Zeroizing::new(text))
            }
        }
        d.deserialize_str(Text)
    }
}

/// A new key from the operating system's generator.
pub fn generate() -> Result<MasterKey, getrandom::Error> {
    MasterKey::fill_with(getrandom::fill)
}

/// Adds a key to the text of a JSON secrets file, and changes nothing else of it, neither content
/// nor layout: the entry goes behind the last one of `machine_identity.encryption_keys`.
pub fn insert_into_secrets(
    file: &str,
    text: &str,
    id: &KeyId,
    key: &MasterKey,
) -> Result<Zeroizing<String>, KeyringError> {
    use base64::Engine as _;
    // What the file holds must be a keyring already, and without this id.
    let mut keyring = Keyring::new();
    keyring.add_secrets(file, text.as_bytes())?;
    if keyring.position(id.as_str()).is_some() {
        return Err(KeyringError::IsThere { id: printable(id.as_str()), file: file.to_owned() });
    }
    let keys = raw_keys(text).ok_or(KeyringError::Format {
        file: file.to_owned(),
        what: "not JSON (a key can only be added to a JSON file)",
        line: 1,
        column: 1,
    })?;
    // `keys` is a slice of `text`: its place is the difference of their addresses.
    let start = keys.as_ptr() as usize - text.as_ptr() as usize;
    let brace = start + keys.len() - 1;
    let last = text[..brace].trim_end().len();
    let empty = keyring.keys.is_empty();
    // As the entry before it stands: on a line of its own with its indentation, or on the same line.
    let between = &text[start + 1..];
    let lead: String = between.chars().take_while(|c| c.is_ascii_whitespace()).collect();
    let lead = if empty {
        String::new()
    } else if lead.is_empty() {
        " ".to_owned()
    } else {
        lead
    };
    let id_text = serde_json::to_string(id).expect("a key id is a string");
    let base64 = Zeroizing::new(base64::engine::general_purpose::STANDARD.encode(key.expose_key()));
    let comma = if empty { "" } else { "," };
    // Room for all of it: a growing String would leave copies of the other keys behind.
    let mut out = Zeroizing::new(String::with_capacity(text.len() + lead.len() + id_text.len() + 64));
    for part in [&text[..last], comma, &lead, &id_text, ": \"", &base64, "\"", &text[last..]] {
        out.push_str(part);
    }
    Ok(out)
}

/// The text of `machine_identity.encryption_keys` within a JSON document.
fn raw_keys(text: &str) -> Option<&str> {
    #[derive(Deserialize)]
    struct Outer<'a> {
        #[serde(borrow)]
        machine_identity: Inner<'a>,
    }
    #[derive(Deserialize)]
    struct Inner<'a> {
        #[serde(borrow)]
        encryption_keys: &'a RawValue,
    }
    serde_json::from_str::<Outer>(text).ok().map(|outer| outer.machine_identity.encryption_keys.get())
}

/// A new JSON secrets file with one key.
pub fn new_secrets(id: &KeyId, key: &MasterKey) -> Zeroizing<String> {
    let empty = "{\n  \"machine_identity\": {\n    \"encryption_keys\": {}\n  }\n}\n";
    insert_into_secrets("new", empty, id, key).expect("the empty document is in order")
}

#[cfg(test)]
mod tests {
    use super::*;

    const K1: &str = "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=";
    const K2: &str = "AgIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=";

    #[test]
    fn a_json_string_is_unescaped_as_the_parser_would() {
        for escaped in [r"", r"A/+=", r"\u0041\/\u002B\u003d\n", r#"\b\f\n\r\t\"\\\\u0041"#, r"\u0000\u007f"]
        {
            let expected: String = serde_json::from_str(&format!("\"{escaped}\"")).unwrap();
            assert_eq!(std::str::from_utf8(&unescaped(escaped)), Ok(expected.as_str()), "{escaped}");
        }
        for beyond in [r"\u0080", r"A\u00e9", r"\ud83d\ude00"] {
            assert!(std::str::from_utf8(&unescaped(beyond)).is_err(), "{beyond}");
        }
    }

    fn json(keys: &str) -> String {
        format!(r#"{{"other": [1, {{}}], "machine_identity": {{"x": null, "encryption_keys": {{{keys}}}}}}}"#)
    }

    fn load(file: &str, text: &str) -> Result<Keyring, KeyringError> {
        let mut keyring = Keyring::new();
        keyring.add_secrets(file, text.as_bytes())?;
        Ok(keyring)
    }

    fn refusal(file: &str, text: &str) -> String {
        load(file, text).err().expect("refused").to_string()
    }

    fn ids(keyring: &Keyring) -> Vec<&str> {
        keyring.keys().iter().map(|k| k.id().as_str()).collect()
    }

    #[test]
    fn json_and_yaml_hold_the_same_keys() {
        let text = json(&format!(r#""kv1": " {K1}\n", "kv2": "{K2}""#));
        let yaml = format!(
            "other: [1]\nmachine_identity:\n  encryption_keys:\n    kv1: {K1}\n    \"kv2\": '{K2}'\n"
        );
        for (file, text) in
            [("s.json", &text), ("-", &text), ("s.yaml", &text), ("s.yml", &yaml), ("-", &yaml)]
        {
            let keyring = load(file, text).unwrap_or_else(|e| panic!("{file}: {e}"));
            assert_eq!(ids(&keyring), ["kv1", "kv2"], "{file}");
        }
    }

    #[test]
    fn several_files_make_one_keyring() {
        let mut keyring = load("a.json", &json(&format!(r#""kv1": "{K1}""#))).unwrap();
        let v2 = format!(
            r#"{{"data": {{"data": {{"UsernamePassword": {{"username": "", "password": "{K2}"}}}}, "metadata": {{"version": 3}}}}}}"#
        );
        let v1 = format!(r#"{{"data": {{"UsernamePassword": {{"password": "{K2}"}}}}, "lease_id": ""}}"#);
        keyring.add_vault(&"kv2".parse().unwrap(), "v2", v2.as_bytes()).unwrap();
        keyring.add_vault(&"kv3".parse().unwrap(), "v1", v1.as_bytes()).unwrap();
        assert_eq!(ids(&keyring), ["kv1", "kv2", "kv3"]);
        assert_eq!(keyring.keys()[1].fingerprint(), keyring.keys()[2].fingerprint());
        let error = keyring.add_vault(&"kv4".parse().unwrap(), "v", b"{\"data\": {}}").unwrap_err();
        assert_eq!(error.to_string(), "v: no data.UsernamePassword.password is there; is it the right file?");
        let error = keyring.add_vault(&"kv1".parse().unwrap(), "v2", v2.as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), "the key id kv1 is given twice: in a.json and in v2; keep one of them");
    }

    #[test]
    fn what_is_not_a_key_is_refused_by_its_id() {
        let twice = json(&format!(r#""kv1": "{K1}", "kv1": "{K1}""#));
        assert_eq!(refusal("s", &twice), "the key id kv1 is given twice: in s and in s; keep one of them");
        assert!(refusal("s.yaml", &twice).contains("twice") || refusal("s.yaml", &twice).contains("YAML"));
        assert_eq!(
            refusal("s", &json(r#""kv1": "AAAA""#)),
            "s: the key kv1 is 3 bytes long, not 32; a master key is 32 bytes as standard base64"
        );
        assert!(refusal("s", &json(r#""kv1": "SECRET!""#)).contains("kv1 is not standard base64"));
        assert!(refusal("s", &json(&format!(r#""": "{K1}""#))).contains("not 1 to 255 bytes long"));
        assert!(refusal("s", "{}").contains("no machine_identity.encryption_keys is there"));
        assert!(
            refusal("s", "{\"machine_identity\": {\"encryption_keys\": 5}}")
                .contains("not the expected shape")
        );
        assert_eq!(refusal("s", "{\"machine_identity\":\n nope}"), "s: not JSON, at line 2, column 3");
        assert!(refusal("s.yaml", "machine_identity: [").contains("not YAML"));
        assert!(refusal("s", "").contains("no machine_identity"), "{}", refusal("s", ""));
    }

    #[test]
    fn no_message_quotes_what_stands_in_the_file() {
        for text in [
            json(r#""kv1": "Sup3rSecret""#),
            json(r#""kv1": ["Sup3rSecret"]"#),
            json(&format!(r#""Sup3rSecret/{}=": "kv1""#, &K1[12..43])),
            "machine_identity: {encryption_keys: {kv1: [Sup3rSecret]}}".to_owned(),
            "machine_identity: Sup3rSecret".to_owned(),
            "Sup3rSecret: *x".to_owned(),
        ] {
            for file in ["s", "s.yaml"] {
                let error = load(file, &text).err().expect("refused");
                assert!(!format!("{error} {error:?}").contains("Sup3r"), "{error:?}");
            }
        }
    }

    #[test]
    fn a_target_must_be_there_and_new_and_a_key() {
        let zero = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
        let text = json(&format!(r#""a": "{K1}", "b": "{K1}", "c": "{K2}", "zero": "{zero}""#));
        let keyring = load("s", &text).unwrap();
        let target = |id: &str| keyring.target(&id.parse().unwrap()).map_err(|e| e.to_string());
        assert_eq!(target("c"), Ok(2));
        assert!(target("a").unwrap_err().starts_with("the target key a is the same 32 bytes as the key b"));
        assert!(target("zero").unwrap_err().contains("one byte repeated"));
        assert_eq!(
            target("kv9").unwrap_err(),
            "the target key kv9 is in none of the secrets given (they hold a, b, c, zero); add it there first"
        );
    }

    /// Made with `printf 'rekek key fingerprint v1' | openssl dgst -sha256 -mac HMAC -macopt
    /// hexkey:0102…20`.
    #[test]
    fn a_fingerprint_is_the_hmac_of_a_fixed_text() {
        let keyring = load("s", &json(&format!(r#""kv1": "{K1}""#))).unwrap();
        assert_eq!(keyring.keys()[0].fingerprint(), "2147577e97277d7c");
    }

    #[test]
    fn adding_a_key_changes_nothing_else() {
        let key = MasterKey::from_base64(K2).unwrap();
        let id: KeyId = "k\"2".parse().unwrap();
        for (before, after) in [
            (json(&format!(r#""kv1": "{K1}""#)), json(&format!(r#""kv1": "{K1}", "k\"2": "{K2}""#))),
            (json(""), json(&format!(r#""k\"2": "{K2}""#))),
            (
                format!(
                    "{{\n \"machine_identity\": {{\n  \"encryption_keys\": {{\n   \"kv1\": \"{K1}\"\n  }},\n  \"n\": 1.50\n }}\n}}"
                ),
                format!(
                    "{{\n \"machine_identity\": {{\n  \"encryption_keys\": {{\n   \"kv1\": \"{K1}\",\n   \"k\\\"2\": \"{K2}\"\n  }},\n  \"n\": 1.50\n }}\n}}"
                ),
            ),
        ] {
            assert_eq!(*insert_into_secrets("s", &before, &id, &key).unwrap(), after);
            assert!(insert_into_secrets("s", &after, &id, &key).is_err(), "an id that is there");
        }
        let yaml = format!("machine_identity:\n  encryption_keys:\n    kv1: {K1}\n");
        let error = insert_into_secrets("s.yaml", &yaml, &id, &key).unwrap_err().to_string();
        assert!(error.contains("only be added to a JSON file"), "{error}");
        let new = new_secrets(&id, &key);
        assert_eq!(ids(&load("s.json", &new).unwrap()), ["k\"2"]);
    }
}
