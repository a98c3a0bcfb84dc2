//! What the commands of `rekek-site` share: the database argument, progress, the report's ways out.

use crate::paths;
use crate::people::{self, Report};
use crate::progress::{Progress, ProgressArgument};
use crate::status::{Interrupted, Usage};
use clap::Args;
use rekek::publish::{self, Existing, PublishError};
use rekek::site::connect::Database;
use rekek::site::{SiteError, Step, Watch};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;

/// The database.
#[derive(Args)]
pub struct DatabaseArgument {
    /// The database, for instance postgres://operator@db.example/site or sqlite:site.db
    // Not parsed by clap, whose message would quote it, password and all.
    #[arg(long = "db", value_name = "URL", hide_default_value = true)]
    url: String,
}

impl DatabaseArgument {
    pub fn parse(&self) -> Result<Database, Usage> {
        Database::parse(&self.url).map_err(|e| Usage(e.to_string()))
    }
}

/// What may stand among the arguments without being a value.
const COMMANDS: [&str; 7] = ["export", "import", "inspect", "init", "completions", "man", "help"];

/// The end of arguments that make no sense, or that ask for help. A message of clap's can quote an
/// argument, and an argument can be a URL with a password.
pub fn usage(error: &clap::Error) -> ExitCode {
    let status = ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
    let text = error.render();
    if !error.use_stderr() {
        // Help is styled and holds nothing of the arguments.
        return if error.print().is_ok() { status } else { ExitCode::FAILURE };
    }
    let mut text = text.to_string();
    // Whatever was typed may be a password or hold one, wherever it was meant to go: nothing is
    // quoted but names of flags and commands. The longest first, so that nothing is left over of a
    // value that holds another.
    let typed: Vec<String> = std::env::args_os().skip(1).map(|a| a.to_string_lossy().into_owned()).collect();
    let mut values: Vec<&str> = typed
        .iter()
        .filter_map(|argument| match argument.split_once('=') {
            Some((flag, value)) if flag.starts_with("--") && !flag.contains(':') => Some(value),
            _ if argument.starts_with("--")
                && argument.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') =>
            {
                None
            }
            _ => Some(argument.as_str()),
        })
        .filter(|value| !value.is_empty() && !COMMANDS.contains(value))
        .collect();
    values.sort_by_key(|value| std::cmp::Reverse(value.len()));
    for value in values {
        // A short one could stand in any word: it is replaced where it is quoted.
        text = if value.len() < 4 {
            text.replace(&format!("'{value}'"), "'…'")
        } else {
            text.replace(value, "…")
        };
    }
    people::say(text.trim_end());
    status
}

/// The library's error on its way to an exit status.
pub fn stopped(error: SiteError) -> anyhow::Error {
    if error.is_interruption() {
        // With batches committed before, it says how far it came.
        return match error {
            SiteError::Interrupted => Interrupted.into(),
            // The signal is said by its status; the line is the error's own.
            error => anyhow::Error::new(Interrupted).context(error),
        };
    }
    error.into()
}

/// Progress, step by step.
pub struct Shown {
    when: ProgressArgument,
    step: Mutex<Option<Progress>>,
}

impl Shown {
    pub fn new(when: ProgressArgument) -> Self {
        Shown { when, step: Mutex::new(None) }
    }

    /// Takes it away.
    pub fn end(self) {}
}

/// What a step is called.
fn name(step: Step) -> &'static str {
    match step {
        Step::Reading => "reading",
        Step::Checking => "checking the file",
        Step::Loading => "loading",
        Step::Comparing => "comparing",
        Step::Writing => "writing",
        Step::ReadingBack => "reading back",
        Step::Committing => "committing",
    }
}

impl Watch for Shown {
    fn step(&self, step: Step, total: Option<u64>) {
        let mut shown = self.step.lock().expect("nobody panics with it");
        // The one before ends first.
        *shown = None;
        *shown = Some(self.when.begin(Some(name(step)), total));
    }

    fn next(&self, step: Step) {
        if let Some(shown) = &*self.step.lock().expect("nobody panics with it") {
            shown.rename(name(step));
        }
    }

    fn rows(&self, rows: u64) {
        if let Some(step) = &*self.step.lock().expect("nobody panics with it") {
            step.advance(rows);
        }
    }
}

/// What a database is read from, for [`ReportArguments::check`].
pub fn files_of(database: &Database) -> Vec<(&'static str, PathBuf)> {
    let what = match database {
        Database::Sqlite(_) => "the database",
        Database::Postgres(_) => "a file that the connection reads",
    };
    database.files().into_iter().map(|file| (what, file)).collect()
}

/// Where a report goes beside the table for people.
#[derive(Args)]
pub struct ReportArguments {
    /// Write the report to this file, as JSON, for instance report.json
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,

    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
}

impl ReportArguments {
    /// Refuses a report that would take the place of another file of the command, or of any other.
    pub fn check(
        &self,
        read: &[(&str, PathBuf)],
        written: &[(&str, &Path)],
        existing: Existing,
    ) -> anyhow::Result<()> {
        let written_to = written.iter().map(|(_, path)| *path).chain(self.report.as_deref());
        read.iter().map(|(_, path)| path.as_path()).chain(written_to).try_for_each(paths::refuse_secret)?;
        paths::refuse_redirected(read)?;
        let mut all = written.to_vec();
        if let Some(path) = &self.report {
            all.insert(0, ("the report", path));
        }
        paths::refuse_clashes(&all, read)?;
        if let Some(path) = &self.report {
            publish::check(path, existing).map_err(|error| match error {
                // Only an export has --force.
                PublishError::Exists(path) if written.is_empty() => {
                    anyhow::anyhow!("{} exists already; choose another name for the report", path.display())
                }
                error => anyhow::Error::from(error),
            })?;
        }
        Ok(())
    }

    /// Says it: on standard output, or on stderr where that carries data; and into the file.
    pub fn say(
        &self,
        report: &impl Serialize,
        table: Report,
        stdout_is_data: bool,
        existing: Existing,
    ) -> anyhow::Result<()> {
        let json = serde_json::to_string_pretty(report)? + "\n";
        if let Some(path) = &self.report {
            publish::publish_bytes(path, json.as_bytes(), existing)?;
        }
        match (self.json, stdout_is_data) {
            (true, true) => people::say_document(&json),
            (true, false) => people::print_document(&json)?,
            (false, true) => people::say_report(&table),
            (false, false) => people::print(&table)?,
        }
        Ok(())
    }
}
