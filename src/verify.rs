//! The proof from the written bytes: an output against its manifest, its keys and its source.
//!
//! It owns the comparison and what it is called. Envelopes are read with the independent reader
//! (serde_json and the base64 crate, nothing of the fast path that wrote them). It reads files
//! and never writes one.

mod join;

use crate::census::add_bounded;
use crate::envelope::independent::{self, OwnedEnvelope};
use crate::keyring::Keyring;
use crate::manifest::{Manifest, TableFile};
use crate::parallel::ordered_map;
use crate::pipeline::{ExportBatch, ExportReader, OrgIdText, PipelineError, Scope};
use crate::report::{LISTED_MAX, SignatureFile};
use crate::row::{Field, KeyId, OrgId, SourceDigest, is_absent, printable, printable_org_id};
use crate::secret::{Plaintext, wipe_stack};
use crate::signature::SignatureError;
use crate::stop::Stop;
use crate::table::{self, FileFacts, Format, Input, Layout, TableError, Text, guarded_rows};
use arrow::array::{Array as _, ArrayRef, RecordBatch};
use arrow::datatypes::Schema;
use join::{Join, Joined, Place};
use serde::Serialize;
use std::collections::BTreeMap;

/// The checks, each by its name in the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// The file's bytes, digest and rows are those that its manifest says.
    Manifest,
    /// The manifest is signed with the trusted key.
    Signature,
    /// Every organization id is spelled as one.
    OrganizationIds,
    /// Every ciphertext is an envelope, for the independent reader too.
    Envelopes,
    /// Every envelope names the target key.
    Target,
    /// Every envelope opens under the key that it names.
    Opened,
    /// The fingerprints in the manifest are those of the keys given.
    KeyFingerprints,
    /// The source digests are there exactly where a field is; with a source, they are its texts'.
    SourceDigests,
    /// The source file is the one that the manifest names as input.
    SourceFile,
    /// No row of the source, within the scope, is missing, none was added, none moved.
    SourceRows,
    /// Every field opens to the same plaintext in both.
    SourcePlaintexts,
    /// All other columns are as the source has them.
    OtherColumns,
}

/// What a check came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct CheckResult {
    /// Whether what it needs was given.
    pub done: bool,
    /// What it found.
    pub findings: u64,
}

/// Something that is off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The check that found it.
    pub check: Check,
    /// The organization; empty where it is the file.
    pub organization_id: String,
    /// The column; empty where it is the row or the file.
    pub field: String,
    /// What is off.
    pub error: String,
}

/// The report of `rekek verify`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VerifyReport {
    /// Always `verify`.
    pub command: &'static str,
    /// Rows of the file.
    pub rows: u64,
    /// Fields of the file that were opened.
    pub fields_opened: u64,
    /// The target key, where one was told.
    pub target_key_id: Option<String>,
    /// The manifest's signature, where it was checked and holds.
    pub signature: Option<SignatureFile>,
    /// Organizations that the manifest says were selected; null is all of them.
    pub scope_organizations: Option<u64>,
    /// Rows that failed when the file was made, and are in it as they were (`--keep-going`): the
    /// findings on them are no news.
    pub rows_failed_at_rewrap: u64,
    /// The checks.
    pub checks: BTreeMap<Check, CheckResult>,
    /// The first findings, in the order of the rows.
    pub findings: Vec<Finding>,
    /// Whether there were more.
    pub findings_truncated: bool,
    /// Fields of the file that name a key which is in none of the secrets given, by its id. (They are
    /// among the findings too.)
    pub missing_keys: BTreeMap<String, u64>,
    /// The file.
    pub input: TableFile,
    /// The source, where one was given.
    pub source: Option<TableFile>,
}

impl VerifyReport {
    /// Findings of all checks together.
    pub fn findings_total(&self) -> u64 {
        self.checks.values().map(|c| c.findings).sum()
    }
}

/// What to verify, and with what.
pub struct Verification<'a> {
    /// The output.
    pub input: Input,
    /// Its format, where its name does not tell.
    pub input_format: Option<Format>,
    /// Its manifest.
    pub manifest: Option<Manifest>,
    /// What the trusted key says of the manifest's signature, if there is such a key.
    pub signature: Option<Result<SignatureFile, SignatureError>>,
    /// The keys, if it is to be opened.
    pub keyring: Option<&'a Keyring>,
    /// The key that every envelope must name; otherwise the manifest's.
    pub target: Option<KeyId>,
    /// The export that it was made from.
    pub source: Option<Input>,
    /// The source's format, where its name does not tell.
    pub source_format: Option<Format>,
    /// Threads.
    pub threads: usize,
    /// Ends the run early.
    pub stop: Stop,
}

