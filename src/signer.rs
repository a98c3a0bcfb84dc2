//! Signs manifests: the secret half of minisign's format.
//!
//! It owns what minisign's key file looks like, how its passphrase opens it, and how a signature is
//! made and spelled. Its invariant: a signature that it hands out was checked by
//! [`crate::signature`], with code that shares nothing with what made it.
//!
//! (The crate minisign keeps its secret key in memory that it never wipes and prints it for
//! debugging, and it refuses keys without a passphrase that Debian's minisign makes, whose checksum
//! is zero. So the format is read here; the cryptography is ed25519-dalek's, blake2's and scrypt's.)

use crate::report::SignatureFile;
use crate::row::Sha256Digest;
use crate::secret::{PAIR_LEN, Passphrase, SignaturePair};
use crate::signature::{self, PublicKeyId, SHA256_LABEL, SignatureError, TrustedKey};
use base64::Engine as _;
use blake2::{Blake2b256, Blake2b512, Digest as _};
use ed25519_dalek::{Signer as _, SigningKey};
use std::path::Path;
use zeroize::Zeroizing;

/// Bytes that a key file may have.
pub const KEY_FILE_BYTES_MAX: u64 = 64 << 10;

/// What the parts of a key file are, in their order: algorithm, how it is encrypted, how it is
/// checked; scrypt's salt and its two limits; then, encrypted, the key's id, the pair and a
/// checksum.
const KEY_BYTES: usize = 2 + 2 + 2 + 32 + 8 + 8 + SECRET_BYTES;
const SECRET_BYTES: usize = 8 + PAIR_LEN + 32;

/// Ed25519, of the message itself: what a key is for, whichever way it signs.
const ALGORITHM: &[u8; 2] = b"Ed";
/// Ed25519 of the message's BLAKE2b-512.
const PREHASHED: &[u8; 2] = b"ED";
const SCRYPT: &[u8; 2] = b"Sc";
const NOT_ENCRYPTED: &[u8; 2] = &[0, 0];
const BLAKE2B: &[u8; 2] = b"B2";

/// Why there is no key to sign with. Nothing of the file or of the passphrase is quoted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignerError {
    /// Not a key file, or a public key.
    #[error("{file} is not a minisign secret key; name the .key file that `minisign -G` wrote")]
    NotAKey {
        /// The file.
        file: String,
    },
    /// Encrypted or checked in a way that minisign does not know (yet).
    #[error("{file} is a minisign secret key of an unknown kind; make one with `minisign -G`")]
    UnknownKind {
        /// The file.
        file: String,
    },
    /// The two halves do not belong together, or the checksum is of another key.
    #[error("the minisign secret key {file} is damaged; use a copy of it, or make a new one")]
    Damaged {
        /// The file.
        file: String,
    },
    /// The passphrase does not open it.
    #[error("the passphrase is not that of {file} (or the file is damaged); run again")]
    WrongPassphrase {
        /// The file.
        file: String,
    },
    /// Parameters far beyond those of minisign's own keys: 1 GiB.
    #[error("the passphrase of {file} asks for more memory or time than minisign ever does; make a new key")]
    Costs {
        /// The file.
        file: String,
    },
    /// The system has not that much memory.
    #[error("to open {file} with its passphrase takes {mib} MiB of memory, which the system does not give")]
    Memory {
        /// The file.
        file: String,
        /// How much.
        mib: usize,
    },
}

/// A key that signs manifests.
pub struct Signer {
    pair: SignaturePair,
    key_id: [u8; 8],
    /// Its own public half, which every signature is checked with.
    public: TrustedKey,
}

/// A signature that holds.
pub struct Signed {
    /// The file's bytes.
    pub bytes: Vec<u8>,
    /// What a report says of it.
    pub file: SignatureFile,
}

impl Signer {
    /// Reads a key file of minisign's, named `file` in messages. `passphrase` is asked if, and only
    /// if, the key is encrypted.
    pub fn read<E: From<SignerError>>(
        file: &str,
        text: &[u8],
        passphrase: impl FnOnce() -> Result<Passphrase, E>,
    ) -> Result<Signer, E> {
        let file = file.to_owned();
        let Some(mut key) = decode(text) else { return Err(SignerError::NotAKey { file }.into()) };
        let (head, secret) = key.split_at_mut(KEY_BYTES - SECRET_BYTES);
        let (algorithm, encryption, check, kdf) = (&head[..2], &head[2..4], &head[4..6], &head[6..]);
        if algorithm != ALGORITHM {
            return Err(SignerError::NotAKey { file }.into());
        }
        let encrypted = match encryption {
            _ if check != BLAKE2B => return Err(SignerError::UnknownKind { file }.into()),
            kind if kind == SCRYPT => true,
            kind if kind == NOT_ENCRYPTED => false,
            _ => return Err(SignerError::UnknownKind { file }.into()),
        };
        if encrypted {
            let costs = Costs::of(kdf).ok_or(SignerError::Costs { file: file.clone() })?;
            costs.reserve().map_err(|mib| SignerError::Memory { file: file.clone(), mib })?;
            let stream = costs.stream(&passphrase()?, &kdf[..32]);
            secret.iter_mut().zip(stream.iter()).for_each(|(byte, mask)| *byte ^= mask);
        }
        let (key_id, pair) = secret[..8 + PAIR_LEN].split_at(8);
        let sum =
            Blake2b256::new().chain_update(algorithm).chain_update(key_id).chain_update(pair).finalize();
        let told = &secret[8 + PAIR_LEN..];
        // Debian's minisign leaves the checksum of a key without passphrase at zero.
        if told != sum.as_slice() && (encrypted || told.iter().any(|b| *b != 0)) {
            return Err(match encrypted {
                true => SignerError::WrongPassphrase { file },
                false => SignerError::Damaged { file },
            }
            .into());
        }
        let pair = SignaturePair::copied_from(pair.try_into().expect("it is that long"));
        Ok(Signer::new(pair, key_id.try_into().expect("8 bytes")).ok_or(SignerError::Damaged { file })?)
    }

