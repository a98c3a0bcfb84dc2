//! `rekek rewrap`: arguments → a job, its report for people.

use crate::conduct::{Conduct, target_of};
use crate::keys::{KeyArguments, other_keys};
use crate::people::{self, Cell, Grid, Report, Tone, count};
use crate::progress::{Progress, ProgressArgument, When};
use crate::status::{Outcome, Usage};
use crate::total::rows_told;
use crate::warning::Warning;
use crate::{PROGRAM, paths};
use anyhow::Context as _;
use clap::Args;
use rekek::manifest::{Manifest, OutputNames};
use rekek::pipeline::{Destination, Job, Observer, OnFailure};
use rekek::publish::{self, Existing, PublishError, Staged};
use rekek::report::{Failure, RewrapReport};
use rekek::row::{KeyId, OrgId, printable, trim};
use rekek::stop::Stop;
use rekek::table::{Compression, Format, Input, open_interruptible, standard_input};
use std::collections::BTreeSet;
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};

/// Bytes that a file of organizations may have.
const ORGS_BYTES_MAX: u64 = 16 << 20;

/// Failures that the table for people names; the JSON lists more, `--failures` all.
const SHOWN_FAILURES: usize = 10;

/// The arguments as typed.
#[derive(Args)]
pub struct Arguments {
    /// The export, for instance export.csv; `-` is standard input
    input: PathBuf,

    /// The output, for instance rewrapped.csv; `-` is standard output
    #[arg(short, long, value_name = "OUTPUT", required_unless_present = "dry_run")]
    output: Option<PathBuf>,

    #[command(flatten)]
    keys: KeyArguments,

    /// The target key, for instance kv2
    #[arg(
        long,
        value_name = "KEY_ID",
        required_unless_present = "site_config",
        conflicts_with = "site_config"
    )]
    to: Option<KeyId>,

    /// The site's configuration, TOML, for instance site.toml: the target is [machine_identity]
    /// current_encryption_key_id
    #[arg(long, value_name = "FILE")]
    site_config: Option<PathBuf>,

    /// Re-wrap only this organization, for instance --org a --org b [repeatable]
    #[arg(long = "org", value_name = "ID")]
    orgs: Vec<OrgId>,

    /// Re-wrap only the organizations in this file, for instance orgs.txt, an id a line
    #[arg(long, value_name = "FILE")]
    orgs_file: Option<PathBuf>,

    #[command(flatten)]
    conduct: Conduct,

    /// Where the manifest goes, for instance out.json [default: OUTPUT.manifest.json]
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,

    /// Write every failure to this file, a JSON object a line, for instance failures.jsonl
    #[arg(long, value_name = "FILE")]
    failures: Option<PathBuf>,

    /// Write the report to this file, as JSON, for instance report.json
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,

    /// Print the report as JSON
    #[arg(long)]
    json: bool,

    /// Print no table and no progress
    #[arg(long, conflicts_with_all = ["json", "progress"])]
    quiet: bool,

    #[command(flatten)]
    progress: ProgressArgument,

    /// Format of the input [default: by its name]
    #[arg(long, value_name = "FORMAT")]
    input_format: Option<Format>,

    /// Format of the output [default: by its name]
    #[arg(long, value_name = "FORMAT")]
    output_format: Option<Format>,

    /// How the output is compressed
    #[arg(long, value_enum, default_value_t, value_name = "HOW")]
    compression: Compression,
}

impl Arguments {
    fn input(&self) -> Input {
        Input::from_argument(&self.input)
    }

    fn destination(&self) -> Destination {
        match &self.output {
            _ if self.conduct.dry_run => Destination::DryRun,
            None => Destination::DryRun,
            Some(path) if path.as_os_str() == "-" => Destination::Stdout,
            Some(path) => Destination::File(path.clone()),
        }
    }

    fn manifest(&self) -> Option<PathBuf> {
        self.manifest.clone().or_else(|| match self.destination() {
            Destination::File(path) => Some(Manifest::path_for(&path)),
            Destination::Stdout | Destination::DryRun | Destination::Discarded => None,
        })
    }

