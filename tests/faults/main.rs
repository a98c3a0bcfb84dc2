//! What rekek does when the system fails it, and what it lets nobody see: faults put into every
//! system call that touches a file, kill -9 before every one, the process's memory, all it says.
//!
//! Needs strace, which `scripts/test` installs; without it the tests fail, they do not skip.

mod commands;
mod files;
#[allow(dead_code)]
#[path = "../cli/support.rs"]
mod folder;
mod memory;
mod needles;
mod pair;
mod places;
mod silence;
mod sockets;
mod strace;
#[allow(dead_code)]
#[path = "../cli/terminal.rs"]
mod terminal;
mod writers;
