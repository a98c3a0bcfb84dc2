//! Which keys the database's envelopes name: the check before a key is removed.
//!
//! It counts, in one snapshot, with memory bounded by a batch and by the number of key ids.

use super::connect::Database;
use super::report::InspectReport;
use super::{SiteError, Watch, block_on, export};
use crate::envelope::independent;
use crate::report::{Failure, LISTED_MAX};
use crate::row::{Field, KeyId, printable};
use crate::stop::Stop;
use std::collections::BTreeMap;
use std::time::Instant;

/// Key ids that are counted one by one; a database that names more than these is no site's.
const KEY_IDS_MAX: usize = 10_000;

/// Where further key ids are counted.
const OTHER_KEY_IDS: &str = "(other key ids)";

fn count(counts: &mut BTreeMap<String, u64>, key: &str) {
    if let Some(n) = counts.get_mut(key) {
        *n += 1;
    } else {
        let key = if counts.len() < KEY_IDS_MAX { key } else { OTHER_KEY_IDS };
        *counts.entry(key.to_owned()).or_default() += 1;
    }
}

/// Counts fields and rows by key id; `retired` are the keys that shall not be named any more.
pub fn run(
    database: &Database,
    retired: &[KeyId],
    stop: &Stop,
    watch: &dyn Watch,
) -> Result<InspectReport, SiteError> {
    let started = Instant::now();
    let (mut rows, mut fields, mut malformed) = (0, 0, 0);
    let mut failures = Vec::new();
    let mut fields_by_key = BTreeMap::<String, u64>::new();
    let mut rows_by_key = BTreeMap::<String, u64>::new();
    let mut named: Vec<u64> = retired.iter().map(|_| 0).collect();
    let mut sink = |batch: export::ExportedBatch| {
        for (id, row) in batch.fields() {
            rows += 1;
            let mut keys: Vec<String> = Vec::with_capacity(3);
            for (field, text) in Field::ALL.into_iter().zip(row) {
                let Some(text) = text else { continue };
                fields += 1;
                match independent::read(text) {
                    Ok(envelope) => {
                        let key = envelope.key_id;
                        for (retired, fields) in retired.iter().zip(&mut named) {
                            *fields += u64::from(retired.as_str() == key);
                        }
                        let key = if key.len() <= 255 { key } else { printable(&key) };
                        count(&mut fields_by_key, &key);
                        if !keys.contains(&key) {
                            keys.push(key);
                        }
                    }
                    Err(error) => {
                        malformed += 1;
                        if failures.len() < LISTED_MAX {
                            failures.push(Failure {
                                organization_id: printable(id),
                                field: field.column().into(),
                                error: error.to_string(),
                            });
                        }
                    }
                }
            }
            keys.iter().for_each(|key| count(&mut rows_by_key, key));
        }
        Ok(())
    };
    let snapshot = block_on(export::read(database, None, stop, watch, &mut sink))?;
    Ok(InspectReport {
        command: "inspect".into(),
        rows,
        fields,
        retired: retired.iter().cloned().zip(named).collect(),
        fields_by_key,
        rows_by_key,
        failures_truncated: malformed > failures.len() as u64,
        malformed,
        failures,
        snapshot,
        elapsed_seconds: started.elapsed().as_secs_f64(),
    })
}
