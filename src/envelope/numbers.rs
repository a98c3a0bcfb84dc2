//! Lists of byte values in decimal, `1,23,255`: the bulk of an envelope's JSON.
//!
//! It owns what such a list may look like, and both directions in safe code; `simd` has the same
//! two in faster ways, on the same plan. No brackets and no white space come here. It never
//! accepts a second spelling of a value: no leading zero, no sign, no blank.
//!
//! The plan for reading: a branch for each byte is mispredicted about once a value, since lengths
//! from one to three follow each other at random, and that was two thirds of the time. So a list
//! is read in windows of 64 bytes whose bytes are classified all at once, one bit a byte; what is
//! wrong with a window shows in a few operations on those words; and then each value is cut out
//! by the position of the comma that ends it, without a branch on its length.

/// Bytes at the front of a window that belong to the window before it: the digits of a value that
/// ends in this one may begin there.
pub(super) const LOOK_BACK: usize = 3;

/// The other bytes of a window. Values that end in them are read with it.
pub(super) const FRESH: usize = 64 - LOOK_BACK;

/// Values that can end in a window in which no two commas stand side by side, rounded up.
pub(super) const WINDOW_VALUES: usize = 32;

/// What the bytes of a window are, a bit for each, the lowest for the first.
pub(super) struct Classes {
    pub(super) commas: u64,
    pub(super) digits: u64,
    pub(super) zeros: u64,
}

impl Classes {
    /// Whether a `fresh` byte ends something that is no canonical value: no byte at all, more
    /// than three digits, a digit after a leading zero, or anything that is no digit.
    /// (Values over 255 are left, which show only once they are read.)
    #[inline(always)]
    pub(super) fn are_spoilt(&self, fresh: u64) -> bool {
        let Classes { commas, digits, zeros } = *self;
        let other = !(commas | digits);
        let empty = commas & commas << 1;
        let long = digits & digits << 1 & digits << 2 & digits << 3;
        let led_by_zero = digits & zeros << 1 & commas << 2;
        (other | empty | long | led_by_zero) & fresh != 0
    }

    /// Where the first value that ends in the fresh bytes begins: behind the last comma of the
    /// look-back. (No comma there means three digits, or the window is spoilt.)
    #[inline(always)]
    pub(super) fn first_start(&self) -> usize {
        64 - (self.commas & ((1 << LOOK_BACK) - 1)).leading_zeros() as usize
    }
}

/// The fresh bytes of a window before which `left` bytes of the list are unread, the comma that
/// is thought behind its last byte included.
#[inline(always)]
pub(super) const fn fresh(left: usize) -> u64 {
    let all = u64::MAX << LOOK_BACK;
    if left < FRESH { all & u64::MAX >> (FRESH - 1 - left) } else { all }
}

/// The window of `list` whose fresh bytes begin at `at`, `W` bytes of it (64, and as many more as
/// the caller's loads reach over its end): in the list itself where it lies within, else copied to
/// `edge` with commas around it. To copy every window would be a third slower: the loads that
/// follow would straddle stores that are still on their way.
#[inline(always)]
pub(super) fn window<'w, const W: usize>(list: &'w [u8], at: usize, edge: &'w mut [u8; W]) -> &'w [u8; W] {
    let (skip, from) = if at == 0 { (LOOK_BACK, list) } else { (0, &list[at - LOOK_BACK..]) };
    if skip == 0
        && let Some(within) = from.first_chunk()
    {
        return within;
    }
    edge.fill(b',');
    let n = from.len().min(W - skip);
    edge[skip..skip + n].copy_from_slice(&from[..n]);
    edge
}

/// The bytes of room that reading a list of `bytes` bytes asks for: a value takes two at the
/// least, and whole windows are stored.
pub(super) const fn room_to_read(bytes: usize) -> usize {
    bytes / 2 + 1 + 2 * WINDOW_VALUES
}

/// Reads the whole of `list` to the front of `to`, and returns how many values it held, or `None`
/// if it is not spelled canonically. `to` must have [`room_to_read`] it; what is behind the
/// values is overwritten with anything.
pub(super) fn read(list: &[u8], to: &mut [u8]) -> Option<usize> {
    read_classified(list, to, classify)
}

