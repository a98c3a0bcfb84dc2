//! The process that holds keys: nobody may look into it.

use crate::warning::Warning;
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// Turns off core dumps and attaching by ptrace; warns if the system does not let it.
pub fn harden() {
    let no_core = Rlimit { current: Some(0), maximum: Some(0) };
    let done = setrlimit(Resource::Core, no_core).and(set_dumpable_behavior(DumpableBehavior::NotDumpable));
    if let Err(error) = done {
        Warning::CoreDumps(error.into()).say();
    }
}

/// Threads to work with: as told, else one for each core.
pub fn threads(told: Option<usize>) -> usize {
    told.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
}
