//! A synthetic export: for a demo, a rehearsal, a measurement.
//!
//! It owns what a made-up site looks like: real P-256 keys with their public values, mixed key
//! ids, absent fields, every column that the site's tables need. The seed governs layout and
//! plaintexts only, and the plaintexts are worthless. Nonces always come from the operating
//! system: a seeded nonce under a real key would be a nonce used twice.

use crate::envelope::{self, NONCE_LEN, Scratch};
use crate::keyring::Keyring;
use crate::manifest::{OutputNames, TableFile};
use crate::parallel::ordered_map;
use crate::pipeline::PipelineError;
use crate::publish::{Existing, Staged};
use crate::rewrap::nonce_generator;
use crate::stop::Stop;
use crate::table::{self, Compression, Dictionaries, FileFacts, Format, Hashed, TableRows, TextBuilder};
use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field as Column, Schema, SchemaRef};
use p256::pkcs8::{EncodePrivateKey as _, EncodePublicKey as _, LineEnding};
use rand_chacha::rand_core::{Rng, SeedableRng as _};
use rand_chacha::{ChaCha8Rng, ChaCha20Rng};
use sha2::{Digest as _, Sha256};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

/// Key pairs that the rows draw from; making one for each row would take a hundred times longer
/// than all the rest.
const POOL: usize = 512;

/// Rows of a batch.
const BATCH: u64 = 256;

const COLUMNS: [&str; 23] = [
    "organization_id",
    "organization_name",
    "version",
    "routing_profile_type",
    "issuer",
    "default_audience",
    "allowed_audiences",
    "token_ttl_sec",
    "subject_prefix",
    "enabled",
    "created_at",
    "updated_at",
    "encrypted_signing_key_1",
    "encrypted_signing_key_2",
    "signing_key_public_1",
    "signing_key_public_2",
    "current_signing_key_slot",
    "non_active_slot_expires_at",
    "token_endpoint",
    "auth_method",
    "encrypted_auth_method_config",
    "subject_token_audience",
    "token_delegation_created_at",
];

/// What to make.
pub struct Generation<'a> {
    /// Its format.
    pub format: Format,
    /// Its compression.
    pub compression: Compression,
    /// Organizations.
    pub orgs: u64,
    /// The keys.
    pub keyring: &'a Keyring,
    /// Places in the keyring of the keys to seal under, each with its share of the fields.
    pub under: Vec<(usize, f64)>,
    /// Layout and plaintexts.
    pub seed: u64,
    /// Threads.
    pub threads: usize,
    /// Ends the run early.
    pub stop: Stop,
}

/// Rows that were made up here.
struct GeneratedBatch(RecordBatch);

impl TableRows for GeneratedBatch {
    fn records(&self) -> &RecordBatch {
        &self.0
    }
}

/// A key pair as the site stores it: the private key's PEM and the public value.
struct KeyPair {
    private_pem: zeroize::Zeroizing<String>,
    public_value: String,
}

