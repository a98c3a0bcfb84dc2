//! A batch of an export → a batch of the output, with what was counted on the way.
//!
//! It owns the columns of an output. Into a [`VerifiedBatch`] goes a new text only out of a
//! [`VerifiedRow`]; every other value is the export's own.

use crate::census::add_bounded;
use crate::report::{Failure, RewrapCounts};
use crate::rewrap::{Failed, Outcome, Reason, Rewrapper, Row, VerifiedRow, Work};
use crate::row::{Field, OrgId, Sha256Digest, SourceDigest, is_absent, printable_org_id};
use crate::table::{
    COLUMNS_MAX, Layout, TableError, TableRows, TextBuilder, Texts, guarded_rows, plain_text_type,
};
use arrow::array::{Array, BooleanArray, RecordBatch};
use arrow::datatypes::{DataType, Field as Column, Schema, SchemaRef};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

/// The organizations that were selected.
pub type Scope = HashSet<OrgIdText>;

/// An organization id as a key to look up by text.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OrgIdText(pub OrgId);

impl std::borrow::Borrow<str> for OrgIdText {
    fn borrow(&self) -> &str {
        self.0.as_str()
    }
}

/// From an export's columns to an output's.
pub struct Columns {
    layout: Layout,
    schema: SchemaRef,
}

impl Columns {
    /// The columns of the output of a table with this schema.
    pub fn of(schema: &Schema) -> Result<Columns, TableError> {
        let layout = Layout::of(schema)?;
        let mut columns: Vec<_> = schema.fields().iter().cloned().collect();
        for index in layout.fields {
            let column = columns[index].as_ref();
            let plain =
                column.clone().with_data_type(plain_text_type(column.data_type())).with_nullable(true);
            columns[index] = Arc::new(plain);
        }
        if layout.source_digests.is_none() {
            let digests =
                Field::ALL.map(|f| Arc::new(Column::new(f.source_digest_column(), DataType::Utf8, true)));
            columns.extend(digests);
        }
        if columns.len() > COLUMNS_MAX {
            return Err(TableError::Table(format!(
                "its output would have {} columns, the source digests with them, and more than {COLUMNS_MAX} are \
                 not read; leave some of the other columns out of the export",
                columns.len()
            )));
        }
        let schema = Arc::new(Schema::new_with_metadata(columns, schema.metadata().clone()));
        Ok(Columns { layout, schema })
    }

    /// Whether the export has source digests, which are kept as they are.
    pub fn keeps_source_digests(&self) -> bool {
        self.layout.source_digests.is_some()
    }

    /// The output's schema.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }
}

/// Rows that all came through the round trip, or are as the export had them.
pub struct VerifiedBatch(RecordBatch);

impl TableRows for VerifiedBatch {
    fn records(&self) -> &RecordBatch {
        &self.0
    }
}

/// What became of a batch.
pub struct Done {
    /// The rows of the output.
    pub rows: VerifiedBatch,
    /// Rows of the export, selected or not.
    pub rows_read: u64,
    /// The counters.
    pub counts: RewrapCounts,
    /// Every failure, in order.
    pub failures: Vec<Failure>,
    /// Fields of rows that did not fail, by the place in the keyring of the key they named.
    pub by_source: Vec<u64>,
    /// Fields that name a key which was not given, by its id.
    pub missing_keys: BTreeMap<String, u64>,
    /// Seals, openings.
    pub work: Work,
    /// The organizations of the scope that were met.
    pub met: Vec<OrgId>,
}

/// Re-wraps a batch. `first_row` is the number of its first row, `target` the target's place in
/// the keyring of `keys` keys.
pub fn rewrap(
    rewrapper: &mut Rewrapper<'_>,
    columns: &Columns,
    scope: Option<&Scope>,
    target: usize,
    first_row: u64,
    batch: &RecordBatch,
) -> Result<Done, super::PipelineError> {
    guarded_rows(first_row, || rewrap_rows(rewrapper, columns, scope, target, first_row, batch))
}

