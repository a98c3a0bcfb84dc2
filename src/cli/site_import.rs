//! `rekek-site import`.

use crate::paths;
use crate::people::{Report, Tone, count};
use crate::progress::ProgressArgument;
use crate::site::{DatabaseArgument, ReportArguments, Shown, files_of, stopped};
use crate::site_warning::Warning;
use crate::status::{Outcome, Usage, stop_on_signals};
use crate::trusted::{self, TrustedKeyArgument};
use clap::{Args, ValueEnum};
use rekek::publish::Existing;
use rekek::row::Sha256Digest;
use rekek::site::SiteError;
use rekek::site::import::{LOCK_TIMEOUT, OnConflict, Options, run as import};
use rekek::site::report::{ImportReport, Reason};
use rekek::site_config::SiteConfig;
use rekek::table::Format;
use std::path::PathBuf;

/// Conflicts that the table for people names; the JSON lists more.
const SHOWN_CONFLICTS: usize = 10;

/// The arguments as typed.
#[derive(Args)]
pub struct Arguments {
    /// The output of `rekek rewrap`, for instance rewrapped.csv; a file, since it is read twice
    input: PathBuf,

    #[command(flatten)]
    database: DatabaseArgument,

    /// The input's manifest, for instance out.json [default: INPUT.manifest.json]
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,

    /// The manifest's own SHA-256, the 64 digits that `rekek rewrap` printed
    #[arg(long, value_name = "HEX")]
    manifest_sha256: Option<Sha256Digest>,

    #[command(flatten)]
    trusted_key: TrustedKeyArgument,

    /// The service's configuration, TOML, for instance site.toml: the input's target key must be its current_encryption_key_id
    #[arg(long, value_name = "FILE")]
    site_config: Option<PathBuf>,

    /// Do everything, and roll it back
    #[arg(long)]
    dry_run: bool,

    /// What to do about rows that were changed since the export
    #[arg(long, value_enum, value_name = "HOW", default_value_t = HowOnConflict::Abort)]
    on_conflict: HowOnConflict,

    /// Commit after every so many rows, for instance 100000 [default: one transaction]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    batch_rows: Option<u64>,

    /// How long to wait for a lock that another session holds, for instance 60; 0 waits for ever
    #[arg(long, value_name = "SECONDS", default_value_t = LOCK_TIMEOUT, value_parser = clap::value_parser!(u32).range(..=2_000_000))]
    lock_timeout: u32,

    #[command(flatten)]
    report: ReportArguments,

    #[command(flatten)]
    progress: ProgressArgument,

    /// Format of the input [default: by its name]
    #[arg(long, value_name = "FORMAT")]
    input_format: Option<Format>,
}

#[derive(Clone, Copy, ValueEnum)]
enum HowOnConflict {
    /// Write nothing
    Abort,
    /// Write the other rows
    Skip,
}

/// Does it.
pub fn run(arguments: &Arguments) -> anyhow::Result<Outcome> {
    paths::refuse_secret(&arguments.input)?;
    let database = arguments.database.parse()?;
    if !arguments.input.metadata().map_or(true, |m| m.is_file()) || arguments.input.as_os_str() == "-" {
        return Err(Usage("an import reads its input twice: name a regular file".into()).into());
    }
    let mut read = vec![("the input", arguments.input.clone())];
    read.extend(arguments.manifest.clone().map(|path| ("the manifest", path)));
    read.extend(arguments.trusted_key.path().map(|path| ("the trusted key", path)));
    read.extend(arguments.site_config.clone().map(|path| ("the site configuration", path)));
    read.extend(files_of(&database));
    arguments.report.check(&read, &[], Existing::Refuse)?;
    let options = Options {
        format: arguments.input_format,
        manifest: arguments.manifest.clone(),
        manifest_sha256: arguments.manifest_sha256,
        trusted_key: arguments.trusted_key.load()?,
        site_config: arguments.site_config.clone(),
        dry_run: arguments.dry_run,
        on_conflict: match arguments.on_conflict {
            HowOnConflict::Abort => OnConflict::Abort,
            HowOnConflict::Skip => OnConflict::Skip,
        },
        batch_rows: arguments.batch_rows,
        lock_timeout: arguments.lock_timeout,
        ..Options::new(arguments.input.clone())
    };
    // (What is wrong with it is an error of the import itself.)
    let config =
        arguments.site_config.as_deref().and_then(|path| SiteConfig::read(path).ok()?.disabled(path));
    config.map(Warning::SiteDisabled).into_iter().for_each(Warning::say);
    options.unchecked().into_iter().for_each(|what| Warning::Unchecked(what).say());
    let shown = Shown::new(arguments.progress);
    let ended = import(&database, &options, &stop_on_signals()?, &shown);
    shown.end();
    let report = match ended {
        Ok(report) => report,
        Err(SiteError::Interrupted) => {
            return Err(stopped(SiteError::Interrupted).context("the import was stopped and rolled back"));
        }
        Err(error) => {
            // Whatever ended it, what was committed before is documented.
            if let SiteError::AfterBatches { report, .. } = &error
                && let Err(unsaid) = arguments.report.say(report, table(report), false, Existing::Refuse)
            {
                Warning::ReportUnwritten(unsaid).say();
            }
            return Err(stopped(error));
        }
    };
    if report.source_digests_kept {
        Warning::DigestsKept.say();
    }
    if report.rows_failed_at_rewrap > 0 {
        Warning::FailedAtRewrap(report.rows_failed_at_rewrap).say();
    }
    arguments.report.say(&report, table(&report), false, Existing::Refuse).map_err(|error| {
        if report.batches_committed == 0 {
            return error;
        }
        // The last thing an operator must be left to guess.
        let rows = count(report.counts.rows_updated);
        error
            .context(format!("the import itself was committed ({rows} rows updated); only its report failed"))
    })?;
    Ok(answer(&report).map_or(Outcome::Done, Outcome::No))
}

