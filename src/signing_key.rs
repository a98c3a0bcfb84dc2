//! Does a private signing key belong to the public value beside it?
//!
//! Nothing binds an envelope to its row, so a swapped envelope opens cleanly; for signing keys
//! the public value that the export carries tells. It owns that comparison and the two spellings
//! (PKCS#8 PEM, RFC 5958 and 7468; the site's JSON). It keeps nothing of a private key.

use p256::PublicKey;
use p256::elliptic_curve::ALGORITHM_OID;
use p256::pkcs8::{DecodePublicKey as _, ObjectIdentifier, PrivateKeyInfoRef};
use sec1::EcPrivateKey;
use serde::Deserialize;
use std::borrow::Cow;
use zeroize::Zeroize as _;

/// How signing keys are checked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum SigningKeyCheck {
    /// Not at all.
    Off,
    /// The public value against the public key embedded in the private one; recomputed from the
    /// scalar only where none is embedded.
    #[default]
    Embedded,
    /// The public value against the point recomputed from the private scalar, always.
    Full,
}

/// Why a signing key does not pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SigningKeyError {
    /// The plaintext is not a P-256 private key as PKCS#8 PEM.
    #[error("the signing key is not a P-256 private key as PKCS#8 PEM")]
    Private,
    /// The public value has no P-256 public key.
    #[error("the public value beside it is not JSON with a P-256 public key in `public_pem`")]
    Public,
    /// They do not belong together.
    #[error(
        "the signing key does not match the public value beside it: the envelope may be another row's or slot's"
    )]
    Differs,
}

/// Length of a P-256 private key's DER with everything optional; a longer one is none.
const DER_MAX: usize = 512;

/// NIST P-256, also called prime256v1 (RFC 5480, 2.1.1.1).
const P256_OID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");

/// The public value as the site stores it; other members are its own business.
#[derive(Deserialize)]
struct PublicValue<'a> {
    #[serde(borrow)]
    public_pem: Cow<'a, str>,
}

impl SigningKeyCheck {
    /// Compares; [`SigningKeyCheck::Off`] passes everything.
    pub fn check(self, private_pem: &[u8], public_value: &str) -> Result<(), SigningKeyError> {
        if self == SigningKeyCheck::Off {
            return Ok(());
        }
        let public: PublicValue = serde_json::from_str(public_value).map_err(|_| SigningKeyError::Public)?;
        let public =
            PublicKey::from_public_key_pem(&public.public_pem).map_err(|_| SigningKeyError::Public)?;
        let mut der = [0u8; DER_MAX];
        let private = self.public_of(private_pem, &mut der);
        der.zeroize();
        if private? == public { Ok(()) } else { Err(SigningKeyError::Differs) }
    }

    /// The public key of a private one; `der` is scratch space that the caller wipes.
    fn public_of(self, private_pem: &[u8], der: &mut [u8]) -> Result<PublicKey, SigningKeyError> {
        let bad = |_| SigningKeyError::Private;
        let (label, der) = pem_rfc7468::decode(private_pem, der).map_err(|_| SigningKeyError::Private)?;
        let info = PrivateKeyInfoRef::try_from(der).map_err(|_| SigningKeyError::Private)?;
        let curve = info.algorithm.parameters_oid().map_err(|_| SigningKeyError::Private)?;
        if label != "PRIVATE KEY" || info.algorithm.oid != ALGORITHM_OID || curve != P256_OID {
            return Err(SigningKeyError::Private);
        }
        let key =
            EcPrivateKey::try_from(info.private_key.as_bytes()).map_err(|_| SigningKeyError::Private)?;
        if key.private_key.len() != 32 {
            return Err(SigningKeyError::Private);
        }
        match key.public_key {
            Some(point) if self == SigningKeyCheck::Embedded => {
                PublicKey::from_sec1_bytes(point).map_err(bad)
            }
            _ => Ok(p256::SecretKey::from_slice(key.private_key).map_err(bad)?.public_key()),
        }
    }
}
