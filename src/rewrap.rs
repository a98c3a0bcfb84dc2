//! One row → a verified row, or a row that failed.
//!
//! It owns the rules of re-wrap (DESIGN section 4) and the proof: a [`VerifiedRow`] can only be
//! made here, by reading every new envelope back from its text and opening it to the same
//! plaintext. It never sees a file, and nothing of a row that failed is re-wrapped.

use crate::envelope::{self, EnvelopeError, NONCE_LEN, Nonce, Scratch};
use crate::keyring::{Key, Keyring};
use crate::row::{Field, OrgId, is_absent, printable};
use crate::signing_key::{SigningKeyCheck, SigningKeyError};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use std::sync::atomic::{AtomicU64, Ordering};

/// Envelopes that one key may seal at random 96-bit nonces (NIST SP 800-38D, 8.3).
pub const SEALS_MAX: u64 = 1 << 32;

/// Counts the envelopes under the target key, of this run and of before, for all threads.
#[derive(Debug)]
pub struct SealBudget {
    used: AtomicU64,
    limit: u64,
}

/// The target key has sealed as many envelopes as a key may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the target key would seal more than {0} envelopes, the limit for random nonces (NIST SP 800-38D, 8.3); \
     rotate to a new key"
)]
pub struct BudgetSpent(pub u64);

impl SealBudget {
    /// A budget; [`SEALS_MAX`] outside tests.
    pub fn new(limit: u64) -> Self {
        SealBudget { used: AtomicU64::new(0), limit }
    }

    fn take(&self) -> Result<(), BudgetSpent> {
        let used = self.used.fetch_add(1, Ordering::Relaxed);
        if used < self.limit { Ok(()) } else { Err(BudgetSpent(self.limit)) }
    }
}

/// What the operator chose.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rules {
    /// Take an envelope that names the target key as it is, without opening it.
    pub trust_target: bool,
    /// How signing keys are compared with their public values.
    pub signing_keys: SigningKeyCheck,
}

/// A row as it was read.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    /// Its number in the table, from 1.
    pub number: u64,
    /// Its name.
    pub organization_id: &'a str,
    /// The ciphertexts, in the order of [`Field::ALL`].
    pub fields: [Option<&'a str>; 3],
    /// The public values of the two signing keys, where the export has them.
    pub publics: [Option<&'a str>; 2],
}

/// A row of which every field is absent, proven to be under the target key, or proven to open to
/// what it held before. Nothing outside this module can make one.
#[derive(Debug)]
pub struct VerifiedRow<'t> {
    fields: [Verified<'t>; 3],
}

#[derive(Debug, Clone, Copy)]
enum Verified<'t> {
    Absent,
    OnTarget,
    Reencrypted { text: &'t str, source: usize },
}

impl<'t> VerifiedRow<'t> {
    /// The new text of a field; `None` where it stays as it is.
    pub fn new_text(&self, field: Field) -> Option<&'t str> {
        match self.fields[field.index()] {
            Verified::Reencrypted { text, .. } => Some(text),
            Verified::Absent | Verified::OnTarget => None,
        }
    }

    /// What became of a field.
    pub fn outcome(&self, field: Field) -> Outcome {
        match self.fields[field.index()] {
            Verified::Absent => Outcome::Absent,
            Verified::OnTarget => Outcome::SkippedOnTarget,
            Verified::Reencrypted { source, .. } => Outcome::Reencrypted { source },
        }
    }
}

/// What became of a field of a row that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// There was no ciphertext.
    Absent,
    /// It is under the target key already.
    SkippedOnTarget,
    /// It was opened, sealed under the target key, and the new text proven.
    Reencrypted {
        /// Where in the keyring the key stands that opened it.
        source: usize,
    },
}

/// Why a field, or a row, failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// The organization id is not spelled as one.
    #[error("{0}", crate::row::BadOrgId)]
    OrganizationId,
    /// The text is not an envelope.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// The envelope names a key that was not given.
    #[error("names key {key_id}, which is in none of the secrets given")]
    UnknownKey {
        /// The id, made printable.
        key_id: String,
    },
    /// Wrong key or spoiled envelope: nobody can tell which.
    #[error("does not open under key {key_id}")]
    DoesNotOpen {
        /// The id.
        key_id: String,
    },
    /// The public value says that this is another key.
    #[error(transparent)]
    SigningKey(#[from] SigningKeyError),
    /// The new envelope, read back, is not what was meant to be written.
    #[error(
        "the new envelope, read back, does not open to the same plaintext; is this machine's memory sound?"
    )]
    RoundTrip,
}