    fn progress(&self) -> ProgressArgument {
        if self.quiet { ProgressArgument { progress: When::Never } } else { self.progress }
    }

    fn names(&self, manifest: &Path) -> OutputNames {
        match self.destination() {
            Destination::File(output) => OutputNames::new(&output, Some(manifest)),
            Destination::Stdout | Destination::DryRun | Destination::Discarded => {
                OutputNames::of_stdout(manifest)
            }
        }
    }

    /// Files that are written and files that are read are never the same.
    fn check_paths(&self) -> Result<(), Usage> {
        let stdins = [&self.input].into_iter().chain(&self.orgs_file).map(PathBuf::as_path);
        paths::refuse_two_stdins(stdins.chain(self.keys.paths()))?;
        let mut written: Vec<(&str, &Path)> = Vec::new();
        let manifest = self.manifest().filter(|_| !self.conduct.dry_run);
        if let Destination::File(_) = self.destination() {
            // (`-` is no file here, it is standard output.)
            written.extend(self.output.as_deref().map(|path| ("the output", path)));
        }
        written.extend(manifest.as_deref().map(|path| ("the manifest", path)));
        // Signatures, and a manifest in the usual place: written, or not left there from an older output.
        let beside = manifest.as_ref().map_or(vec![], |manifest| self.names(manifest).beside());
        let others = beside.iter().filter(|path| Some(*path) != manifest.as_ref());
        written.extend(others.map(|path| ("what stands beside the output,", path.as_path())));
        written.extend(self.report.as_deref().map(|path| ("the report", path)));
        written.extend(self.failures.as_deref().map(|path| ("the failures file", path)));
        let mut read = vec![("the input", self.input.clone())];
        read.push(("the input's manifest", Manifest::path_for(&self.input)));
        read.extend(self.keys.paths().map(|path| ("a secrets file", path.to_owned())));
        read.extend(self.conduct.sign.iter().map(|path| ("the signing key", path.clone())));
        read.extend(self.site_config.iter().map(|path| ("the site configuration", path.clone())));
        read.extend(self.orgs_file.iter().map(|path| ("the file of organizations", path.clone())));
        paths::refuse_dashes(&written)?;
        self.conduct.check_sign()?;
        if self.conduct.sign.is_some() && manifest.is_none() && !self.conduct.dry_run {
            let what = "there is no manifest to sign where the output goes to standard output; name one with --manifest";
            return Err(Usage(what.into()));
        }
        if self.destination() == Destination::Stdout {
            paths::refuse_redirected(&read)?;
        }
        paths::refuse_clashes(&written, &read)
    }

    fn formats(&self) -> Result<(Format, Format), Usage> {
        let input = paths::format_of("the input", &self.input, self.input_format, "--input-format")?;
        let output = match &self.output {
            None => input,
            Some(path) => {
                let named = Input::from_argument(path).format(self.output_format);
                let given = named.or(self.conduct.dry_run.then_some(input));
                paths::format_of("the output", path, given, "--output-format")?
            }
        };
        Ok((input, output))
    }

    fn target(&self) -> anyhow::Result<KeyId> {
        let Some(path) = &self.site_config else {
            return Ok(self.to.clone().expect("the parser asks for one of the two"));
        };
        target_of(path)
    }

    fn scope(&self, stop: &Stop) -> anyhow::Result<Option<BTreeSet<OrgId>>> {
        let mut scope: BTreeSet<OrgId> = self.orgs.iter().cloned().collect();
        let Some(path) = &self.orgs_file else {
            return Ok((!scope.is_empty()).then_some(scope));
        };
        let cannot = || format!("cannot read the organizations in {}", path.display());
        let mut text = String::new();
        let source: Box<dyn Read> = if path.as_os_str() == "-" {
            Box::new(standard_input(stop).with_context(cannot)?)
        } else {
            open_interruptible(path, stop).with_context(cannot)?.0
        };
        source.take(ORGS_BYTES_MAX + 1).read_to_string(&mut text).with_context(cannot)?;
        if text.len() as u64 > ORGS_BYTES_MAX {
            anyhow::bail!("{} is longer than {ORGS_BYTES_MAX} bytes", path.display());
        }
        for (i, line) in text.lines().map(trim).enumerate().filter(|(_, line)| !line.is_empty()) {
            let id = line.parse::<OrgId>();
            scope.insert(id.with_context(|| format!("{}, line {}", path.display(), i + 1))?);
        }
        if scope.is_empty() {
            anyhow::bail!("{} names no organization; write an id on each line", path.display());
        }
        Ok(Some(scope))
    }
}

