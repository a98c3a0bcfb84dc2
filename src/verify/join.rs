//! The rows of an output beside those of its source, by organization id.
//!
//! Both are read once, side by side. As long as they agree nothing is kept; a row that has no
//! partner at its place waits for it, so one that is missing or was added costs the memory of a
//! row, and a file in another order costs up to [`WAITING_MAX`] bytes before it is given up.

use crate::parallel;
use crate::pipeline::{ExportReader, PipelineError, Scope};
use crate::table::{BATCH_ROWS, Layout, Text, bytes_of_batch};
use arrow::array::{RecordBatch, UInt64Array};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Bytes of rows that may wait for their partner.
const WAITING_MAX: usize = 64 << 20;

/// A row: where it stands.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) batch: RecordBatch,
    pub(super) row: usize,
    /// Its number in its file, from 1.
    pub(super) number: u64,
}

/// What became of a row.
pub(super) enum Joined {
    /// In both; `moved` if rows that the source has behind it stood before it in the output.
    Both { output: Place, source: Place, moved: bool },
    /// In the source alone.
    Missing(Place),
    /// In the output alone.
    Extra(Place),
    /// Here the comparison ended: too much is out of place.
    GaveUp(Place),
}

impl Joined {
    fn places(&self) -> impl Iterator<Item = &Place> {
        let (place, other) = match self {
            Joined::Both { output, source, .. } => (output, Some(source)),
            Joined::Missing(place) | Joined::Extra(place) | Joined::GaveUp(place) => (place, None),
        };
        [place].into_iter().chain(other)
    }

    /// The row's number, in the file that it is of; in the output if it is in both.
    pub(super) fn number(&self) -> u64 {
        match self {
            Joined::Both { output: place, .. }
            | Joined::Missing(place)
            | Joined::Extra(place)
            | Joined::GaveUp(place) => place.number,
        }
    }
}

/// One file's rows, one after the other.
struct Rows<'a> {
    reader: &'a mut ExportReader,
    organization_id: usize,
    batch: Option<(u64, RecordBatch)>,
    /// Batches read so far.
    batches: u64,
    at: usize,
    scope: Option<Scope>,
    /// Rows given out: those within the scope.
    met: u64,
    waiting: HashMap<String, Place>,
}

impl<'a> Rows<'a> {
    fn new(reader: &'a mut ExportReader, layout: &Layout, scope: Option<Scope>) -> Self {
        let waiting = HashMap::new();
        let organization_id = layout.organization_id;
        Rows { reader, organization_id, batch: None, batches: 0, at: 0, scope, met: 0, waiting }
    }

    fn next(&mut self) -> Result<Option<(String, Place)>, PipelineError> {
        loop {
            let batch = match &self.batch {
                Some((first, batch)) if self.at < batch.num_rows() => (*first, batch),
                _ => {
                    self.batch = self.reader.next()?.map(|batch| (batch.first_row, batch.rows));
                    self.batches += 1;
                    self.at = 0;
                    match &self.batch {
                        Some((first, batch)) => (*first, batch),
                        None => return Ok(None),
                    }
                }
            };
            let (first, batch) = batch;
            let row = self.at;
            self.at += 1;
            let id =
                Text::of(batch.column(self.organization_id)).and_then(|t| t.get(row)).unwrap_or_default();
            if self.scope.as_ref().is_none_or(|scope| scope.contains(id)) {
                let place = Place { batch: batch.clone(), row, number: first + row as u64 };
                self.met += 1;
                return Ok(Some((id.to_owned(), place)));
            }
        }
    }
}

/// The join: see the module.
pub(super) struct Join<'a> {
    output: Rows<'a>,
    source: Rows<'a>,
    /// Bytes of the rows that wait, on both sides.
    waiting: usize,
    /// The last row of the source, by number, that met its partner.
    last_met: u64,
    ended: bool,
}

impl<'a> Join<'a> {
    pub(super) fn new(
        output: &'a mut ExportReader,
        output_layout: &Layout,
        source: &'a mut ExportReader,
        source_layout: &Layout,
        scope: Option<Scope>,
    ) -> Self {
        Join {
            output: Rows::new(output, output_layout, None),
            source: Rows::new(source, source_layout, scope),
            waiting: 0,
            last_met: 0,
            ended: false,
        }
    }

