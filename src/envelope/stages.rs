//! The stages of reading and writing, one by one, for `benches/envelope.rs` and nothing else.
//!
//! It owns no rule and no code of its own; each function hands out one stage with a buffer.

use super::{Tier, TierUnavailable, numbers, text, tier::Kernel};

/// Base64 text to JSON.
pub fn decoder() -> impl FnMut(&str) {
    let mut buffer = text::Buffer::default();
    move |text| _ = std::hint::black_box(text::decode(text.as_bytes(), &mut buffer))
}

/// JSON to base64 text.
pub fn encoder() -> impl FnMut(&[u8]) {
    let mut out = Vec::new();
    move |json| {
        out.clear();
        text::encode(json, &mut out);
        std::hint::black_box(&out);
    }
}

/// A list of numbers to bytes; false if it is not canonical.
pub fn numbers_in(tier: Tier) -> Result<impl FnMut(&[u8]) -> bool, TierUnavailable> {
    let (kernel, mut buffer) = (Kernel::of(tier)?, text::Buffer::default());
    Ok(move |list: &[u8]| {
        let to = buffer.at_least(numbers::room_to_read(list.len()));
        std::hint::black_box(kernel.read(list, to)).is_some()
    })
}

/// Bytes to a list of numbers.
pub fn numbers_out(tier: Tier) -> Result<impl FnMut(&[u8]), TierUnavailable> {
    let (kernel, mut buffer) = (Kernel::of(tier)?, text::Buffer::default());
    Ok(move |values: &[u8]| {
        let to = buffer.at_least(numbers::room_to_write(values.len()));
        _ = std::hint::black_box(kernel.write(values, to));
    })
}
