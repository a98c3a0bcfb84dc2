//! What `rekek` warns of: what the operator should know, and what to do about it. Nothing stops for it.

use crate::PROGRAM;
use crate::people::say;
use rekek::site_config::Disabled;
use std::path::PathBuf;

/// A warning.
#[derive(Debug, thiserror::Error)]
pub enum Warning {
    /// A file with keys that others can read.
    #[error("{path} holds keys and others can read it (mode {mode:04o}); chmod 600 it", path = .path.display())]
    SecretsReadable {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The process could be looked into.
    #[error(
        "core dumps could not be turned off, one could hold keys: {0}; set `ulimit -c 0` before the next run"
    )]
    CoreDumps(std::io::Error),
    /// The configuration says that the service does not encrypt.
    #[error("{0}")]
    SiteDisabled(Disabled),
    /// A table in a folder of sites, which may be meant to be one's.
    #[error(
        "{path} lies beside the sites' folders and belongs to no site; put it into its site's folder, or away",
        path = .path.display()
    )]
    StrayTable {
        /// The table.
        path: PathBuf,
    },
    /// What a killed run left.
    #[error(
        "{path} is what a stopped run left, without its manifest: it will be replaced, and nothing need be done",
        path = .path.display()
    )]
    LeftOver {
        /// The output.
        path: PathBuf,
    },
    /// Nothing to verify a file against.
    #[error(
        "no manifest is there: whether the file is whole and unchanged was not checked; bring it over too, or \
         name it with --manifest"
    )]
    NoManifest,
}

impl Warning {
    /// Says it on stderr.
    pub fn say(self) {
        say(format_args!("{PROGRAM}: warning: {self}"));
    }
}
