//! The fuzz targets' common part: what they do ([`targets`]), what they begin with ([`seeds`]) and how
//! a panic is taken.

pub mod seeds;
pub mod targets;

use std::panic::{self, PanicHookInfo};
use std::path::Path;
use std::sync::Once;

/// To be called at the start of every target. Writes the seeds, if `REKEK_FUZZ_SEEDS` names a folder.
///
/// libFuzzer's Rust binding ends the process at every panic, even one that is caught. rekek catches
/// those of a decoder below it and makes an error of them, which is what it promises; here only a
/// panic of its own code is a finding. (With `REKEK_FUZZ_ALL_PANICS` set, every one is.)
pub fn begin() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Here and not in a program of its own: what is built for coverage links with libFuzzer alone.
        if let Some(folder) = std::env::var_os("REKEK_FUZZ_SEEDS") {
            seeds::write(folder.as_ref()).expect("the seeds can be written");
        }
        let all = std::env::var_os("REKEK_FUZZ_ALL_PANICS").is_some();
        panic::set_hook(Box::new(move |info| {
            if all || is_ours(info) {
                eprintln!("{info}\n{}", std::backtrace::Backtrace::force_capture());
                std::process::abort();
            }
        }));
    });
}

/// Whether the panic was raised by code of this repository: cargo passes the sources of a registry
/// by paths of their own.
fn is_ours(info: &PanicHookInfo<'_>) -> bool {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("it is a folder of the repository");
    info.location()
        .is_none_or(|at| Path::new(at.file()).is_relative() || Path::new(at.file()).starts_with(root))
}