fn rewrap_rows(
    rewrapper: &mut Rewrapper<'_>,
    columns: &Columns,
    scope: Option<&Scope>,
    target: usize,
    first_row: u64,
    batch: &RecordBatch,
) -> Result<Done, super::PipelineError> {
    let texts = columns.layout.texts(batch);
    let keys = rewrapper.work.opened.len();
    let mut done = Tally { by_source: vec![0; keys], ..Tally::default() };
    let mut new = NewColumns::new(columns, &texts, batch.num_rows());
    let mut selected = Vec::with_capacity(if scope.is_some() { batch.num_rows() } else { 0 });
    for i in 0..batch.num_rows() {
        let row = row_at(&texts, first_row, i);
        if let Some(scope) = scope {
            let id = scope.get(row.organization_id);
            selected.push(id.is_some());
            match id {
                Some(id) => done.met.push(id.0.clone()),
                None => {
                    rewrapper.pass_over(&row)?;
                    // What is wrong with the file is wrong whatever is selected of it.
                    if texts.source_digests.is_some() {
                        new.source_digests(&texts, i, &row)?;
                    }
                    continue;
                }
            }
        }
        let digests = new.source_digests(&texts, i, &row)?;
        match rewrapper.row(&row)? {
            Ok(verified) => {
                done.verified(&verified, target);
                new.push(&row, Some(&verified), &digests);
            }
            Err(failed) => {
                done.failed(&row, failed);
                new.push(&row, None, &digests);
            }
        }
    }
    let rows = new.finish(columns, batch, scope.is_some().then_some(selected))?;
    rewrapper.rest();
    let work = std::mem::take(&mut rewrapper.work);
    rewrapper.work.opened = vec![0; keys];
    Ok(Done {
        rows: VerifiedBatch(rows),
        rows_read: batch.num_rows() as u64,
        counts: done.counts,
        failures: done.failures,
        missing_keys: done.missing_keys,
        by_source: done.by_source,
        work,
        met: done.met,
    })
}

/// A row of a batch as the rules see it.
pub fn row_at<'a>(texts: &Texts<'a>, first_row: u64, i: usize) -> Row<'a> {
    Row {
        number: first_row + i as u64,
        organization_id: texts.organization_id.get(i).unwrap_or_default(),
        fields: std::array::from_fn(|f| texts.fields[f].get(i)),
        publics: std::array::from_fn(|f| {
            texts.publics[f].as_ref().and_then(|p| p.get(i)).filter(|p| !is_absent(Some(p)))
        }),
    }
}

#[derive(Default)]
struct Tally {
    counts: RewrapCounts,
    failures: Vec<Failure>,
    missing_keys: BTreeMap<String, u64>,
    by_source: Vec<u64>,
    met: Vec<OrgId>,
}

impl Tally {
    fn verified(&mut self, row: &VerifiedRow<'_>, target: usize) {
        let counts = &mut self.counts;
        counts.rows_examined += 1;
        let before = counts.fields_reencrypted;
        for field in Field::ALL {
            match row.outcome(field) {
                Outcome::Absent => counts.fields_absent += 1,
                Outcome::SkippedOnTarget => {
                    counts.fields_skipped_on_target += 1;
                    self.by_source[target] += 1;
                }
                Outcome::Reencrypted { source } => {
                    counts.fields_reencrypted += 1;
                    self.by_source[source] += 1;
                }
            }
        }
        if counts.fields_reencrypted > before {
            counts.rows_updated += 1;
        } else {
            counts.rows_skipped_all_on_target += 1;
        }
    }

    fn failed(&mut self, row: &Row<'_>, failed: Vec<Failed>) {
        self.counts.rows_examined += 1;
        self.counts.rows_failed += 1;
        for failed in &failed {
            if let Reason::UnknownKey { key_id } = &failed.reason {
                add_bounded(&mut self.missing_keys, key_id, 1);
            }
        }
        self.failures.extend(failed.into_iter().map(|failed| Failure {
            organization_id: printable_org_id(row.organization_id),
            field: failed.column.to_owned(),
            error: format!("row {}: {}", row.number, failed.reason),
        }));
    }
}

