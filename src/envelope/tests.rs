//! The format, from outside its readers: known answers, and every reader against the others.

use super::*;
use crate::envelope::cipher::{AuthenticationFailed, Cipher};
use crate::secret::MasterKey;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, TestRunner};
use std::cell::Cell;
use std::collections::HashMap;

/// What a reader makes of a text, comparable across readers: the reason of a refusal may differ,
/// its class must not.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Envelope { key_id: String, nonce: Nonce, body: Vec<u8> },
    Malformed,
    UnsupportedVersion(u8),
}

fn refused(error: EnvelopeError) -> Seen {
    match error {
        EnvelopeError::Malformed(_) => Seen::Malformed,
        EnvelopeError::UnsupportedVersion(version) => Seen::UnsupportedVersion(version),
    }
}

fn by_ours(text: &str, scratch: &mut Scratch) -> Seen {
    match read(text, scratch) {
        Ok(Envelope { key_id, nonce, body }) => {
            Seen::Envelope { key_id: key_id.to_owned(), nonce, body: body.expose_plaintext().to_vec() }
        }
        Err(error) => refused(error),
    }
}

fn by_tolerant_alone(text: &str) -> Seen {
    let mut scratch = Scratch::new();
    let Scratch { json, name, key_id, body, .. } = &mut scratch;
    let json = match text::decode(text::trim(text.as_bytes()), json) {
        Ok(json) => json,
        Err(error) => return refused(error),
    };
    match tolerant::read(json, name, key_id, body) {
        Ok(nonce) => Seen::Envelope { key_id: key_id.clone(), nonce, body: body.expose_plaintext().to_vec() },
        Err(error) => refused(error),
    }
}

fn by_independent(text: &str) -> Seen {
    match independent::read(text) {
        Ok(envelope) => {
            Seen::Envelope { key_id: envelope.key_id, nonce: envelope.nonce, body: envelope.ciphertext }
        }
        Err(error) => refused(error),
    }
}

/// A scratch for each tier that the machine has, the chosen one's first.
struct Scratches(Vec<Scratch>);

impl Scratches {
    fn new() -> Self {
        let of = |tier| Scratch::with_tier(tier).ok();
        Scratches(std::iter::once(Scratch::new()).chain(Tier::ALL.into_iter().filter_map(of)).collect())
    }
}

/// Reads a text with every reader there is, and insists that they agree.
fn by_all(text: &str, Scratches(scratches): &mut Scratches) -> Seen {
    let (scratch, others) = scratches.split_first_mut().unwrap();
    let seen = by_ours(text, scratch);
    for other in others {
        assert_eq!(by_ours(text, other), seen, "another tier, {text:?}");
    }
    assert_eq!(by_tolerant_alone(text), seen, "tolerant alone, {text:?}");
    assert_eq!(by_independent(text), seen, "independent, {text:?}");
    let key_id = key_id(text, scratch);
    match &seen {
        Seen::Envelope { key_id: expected, .. } => assert_eq!(key_id, Ok(expected.as_str())),
        other => assert_eq!(key_id.map_err(refused), Err(other.clone())),
    }
    seen
}

fn write_alone(key_id: &str, nonce: &Nonce, ciphertext: &[u8]) -> String {
    let mut out = Vec::new();
    write(key_id, nonce, ciphertext, &mut Scratch::new(), &mut out);
    String::from_utf8(out).unwrap()
}

fn of_json(json: impl AsRef<[u8]>) -> String {
    STANDARD.encode(json)
}

// Known answers.

#[derive(serde::Deserialize)]
struct Vectors {
    keys: HashMap<String, String>,
    decode: Vec<Decode>,
    encode: Vec<Encode>,
}

#[derive(serde::Deserialize)]
struct Decode {
    name: String,
    envelope: String,
    key_id: Option<String>,
    plaintext_b64: Option<String>,
    expect: String,
}

