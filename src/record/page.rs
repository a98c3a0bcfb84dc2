//! What a record's page says, made ready for its template: numbers in words, texts made printable.

use super::{ImportResult, NotOfARewrap, Rewrap, SignatureState};
use crate::figures::{count, quantity};
use crate::manifest::{self, Manifest, TableFile};
use crate::report::{LISTED_MAX, RewrapReport};
use crate::row::KeyId;
use crate::verify::contradictions;
use askama::Template;
use std::collections::BTreeMap;

/// Keys that the chart shows; the table below it has them all.
const CHARTED_KEYS_MAX: usize = 24;

/// Pixels from one key's bars to the next's.
const KEY_HEIGHT: usize = 74;

/// Of the width, what the longest bar takes, in percent; the rest is for its number.
const BAR_WIDTH: f64 = 55.0;

/// Organizations of a scope that are named; the manifest has them all.
const SCOPE_NAMED: usize = 12;

/// A record of these re-wraps, as HTML.
pub fn page(rewraps: &[Rewrap]) -> Result<String, NotOfARewrap> {
    let records = rewraps.iter().map(Section::of).collect::<Result<Vec<_>, _>>()?;
    let (title, subtitle) = match &records[..] {
        [one] => ("Key rotation record".to_owned(), format!("{}, to {}", one.name, one.target)),
        _ => {
            let mut written: Vec<_> = records.iter().map(|r| r.written.as_str()).collect();
            written.sort_unstable();
            let span = match &written[..] {
                [first, .., last] if first != last => format!("written between {first} and {last}"),
                [first, ..] => format!("written at {first}"),
                [] => "nothing was written".to_owned(),
            };
            ("Key rotation record of a fleet".to_owned(), span)
        }
    };
    let good = records.iter().filter(|r| r.good).count();
    let all_good = good == records.len();
    let sum = if all_good {
        format!("✓ All {good} are whole: no row failed, no manifest contradicts itself, no signature is bad")
    } else {
        format!("✗ {} of {} have something to look at", records.len() - good, records.len())
    };
    let page = Page {
        title,
        subtitle,
        all_good,
        sum,
        records,
        made_by: concat!("rekek ", env!("CARGO_PKG_VERSION")),
        made_at: manifest::now(),
    };
    Ok(page.render().expect("a page in memory"))
}

#[derive(Template)]
#[template(path = "record.html")]
struct Page {
    title: String,
    subtitle: String,
    all_good: bool,
    sum: String,
    records: Vec<Section>,
    made_by: &'static str,
    made_at: String,
}

/// One re-wrap as the page says it.
struct Section {
    name: String,
    good: bool,
    verdict: String,
    contradictions: Vec<&'static str>,
    written: String,
    tool: String,
    target: String,
    fingerprint: String,
    scope: String,
    took: String,
    signature: String,
    signature_short: &'static str,
    import_short: &'static str,
    rows: String,
    updated: String,
    skipped: String,
    failed: String,
    chart_height: usize,
    chart_title: String,
    chart_note: String,
    bars: Vec<Bar>,
    keys: Vec<KeyLine>,
    seals: String,
    counters: Vec<Counter>,
    failures: Vec<FailureLine>,
    more_failures: bool,
    files: Vec<FileLine>,
    import: Option<ImportSection>,
}

/// A key's two bars.
struct Bar {
    y: usize,
    key: String,
    before: String,
    before_width: String,
    after: String,
    after_width: String,
}

struct KeyLine {
    id: String,
    fingerprint: String,
    before: String,
    after: String,
    opened: String,
}

struct Counter {
    name: &'static str,
    sub: bool,
    value: String,
}

struct FailureLine {
    organization: String,
    field: String,
    error: String,
}

struct FileLine {
    what: &'static str,
    name: String,
    rows: String,
    bytes: String,
    sha256: String,
}

struct ImportSection {
    good: bool,
    verdict: String,
    counters: Vec<Counter>,
    checked: String,
    conflicts: Vec<ConflictLine>,
    more_conflicts: bool,
}

struct ConflictLine {
    organization: String,
    reason: String,
}

/// A key's numbers: fields that named it before and that name it after.
#[derive(Default, Clone, Copy)]
struct Fields {
    before: u64,
    after: u64,
}

