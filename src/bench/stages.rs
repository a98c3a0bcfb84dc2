//! What each stage of a re-wrap costs, on one thread.
//!
//! Batch by batch in turns, so that all stages see the same rows, as warm as in a run. What can be
//! timed by itself is; a stage within a row (to seal, to compare a signing key) takes less time than
//! the clock needs to be trusted, so it is the difference of two runs over the same batch by the very
//! code that a re-wrap runs: with the check and without it, with the seal and without it. No stage
//! has code of its own here.

use super::{Subject, failed};
use crate::parallel::Interrupted;
use crate::pipeline::{Columns, PipelineError, rewrap_batch, row_at};
use crate::rewrap::{Rewrapper, Rules, SEALS_MAX, SealBudget};
use crate::row::{Sha256Digest, is_absent};
use crate::signing_key::SigningKeyCheck;
use crate::stop::Stop;
use crate::table::{Compression, Layout, OpenOptions, TableError, Texts, create, open};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use std::io::{self, BufWriter, Write};
use std::time::{Duration, Instant};

/// Bytes hashed at a time, and gathered before they are written.
const BLOCK: usize = 1 << 18;

/// A stage of a re-wrap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The input's bytes to batches of rows.
    Read,
    /// Each envelope's text to its plaintext: base64, JSON, AES-GCM.
    Open,
    /// Signing keys held against their public values.
    KeyCheck,
    /// Each plaintext under the target key, to a text: nonce, AES-GCM, JSON, base64.
    Seal,
    /// Each new text read back and opened.
    Proof,
    /// SHA-256 of each field's text.
    SourceDigests,
    /// The new columns put together, and buffers wiped.
    Columns,
    /// SHA-256 of the input's bytes and of the output's.
    FileDigests,
    /// Batches of rows to the output's bytes.
    Write,
}

impl Stage {
    /// All stages, in their order.
    pub const ALL: [Stage; 9] = [
        Stage::Read,
        Stage::Open,
        Stage::KeyCheck,
        Stage::Seal,
        Stage::Proof,
        Stage::SourceDigests,
        Stage::Columns,
        Stage::FileDigests,
        Stage::Write,
    ];

    /// Its name, for people.
    pub const fn name(self) -> &'static str {
        match self {
            Stage::Read => "read",
            Stage::Open => "open",
            Stage::KeyCheck => "key check",
            Stage::Seal => "seal",
            Stage::Proof => "proof",
            Stage::SourceDigests => "source digests",
            Stage::Columns => "columns",
            Stage::FileDigests => "file digests",
            Stage::Write => "write",
        }
    }
}

/// What the stages took, over a whole export.
#[derive(Debug, Clone)]
pub struct StageTimes {
    /// Rows of the export.
    pub rows: u64,
    /// Bytes of the output.
    pub output_bytes: u64,
    times: [Duration; Stage::ALL.len()],
}

/// What was timed, from which the stages follow.
#[derive(Default)]
struct Timed {
    read: Duration,
    /// A batch as the pipeline does it.
    batch: Duration,
    /// Its rows alone.
    rows: Duration,
    /// The same without the check of signing keys.
    rows_unchecked: Duration,
    /// Reading and opening alone: the rows re-wrapped to the key that they are under.
    open: Duration,
    /// The same of the new texts.
    proof: Duration,
    source_digests: Duration,
    file_digests: Duration,
    write: Duration,
}