/// The columns that are written anew.
struct NewColumns {
    fields: [TextBuilder; 3],
    /// Whether anything of the field's column differs from the export's.
    differs: [bool; 3],
    digests: Option<[TextBuilder; 3]>,
}

/// The digests of a row's fields, where they are computed: null where the field is absent.
type Digests = [Option<SourceDigest>; 3];

impl NewColumns {
    fn new(columns: &Columns, texts: &Texts<'_>, rows: usize) -> Self {
        let builder = |f: usize| {
            let index = columns.layout.fields[f];
            let bytes: usize = (0..rows).filter_map(|i| texts.fields[f].get(i)).map(str::len).sum();
            // A new key id or nonce is a few characters longer or shorter, an eighth is plenty.
            TextBuilder::new(columns.schema.field(index).data_type(), rows, bytes + bytes / 8)
        };
        let digest = |_| TextBuilder::new(&DataType::Utf8, rows, rows * 64);
        NewColumns {
            fields: std::array::from_fn(builder),
            differs: [false; 3],
            digests: columns.layout.source_digests.is_none().then(|| std::array::from_fn(digest)),
        }
    }

    /// The source digests of a row; or, where the table has them already, the proof that they are
    /// what they must be: 64 hex digits exactly where a field is present.
    fn source_digests(&self, texts: &Texts<'_>, i: usize, row: &Row<'_>) -> Result<Digests, TableError> {
        let present = |f: usize| row.fields[f].filter(|text| !is_absent(Some(text)));
        let Some(kept) = &texts.source_digests else {
            return Ok(std::array::from_fn(|f| present(f).map(Sha256Digest::of)));
        };
        for field in Field::ALL {
            let f = field.index();
            let good = match (present(f), kept[f].get(i)) {
                (Some(_), Some(digest)) => digest.parse::<SourceDigest>().is_ok(),
                (field, digest) => field.is_none() && digest.is_none(),
            };
            if !good {
                return Err(TableError::Row {
                    row: row.number,
                    what: format!(
                        "{} must be a SHA-256 in hex where {} has a value, and null elsewhere",
                        field.source_digest_column(),
                        field.column()
                    ),
                });
            }
        }
        Ok([None; 3])
    }

    fn push(&mut self, row: &Row<'_>, verified: Option<&VerifiedRow<'_>>, digests: &Digests) {
        for field in Field::ALL {
            let f = field.index();
            let new = verified.and_then(|v| v.new_text(field));
            self.differs[f] |= new.is_some();
            self.fields[f].append(new.or(row.fields[f]));
            if let Some(columns) = &mut self.digests {
                let hex = digests[f].as_ref().map(SourceDigest::hex);
                columns[f].append(hex.as_ref().map(|h| h.as_str()));
            }
        }
    }

    /// The output's batch: the new columns, and all others as they are.
    fn finish(
        self,
        columns: &Columns,
        batch: &RecordBatch,
        selected: Option<Vec<bool>>,
    ) -> Result<RecordBatch, TableError> {
        let arrow = |e: arrow::error::ArrowError| TableError::Table(e.to_string());
        let selected = selected.filter(|s| s.contains(&false)).map(BooleanArray::from);
        let kept = match &selected {
            Some(mask) => arrow::compute::filter_record_batch(batch, mask).map_err(arrow)?,
            None => batch.clone(),
        };
        let rows = kept.num_rows();
        let mut arrays = kept.columns().to_vec();
        let fields = columns.layout.fields.into_iter().zip(self.fields).zip(self.differs);
        for ((index, builder), differs) in fields {
            let same_type = columns.schema.field(index).data_type() == arrays[index].data_type();
            if differs || !same_type {
                arrays[index] = builder.finish();
            }
        }
        arrays.extend(self.digests.into_iter().flatten().map(TextBuilder::finish));
        debug_assert!(arrays.iter().all(|a| a.len() == rows));
        RecordBatch::try_new(Arc::clone(&columns.schema), arrays).map_err(arrow)
    }
}
