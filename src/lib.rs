//! rekek re-wraps envelopes offline: it rotates a site's master key-encryption key.
//!
//! ```text
//!            site secrets ──> keyring ─────────┐  (keys: the `rewrap` side only)
//!                                              v
//!  export ──> table::reader ──> batches ──> rewrap ──> VerifiedBatch ──> table::writer ──> publish ──> output
//!                    │                         │                               │                         │
//!                    └── input digest          └── counters, failures          └── output digest         v
//!                                     └──────────────> report ─────────────────────┴─────────────────> manifest
//! ```
//!
//! Two binaries stand on this library, one for each side of the air gap. `rekek` (feature
//! `rewrap`) holds keys and never opens a socket. `rekek-site` (feature `site`) talks to the
//! database and has no code that could open an envelope.
//!
//! What it never does: print, exit or read arguments (that is the binaries' work); hand a value
//! to a writer that was not read back and opened again; put a key, a plaintext or an envelope
//! into an error, a report or a manifest; hold more of a table in memory than a few batches.

#![deny(clippy::print_stdout, clippy::print_stderr)]
#![warn(missing_docs)]

#[cfg(feature = "rewrap")]
pub mod bench;
mod caught;
pub mod census;
pub mod envelope;
pub mod figures;
#[cfg(feature = "rewrap")]
pub mod fleet;
#[cfg(feature = "rewrap")]
pub mod generate;
#[cfg(feature = "rewrap")]
pub mod inspect;
#[cfg(feature = "rewrap")]
pub mod keyring;
pub mod manifest;
#[cfg(feature = "rewrap")]
pub mod parallel;
#[cfg(feature = "rewrap")]
pub mod pipeline;
pub mod publish;
#[cfg(feature = "rewrap")]
pub mod record;
pub mod report;
#[cfg(feature = "rewrap")]
pub mod rewrap;
pub mod row;
#[cfg(feature = "rewrap")]
pub mod secret;
pub mod signature;
#[cfg(feature = "rewrap")]
pub mod signer;
#[cfg(feature = "rewrap")]
pub mod signing_key;
#[cfg(feature = "site")]
pub mod site;
pub mod site_config;
pub mod stop;
pub mod table;
#[cfg(feature = "rewrap")]
pub mod verify;
