//! `rekek inspect`: which keys an export's envelopes name, counted without a key; and nonces that
//! stand twice under one key. What is counted, and the check before a key is removed, is
//! [`crate::census`]'s.

use crate::census::Census;
use crate::envelope::{self, Scratch};
use crate::manifest::{Manifest, TableFile};
use crate::parallel::ordered_map;
use crate::pipeline::{ExportBatch, ExportReader, PipelineError, row_at};
use crate::report::Failure;
use crate::row::{Field, KeyId, OrgId, is_absent, printable_org_id};
use crate::stop::Stop;
use crate::table::{FileFacts, Format, Input, Layout, TableError, guarded_rows};
use serde::Serialize;
use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};

/// The report of `rekek inspect`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct InspectReport {
    /// Always `inspect`.
    pub command: &'static str,
    /// The counts.
    #[serde(flatten)]
    pub census: Census,
    /// Fields whose key id and nonce an earlier field has too; null where it was not asked for.
    pub repeated_nonces: Option<u64>,
    /// Whether the file has source digests: it was written by a re-wrap, and says nothing of what
    /// the database holds.
    pub is_rewrap_output: bool,
    /// Whether a manifest was beside the file: then it is the file that the manifest describes.
    pub manifest_checked: bool,
    /// The organizations that were selected when the file was made, as its manifest has them: then it tells
    /// nothing of any other. Null where it has all of them, or where there is no manifest.
    pub scope: Option<Vec<OrgId>>,
    /// What was read.
    pub input: TableFile,
}

impl InspectReport {
    /// Why the answer to what was asked is no; `None` where it is yes.
    pub fn answer(&self) -> Option<String> {
        let partial = self.scope.as_ref().filter(|_| !self.census.retired.is_empty());
        let partial = partial.map(|scope| {
            format!(
                "the file has selected organizations only ({}), and cannot say that no other names the key: inspect an \
                 export of all of them, or the database",
                scope.len()
            )
        });
        let nonces = self.repeated_nonces.filter(|n| *n > 0);
        let nonces = nonces.map(|n| format!("{n} fields repeat a nonce under the same key"));
        let no: Vec<_> = self.census.answer().into_iter().chain(partial).chain(nonces).collect();
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

impl Inspection {
    /// Reads the table and counts; `progress` is told of rows.
    pub fn run(&self, mut progress: impl FnMut(u64) + Send) -> Result<InspectReport, PipelineError> {
        let manifest = Manifest::beside(&self.input)?;
        let mut source = ExportReader::open(&self.input, self.input_format, &self.stop)?;
        let layout = Layout::of(source.reader.schema()).map_err(|e| source.fail(e))?;
        let hashers = (RandomState::new(), RandomState::new());
        let mut census = Census::new(&self.retired);
        let mut seen = HashSet::new();
        let mut repeated = 0u64;
        let digest = source.digest();
        ordered_map(
            self.threads,
            &self.stop,
            || source.next(),
            || Ok(Scratch::default()),
            |scratch, ExportBatch { first_row, rows: batch, .. }| {
                let mut part = Census::new(&self.retired);
                // Keyed hashes of (key id, nonce).
                let mut nonces: Vec<(u64, u64)> = Vec::new();
                guarded_rows(first_row, || {
                    let texts = layout.texts(&batch);
                    for i in 0..batch.num_rows() {
                        let row = row_at(&texts, first_row, i);
                        part.row(|counted| {
                            for field in Field::ALL {
                                let text = row.fields[field.index()].filter(|text| !is_absent(Some(text)));
                                let Some(text) = text else { continue };
                                match envelope::read(text, scratch) {
                                    Ok(envelope) => {
                                        counted.names(envelope.key_id);
                                        if self.nonces {
                                            let pair = (envelope.key_id, envelope.nonce);
                                            nonces.push((hashers.0.hash_one(pair), hashers.1.hash_one(pair)));
                                        }
                                    }
                                    Err(error) => counted.malformed(Failure {
                                        organization_id: printable_org_id(row.organization_id),
                                        field: field.column().to_owned(),
                                        error: format!("row {}: {error}", row.number),
                                    }),
                                }
                            }
                        });
                    }
                    Ok::<_, TableError>(())
                })
                .map_err(|source| PipelineError::Read { file: self.input.name(), source })?;
                Ok((part, nonces))
            },
            |(part, nonces)| {
                progress(part.rows);
                repeated += nonces.iter().filter(|pair| !seen.insert(**pair)).count() as u64;
                census.add(part);
                Ok(())
            },
            || digest.work(),
        )?;
        let input = source.finish()?;
        if let Some(manifest) = &manifest {
            let facts = FileFacts { bytes: input.bytes, sha256: input.sha256 };
            manifest.check_output(&self.input.name(), facts, input.rows)?;
        }
        Ok(InspectReport {
            command: "inspect",
            census,
            manifest_checked: manifest.is_some(),
            repeated_nonces: self.nonces.then_some(repeated),
            is_rewrap_output: layout.source_digests.is_some(),
            scope: manifest.and_then(|manifest| manifest.scope),
            input,
        })
    }
}