/// One side's columns.
struct Side {
    layout: Layout,
    schema: std::sync::Arc<Schema>,
}

/// What one batch of rows came to.
#[derive(Default)]
struct Part {
    rows: u64,
    fields_opened: u64,
    missing_keys: BTreeMap<String, u64>,
    findings: Vec<Finding>,
}

impl Part {
    fn find(&mut self, check: Check, place: &Place, layout: &Layout, field: &str, error: impl Into<String>) {
        let organization_id = printable_org_id(place.organization_id(layout));
        let error = format!("row {}: {}", place.number, error.into());
        self.findings.push(Finding { check, organization_id, field: field.to_owned(), error });
    }
}

impl Verification<'_> {
    /// Does it; `progress` is told of rows.
    pub fn run(&self, mut progress: impl FnMut(u64) + Send) -> Result<VerifyReport, PipelineError> {
        let mut output = ExportReader::open(&self.input, self.input_format, &self.stop)?;
        let side = |reader: &ExportReader| -> Result<Side, PipelineError> {
            let schema = reader.reader.schema();
            Ok(Side { layout: Layout::of(schema).map_err(|e| reader.fail(e))?, schema: schema.clone() })
        };
        let ours = side(&output)?;
        let source = match &self.source {
            Some(input) => Some(ExportReader::open(input, self.source_format, &self.stop)?),
            None => None,
        };
        let theirs = source.as_ref().map(side).transpose()?;
        let target =
            self.target.clone().or_else(|| self.manifest.as_ref().and_then(|m| m.target_key_id.clone()));
        let target = target.as_ref().map(KeyId::as_str);

        let mut result = Results::default();
        self.begin_checks(&mut result, &ours, theirs.as_ref(), target);
        let scope: Option<Scope> = self.scope().map(|scope| scope.iter().cloned().map(OrgIdText).collect());
        let digests = [Some(output.digest()), source.as_ref().map(ExportReader::digest)];
        let hash = || digests.iter().flatten().filter(|digest| digest.work()).count() > 0;
        let (output_file, source_file) = match source {
            None => {
                ordered_map(
                    self.threads,
                    &self.stop,
                    || output.next(),
                    || Ok(Opener::default()),
                    |opener, ExportBatch { first_row, rows, .. }| {
                        let part =
                            self.guarded(first_row, || self.alone(opener, &ours, target, first_row, &rows));
                        opener.rest();
                        part
                    },
                    |part: Part| {
                        progress(part.rows);
                        result.add(part);
                        Ok(())
                    },
                    hash,
                )?;
                (output.finish()?, None)
            }
            Some(mut source) => {
                let theirs = theirs.as_ref().expect("it was opened with its source");
                let mut join = Join::new(&mut output, &ours.layout, &mut source, &theirs.layout, scope);
                ordered_map(
                    self.threads,
                    &self.stop,
                    || join.next(),
                    || Ok((Opener::default(), Opener::default())),
                    |openers, joined: Vec<Joined>| {
                        let first = joined.first().map_or(0, Joined::number);
                        let part =
                            self.guarded(first, || self.joined(openers, &ours, theirs, target, &joined));
                        openers.0.rest();
                        openers.1.rest();
                        part
                    },
                    |part: Part| {
                        progress(part.rows);
                        result.add(part);
                        Ok(())
                    },
                    hash,
                )?;
                let met = join.source_rows();
                if let Some(scope) = self.scope().filter(|scope| scope.len() as u64 != met) {
                    let error = format!(
                        "its scope names {} organizations, the source has {met} of them",
                        scope.len()
                    );
                    result.file(Check::SourceRows, error);
                }
                (output.finish()?, Some(source.finish()?))
            }
        };
        self.check_files(&mut result, &output_file, source_file.as_ref());
        Ok(VerifyReport {
            command: "verify",
            rows: result.rows,
            fields_opened: result.fields_opened,
            target_key_id: target.map(str::to_owned),
            signature: self.signature.as_ref().and_then(|checked| checked.as_ref().ok()).cloned(),
            scope_organizations: self.scope().map(|scope| scope.len() as u64),
            rows_failed_at_rewrap: self
                .manifest
                .as_ref()
                .and_then(|m| m.report.as_ref())
                .map_or(0, |report| report.counts.rows_failed),
            findings_truncated: result.checks.values().map(|c| c.findings).sum::<u64>()
                > result.findings.len() as u64,
            checks: result.checks,
            findings: result.findings,
            missing_keys: result.missing_keys,
            input: output_file,
            source: source_file,
        })
    }

    /// Looks at rows; a panic over them is an error of the file.
    fn guarded(&self, first_row: u64, look: impl FnOnce() -> Part) -> Result<Part, PipelineError> {
        let part: Result<Part, TableError> = guarded_rows(first_row, || Ok(look()));
        part.map_err(|source| PipelineError::Read { file: self.input.name(), source })
    }

    /// The organizations that were selected.
    fn scope(&self) -> Option<&[OrgId]> {
        self.manifest.as_ref().and_then(|m| m.scope.as_deref())
    }

    /// Which checks will be done, and what is off before the first row.
    fn begin_checks(&self, result: &mut Results, ours: &Side, theirs: Option<&Side>, target: Option<&str>) {
        let opens = self.keyring.is_some();
        for (check, done) in [
            (Check::Manifest, self.manifest.is_some()),
            (Check::Signature, self.signature.is_some()),
            (Check::OrganizationIds, true),
            (Check::Envelopes, true),
            (Check::Target, target.is_some()),
            (Check::Opened, opens),
            (Check::KeyFingerprints, self.all_fingerprints_known()),
            (Check::SourceDigests, ours.layout.source_digests.is_some() || theirs.is_some()),
            (
                Check::SourceFile,
                theirs.is_some() && self.manifest.as_ref().is_some_and(|m| m.input.is_some()),
            ),
            (Check::SourceRows, theirs.is_some()),
            (Check::SourcePlaintexts, theirs.is_some() && opens),
            (Check::OtherColumns, theirs.is_some()),
        ] {
            result.checks.insert(check, CheckResult { done, findings: 0 });
        }
        if let Some(Err(error)) = &self.signature {
            result.file(Check::Signature, error.to_string());
        }
        if theirs.is_some() && ours.layout.source_digests.is_none() {
            let what = "the file has no source digests: it is not the output of a re-wrap";
            result.file(Check::SourceDigests, what);
        }
        if let Some(theirs) = theirs {
            let names = |side: &Side| -> Vec<String> {
                let digests = Field::ALL.map(Field::source_digest_column);
                let names = side.schema.fields().iter().map(|f| f.name().clone());
                names.filter(|name| !digests.contains(&name.as_str())).collect()
            };
            if names(ours) != names(theirs) {
                result.file(Check::OtherColumns, "its columns are not those of the source");
            }
        }
        if let (Some(keyring), Some(manifest)) = (self.keyring, &self.manifest) {
            for told in &manifest.keys {
                let key = keyring.position(told.key_id.as_str()).map(|at| &keyring.keys()[at]);
                if key.is_some_and(|key| key.fingerprint() != told.fingerprint) {
                    let id = printable(told.key_id.as_str());
                    let error = format!("key {id} is another key here than it was when the file was written");
                    result.file(Check::KeyFingerprints, error);
                }
            }
        }
    }

    /// What the files as wholes are told to be.
    fn check_files(&self, result: &mut Results, output: &TableFile, source: Option<&TableFile>) {
        let Some(manifest) = &self.manifest else { return };
        let facts = |f: &TableFile| FileFacts { bytes: f.bytes, sha256: f.sha256 };
        if let Err(error) = manifest.check_output(&output.file, facts(output), output.rows) {
            result.file(Check::Manifest, error.to_string());
        }
        for contradiction in contradictions(manifest) {
            result.file(Check::Manifest, format!("the manifest contradicts itself: {contradiction}"));
        }
        if let (Some(source), Some(told)) = (source, &manifest.input)
            && (facts(source) != facts(told) || source.rows != told.rows)
        {
            result.file(
                Check::SourceFile,
                format!("{} is not the file that the manifest names as its input", source.file),
            );
        }
    }

    /// Whether every key that the manifest names was given, so that all are compared.
    fn all_fingerprints_known(&self) -> bool {
        let (Some(keyring), Some(manifest)) = (self.keyring, &self.manifest) else { return false };
        let known = |told: &crate::manifest::KeyUse| keyring.position(told.key_id.as_str()).is_some();
        !manifest.keys.is_empty() && manifest.keys.iter().all(known)
    }

    fn alone(
        &self,
        opener: &mut Opener,
        ours: &Side,
        target: Option<&str>,
        first_row: u64,
        batch: &RecordBatch,
    ) -> Part {
        let mut part = Part::default();
        for i in 0..batch.num_rows() {
            let place = Place { batch: batch.clone(), row: i, number: first_row + i as u64 };
            self.row(opener, ours, target, &place, &mut part);
        }
        part
    }

    /// The checks that need one row of the output alone. Its opened fields stay in `opener`.
    fn row(&self, opener: &mut Opener, ours: &Side, target: Option<&str>, place: &Place, part: &mut Part) {
        let layout = &ours.layout;
        part.rows += 1;
        if !OrgId::is_valid(place.organization_id(layout)) {
            let what = crate::row::BadOrgId.to_string();
            part.find(Check::OrganizationIds, place, layout, crate::row::ORGANIZATION_ID, what);
        }
        for field in Field::ALL {
            let text = place.field(layout, field);
            opener.fields[field.index()] = Opened::Absent;
            if let Some(digests) = layout.source_digests {
                let digest = place.text(digests[field.index()]);
                let good = match digest {
                    Some(digest) => text.is_some() && digest.parse::<SourceDigest>().is_ok(),
                    None => text.is_none(),
                };
                if !good {
                    let what =
                        format!("it must be a SHA-256 in hex exactly where {} has a value", field.column());
                    part.find(Check::SourceDigests, place, layout, field.source_digest_column(), what);
                }
            }
            let Some(text) = text else { continue };
            opener.fields[field.index()] = Opened::No;
            let envelope = match independent::read(text) {
                Ok(envelope) => envelope,
                Err(error) => {
                    part.find(Check::Envelopes, place, layout, field.column(), error.to_string());
                    continue;
                }
            };
            if target.is_some_and(|target| target != envelope.key_id) {
                let what = format!("it names key {}, not the target", printable(&envelope.key_id));
                part.find(Check::Target, place, layout, field.column(), what);
            }
            let Some(keyring) = self.keyring else { continue };
            if keyring.position(&envelope.key_id).is_none() {
                add_bounded(&mut part.missing_keys, &printable(&envelope.key_id), 1);
            }
            match open(keyring, &envelope, &mut opener.plaintexts[field.index()]) {
                Ok(()) => {
                    opener.fields[field.index()] = Opened::Yes;
                    part.fields_opened += 1;
                }
                Err(what) => part.find(Check::Opened, place, layout, field.column(), what),
            }
        }
    }

    fn joined(
        &self,
        (out, src): &mut (Opener, Opener),
        ours: &Side,
        theirs: &Side,
        target: Option<&str>,
        joined: &[Joined],
    ) -> Part {
        let mut part = Part::default();
        let others = other_columns(&ours.schema, &theirs.schema);
        for item in joined {
            let (output, source, moved) = match item {
                Joined::Missing(source) => {
                    let what = "the source has this row, the file does not";
                    part.find(Check::SourceRows, source, &theirs.layout, "", what);
                    continue;
                }
                Joined::Extra(output) => {
                    self.row(out, ours, target, output, &mut part);
                    part.find(
                        Check::SourceRows,
                        output,
                        &ours.layout,
                        "",
                        "the source, within the scope, has no such row",
                    );
                    continue;
                }
                Joined::GaveUp(output) => {
                    let what = "from here on too many rows are out of place to be compared";
                    part.find(Check::SourceRows, output, &ours.layout, "", what);
                    continue;
                }
                Joined::Both { output, source, moved } => (output, source, moved),
            };
            self.row(out, ours, target, output, &mut part);
            if *moved {
                part.find(
                    Check::SourceRows,
                    output,
                    &ours.layout,
                    "",
                    "it does not stand where the source has it",
                );
            }
            for field in Field::ALL {
                self.compare_field(field, out, src, (ours, output), (theirs, source), &mut part);
            }
            for (a, b) in &others {
                if !output.same_value(*a, source, *b) {
                    let name = printable(ours.schema.field(*a).name());
                    part.find(
                        Check::OtherColumns,
                        output,
                        &ours.layout,
                        &name,
                        "its value is not the source's",
                    );
                }
            }
        }
        part
    }

    fn compare_field(
        &self,
        field: Field,
        out: &Opener,
        src: &mut Opener,
        (ours, output): (&Side, &Place),
        (theirs, source): (&Side, &Place),
        part: &mut Part,
    ) {
        let (new, old) = (output.field(&ours.layout, field), source.field(&theirs.layout, field));
        if new.is_some() != old.is_some() {
            let what =
                if new.is_some() { "the source has no value here" } else { "the source has a value here" };
            part.find(Check::SourceDigests, output, &ours.layout, field.column(), what);
            return;
        }
        let (Some(new), Some(old)) = (new, old) else { return };
        if let Some(digests) = ours.layout.source_digests {
            let digest = output.text(digests[field.index()]);
            // An output re-wrapped again keeps the digests: they describe what the database holds.
            let expected = match theirs.layout.source_digests {
                Some(kept) => source.text(kept[field.index()]).map(str::to_owned),
                None => Some(SourceDigest::of(old).to_string()),
            };
            if digest != expected.as_deref() {
                let what = "it is not the digest of the source's text";
                part.find(Check::SourceDigests, output, &ours.layout, field.source_digest_column(), what);
            }
        }
        let Some(keyring) = self.keyring else { return };
        let same = if new == old {
            true
        } else {
            let plaintext = &mut src.plaintexts[field.index()];
            match independent::read(old).map_err(|e| e.to_string()).and_then(|e| open(keyring, &e, plaintext))
            {
                Err(what) => {
                    let what = format!("the source's own value: {what}");
                    part.find(Check::SourcePlaintexts, output, &ours.layout, field.column(), what);
                    return;
                }
                // What did not open has its finding already, and no plaintext to compare.
                Ok(()) if out.fields[field.index()] != Opened::Yes => return,
                Ok(()) => plaintext.expose_plaintext() == out.plaintexts[field.index()].expose_plaintext(),
            }
        };
        if !same {
            let what = "it opens to another plaintext than the source's";
            part.find(Check::SourcePlaintexts, output, &ours.layout, field.column(), what);
        }
    }
}

