//! `rekek-site inspect`.

use crate::PROGRAM;
use crate::people::{aligned, count};
use crate::site::{DatabaseArgument, ReportArguments, Shown, stopped};
use crate::status::{Outcome, stop_on_signals};
use clap::Args;
use rekek::publish::Existing;
use rekek::row::{KeyId, printable};
use rekek::site::inspect::run as inspect;
use rekek::site::report::InspectReport;

/// The arguments as typed.
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    database: DatabaseArgument,

    /// Exit 3 while any field names this key, or any envelope is malformed: the check before a key is removed
    /// [repeatable]
    #[arg(long, value_name = "KEY_ID")]
    retired: Vec<KeyId>,

    #[command(flatten)]
    report: ReportArguments,
}

/// Does it.
pub fn run(arguments: &Arguments) -> anyhow::Result<Outcome> {
    let database = arguments.database.parse()?;
    arguments.report.check(&[], &[], Existing::Refuse)?;
    let shown = Shown::new(false);
    let report = inspect(&database, &arguments.retired, &stop_on_signals()?, &shown).map_err(stopped)?;
    shown.end();
    arguments.report.say(&report, table(&report), false, Existing::Refuse)?;
    if !report.retired.is_empty() && report.answer().is_none() {
        let keys: Vec<_> = report.retired.keys().map(|key| printable(key.as_str())).collect();
        eprintln!("{PROGRAM}: note: backups taken before the import still need {}", keys.join(", "));
    }
    Ok(report.answer().map_or(Outcome::Done, Outcome::No))
}

fn table(report: &InspectReport) -> String {
    let mut lines: Vec<(String, String)> = Vec::new();
    let mut line = |label: String, value: String| lines.push((label, value));
    line("rows".into(), count(report.rows));
    line("fields".into(), count(report.fields));
    for (key, fields) in &report.fields_by_key {
        let rows = report.rows_by_key.get(key).copied().unwrap_or_default();
        line(
            format!("  under {}", printable(key)),
            format!("{} fields in {} rows", count(*fields), count(rows)),
        );
    }
    line("  malformed".into(), count(report.malformed));
    for failure in report.failures.iter().take(10) {
        line("malformed".into(), format!("{} {}: {}", failure.organization_id, failure.field, failure.error));
    }
    for (key, fields) in &report.retired {
        let label = format!("retired {}", printable(key.as_str()));
        line(label, format!("{} fields name it", count(*fields)));
    }
    line("snapshot".into(), format!("{}, {}", report.snapshot.taken_at, report.snapshot.server_version));
    aligned(&lines)
}
