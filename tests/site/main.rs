//! `rekek-site` as users type it, on a real PostgreSQL and on SQLite: whole rotations, conflicts,
//! and every fault that an import can meet.

mod cluster;
mod conflicts;
mod connections;
mod cost;
mod export;
mod faults;
#[allow(dead_code)]
#[path = "../cli/support.rs"]
mod folder;
mod memory;
mod moments;
mod names;
#[path = "../memory/peak.rs"]
mod peak;
mod progress;
mod read_only;
mod refusals;
mod relay;
mod retries;
mod rotation;
mod support;
