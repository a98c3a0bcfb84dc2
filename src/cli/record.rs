//! `rekek report`: manifests → a change record.

use crate::paths;
use crate::people::{self, Report};
use crate::status::{Outcome, Usage};
use anyhow::Context as _;
use clap::Args;
use rekek::manifest::Manifest;
use rekek::publish::{self, Existing};
use rekek::record::{ImportResult, Rewrap, SignatureState, page};
use std::path::{Path, PathBuf};

/// The arguments as typed.
#[derive(Args)]
pub struct Arguments {
    /// Manifests of re-wraps; several make a record of a fleet
    #[arg(required = true, value_name = "MANIFEST")]
    manifests: Vec<PathBuf>,

    /// The record, HTML, whole in itself; `-` is standard output
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,

    /// The report of an import (`rekek-site import --report`) of one of the outputs [repeatable]
    #[arg(long, value_name = "FILE")]
    import: Vec<PathBuf>,

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
    let mut rewraps =
        arguments.manifests.iter().map(|path| read(path)).collect::<anyhow::Result<Vec<_>>>()?;
    for path in &arguments.import {
        let import = ImportResult::read(path)?;
        let at = import.find(&rewraps).with_context(|| {
            format!("{} is the import of none of these outputs, or of several by its name", path.display())
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
        return Ok(Outcome::Done);
    }
    publish::publish_bytes(&arguments.output, html.as_bytes(), existing)?;
    let mut table = Report::default();
    table.line("record", arguments.output.display().to_string());
    table.count("re-wraps", rewraps.len() as u64);
    people::print(&table)?;
    Ok(Outcome::Done)
}

impl Arguments {
    fn check_paths(&self) -> Result<(), Usage> {
        let read = self.manifests.iter().map(|path| ("a manifest", path.clone()));
        let read: Vec<_> =
            read.chain(self.import.iter().map(|path| ("an import's report", path.clone()))).collect();
        if self.output.as_os_str() == "-" {
            return paths::refuse_redirected(&read);
        }
        paths::refuse_clashes(&[("the record", self.output.as_path())], &read)
    }
}

fn read(path: &Path) -> anyhow::Result<Rewrap> {
    let (manifest, sha256) = Manifest::read(path)?;
    let file = path.display().to_string();
    let signature = SignatureState::beside(path);
    Ok(Rewrap { file, sha256, manifest, signature, import: None })
}
