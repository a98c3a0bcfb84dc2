//! `rekek report`: manifests → a change record.

use crate::paths;
use crate::people::{self, Report, count};
use crate::status::{Outcome, Usage};
use crate::trusted::TrustedKeyArgument;
use anyhow::{Context as _, anyhow};
use clap::Args;
use rekek::fleet::FleetReport;
use rekek::manifest::{Manifest, ManifestError};
use rekek::publish::{self, Existing};
use rekek::record::{ImportResult, Rewrap, SignatureState, page};
use rekek::row::Sha256Digest;
use rekek::signature::{self, TrustedKey};
use std::path::{Path, PathBuf};

const AFTER_HELP: &str = "\
Without --trusted-key the record says whose signature stands beside each manifest, and that it was not checked. With it \
each manifest has to be signed with that key: the record says which are and which are not, and why, and the exit status \
is 3 if one is not.

    rekek report out.csv.manifest.json -o record.html --trusted-key rotation.pub";

/// The arguments as typed.
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub struct Arguments {
    /// Manifests of re-wraps; several make a record of a fleet
    #[arg(required = true, value_name = "MANIFEST")]
    manifests: Vec<PathBuf>,

    /// The record, HTML, whole in itself; `-` is standard output
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,

    /// The report of an import of one of the outputs, for instance import.json as `rekek-site import --report
    /// import.json` wrote it [repeatable]
    #[arg(long, value_name = "FILE")]
    import: Vec<PathBuf>,

    #[command(flatten)]
    trusted_key: TrustedKeyArgument,

    /// Replace a record that is there already
    #[arg(long)]
    force: bool,
}

/// Does it.
pub fn run(arguments: &Arguments) -> anyhow::Result<Outcome> {
    arguments.check_paths()?;
    let existing = if arguments.force { Existing::Replace } else { Existing::Refuse };
    let to_stdout = arguments.output.as_os_str() == "-";
    if !to_stdout {
        publish::check(&arguments.output, existing)?;
    }
    let trusted = arguments.trusted_key.load()?;
    let rewraps = arguments.manifests.iter().map(|path| read(path, trusted.as_ref()));
    let mut rewraps = rewraps.collect::<anyhow::Result<Vec<_>>>()?;
    for path in &arguments.import {
        let import = ImportResult::read(path)?;
        let at = import.find(&rewraps).with_context(|| {
            let (report, file) = (path.display(), &import.input.file);
            format!(
                "{report} is the report of an import of {file}, and that is the output of none of these manifests, or \
                 by its name of several; give the --report of the import of one of these very outputs"
            )
        })?;
        if rewraps[at].import.replace(import).is_some() {
            let output = &rewraps[at].file;
            anyhow::bail!(
                "{} is another import of what {output} describes; keep the last one",
                path.display()
            );
        }
    }
    let html = page(&rewraps)?;
    if to_stdout {
        people::print_document(&html)?;
    } else {
        publish::publish_bytes(&arguments.output, html.as_bytes(), existing)?;
        let mut table = Report::default();
        table.line("record", arguments.output.display().to_string());
        table.count("re-wraps", rewraps.len() as u64);
        people::print(&table).with_context(|| {
            format!("{} is whole; only what is said of it failed", arguments.output.display())
        })?;
    }
    let others = rewraps.iter().filter(|rewrap| imported_another(rewrap)).map(|rewrap| rewrap.file.as_str());
    let others: Vec<_> = others.collect();
    if !others.is_empty() {
        return Ok(Outcome::No(format!(
            "what was imported is not the output that {} describes (its SHA-256 differs): the record says so; give the \
             --report of its own import",
            others.join(", ")
        )));
    }
    let bad = rewraps.iter().filter(|rewrap| trusted.is_some() && rewrap.signature.is_bad()).count();
    if bad == 0 {
        return Ok(Outcome::Done);
    }
    let [bad, all] = [bad, rewraps.len()].map(|n| count(n as u64));
    Ok(Outcome::No(format!(
        "{bad} of {all} manifests are not signed with the trusted key: the record says why"
    )))
}

impl Arguments {
    fn check_paths(&self) -> Result<(), Usage> {
        let read = self.manifests.iter().flat_map(|path| {
            let signature = ("the signature of a manifest", signature::path_for(path));
            let described = Manifest::described_by(path).map(|file| ("what a manifest describes", file));
            [("a manifest", path.clone()), signature].into_iter().chain(described)
        });
        let read = read.chain(self.import.iter().map(|path| ("an import's report", path.clone())));
        let read: Vec<_> =
            read.chain(self.trusted_key.path().map(|path| ("the trusted key", path))).collect();
        if self.output.as_os_str() == "-" {
            return paths::refuse_redirected(&read);
        }
        paths::refuse_clashes(&[("the record", self.output.as_path())], &read)
    }
}

/// Whether what was imported under the output's name is another file: of another site, say.
fn imported_another(rewrap: &Rewrap) -> bool {
    rewrap.import.as_ref().is_some_and(|import| !import.is_of_bytes(&rewrap.manifest))
}

fn read(path: &Path, trusted: Option<&TrustedKey>) -> anyhow::Result<Rewrap> {
    let (bytes, manifest) = Manifest::read_bytes(path)
        .and_then(|bytes| Manifest::parse(path, &bytes).map(|manifest| (bytes, manifest)))
        .map_err(|error| anyhow!(mistaken(path, &error).unwrap_or_else(|| error.to_string())))?;
    Ok(Rewrap {
        file: path.display().to_string(),
        sha256: Sha256Digest::of(&bytes),
        signature: SignatureState::of(path, &bytes, trusted),
        manifest,
        import: None,
    })
}

/// What to name instead of a file that is no manifest, where that can be told.
fn mistaken(path: &Path, error: &ManifestError) -> Option<String> {
    if !matches!(error, ManifestError::Format { .. }) {
        return None;
    }
    let (name, manifest) = (path.display(), Manifest::path_for(path));
    if manifest.is_file() {
        return Some(format!("{name} is not a manifest; name its own, {}", manifest.display()));
    }
    let bytes = Manifest::read_bytes(path).ok()?;
    serde_json::from_slice::<FleetReport>(&bytes).ok()?;
    Some(format!("{name} is the report of a fleet, not a manifest; name the manifest of each of its outputs"))
}