impl Generation<'_> {
    /// Makes it and publishes it as a file; `progress` is told of rows.
    pub fn publish(
        &self,
        output: &Path,
        existing: Existing,
        progress: impl FnMut(u64) + Send,
    ) -> Result<TableFile, PipelineError> {
        let names = OutputNames::new(output, None);
        names.check(existing)?;
        let (facts, staged) = self.write(&output.display().to_string(), Staged::create(output)?, progress)?;
        names.publish(Some(staged), None, existing)?;
        Ok(TableFile::new(output, self.format, facts, self.orgs))
    }

    /// Makes it and writes it to `to`, which messages call `name`; `progress` is told of rows.
    pub fn write<W: Write + Send + 'static>(
        &self,
        name: &str,
        to: W,
        mut progress: impl FnMut(u64) + Send,
    ) -> Result<(FileFacts, W), PipelineError> {
        let columns = COLUMNS.map(|name| Column::new(name, DataType::Utf8, true));
        let schema: SchemaRef = Arc::new(Schema::new(columns.to_vec()));
        let fail = |source| PipelineError::Write { file: name.to_owned(), source };
        let hashed = Hashed::new(to);
        let digest = hashed.digest().clone();
        let mut writer = table::create(hashed, self.format, self.compression, &schema, Dictionaries::Varying)
            .map_err(fail)?;
        let pool = key_pool(self.seed);
        let mut next = 0;
        ordered_map(
            self.threads,
            &self.stop,
            || {
                let first = next;
                next = self.orgs.min(first + BATCH);
                Ok((first < next).then_some(first..next))
            },
            || Ok((nonce_generator()?, Scratch::default(), Vec::new(), Vec::new())),
            |(nonces, scratch, sealed, text), rows| {
                let mut maker = Maker {
                    generation: self,
                    pool: &pool,
                    // Its own stream for each batch: the same rows with any number of threads.
                    dice: dice(self.seed, 1 + rows.start / BATCH),
                    nonces,
                    scratch,
                    sealed,
                    text,
                };
                let count = (rows.end - rows.start) as usize;
                let mut builders = COLUMNS.map(|_| TextBuilder::new(&DataType::Utf8, count, count * 64));
                for row in rows {
                    maker.row(row, &mut builders);
                }
                let arrays = builders.map(TextBuilder::finish).to_vec();
                let batch = RecordBatch::try_new(Arc::clone(&schema), arrays);
                Ok(GeneratedBatch(batch.expect("the columns are those of the schema")))
            },
            |rows| {
                progress(rows.0.num_rows() as u64);
                writer.write(&rows).map_err(fail)
            },
            || digest.work(),
        )?;
        writer.finish().and_then(Hashed::finish).map_err(fail)
    }
}

/// The generator of one stream of the seed.
fn dice(seed: u64, stream: u64) -> ChaCha8Rng {
    let mut dice = ChaCha8Rng::seed_from_u64(seed);
    dice.set_stream(stream);
    dice
}

fn key_pool(seed: u64) -> Vec<KeyPair> {
    let mut dice = dice(seed, 0);
    let mut pool = Vec::with_capacity(POOL);
    while pool.len() < POOL {
        let mut scalar = zeroize::Zeroizing::new([0u8; 32]);
        dice.fill_bytes(&mut *scalar);
        // One in 2^32 is past the group's order: take the next.
        let Ok(key) = p256::SecretKey::from_slice(&*scalar) else { continue };
        let public = key.public_key();
        let der = public.to_public_key_der().expect("a public key has a DER form");
        let value = serde_json::json!({
            "v": 1,
            "kid": hex::encode(Sha256::digest(der.as_bytes())),
            "alg": "ES256",
            "public_pem": public.to_public_key_pem(LineEnding::LF).expect("a public key has a PEM form"),
        });
        let private_pem = key.to_pkcs8_pem(LineEnding::LF).expect("a private key has a PEM form");
        pool.push(KeyPair { private_pem, public_value: value.to_string() });
    }
    pool
}

struct Maker<'a> {
    generation: &'a Generation<'a>,
    pool: &'a [KeyPair],
    dice: ChaCha8Rng,
    nonces: &'a mut ChaCha20Rng,
    scratch: &'a mut Scratch,
    sealed: &'a mut Vec<u8>,
    text: &'a mut Vec<u8>,
}