impl StageTimes {
    /// Measures each stage once over the whole export; `progress` is told of rows.
    pub fn measure(
        subject: &Subject<'_>,
        stop: &Stop,
        progress: &mut (dyn FnMut(u64) + Send),
    ) -> Result<StageTimes, PipelineError> {
        let Subject { input, format, keyring, source, target, .. } = subject;
        let file = input.name();
        let cannot_read = |source: TableError| PipelineError::Read { file: file.clone(), source };
        let cannot_write = |source: TableError| PipelineError::Write { file: "-".into(), source };
        let options = OpenOptions { format: Some(*format), stop: stop.clone(), unhashed: true };
        let mut reader = open(input, &options).map_err(cannot_read)?;
        let layout = Layout::of(reader.schema()).map_err(cannot_read)?;
        let columns = Columns::of(reader.schema()).map_err(cannot_read)?;
        let new_layout = Layout::of(columns.schema()).map_err(cannot_read)?;
        let to = BufWriter::with_capacity(BLOCK, Counted(0));
        let mut writer = create(to, *format, Compression::Usual, columns.schema(), reader.dictionaries())
            .map_err(cannot_write)?;

        let budget = SealBudget::new(SEALS_MAX);
        let rewrapper = |target: usize, signing_keys| {
            Rewrapper::new(keyring, target, Rules { signing_keys, ..Rules::default() }, &budget)
        };
        let mut checked = rewrapper(*target, SigningKeyCheck::default())?;
        let mut unchecked = rewrapper(*target, SigningKeyCheck::Off)?;
        let mut opener = rewrapper(*source, SigningKeyCheck::Off)?;
        let mut prover = rewrapper(*target, SigningKeyCheck::Off)?;

        let mut timed = Timed::default();
        let mut rows = 0;
        loop {
            if stop.is_requested() {
                return Err(Interrupted.into());
            }
            let batch = time(&mut timed.read, || reader.next_batch()).map_err(cannot_read)?;
            let Some(batch) = batch else { break };
            let first = rows + 1;
            let done = time(&mut timed.batch, || {
                rewrap_batch(&mut checked, &columns, None, *target, first, &batch)
            })?;
            if let Some(failure) = done.failures.first() {
                return Err(failed(&failure.error).into());
            }
            let texts = layout.texts(&batch);
            let n = batch.num_rows();
            time(&mut timed.rows, || each_row(&mut checked, &texts, n))?;
            time(&mut timed.rows_unchecked, || each_row(&mut unchecked, &texts, n))?;
            time(&mut timed.open, || each_row(&mut opener, &texts, n))?;
            time(&mut timed.source_digests, || digests(&texts, n));
            let new_texts = new_layout.texts(crate::table::TableRows::records(&done.rows));
            time(&mut timed.proof, || each_row(&mut prover, &new_texts, n))?;
            time(&mut timed.write, || writer.write(&done.rows)).map_err(cannot_write)?;
            rows += n as u64;
            progress(n as u64);
        }
        let to = time(&mut timed.write, || writer.finish()).map_err(cannot_write)?;
        let Counted(output_bytes) = to.into_inner().map_err(|e| cannot_write(e.into_error().into()))?;
        hash(subject.bytes + output_bytes, &mut timed.file_digests);
        Ok(StageTimes { rows, output_bytes, times: timed.stages() })
    }

    /// What a stage took, in nanoseconds a row.
    pub fn nanoseconds_per_row(&self, stage: Stage) -> f64 {
        self.times[stage as usize].as_secs_f64() * 1e9 / self.rows.max(1) as f64
    }
}

impl Timed {
    /// In the order of [`Stage::ALL`]. Where noise is greater than a difference, that is nought.
    fn stages(&self) -> [Duration; Stage::ALL.len()] {
        Stage::ALL.map(|stage| match stage {
            Stage::Read => self.read,
            Stage::Open => self.open,
            Stage::KeyCheck => self.rows.saturating_sub(self.rows_unchecked),
            Stage::Seal => self.rows_unchecked.saturating_sub(self.open + self.proof),
            Stage::Proof => self.proof,
            Stage::SourceDigests => self.source_digests,
            Stage::Columns => self.batch.saturating_sub(self.rows + self.source_digests),
            Stage::FileDigests => self.file_digests,
            Stage::Write => self.write,
        })
    }
}

/// Adds what `work` takes.
fn time<T>(sum: &mut Duration, work: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let done = work();
    *sum += begun.elapsed();
    done
}

fn each_row(rewrapper: &mut Rewrapper<'_>, texts: &Texts<'_>, rows: usize) -> Result<(), PipelineError> {
    for i in 0..rows {
        let row = row_at(texts, 1, i);
        if let Err(reasons) = rewrapper.row(&row)? {
            return Err(failed(&reasons[0].reason.to_string()).into());
        }
    }
    Ok(())
}

fn digests(texts: &Texts<'_>, rows: usize) {
    for i in 0..rows {
        let fields = row_at(texts, 1, i).fields.into_iter().flatten();
        for text in fields.filter(|text| !is_absent(Some(text))) {
            std::hint::black_box(Sha256Digest::of(text));
        }
    }
}

/// Hashes so many bytes, whichever: SHA-256 takes the same for all.
fn hash(bytes: u64, sum: &mut Duration) {
    let block = vec![0x5a; BLOCK];
    time(sum, || {
        let mut hasher = Sha256::new();
        let mut left = bytes;
        while left > 0 {
            let n = left.min(BLOCK as u64);
            hasher.update(&block[..n as usize]);
            left -= n;
        }
        std::hint::black_box(hasher.finalize());
    });
}

/// Takes everything and counts it.
struct Counted(u64);

impl Write for Counted {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0 += buf.len() as u64;
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_add_up_to_what_was_timed_and_none_is_below_nought() {
        let ns = Duration::from_nanos;
        let timed = Timed {
            read: ns(10),
            batch: ns(150),
            rows: ns(100),
            rows_unchecked: ns(90),
            open: ns(30),
            proof: ns(35),
            source_digests: ns(40),
            file_digests: ns(20),
            write: ns(5),
        };
        let stages = timed.stages();
        assert_eq!(stages, [10, 30, 10, 25, 35, 40, 10, 20, 5].map(ns));
        assert_eq!(
            stages.iter().sum::<Duration>(),
            timed.read + timed.batch + timed.file_digests + timed.write
        );
        let noisy = Timed { rows_unchecked: ns(101), ..timed };
        assert_eq!(noisy.stages()[Stage::KeyCheck as usize], Duration::ZERO);
    }
}
