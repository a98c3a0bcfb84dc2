//! Which keys the database's envelopes name: the check before a key is removed.
//!
//! It counts, in one snapshot, with memory bounded by a batch and by the number of key ids.

use super::connect::Database;
use super::report::InspectReport;
use super::{SiteError, Watch, block_on, export};
use crate::census::Census;
use crate::envelope::independent;
use crate::report::Failure;
use crate::row::{Field, KeyId, printable_org_id};
use crate::stop::Stop;
use std::time::Instant;

/// Counts fields and rows by key id; `retired` are the keys that shall not be named any more.
pub fn run(
    database: &Database,
    retired: &[KeyId],
    stop: &Stop,
    watch: &dyn Watch,
) -> Result<InspectReport, SiteError> {
    let started = Instant::now();
    let mut census = Census::new(retired);
    let mut sink = |batch: export::ExportedBatch| {
        for (id, fields) in batch.fields() {
            census.row(|row| {
                for (field, text) in Field::ALL.into_iter().zip(fields) {
                    match text.map(independent::read) {
                        None => {}
                        Some(Ok(envelope)) => row.names(&envelope.key_id),
                        Some(Err(error)) => row.malformed(Failure {
                            organization_id: printable_org_id(id),
                            field: field.column().into(),
                            error: error.to_string(),
                        }),
                    }
                }
            });
        }
        Ok(())
    };
    let snapshot = block_on(export::read(database, None, stop, watch, &mut sink))?;
    Ok(InspectReport {
        command: "inspect".into(),
        census,
        snapshot,
        elapsed_seconds: started.elapsed().as_secs_f64(),
    })
}
