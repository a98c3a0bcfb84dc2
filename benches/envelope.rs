//! What one field costs, stage by stage and whole, in each tier and in the plain way, side by side.
//!
//! All variants take turns over a few fields, then over the next few, and so on round after round,
//! so that whatever else the machine does falls on all of them alike; a turn is short enough that
//! most are not interrupted, and what is printed is the median of the turns. There are enough
//! fields that no branch predictor learns them.
//!
//! ```text
//! cargo bench --bench envelope             everything
//! cargo bench --bench envelope -- quick    few rounds, to see that it runs
//! ```

mod plain;

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use rekek::envelope::cipher::Cipher;
use rekek::envelope::{self, Nonce, Scratch, Tier, stages};
use rekek::secret::{MasterKey, Plaintext};
use std::hint::black_box;
use std::time::{Duration, Instant};

/// A signing key as the site stores it (this one is made up), in two of three fields.
const SIGNING_KEY: &str = "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgfy44ob626PPDOZ2N
t5O8tAIVWkl4FTSJX8b1RJ8RqTOhRANCAAQ2NBDeG14OBU3VrW3isQ64sAS02uyq
xfgnPFZaxUrFzj7dbTUxvDXzcMlNSanGKEl1Z6Zzz/bqEd0t2eB7CcCa
-----END PRIVATE KEY-----
";

/// Token-delegation credentials, in the third.
const CREDENTIALS: &str =
    r#"{"client_id":"rekek-bench-client-000001","client_secret":"made up, and never used anywhere"}"#;

/// Fields of a turn: a third of a millisecond in the plain way.
const TURN: usize = 30;

const FIELDS: usize = 70 * TURN;

struct Fields {
    texts: Vec<String>,
    envelopes: Vec<plain::Envelope>,
    jsons: Vec<Vec<u8>>,
    /// The ciphertexts as lists of numbers.
    lists: Vec<Vec<u8>>,
    plaintexts: Vec<Vec<u8>>,
}

struct Variant<'f> {
    stage: &'static str,
    /// `None` is the plain way.
    tier: Option<Tier>,
    run: Box<dyn FnMut(usize) + 'f>,
    times: Vec<Duration>,
}

fn main() {
    let quick = std::env::args().any(|arg| arg == "quick" || arg == "--test");
    let rounds = if quick { 1 } else { 12 };
    let (from, to) = ([0x11; 32], [0x22; 32]);
    let fields = fields(&from);
    let mean = |lengths: &mut dyn Iterator<Item = usize>| lengths.sum::<usize>() / FIELDS;
    println!(
        "{FIELDS} fields: {} characters of text, {} bytes of JSON, {} of ciphertext on average; {rounds} rounds",
        mean(&mut fields.texts.iter().map(String::len)),
        mean(&mut fields.jsons.iter().map(Vec::len)),
        mean(&mut fields.envelopes.iter().map(|e| e.ciphertext.len())),
    );

    let mut variants = variants(&fields, &from, &to);
    for round in 0..=rounds {
        for first in (0..FIELDS).step_by(TURN) {
            let turn = first..first + TURN;
            // The first variant is not to pay for bringing the texts into the cache.
            turn.clone().for_each(|i| _ = black_box(fields.texts[i].is_ascii()));
            for variant in &mut variants {
                let start = Instant::now();
                turn.clone().for_each(&mut variant.run);
                // The first round is to warm up.
                if round > 0 {
                    variant.times.push(start.elapsed());
                }
            }
        }
    }
    report(&mut variants);
}

