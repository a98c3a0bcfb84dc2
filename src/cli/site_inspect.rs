//! `rekek-site inspect`.

use crate::people::{Report, count, say};
use crate::progress::ProgressArgument;
use crate::site::{DatabaseArgument, ReportArguments, Shown, files_of, stopped};
use crate::status::{Outcome, stop_on_signals};
use crate::{PROGRAM, census};
use clap::Args;
use rekek::publish::Existing;
use rekek::row::KeyId;
use rekek::site::inspect::run as inspect;
use rekek::site::report::InspectReport;

/// The arguments as typed.
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    database: DatabaseArgument,

    /// Exit 3 while any field names this key, or any envelope is malformed: the check before a key is removed, for
    /// instance --retired kv0 --retired kv1 [repeatable]
    #[arg(long, value_name = "KEY_ID")]
    retired: Vec<KeyId>,

    #[command(flatten)]
    report: ReportArguments,

    #[command(flatten)]
    progress: ProgressArgument,
}

/// Does it.
pub fn run(arguments: &Arguments) -> anyhow::Result<Outcome> {
    let database = arguments.database.parse()?;
    arguments.report.check(&files_of(&database), &[], Existing::Refuse)?;
    let shown = Shown::new(arguments.progress);
    let report = inspect(&database, &arguments.retired, &stop_on_signals()?, &shown).map_err(stopped)?;
    shown.end();
    arguments.report.say(&report, table(&report), false, Existing::Refuse)?;
    for note in census::reminders(&report.census) {
        say(format_args!("{PROGRAM}: note: {note}"));
    }
    Ok(report.census.answer().map_or(Outcome::Done, Outcome::No))
}

fn table(report: &InspectReport) -> Report {
    let mut table = Report::default();
    table.line("rows", count(report.census.rows));
    table.line("snapshot", format!("{}, {}", report.snapshot.taken_at, report.snapshot.server_version));
    census::add(&mut table, &report.census, None);
    table
}
