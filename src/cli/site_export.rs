//! `rekek-site export`.

use crate::paths;
use crate::people::{self, Report, count};
use crate::progress::ProgressArgument;
use crate::site::{DatabaseArgument, ReportArguments, Shown, files_of, stopped};
use crate::status::{Outcome, Usage, stop_on_signals};
use anyhow::Context as _;
use clap::Args;
use rekek::manifest::Manifest;
use rekek::publish::Existing;
use rekek::row::OrgId;
use rekek::site::export::{Options, Output, run as export};
use rekek::site::report::ExportReport;
use rekek::table::Format;
use std::path::PathBuf;

/// The arguments as typed.
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    database: DatabaseArgument,

    /// The file, for instance export.csv; `-` is standard output
    #[arg(short, long, value_name = "OUTPUT")]
    output: PathBuf,

    /// Export only this organization, for instance --org a --org b [repeatable]
    #[arg(long = "org", value_name = "ID")]
    orgs: Vec<OrgId>,

    /// Where the manifest goes [default: OUTPUT.manifest.json]
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,

    /// Replace files that are there already
    #[arg(long)]
    force: bool,

    #[command(flatten)]
    report: ReportArguments,

    #[command(flatten)]
    progress: ProgressArgument,

    /// Format of the output [default: by its name]
    #[arg(long, value_name = "FORMAT")]
    output_format: Option<Format>,
}

/// Does it.
pub fn run(arguments: &Arguments) -> anyhow::Result<Outcome> {
    let database = arguments.database.parse()?;
    let existing = if arguments.force { Existing::Replace } else { Existing::Refuse };
    let (output, manifest) = if arguments.output.as_os_str() == "-" {
        (Output::Stdout, arguments.manifest.clone())
    } else {
        let beside = Manifest::path_for(&arguments.output);
        (Output::File(arguments.output.clone()), Some(arguments.manifest.clone().unwrap_or(beside)))
    };
    let format = arguments.output_format.or_else(|| Format::of_path(&arguments.output)).ok_or_else(|| {
        Usage("cannot tell the format by the output's name; say it with --output-format".into())
    })?;
    let mut written = Vec::new();
    if let Output::File(path) = &output {
        written.push(("the output", path.as_path()));
    }
    if let Some(path) = &manifest {
        written.push(("the manifest", path.as_path()));
    }
    arguments.report.check(&files_of(&database), &written, existing)?;
    let stdout_is_data = output == Output::Stdout;
    let scope = (!arguments.orgs.is_empty()).then(|| arguments.orgs.iter().cloned().collect());
    let options = Options { output, format, scope, manifest, existing };
    let shown = Shown::new(arguments.progress);
    let report = export(&database, &options, &stop_on_signals()?, &shown).map_err(stopped)?;
    shown.end();
    arguments
        .report
        .say(&report, table(&report, arguments), stdout_is_data, existing)
        .with_context(|| format!("{} is whole; only its report failed", arguments.output.display()))?;
    Ok(Outcome::Done)
}

fn table(report: &ExportReport, arguments: &Arguments) -> Report {
    let mut table = Report::default();
    table.line("output", format!("{}, {} bytes", report.output.file, count(report.output.bytes)));
    table.line("  its SHA-256", report.output.sha256.to_string());
    table.line("rows", count(report.rows));
    if let Some(manifest) = &report.manifest {
        table.line("manifest", manifest.file.clone());
        table.line("  its SHA-256", manifest.sha256.to_string());
    }
    table.line("snapshot", format!("{}, {}", report.snapshot.taken_at, report.snapshot.server_version));
    table.line("time", format!("{:.1} s", report.elapsed_seconds));
    if arguments.output.as_os_str() != "-" {
        let output = people::quoted(&arguments.output.display().to_string());
        let format = paths::format_as_typed(&arguments.output, "--input-format", Some(report.output.format));
        let what = "carry the file and its manifest to where the keys are; there";
        table.next(what, Some(format!("rekek inspect {output}{format}")));
    }
    table
}
