//! The baseline: the same steps as the online service takes them, with nothing made faster.
//!
//! serde_json with a derived reader and writer, the base64 crate, aes-gcm with a cipher made for
//! each call, a nonce from the operating system each time. It owns no cleverness: it is what the
//! ratios of the benches are against.

use aes_gcm::aead::Aead as _;
use aes_gcm::{Aes256Gcm, KeyInit as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Envelope {
    pub scheme_version: u8,
    pub key_id: String,
    pub nonce: [u8; 12],
    pub ciphertext: Vec<u8>,
}

pub fn read(text: &str) -> Envelope {
    let json = STANDARD.decode(text.trim()).expect("base64");
    let envelope: Envelope = serde_json::from_slice(&json).expect("an envelope");
    assert_eq!(envelope.scheme_version, 1);
    envelope
}

pub fn write(envelope: &Envelope) -> String {
    STANDARD.encode(serde_json::to_vec(envelope).expect("JSON"))
}

pub fn open(key: &[u8; 32], envelope: &Envelope) -> Vec<u8> {
    let cipher = Aes256Gcm::new(key.into());
    cipher.decrypt((&envelope.nonce).into(), &envelope.ciphertext[..]).expect("it opens")
}

pub fn seal(key_id: &str, key: &[u8; 32], plaintext: &[u8]) -> Envelope {
    let mut nonce = [0; 12];
    getrandom::fill(&mut nonce).expect("the system's generator");
    let cipher = Aes256Gcm::new(key.into());
    let ciphertext = cipher.encrypt((&nonce).into(), plaintext).expect("it seals");
    Envelope { scheme_version: 1, key_id: key_id.to_owned(), nonce, ciphertext }
}

/// One field, re-wrapped and verified.
pub fn rewrap(text: &str, from: &[u8; 32], to: &[u8; 32]) -> String {
    let plaintext = open(from, &read(text));
    let new = write(&seal("kv2", to, &plaintext));
    let proof = read(&new);
    assert!(proof.key_id == "kv2" && open(to, &proof) == plaintext);
    new
}
