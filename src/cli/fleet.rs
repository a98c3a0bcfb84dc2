//! `rekek fleet`: a plan → one job a site, one after another, and a report of them all.

use crate::conduct::{Conduct, target_of};
use crate::keys::{KeyArguments, VaultKey, other_keys};
use crate::paths::{self, WhichFile};
use crate::people::{self, Cell, Grid, Report, Tone, count, quoted, say};
use crate::progress::{Progress, ProgressArgument, Total, When};
use crate::rewrap::outcome;
use crate::status::{Interrupted, Outcome, Usage, in_one_line};
use crate::total::rows_told;
use crate::warning::Warning;
use crate::{PROGRAM, is_interruption};
use anyhow::{Context as _, anyhow};
use clap::Args;
use rekek::fleet::{Entry, FleetReport, Plan, Site, SiteName, SiteOutcome, SiteReport, Standing, Target};
use rekek::manifest::{Manifest, OutputNames};
use rekek::pipeline::{Destination, Job, Observer};
use rekek::publish::{self, Existing};
use rekek::report::{Failure, RewrapReport};
use rekek::signature;
use rekek::signer::Signer;
use rekek::stop::Stop;
use rekek::table::Input;
use serde::de::DeserializeOwned;
use std::collections::HashMap;
use std::io::{self, Read as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Failures of a site that are shown; its report lists them.
const SHOWN_FAILURES: usize = 2;

/// Bytes of an older report that are looked at before it is replaced.
const OLD_REPORT_BYTES_MAX: u64 = 1 << 30;

const AFTER_HELP: &str = "\
A plan is a TOML file with a table for each site; its paths are relative to the file's folder:

    [[site]]
    name = \"ams1\"
    input = \"ams1/export.csv\"
    output = \"ams1/rewrapped.csv\"
    secrets = \"ams1/secrets.json\"      # or a list of files
    site_config = \"ams1/site.toml\"     # or: to = \"kv2\"

and, as they are needed, vault_key = { kv2 = \"ams1/kv2.json\" }, input_format, output_format, compression.

A folder is a plan too: each folder in it is a site, with export.csv (or .parquet, .arrow, .feather, .arrows), \
secrets.json (or .yaml, .yml) and site.toml; its output is rewrapped with the export's extension.

A site is done if its output's manifest is there and both files' digests and the target key's fingerprint are those \
that it says. Run again, only the other sites are run.

With --sign every manifest is signed with that key, whose passphrase is asked once, before the first site; and a site is \
done only if the signature beside its manifest holds under it. One that is done in all but that is not done, and is told \
so: sign its manifest with `minisign -S`, or re-wrap it once more with --force.

    rekek fleet fleet.toml --sign rotation.key

Exit status: 0 all sites are done; 1 a site could not be done (whatever the others did); 2 usage; 3 all ran to the \
end and in some rows failed; 130 interrupted.";

/// The arguments as typed.
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub struct Arguments {
    /// The plan (TOML), or a folder with a folder for each site
    plan: PathBuf,

    #[command(flatten)]
    conduct: Conduct,

    /// Write the report of the fleet to this file, as JSON (in place of an older one of a fleet)
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,

    /// Write the report of each site into this folder, for instance reports, as NAME.json (in place of an older one
    /// of a site); it is made where it is not there
    #[arg(long, value_name = "FOLDER")]
    site_reports: Option<PathBuf>,

    /// Print the report as JSON
    #[arg(long)]
    json: bool,

    /// Print no table and no progress
    #[arg(long, conflicts_with_all = ["json", "progress"])]
    quiet: bool,

    #[command(flatten)]
    progress: ProgressArgument,
}

/// Does it.
pub fn run(arguments: &Arguments, stop: &Stop) -> anyhow::Result<Outcome> {
    let plan = Plan::read(&arguments.plan)?;
    for path in &plan.stray {
        Warning::StrayTable { path: path.clone() }.say();
    }
    arguments.check_paths(&plan)?;
    let signer = arguments.conduct.signer(stop)?;
    let begun = Instant::now();
    let mut sites = Vec::with_capacity(plan.entries.len());
    let mut report_failed = None;
    let all = count(plan.entries.len() as u64);
    let place = |i: usize| format!("{} ({} of {all})", plan.entries[i].name, count(i as u64 + 1));
    let progress =
        if arguments.quiet { ProgressArgument { progress: When::Never } } else { arguments.progress };
    let mut rows = Rows(progress.begin_many(place(0)));
    for (i, entry) in plan.entries.iter().enumerate() {
        if !stop.is_requested() {
            let told = |site: &Site| rows_told(&site.input, site.input_format);
            rows.0.step(place(i), entry.site.as_ref().map_or(Total::Unknown, told));
        }
        let site = arguments.site(entry, signer.as_ref(), &mut rows, stop);
        if let Err(error) = arguments.write_site_report(&site) {
            report_failed.get_or_insert(error);
        }
        if let Some(error) = &site.error {
            rows.say(&site.site, error);
        }
        sites.push(site);
    }
    drop(rows);
    let seconds = begun.elapsed().as_secs_f64();
    let (name, dry_run) = (arguments.plan.display().to_string(), arguments.conduct.dry_run);
    let report = FleetReport::new(name, dry_run, arguments.conduct.threads(), seconds, sites);

    let json = serde_json::to_string_pretty(&report)? + "\n";
    if let Some(path) = &arguments.report {
        publish::publish_bytes(path, json.as_bytes(), arguments.existing_report::<FleetReport>(path))?;
    }
    match (arguments.json, arguments.quiet) {
        (_, true) => Ok(()),
        (true, _) => people::print_document(&json),
        (false, _) => people::print(&arguments.table(&report, &plan, signer.as_ref())),
    }
    .context("the run came to its end, and what was published stands; only its report failed")?;
    report_failed.map_or(Ok(()), Err)?;
    end(&report)
}

impl Arguments {
    /// Refuses, before anything runs, a file that would be written twice, or read and written.
    fn check_paths(&self, plan: &Plan) -> anyhow::Result<()> {
        self.conduct.check_sign()?;
        let mut read = HashMap::new();
        let mut reads = |path: &Path, what: String| {
            read.insert(WhichFile::at(path), what);
        };
        if self.plan.is_file() {
            reads(&self.plan, "the plan".to_owned());
        }
        if let Some(path) = &self.conduct.sign {
            reads(path, "the signing key".to_owned());
        }
        for (name, site) in plan.sites() {
            reads(&site.input, format!("the input of site {name}"));
            reads(&Manifest::path_for(&site.input), format!("the manifest of the input of site {name}"));
            for path in site.secrets.iter().chain(site.vault_keys.iter().map(|(_, path)| path)) {
                reads(path, format!("a secrets file of site {name}"));
            }
            if let Target::Config(path) = &site.target {
                reads(path, format!("the configuration of site {name}"));
            }
        }
        let mut written: HashMap<WhichFile, String> = HashMap::new();
        let mut writes = |path: &Path, what: String| {
            let file = WhichFile::at(path);
            if let Some(other) = read.get(&file).or_else(|| written.get(&file)) {
                return Err(Usage(format!(
                    "{what}, {}, is also {other}; choose another name",
                    path.display()
                )));
            }
            written.insert(file, what);
            Ok(())
        };
        for (name, site) in plan.sites() {
            writes(&site.output, format!("the output of site {name}"))?;
            let manifest = Manifest::path_for(&site.output);
            writes(&manifest, format!("the manifest of the output of site {name}"))?;
            // Written, or removed where an older output's was.
            writes(&signature::path_for(&manifest), format!("the signature of the output of site {name}"))?;
        }
        if let Some(path) = &self.report {
            paths::refuse_dashes(&[("the report", path.as_path())])?;
            writes(path, "the report".to_owned())?;
            publish::check(path, self.existing_report::<FleetReport>(path))?;
        }
        for entry in &plan.entries {
            let Some(path) = self.site_report(&entry.name) else { break };
            writes(&path, format!("the report of site {}", entry.name))?;
        }
        let Some(folder) = &self.site_reports else { return Ok(()) };
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.with_context(|| format!("cannot make the folder {}", folder.display()))?;
        for path in plan.entries.iter().filter_map(|entry| self.site_report(&entry.name)) {
            publish::check(&path, self.existing_report::<SiteReport>(&path))?;
        }
        Ok(())
    }

    fn site_report(&self, name: &SiteName) -> Option<PathBuf> {
        self.site_reports.as_ref().map(|folder| folder.join(format!("{name}.json")))
    }

    /// A report is replaced by the next run's of its kind: so the same command can be run again.
    fn existing_report<T: DeserializeOwned>(&self, path: &Path) -> Existing {
        let is_older = || -> anyhow::Result<()> {
            let mut bytes = Vec::new();
            publish::open_regular(path)?.take(OLD_REPORT_BYTES_MAX).read_to_end(&mut bytes)?;
            serde_json::from_slice::<T>(&bytes)?;
            Ok(())
        };
        if is_older().is_ok() { Existing::Replace } else { self.conduct.existing() }
    }

    fn write_site_report(&self, site: &SiteReport) -> anyhow::Result<()> {
        let Some(path) = self.site_report(&site.site) else { return Ok(()) };
        if site.outcome == SiteOutcome::NotReached {
            return Ok(());
        }
        let json = serde_json::to_string_pretty(site)? + "\n";
        publish::publish_bytes(&path, json.as_bytes(), self.existing_report::<SiteReport>(&path))
            .context("the site's report could not be written")
    }

    /// One site, from its keys to its report. Whatever goes wrong is its own.
    fn site(&self, entry: &Entry, signer: Option<&Signer>, rows: &mut Rows, stop: &Stop) -> SiteReport {
        let mut report = SiteReport {
            site: entry.name.clone(),
            outcome: SiteOutcome::NotReached,
            error: None,
            target_key_fingerprint: None,
            report: None,
        };
        if stop.is_requested() {
            return report;
        }
        let result = match &entry.site {
            Ok(site) => self.rewrap(site, signer, rows, stop, &mut report),
            Err(missing) => Err(missing.clone().into()),
        };
        match result {
            Ok(outcome) => report.outcome = outcome,
            Err(error) if is_interruption(&error) => {}
            Err(error) => {
                report.outcome = SiteOutcome::NotDone;
                report.error = Some(in_one_line(&error));
            }
        }
        report
    }

    /// The site's keys live in here: they are wiped before the next site's are read.
    fn rewrap(
        &self,
        site: &Site,
        signer: Option<&Signer>,
        rows: &mut Rows,
        stop: &Stop,
        report: &mut SiteReport,
    ) -> anyhow::Result<SiteOutcome> {
        let keys = keys_of(site);
        let (keyring, target) = rows.0.aside(|| -> anyhow::Result<_> {
            let keyring = keys.load(stop)?;
            let target = keyring.target(&match &site.target {
                Target::Key(id) => id.clone(),
                Target::Config(path) => target_of(path)?,
            })?;
            Ok((keyring, target))
        })?;
        let key = &keyring.keys()[target];
        report.target_key_fingerprint = Some(key.fingerprint().to_owned());
        let existing = self.conduct.existing();
        match site.standing(key, signer.map(Signer::public), stop)? {
            // A dry run tells too whether the output could be written.
            Standing::Open => OutputNames::new(&site.output, None).check(existing)?,
            Standing::Done(made) if made.counts.rows_failed == 0 => {
                report.report = Some(*made);
                return Ok(SiteOutcome::DoneBefore);
            }
            Standing::Done(made) if existing == Existing::Refuse => {
                let failed = count(made.counts.rows_failed);
                self.say_failures(&report.site, &made, rows);
                report.report = Some(*made);
                report.error = Some(format!(
                    "its output is there, with {failed} rows that failed and are unchanged: mend them, then make it \
                     again with --force"
                ));
                return Ok(SiteOutcome::RowsFailed);
            }
            Standing::Other(why) if existing == Existing::Refuse => {
                let output = site.output.display();
                return Err(anyhow!(
                    "{output} exists already ({why}); if nobody needs it any more, remove it with its manifest and signature, or \
                     --force to replace them; else move it away"
                ));
            }
            Standing::Done(_) | Standing::Other(_) => {}
        }
        let job = Job {
            input: Input::File(site.input.clone()),
            input_format: site.input_format,
            output: if self.conduct.dry_run {
                Destination::DryRun
            } else {
                Destination::File(site.output.clone())
            },
            output_format: site.output_format,
            compression: site.compression,
            manifest: None,
            signer,
            existing,
            keyring: &keyring,
            target,
            scope: None,
            rules: self.conduct.rules(),
            on_failure: self.conduct.on_failure(),
            threads: self.conduct.threads(),
            stop: stop.clone(),
        };
        let made = job.run(rows)?;
        self.say_failures(&report.site, &made, rows);
        for line in keys.missing(&made.missing_keys).into_iter().chain(other_keys(&keyring, &made)) {
            rows.say(&report.site, &line);
        }
        let outcome = outcome(&made, &job.output, job.on_failure);
        report.report = Some(made);
        Ok(match outcome {
            Outcome::Done => SiteOutcome::Done,
            Outcome::No(line) => {
                report.error = Some(line);
                SiteOutcome::RowsFailed
            }
        })
    }
    /// The first failures of a site, and where all are.
    fn say_failures(&self, site: &SiteName, made: &RewrapReport, rows: &Rows) {
        for Failure { organization_id, field, error } in made.failures.iter().take(SHOWN_FAILURES) {
            rows.say(site, &format!("{organization_id} {field}: {error}"));
        }
        if made.failures.len() <= SHOWN_FAILURES {
            return;
        }
        let first = if made.failures_truncated { "the first " } else { "all " };
        let listed = count(made.failures.len() as u64);
        let place = match self.site_report(site).or_else(|| self.report.clone()) {
            Some(path) => path.display().to_string(),
            None if self.json => "the JSON report".into(),
            None => "no file yet: --site-reports FOLDER or --report FILE lists them".into(),
        };
        rows.say(site, &format!("… {first}{listed} failures are in {place}"));
    }

    /// The report for people: a line a site, and the sums.
    fn table(&self, report: &FleetReport, plan: &Plan, signer: Option<&Signer>) -> Report {
        let mut grid = Grid::new(["site", "outcome", "rows", "updated", "skipped", "failed", "target key"]);
        for site in &report.site_reports {
            let (tone, how) = match site.outcome {
                SiteOutcome::Done if report.dry_run => (Tone::Plain, "rehearsed"),
                SiteOutcome::Done => (Tone::Plain, "re-wrapped"),
                SiteOutcome::DoneBefore => (Tone::Plain, "done before"),
                SiteOutcome::RowsFailed => (Tone::Bad, "ROWS FAILED"),
                SiteOutcome::NotDone => (Tone::Bad, "NOT DONE"),
                SiteOutcome::NotReached => (Tone::Bad, "not reached"),
            };
            let counts = site.report.as_ref().map(|report| report.counts.clone()).unwrap_or_default();
            grid.row([
                Cell::Text(site.site.to_string()),
                Cell::Toned(tone, how.to_owned()),
                Cell::Count(counts.rows_examined),
                Cell::Count(counts.rows_updated),
                Cell::Count(counts.rows_skipped_all_on_target),
                Cell::Count(counts.rows_failed),
                Cell::Text(site.target_key_fingerprint.clone().unwrap_or_else(|| "-".to_owned())),
            ]);
        }
        let sites = &report.sites;
        let mut table = Report::default();
        table.line("plan", report.plan.clone());
        if let Some(signer) = signer.filter(|_| !report.dry_run) {
            table.line("signed with key", signer.public_key_id().to_string());
        }
        table.count("sites", sites.sites);
        table.count(if report.dry_run { "  rehearsed" } else { "  re-wrapped" }, sites.sites_done);
        table.count("  done before", sites.sites_done_before);
        table.count_bad("  rows failed", sites.sites_with_failed_rows);
        table.count_bad("  not done", sites.sites_not_done);
        if sites.sites_not_reached > 0 {
            table.count_bad("  not reached", sites.sites_not_reached);
        }
        table.count("rows examined", report.counts.rows_examined);
        table.count("fields re-encrypted", report.counts.fields_reencrypted);
        table.count("  skipped on target", report.counts.fields_skipped_on_target);
        table.line("time", format!("{:.1} s, {} threads", report.elapsed_seconds, report.threads));
        table.grid(grid);
        self.next(&mut table, report, plan);
        table
    }

    /// What an operator does next, where all sites are done; otherwise the last line on stderr says it.
    fn next(&self, table: &mut Report, report: &FleetReport, plan: &Plan) {
        let sites = &report.sites;
        if sites.sites != sites.sites_done + sites.sites_done_before {
            return;
        }
        match (report.dry_run, sites.sites_done) {
            (true, 0) => return table.next("nothing: every site was done before", None),
            (true, _) => return table.next("do it: the same command without --dry-run", None),
            (false, 0) => {}
            (false, _) => {
                let done = report.site_reports.iter().position(|site| site.outcome == SiteOutcome::Done);
                let (_, first) = plan.sites().nth(done.expect("it was counted")).expect("it was run");
                let what = "prove the written bytes of each site, before they cross the gap; for this one";
                table.next(what, Some(verify(first)));
            }
        }
        let manifests: Vec<String> = if self.plan.is_dir() {
            vec![quoted(&self.plan.join("").display().to_string()) + "*/rewrapped.*.manifest.json"]
        } else {
            let manifest = |site: &Site| quoted(&Manifest::path_for(&site.output).display().to_string());
            plan.sites().map(|(_, site)| manifest(site)).collect()
        };
        let what = if sites.sites_done == 0 {
            "every site was done before: its change record"
        } else {
            "the change record of the fleet"
        };
        table.next(what, Some(format!("rekek report -o record.html -- {}", manifests.join(" "))));
    }
}

fn keys_of(site: &Site) -> KeyArguments {
    let vault_key = site.vault_keys.iter().map(|(id, path)| VaultKey { id: id.clone(), path: path.clone() });
    KeyArguments { secrets: site.secrets.clone(), vault_key: vault_key.collect() }
}

/// The proof of a site's written bytes.
fn verify(site: &Site) -> String {
    let quoted = |path: &Path| quoted(&path.display().to_string());
    let [output, input] = [&site.output, &site.input].map(|path| quoted(path));
    format!("rekek verify {output} --source {input}{}", keys_of(site).as_typed())
}

/// Shows the rows that go by; failures stand in the site's report.
struct Rows(Progress);

impl Rows {
    /// A line of one site.
    fn say(&self, site: &SiteName, line: &str) {
        self.0.aside(|| say(format_args!("{PROGRAM}: site {site}: {line}")));
    }
}

impl Observer for Rows {
    fn rows(&mut self, rows: u64) {
        self.0.advance(rows);
    }

    fn failure(&mut self, _: &Failure) -> io::Result<()> {
        Ok(())
    }
}

/// The exit status: a stop before a site that could not be done, that before failed rows.
fn end(report: &FleetReport) -> anyhow::Result<Outcome> {
    let sites = &report.sites;
    let all = count(sites.sites);
    let again = if report.dry_run {
        "the same command again rehearses all that are not done"
    } else {
        "the same command again runs only those that are not done"
    };
    if sites.sites_not_reached > 0 {
        let reached = |site: &&SiteReport| site.outcome == SiteOutcome::NotReached;
        let at = report.site_reports.iter().find(reached).expect("it was counted");
        let done = count(sites.sites_done + sites.sites_done_before);
        let what = format!("interrupted at site {}; {done} of {all} sites are done; {again}", at.site);
        return Err(anyhow::Error::new(Interrupted).context(what));
    }
    let failed_rows = format!("in {} of {all} sites rows failed", count(sites.sites_with_failed_rows));
    if sites.sites_not_done > 0 {
        let and = if sites.sites_with_failed_rows > 0 { format!(", {failed_rows}") } else { String::new() };
        let not_done = count(sites.sites_not_done);
        return Err(anyhow!("{not_done} of {all} sites could not be done{and}; mend them: {again}"));
    }
    if sites.sites_with_failed_rows > 0 {
        return Ok(Outcome::No(format!("{failed_rows}; mend them: {again}")));
    }
    Ok(Outcome::Done)
}
