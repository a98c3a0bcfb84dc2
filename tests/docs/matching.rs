//! Whether a command printed what its document says.

use std::collections::HashMap;

/// What a document's digests and fingerprints are.
pub enum Digits {
    /// Those of the fixtures: to be printed as they stand.
    AsTheyStand,
    /// Those of the run that was recorded. Another run has others, but the same ones wherever the
    /// document has the same.
    OfThatRun(HashMap<String, String>),
}

impl Digits {
    /// A text of the document with the digits that this run has in their places.
    pub fn put_into(&self, text: &str) -> String {
        let Digits::OfThatRun(known) = self else { return text.to_owned() };
        let put =
            |digits: &str| known.get(digits).unwrap_or_else(|| panic!("no command printed {digits}")).clone();
        pieces(text).map(|piece| if is_digits(piece) { put(piece) } else { piece.to_owned() }).collect()
    }

    /// Whether a line is as the document says.
    fn line(&mut self, expected: &str, actual: &str) -> bool {
        let Digits::OfThatRun(known) = self else { return like(expected, actual) };
        if !like(&masked(expected), &masked(actual)) {
            return false;
        }
        if expected.contains('…') {
            // Digits that are known already are to be these; of others nothing is learned.
            let known = |digits: &&str| !is_digits(digits) || known.contains_key(*digits);
            return !pieces(expected).all(|piece| known(&piece)) || like(&self.put_into(expected), actual);
        }
        let [expected, actual] = [expected, actual].map(|line| pieces(line).filter(|p| is_digits(p)));
        expected.zip(actual).all(|(expected, actual)| match known.get(expected) {
            Some(same) => same == actual,
            None => {
                let new = !known.values().any(|other| other == actual);
                known.insert(expected.to_owned(), actual.to_owned());
                new
            }
        })
    }

    /// Whether an output is as the document says.
    pub fn output(&mut self, expected: &[String], actual: &[&str]) -> bool {
        let mut actual = actual.iter();
        let mut any = false;
        for expected in expected {
            if expected == "…" {
                any = true;
            } else if any {
                any = !actual.any(|line| self.line(expected, line));
                if any {
                    return false;
                }
            } else if !actual.next().is_some_and(|line| self.line(expected, line)) {
                return false;
            }
        }
        any || actual.next().is_none()
    }
}

/// Whether a text is like a pattern in which `…` stands for anything.
pub fn like(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('…') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(first) else { return false };
    let mut parts: Vec<_> = rest.split('…').collect();
    let last = parts.pop().expect("split gives one");
    for part in parts {
        match text.find(part) {
            Some(at) => text = &text[at + part.len()..],
            None => return false,
        }
    }
    text.ends_with(last)
}

/// A text in runs of hex digits and runs of anything else.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let is_hex = |b: &u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    text.as_bytes().chunk_by(move |a, b| is_hex(a) == is_hex(b)).scan(0, |at, run| {
        let piece = &text[*at..*at + run.len()];
        *at += run.len();
        Some(piece)
    })
}

/// A fingerprint's length, or a digest's.
fn is_digits(piece: &str) -> bool {
    matches!(piece.len(), 16 | 64) && piece.bytes().all(|b| b.is_ascii_hexdigit())
}

fn masked(text: &str) -> String {
    pieces(text).map(|piece| if is_digits(piece) { "#" } else { piece }).collect()
}

#[test]
fn outputs_are_compared_line_by_line() {
    let lines = |text: &str| -> Vec<String> { text.lines().map(str::to_owned).collect() };
    let says = |expected: &str, actual: &str| {
        let mut digits = Digits::AsTheyStand;
        digits.output(&lines(expected), &actual.lines().collect::<Vec<_>>())
    };
    assert!(says("a\nb", "a\nb") && !says("a\nb", "a") && !says("a", "a\nb") && !says("a", "b"));
    assert!(says("a … c…", "a b c d") && !says("a … c", "a b c d") && says("…", ""));
    assert!(says("a\n…\nc", "a\nb\nb\nc") && says("a\n…", "a\nb") && !says("a\n…\nc", "a\nb"));

    let mut digits = Digits::OfThatRun(HashMap::new());
    let run = |c: char| c.to_string().repeat(16);
    let key = |c: char| format!("key ({})", run(c));
    assert!(digits.line(&key('a'), &key('b')) && digits.line(&key('a'), &key('b')));
    assert!(!digits.line(&key('a'), &key('c')), "the same digits are the same ones");
    assert!(!digits.line(&key('d'), &key('b')), "other digits are others");
    assert!(digits.line(&format!("… {}", key('a')), &format!("so {}", key('b'))));
    assert!(!digits.line(&format!("… {}", key('a')), &format!("so {}", key('c'))));
    assert_eq!(digits.put_into(&format!("--x {}", run('a'))), format!("--x {}", run('b')));
}