/// What does not add up within a manifest: somebody changed it, or it is not ours.
pub(crate) fn contradictions(manifest: &Manifest) -> Vec<&'static str> {
    let mut found = Vec::new();
    let mut must = |holds: bool, what| {
        if !holds {
            found.push(what);
        }
    };
    if let Some(scope) = &manifest.scope {
        let different: std::collections::HashSet<_> = scope.iter().collect();
        must(different.len() == scope.len(), "its scope names an organization twice");
        must(manifest.output.rows <= scope.len() as u64, "the file has more rows than its scope");
    }
    let Some(report) = &manifest.report else { return found };
    let counts = &report.counts;
    let target = manifest.target_key_id.as_ref();
    must(target == Some(&report.current_encryption_key_id), "its target is not its report's");
    must(manifest.keys.iter().any(|key| Some(&key.key_id) == target), "its target is not among its keys");
    must(report.output.as_ref() == Some(&manifest.output), "its output is not its report's");
    must(Some(&report.input) == manifest.input.as_ref(), "its input is not its report's");
    must(!report.dry_run, "it is of a dry run, which writes no file");
    must(counts.rows_examined == manifest.output.rows, "its report counts other rows than the file has");
    let sum = counts.rows_updated.checked_add(counts.rows_skipped_all_on_target);
    let sum = sum.and_then(|sum| sum.checked_add(counts.rows_failed));
    must(sum == Some(counts.rows_examined), "the rows of its report do not add up");
    let listed = report.failures.is_empty() == (counts.rows_failed == 0);
    must(listed, "its report's failures are not those that it counts");
    must(
        manifest.seals.this_run >= counts.fields_reencrypted,
        "fewer seals than fields that were re-encrypted",
    );
    found
}

