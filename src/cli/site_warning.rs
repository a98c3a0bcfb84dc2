//! What `rekek-site` warns of: what the operator should know, and what to do about it. Nothing stops
//! for it.

use crate::PROGRAM;
use crate::people::say;
use rekek::site_config::Disabled;

/// A warning.
#[derive(Debug, thiserror::Error)]
pub enum Warning {
    /// The process could be looked into.
    #[error(
        "core dumps could not be turned off, one could hold the database's password: {0}; set `ulimit -c 0` before the \
         next run"
    )]
    CoreDumps(std::io::Error),
    /// An import that could be checked better.
    #[error("{0}")]
    Unchecked(&'static str),
    /// The configuration says that the service does not encrypt.
    #[error("{0}")]
    SiteDisabled(Disabled),
    /// Columns of an export that went nowhere.
    #[error("columns that the tables do not have were left out: {0}; see that none of them is misspelled")]
    ColumnsIgnored(String),
    /// Rows of the file that `rekek rewrap --keep-going` left as they were.
    #[error(
        "{0} rows of the file could not be re-wrapped when it was made: they keep their old keys, which must stay"
    )]
    FailedAtRewrap(u64),
    /// The comparison with the database went by digests that the re-wrap did not compute.
    #[error(
        "the file was made of an output, and has that one's source digests: rows were compared with what these say, not \
         with what the re-wrap saw"
    )]
    DigestsKept,
    /// An import ended by an error after some of its batches, and its report has no place either.
    #[error("the report of the batches that were committed could not be written: {0:#}")]
    ReportUnwritten(anyhow::Error),
}

impl Warning {
    /// Says it on stderr.
    pub fn say(self) {
        say(format_args!("{PROGRAM}: warning: {self}"));
    }
}