/// Does it.
pub fn run(arguments: &Arguments, stop: &Stop) -> anyhow::Result<Outcome> {
    arguments.check_paths()?;
    let (_, output_format) = arguments.formats()?;
    let existing = arguments.conduct.existing();
    for (what, path) in [("the report", &arguments.report), ("the failures file", &arguments.failures)] {
        let Some(path) = path else { continue };
        publish::check(path, existing).map_err(|error| match error {
            // --force would replace the output too.
            PublishError::Exists(path) => {
                anyhow::anyhow!("{} exists already; choose another name for {what}", path.display())
            }
            error => error.into(),
        })?;
    }
    let keyring = arguments.keys.load(stop)?;
    let target = keyring.target(&arguments.target()?)?;
    // After the secrets: what feeds them through a pipe may itself ask on the terminal.
    let signer = arguments.conduct.signer(stop)?;
    let job = Job {
        input: arguments.input(),
        input_format: arguments.input_format,
        output: arguments.destination(),
        output_format,
        compression: arguments.compression,
        manifest: arguments.manifest(),
        signer: signer.as_ref(),
        existing,
        keyring: &keyring,
        target,
        scope: arguments.scope(stop)?,
        rules: arguments.conduct.rules(),
        on_failure: arguments.conduct.on_failure(),
        threads: arguments.conduct.threads(),
        stop: stop.clone(),
    };
    if let (Destination::File(output), Existing::Refuse) = (&job.output, job.existing)
        && OutputNames::new(output, job.manifest.as_deref()).is_left_over()
    {
        Warning::LeftOver { path: output.clone() }.say();
    }
    let mut watch = Watch {
        progress: arguments.progress().begin(None, rows_told(&arguments.input, arguments.input_format)),
        failures: arguments.failures.as_deref().map(FailuresFile::create).transpose()?,
    };
    let report = job.run(&mut watch)?;
    let Watch { progress, failures } = watch;
    drop(progress);
    tell(arguments, &job, &report, failures).map_err(|error| match (&report.output, &job.output) {
        // The last thing an operator must be left to guess.
        (Some(_), Destination::File(output)) => {
            let output = output.display();
            error
                .context(format!("{output} and its manifest are whole and published; only its report failed"))
        }
        _ => error,
    })?;
    let missing = arguments.keys.missing(&report.missing_keys).into_iter();
    for line in missing.chain(other_keys(&keyring, &report)) {
        people::say(format_args!("{PROGRAM}: {line}"));
    }
    Ok(outcome(&report, &job.output, job.on_failure))
}

/// The report by all ways that were asked for, and the failures file.
fn tell(
    arguments: &Arguments,
    job: &Job<'_>,
    report: &RewrapReport,
    failures: Option<FailuresFile>,
) -> anyhow::Result<()> {
    if let Some(failures) = failures {
        failures.publish(job.existing)?;
    }
    let json = serde_json::to_string_pretty(report)? + "\n";
    if let Some(path) = &arguments.report {
        publish::publish_bytes(path, json.as_bytes(), job.existing)?;
    }
    let stdout_is_data = job.output == Destination::Stdout;
    match (arguments.json, arguments.quiet) {
        (_, true) => {}
        (true, _) if stdout_is_data => people::say_document(&json),
        (true, _) => people::print_document(&json)?,
        (false, _) if stdout_is_data => people::say_report(&table(report, job, arguments)),
        (false, _) => people::print(&table(report, job, arguments))?,
    }
    Ok(())
}

