//! A fleet: many sites, each with its own export, secrets and target, rotated in one go.
//!
//! It owns what a plan is, when a site is done, and what is said of a fleet. Sites share nothing:
//! a key id that two of them have means two keys, so each site's keys are loaded for it alone and
//! are gone before the next one's. The re-wrap itself is [`crate::pipeline`]'s.
//!
//! The invariant: *done* is never a matter of names. A site is done if its output's manifest is
//! there and both files' digests and the target key's fingerprint are those that it says; and, where
//! manifests are to be signed, if its signature holds under the key that signs.

mod plan;
mod report;

pub use plan::{Entry, MissingPieces, Plan, PlanError, Site, SiteName, SiteNameError, Target};
pub use report::{FleetReport, SiteCounts, SiteOutcome, SiteReport};

use crate::keyring::Key;
use crate::manifest::{Manifest, ManifestError};
use crate::parallel::Interrupted;
use crate::publish;
use crate::report::{ManifestFile, RewrapReport};
use crate::row::{Sha256Digest, printable};
use crate::signature::TrustedKey;
use crate::stop::Stop;
use crate::table::{FileFacts, Hashed};
use std::io::{self, Read as _, Write as _};
use std::path::Path;

/// What stands where a site's output goes.
#[derive(Debug, Clone, PartialEq)]
pub enum Standing {
    /// No manifest, so no finished output.
    Open,
    /// The whole output of this input under this target key; what its manifest reports.
    Done(Box<RewrapReport>),
    /// Something that is not, with the reason. It is replaced only when told.
    Other(String),
}

/// Why it could not be found out whether a site is done.
#[derive(Debug, thiserror::Error)]
pub enum StandingError {
    /// Told to stop.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
    /// A file could not be read.
    #[error("cannot read {file}: {source}")]
    Read {
        /// Its name.
        file: String,
        /// Why.
        source: io::Error,
    },
    /// The manifest of the input could not be read.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

impl Site {
    /// Whether this site is done, by digests and fingerprint, and by its signature if it must be signed with
    /// a key: reads the input and the output whole, if the manifest gives reason to.
    pub fn standing(
        &self,
        target: &Key,
        signed_with: Option<&TrustedKey>,
        stop: &Stop,
    ) -> Result<Standing, StandingError> {
        let path = Manifest::path_for(&self.output);
        if !path.exists() {
            return Ok(Standing::Open);
        }
        let read = Manifest::read_bytes(&path).and_then(|bytes| Ok((Manifest::parse(&path, &bytes)?, bytes)));
        let (manifest, bytes) = match read {
            Ok(read) => read,
            Err(error) => return Ok(Standing::Other(error.to_string())),
        };
        let signature = match signed_with.map(|key| key.check(&path, &bytes)).transpose() {
            Ok(signature) => signature,
            Err(error) => return Ok(Standing::Other(error.to_string())),
        };
        let other = |what: &str| Ok(Standing::Other(format!("its manifest {what}")));
        let (Some(input), Some(report)) = (&manifest.input, &manifest.report) else {
            return other("is not of a re-wrap");
        };
        if manifest.target_key_id.as_ref() != Some(target.id()) {
            let id = manifest.target_key_id.as_ref().map_or_else(String::new, |id| printable(id.as_str()));
            return other(&format!("names another target key, {id}"));
        }
        let fingerprint = manifest.keys.iter().find(|key| key.key_id == *target.id());
        if fingerprint.is_none_or(|key| key.fingerprint != target.fingerprint()) {
            let id = printable(target.id().as_str());
            return other(&format!("was written under another key of the id {id}"));
        }
        // A re-wrap of some organizations only (by hand, with --org) is no rotation of the site.
        if manifest.scope != self.input_scope()? {
            return other("is of another selection of organizations");
        }
        if !self.output.exists() {
            return Ok(Standing::Other("only its manifest is there".into()));
        }
        let (input_facts, output_facts) = both_facts(&self.input, &self.output, stop)?;
        let facts = |file: &crate::manifest::TableFile| FileFacts { bytes: file.bytes, sha256: file.sha256 };
        if input_facts != facts(input) {
            return other("is of another export than the one that is there now");
        }
        if output_facts != facts(&manifest.output) {
            return other("describes other bytes than the output has");
        }
        let (file, sha256) = (path.display().to_string(), Sha256Digest::of(&bytes));
        let manifest = ManifestFile { file, sha256, signature };
        Ok(Standing::Done(Box::new(RewrapReport { manifest: Some(manifest), ..report.clone() })))
    }

    /// The selection that the export itself was made by.
    fn input_scope(&self) -> Result<Option<Vec<crate::row::OrgId>>, ManifestError> {
        let path = Manifest::path_for(&self.input);
        if path.exists() { Ok(Manifest::read(&path)?.0.scope) } else { Ok(None) }
    }
}

/// Lengths and digests of two files, both read at once: hashing takes a core for each.
fn both_facts(a: &Path, b: &Path, stop: &Stop) -> Result<(FileFacts, FileFacts), StandingError> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("output digest".into());
        let other = thread.spawn_scoped(scope, || facts(b, stop)).map_err(|e| cannot_read(b, e))?;
        let facts = facts(a, stop)?;
        Ok((facts, other.join().expect("hashing does not panic")?))
    })
}

fn facts(path: &Path, stop: &Stop) -> Result<FileFacts, StandingError> {
    let mut file = publish::open_regular(path).map_err(|e| cannot_read(path, e))?;
    let mut hashed = Hashed::new(io::sink());
    let mut block = vec![0; 1 << 18];
    loop {
        if stop.is_requested() {
            return Err(Interrupted.into());
        }
        match file.read(&mut block).map_err(|e| cannot_read(path, e))? {
            0 => return Ok(hashed.finish().expect("a sink takes everything").0),
            n => hashed.write_all(&block[..n]).expect("a sink takes everything"),
        }
    }
}

fn cannot_read(path: &Path, source: io::Error) -> StandingError {
    StandingError::Read { file: path.display().to_string(), source }
}