    /// None if the public key is not the secret one's: signatures with it would betray that.
    fn new(pair: SignaturePair, key_id: [u8; 8]) -> Option<Signer> {
        SigningKey::from_keypair_bytes(pair.expose_pair()).ok()?;
        let public = [ALGORITHM, &key_id[..], &pair.expose_pair()[32..]].concat();
        Some(Signer { public: base64(&public).parse().ok()?, key_id, pair })
    }

    /// The key's id, as minisign prints it.
    pub fn public_key_id(&self) -> &PublicKeyId {
        self.public.id()
    }

    /// Its public half, which every signature of its is checked with.
    pub fn public(&self) -> &TrustedKey {
        &self.public
    }

    /// Signs a manifest that is to stand under the given name. The trusted comment says when, which
    /// file and which bytes: what minisign says, and the digest that the operator may compare.
    pub fn sign(&self, manifest: &Path, bytes: &[u8]) -> Result<Signed, SignatureError> {
        let name = manifest.file_name().unwrap_or(manifest.as_os_str()).to_string_lossy();
        let comment = format!(
            "timestamp:{}\tfile:{}\thashed\t{SHA256_LABEL}{}",
            jiff::Timestamp::now().as_second(),
            in_one_line(&name),
            Sha256Digest::of(bytes),
        );
        let text = self.spell(&Blake2b512::digest(bytes), &comment);
        let path = signature::path_for(manifest);
        let trusted_comment = self.public.check_text(manifest, bytes, &path, text.as_bytes())?;
        let (file, public_key_id) = (path.display().to_string(), self.public_key_id().clone());
        let file = SignatureFile { file, public_key_id, trusted_comment };
        Ok(Signed { bytes: text.into_bytes(), file })
    }

    fn spell(&self, prehash: &[u8], comment: &str) -> String {
        let key = SigningKey::from_keypair_bytes(self.pair.expose_pair()).expect("it was read once");
        let signature = key.sign(prehash).to_bytes();
        let global = key.sign(&[&signature[..], comment.as_bytes()].concat()).to_bytes();
        format!(
            "untrusted comment: signature from rekek with minisign secret key {}\n{}\ntrusted comment: {comment}\n{}\n",
            self.public_key_id(),
            base64(&[PREHASHED, &self.key_id[..], &signature].concat()),
            base64(&global),
        )
    }
}

/// The bytes of a key file: its second line.
fn decode(text: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let text = std::str::from_utf8(text).ok()?;
    let line = text.lines().nth(1)?.trim();
    let mut key = Zeroizing::new(vec![0; KEY_BYTES + 2]);
    let n = base64::engine::general_purpose::STANDARD.decode_slice(line, &mut key).ok()?;
    if n != KEY_BYTES {
        return None;
    }
    key.truncate(n);
    Some(key)
}

fn base64(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// A file's name without what would end the comment's line or its field.
fn in_one_line(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

/// What scrypt (RFC 7914) is to cost, with r = 8 always.
struct Costs {
    log_n: u8,
    p: u32,
}

impl Costs {
    const R: u64 = 8;

    /// From the limits of operations and of memory that a key file has, in the way of libsodium's
    /// crypto_pwhash_scryptsalsa208sha256, which minisign calls. None if they are beyond what
    /// minisign asks for itself: N = 2^20, which is 1 GiB, and p = 1.
    fn of(kdf: &[u8]) -> Option<Costs> {
        let limit = |at: usize| u64::from_le_bytes(kdf[at..at + 8].try_into().expect("8 bytes"));
        let (operations, memory) = (limit(32).max(32_768), limit(40));
        let n_max = |n_max: u64| (1..63).find(|log_n| 1 << log_n > n_max / 2).unwrap_or(63);
        let (log_n, p) = if operations < memory / 32 {
            (n_max(operations / (Self::R * 4)), 1)
        } else {
            let log_n = n_max(memory / (Self::R * 128));
            (log_n, (operations / 4 / (1 << log_n)).min(0x3fff_ffff) / Self::R)
        };
        let bounded = log_n <= 20 && p >= 1 && p << log_n <= 1 << 22;
        bounded.then_some(Costs { log_n: log_n as u8, p: p as u32 })
    }

    /// Whether there is memory for it; otherwise how much it would be, in MiB. The library's own
    /// allocation would end the process.
    fn reserve(&self) -> Result<(), usize> {
        let bytes = (128 * Self::R as usize) << self.log_n;
        Vec::<u8>::new().try_reserve_exact(bytes).map_err(|_| bytes >> 20)
    }

    fn stream(&self, passphrase: &Passphrase, salt: &[u8]) -> Zeroizing<[u8; SECRET_BYTES]> {
        let mut stream = Zeroizing::new([0; SECRET_BYTES]);
        let params = scrypt::Params::new(self.log_n, Self::R as u32, self.p).expect("they are bounded");
        scrypt::scrypt(passphrase.expose_passphrase(), salt, &params, &mut stream[..])
            .expect("a length that scrypt gives");
        stream
    }
}