struct Watch {
    progress: Progress,
    failures: Option<FailuresFile>,
}

impl Observer for Watch {
    fn rows(&mut self, rows: u64) {
        self.progress.advance(rows);
    }

    fn failure(&mut self, failure: &Failure) -> io::Result<()> {
        self.failures.as_mut().map_or(Ok(()), |file| file.add(failure))
    }

    fn end(&mut self) -> io::Result<()> {
        self.failures.as_mut().map_or(Ok(()), FailuresFile::sync)
    }
}

/// Every failure, a JSON object a line. On the disk before the output has its name.
struct FailuresFile(io::BufWriter<Staged>);

impl FailuresFile {
    fn create(path: &Path) -> Result<Self, PublishError> {
        Staged::create(path).map(io::BufWriter::new).map(FailuresFile)
    }

    fn add(&mut self, failure: &Failure) -> io::Result<()> {
        let written = serde_json::to_writer(&mut self.0, failure).map_err(io::Error::from);
        written.and_then(|()| self.0.write_all(b"\n")).map_err(|error| self.named(error))
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.flush().map_err(|error| self.named(error))?;
        self.0.get_mut().sync().map_err(io::Error::other)
    }

    fn publish(self, existing: Existing) -> Result<(), PublishError> {
        self.0.into_parts().0.publish(existing)
    }

    fn named(&self, error: io::Error) -> io::Error {
        let what = format!("cannot write {}: {error}", self.0.get_ref().path().display());
        io::Error::other(what)
    }
}

/// What the failures of a report mean.
pub fn outcome(report: &RewrapReport, output: &Destination, on_failure: OnFailure) -> Outcome {
    let failed = report.counts.rows_failed;
    if failed == 0 {
        return Outcome::Done;
    }
    let rows = if failed == 1 { "1 row".to_owned() } else { format!("{} rows", count(failed)) };
    Outcome::No(match (output, on_failure) {
        (Destination::DryRun | Destination::Discarded, _) => {
            format!("{rows} failed: mend them, then run again")
        }
        (Destination::Stdout, OnFailure::Withhold) => {
            format!("{rows} failed: the output on standard output is not whole; mend them, then run again")
        }
        (Destination::File(_), OnFailure::Withhold) => format!(
            "{rows} failed and nothing was published: mend them and run again, or publish without them by --keep-going"
        ),
        (_, OnFailure::KeepGoing) => {
            format!("{rows} failed and are unchanged in the output: keep the old keys until they are mended")
        }
    })
}

/// The report for people.
fn table(report: &RewrapReport, job: &Job<'_>, arguments: &Arguments) -> Report {
    let counts = &report.counts;
    let mut table = Report::default();
    table.line("input", format!("{}, {} rows", job.input.name(), count(report.input.rows)));
    let key = &job.keyring.keys()[job.target];
    table.line("target key", format!("{} (fingerprint {})", printable(key.id().as_str()), key.fingerprint()));
    table.count("rows examined", counts.rows_examined);
    table.count("  updated", counts.rows_updated);
    table.count("  skipped, all on target", counts.rows_skipped_all_on_target);
    table.count_bad("  failed", counts.rows_failed);
    table.count("fields re-encrypted", counts.fields_reencrypted);
    table.count("  skipped on target", counts.fields_skipped_on_target);
    table.count("  absent", counts.fields_absent);
    if report.signing_keys_unchecked > 0 {
        table.count("signing keys not checked", report.signing_keys_unchecked);
    }
    if report.source_digests_kept {
        table.line("source digests", "the input's own, kept as they are: an import believes them");
    }
    for failure in report.failures.iter().take(SHOWN_FAILURES) {
        let value = format!("{} {}: {}", failure.organization_id, failure.field, failure.error);
        table.toned(Tone::Bad, "failed", value);
    }
    if report.failures.len() > SHOWN_FAILURES {
        table.line("", "… more in the JSON report, all with --failures FILE");
    }
    let seconds = format!("{:.1} s, {} rows/s", report.elapsed_seconds, count(report.rows_per_second as u64));
    table.line("time", format!("{seconds}, {} threads", report.threads));
    match (&report.output, &job.output) {
        (_, Destination::DryRun) => table.line("output", "none: a dry run"),
        (None, _) => table.toned(Tone::Bad, "output", "none was published"),
        (Some(_), _) => {
            let output = arguments.output.as_deref().unwrap_or(Path::new("-"));
            table.line("output", output.display().to_string());
        }
    }
    if let Some(manifest) = &report.manifest {
        table.line("manifest", manifest.file.clone());
        table.line("  its SHA-256", manifest.sha256.to_string());
        if let Some(signature) = &manifest.signature {
            table.line("  signed with key", signature.public_key_id.to_string());
        }
    }
    if counts.rows_failed > 0 {
        table.line("keys", "of the rows that did not fail; one that did is as it was");
    }
    table.grid(keys(report, job));
    next(&mut table, report, job, arguments);
    table
}