/// [`read`], with the bytes of each window classified by `classify`.
#[inline(always)]
pub(super) fn read_classified(
    list: &[u8],
    to: &mut [u8],
    classify: impl Fn(&[u8; 64]) -> Classes,
) -> Option<usize> {
    assert!(to.len() >= room_to_read(list.len()));
    if list.is_empty() {
        return Some(0);
    }
    // Four bytes are loaded from where a value begins, which may be the last byte of the window.
    let mut edge = [b','; 64 + 4];
    let (mut at, mut n) = (0, 0);
    loop {
        let left = list.len() - at;
        let window = window(list, at, &mut edge);
        let classes = classify(window.first_chunk()?);
        n += read_window(window, &classes, fresh(left), to[n..].first_chunk_mut()?)?;
        if left < FRESH {
            return Some(n);
        }
        at += FRESH;
    }
}

#[inline(always)]
fn read_window(
    window: &[u8; 68],
    classes: &Classes,
    fresh: u64,
    to: &mut [u8; WINDOW_VALUES],
) -> Option<usize> {
    if classes.are_spoilt(fresh) {
        return None;
    }
    let mut ends = classes.commas & fresh;
    let n = ends.count_ones() as usize;
    let mut start = classes.first_start();
    let mut highest = 0;
    for value in to.iter_mut().take(n) {
        let end = ends.trailing_zeros() as usize;
        ends &= ends - 1;
        // Hundreds, tens and units as the three low bytes; those that the value lacks are zero.
        let spelled = u32::from_le_bytes(*window.get(start..)?.first_chunk()?) << (8 * (start + 3 - end));
        start = end + 1;
        // Read from the other side they are in the order of their values.
        highest = highest.max(spelled.swap_bytes() >> 8);
        *value = ((spelled & 0x0f_0f0f).wrapping_mul(1 | 10 << 8 | 100 << 16) >> 16) as u8;
    }
    (highest <= u32::from_be_bytes(*b"\x00255")).then_some(n)
}

/// Classifies 64 bytes, eight at a time in a word.
fn classify(bytes: &[u8; 64]) -> Classes {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const HIGH: u64 = ONES << 7;
    // The high bit of each byte that is greater than `limit` (which is below 128).
    let above = |word: u64, limit: u64| (((word & !HIGH) + ONES * (0x7f - limit)) | word) & HIGH;
    // The high bits of the eight bytes, side by side: the multiplication moves each to its place
    // in the highest byte, and no two of them to the same.
    let gather = |high: u64| (high >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56;
    let (mut commas, mut digits, mut zeros) = (0, 0, 0);
    for (i, word) in bytes.as_chunks::<8>().0.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let digit = word ^ (ONES * u64::from(b'0'));
        let comma = above(word ^ (ONES * u64::from(b',')), 0) ^ HIGH;
        commas |= gather(comma) << (8 * i);
        digits |= gather(above(digit, 9) ^ HIGH) << (8 * i);
        zeros |= gather(above(digit, 0) ^ HIGH) << (8 * i);
    }
    Classes { commas, digits, zeros }
}

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

/// The bytes of room that writing `values` values asks for: four for each, and 64 are stored at
/// once.
pub(super) const fn room_to_write(values: usize) -> usize {
    4 * values + 64
}

