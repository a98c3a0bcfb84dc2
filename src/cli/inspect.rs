//! `rekek inspect`.

use crate::people::{self, aligned, count};
use crate::progress::Progress;
use crate::rewrap::rows_told;
use crate::status::{Outcome, say};
use crate::{PROGRAM, census, process};
use clap::Args;
use rekek::inspect::{InspectReport, Inspection};
use rekek::row::KeyId;
use rekek::stop::Stop;
use rekek::table::{Format, Input};
use std::path::PathBuf;

/// The arguments as typed.
#[derive(Args)]
pub struct Arguments {
    /// An export or an output; `-` is standard input
    input: PathBuf,

    /// Exit 3 while any field names this key, or any envelope is malformed: the check before a key is removed
    /// [repeatable]
    #[arg(long, value_name = "KEY_ID")]
    retired: Vec<KeyId>,

    /// Look for nonces used twice under one key, exit 3 if there are any; the memory it takes grows with the
    /// file, up to 40 bytes a field
    #[arg(long)]
    nonces: bool,

    /// Print the report as JSON
    #[arg(long)]
    json: bool,

    /// Threads to work with [default: one a core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,

    /// Format of the input [default: by its name]
    #[arg(long, value_name = "FORMAT")]
    input_format: Option<Format>,
}

/// Does it.
pub fn run(arguments: &Arguments, stop: &Stop) -> anyhow::Result<Outcome> {
    let progress = Progress::new(rows_told(&arguments.input), false);
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
    let text = if arguments.json { serde_json::to_string_pretty(&report)? + "\n" } else { table(&report) };
    people::print(&text)?;
    for note in notes(&report) {
        say(format_args!("{PROGRAM}: note: {note}"));
    }
    Ok(report.answer().map_or(Outcome::Done, Outcome::No))
}

/// What an operator might not think of.
fn notes(report: &InspectReport) -> Vec<String> {
    let output = "this file was written by a re-wrap: it tells nothing about what the database holds";
    let output = report.is_rewrap_output.then(|| output.to_owned());
    output.into_iter().chain(census::reminder(&report.census)).collect()
}

fn table(report: &InspectReport) -> String {
    let rows = format!("{}, {} rows", report.input.file, count(report.census.rows));
    let mut lines = vec![("input".to_owned(), rows)];
    lines.extend(census::lines(&report.census));
    if let Some(repeated) = report.repeated_nonces {
        lines.push(("repeated nonces".to_owned(), count(repeated)));
    }
    aligned(&lines)
}
