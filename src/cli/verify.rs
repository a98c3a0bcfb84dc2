//! `rekek verify`.

use crate::keys::KeyArguments;
use crate::people::{self, Report, Tone, count};
use crate::progress::ProgressArgument;
use crate::status::{Outcome, Usage};
use crate::trusted::{self, TrustedKeyArgument};
use crate::warning::Warning;
use crate::{PROGRAM, paths, process};
use clap::Args;
use rekek::keyring::Keyring;
use rekek::manifest::Manifest;
use rekek::row::{KeyId, Sha256Digest, printable};
use rekek::signature::SignatureError;
use rekek::stop::Stop;
use rekek::table::{Format, Input};
use rekek::verify::{Check, Verification, VerifyReport};
use std::path::PathBuf;

/// Findings that the table for people names; the JSON lists more.
const SHOWN_FINDINGS: usize = 10;

/// The arguments as typed.
#[derive(Args)]
pub struct Arguments {
    /// The output of a re-wrap (or an export), for instance rewrapped.csv; `-` is standard input
    input: PathBuf,

    /// Its manifest [default: INPUT.manifest.json, where it is there]
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,

    #[command(flatten)]
    trusted_key: TrustedKeyArgument,

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

    #[command(flatten)]
    progress: ProgressArgument,

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
    paths::format_of("the input", &arguments.input, arguments.input_format, "--input-format")?;
    if let Some(source) = &arguments.source {
        paths::format_of("the source", source, arguments.source_format, "--source-format")?;
    }
    let trusted = arguments.trusted_key.load()?;
    let keyring = if arguments.keys.is_empty() { None } else { Some(arguments.keys.load(stop)?) };
    let input = Input::from_argument(&arguments.input);
    let beside = input.path().map(Manifest::path_for).filter(|path| path.exists());
    let (manifest, signature) = match arguments.manifest.clone().or(beside) {
        Some(path) => {
            let bytes = Manifest::read_bytes(&path)?;
            let signature = trusted.map(|key| key.check(&path, &bytes));
            (Some((Manifest::parse(&path, &bytes)?, Sha256Digest::of(&bytes))), signature)
        }
        None => {
            Warning::NoManifest.say();
            (None, trusted.map(|_| Err(SignatureError::NoManifest { file: input.name() })))
        }
    };
    let digest = manifest.as_ref().map(|(_, digest)| *digest);
    let progress = arguments.progress.begin(None, manifest.as_ref().map(|(m, _)| m.output.rows));
    let verification = Verification {
        input,
        input_format: arguments.input_format,
        manifest: manifest.map(|(manifest, _)| manifest),
        signature,
        keyring: keyring.as_ref(),
        target: arguments.to.clone(),
        source: arguments.source.as_deref().map(Input::from_argument),
        source_format: arguments.source_format,
        threads: process::threads(arguments.threads.map(usize::from)),
        stop: stop.clone(),
    };
    let report = verification.run(|rows| progress.advance(rows))?;
    drop(progress);
    if arguments.json {
        people::print_document(&(serde_json::to_string_pretty(&report)? + "\n"))?;
    } else {
        people::print(&table(&report, arguments, keyring.as_ref(), digest))?;
    }
    for line in arguments.keys.missing(&report.missing_keys) {
        people::say(format_args!("{PROGRAM}: {line}"));
    }
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

fn table(
    report: &VerifyReport,
    arguments: &Arguments,
    keyring: Option<&Keyring>,
    manifest: Option<Sha256Digest>,
) -> Report {
    let mut table = Report::default();
    table.line("input", format!("{}, {} rows", report.input.file, count(report.rows)));
    if let Some(source) = &report.source {
        table.line("source", format!("{}, {} rows", source.file, count(source.rows)));
    }
    if let Some(target) = &report.target_key_id {
        let key = keyring.and_then(|keyring| Some(&keyring.keys()[keyring.position(target)?]));
        let fingerprint = key.map(|key| format!(" (fingerprint {})", key.fingerprint()));
        table.line("target key", printable(target) + &fingerprint.unwrap_or_default());
    }
    if let Some(signature) = &report.signature {
        table.line("signed with key", signature.public_key_id.to_string());
        table.line("  says", trusted::comment(signature));
    }
    match report.scope_organizations {
        Some(n) => table.line("scope", format!("{} selected organizations", count(n))),
        None if manifest.is_none() => table.line("scope", "not known: no manifest says it"),
        None => table.line("scope", "all organizations"),
    }
    table.line("fields opened", count(report.fields_opened));
    for (check, result) in &report.checks {
        let name = serde_json::to_value(check).ok().and_then(|v| v.as_str().map(|s| s.replace('_', " ")));
        let (tone, value) = match (result.findings, result.done) {
            (0, true) => (Tone::Good, "good".to_owned()),
            (0, false) => (Tone::Plain, "not checked".to_owned()),
            (1, _) => (Tone::Bad, "1 finding".to_owned()),
            (n, _) => (Tone::Bad, format!("{} findings", count(n))),
        };
        table.toned(tone, format!("  {}", name.unwrap_or_default()), value);
    }
    for finding in report.findings.iter().take(SHOWN_FINDINGS) {
        let place: Vec<_> = [finding.organization_id.as_str(), &finding.field]
            .into_iter()
            .filter(|s| !s.is_empty())
            .collect();
        let colon = if place.is_empty() { "" } else { ": " };
        table.toned(Tone::Bad, "found", format!("{}{colon}{}", place.join(" "), finding.error));
    }
    let more = report.findings_total().saturating_sub(SHOWN_FINDINGS as u64);
    if more > 0 {
        table.line("found", format!("… and {} more; --json lists them", count(more)));
    }
    // Only what was compared with its source, and is an output, is on its way to an import.
    if let Some(digest) = manifest.filter(|_| report.findings_total() == 0 && report.source.is_some()) {
        let input = people::quoted(&arguments.input.display().to_string());
        let mut given = paths::format_as_typed(&arguments.input, "--input-format", arguments.input_format);
        if let Some(manifest) = &arguments.manifest {
            given += &format!(" --manifest {}", people::quoted(&manifest.display().to_string()));
        }
        let trusted = arguments.trusted_key.as_typed();
        let command = format!(
            "rekek-site import {input}{given} --db URL --manifest-sha256 {digest} --site-config FILE{trusted} --dry-run"
        );
        table.next("carry the file and its manifest to the database's side; there", Some(command));
    } else if report.findings_total() == 0 && !report.checks[&Check::SourceDigests].done {
        table.next("nothing of a re-wrap was verified: this is an export, not an output", None);
    } else if report.findings_total() == 0 && report.source.is_none() {
        let what =
            "compare it with its source too: with --source EXPORT and the keys, before anything is imported";
        table.next(what, None);
    }
    table
}
