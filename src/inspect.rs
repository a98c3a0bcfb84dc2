//! Counting what an export holds, without a key: fields and rows by the key that they name.
//!
//! It owns the check before a key is removed ([`InspectReport::answer`]). It opens nothing; an
//! envelope that cannot be read counts as malformed, since nobody can say which key it names.

use crate::envelope::{self, Scratch};
use crate::manifest::TableFile;
use crate::parallel::ordered_map;
use crate::pipeline::{ExportReader, PipelineError, row_at};
use crate::report::{Failure, LISTED_MAX};
use crate::row::{Field, KeyId, is_absent, printable};
use crate::stop::Stop;
use crate::table::{Format, Input, Layout};
use serde::Serialize;
use std::collections::{BTreeMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};

/// Key ids that are counted one by one; a file that names more than these is no site's.
const KEY_IDS_MAX: usize = 10_000;

/// Where the fields of further key ids are counted.
const OTHER_KEY_IDS: &str = "(other key ids)";

/// The report of `rekek inspect`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct InspectReport {
    /// Always `inspect`.
    pub command: &'static str,
    /// Rows read.
    pub rows: u64,
    /// Fields with ciphertext.
    pub fields: u64,
    /// Well-formed fields by the key id that they name.
    pub fields_by_key: BTreeMap<String, u64>,
    /// Rows by the key ids that their fields name; a row with two keys counts under both.
    pub rows_by_key: BTreeMap<String, u64>,
    /// Fields that are no envelope.
    pub malformed: u64,
    /// The first of them.
    pub failures: Vec<Failure>,
    /// Whether there were more.
    pub failures_truncated: bool,
    /// Fields whose key id and nonce an earlier field has too; null where it was not asked for.
    pub repeated_nonces: Option<u64>,
    /// For each key asked about: fields that still name it.
    pub retired: BTreeMap<String, u64>,
    /// Whether the file has source digests: it was written by a re-wrap, and says nothing of what
    /// the database holds.
    pub is_rewrap_output: bool,
    /// What was read.
    pub input: TableFile,
}

impl InspectReport {
    /// Why the answer to what was asked is no; `None` where it is yes.
    pub fn answer(&self) -> Option<String> {
        let mut no = Vec::new();
        for (key, fields) in self.retired.iter().filter(|(_, fields)| **fields > 0) {
            no.push(format!("key {} is still in use: {fields} fields name it", printable(key)));
        }
        if !self.retired.is_empty() && self.malformed > 0 {
            no.push(format!(
                "{} envelopes are malformed, and nobody can say which key they name",
                self.malformed
            ));
        }
        if self.repeated_nonces.is_some_and(|n| n > 0) {
            let n = self.repeated_nonces.unwrap_or_default();
            no.push(format!("{n} fields repeat a nonce under the same key"));
        }
        (!no.is_empty()).then(|| no.join("; "))
    }
}

/// What to look at.
pub struct Inspection {
    /// The table.
    pub input: Input,
    /// Its format, where its name does not tell.
    pub input_format: Option<Format>,
    /// Keys about to be removed.
    pub retired: Vec<KeyId>,
    /// Whether to look for repeated nonces; 16 bytes a field are kept for it, with the hash
    /// table's free space up to 40.
    pub nonces: bool,
    /// Threads.
    pub threads: usize,
    /// Ends the run early.
    pub stop: Stop,
}

#[derive(Default)]
struct Counts {
    rows: u64,
    fields: u64,
    fields_by_key: BTreeMap<String, u64>,
    rows_by_key: BTreeMap<String, u64>,
    retired: Vec<u64>,
    malformed: u64,
    failures: Vec<Failure>,
    /// Keyed hashes of (key id, nonce).
    nonces: Vec<(u64, u64)>,
}