impl Maker<'_> {
    /// True in `percent` of a hundred draws.
    fn chance(&mut self, percent: u32) -> bool {
        self.dice.next_u32() % 100 < percent
    }

    /// A key by its share.
    fn key(&mut self) -> usize {
        let under = &self.generation.under;
        let all: f64 = under.iter().map(|(_, share)| share).sum();
        let mut point = f64::from(self.dice.next_u32()) / f64::from(u32::MAX) * all;
        for (key, share) in under {
            point -= share;
            if point <= 0.0 {
                return *key;
            }
        }
        under[under.len() - 1].0
    }

    fn seal(&mut self, key: usize, plaintext: &[u8]) -> &str {
        let key = &self.generation.keyring.keys()[key];
        let mut nonce = [0; NONCE_LEN];
        self.nonces.fill_bytes(&mut nonce);
        key.cipher().seal(&nonce, plaintext, self.sealed);
        self.text.clear();
        envelope::write(key.id().as_str(), &nonce, self.sealed, self.scratch, self.text);
        std::str::from_utf8(self.text).expect("an envelope is ASCII")
    }

    /// One organization: mostly both slots in use or one, sometimes token delegation, now and
    /// then nothing at all.
    fn row(&mut self, row: u64, columns: &mut [TextBuilder; COLUMNS.len()]) {
        let pool = self.pool;
        let mut put = |name: &str, value: Option<&str>| {
            let at = COLUMNS.iter().position(|c| *c == name).expect("a column of the table");
            columns[at].append(value);
        };
        let suffix = ["", "-Ab9", "_X"][(self.dice.next_u32() % 3) as usize];
        put("organization_id", Some(&format!("org-{row:07}{suffix}")));
        put("organization_name", Some(&format!("Organization {row}")));
        let micros = 1_767_225_600_000_000 + u64::from(self.dice.next_u32());
        put("version", Some(&format!("V{}-T{micros}", 1 + self.dice.next_u32() % 9)));
        let profile = self.chance(20).then_some("EXTERNAL");
        put("routing_profile_type", profile);
        put("issuer", Some(&format!("https://issuer.example/{row}")));
        put("default_audience", Some("https://site.example"));
        put("allowed_audiences", Some(r#"["https://site.example", "https://other.example"]"#));
        put("token_ttl_sec", Some("3600"));
        put("subject_prefix", Some(&format!("spiffe://site.example/org-{row:07}")));
        let enabled = self.chance(95);
        put("enabled", Some(if enabled { "t" } else { "f" }));
        put("created_at", Some("2026-01-01 00:00:00+00"));
        put("updated_at", Some("2026-01-02 00:00:00+00"));

        let source = self.key();
        let first = self.chance(97).then(|| self.dice.next_u32() as usize % POOL);
        let second = self.chance(50).then(|| self.dice.next_u32() as usize % POOL);
        for (private, public, pair) in [
            ("encrypted_signing_key_1", "signing_key_public_1", first),
            ("encrypted_signing_key_2", "signing_key_public_2", second),
        ] {
            let pair = pair.map(|at| &pool[at]);
            put(private, pair.map(|pair| self.seal(source, pair.private_pem.as_bytes())));
            put(public, pair.map(|pair| pair.public_value.as_str()));
        }
        let in_second = second.is_some() && (first.is_none() || self.chance(50));
        put("current_signing_key_slot", Some(if in_second { "signing_key_2" } else { "signing_key_1" }));
        let expires = (first.is_some() && second.is_some()).then_some("2027-01-01 00:00:00+00");
        put("non_active_slot_expires_at", expires);

        if self.chance(45) {
            let secret: [u64; 3] = std::array::from_fn(|_| self.dice.next_u64());
            let config = format!(
                r#"{{"client_id":"client-{row}","client_secret":"made-up-{:016x}{:016x}{:016x}"}}"#,
                secret[0], secret[1], secret[2]
            );
            let source = self.key();
            put("token_endpoint", Some(&format!("https://issuer.example/{row}/token")));
            put("auth_method", Some("client_secret_basic"));
            put("encrypted_auth_method_config", Some(self.seal(source, config.as_bytes())));
            put("subject_token_audience", Some("https://site.example"));
            put("token_delegation_created_at", Some("2026-01-03 00:00:00+00"));
        } else {
            for name in [
                "token_endpoint",
                "auth_method",
                "encrypted_auth_method_config",
                "subject_token_audience",
                "token_delegation_created_at",
            ] {
                put(name, None);
            }
        }
    }
}