/// What a row that failed failed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// The column: that of the field, or `organization_id`.
    pub column: &'static str,
    /// Why.
    pub reason: Reason,
}

/// What a thread did, beside the rows themselves. Added up by whoever collects the rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Work {
    /// Fields opened, by the key's place in the keyring.
    pub opened: Vec<u64>,
    /// Envelopes sealed.
    pub sealed: u64,
    /// Envelopes that named the target key as they were read.
    pub found_on_target: u64,
    /// Signing keys that were opened and not compared with a public value.
    pub signing_keys_unchecked: u64,
}

/// One thread's re-wrapper: its buffers, its nonces.
pub struct Rewrapper<'k> {
    keyring: &'k Keyring,
    target: usize,
    rules: Rules,
    budget: &'k SealBudget,
    nonces: ChaCha20Rng,
    /// The envelope that is re-wrapped.
    source: Scratch,
    /// The new envelope as it is read back.
    proof: Scratch,
    sealed: Vec<u8>,
    texts: [Vec<u8>; 3],
    /// What was done since it was last taken.
    pub work: Work,
    /// Spoils a fresh text before it is read back.
    #[cfg(test)]
    spoil: Option<fn(&mut Vec<u8>)>,
    /// Spoils what is sealed.
    #[cfg(test)]
    spoil_seal: Option<fn(&mut Vec<u8>)>,
}

impl<'k> Rewrapper<'k> {
    /// A re-wrapper to the key that stands at `target` in the keyring. Its nonces come from a
    /// ChaCha20 generator of its own, seeded by the operating system.
    pub fn new(
        keyring: &'k Keyring,
        target: usize,
        rules: Rules,
        budget: &'k SealBudget,
    ) -> Result<Self, getrandom::Error> {
        Ok(Rewrapper {
            keyring,
            target,
            rules,
            budget,
            nonces: nonce_generator()?,
            source: Scratch::default(),
            proof: Scratch::default(),
            sealed: Vec::new(),
            texts: Default::default(),
            work: Work { opened: vec![0; keyring.keys().len()], ..Work::default() },
            #[cfg(test)]
            spoil: None,
            #[cfg(test)]
            spoil_seal: None,
        })
    }

