//! Lists of numbers with x86-64's vector instructions: the one module with unsafe code.
//!
//! It owns three kernels, on the plan and under the rules of `numbers`; it never decides which one
//! is used (`tier` does). Each is reached only through a value that exists only where the
//! processor was found to have its instructions, and so is safe to call.
//!
//! Unsafe is used for four things, each with its reason beside it: SSE2's instructions outside of a
//! function that is compiled for them, which every x86-64 has; entering a function that is
//! compiled for those instructions, which the value vouches for; loading and storing whole
//! vectors, always through a reference to an array of exactly that many bytes, so that the bounds
//! are checked by the compiler or by a slice; and one masked load that begins before a list or
//! ends behind it, whose mask leaves out every byte that is not in the list.

#![allow(unsafe_code)]

use super::numbers::{
    Classes, FRESH, LOOK_BACK, WINDOW_VALUES, fresh, read_classified, room_to_read, room_to_write, window,
};
use std::arch::x86_64::*;

/// The processor has SSE2, as every x86-64 has.
#[derive(Clone, Copy)]
pub(super) struct Sse2(());

impl Sse2 {
    pub(super) fn detect() -> Option<Self> {
        Some(Self(()))
    }

    /// [`super::numbers::read`], whose way of cutting out values no instruction below SSSE3 betters.
    pub(super) fn read(self, list: &[u8], to: &mut [u8]) -> Option<usize> {
        read_classified(list, to, classify_sse2)
    }
}

/// The processor has SSSE3.
#[derive(Clone, Copy)]
pub(super) struct Ssse3(());

impl Ssse3 {
    pub(super) fn detect() -> Option<Self> {
        is_x86_feature_detected!("ssse3").then_some(Self(()))
    }

    /// [`super::numbers::read`].
    pub(super) fn read(self, list: &[u8], to: &mut [u8]) -> Option<usize> {
        // SAFETY: `self` was made only after the instructions had been detected.
        unsafe { read_ssse3(list, to) }
    }
}

/// The processor has AVX-512 F, BW, VL, VBMI and VBMI2, and what every processor with those has.
#[derive(Clone, Copy)]
pub(super) struct Avx512(());

impl Avx512 {
    pub(super) fn detect() -> Option<Self> {
        let all = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512vbmi")
            && is_x86_feature_detected!("avx512vbmi2")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("lzcnt")
            && is_x86_feature_detected!("popcnt");
        all.then_some(Self(()))
    }

    /// [`super::numbers::read`].
    pub(super) fn read(self, list: &[u8], to: &mut [u8]) -> Option<usize> {
        // SAFETY: `self` was made only after the instructions had been detected.
        unsafe { read_avx512(list, to) }
    }

    /// [`super::numbers::write`].
    pub(super) fn write(self, values: &[u8], to: &mut [u8]) -> usize {
        // SAFETY: `self` was made only after the instructions had been detected.
        unsafe { write_avx512(values, to) }
    }
}

