//! `rekek verify`.

use crate::keys::KeyArguments;
use crate::people::{self, aligned, count};
use crate::progress::Progress;
use crate::status::{Outcome, Usage, warn};
use crate::{PROGRAM, paths, process};
use clap::Args;
use rekek::manifest::Manifest;
use rekek::row::KeyId;
use rekek::stop::Stop;
use rekek::table::{Format, Input};
use rekek::verify::{Verification, VerifyReport};
use std::path::PathBuf;

/// The arguments as typed.
#[derive(Args)]
pub struct Arguments {
    /// The output of a re-wrap (or an export); `-` is standard input
    input: PathBuf,

    /// Its manifest [default: INPUT.manifest.json, where it is there]
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,

    #[command(flatten)]
    keys: KeyArguments,

    /// The key that every envelope must name [default: the manifest's target]
    #[arg(long, value_name = "KEY_ID")]
    to: Option<KeyId>,

    /// The export that the output was made from: compares every plaintext, every source digest, every row
    #[arg(long, value_name = "EXPORT")]
    source: Option<PathBuf>,

    /// Print the report as JSON
    #[arg(long)]
    json: bool,

    /// Threads to work with [default: one a core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,

    /// Format of the input [default: by its name]
    #[arg(long, value_name = "FORMAT")]
    input_format: Option<Format>,

    /// Format of the source [default: by its name]
    #[arg(long, value_name = "FORMAT")]
    source_format: Option<Format>,
}

/// Does it.
pub fn run(arguments: &Arguments, stop: &Stop) -> anyhow::Result<Outcome> {
    let stdins = [&arguments.input].into_iter().chain(&arguments.source).map(PathBuf::as_path);
    paths::refuse_two_stdins(stdins.chain(arguments.keys.paths()))?;
    if arguments.source.is_some() && arguments.keys.is_empty() {
        let what = "--source compares plaintexts, and needs the keys: name them with --secrets FILE";
        return Err(Usage(what.into()).into());
    }
    let keyring = if arguments.keys.is_empty() { None } else { Some(arguments.keys.load(stop)?) };
    let input = Input::from_argument(&arguments.input);
    let beside = input.path().map(Manifest::path_for).filter(|path| path.exists());
    let manifest = match arguments.manifest.clone().or(beside) {
        Some(path) => Some(Manifest::read(&path)?.0),
        None => {
            warn(PROGRAM, "no manifest is there: whether the file is whole and unchanged was not checked");
            None
        }
    };
    let progress = Progress::new(manifest.as_ref().map(|m| m.output.rows), false);
    let verification = Verification {
        input,
        input_format: arguments.input_format,
        manifest,
        keyring: keyring.as_ref(),
        target: arguments.to.clone(),
        source: arguments.source.as_deref().map(Input::from_argument),
        source_format: arguments.source_format,
        threads: process::threads(arguments.threads.map(usize::from)),
        stop: stop.clone(),
    };
    let report = verification.run(|rows| progress.advance(rows))?;
    drop(progress);
    let text = if arguments.json { serde_json::to_string_pretty(&report)? + "\n" } else { table(&report) };
    people::print(&text)?;
    let findings = match report.findings_total() {
        0 => return Ok(Outcome::Done),
        1 => "1 finding".to_owned(),
        n => format!("{} findings", count(n)),
    };
    Ok(Outcome::No(match report.rows_failed_at_rewrap {
        0 => format!("{findings}: do not import this file"),
        n => format!(
            "{findings}; {} rows failed in the re-wrap and are unchanged: see whether all findings are on these",
            count(n)
        ),
    }))
}

fn table(report: &VerifyReport) -> String {
    let mut lines: Vec<(String, String)> = Vec::new();
    let mut line = |label: &str, value: String| lines.push((label.to_owned(), value));
    line("input", format!("{}, {} rows", report.input.file, count(report.rows)));
    if let Some(source) = &report.source {
        line("source", format!("{}, {} rows", source.file, count(source.rows)));
    }
    if let Some(target) = &report.target_key_id {
        line("target key", target.clone());
    }
    match report.scope_organizations {
        Some(n) => line("scope", format!("{} selected organizations", count(n))),
        None => line("scope", "all organizations".to_owned()),
    }
    line("fields opened", count(report.fields_opened));
    for (check, result) in &report.checks {
        let name = serde_json::to_value(check).ok().and_then(|v| v.as_str().map(|s| s.replace('_', " ")));
        let value = match (result.findings, result.done) {
            (0, true) => "good".to_owned(),
            (0, false) => "not checked".to_owned(),
            (1, _) => "1 finding".to_owned(),
            (n, _) => format!("{} findings", count(n)),
        };
        line(&format!("  {}", name.unwrap_or_default()), value);
    }
    for finding in report.findings.iter().take(10) {
        let place: Vec<_> = [finding.organization_id.as_str(), &finding.field]
            .into_iter()
            .filter(|s| !s.is_empty())
            .collect();
        let colon = if place.is_empty() { "" } else { ": " };
        line("found", format!("{}{colon}{}", place.join(" "), finding.error));
    }
    aligned(&lines)
}