/// The columns beside the ciphertexts and the source digests, in both tables by name.
fn other_columns(ours: &Schema, theirs: &Schema) -> Vec<(usize, usize)> {
    let known =
        |name: &str| Field::ALL.iter().any(|f| f.column() == name || f.source_digest_column() == name);
    let fields = ours.fields().iter().enumerate().filter(|(_, f)| !known(f.name()));
    fields
        .filter_map(|(i, f)| {
            // With a name that stands twice, the first stands for the first, and so on.
            let nth = ours.fields()[..i].iter().filter(|g| g.name() == f.name()).count();
            let mut same = theirs.fields().iter().enumerate().filter(|(_, g)| g.name() == f.name());
            same.nth(nth).map(|(j, _)| (i, j))
        })
        .collect()
}

fn open(keyring: &Keyring, envelope: &OwnedEnvelope, into: &mut Plaintext) -> Result<(), String> {
    let id = printable(&envelope.key_id);
    let Some(at) = keyring.position(&envelope.key_id) else {
        return Err(format!("names key {id}, which is in none of the secrets given"));
    };
    let cipher = keyring.keys()[at].cipher();
    cipher.open_into(&envelope.nonce, &envelope.ciphertext, into).map_err(|e| format!("{e} ({id})"))
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Opened {
    #[default]
    Absent,
    No,
    Yes,
}

/// One thread's opened fields of one row.
#[derive(Default)]
struct Opener {
    fields: [Opened; 3],
    plaintexts: [Plaintext; 3],
}

impl Opener {
    /// Leaves no plaintext behind when the next rows may be long in coming.
    fn rest(&mut self) {
        for plaintext in &mut self.plaintexts {
            plaintext.clear_for(0);
        }
        wipe_stack();
    }
}

impl Place {
    fn text(&self, column: usize) -> Option<&str> {
        Text::of(self.batch.column(column)).and_then(|text| text.get(self.row))
    }

    fn organization_id(&self, layout: &Layout) -> &str {
        self.text(layout.organization_id).unwrap_or_default()
    }

    /// The ciphertext, unless it is absent.
    fn field(&self, layout: &Layout, field: Field) -> Option<&str> {
        self.text(layout.fields[field.index()]).filter(|text| !is_absent(Some(text)))
    }

    /// Whether a row of an output has the value of its source in a column, in the form in which the
    /// output's format has it: a number is text in CSV, and a dictionary may have become plain.
    fn same_value(&self, column: usize, source: &Place, source_column: usize) -> bool {
        // (A dictionary may have its nulls among its values, and the same value at two places.)
        let plain = |array: ArrayRef| match table::without_dictionaries(array.data_type()) {
            plain if plain != *array.data_type() => arrow::compute::cast(&array, &plain).unwrap_or(array),
            _ => array,
        };
        let ours = plain(self.batch.column(column).slice(self.row, 1));
        let mut theirs = plain(source.batch.column(source_column).slice(source.row, 1));
        if ours.data_type() != theirs.data_type() {
            let text = Text::of(&ours).is_some() && Text::of(&theirs).is_none();
            let schema = source.batch.schema_ref();
            let spelled = if text { table::spell(&theirs, schema.field(source_column)).ok() } else { None };
            // (Text that was run-end encoded has become plain, and has no spelling.)
            let converted = spelled.or_else(|| arrow::compute::cast(&theirs, ours.data_type()).ok());
            theirs = converted.unwrap_or(theirs);
        }
        match (Text::of(&ours), Text::of(&theirs)) {
            // CSV knows no empty text, only null.
            (Some(ours), Some(theirs)) => {
                ours.get(0).unwrap_or_default() == theirs.get(0).unwrap_or_default()
            }
            _ => ours.to_data() == theirs.to_data(),
        }
    }
}

#[derive(Default)]
struct Results {
    rows: u64,
    missing_keys: BTreeMap<String, u64>,
    fields_opened: u64,
    checks: BTreeMap<Check, CheckResult>,
    findings: Vec<Finding>,
}

impl Results {
    fn find(&mut self, finding: Finding) {
        self.checks.entry(finding.check).or_default().findings += 1;
        if self.findings.len() < LISTED_MAX {
            self.findings.push(finding);
        }
    }

    /// Something that is off with the file as a whole.
    fn file(&mut self, check: Check, error: impl Into<String>) {
        let (organization_id, field) = (String::new(), String::new());
        self.find(Finding { check, organization_id, field, error: error.into() });
    }

    fn add(&mut self, part: Part) {
        self.rows += part.rows;
        self.fields_opened += part.fields_opened;
        part.missing_keys.iter().for_each(|(key, n)| add_bounded(&mut self.missing_keys, key, *n));
        part.findings.into_iter().for_each(|finding| self.find(finding));
    }
}