fn answer(report: &ImportReport) -> Option<String> {
    let n = report.counts.rows_conflicted;
    if n == 0 {
        return None;
    }
    let went = match (report.dry_run, report.committed, report.batches_committed) {
        (true, ..) => "nothing was written, as asked".to_owned(),
        (_, true, _) if report.counts.rows_updated == 0 => "and there was nothing else to write".to_owned(),
        (_, true, _) => "the other rows were written".to_owned(),
        (_, false, 0) => "nothing was written".to_owned(),
        (_, false, 1) => "the batch before was written, this one was not".to_owned(),
        (_, false, batches) => {
            format!("the {} batches before were written, this one was not", count(batches))
        }
    };
    let left = if n == 1 {
        "1 row conflicts and was left as it is".to_owned()
    } else {
        format!("{} rows conflict and were left as they are", count(n))
    };
    // Of more conflicts than are listed, any may be among those that are not.
    let met = |reason: &Reason| {
        report.conflicts_truncated || report.conflicts.iter().any(|conflict| conflict.reason == *reason)
    };
    let reasons = [Reason::SourceChanged, Reason::VersionUnreadable, Reason::ConfigNotFound];
    let none_fits = n > 1 && report.counts.rows_updated + report.counts.rows_already_applied == 0;
    let mut advice: Vec<_> =
        reasons.into_iter().filter(met).map(|reason| advice(reason, none_fits)).collect();
    if !report.committed && !report.dry_run && !none_fits {
        advice.push("--on-conflict skip writes the other rows");
    }
    Some(format!("{left}, {went}; {}", advice.join("; ")))
}

/// What to do about conflicts of this kind; other words where no row fits.
fn advice(reason: Reason, none_fits: bool) -> &'static str {
    match reason {
        Reason::SourceChanged if none_fits => {
            "was another re-wrap of this export imported before (rekek-site inspect tells)? if not, export and re-wrap again"
        }
        Reason::SourceChanged => "export and re-wrap again what was changed (--org)",
        Reason::VersionUnreadable => "mend tenants.version where it cannot be read, and import again",
        Reason::ConfigNotFound => "what was deleted needs nothing, if it is the right database",
    }
}

/// What a reason's name alone does not tell.
fn more(reason: Reason) -> &'static str {
    match reason {
        Reason::SourceChanged | Reason::ConfigNotFound => "",
        Reason::VersionUnreadable => {
            " (no row in tenants, or its version there is not spelled V<n>-T<micros>)"
        }
    }
}

fn table(report: &ImportReport) -> Report {
    let counts = &report.counts;
    let mut table = Report::default();
    table.line("input", format!("{}, {} rows", report.input.file, count(report.input.rows)));
    table.line("target key", rekek::row::printable(report.target_key_id.as_str()));
    if let Some(signature) = &report.signature_checked {
        table.line("signed with key", signature.public_key_id.to_string());
        table.line("  says", trusted::comment(signature));
    }
    table.count("rows examined", counts.rows_examined);
    table.count("  updated", counts.rows_updated);
    table.count("  already applied", counts.rows_already_applied);
    table.count("  unchanged", counts.rows_unchanged);
    table.count_bad("  conflicted", counts.rows_conflicted);
    if report.rows_failed_at_rewrap > 0 {
        let value = format!("{}, among the unchanged", count(report.rows_failed_at_rewrap));
        table.toned(Tone::Bad, "failed at the re-wrap", value);
    }
    for conflict in report.conflicts.iter().take(SHOWN_CONFLICTS) {
        let value =
            format!("{}: {}{}", conflict.organization_id, conflict.reason.name(), more(conflict.reason));
        table.toned(Tone::Bad, "conflict", value);
    }
    let more = counts.rows_conflicted.saturating_sub(SHOWN_CONFLICTS as u64);
    if more > 0 {
        table.line("conflict", format!("… and {} more", count(more)));
    }
    let (tone, committed) = match (report.dry_run, report.committed, report.batches_committed) {
        (true, ..) => (Tone::Plain, "no: a dry run, everything was rolled back".to_owned()),
        (false, true, 0) => (Tone::Good, "yes: there was nothing to write".to_owned()),
        (false, true, 1) => (Tone::Good, "yes, in one transaction".to_owned()),
        (false, true, n) => (Tone::Good, format!("yes, in {} transactions", count(n))),
        (false, false, 0) => (Tone::Bad, "no: nothing was written".to_owned()),
        (false, false, 1) => (Tone::Bad, "only the first transaction".to_owned()),
        (false, false, n) => (Tone::Bad, format!("only the first {} transactions", count(n))),
    };
    table.toned(tone, "committed", committed);
    table.line("time", format!("{:.1} s", report.elapsed_seconds));
    if counts.rows_conflicted == 0 {
        if report.dry_run {
            table.next("do it: the same command without --dry-run", None);
        } else if !report.committed {
            table.next("go on: the same command again, with another name for --report; it passes over what is written", None);
        } else {
            let what = "see, for each old key, that nothing names it any more; keep the export until then";
            table.next(what, Some("rekek-site inspect --db URL --retired KEY_ID".into()));
        }
    }
    table
}