    /// Re-wraps one row. Every field is looked at, so that all that is wrong with a row is named
    /// at once.
    pub fn row(&mut self, row: &Row<'_>) -> Result<Result<VerifiedRow<'_>, Vec<Failed>>, BudgetSpent> {
        let mut failed = Vec::new();
        if !OrgId::is_valid(row.organization_id) {
            failed.push(Failed { column: crate::row::ORGANIZATION_ID, reason: Reason::OrganizationId });
        }
        let mut outcomes = [Outcome::Absent; 3];
        let unchecked_before = self.work.signing_keys_unchecked;
        for field in Field::ALL {
            let Some(text) = row.fields[field.index()].filter(|text| !is_absent(Some(text))) else {
                continue;
            };
            let public = row.publics.get(field.index()).copied().flatten();
            match self.field(field, text, public)? {
                Ok(outcome) => outcomes[field.index()] = outcome,
                Err(reason) => failed.push(Failed { column: field.column(), reason }),
            }
        }
        if !failed.is_empty() {
            // Like all counters of fields: only of rows that did not fail.
            self.work.signing_keys_unchecked = unchecked_before;
            return Ok(Err(failed));
        }
        let texts = &self.texts;
        let fields = Field::ALL.map(|field| match outcomes[field.index()] {
            Outcome::Absent => Verified::Absent,
            Outcome::SkippedOnTarget => Verified::OnTarget,
            Outcome::Reencrypted { source } => {
                let text = std::str::from_utf8(&texts[field.index()]).expect("it was read back as text");
                Verified::Reencrypted { text, source }
            }
        });
        Ok(Ok(VerifiedRow { fields }))
    }

    /// To be called when the next row may be long in coming: leaves no plaintext behind, in the buffers
    /// or on the stack.
    pub fn rest(&mut self) {
        self.source.wipe();
        self.proof.wipe();
        crate::secret::wipe_stack();
    }

    /// Counts what a row that is not selected holds under the target key, and does nothing else:
    /// the seals of the whole export count, not only those of the selection.
    pub fn pass_over(&mut self, row: &Row<'_>) -> Result<(), BudgetSpent> {
        let target = self.keyring.keys()[self.target].id().as_str();
        for text in row.fields.into_iter().flatten() {
            if envelope::key_id(text, &mut self.source).is_ok_and(|id| id == target) {
                self.budget.take()?;
                self.work.found_on_target += 1;
            }
        }
        Ok(())
    }

    fn field(
        &mut self,
        field: Field,
        text: &str,
        public: Option<&str>,
    ) -> Result<Result<Outcome, Reason>, BudgetSpent> {
        let envelope = match envelope::read(text, &mut self.source) {
            Ok(envelope) => envelope,
            Err(error) => return Ok(Err(error.into())),
        };
        let Some(source) = self.keyring.position(envelope.key_id) else {
            return Ok(Err(Reason::UnknownKey { key_id: printable(envelope.key_id) }));
        };
        let (key, target) = (&self.keyring.keys()[source], &self.keyring.keys()[self.target]);
        let on_target = source == self.target;
        if on_target {
            self.budget.take()?;
            self.work.found_on_target += 1;
            if self.rules.trust_target {
                return Ok(Ok(Outcome::SkippedOnTarget));
            }
        }
        let (nonce, plaintext) = (envelope.nonce, envelope.body);
        if key.cipher().open(&nonce, plaintext).is_err() {
            return Ok(Err(Reason::DoesNotOpen { key_id: printable(key.id().as_str()) }));
        }
        self.work.opened[source] += 1;
        if field.public_column().is_some() {
            match public.filter(|_| self.rules.signing_keys != SigningKeyCheck::Off) {
                None => self.work.signing_keys_unchecked += 1,
                Some(public) => {
                    if let Err(error) = self.rules.signing_keys.check(plaintext.expose_plaintext(), public) {
                        return Ok(Err(error.into()));
                    }
                }
            }
        }
        if on_target {
            return Ok(Ok(Outcome::SkippedOnTarget));
        }

        self.budget.take()?;
        self.work.sealed += 1;
        let mut nonce: Nonce = [0; NONCE_LEN];
        self.nonces.fill_bytes(&mut nonce);
        target.cipher().seal(&nonce, plaintext.expose_plaintext(), &mut self.sealed);
        #[cfg(test)]
        if let Some(spoil) = self.spoil_seal {
            spoil(&mut self.sealed);
        }
        let new = &mut self.texts[field.index()];
        new.clear();
        envelope::write(target.id().as_str(), &nonce, &self.sealed, &mut self.proof, new);
        #[cfg(test)]
        if let Some(spoil) = self.spoil {
            spoil(new);
        }
        if opens_to(new, target, plaintext.expose_plaintext(), &mut self.proof) {
            Ok(Ok(Outcome::Reencrypted { source }))
        } else {
            Ok(Err(Reason::RoundTrip))
        }
    }
}

/// The proof: `text`, read from scratch, names `key` and opens under it to `plaintext`.
fn opens_to(text: &[u8], key: &Key, plaintext: &[u8], scratch: &mut Scratch) -> bool {
    let Ok(envelope) = envelope::read_bytes(text, scratch) else { return false };
    envelope.key_id == key.id().as_str()
        && key.cipher().open(&envelope.nonce, envelope.body).is_ok()
        && envelope.body.expose_plaintext() == plaintext
}

/// A generator for nonces: ChaCha20, seeded by the operating system (NIST SP 800-38D, 8.2.2: the
/// whole nonce is random). Never seeded by anything else: a nonce used twice under one key gives
/// away both plaintexts and the authentication key.
pub fn nonce_generator() -> Result<ChaCha20Rng, getrandom::Error> {
    let mut seed = zeroize::Zeroizing::new([0u8; 32]);
    getrandom::fill(&mut *seed)?;
    Ok(ChaCha20Rng::from_seed(*seed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Plaintext;
    use base64::Engine as _;
    use std::collections::HashSet;

    fn keyring() -> Keyring {
        let key = |n: u8| {
            base64::engine::general_purpose::STANDARD.encode((0..32).map(|i| i ^ n).collect::<Vec<_>>())
        };
        let keys: Vec<_> = (1..=3).map(|n| format!("\"kv{n}\": \"{}\"", key(n))).collect();
        let text = format!("{{\"machine_identity\": {{\"encryption_keys\": {{{}}}}}}}", keys.join(","));
        let mut keyring = Keyring::new();
        keyring.add_secrets("test", text.as_bytes()).unwrap();
        keyring
    }

    fn sealed(keyring: &Keyring, id: &str, plaintext: &[u8]) -> String {
        let key = &keyring.keys()[keyring.position(id).unwrap()];
        let (mut body, mut text) = (Vec::new(), Vec::new());
        let mut nonce = [0; NONCE_LEN];
        nonce_generator().unwrap().fill_bytes(&mut nonce);
        key.cipher().seal(&nonce, plaintext, &mut body);
        envelope::write(id, &nonce, &body, &mut Scratch::default(), &mut text);
        String::from_utf8(text).unwrap()
    }

    fn opened(keyring: &Keyring, text: &str) -> (String, Vec<u8>) {
        let envelope = envelope::independent::read(text).unwrap();
        let key = &keyring.keys()[keyring.position(&envelope.key_id).unwrap()];
        let mut plaintext = Plaintext::new();
        key.cipher().open_into(&envelope.nonce, &envelope.ciphertext, &mut plaintext).unwrap();
        (envelope.key_id, plaintext.expose_plaintext().to_vec())
    }

    fn row<'a>(fields: [Option<&'a str>; 3]) -> Row<'a> {
        Row { number: 1, organization_id: "org", fields, publics: [None, None] }
    }