#[derive(serde::Deserialize)]
struct Encode {
    key_id: String,
    nonce: Nonce,
    plaintext_b64: String,
    envelope: String,
}

impl Vectors {
    fn load() -> Self {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/vectors/envelope-v1.json");
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }

    fn ciphers(&self) -> HashMap<&str, Cipher> {
        let cipher = |text: &String| Cipher::new(&MasterKey::from_base64(text).unwrap());
        self.keys.iter().map(|(id, text)| (id.as_str(), cipher(text))).collect()
    }
}

#[test]
fn the_known_answers_are_read_and_opened() {
    let vectors = Vectors::load();
    let ciphers = vectors.ciphers();
    // One scratch for all: nothing of one envelope may be left for the next.
    let mut scratch = Scratches::new();
    let mut met: HashMap<&str, usize> = HashMap::new();
    for Decode { name, envelope, key_id, plaintext_b64, expect } in &vectors.decode {
        *met.entry(expect).or_default() += 1;
        let seen = by_all(envelope, &mut scratch);
        let found = match (expect.as_str(), &seen) {
            ("malformed", Seen::Malformed) | ("unsupported_version", Seen::UnsupportedVersion(_)) => continue,
            ("ok" | "unknown_key" | "auth_failed", Seen::Envelope { key_id, .. }) => key_id,
            _ => panic!("{name}: expected {expect}, found {seen:?}"),
        };
        assert_eq!(Some(found), key_id.as_ref(), "{name}");
        let Some(cipher) = ciphers.get(found.as_str()) else {
            assert_eq!(expect, "unknown_key", "{name}");
            continue;
        };

        let Envelope { nonce, body, .. } = read(envelope, &mut scratch.0[0]).unwrap();
        let ciphertext = body.expose_plaintext().to_vec();
        let mut elsewhere = Plaintext::new();
        let into = cipher.open_into(&nonce, &ciphertext, &mut elsewhere);
        let in_place = cipher.open(&nonce, body);
        assert_eq!(into, in_place, "{name}");
        assert_eq!(elsewhere.expose_plaintext(), body.expose_plaintext(), "{name}");
        match expect.as_str() {
            "ok" => {
                assert_eq!(in_place, Ok(()), "{name}");
                let plaintext = STANDARD.decode(plaintext_b64.as_ref().unwrap()).unwrap();
                assert_eq!(body.expose_plaintext(), plaintext, "{name}");
            }
            _ => {
                assert_eq!((expect.as_str(), in_place), ("auth_failed", Err(AuthenticationFailed)), "{name}");
                assert!(body.expose_plaintext().is_empty(), "{name}: nothing is left to be used by mistake");
            }
        }
    }
    for class in ["ok", "malformed", "unsupported_version", "unknown_key", "auth_failed"] {
        assert!(met.contains_key(class), "the vectors have lost {class}");
    }
}

#[test]
fn the_known_answers_are_written_byte_for_byte() {
    let vectors = Vectors::load();
    let ciphers = vectors.ciphers();
    let mut scratch = Scratches::new();
    let mut sealed = Vec::new();
    for Encode { key_id, nonce, plaintext_b64, envelope } in &vectors.encode {
        let plaintext = STANDARD.decode(plaintext_b64).unwrap();
        ciphers[key_id.as_str()].seal(nonce, &plaintext, &mut sealed);
        for scratch in &mut scratch.0 {
            let mut out = b"before".to_vec();
            write(key_id, nonce, &sealed, scratch, &mut out);
            assert_eq!(out, format!("before{envelope}").as_bytes(), "appended, and exact");
        }
    }
    assert!(!vectors.encode.is_empty());
}

// Rules that the vectors leave open, each by its own name.

const CANONICAL: &str =
    r#"{"scheme_version":1,"key_id":"k","nonce":[1,2,3,4,5,6,7,8,9,10,11,12],"ciphertext":[7,0,255]}"#;