fn report(variants: &mut [Variant<'_>]) {
    let tiers: Vec<Tier> = Tier::ALL.into_iter().filter(|tier| tier.is_available()).collect();
    let columns = tiers.iter().map(|tier| format!("{:>17}", tier.name())).collect::<String>();
    println!("{:<26}{:>10}{columns}   ns a field (median), and how many times as fast as plain", "", "plain");
    let mut stages: Vec<&str> = variants.iter().map(|variant| variant.stage).collect();
    stages.dedup();
    for stage in stages {
        let mut median = |tier: Option<Tier>| {
            let variant = variants.iter_mut().find(|v| v.stage == stage && v.tier == tier)?;
            variant.times.sort_unstable();
            Some(variant.times[variant.times.len() / 2].as_secs_f64() * 1e9 / TURN as f64)
        };
        let Some(plain) = median(None) else { continue };
        print!("{stage:<26}{plain:>10.0}");
        for tier in &tiers {
            match median(Some(*tier)) {
                Some(ns) => print!("{ns:>9.0} {:>6.1}x", plain / ns),
                None => print!("{:>17}", ""),
            }
        }
        println!();
    }
}

fn fields(key: &[u8; 32]) -> Fields {
    let plaintexts: Vec<Vec<u8>> =
        (0..FIELDS).map(|i| if i % 3 == 2 { CREDENTIALS } else { SIGNING_KEY }.as_bytes().to_vec()).collect();
    let envelopes: Vec<_> = plaintexts
        .iter()
        .map(|plaintext| plain::Envelope { key_id: "kv1".into(), ..plain::seal("kv1", key, plaintext) })
        .collect();
    let list = |bytes: &[u8]| bytes.iter().map(u8::to_string).collect::<Vec<_>>().join(",").into_bytes();
    Fields {
        texts: envelopes.iter().map(plain::write).collect(),
        jsons: envelopes.iter().map(|envelope| serde_json::to_vec(envelope).expect("JSON")).collect(),
        lists: envelopes.iter().map(|envelope| list(&envelope.ciphertext)).collect(),
        envelopes,
        plaintexts,
    }
}

fn variants<'f>(fields: &'f Fields, from: &'f [u8; 32], to: &'f [u8; 32]) -> Vec<Variant<'f>> {
    let key = |bytes: &[u8; 32]| {
        MasterKey::fill_with::<()>(|key| {
            key.copy_from_slice(bytes);
            Ok(())
        })
        .expect("filled")
    };
    let cipher = |bytes| Cipher::new(&key(bytes));
    let Fields { texts, envelopes, jsons, lists, plaintexts } = fields;
    let tiers = || Tier::ALL.into_iter().filter(|tier| tier.is_available());
    let mut variants: Vec<Variant<'f>> = Vec::new();
    let mut add = |stage, tier, run: Box<dyn FnMut(usize) + 'f>| {
        variants.push(Variant { stage, tier, run, times: Vec::new() });
    };

    add("whole field", None, Box::new(|i| drop(black_box(plain::rewrap(&texts[i], from, to)))));
    for tier in tiers() {
        let mut rewrapper = Rewrapper::new(tier, cipher(from), cipher(to));
        add("whole field", Some(tier), Box::new(move |i| _ = black_box(rewrapper.rewrap(&texts[i]))));
    }

    add("text to envelope", None, Box::new(|i| drop(black_box(plain::read(&texts[i])))));
    for tier in tiers() {
        let mut scratch = Scratch::with_tier(tier).expect("available");
        let run = move |i: usize| _ = black_box(envelope::read(&texts[i], &mut scratch).expect("read"));
        add("text to envelope", Some(tier), Box::new(run));
    }

    add("envelope to text", None, Box::new(|i| drop(black_box(plain::write(&envelopes[i])))));
    for tier in tiers() {
        let (mut scratch, mut out) = (Scratch::with_tier(tier).expect("available"), Vec::new());
        let run = move |i: usize| {
            out.clear();
            let plain::Envelope { key_id, nonce, ciphertext, .. } = &envelopes[i];
            envelope::write(key_id, nonce, ciphertext, &mut scratch, &mut out);
            black_box(&out);
        };
        add("envelope to text", Some(tier), Box::new(run));
    }

    // Base64, the cipher and the nonce have no tiers of ours: they stand under the one chosen.
    let chosen = Some(Tier::chosen());
    use base64::engine::{Engine as _, general_purpose::STANDARD};
    let mut buffer = vec![0; 1 << 16];
    let decode =
        move |i: usize| _ = black_box(STANDARD.decode_slice(&texts[i], &mut buffer).expect("base64"));
    add("  base64 decode", None, Box::new(decode));
    let mut decode = stages::decoder();
    add("  base64 decode", chosen, Box::new(move |i| decode(&texts[i])));
    let mut buffer = vec![0; 1 << 16];
    let encode = move |i: usize| _ = black_box(STANDARD.encode_slice(&jsons[i], &mut buffer).expect("room"));
    add("  base64 encode", None, Box::new(encode));
    let mut encode = stages::encoder();
    add("  base64 encode", chosen, Box::new(move |i| encode(&jsons[i])));

    let brackets: Vec<Vec<u8>> = lists.iter().map(|list| [b"[", &list[..], b"]"].concat()).collect();
    let serde_in =
        move |i: usize| drop(black_box(serde_json::from_slice::<Vec<u8>>(&brackets[i]).expect("JSON")));
    add("  numbers in", None, Box::new(serde_in));
    let serde_out = |i: usize| drop(black_box(serde_json::to_vec(&envelopes[i].ciphertext).expect("JSON")));
    for tier in tiers() {
        let mut read = stages::numbers_in(tier).expect("available");
        add("  numbers in", Some(tier), Box::new(move |i| assert!(read(&lists[i]))));
    }
    add("  numbers out", None, Box::new(serde_out));
    for tier in tiers() {
        let mut write = stages::numbers_out(tier).expect("available");
        add("  numbers out", Some(tier), Box::new(move |i| write(&envelopes[i].ciphertext)));
    }

    add("open", None, Box::new(|i| drop(black_box(plain::open(from, &envelopes[i])))));
    let (opening, mut into) = (cipher(from), Plaintext::new());
    let open = move |i: usize| {
        opening.open_into(&envelopes[i].nonce, &envelopes[i].ciphertext, &mut into).expect("it opens");
        black_box(&into);
    };
    add("open", chosen, Box::new(open));
    add("seal, nonce included", None, Box::new(|i| drop(black_box(plain::seal("kv2", to, &plaintexts[i])))));
    let (sealing, mut nonces, mut sealed) = (cipher(to), nonces(), Vec::new());
    let seal = move |i: usize| {
        let mut nonce = Nonce::default();
        nonces.fill_bytes(&mut nonce);
        sealing.seal(&nonce, &plaintexts[i], &mut sealed);
        black_box(&sealed);
    };
    add("seal, nonce included", chosen, Box::new(seal));
    variants
}

