//! What `rekek-site` warns of: what the operator should know, and what to do about it. Nothing stops
//! for it.

use crate::PROGRAM;
use crate::people::say;

/// A warning.
#[derive(Debug, thiserror::Error)]
pub enum Warning {
    /// An import that could be checked better.
    #[error("{0}")]
    Unchecked(&'static str),
    /// Columns of an export that went nowhere.
    #[error("columns that the tables do not have were left out: {0}; see that none of them is misspelled")]
    ColumnsIgnored(String),
}

impl Warning {
    /// Says it on stderr.
    pub fn say(self) {
        say(format_args!("{PROGRAM}: warning: {self}"));
    }
}
