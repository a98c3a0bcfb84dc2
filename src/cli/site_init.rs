//! `rekek-site init`.

use crate::paths;
use crate::people::{self, Report, count};
use crate::progress::ProgressArgument;
use crate::site::{DatabaseArgument, Shown, stopped};
use crate::site_warning::Warning;
use crate::status::{Outcome, stop_on_signals};
use anyhow::Context as _;
use clap::Args;
use rekek::site::init::{Generation, Options, run as init};
use rekek::site::report::InitReport;
use rekek::table::{Format, Input};
use std::path::PathBuf;

/// The arguments as typed.
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    database: DatabaseArgument,

    /// Fill the tables from this export: any of their columns, by name; `-` is standard input
    #[arg(long, value_name = "EXPORT")]
    rows: Option<PathBuf>,

    /// Which tables: the first generation's have encryption_key_id, the second's do not
    #[arg(long, value_name = "1|2", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=2))]
    generation: u8,

    /// Print the report as JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    progress: ProgressArgument,

    /// Format of the export [default: by its name]
    #[arg(long, value_name = "FORMAT")]
    input_format: Option<Format>,
}

/// Does it.
pub fn run(arguments: &Arguments) -> anyhow::Result<Outcome> {
    if let Some(rows) = &arguments.rows {
        paths::refuse_secret(rows)?;
        paths::format_of("the export", rows, arguments.input_format, "--input-format")?;
    }
    let database = arguments.database.parse()?;
    let options = Options {
        generation: if arguments.generation == 1 { Generation::First } else { Generation::Second },
        rows: arguments.rows.as_deref().map(Input::from_argument),
        format: arguments.input_format,
    };
    let shown = Shown::new(arguments.progress);
    let report = init(&database, &options, &stop_on_signals()?, &shown).map_err(stopped)?;
    shown.end();
    if !report.columns_ignored.is_empty() {
        Warning::ColumnsIgnored(report.columns_ignored.join(", ")).say();
    }
    let said = if arguments.json {
        people::print_document(&(serde_json::to_string_pretty(&report)? + "\n"))
    } else {
        people::print(&table(&report))
    };
    said.context("the tables are made and filled; only the report failed")?;
    Ok(Outcome::Done)
}

fn table(report: &InitReport) -> Report {
    let mut table = Report::default();
    table.line("generation", report.generation.to_string());
    table.line("organizations", count(report.rows));
    table.line("time", format!("{:.1} s", report.elapsed_seconds));
    table
}
