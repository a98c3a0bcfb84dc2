//! Does a private signing key belong to the public value beside it?
//!
//! Nothing binds an envelope to its row, so a swapped envelope opens cleanly; for signing keys
//! the public value that the export carries tells. It owns that comparison and the two spellings
//! (PKCS#8 PEM, RFC 5958 and 7468; the site's JSON). It keeps nothing of a private key.

use p256::PublicKey;
use p256::elliptic_curve::ALGORITHM_OID;
use p256::pkcs8::{ObjectIdentifier, PrivateKeyInfoRef, SubjectPublicKeyInfoRef};
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
        let mut der = [0u8; DER_MAX];
        let pem = public.public_pem.as_bytes();
        let usual = usual::public_point(pem);
        let point = usual.as_ref().map(<[u8; 65]>::as_slice).or_else(|| public_point(pem, &mut der));
        let point = point.ok_or(SigningKeyError::Public)?;
        let public = PublicKey::from_sec1_bytes(point).map_err(|_| SigningKeyError::Public)?;
        let mut private_der = [0u8; DER_MAX];
        let private = self.public_of(private_pem, &mut private_der, (point, public));
        private_der.zeroize();
        if private? == public { Ok(()) } else { Err(SigningKeyError::Differs) }
    }

    /// The public key of a private one; `der` is scratch space that the caller wipes. `told` is the
    /// public value, as it is encoded and as a point of the curve: the same encoding is the same
    /// point, and need not be looked for on the curve a second time.
    fn public_of(
        self,
        private_pem: &[u8],
        der: &mut [u8],
        told: (&[u8], PublicKey),
    ) -> Result<PublicKey, SigningKeyError> {
        let bad = |_| SigningKeyError::Private;
        if self == SigningKeyCheck::Embedded
            && let Some(point) = usual::private_point(private_pem)
            && point == *told.0
        {
            return Ok(told.1);
        }
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
            Some(point) if self == SigningKeyCheck::Embedded && point == told.0 => Ok(told.1),
            Some(point) if self == SigningKeyCheck::Embedded => {
                PublicKey::from_sec1_bytes(point).map_err(bad)
            }
            _ => Ok(p256::SecretKey::from_slice(key.private_key).map_err(bad)?.public_key()),
        }
    }
}

/// The point of a P-256 public key as PEM (SubjectPublicKeyInfo, RFC 5480), as it is encoded.
fn public_point<'a>(pem: &[u8], der: &'a mut [u8]) -> Option<&'a [u8]> {
    let (label, der) = pem_rfc7468::decode(pem, der).ok()?;
    let info = SubjectPublicKeyInfoRef::try_from(der).ok()?;
    let p256 = info.algorithm.oid == ALGORITHM_OID && info.algorithm.parameters_oid().ok()? == P256_OID;
    if label == "PUBLIC KEY" && p256 { info.subject_public_key.as_bytes() } else { None }
}

/// The spelling that practically every key has: that of OpenSSL, Go and this crate's own, lines of 64
/// characters and DER of one length. Only that is read here, by comparing bytes; what is not
/// recognised is left to the parsers, so a mistake here may cost time, but refuses nothing. With the
/// parsers the check was about a fifth of a run (held against `--check-signing-keys off`).
mod usual {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use zeroize::Zeroizing;

    /// PKCS#8 (RFC 5958) around an ECPrivateKey (RFC 5915), up to the scalar.
    const PRIVATE: &[u8; 36] =
        b"\x30\x81\x87\x02\x01\x00\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\
          \x03\x01\x07\x04\x6d\x30\x6b\x02\x01\x01\x04\x20";
    /// Between the scalar and the point.
    const EMBEDDED: &[u8; 5] = b"\xa1\x44\x03\x42\x00";
    /// SubjectPublicKeyInfo (RFC 5480), up to the point.
    const PUBLIC: &[u8; 26] =
        b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\
          \x42\x00";
    const SCALAR: usize = 32;
    /// An uncompressed point (SEC 1, 2.3.3).
    const POINT: usize = 65;

    /// The point that a private key has embedded.
    pub(super) fn private_point(pem: &[u8]) -> Option<[u8; POINT]> {
        let body = pem.strip_prefix(b"-----BEGIN PRIVATE KEY-----\n")?;
        let body = body.strip_suffix(b"\n").unwrap_or(body).strip_suffix(b"\n-----END PRIVATE KEY-----")?;
        let der = decoded::<{ PRIVATE.len() + SCALAR + EMBEDDED.len() + POINT }>(body)?;
        let rest = der.strip_prefix(PRIVATE)?.get(SCALAR..)?;
        uncompressed(rest.strip_prefix(EMBEDDED)?)
    }