fn nonces() -> ChaCha20Rng {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).expect("the system's generator");
    ChaCha20Rng::from_seed(seed)
}

/// The steps of a re-wrap, without the keyring and the row around them.
struct Rewrapper {
    from: Cipher,
    to: Cipher,
    nonces: ChaCha20Rng,
    source: Scratch,
    proof: Scratch,
    sealed: Vec<u8>,
    text: Vec<u8>,
}

impl Rewrapper {
    fn new(tier: Tier, from: Cipher, to: Cipher) -> Self {
        let scratch = || Scratch::with_tier(tier).expect("available");
        let (sealed, text) = (Vec::new(), Vec::new());
        Rewrapper { from, to, nonces: nonces(), source: scratch(), proof: scratch(), sealed, text }
    }

    fn rewrap(&mut self, text: &str) -> &[u8] {
        let envelope = envelope::read(text, &mut self.source).expect("read");
        assert!(envelope.key_id == "kv1");
        self.from.open(&envelope.nonce, envelope.body).expect("it opens");
        let plaintext = envelope.body.expose_plaintext();
        let mut nonce = Nonce::default();
        self.nonces.fill_bytes(&mut nonce);
        self.to.seal(&nonce, plaintext, &mut self.sealed);
        self.text.clear();
        envelope::write("kv2", &nonce, &self.sealed, &mut self.proof, &mut self.text);
        let proof = envelope::read_bytes(&self.text, &mut self.proof).expect("read back");
        assert!(proof.key_id == "kv2");
        self.to.open(&proof.nonce, proof.body).expect("it opens again");
        assert!(proof.body.expose_plaintext() == plaintext);
        &self.text
    }
}
