//! The process that holds keys, or a database's password: nobody may look into it.

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// Turns off core dumps and attaching by ptrace.
pub fn harden() -> std::io::Result<()> {
    let no_core = Rlimit { current: Some(0), maximum: Some(0) };
    Ok(setrlimit(Resource::Core, no_core).and(set_dumpable_behavior(DumpableBehavior::NotDumpable))?)
}

/// Threads to work with: as told, else one for each core.
pub fn threads(told: Option<usize>) -> usize {
    told.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
}
