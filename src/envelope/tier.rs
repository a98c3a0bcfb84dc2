//! How fast the numbers of an envelope are read and written: the choice of a tier at run time.
//!
//! It owns the choice and its rules; the tiers differ in speed and in nothing else, and the tests
//! run every one that the machine has against the safe one. Base64 is not part of it: base64-turbo
//! chooses for itself, at run time, among AVX-512 VBMI, AVX2 and tables (NEON on aarch64).

use super::numbers;
use super::simd;
use std::sync::OnceLock;

/// A way of reading and writing lists of numbers. Ordered: a greater one is a faster one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// Safe code, eight bytes at a time: on any processor.
    Safe,
    /// SSE2, 16 bytes at a time, for reading (any x86-64), [`Tier::Safe`]'s table for writing, over
    /// which no instruction set below AVX-512 gained anything.
    Sse2,
    /// SSSE3 byte shuffles for reading (x86-64 since 2006 or 2011), writing as before.
    Ssse3,
    /// AVX-512 with VBMI2, 64 bytes at a time (Intel since Ice Lake, AMD since Zen 4).
    Avx512,
}

/// This machine does not have the tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this processor has no tier `{}`", .0.name())]
pub struct TierUnavailable(pub Tier);

/// The text names no tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{}, where it is set, is one of safe, sse2, ssse3, avx512; unset it, and the fastest is taken",
    Tier::VARIABLE
)]
pub struct UnknownTier;

impl Tier {
    /// All tiers, the slowest first.
    pub const ALL: [Tier; 4] = [Tier::Safe, Tier::Sse2, Tier::Ssse3, Tier::Avx512];

    /// The environment variable that holds [`Tier::chosen`] down.
    pub const VARIABLE: &str = "REKEK_TIER";

    /// The name, as [`Tier::VARIABLE`] spells it.
    pub const fn name(self) -> &'static str {
        match self {
            Tier::Safe => "safe",
            Tier::Sse2 => "sse2",
            Tier::Ssse3 => "ssse3",
            Tier::Avx512 => "avx512",
        }
    }

    /// Whether this processor has it.
    pub fn is_available(self) -> bool {
        Kernel::of(self).is_ok()
    }

    /// The tier that a new [`super::Scratch`] works with: the fastest one that this processor has
    /// and that is not above the one that `REKEK_TIER` names. So a tier that the processor lacks
    /// gives the best one below it, and a value that names no tier is as good as none (the programs
    /// refuse it: [`Tier::check_variable`]). The variable is read once.
    pub fn chosen() -> Tier {
        static CHOSEN: OnceLock<Tier> = OnceLock::new();
        *CHOSEN.get_or_init(|| {
            let named = std::env::var(Self::VARIABLE).ok();
            Self::best_up_to(named.and_then(|name| name.parse().ok()).unwrap_or(Tier::Avx512))
        })
    }

    /// Whether the variable, if it is set, names a tier.
    pub fn check_variable() -> Result<(), UnknownTier> {
        match std::env::var_os(Self::VARIABLE) {
            None => Ok(()),
            Some(name) => name.to_str().ok_or(UnknownTier)?.parse::<Tier>().map(drop),
        }
    }

    fn best_up_to(limit: Tier) -> Tier {
        Self::ALL.into_iter().rfind(|tier| *tier <= limit && tier.is_available()).unwrap_or(Tier::Safe)
    }
}

impl std::str::FromStr for Tier {
    type Err = UnknownTier;
    fn from_str(name: &str) -> Result<Self, UnknownTier> {
        Self::ALL.into_iter().find(|tier| tier.name() == name).ok_or(UnknownTier)
    }
}

/// A tier that this processor was found to have: what it holds is the proof.
#[derive(Clone, Copy)]
pub(super) enum Kernel {
    Safe,
    Sse2(simd::Sse2),
    Ssse3(simd::Ssse3),
    Avx512(simd::Avx512),
}

impl Kernel {
    pub(super) fn of(tier: Tier) -> Result<Self, TierUnavailable> {
        let kernel = match tier {
            Tier::Safe => Some(Kernel::Safe),
            Tier::Sse2 => simd::Sse2::detect().map(Kernel::Sse2),
            Tier::Ssse3 => simd::Ssse3::detect().map(Kernel::Ssse3),
            Tier::Avx512 => simd::Avx512::detect().map(Kernel::Avx512),
        };
        kernel.ok_or(TierUnavailable(tier))
    }

    /// [`numbers::read`], in this tier's way.
    pub(super) fn read(self, list: &[u8], to: &mut [u8]) -> Option<usize> {
        match self {
            Kernel::Safe => numbers::read(list, to),
            Kernel::Sse2(kernel) => kernel.read(list, to),
            Kernel::Ssse3(kernel) => kernel.read(list, to),
            Kernel::Avx512(kernel) => kernel.read(list, to),
        }
    }

    /// [`numbers::write`], in this tier's way.
    pub(super) fn write(self, values: &[u8], to: &mut [u8]) -> usize {
        match self {
            Kernel::Avx512(kernel) => kernel.write(values, to),
            Kernel::Safe | Kernel::Sse2(_) | Kernel::Ssse3(_) => numbers::write(values, to),
        }
    }
}

impl Default for Kernel {
    fn default() -> Self {
        Self::of(Tier::chosen()).unwrap_or(Kernel::Safe)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tier_has_one_name_and_safe_is_everywhere() {
        for tier in Tier::ALL {
            assert_eq!(tier.name().parse(), Ok(tier));
        }
        assert_eq!("SAFE".parse::<Tier>(), Err(UnknownTier));
        assert!(Tier::Safe.is_available());
        // Every x86-64 has the second; nothing else, and no portable build, has any.
        let vectors = cfg!(all(target_arch = "x86_64", not(feature = "portable")));
        assert_eq!(Tier::Sse2.is_available(), vectors);
        for tier in [Tier::Ssse3, Tier::Avx512] {
            assert!(vectors || !tier.is_available(), "{tier:?}");
        }
    }

    /// Tests run the tiers that there are; which ones that leaves out is said past the harness, which
    /// keeps what a passing test prints to itself.
    #[test]
    fn the_tiers_that_no_test_runs_here_are_named() {
        use std::io::Write as _;
        for tier in Tier::ALL.into_iter().filter(|tier| !tier.is_available()) {
            let line =
                format!("not tested here: the tier {}, which this processor or build lacks\n", tier.name());
            std::io::stderr().write_all(line.as_bytes()).unwrap();
        }
    }

    #[test]
    fn the_limit_is_kept() {
        for limit in Tier::ALL {
            let best = Tier::best_up_to(limit);
            assert!(best <= limit && best.is_available());
            assert_eq!(best == limit, limit.is_available());
        }
    }
}
