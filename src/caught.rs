//! Panics of parsers and decoders as what they are: malformed input.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs what handles bytes that nobody vouches for; `None` where it panicked.
///
/// The crates promise errors, not panics, for malformed input, and keep that promise nearly
/// everywhere; fuzzers still find an `unwrap` or an index out of bounds now and then. Such a panic
/// is a malformed file here, nothing more: what it left half-done is never used again (every reader
/// and writer stops at its first error), which is what makes `AssertUnwindSafe` true. An allocation
/// that fails aborts and cannot be caught; that is why lengths are checked before they get here.
pub(crate) fn caught<T>(handle: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(handle)).ok()
}
