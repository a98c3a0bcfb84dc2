//! A key pair that signs manifests, as minisign makes it, without a passphrase.

use crate::folder::{self, Site};
use base64::Engine as _;
use std::sync::LazyLock;

static PAIR: LazyLock<[String; 2]> = LazyLock::new(|| {
    let site = Site::empty();
    folder::minisign(&site, "-G -W -s key -p pub");
    ["key", "pub"].map(|name| site.read(name))
});

/// Puts `sign.key` and `sign.pub` into the folder.
pub fn add(site: &Site) {
    site.write("sign.key", &PAIR[0]);
    site.write("sign.pub", &PAIR[1]);
}

/// The secret of it: the seed of which Ed25519 makes all else (RFC 8032, 5.1.5).
pub fn seed() -> Vec<u8> {
    key_bytes(&PAIR[0])[62..94].to_vec()
}

/// The bytes of a key file: its head, then (from byte 54 on under the passphrase) the key's id, the
/// seed, the public key and a checksum.
pub fn key_bytes(text: &str) -> Vec<u8> {
    base64::engine::general_purpose::STANDARD.decode(text.lines().nth(1).unwrap()).unwrap()
}