/// What named each key before, and what names it now: of rows that did not fail, and of the keys that were missing.
fn keys(report: &RewrapReport, job: &Job<'_>) -> Grid {
    let after = if report.output.is_some() { "fields after" } else { "fields after a re-wrap" };
    let mut keys = Grid::new(["key", "fingerprint", "fields before", after]);
    let mut in_order: Vec<_> = job.keyring.keys().iter().enumerate().collect();
    in_order.sort_by(|(_, a), (_, b)| a.id().cmp(b.id()));
    for (i, key) in in_order {
        let before = report.fields_by_source_key.get(key.id().as_str()).copied().unwrap_or(0);
        let counts = &report.counts;
        let after =
            if i == job.target { counts.fields_reencrypted + counts.fields_skipped_on_target } else { 0 };
        if before > 0 || i == job.target {
            let [id, fingerprint] = [printable(key.id().as_str()), key.fingerprint().to_owned()];
            keys.row([Cell::Text(id), Cell::Text(fingerprint), Cell::Count(before), Cell::Count(after)]);
        }
    }
    for (key, fields) in &report.missing_keys {
        // Nothing is re-wrapped of a row that names it.
        let [id, fingerprint] = [printable(key), "missing".to_owned()];
        keys.row([Cell::Text(id), Cell::Text(fingerprint), Cell::Count(*fields), Cell::Count(*fields)]);
    }
    keys
}

/// What an operator does next, where all went well; otherwise the last line on stderr says it.
fn next(table: &mut Report, report: &RewrapReport, job: &Job<'_>, arguments: &Arguments) {
    if report.counts.rows_failed > 0 {
        return;
    }
    let quoted = |path: &Path| people::quoted(&path.display().to_string());
    match &job.output {
        Destination::DryRun if report.counts.rows_updated == 0 => {
            table.next("nothing: every field is under the target key already", None);
        }
        Destination::DryRun => table.next("do it: the same command with -o OUTPUT, without --dry-run", None),
        Destination::File(_) if report.counts.rows_updated == 0 => {
            let key = printable(job.keyring.keys()[job.target].id().as_str());
            let what =
                format!("nothing was re-encrypted: every field was under {key} already; is it the new key?");
            table.next(what, None);
        }
        Destination::File(output) => {
            let mut command = format!("rekek verify {}", quoted(output));
            command += &paths::format_as_typed(output, "--input-format", Some(job.output_format));
            if let Some(manifest) = &arguments.manifest {
                command += &format!(" --manifest {}", quoted(manifest));
            }
            // Standard input has been read, and cannot be compared with again.
            if let Some(input) = job.input.path().filter(|_| job.input.can_be_read_again()) {
                command += &format!(" --source {}", quoted(input));
                command += &paths::format_as_typed(input, "--source-format", job.input_format);
            }
            let what = "prove the written bytes, before they cross the gap";
            table.next(what, Some(command + &arguments.keys.as_typed()));
        }
        Destination::Stdout | Destination::Discarded => {}
    }
}
