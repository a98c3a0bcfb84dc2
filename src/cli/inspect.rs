//! `rekek inspect`.

use crate::people::{self, aligned, count};
use crate::progress::Progress;
use crate::status::{Outcome, say};
use crate::{PROGRAM, process};
use clap::Args;
use rekek::inspect::{InspectReport, Inspection};
use rekek::row::{KeyId, printable};
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
    let progress = Progress::new(None, false);
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
    let mut notes = Vec::new();
    if report.is_rewrap_output {
        notes.push(
            "this file was written by a re-wrap: it tells nothing about what the database holds".to_owned(),
        );
    }
    if !report.retired.is_empty() && report.answer().is_none() {
        let keys: Vec<_> = report.retired.keys().map(|key| printable(key)).collect();
        notes.push(format!("backups taken before the import still need {}", keys.join(", ")));
    }
    notes
}

fn table(report: &InspectReport) -> String {
    let mut lines: Vec<(String, String)> = Vec::new();
    let mut line = |label: String, value: String| lines.push((label, value));
    line("input".into(), format!("{}, {} rows", report.input.file, count(report.rows)));
    line("fields".into(), count(report.fields));
    for (key, fields) in &report.fields_by_key {
        let rows = report.rows_by_key.get(key).copied().unwrap_or_default();
        let value = format!("{} fields in {} rows", count(*fields), count(rows));
        line(format!("  under {}", printable(key)), value);
    }
    line("  malformed".into(), count(report.malformed));
    for failure in report.failures.iter().take(10) {
        line("malformed".into(), format!("{} {}: {}", failure.organization_id, failure.field, failure.error));
    }
    if let Some(repeated) = report.repeated_nonces {
        line("repeated nonces".into(), count(repeated));
    }
    for (key, fields) in &report.retired {
        line(format!("retired {}", printable(key)), format!("{} fields name it", count(*fields)));
    }
    aligned(&lines)
}
