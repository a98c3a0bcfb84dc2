//! Numbers as people read them: in tables, on pages, in charts.
//!
//! It owns how they are spelled, and nothing of what they count.

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

/// `1 row`, `2 rows`.
pub fn quantity(n: u64, what: &str) -> String {
    format!("{} {what}{}", count(n), if n == 1 { "" } else { "s" })
}

/// A number in three digits, for where there is room for no more: `950`, `58.3k`, `1.24M`.
pub fn compact(n: f64) -> String {
    let mut scaled = n;
    for unit in ["", "k", "M"] {
        // What would be rounded up to four digits belongs to the next unit.
        if scaled < 999.5 {
            let decimals = match scaled {
                _ if unit.is_empty() => 0,
                s if s < 9.995 => 2,
                s if s < 99.95 => 1,
                _ => 0,
            };
            return format!("{scaled:.decimals$}{unit}");
        }
        scaled /= 1000.0;
    }
    format!("{}G", count(scaled.round() as u64))
}

/// A time that nobody needs to the second: `0.4 s`, `13 s`, `2 min 05 s`, `3 h 20 min`, `12 days`.
pub fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        _ if seconds < 0.05 => "under 0.1 s".to_owned(),
        _ if seconds < 9.95 => format!("{seconds:.1} s"),
        0..60 => format!("{whole} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        3600..172_800 => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
        _ => format!("{} days", count(whole / 86_400)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_spelled_for_people() {
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([0, 1, 2000].map(|n| quantity(n, "row")), ["0 rows", "1 row", "2,000 rows"]);
        let compacts =
            [0.0, 950.2, 999.7, 1000.0, 9_996.0, 58_349.0, 583_490.0, 999_600.0, 1_240_000.0, 2.5e12];
        assert_eq!(
            compacts.map(compact),
            ["0", "950", "1.00k", "1.00k", "10.0k", "58.3k", "583k", "1.00M", "1.24M", "2,500G"]
        );
        let durations = [0.0, 0.44, 9.97, 59.4, 59.6, 125.0, 3599.7, 12_000.0, 172_799.9, 1e6];
        assert_eq!(
            durations.map(duration),
            [
                "under 0.1 s",
                "0.4 s",
                "10 s",
                "59 s",
                "1 min 00 s",
                "2 min 05 s",
                "1 h 00 min",
                "3 h 20 min",
                "2 days",
                "11 days"
            ]
        );
    }
}