    fn reasons(result: Result<VerifiedRow<'_>, Vec<Failed>>) -> Vec<(&'static str, String)> {
        result.unwrap_err().into_iter().map(|f| (f.column, f.reason.to_string())).collect()
    }

    #[test]
    fn a_row_ends_up_under_the_target_key_with_the_same_plaintexts() {
        let (keyring, budget) = (keyring(), SealBudget::new(SEALS_MAX));
        let mut rewrapper = Rewrapper::new(&keyring, 1, Rules::default(), &budget).unwrap();
        let (one, two) = (sealed(&keyring, "kv1", b"one"), sealed(&keyring, "kv2", b"two"));
        let verified = rewrapper.row(&row([Some(&one), Some(&two), Some(" \n")])).unwrap().unwrap();
        assert_eq!(
            Field::ALL.map(|f| verified.outcome(f)),
            [Outcome::Reencrypted { source: 0 }, Outcome::SkippedOnTarget, Outcome::Absent]
        );
        assert_eq!(Field::ALL.map(|f| verified.new_text(f).is_some()), [true, false, false]);
        let new = verified.new_text(Field::SigningKey1).unwrap();
        assert_eq!(opened(&keyring, new), ("kv2".to_owned(), b"one".to_vec()));
        let work = Work { opened: vec![1, 1, 0], sealed: 1, found_on_target: 1, signing_keys_unchecked: 2 };
        assert_eq!(rewrapper.work, work);
    }

    #[test]
    fn whatever_differs_on_the_way_back_fails_the_row() {
        let keyring = keyring();
        let text = sealed(&keyring, "kv1", b"a secret");
        type Spoil = fn(&mut Vec<u8>);
        let other_key: Spoil = |text| {
            let json = base64::engine::general_purpose::STANDARD.decode(&text).unwrap();
            let json = String::from_utf8(json).unwrap().replace("kv2", "kv3");
            *text = base64::engine::general_purpose::STANDARD.encode(json).into_bytes();
        };
        let one_bit: Spoil = |text| text[100] ^= 1;
        let cut: Spoil = |text| text.truncate(text.len() - 4);
        let empty: Spoil = Vec::clear;
        let not_text: Spoil = |text| text[0] = 0xff;
        let mut spoils: Vec<(Option<Spoil>, Option<Spoil>)> =
            [other_key, one_bit, cut, empty, not_text].map(|s| (Some(s), None)).into();
        let tag: Spoil = |sealed| *sealed.last_mut().unwrap() ^= 0x80;
        let body: Spoil = |sealed| sealed[0] ^= 1;
        let short: Spoil = |sealed| sealed.truncate(15);
        spoils.extend([tag, body, short].map(|s| (None, Some(s))));
        for (spoil, spoil_seal) in spoils {
            let budget = SealBudget::new(SEALS_MAX);
            let mut rewrapper = Rewrapper::new(&keyring, 1, Rules::default(), &budget).unwrap();
            (rewrapper.spoil, rewrapper.spoil_seal) = (spoil, spoil_seal);
            let result = rewrapper.row(&row([None, Some(&text), None])).unwrap();
            assert_eq!(
                reasons(result),
                [("encrypted_signing_key_2", Reason::RoundTrip.to_string())],
                "a spoiled value must not pass"
            );
        }
    }