    /// The next few rows; `None` at the end of both files.
    pub(super) fn next(&mut self) -> Result<Option<Vec<Joined>>, PipelineError> {
        let mut joined = Vec::new();
        // A row keeps its whole batch in memory: what is handed over together holds two a side at
        // the most, however large rows are.
        let batches = self.output.batches + self.source.batches;
        let few = |join: &Self| join.output.batches + join.source.batches <= batches + 2;
        while !self.ended && joined.len() < BATCH_ROWS && (joined.is_empty() || few(self)) {
            match (self.source.next()?, self.output.next()?) {
                (Some((a, source)), Some((b, output))) if a == b => joined.push(self.both(output, source)),
                (None, None) => {
                    self.ended = true;
                    joined.extend(self.rest());
                }
                (source, output) => {
                    let (source_ended, output_ended) = (source.is_none(), output.is_none());
                    if let Some((id, source)) = source {
                        match self.output.waiting.remove(&id) {
                            Some(output) => {
                                self.waiting -= bytes(&output);
                                joined.push(self.both(output, source));
                            }
                            None if output_ended => joined.push(Joined::Missing(source)),
                            None => self.waiting += wait(&mut self.source.waiting, id, source),
                        }
                    }
                    if let Some((id, output)) = output {
                        match self.source.waiting.remove(&id) {
                            Some(source) => {
                                self.waiting -= bytes(&source);
                                joined.push(self.both(output, source));
                            }
                            None if source_ended => joined.push(Joined::Extra(output)),
                            None if self.waiting > WAITING_MAX => {
                                joined.push(Joined::GaveUp(output));
                                self.ended = true;
                            }
                            None => self.waiting += wait(&mut self.output.waiting, id, output),
                        }
                    }
                }
            }
        }
        if self.ended && joined.is_empty() {
            // What was given up is still read, so that both files' digests are known.
            while self.source.next()?.is_some() {}
            while self.output.next()?.is_some() {}
            return Ok(None);
        }
        Ok(Some(joined))
    }

    /// Rows of the source that the scope named.
    pub(super) fn source_rows(&self) -> u64 {
        self.source.met
    }

    fn both(&mut self, output: Place, source: Place) -> Joined {
        let moved = source.number < self.last_met;
        self.last_met = self.last_met.max(source.number);
        Joined::Both { output, source, moved }
    }

    /// Those that found no partner, in the order of their files.
    fn rest(&mut self) -> Vec<Joined> {
        let sorted = |waiting: &mut HashMap<String, Place>| {
            let mut places: Vec<_> = waiting.drain().map(|(_, place)| place).collect();
            places.sort_by_key(|place| place.number);
            places
        };
        let missing = sorted(&mut self.source.waiting).into_iter().map(Joined::Missing);
        missing.chain(sorted(&mut self.output.waiting).into_iter().map(Joined::Extra)).collect()
    }
}

impl parallel::Item for Vec<Joined> {
    fn bytes(&self) -> usize {
        // Rows of one batch stand together, and each keeps the whole of it.
        let mut seen = HashSet::new();
        let mut new = |place: &&Place| seen.insert(Arc::as_ptr(place.batch.column(0)).cast::<()>());
        let places = self.iter().flat_map(Joined::places);
        places.filter(|place| new(place)).map(|place| bytes_of_batch(&place.batch)).sum()
    }
}

/// Lets a row wait, as a batch of its own: the batch it came from is not kept for it. Returns the
/// bytes that this costs.
fn wait(waiting: &mut HashMap<String, Place>, id: String, place: Place) -> usize {
    let index = UInt64Array::from(vec![place.row as u64]);
    let batch = arrow::compute::take_record_batch(&place.batch, &index).expect("the row is there");
    let alone = Place { batch, row: 0, number: place.number };
    let bytes = bytes(&alone);
    waiting.insert(id, alone);
    bytes
}

fn bytes(place: &Place) -> usize {
    place.batch.get_array_memory_size()
}
