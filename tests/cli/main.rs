//! The command line as users type it: exit status, exact messages, what is left in the folder.

mod bad_input;
mod bench;
mod failed_rows;
mod fleet;
mod formats;
mod generate;
mod inspect;
mod interrupt;
mod keygen;
mod record;
mod rotation;
mod signature;
mod support;
mod terminal;
mod verify;
