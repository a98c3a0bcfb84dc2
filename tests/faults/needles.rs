//! Secrets to look for, in every spelling that they could get out in.

use base64::Engine as _;
use std::collections::HashMap;

/// Bytes of the pieces that are looked for. A secret that is shorter is looked for whole.
const PIECE: usize = 12;

/// Every piece of every spelling of every secret, with the secret's name.
pub struct Needles {
    pieces: HashMap<[u8; PIECE], &'static str>,
    /// Which three bytes a piece begins with, a bit each: most places hold none of them.
    begins: Vec<bool>,
    short: Vec<(Vec<u8>, &'static str)>,
}

impl Default for Needles {
    fn default() -> Self {
        Needles { pieces: HashMap::new(), begins: vec![false; 1 << 24], short: vec![] }
    }
}

fn begin(piece: &[u8]) -> usize {
    usize::from(piece[0]) << 16 | usize::from(piece[1]) << 8 | usize::from(piece[2])
}

impl Needles {
    /// Looks for `secret`, called `name`, as it is, in hex, and in base64 wherever a group of three
    /// begins.
    pub fn add(&mut self, name: &'static str, secret: &[u8]) {
        self.add_text(name, secret);
        self.add_text(name, hex::encode(secret).as_bytes());
        self.add_text(name, hex::encode_upper(secret).as_bytes());
        for shift in 0..3.min(secret.len()) {
            let text = base64::engine::general_purpose::STANDARD_NO_PAD.encode(&secret[shift..]);
            self.add_text(name, text.as_bytes());
            self.add_text(name, text.replace('+', "-").replace('/', "_").as_bytes());
        }
    }

    /// The same, and as lists of numbers. Not for where envelopes are decoded: twelve characters of
    /// a list are four bytes, and stand in another by chance.
    pub fn add_also_numbers(&mut self, name: &'static str, secret: &[u8]) {
        self.add(name, secret);
        for separator in [",", ", "] {
            let numbers: Vec<_> = secret.iter().map(u8::to_string).collect();
            self.add_text(name, numbers.join(separator).as_bytes());
        }
    }

    /// Looks for these bytes as they are.
    pub fn add_text(&mut self, name: &'static str, text: &[u8]) {
        if text.len() < PIECE {
            // (Fewer than six bytes stand by chance in many a line.)
            if text.len() >= 6 {
                self.short.push((text.to_owned(), name));
            }
            return;
        }
        for piece in text.windows(PIECE) {
            self.begins[begin(piece)] = true;
            self.pieces.insert(piece.try_into().unwrap(), name);
        }
    }

    /// No longer looks for what stands in `text`, which is no secret.
    pub fn allow(&mut self, text: &[u8]) {
        for piece in text.windows(PIECE) {
            self.pieces.remove(piece);
        }
    }

    /// Every piece that is found in `place`: the secret's name and where.
    pub fn all(&self, place: &[u8]) -> impl Iterator<Item = (&'static str, usize)> {
        place.windows(PIECE).enumerate().filter_map(|(at, piece)| {
            if self.begins[begin(piece)] { self.pieces.get(piece).map(|name| (*name, at)) } else { None }
        })
    }

    /// What is found in `place`.
    pub fn find(&self, place: &[u8]) -> Option<(&'static str, usize)> {
        let short =
            |(text, name): &(Vec<u8>, &'static str)| memchr::memmem::find(place, text).map(|at| (*name, at));
        self.all(place).next().or_else(|| self.short.iter().find_map(short))
    }

    /// What is found first in a process's memory, with what stands around it: whose stack or buffer it is.
    pub fn first_in(&self, memory: &[(String, Vec<u8>)]) -> String {
        let found = memory.iter().find_map(|(_, place)| self.find(place).map(|(_, at)| (place, at)));
        found.map_or_else(String::new, |(place, at)| {
            let around = &place[at.saturating_sub(64)..place.len().min(at + 64)];
            around.escape_ascii().to_string()
        })
    }

    /// Fails if anything is found.
    #[track_caller]
    pub fn none_in(&self, place: &[u8], context: &str) {
        if let Some((name, at)) = self.find(place) {
            let around = &place[at.saturating_sub(60)..place.len().min(at + 60)];
            panic!("{context}: {name} at byte {at}: {}", String::from_utf8_lossy(around));
        }
    }
}

#[test]
fn a_secret_is_found_in_every_spelling() {
    let secret: Vec<u8> = (0..32u8).map(|i| i.wrapping_mul(73) ^ 0x5a).collect();
    let mut needles = Needles::default();
    needles.add_also_numbers("the secret", &secret);
    let base64 = base64::engine::general_purpose::STANDARD;
    for around in 0..3 {
        let text = [vec![b'x'; around], secret.clone(), vec![b'x'; 5]].concat();
        assert!(needles.find(base64.encode(&text).as_bytes()).is_some());
        assert!(needles.find(&text).is_some());
    }
    for spelling in [
        secret[10..22].to_vec(),
        hex::encode(&secret[10..22]).into_bytes(),
        hex::encode_upper(&secret[20..]).into_bytes(),
        format!("{:?}", &secret[5..17]).into_bytes(),
        base64.encode(&secret[..12]).into_bytes(),
        base64.encode(&secret[7..19]).into_bytes(),
    ] {
        let text = [b"something ".as_slice(), &spelling, b" and more"].concat();
        assert_eq!(needles.find(&text).map(|(name, _)| name), Some("the secret"), "{spelling:?}");
    }
    assert_eq!(needles.find(b"something else altogether"), None);
}