fn load16(bytes: &[u8; 16]) -> __m128i {
    // SAFETY: the reference vouches for 16 bytes; the load asks for no alignment; SSE2 is part of
    // x86-64.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

#[target_feature(enable = "avx512f")]
fn load64(bytes: &[u8; 64]) -> __m512i {
    // SAFETY: the reference vouches for 64 bytes; the load asks for no alignment.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

#[target_feature(enable = "avx512f")]
fn store64(bytes: &mut [u8; 64], vector: __m512i) {
    // SAFETY: the reference vouches for 64 bytes; the store asks for no alignment.
    unsafe { _mm512_storeu_si512(bytes.as_mut_ptr().cast(), vector) }
}

#[target_feature(enable = "avx")]
fn store32(bytes: &mut [u8; 32], vector: __m256i) {
    // SAFETY: the reference vouches for 32 bytes; the store asks for no alignment.
    unsafe { _mm256_storeu_si256(bytes.as_mut_ptr().cast(), vector) }
}

// Reading with SSSE3: three values at a time, spread by a byte shuffle.

/// For the commas among the next 12 bytes, a bit for each: the shuffle that puts the digits of
/// the first three values into hundreds, tens and units of three lanes of four bytes. 0x80 makes
/// a zero: for a digit that a value lacks, for the fourth byte, and for a value whose comma is
/// not there. Of the 4096 entries about forty ever see use, so the caches hold them.
static TRIPLES: [[u8; 16]; 4096] = {
    let mut all = [[0x80; 16]; 4096];
    let mut commas = 0;
    while commas < all.len() {
        let (mut start, mut lane, mut end) = (0, 0, 0);
        while end < 12 && lane < 3 {
            if commas >> end & 1 == 1 {
                let mut digit = 0;
                while digit < 3 && start + digit < end {
                    all[commas][4 * lane + 2 - digit] = (end - 1 - digit) as u8;
                    digit += 1;
                }
                lane += 1;
                start = end + 1;
            }
            end += 1;
        }
        commas += 1;
    }
    all
};

#[target_feature(enable = "ssse3")]
fn read_ssse3(list: &[u8], to: &mut [u8]) -> Option<usize> {
    assert!(to.len() >= room_to_read(list.len()));
    if list.is_empty() {
        return Some(0);
    }
    // 16 bytes are loaded from where a value begins, which may be the last byte of the window.
    let mut edge = [b','; 64 + 16];
    let (mut at, mut n) = (0, 0);
    loop {
        let left = list.len() - at;
        let window = window(list, at, &mut edge);
        n += read_window_ssse3(window, fresh(left), to[n..].first_chunk_mut()?)?;
        if left < FRESH {
            return Some(n);
        }
        at += FRESH;
    }
}

#[inline]
#[target_feature(enable = "ssse3")]
fn read_window_ssse3(window: &[u8; 80], fresh: u64, to: &mut [u8; WINDOW_VALUES + 8]) -> Option<usize> {
    let classes = classify_sse2(window.first_chunk()?);
    if classes.are_spoilt(fresh) {
        return None;
    }
    let weights = _mm_set1_epi32(i32::from_le_bytes([100, 10, 1, 0]));
    let mut over = _mm_setzero_si128();
    let mut ends = classes.commas & fresh;
    let n = ends.count_ones() as usize;
    let mut start = classes.first_start();
    for at in (0..n).step_by(3) {
        let shuffle = load16(&TRIPLES[(ends >> start & 0xfff) as usize]);
        let spelled = _mm_shuffle_epi8(load16(window.get(start..)?.first_chunk()?), shuffle);
        let digits = _mm_and_si128(spelled, _mm_set1_epi8(15));
        // 100 h + 10 t and u side by side, then their sum, a lane each.
        let values = _mm_madd_epi16(_mm_maddubs_epi16(digits, weights), _mm_set1_epi16(1));
        over = _mm_or_si128(over, values);
        let bytes = _mm_packus_epi16(_mm_packs_epi32(values, values), values);
        *to.get_mut(at..)?.first_chunk_mut()? = _mm_cvtsi128_si32(bytes).to_le_bytes();
        // Past three commas. Where they run out, so does the loop.
        ends &= ends.wrapping_sub(1);
        ends &= ends.wrapping_sub(1);
        start = ends.trailing_zeros() as usize + 1;
        ends &= ends.wrapping_sub(1);
    }
    // A bit above the lowest eight in any value is one in their union.
    let over = _mm_cmpgt_epi32(over, _mm_set1_epi32(255));
    (_mm_movemask_epi8(over) == 0).then_some(n)
}

#[inline]
fn classify_sse2(bytes: &[u8; 64]) -> Classes {
    let mut classes = Classes { commas: 0, digits: 0, zeros: 0 };
    for (i, chunk) in bytes.as_chunks().0.iter().enumerate() {
        let chunk = load16(chunk);
        // SAFETY: SSE2 is part of x86-64.
        let [commas, digits, zeros] = unsafe {
            let digit = _mm_sub_epi8(chunk, _mm_set1_epi8(b'0'.cast_signed()));
            [
                _mm_cmpeq_epi8(chunk, _mm_set1_epi8(b','.cast_signed())),
                _mm_cmpeq_epi8(_mm_min_epu8(digit, _mm_set1_epi8(9)), digit),
                _mm_cmpeq_epi8(digit, _mm_setzero_si128()),
            ]
            .map(|class| u64::from(_mm_movemask_epi8(class).cast_unsigned()))
        };
        classes.commas |= commas << (16 * i);
        classes.digits |= digits << (16 * i);
        classes.zeros |= zeros << (16 * i);
    }
    classes
}

// Reading with AVX-512: all values that end in a window at once.

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vbmi2,bmi1,bmi2,lzcnt,popcnt")]
fn read_avx512(list: &[u8], to: &mut [u8]) -> Option<usize> {
    const POSITIONS: [u8; 64] = {
        let mut positions = [0; 64];
        let mut i = 0;
        while i < 64 {
            positions[i] = i as u8;
            i += 1;
        }
        positions
    };
    const TENS: [u8; 16] = [0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 0, 0, 0, 0, 0, 0];
    const HUNDREDS: [u8; 16] = [0, 100, 200, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

    assert!(to.len() >= room_to_read(list.len()));
    if list.is_empty() {
        return Some(0);
    }
    let positions = load64(&POSITIONS);
    let tens_of = _mm256_broadcastsi128_si256(load16(&TENS));
    let hundreds_of = _mm256_broadcastsi128_si256(load16(&HUNDREDS));
    let one = _mm512_set1_epi8(1);
    let comma = _mm512_set1_epi8(b','.cast_signed());

    let (mut at, mut n) = (0, 0);
    // The bytes of the window that are in the list, and those that are fresh. Only the first window
    // and the last have less than all of them.
    let (mut within, mut fresh_bytes) = (u64::MAX << LOOK_BACK, fresh(FRESH));
    loop {
        let left = list.len() - at;
        if left < FRESH {
            within &= u64::MAX >> (FRESH - left);
            fresh_bytes = fresh(left);
        }
        let begin = list.as_ptr().wrapping_add(at).wrapping_sub(LOOK_BACK);
        // SAFETY: a byte that the mask leaves out is not accessed, and `within` leaves out those
        // before the list (the first three, where `at` is 0; elsewhere `at` is at least `FRESH`)
        // and those behind it (all but the first `LOOK_BACK + left`, where that is below 64).
        let bytes = unsafe { _mm512_mask_loadu_epi8(comma, within, begin.cast()) };

        let digits = _mm512_sub_epi8(bytes, _mm512_set1_epi8(b'0'.cast_signed()));
        let classes = Classes {
            commas: _mm512_cmpeq_epi8_mask(bytes, comma),
            digits: _mm512_cmplt_epu8_mask(digits, _mm512_set1_epi8(10)),
            zeros: _mm512_testn_epi8_mask(digits, digits),
        };
        if classes.are_spoilt(fresh_bytes) {
            return None;
        }
        let ends = classes.commas & fresh_bytes;
        let count = ends.count_ones();

        // The positions of the commas that end a value, side by side: `count` of them, at most 31
        // since no two commas are neighbours. The digits are one, two and three bytes before. (In
        // the register and not by the storing form, which is many times slower on Zen 4.)
        let units_at = _mm512_sub_epi8(_mm512_maskz_compress_epi8(ends, positions), one);
        let tens_at = _mm512_sub_epi8(units_at, one);
        let hundreds_at = _mm512_sub_epi8(tens_at, one);
        let units = _mm512_castsi512_si256(_mm512_permutexvar_epi8(units_at, digits));
        let tens = _mm512_castsi512_si256(_mm512_permutexvar_epi8(tens_at, digits));
        let hundreds = _mm512_castsi512_si256(_mm512_permutexvar_epi8(hundreds_at, digits));

        // A comma less '0' has its high bit set, for which the shuffle gives zero, so a value of
        // one digit has no tens. What is in the hundreds' place then is another value's.
        let has_tens = _mm256_cmplt_epu8_mask(tens, _mm256_set1_epi8(10));
        let low = _mm256_add_epi8(_mm256_shuffle_epi8(tens_of, tens), units);
        let values = _mm256_add_epi8(_mm256_maskz_shuffle_epi8(has_tens, hundreds_of, hundreds), low);

        // Over 255: the sum went round, or there are hundreds from three to nine.
        let wrapped = _mm256_cmplt_epu8_mask(values, low);
        let above_two = _mm256_sub_epi8(hundreds, _mm256_set1_epi8(3));
        let too_many = _mm256_mask_cmplt_epu8_mask(has_tens, above_two, _mm256_set1_epi8(7));
        if _bzhi_u32(wrapped | too_many, count) != 0 {
            return None;
        }
        store32(to[n..].first_chunk_mut()?, values);
        n += count as usize;
        if left < FRESH {
            return Some(n);
        }
        at += FRESH;
        within = u64::MAX;
    }
}

// Writing with AVX-512: 16 values at a time, spelled with three digits and then squeezed.

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,avx512vbmi2,bmi1,bmi2,lzcnt,popcnt")]
fn write_avx512(values: &[u8], to: &mut [u8]) -> usize {
    assert!(to.len() >= room_to_write(values.len()));
    let (whole, rest) = values.as_chunks();
    let mut at = 0;
    for values in whole {
        let (spelled, counting) = spell_avx512(load16(values));
        at += squeeze_avx512(spelled, counting, &mut to[at..]);
    }
    if !rest.is_empty() {
        let mut padded = [0; 16];
        padded[..rest.len()].copy_from_slice(rest);
        let (spelled, counting) = spell_avx512(load16(&padded));
        at += squeeze_avx512(spelled, _bzhi_u64(counting, 4 * rest.len() as u32), &mut to[at..]);
    }
    at
}

/// Three digits and a comma for each value, and which of those bytes count.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn spell_avx512(values: __m128i) -> (__m512i, u64) {
    const FOURFOLD: [u8; 64] = {
        let mut from = [0; 64];
        let mut i = 0;
        while i < 64 {
            from[i] = (i / 4) as u8;
            i += 1;
        }
        from
    };
    let fourfold = _mm512_permutexvar_epi8(load64(&FOURFOLD), _mm512_castsi128_si512(values));
    // The first digit counts from 100 on, the second from 10 on, the third and the comma always.
    let counting = _mm512_cmpge_epu8_mask(fourfold, _mm512_set1_epi32(i32::from_le_bytes([100, 10, 0, 0])));
    // Division by multiplication, exact in these ranges: v / 100 is v * 41 >> 12 up to 255, and
    // v / 10 is v * 205 >> 11 up to 99. The products fit into 16 bits, and what is above them in
    // a lane stays zero.
    let value = _mm512_srli_epi32::<24>(fourfold);
    let hundreds = _mm512_srli_epi32::<12>(_mm512_mullo_epi16(value, _mm512_set1_epi32(41)));
    let rest = _mm512_sub_epi32(value, _mm512_mullo_epi16(hundreds, _mm512_set1_epi32(100)));
    let tens = _mm512_srli_epi32::<11>(_mm512_mullo_epi16(rest, _mm512_set1_epi32(205)));
    let units = _mm512_sub_epi32(rest, _mm512_mullo_epi16(tens, _mm512_set1_epi32(10)));
    let high = _mm512_or_si512(hundreds, _mm512_slli_epi32::<8>(tens));
    let low = _mm512_or_si512(
        _mm512_slli_epi32::<16>(units),
        _mm512_set1_epi32(i32::from_le_bytes([b'0', b'0', b'0', b','])),
    );
    (_mm512_or_si512(high, low), counting)
}

/// Puts the bytes that count side by side at the front of `to`, and returns how many they are.
#[inline]
#[target_feature(enable = "avx512f,avx512vbmi2,popcnt")]
fn squeeze_avx512(spelled: __m512i, counting: u64, to: &mut [u8]) -> usize {
    let to = to.first_chunk_mut().expect("there is room for four bytes a value and 64 behind them");
    store64(to, _mm512_maskz_compress_epi8(counting, spelled));
    counting.count_ones() as usize
}