impl Section {
    fn of(rewrap: &Rewrap) -> Result<Section, NotOfARewrap> {
        let manifest = &rewrap.manifest;
        let not_of_a_rewrap = || NotOfARewrap { file: shown(&rewrap.file) };
        let report = manifest.report.as_ref().ok_or_else(not_of_a_rewrap)?;
        let target = manifest.target_key_id.as_ref().ok_or_else(not_of_a_rewrap)?;
        let counts = &report.counts;
        let told = |id: &str| manifest.keys.iter().find(|key| key.key_id.as_str() == id);
        let fields = fields_by_key(report, target);
        let contradictions = contradictions(manifest);
        let (signature, signature_short) = signature(&rewrap.signature);
        let import = rewrap.import.as_ref().map(|import| ImportSection::of(import, rewrap));
        let complete = counts.rows_failed == 0;
        let rows = quantity(counts.rows_examined, "row");
        let verdict = if complete {
            format!("✓ {rows} examined, none failed: every envelope is under {}", shown(target.as_str()))
        } else {
            format!("✗ {} of {rows} failed, and are unchanged in the output", count(counts.rows_failed))
        };
        let mut files = Vec::new();
        files.extend(manifest.input.as_ref().map(|file| FileLine::of("input", file)));
        files.push(FileLine::of("output", &manifest.output));
        files.push(FileLine {
            what: "manifest",
            name: shown(&rewrap.file),
            rows: String::new(),
            bytes: String::new(),
            sha256: rewrap.sha256.to_string(),
        });
        let charted = &fields[..fields.len().min(CHARTED_KEYS_MAX)];
        let largest = fields.iter().map(|(_, f)| f.before.max(f.after)).max().unwrap_or(0);
        Ok(Section {
            name: shown(rewrap.file.strip_suffix(".manifest.json").unwrap_or(&rewrap.file)),
            good: complete
                && contradictions.is_empty()
                && !rewrap.signature.is_bad()
                && import.as_ref().is_none_or(|import| import.good),
            verdict,
            contradictions,
            written: shown(&manifest.created_at),
            tool: shown(&format!("{} {}", manifest.tool.name, manifest.tool.version)),
            target: shown(target.as_str()),
            fingerprint: told(target.as_str())
                .map_or_else(|| "not told".to_owned(), |key| shown(&key.fingerprint)),
            scope: scope(manifest),
            took: format!(
                "{:.1} s, {} rows/s, {}",
                report.elapsed_seconds,
                count(report.rows_per_second as u64),
                quantity(report.threads as u64, "thread")
            ),
            signature,
            signature_short,
            import_short: match &import {
                None => "not given",
                Some(import) if import.good => "✓ committed",
                Some(_) => "✗ see below",
            },
            rows: count(counts.rows_examined),
            updated: count(counts.rows_updated),
            skipped: count(counts.rows_skipped_all_on_target),
            failed: if complete { "0".to_owned() } else { format!("✗ {}", count(counts.rows_failed)) },
            chart_height: charted.len() * KEY_HEIGHT,
            chart_title: chart_title(&fields),
            chart_note: chart_note(report, charted.len() < fields.len()),
            bars: charted.iter().enumerate().map(|(i, (id, f))| Bar::of(i, id, *f, largest)).collect(),
            keys: fields
                .iter()
                .map(|(id, f)| KeyLine {
                    id: shown(id),
                    fingerprint: told(id)
                        .map_or_else(|| "not told".to_owned(), |key| shown(&key.fingerprint)),
                    before: count(f.before),
                    after: count(f.after),
                    opened: told(id).map_or_else(|| "0".to_owned(), |key| count(key.fields_opened)),
                })
                .collect(),
            seals: format!(
                "Envelopes sealed under the target key by this run: {}; found under it in the input: {}.",
                count(manifest.seals.this_run),
                count(manifest.seals.already_in_export)
            ),
            counters: counters(report),
            failures: report
                .failures
                .iter()
                .take(LISTED_MAX)
                .map(|failure| FailureLine {
                    organization: shown(&failure.organization_id),
                    field: shown(&failure.field),
                    error: shown(&failure.error),
                })
                .collect(),
            more_failures: report.failures_truncated || report.failures.len() > LISTED_MAX,
            files,
            import,
        })
    }
}

/// Every key that named a field of a row that did not fail, and the target last.
fn fields_by_key(report: &RewrapReport, target: &KeyId) -> Vec<(String, Fields)> {
    let mut by_key: BTreeMap<&str, Fields> = BTreeMap::new();
    for (id, n) in &report.fields_by_source_key {
        by_key.insert(id, Fields { before: *n, after: 0 });
    }
    let mut last = by_key.remove(target.as_str()).unwrap_or_default();
    last.after = report.counts.fields_reencrypted.saturating_add(report.counts.fields_skipped_on_target);
    let others = by_key.into_iter().map(|(id, fields)| (id.to_owned(), fields));
    others.chain([(target.as_str().to_owned(), last)]).collect()
}

/// The chart in words, for whoever does not see it.
fn chart_title(fields: &[(String, Fields)]) -> String {
    let each = |(id, f): &(String, Fields)| {
        format!("{}: {} before, {} after", shown(id), count(f.before), count(f.after))
    };
    let named: Vec<_> = fields.iter().take(CHARTED_KEYS_MAX).map(each).collect();
    format!("Fields by the key they are under. {}", named.join("; "))
}

fn chart_note(report: &RewrapReport, cut: bool) -> String {
    let mut note = "Fields by the key that their envelopes name: hatched before, solid after.".to_owned();
    if report.counts.rows_failed > 0 {
        note += " Fields of rows that failed are not counted: they are still under the keys that they were under.";
    }
    if cut {
        note += " The table has all keys.";
    }
    note
}