    /// The point of a public key.
    pub(super) fn public_point(pem: &[u8]) -> Option<[u8; POINT]> {
        let body = pem.strip_prefix(b"-----BEGIN PUBLIC KEY-----\n")?;
        let body = body.strip_suffix(b"\n").unwrap_or(body).strip_suffix(b"\n-----END PUBLIC KEY-----")?;
        uncompressed(decoded::<{ PUBLIC.len() + POINT }>(body)?.strip_prefix(PUBLIC)?)
    }

    fn uncompressed(point: &[u8]) -> Option<[u8; POINT]> {
        if point[0] == 4 { point.try_into().ok() } else { None }
    }

    /// Decodes lines of 64 characters, the last one shorter, to exactly `N` bytes.
    fn decoded<const N: usize>(body: &[u8]) -> Option<Zeroizing<[u8; N]>> {
        let mut text = Zeroizing::new([0; 192]);
        let mut length = 0;
        let mut lines = body.chunks(65).peekable();
        while let Some(line) = lines.next() {
            let line = if lines.peek().is_some() { line.strip_suffix(b"\n")? } else { line };
            text.get_mut(length..length + line.len())?.copy_from_slice(line);
            length += line.len();
        }
        let mut der = Zeroizing::new([0; N]);
        let written = STANDARD.decode_slice(&text[..length], &mut der[..]).ok()?;
        (written == N).then_some(der)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use SigningKeyCheck::{Embedded, Full, Off};
    use p256::SecretKey;
    use p256::elliptic_curve::sec1::ToSec1Point as _;
    use p256::pkcs8::der::asn1::OctetStringRef;
    use p256::pkcs8::der::{Encode as _, pem::LineEnding};
    use p256::pkcs8::spki::AlgorithmIdentifierRef;
    use p256::pkcs8::{EncodePrivateKey as _, EncodePublicKey as _};

    fn key(n: u8) -> SecretKey {
        SecretKey::from_slice(&[n; 32]).unwrap()
    }

    fn public_value(key: &SecretKey) -> String {
        let pem = key.public_key().to_public_key_pem(LineEnding::LF).unwrap();
        serde_json::json!({"v": 1, "kid": "x", "alg": "ES256", "public_pem": pem}).to_string()
    }

    /// A private key's PEM with an embedded public key of one's choice.
    fn pem(private: &SecretKey, embedded: Option<&[u8]>, curve: &ObjectIdentifier, label: &str) -> String {
        let bytes = private.to_bytes();
        let inner = EcPrivateKey { private_key: &bytes, parameters: None, public_key: embedded };
        let inner = inner.to_der().unwrap();
        let algorithm = AlgorithmIdentifierRef { oid: ALGORITHM_OID, parameters: Some(curve.into()) };
        let der = PrivateKeyInfoRef::new(algorithm, OctetStringRef::new(&inner).unwrap()).to_der().unwrap();
        pem_rfc7468::encode_string(label, LineEnding::LF, &der).unwrap()
    }

    #[test]
    fn a_key_passes_beside_its_own_public_value_only() {
        let (a, b) = (key(1), key(2));
        let pem = a.to_pkcs8_pem(LineEnding::LF).unwrap();
        for how in [Embedded, Full] {
            assert_eq!(how.check(pem.as_bytes(), &public_value(&a)), Ok(()));
            assert_eq!(how.check(pem.as_bytes(), &public_value(&b)), Err(SigningKeyError::Differs));
        }
        assert_eq!(Off.check(b"anything", "at all"), Ok(()));
    }

    #[test]
    fn the_embedded_key_is_taken_at_its_word_and_recomputed_only_where_it_is_missing() {
        let (a, b) = (key(1), key(2));
        let point = |key: &SecretKey, compress| key.public_key().to_sec1_point(compress).as_bytes().to_vec();
        for embedded in [None, Some(point(&a, false)), Some(point(&a, true))] {
            let pem = pem(&a, embedded.as_deref(), &P256_OID, "PRIVATE KEY");
            for how in [Embedded, Full] {
                assert_eq!(
                    how.check(pem.as_bytes(), &public_value(&a)),
                    Ok(()),
                    "points, not their spelling"
                );
                assert_eq!(how.check(pem.as_bytes(), &public_value(&b)), Err(SigningKeyError::Differs));
            }
        }
        // One that lies: only the full check sees it.
        let lying = pem(&a, Some(&point(&b, false)), &P256_OID, "PRIVATE KEY");
        assert_eq!(Embedded.check(lying.as_bytes(), &public_value(&b)), Ok(()));
        assert_eq!(Full.check(lying.as_bytes(), &public_value(&b)), Err(SigningKeyError::Differs));
        assert_eq!(Full.check(lying.as_bytes(), &public_value(&a)), Ok(()));
        // One that is no point of the curve.
        let mut off_curve = point(&a, false);
        off_curve[64] ^= 1;
        let pem = pem(&a, Some(&off_curve), &P256_OID, "PRIVATE KEY");
        assert_eq!(Embedded.check(pem.as_bytes(), &public_value(&a)), Err(SigningKeyError::Private));
    }

    #[test]
    fn the_usual_spelling_is_read_as_the_parsers_read_it() {
        for n in 1..=16 {
            let key = key(n);
            let point = key.public_key().to_sec1_point(false).as_bytes().to_vec();
            let private = key.to_pkcs8_pem(LineEnding::LF).unwrap();
            let public = key.public_key().to_public_key_pem(LineEnding::LF).unwrap();
            // They are recognised.
            for pem in [private.as_str(), private.trim_end()] {
                assert_eq!(usual::private_point(pem.as_bytes()).as_ref().map(|p| &p[..]), Some(&point[..]));
            }
            for pem in [public.as_str(), public.trim_end()] {
                assert_eq!(usual::public_point(pem.as_bytes()).as_ref().map(|p| &p[..]), Some(&point[..]));
            }
            // Whatever is changed in them: what is still recognised, the parsers read alike.
            let spoilt = |pem: &str, at: usize, byte: u8| {
                let mut pem = pem.as_bytes().to_vec();
                pem[at] = byte;
                pem
            };
            for byte in [b'A', b'_', b'\n', b'='] {
                for at in 0..private.len() {
                    let pem = spoilt(&private, at, byte);
                    let Some(found) = usual::private_point(&pem) else { continue };
                    let mut der = [0; DER_MAX];
                    let (_, der) = pem_rfc7468::decode(&pem, &mut der).unwrap();
                    let info = PrivateKeyInfoRef::try_from(der).unwrap();
                    let parsed = EcPrivateKey::try_from(info.private_key.as_bytes()).unwrap();
                    assert_eq!(parsed.public_key, Some(&found[..]), "{byte} at {at}");
                }
                for at in 0..public.len() {
                    let pem = spoilt(&public, at, byte);
                    let Some(found) = usual::public_point(&pem) else { continue };
                    assert_eq!(public_point(&pem, &mut [0; DER_MAX]), Some(&found[..]), "{byte} at {at}");
                }
            }
        }
        let crlf = key(1).to_pkcs8_pem(LineEnding::CRLF).unwrap();
        assert_eq!(usual::private_point(crlf.as_bytes()), None, "that is for the parsers");
        assert_eq!(Embedded.check(crlf.as_bytes(), &public_value(&key(1))), Ok(()));
    }

    #[test]
    fn what_cannot_be_parsed_is_a_failure() {
        let a = key(1);
        let good = a.to_pkcs8_pem(LineEnding::LF).unwrap();
        let p384 = ObjectIdentifier::new_unwrap("1.3.132.0.34");
        let other_curve = pem(&a, None, &p384, "PRIVATE KEY");
        let other_label = pem(&a, None, &P256_OID, "EC PRIVATE KEY");
        for private in ["", "x", &good[..100], &other_curve, &other_label] {
            for how in [Embedded, Full] {
                assert_eq!(how.check(private.as_bytes(), &public_value(&a)), Err(SigningKeyError::Private));
            }
        }
        let mislabelled = public_value(&a).replace("PUBLIC KEY", "RSA PUBLIC KEY");
        assert_eq!(Embedded.check(good.as_bytes(), &mislabelled), Err(SigningKeyError::Public));
        for public in ["", "null", "{}", "[]", r#"{"public_pem": 5}"#, r#"{"public_pem": "x"}"#] {
            assert_eq!(Embedded.check(good.as_bytes(), public), Err(SigningKeyError::Public), "{public}");
        }
    }
}
