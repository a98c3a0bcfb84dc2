//! What stands in for `simd` where its instructions are not: on other processors than x86-64, and
//! in a build with the feature `portable`, by which the code of those is compiled and tested on
//! x86-64 too. Its kernels cannot be had, so none of them ever runs.

/// No processor of this build has it.
#[derive(Clone, Copy)]
pub(super) enum Sse2 {}

/// No processor of this build has it.
#[derive(Clone, Copy)]
pub(super) enum Ssse3 {}

/// No processor of this build has it.
#[derive(Clone, Copy)]
pub(super) enum Avx512 {}

impl Sse2 {
    pub(super) fn detect() -> Option<Self> {
        None
    }

    pub(super) fn read(self, _: &[u8], _: &mut [u8]) -> Option<usize> {
        match self {}
    }
}

impl Ssse3 {
    pub(super) fn detect() -> Option<Self> {
        None
    }

    pub(super) fn read(self, _: &[u8], _: &mut [u8]) -> Option<usize> {
        match self {}
    }
}

impl Avx512 {
    pub(super) fn detect() -> Option<Self> {
        None
    }

    pub(super) fn read(self, _: &[u8], _: &mut [u8]) -> Option<usize> {
        match self {}
    }

    pub(super) fn write(self, _: &[u8], _: &mut [u8]) -> usize {
        match self {}
    }
}