/// Writes `values`, each with a comma after it, to the front of `to`, and returns how many bytes
/// that took. `to` must have [`room_to_write`] them; what is behind is overwritten with anything.
pub(super) fn write(values: &[u8], to: &mut [u8]) -> usize {
    assert!(to.len() >= room_to_write(values.len()));
    let mut at = 0;
    for value in values {
        let (spelled, len) = SPELLED[usize::from(*value)];
        to[at..at + 4].copy_from_slice(&spelled);
        at += usize::from(len);
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::tier::{Kernel, Tier};
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    fn kernels() -> Vec<(Tier, Kernel)> {
        Tier::ALL.into_iter().filter_map(|tier| Some((tier, Kernel::of(tier).ok()?))).collect()
    }

    /// The rules in the plainest words there are.
    fn by_the_rules(list: &[u8]) -> Option<Vec<u8>> {
        if list.is_empty() {
            return Some(vec![]);
        }
        let value = |spelled: &[u8]| {
            let value = std::str::from_utf8(spelled).ok()?.parse::<u8>().ok()?;
            (value.to_string().as_bytes() == spelled).then_some(value)
        };
        list.split(|byte| *byte == b',').map(value).collect()
    }

    /// Reads with a list that ends where its allocation ends, so that a tool that watches memory
    /// sees a load too far, and with room that is not zero.
    fn read_with(kernel: Kernel, list: &[u8]) -> Option<Vec<u8>> {
        let list: Box<[u8]> = list.into();
        let mut to = vec![0xa5; room_to_read(list.len())].into_boxed_slice();
        kernel.read(&list, &mut to).map(|n| to[..n].to_vec())
    }

    fn write_with(kernel: Kernel, values: &[u8]) -> Vec<u8> {
        let mut to = vec![0xa5; room_to_write(values.len())].into_boxed_slice();
        let n = kernel.write(values, &mut to);
        to[..n].to_vec()
    }

    #[track_caller]
    fn assert_read(list: &[u8]) -> bool {
        let expected = by_the_rules(list);
        for (tier, kernel) in kernels() {
            let seen = read_with(kernel, list);
            assert_eq!(seen, expected, "{tier:?}: {:?}", String::from_utf8_lossy(list));
        }
        expected.is_some()
    }

    #[test]
    fn every_value_is_written_and_read_back() {
        let values: Vec<u8> = (0..=255).collect();
        let spelled = values.iter().map(u8::to_string).collect::<Vec<_>>().join(",");
        for (tier, kernel) in kernels() {
            assert_eq!(write_with(kernel, &values), (spelled.clone() + ",").as_bytes(), "{tier:?}");
            assert_eq!(read_with(kernel, spelled.as_bytes()).as_deref(), Some(&values[..]), "{tier:?}");
        }
    }

    #[test]
    fn a_list_is_spelled_one_way() {
        for good in ["", "0", "255,0,10", "199,200,249,250,255,99,100,9,10"] {
            assert!(assert_read(good.as_bytes()), "{good:?}");
        }
        let bad = [
            ",", "1,", ",1", "1,,2", "00", "01", "007", "256", "260", "300", "999", "1000", "0255", "-1",
            "+1", "1.0", "1e0", " 1", "1 ", "1, 2", "a", "1]", "[1", "/", ":", "1:", "\u{b2}", "\0",
            "\u{80}",
        ];
        // At every place of a window, and over the borders between windows.
        for before in 0..140 {
            for bad in bad {
                let list = format!("{}{bad}", "7,".repeat(before));
                assert!(!assert_read(list.as_bytes()), "{list:?}");
                assert!(!assert_read(format!("{list},12").as_bytes()), "{list:?}");
            }
        }
    }

    #[test]
    fn lists_of_every_length_are_read_and_written() {
        for values in [[0u8, 0, 0], [10, 10, 10], [255, 255, 255], [7, 10, 255], [255, 0, 99]] {
            let values: Vec<u8> = values.into_iter().cycle().take(300).collect();
            for n in 0..=values.len() {
                let spelled = values[..n].iter().map(u8::to_string).collect::<Vec<_>>().join(",");
                assert!(assert_read(spelled.as_bytes()));
                for (tier, kernel) in kernels() {
                    let comma = if n > 0 { "," } else { "" };
                    assert_eq!(
                        write_with(kernel, &values[..n]),
                        (spelled.clone() + comma).as_bytes(),
                        "{tier:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn every_triple_of_bytes_is_judged_by_the_rules() {
        // All that stands in a list, and the neighbours of the digits and of the comma.
        let bytes = *b"0123456789,/:+-.\x00\xb0";
        for a in bytes {
            for b in bytes {
                for c in bytes {
                    assert_read(&[a, b, c]);
                    assert_read(&[b'1', b',', a, b, c, b',', b'2']);
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..Default::default() })]

        #[test]
        fn every_tier_reads_back_what_every_tier_writes(values in vec(any::<u8>(), 0..600)) {
            let spelled = values.iter().map(u8::to_string).collect::<Vec<_>>().join(",");
            for (_, kernel) in kernels() {
                prop_assert_eq!(read_with(kernel, spelled.as_bytes()), Some(values.clone()));
                let written = write_with(kernel, &values);
                prop_assert_eq!(written.strip_suffix(b",").unwrap_or_default(), spelled.as_bytes());
            }
        }

        #[test]
        fn every_tier_judges_alike(
            tokens in vec(prop_oneof![9 => any::<u8>().prop_map(|v| v.to_string()),
                                      1 => select(vec!["", "00", "01", "256", "300", "1000", " ", "/", ":"]).prop_map(String::from)],
                          1..12),
            spoil in proptest::option::of((any::<prop::sample::Index>(), any::<u8>())),
            pad in 0usize..130,
        ) {
            let mut list = ["10,".repeat(pad), tokens.join(",")].concat().into_bytes();
            if let Some((at, byte)) = spoil && !list.is_empty() {
                let at = at.index(list.len());
                list[at] = byte;
            }
            assert_read(&list);
        }
    }
}