impl Bar {
    fn of(i: usize, id: &str, fields: Fields, largest: u64) -> Bar {
        let width = |n: u64| format!("{:.2}", n as f64 / largest.max(1) as f64 * BAR_WIDTH);
        Bar {
            y: i * KEY_HEIGHT,
            key: shown(id).chars().take(40).collect(),
            before: count(fields.before),
            before_width: width(fields.before),
            after: count(fields.after),
            after_width: width(fields.after),
        }
    }
}

impl FileLine {
    fn of(what: &'static str, file: &TableFile) -> FileLine {
        FileLine {
            what,
            name: shown(&file.file),
            rows: count(file.rows),
            bytes: count(file.bytes),
            sha256: file.sha256.to_string(),
        }
    }
}

fn counters(report: &RewrapReport) -> Vec<Counter> {
    let c = &report.counts;
    [
        ("rows examined", false, c.rows_examined),
        ("updated", true, c.rows_updated),
        ("skipped, all on target", true, c.rows_skipped_all_on_target),
        ("failed", true, c.rows_failed),
        ("fields re-encrypted", false, c.fields_reencrypted),
        ("skipped on target", true, c.fields_skipped_on_target),
        ("absent", true, c.fields_absent),
        ("signing keys not checked", false, report.signing_keys_unchecked),
    ]
    .map(|(name, sub, n)| Counter { name, sub, value: count(n) })
    .into()
}

fn scope(manifest: &Manifest) -> String {
    let Some(scope) = &manifest.scope else { return "all of the export".to_owned() };
    let named: Vec<_> = scope.iter().take(SCOPE_NAMED).map(|id| shown(id.as_str())).collect();
    let more = if scope.len() > named.len() { ", …" } else { "" };
    format!("{} selected: {}{more}", count(scope.len() as u64), named.join(", "))
}

/// In full, and in short.
fn signature(state: &SignatureState) -> (String, &'static str) {
    match state {
        SignatureState::Unsigned => ("none is beside the manifest".into(), "none"),
        SignatureState::NotChecked { key_id } => {
            (format!("signed by key id {key_id}, not checked"), "not checked")
        }
        SignatureState::Good(file) => {
            let comment = shown(&file.trusted_comment.replace('\t', " "));
            (format!("✓ good, by the trusted key {} ({comment})", file.public_key_id), "✓ good")
        }
        SignatureState::Bad(why) => (format!("✗ bad: {}", shown(why)), "✗ bad"),
    }
}

impl ImportSection {
    fn of(import: &ImportResult, rewrap: &Rewrap) -> ImportSection {
        let rows = quantity(import.rows_updated, "row");
        let verdict = if !import.is_of_bytes(&rewrap.manifest) {
            "✗ What was imported under this name has another SHA-256: it is not this output.".into()
        } else if !import.is_by_manifest(rewrap.sha256) {
            "✗ This output was imported, by a manifest with another SHA-256 than this one has.".into()
        } else if import.dry_run {
            format!("✗ Only a dry run: {rows} would have been updated, nothing was written.")
        } else if !import.committed {
            let batches = quantity(import.batches_committed, "transaction");
            format!("✗ Not all of it was written: {batches} committed.")
        } else if import.rows_conflicted > 0 {
            let conflicted = count(import.rows_conflicted);
            format!("✗ Committed, {rows} updated; {conflicted} conflicted and are as they were.")
        } else {
            format!("✓ Committed, {rows} updated, no conflict.")
        };
        let counters = [
            ("rows examined", false, import.rows_examined),
            ("updated", true, import.rows_updated),
            ("already applied", true, import.rows_already_applied),
            ("unchanged", true, import.rows_unchanged),
            ("conflicted", true, import.rows_conflicted),
        ];
        let conflicts = import.conflicts.iter().take(LISTED_MAX).map(|conflict| ConflictLine {
            organization: shown(&conflict.organization_id),
            reason: shown(&conflict.reason),
        });
        let took = format!("It took {:.1} s.", import.elapsed_seconds);
        let checked = match &import.manifest_sha256_checked {
            Some(_) => format!("{took} The manifest's SHA-256 was given by hand and compared."),
            None => format!("{took} The manifest's SHA-256 was not given by hand."),
        };
        ImportSection {
            good: verdict.starts_with('✓'),
            verdict,
            counters: counters.map(|(name, sub, n)| Counter { name, sub, value: count(n) }).into(),
            checked,
            conflicts: conflicts.collect(),
            more_conflicts: import.conflicts_truncated || import.conflicts.len() > LISTED_MAX,
        }
    }
}

/// A text of a file, made printable: what a terminal or a browser could take for a command (control
/// characters, marks that turn the direction of writing) is spelled out.
fn shown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' | '\'' | '\\' => out.push(c),
            c => out.extend(c.escape_debug()),
        }
    }
    out
}