impl Inspection {
    /// Reads the table and counts; `progress` is told of rows.
    pub fn run(&self, mut progress: impl FnMut(u64) + Send) -> Result<InspectReport, PipelineError> {
        let mut source = ExportReader::open(&self.input, self.input_format, &self.stop)?;
        let layout = Layout::of(source.reader.schema()).map_err(|e| source.fail(e))?;
        let hashers = (RandomState::new(), RandomState::new());
        let mut total = Counts { retired: vec![0; self.retired.len()], ..Counts::default() };
        let mut seen = HashSet::new();
        let mut repeated = 0u64;
        ordered_map(
            self.threads,
            &self.stop,
            || source.next(),
            || Ok(Scratch::default()),
            |scratch, (first_row, batch)| {
                let texts = layout.texts(&batch);
                let mut counts = Counts { retired: vec![0; self.retired.len()], ..Counts::default() };
                for i in 0..batch.num_rows() {
                    let row = row_at(&texts, first_row, i);
                    counts.rows += 1;
                    let mut keys_of_row: Vec<String> = Vec::new();
                    for field in Field::ALL {
                        let Some(text) = row.fields[field.index()].filter(|t| !is_absent(Some(t))) else {
                            continue;
                        };
                        counts.fields += 1;
                        match envelope::read(text, scratch) {
                            Ok(envelope) => {
                                self.count_key(envelope.key_id, &mut counts, &mut keys_of_row);
                                if self.nonces {
                                    let pair = (envelope.key_id, envelope.nonce);
                                    counts.nonces.push((hashers.0.hash_one(pair), hashers.1.hash_one(pair)));
                                }
                            }
                            Err(error) => {
                                counts.malformed += 1;
                                counts.failures.push(Failure {
                                    organization_id: printable(row.organization_id),
                                    field: field.column().to_owned(),
                                    error: format!("row {}: {error}", row.number),
                                });
                            }
                        }
                    }
                    for key in keys_of_row {
                        *counts.rows_by_key.entry(key).or_default() += 1;
                    }
                }
                Ok::<_, PipelineError>(counts)
            },
            |counts| {
                progress(counts.rows);
                repeated += counts.nonces.iter().filter(|pair| !seen.insert(**pair)).count() as u64;
                total.add(counts);
                Ok(())
            },
        )?;
        let input = source.finish()?;
        let retired = self.retired.iter().zip(&total.retired).map(|(key, n)| (key.as_str().to_owned(), *n));
        Ok(InspectReport {
            command: "inspect",
            rows: total.rows,
            fields: total.fields,
            fields_by_key: total.fields_by_key,
            rows_by_key: total.rows_by_key,
            failures_truncated: total.malformed > total.failures.len() as u64,
            malformed: total.malformed,
            failures: total.failures,
            repeated_nonces: self.nonces.then_some(repeated),
            retired: retired.collect(),
            is_rewrap_output: layout.source_digests.is_some(),
            input,
        })
    }

    fn count_key(&self, key_id: &str, counts: &mut Counts, keys_of_row: &mut Vec<String>) {
        for (retired, n) in self.retired.iter().zip(&mut counts.retired) {
            *n += u64::from(retired.as_str() == key_id);
        }
        let name = if key_id.len() <= 255 { key_id.to_owned() } else { printable(key_id) };
        add_bounded(&mut counts.fields_by_key, &name, 1);
        if !keys_of_row.contains(&name) {
            keys_of_row.push(name);
        }
    }
}

impl Counts {
    fn add(&mut self, part: Counts) {
        self.rows += part.rows;
        self.fields += part.fields;
        self.malformed += part.malformed;
        part.fields_by_key.iter().for_each(|(key, n)| add_bounded(&mut self.fields_by_key, key, *n));
        part.rows_by_key.iter().for_each(|(key, n)| add_bounded(&mut self.rows_by_key, key, *n));
        self.retired.iter_mut().zip(part.retired).for_each(|(sum, n)| *sum += n);
        let room = LISTED_MAX - self.failures.len();
        self.failures.extend(part.failures.into_iter().take(room));
    }
}

/// Adds to a key id's count; a hostile file cannot make the map grow without end.
fn add_bounded(map: &mut BTreeMap<String, u64>, key: &str, n: u64) {
    if let Some(count) = map.get_mut(key) {
        *count += n;
    } else if map.len() < KEY_IDS_MAX {
        map.insert(key.to_owned(), n);
    } else {
        *map.entry(OTHER_KEY_IDS.to_owned()).or_default() += n;
    }
}