#[test]
fn any_spelling_of_the_object_is_read() {
    let mut scratch = Scratches::new();
    let expected = Seen::Envelope {
        key_id: "k".into(),
        nonce: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12],
        body: vec![7, 0, 255],
    };
    for same in [
        CANONICAL.to_owned(),
        format!(" \t\r\n{CANONICAL}\n\r\t "),
        CANONICAL.replace([','], " ,\t").replace(['['], "[\n").replace([']'], "\r]").replace([':'], " : "),
        CANONICAL.replace(r#""k""#, r#""\u006b""#).replace("nonce", r"\u006e\u006Fnce"),
        r#"{"ciphertext":[7,0,255],"nonce":[1,2,3,4,5,6,7,8,9,10,11,12],"key_id":"k","scheme_version":1}"#
            .into(),
    ] {
        assert_eq!(by_all(&of_json(&same), &mut scratch), expected, "{same}");
    }
    let around = format!(" \t\n\u{b}\u{c}\r{}\u{b}\r\n", of_json(CANONICAL));
    assert_eq!(by_all(&around, &mut scratch), expected);
}

#[test]
fn any_string_is_read_as_a_key_id_and_half_a_surrogate_pair_is_none() {
    let mut scratch = Scratches::new();
    for (spelled, key_id) in [
        ("", ""),
        (r#"\"\\\/\b\f\n\r\t"#, "\"\\/\u{8}\u{c}\n\r\t"),
        (r"\u0000\u001f\uD83D\uDE00\uffff", "\0\u{1f}\u{1f600}\u{ffff}"),
        ("\u{7f}\u{2028}\u{feff}\u{10ffff}", "\u{7f}\u{2028}\u{feff}\u{10ffff}"),
    ] {
        let text = of_json(CANONICAL.replace(r#""k""#, &format!("\"{spelled}\"")));
        match by_all(&text, &mut scratch) {
            Seen::Envelope { key_id: read, .. } => assert_eq!(read, key_id),
            other => panic!("{spelled:?}: {other:?}"),
        }
    }
    for bad in [
        r"\ud83d",
        r"\ude00",
        r"\ude00\ud83d",
        r"\ud83d\ud83d",
        r"\ud83dx",
        r"\ud83d\n",
        r"\ud83d\u0041",
        r"\u12",
        r"\u12g4",
        r"\u+123",
        r"\U0041",
        r"\x41",
        r"\'",
        "\n",
        "\0",
        "\u{1f}",
        r"\",
    ] {
        let text = of_json(CANONICAL.replace(r#""k""#, &format!("\"{bad}\"")));
        assert_eq!(by_all(&text, &mut scratch), Seen::Malformed, "{bad:?}");
    }
}

#[test]
fn what_is_no_envelope_is_malformed() {
    let mut scratch = Scratches::new();
    for (from, to) in [
        ("{\"scheme_version\"", "\u{feff}{\"scheme_version\""),
        (":1,", ":01,"),
        (":1,", ":1.0,"),
        (":1,", ":1e0,"),
        (":1,", ":-0,"),
        (":1,", ":-1,"),
        (":1,", ":+1,"),
        (":1,", ":256,"),
        (":1,", ":18446744073709551617,"),
        (":1,", ":\"1\","),
        (":1,", ":null,"),
        (":1,", ":true,"),
        (":1,", ":[1],"),
        (":1,", ":,"),
        (":1,", ":1 0,"),
        ("[7,0,255]", "[7,00,255]"),
        ("[7,0,255]", "[7,-0,255]"),
        ("[7,0,255]", "[7,0.0,255]"),
        ("[7,0,255]", "[7,0E1,255]"),
        ("[7,0,255]", "[7,256]"),
        ("[7,0,255]", "[7,,0]"),
        ("[7,0,255]", "[7,]"),
        ("[7,0,255]", "[,7]"),
        ("[7,0,255]", "[7"),
        ("[7,0,255]", "[[7]]"),
        ("[7,0,255]", "[\"7\"]"),
        ("[7,0,255]", "[7 0]"),
        ("[7,0,255]", "[7\u{b},0]"),
        ("[7,0,255]", "{}"),
        ("[7,0,255]", "null"),
        (",12]", ",12,13]"),
        (",12]", "]"),
        ("\"k\"", "null"),
        ("\"k\"", "7"),
        ("\"k\"", "[]"),
        ("\"k\"", "'k'"),
        ("]}", "],}"),
        ("]}", "]}}"),
        ("]}", "]}\0"),
        ("]}", "]"),
        ("{\"s", "{,\"s"),
        ("\"nonce\"", "\"Nonce\""),
        ("\"nonce\"", "nonce"),
        ("]}", "],\"key_id\":\"k\"}"),
        ("]}", "],\"scheme_version\":1}"),
        ("]}", "],\"nonce\":[1,2,3,4,5,6,7,8,9,10,11,12]}"),
        ("]}", "],\"ciphertext\":[7,0,255]}"),
        ("]}", "],\"x\":1}"),
        ("]}", "],\"\":1}"),
        ("\"key_id\":\"k\",", ""),
        (":1,", ":1;"),
        ("\"key_id\":", "\"key_id\""),
    ] {
        let json = CANONICAL.replacen(from, to, 1);
        assert_ne!(json, CANONICAL, "{from} -> {to}");
        assert_eq!(by_all(&of_json(&json), &mut scratch), Seen::Malformed, "{json}");
    }
    for json in
        ["", " ", "{}", "[]", "null", "1", "\"\"", "{", "[1,\"k\",[1,2,3,4,5,6,7,8,9,10,11,12],[7,0,255]]"]
    {
        assert_eq!(by_all(&of_json(json), &mut scratch), Seen::Malformed, "{json}");
    }
    let mut not_utf8 = CANONICAL.as_bytes().to_vec();
    not_utf8[31] = 0xff;
    assert_eq!(by_all(&of_json(&not_utf8), &mut scratch), Seen::Malformed);
    for text in ["", " ", "=", "====", "e30", "e31=", "e30=e30=", "e3\n0=", "\u{a0}e30=", CANONICAL] {
        assert_eq!(by_all(text, &mut scratch), Seen::Malformed, "{text:?}");
    }
}

#[test]
fn another_version_is_told_apart_only_where_all_else_is_an_envelope() {
    let mut scratch = Scratches::new();
    for version in [0, 2, 255] {
        let json = CANONICAL.replacen(":1,", &format!(":{version},"), 1);
        assert_eq!(by_all(&of_json(&json), &mut scratch), Seen::UnsupportedVersion(version));
        let short = json.replace(",12]", "]");
        assert_eq!(by_all(&of_json(&short), &mut scratch), Seen::Malformed);
    }
}

#[test]
fn deep_nesting_is_refused_at_its_first_bracket() {
    let mut scratch = Scratches::new();
    for deep in ["[".repeat(1 << 20), "{\"nonce\":".repeat(1 << 17), "{\"a\":".repeat(1 << 17)] {
        assert_eq!(by_all(&of_json(&deep), &mut scratch), Seen::Malformed);
    }
}

#[test]
fn errors_never_quote() {
    let error = read(&of_json(CANONICAL.replace("\"k\"", "\"hush\",\"hush\":1")), &mut Scratch::new()).err();
    assert!(!error.unwrap().to_string().contains("hush"));
}

// The readers against each other, on what nobody thought of.

/// A member of the object: how its name and its value are spelled.
type Member = (String, String);

/// How an envelope's JSON is to be spoilt, or only respelled.
#[derive(Debug, Clone)]
enum Change {
    Swap(Index, Index),
    Repeat(Index),
    Remove(Index),
    Rename(Index, &'static str),
    Value(Index, &'static str),
    /// Puts an odd number in a list.
    Number(Index, &'static str),
    EscapeName(Index),
    EscapeKeyId,
    KeyId(&'static str),
}

const ODD_NAMES: [&str; 9] =
    ["", "x", "Nonce", "nonce ", "key_id", "scheme_version", r"\u006eonce", r"nonce\u0000", r"\ud800"];
const ODD_VALUES: [&str; 26] = [
    "0",
    "1",
    "2",
    "255",
    "256",
    "01",
    "1.0",
    "1e0",
    "-0",
    "-1",
    "+1",
    "null",
    "true",
    "{}",
    "[]",
    "[[1]]",
    "[256]",
    "{\"a\":[{}]}",
    "\"\"",
    "\"1\"",
    "[1,2,3,4,5,6,7,8,9,10,11,12]",
    "[0,0,0,0,0,0,0,0,0,0,0]",
    "[0,0,0,0,0,0,0,0,0,0,0,0,0]",
    "",
    "[1,]",
    "\"\u{7f}\"",
];
const ODD_NUMBERS: [&str; 24] = [
    "0", "9", "10", "99", "100", "255", "256", "260", "300", "999", "1000", "00", "01", "007", "0255", "1.0",
    "1e0", "1E+0", "-0", "-1", "+1", "", "\"1\"", "[1]",
];
const ODD_KEY_IDS: [&str; 12] = [
    "",
    r"\n",
    r"\u0041",
    r"\ud83d\ude00",
    r"\ud83d",
    r"\ude00",
    r"\ud83d\u0041",
    "\u{1}",
    "\n",
    "\"",
    "\\",
    "\u{e9}",
];
const SPACES: [&str; 8] = ["", "", "", "", " ", "\n\t", "\r", "\u{b}"];
const BYTES: &[u8] = b"0123456789,,[]{}\"\"\\:.-+eEu \t\n\x0b\0\xc3\xa9\xed\xa0\xbf\xefkn/";

fn change() -> impl Strategy<Value = Change> {
    let index = any::<Index>;
    prop_oneof![
        3 => (index(), index()).prop_map(|(a, b)| Change::Swap(a, b)),
        1 => index().prop_map(Change::Repeat),
        1 => index().prop_map(Change::Remove),
        1 => (index(), select(&ODD_NAMES[..])).prop_map(|(i, name)| Change::Rename(i, name)),
        1 => (index(), select(&ODD_VALUES[..])).prop_map(|(i, value)| Change::Value(i, value)),
        2 => (index(), select(&ODD_NUMBERS[..])).prop_map(|(i, number)| Change::Number(i, number)),
        1 => index().prop_map(Change::EscapeName),
        1 => Just(Change::EscapeKeyId),
        1 => select(&ODD_KEY_IDS[..]).prop_map(Change::KeyId),
    ]
}

fn escape_all(string: &str) -> String {
    string.encode_utf16().map(|unit| format!("\\u{unit:04X}")).collect()
}

fn apply(change: &Change, members: &mut Vec<Member>, key_id: &str) {
    if members.is_empty() {
        return;
    }
    let n = members.len();
    match change {
        Change::Swap(a, b) => members.swap(a.index(n), b.index(n)),
        Change::Repeat(i) => members.push(members[i.index(n)].clone()),
        Change::Remove(i) => drop(members.remove(i.index(n))),
        Change::Rename(i, name) => members[i.index(n)].0 = (*name).into(),
        Change::Value(i, value) => members[i.index(n)].1 = (*value).into(),
        Change::Number(i, number) => {
            for (_, value) in members.iter_mut().filter(|member| member.1.starts_with('[')) {
                let inner = value[1..].trim_end_matches(']');
                let mut numbers: Vec<&str> = inner.split(',').collect();
                let at = i.index(numbers.len());
                numbers[at] = number;
                let changed = format!("[{}]", numbers.join(","));
                *value = changed;
            }
        }
        Change::EscapeName(i) => {
            let name = &mut members[i.index(n)].0;
            if !name.contains('\\') {
                *name = escape_all(name);
            }
        }
        Change::EscapeKeyId => {
            for member in members.iter_mut().filter(|member| member.0 == "key_id") {
                member.1 = format!("\"{}\"", escape_all(key_id));
            }
        }
        Change::KeyId(spelled) => {
            for member in members.iter_mut().filter(|member| member.0 == "key_id") {
                member.1 = format!("\"{spelled}\"");
            }
        }
    }
}

const FRONTS: [&[u8]; 3] = [b"\xef\xbb\xbf", b" ", b"\0"];

/// An edit of bytes, at one place.
#[derive(Debug, Clone)]
enum Edit {
    Insert(Index, u8),
    Replace(Index, u8),
    Delete(Index),
    Truncate(Index),
    Append(u8),
    Prepend(&'static [u8]),
}

fn edit(alphabet: &'static [u8]) -> impl Strategy<Value = Edit> {
    let byte = || prop_oneof![9 => select(alphabet), 1 => any::<u8>()];
    prop_oneof![
        3 => (any::<Index>(), byte()).prop_map(|(i, b)| Edit::Insert(i, b)),
        3 => (any::<Index>(), byte()).prop_map(|(i, b)| Edit::Replace(i, b)),
        3 => any::<Index>().prop_map(Edit::Delete),
        1 => any::<Index>().prop_map(Edit::Truncate),
        1 => byte().prop_map(Edit::Append),
        1 => select(&FRONTS[..]).prop_map(Edit::Prepend),
    ]
}

fn edited(mut bytes: Vec<u8>, edits: &[Edit]) -> Vec<u8> {
    for edit in edits {
        let n = bytes.len();
        match edit {
            Edit::Insert(i, byte) => bytes.insert(i.index(n + 1), *byte),
            Edit::Append(byte) => bytes.push(*byte),
            Edit::Prepend(front) => drop(bytes.splice(..0, front.iter().copied())),
            Edit::Replace(i, byte) if n > 0 => bytes[i.index(n)] = *byte,
            Edit::Delete(i) if n > 0 => drop(bytes.remove(i.index(n))),
            Edit::Truncate(i) => bytes.truncate(i.index(n + 1)),
            _ => {}
        }
    }
    bytes
}

/// What is done to the text after it was encoded.
#[derive(Debug, Clone)]
enum Wrapping {
    Canonical,
    NoPadding,
    UrlSafe,
    TrailingBits,
    Edited(Vec<Edit>),
    SpaceAround(&'static str, &'static str),
}

const AROUND: [&str; 8] = ["", " ", "\t\n", "\u{b}", "\u{c}\r", "\u{a0}", "\u{85}", "\0"];
const TEXT_BYTES: &[u8] = b"ABCDwxyz0189+/-_==\n\r \x0b.";

fn wrapping() -> impl Strategy<Value = Wrapping> {
    prop_oneof![
        12 => Just(Wrapping::Canonical),
        1 => Just(Wrapping::NoPadding),
        1 => Just(Wrapping::UrlSafe),
        1 => Just(Wrapping::TrailingBits),
        3 => vec(edit(TEXT_BYTES), 1..3).prop_map(Wrapping::Edited),
        3 => (select(&AROUND[..]), select(&AROUND[..])).prop_map(|(a, b)| Wrapping::SpaceAround(a, b)),
    ]
}

fn wrapped(json: &[u8], wrapping: &Wrapping) -> String {
    use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE};
    let text = STANDARD.encode(json);
    match wrapping {
        Wrapping::Canonical => text,
        Wrapping::NoPadding => STANDARD_NO_PAD.encode(json),
        Wrapping::UrlSafe => URL_SAFE.encode(json),
        Wrapping::TrailingBits => match text.trim_end_matches('=') {
            unpadded if unpadded.len() < text.len() => {
                let (front, last) = unpadded.split_at(unpadded.len() - 1);
                // A letter of the alphabet after any that ends a padded group sets unused bits.
                format!("{front}{}{}", (last.as_bytes()[0] + 1) as char, &text[unpadded.len()..])
            }
            _ => text,
        },
        Wrapping::Edited(edits) => String::from_utf8_lossy(&edited(text.into_bytes(), edits)).into_owned(),
        Wrapping::SpaceAround(before, after) => format!("{before}{text}{after}"),
    }
}

fn key_ids() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "kv[0-9]{1,3}",
        1 => "[ -~]{0,40}",
        1 => any::<String>(),
        1 => Just(String::new()),
    ]
}

/// Texts around the border between what is an envelope and what is not.
fn texts() -> impl Strategy<Value = String> {
    let version = prop_oneof![12 => Just(1u8), 1 => any::<u8>()];
    let changes = prop_oneof![2 => Just(vec![]), 3 => vec(change(), 1..4)];
    let spaces = prop_oneof![3 => Just(vec![""; 12]), 1 => vec(select(&SPACES[..]), 12)];
    let edits = prop_oneof![3 => Just(vec![]), 1 => vec(edit(BYTES), 1..4)];
    let values = (version, key_ids(), any::<Nonce>(), vec(any::<u8>(), 0..60));
    (values, changes, spaces, edits, wrapping()).prop_map(|(values, changes, spaces, edits, wrapping)| {
        let (version, key_id, nonce, ciphertext) = values;
        let list = |bytes: &[u8]| serde_json::to_string(bytes).unwrap();
        let mut members: Vec<Member> = vec![
            ("scheme_version".into(), version.to_string()),
            ("key_id".into(), serde_json::to_string(&key_id).unwrap()),
            ("nonce".into(), list(&nonce)),
            ("ciphertext".into(), list(&ciphertext)),
        ];
        for change in &changes {
            apply(change, &mut members, &key_id);
        }
        let mut space = spaces.iter().cycle();
        let mut space = || space.next().unwrap();
        let mut json = format!("{}{{", space());
        for (i, (name, value)) in members.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            let value = value.replace(',', &format!("{},", space()));
            json += &format!("{comma}{}\"{name}\"{}:{}{value}{}", space(), space(), space(), space());
        }
        json += &format!("}}{}", space());
        wrapped(&edited(json.into_bytes(), &edits), &wrapping)
    })
}

/// Cases for the tests that look for a disagreement: more where somebody asks for it.
fn config() -> Config {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(4_000);
    Config { cases, failure_persistence: None, ..Config::default() }
}

#[test]
fn the_readers_agree_on_everything() {
    let (canonical, respelled, malformed, version) = (Cell::new(0), Cell::new(0), Cell::new(0), Cell::new(0));
    let count = |class: &Cell<u32>| class.set(class.get() + 1);
    let scratch = std::cell::RefCell::new(Scratches::new());
    TestRunner::new(config())
        .run(&texts(), |text| {
            let mut scratch = scratch.borrow_mut();
            match by_all(&text, &mut scratch) {
                Seen::Envelope { key_id, nonce, body } => {
                    let again = write_alone(&key_id, &nonce, &body);
                    count(if again == crate::row::trim(&text) { &canonical } else { &respelled });
                    let expected = Seen::Envelope { key_id, nonce, body };
                    prop_assert_eq!(by_all(&again, &mut scratch), expected, "written and read again");
                }
                Seen::Malformed => count(&malformed),
                Seen::UnsupportedVersion(_) => count(&version),
            }
            Ok(())
        })
        .unwrap();
    // A test that only ever refuses, or only ever accepts, shows nothing.
    let all = config().cases;
    for (class, least) in
        [(canonical, all / 20), (respelled, all / 20), (malformed, all / 5), (version, all / 200)]
    {
        assert!(class.get() >= least, "{} cases of a class, of {all}", class.get());
    }
}

#[test]
fn what_is_written_is_what_serde_json_and_base64_write() {
    let values = (key_ids(), any::<Nonce>(), vec(any::<u8>(), 0..700));
    let scratch = std::cell::RefCell::new(Scratches::new());
    TestRunner::new(Config { cases: 1_000, ..config() })
        .run(&values, |(key_id, nonce, ciphertext)| {
            let mut scratch = scratch.borrow_mut();
            let json = format!(
                r#"{{"scheme_version":1,"key_id":{},"nonce":{},"ciphertext":{}}}"#,
                serde_json::to_string(&key_id).unwrap(),
                serde_json::to_string(&nonce).unwrap(),
                serde_json::to_string(&ciphertext).unwrap(),
            );
            let text = STANDARD.encode(json);
            for scratch in &mut scratch.0 {
                let mut out = Vec::new();
                write(&key_id, &nonce, &ciphertext, scratch, &mut out);
                prop_assert_eq!(std::str::from_utf8(&out).unwrap(), &text);
            }
            let expected = Seen::Envelope { key_id, nonce, body: ciphertext };
            prop_assert_eq!(by_all(&text, &mut scratch), expected);
            Ok(())
        })
        .unwrap();
}

#[test]
fn every_control_character_of_a_key_id_is_escaped_as_serde_json_does() {
    let key_id: String = (0..=0x2ff).filter_map(char::from_u32).collect();
    let text = write_alone(&key_id, &[0; 12], &[]);
    let json = STANDARD.decode(&text).unwrap();
    let spelled = format!(":{},", serde_json::to_string(&key_id).unwrap());
    assert!(String::from_utf8(json).unwrap().contains(&spelled));
    assert_eq!(key_id, super::key_id(&text, &mut Scratch::new()).unwrap());
}

#[test]
fn arbitrary_text_never_panics_a_reader() {
    let scratch = std::cell::RefCell::new(Scratches::new());
    let texts = prop_oneof![any::<String>(), vec(any::<u8>(), 0..200).prop_map(of_json)];
    TestRunner::new(Config { cases: 2_000, ..config() })
        .run(&texts, |text| {
            by_all(&text, &mut scratch.borrow_mut());
            Ok(())
        })
        .unwrap();
}

#[test]
fn the_whole_way_round() {
    let key = |byte| {
        MasterKey::fill_with::<()>(|k| {
            k.fill(byte);
            Ok(())
        })
        .unwrap()
    };
    let (ours, other) = (Cipher::new(&key(1)), Cipher::new(&key(2)));
    let values = (vec(any::<u8>(), 0..600), any::<Nonce>(), any::<Index>(), 0u8..8);
    TestRunner::new(Config { cases: 500, ..config() })
        .run(&values, |(plaintext, nonce, at, bit)| {
            let mut sealed = Vec::new();
            ours.seal(&nonce, &plaintext, &mut sealed);
            prop_assert_eq!(sealed.len(), plaintext.len() + TAG_LEN);
            let text = write_alone("kv1", &nonce, &sealed);
            let mut scratch = Scratch::new();
            let envelope = read(&text, &mut scratch).unwrap();
            prop_assert_eq!(ours.open(&envelope.nonce, envelope.body), Ok(()));
            prop_assert_eq!(envelope.body.expose_plaintext(), &plaintext[..]);

            let mut into = Plaintext::new();
            prop_assert_eq!(other.open_into(&nonce, &sealed, &mut into), Err(AuthenticationFailed));
            sealed[at.index(plaintext.len() + TAG_LEN)] ^= 1 << bit;
            prop_assert_eq!(ours.open_into(&nonce, &sealed, &mut into), Err(AuthenticationFailed));
            prop_assert!(into.expose_plaintext().is_empty());
            Ok(())
        })
        .unwrap();
}
