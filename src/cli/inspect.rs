//! `rekek inspect`.

use crate::people::{self, Report, count, say};
use crate::progress::ProgressArgument;
use crate::status::Outcome;
use crate::total::rows_told;
use crate::{PROGRAM, census, paths, process};
use clap::Args;
use rekek::inspect::{InspectReport, Inspection};
use rekek::row::KeyId;
use rekek::stop::Stop;
use rekek::table::{Format, Input};
use std::path::PathBuf;

/// The arguments as typed.
#[derive(Args)]
pub struct Arguments {
    /// An export or an output, for instance export.csv; `-` is standard input
    input: PathBuf,

    /// Exit 3 while any field names this key, or any envelope is malformed: the check before a key is removed, for
    /// instance --retired kv0 --retired kv1 [repeatable]
    #[arg(long, value_name = "KEY_ID")]
    retired: Vec<KeyId>,

    /// Look for nonces used twice under one key, exit 3 if there are any; the memory it takes grows with the
    /// file, 20 to 60 bytes a field
    #[arg(long)]
    nonces: bool,

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
}

/// Does it.
pub fn run(arguments: &Arguments, stop: &Stop) -> anyhow::Result<Outcome> {
    paths::format_of("the input", &arguments.input, arguments.input_format, "--input-format")?;
    let progress = arguments.progress.begin(None, rows_told(&arguments.input, arguments.input_format));
    let inspection = Inspection {
        input: Input::from_argument(&arguments.input),
        input_format: arguments.input_format,
        retired: arguments.retired.clone(),
        nonces: arguments.nonces,
        threads: process::threads(arguments.threads.map(usize::from)),
        stop: stop.clone(),
    };
    let report = inspection.run(|rows| progress.advance(rows))?;
    drop(progress);
    if arguments.json {
        people::print_document(&(serde_json::to_string_pretty(&report)? + "\n"))?;
    } else {
        people::print(&table(&report, arguments))?;
    }
    for note in notes(&report, arguments) {
        say(format_args!("{PROGRAM}: note: {note}"));
    }
    Ok(report.answer().map_or(Outcome::Done, Outcome::No))
}

/// What an operator might not think of.
fn notes(report: &InspectReport, arguments: &Arguments) -> Vec<String> {
    let output = "this file was written by a re-wrap: it tells nothing about what the database holds";
    let output = report.is_rewrap_output.then(|| output.to_owned());
    let unchecked = "no manifest is beside the file: whether it is whole was not checked";
    let unchecked = (!arguments.retired.is_empty() && report.answer().is_none() && !report.manifest_checked)
        .then(|| unchecked.to_owned());
    output.into_iter().chain(unchecked).chain(census::reminders(&report.census)).collect()
}

fn table(report: &InspectReport, arguments: &Arguments) -> Report {
    let mut table = Report::default();
    table.line("input", format!("{}, {} rows", report.input.file, count(report.census.rows)));
    if let Some(scope) = &report.scope {
        table.line("scope", format!("{} selected organizations", count(scope.len() as u64)));
    }
    census::add(&mut table, &report.census, report.repeated_nonces);
    if arguments.retired.is_empty() && report.answer().is_none() && !report.is_rewrap_output {
        let input = people::quoted(&arguments.input.display().to_string());
        let command = format!("rekek rewrap {input} --dry-run --secrets FILE --to KEY_ID");
        table.next("rehearse the re-wrap, where the keys are; it writes nothing", Some(command));
    }
    table
}
