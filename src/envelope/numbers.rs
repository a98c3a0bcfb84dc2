//! Lists of byte values in decimal, `1,23,255`: the bulk of an envelope's JSON.
//!
//! It owns the conversion in both directions and nothing around it (no brackets, no white space).
//! It never accepts a second spelling of a value: no leading zero, no sign, no blank.

/// The digits of each byte value with a comma after them, and how many of the four bytes count.
/// Four bytes at once and then a step of two to four is faster than writing digit by digit.
static SPELLED: [([u8; 4], u8); 256] = spell_all();

const fn spell_all() -> [([u8; 4], u8); 256] {
    let mut all = [([0; 4], 0); 256];
    let mut value = 0;
    while value < 256 {
        let (h, t, u) =
            (b'0' + (value / 100) as u8, b'0' + (value / 10 % 10) as u8, b'0' + (value % 10) as u8);
        all[value] = match value {
            0..10 => ([u, b',', 0, 0], 2),
            10..100 => ([t, u, b',', 0], 3),
            _ => ([h, t, u, b','], 4),
        };
        value += 1;
    }
    all
}

/// The most bytes that [`write`] needs for `values` values.
pub(super) const fn room_for(values: usize) -> usize {
    4 * values
}

/// Writes `values`, each with a comma after it, to the front of `to`, and returns how many bytes
/// that took. `to` must have [`room_for`] them.
pub(super) fn write(values: &[u8], to: &mut [u8]) -> usize {
    let mut at = 0;
    for value in values {
        let (spelled, len) = SPELLED[usize::from(*value)];
        to[at..at + 4].copy_from_slice(&spelled);
        at += usize::from(len);
    }
    at
}

/// The most values that a list of `bytes` bytes can hold.
pub(super) const fn values_in(bytes: usize) -> usize {
    bytes / 2 + 1
}

/// Reads the whole of `list` to the front of `to`, and returns how many values it held, or `None`
/// if it is not spelled canonically. `to` must have room for [`values_in`] them.
pub(super) fn read(list: &[u8], to: &mut [u8]) -> Option<usize> {
    if list.is_empty() {
        return Some(0);
    }
    let mut n = 0;
    for spelled in list.split(|byte| *byte == b',') {
        let digit = |i: usize| spelled[i].is_ascii_digit().then(|| u16::from(spelled[i] - b'0'));
        let value = match spelled.len() {
            1 => digit(0)?,
            2 => 10 * digit(0)? + digit(1)?,
            3 => 100 * digit(0)? + 10 * digit(1)? + digit(2)?,
            _ => return None,
        };
        if spelled.len() > 1 && spelled[0] == b'0' {
            return None;
        }
        to[n] = u8::try_from(value).ok()?;
        n += 1;
    }
    Some(n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_written_and_read_back() {
        let values: Vec<u8> = (0..=255).collect();
        let mut text = vec![0; room_for(256)];
        let n = write(&values, &mut text);
        let expected: Vec<String> = values.iter().map(u8::to_string).collect();
        assert_eq!(std::str::from_utf8(&text[..n]).unwrap(), expected.join(",") + ",");
        let mut back = vec![0; values_in(n - 1)];
        assert_eq!(read(&text[..n - 1], &mut back), Some(256));
        assert_eq!(back[..256], values);
    }

    #[test]
    fn a_list_is_spelled_one_way() {
        let read = |list: &str| {
            let mut to = vec![0; values_in(list.len())];
            read(list.as_bytes(), &mut to).map(|n| to[..n].to_vec())
        };
        assert_eq!(read(""), Some(vec![]));
        assert_eq!(read("0"), Some(vec![0]));
        assert_eq!(read("255,0,10"), Some(vec![255, 0, 10]));
        for bad in
            [",", "1,", ",1", "1,,2", "00", "01", "256", "300", "999", "1000", "0255", "-1", "+1", "1.0"]
        {
            assert_eq!(read(bad), None, "{bad:?}");
        }
        for bad in ["1e0", " 1", "1 ", "1, 2", "a", "1]", "[1", "/", ":", "1:", "\u{b2}"] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
    }
}
