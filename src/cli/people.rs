//! Reports for people: short aligned tables. (The documents for programs are in the library.)

use anyhow::Context as _;
use std::fmt::Write as _;
use std::io::Write as _;

/// Prints a report.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).context("cannot print the report")
}

/// Lines of a label and a value, the values aligned.
pub fn aligned<L: AsRef<str>, V: AsRef<str>>(lines: &[(L, V)]) -> String {
    let width = lines.iter().map(|(label, _)| label.as_ref().chars().count()).max().unwrap_or(0);
    let mut out = String::new();
    for (label, value) in lines {
        let line = format!("{:width$}  {}", label.as_ref(), value.as_ref());
        writeln!(out, "{}", line.trim_end()).expect("a String takes it");
    }
    out
}

/// A number with its thousands set apart: `1,234,567`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