    /// A seal of something else under the right key opens well, and still is no proof.
    #[test]
    fn another_plaintext_under_the_target_key_is_no_proof() {
        let keyring = keyring();
        let text = sealed(&keyring, "kv2", b"another");
        let (key, mut scratch) = (&keyring.keys()[1], Scratch::default());
        assert!(opens_to(text.as_bytes(), key, b"another", &mut scratch));
        assert!(!opens_to(text.as_bytes(), key, b"a secret", &mut scratch));
        assert!(!opens_to(text.as_bytes(), key, b"another ", &mut scratch));
    }

    #[test]
    fn all_that_is_wrong_with_a_row_is_named_and_nothing_of_it_is_rewrapped() {
        let (keyring, budget) = (keyring(), SealBudget::new(SEALS_MAX));
        let mut rewrapper = Rewrapper::new(&keyring, 1, Rules::default(), &budget).unwrap();
        let good = sealed(&keyring, "kv1", b"x");
        let unknown = {
            let json = base64::engine::general_purpose::STANDARD.decode(&good).unwrap();
            let json = String::from_utf8(json).unwrap().replace("kv1", "kv9");
            base64::engine::general_purpose::STANDARD.encode(json)
        };
        let bad = Row { organization_id: "a b", ..row([Some(&good), Some(&unknown), Some("e30=")]) };
        let named = reasons(rewrapper.row(&bad).unwrap());
        assert_eq!(named.len(), 3);
        assert_eq!(named[0].0, "organization_id");
        assert_eq!(
            named[1],
            ("encrypted_signing_key_2", "names key kv9, which is in none of the secrets given".to_owned())
        );
        assert_eq!(named[2].0, "encrypted_auth_method_config");
        let wrong = {
            let json = base64::engine::general_purpose::STANDARD.decode(&good).unwrap();
            let json = String::from_utf8(json).unwrap().replace("kv1", "kv3");
            base64::engine::general_purpose::STANDARD.encode(json)
        };
        let named = reasons(rewrapper.row(&row([Some(&wrong), None, None])).unwrap());
        assert_eq!(named, [("encrypted_signing_key_1", "does not open under key kv3".to_owned())]);
    }

    #[test]
    fn what_names_the_target_must_open_under_it_unless_trusted() {
        let keyring = keyring();
        let good = sealed(&keyring, "kv1", b"x");
        let json = base64::engine::general_purpose::STANDARD.decode(&good).unwrap();
        let json = String::from_utf8(json).unwrap().replace("kv1", "kv2");
        let forged = base64::engine::general_purpose::STANDARD.encode(json);
        for (trust_target, passes) in [(false, false), (true, true)] {
            let budget = SealBudget::new(SEALS_MAX);
            let rules = Rules { trust_target, ..Rules::default() };
            let mut rewrapper = Rewrapper::new(&keyring, 1, rules, &budget).unwrap();
            assert_eq!(rewrapper.row(&row([Some(&forged), None, None])).unwrap().is_ok(), passes);
        }
    }

    #[test]
    fn seals_are_counted_against_the_limit_with_those_that_are_there() {
        let keyring = keyring();
        let (old, new) = (sealed(&keyring, "kv1", b"x"), sealed(&keyring, "kv2", b"y"));
        let budget = SealBudget::new(4);
        let mut rewrapper = Rewrapper::new(&keyring, 1, Rules::default(), &budget).unwrap();
        rewrapper.pass_over(&row([Some(&new), Some(&old), Some("malformed")])).unwrap();
        assert!(rewrapper.row(&row([Some(&old), Some(&new), Some(&old)])).unwrap().is_ok());
        assert_eq!(rewrapper.row(&row([Some(&old), None, None])).unwrap_err(), BudgetSpent(4));
        assert_eq!((rewrapper.work.sealed, rewrapper.work.found_on_target), (2, 2));
    }

    #[test]
    fn nonces_differ_between_fields_rows_and_threads() {
        let keyring = keyring();
        let text = sealed(&keyring, "kv1", b"x");
        let mut nonces = HashSet::new();
        for _ in 0..4 {
            let budget = SealBudget::new(SEALS_MAX);
            let mut rewrapper = Rewrapper::new(&keyring, 1, Rules::default(), &budget).unwrap();
            for _ in 0..100 {
                let verified = rewrapper.row(&row([Some(&text); 3])).unwrap().unwrap();
                for field in Field::ALL {
                    let new = verified.new_text(field).unwrap();
                    nonces.insert(envelope::independent::read(new).unwrap().nonce);
                }
            }
        }
        assert_eq!(nonces.len(), 4 * 100 * 3);
    }
}
