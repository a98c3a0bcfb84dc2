//! Measures this machine: how many rows it re-wraps in a second, on how many threads, and on what
//! the time goes.
//!
//! What is measured is the pipeline itself, with every digest and every proof, on generated rows that
//! lie in memory, into an output that is let go. So it tells what the processor gives; a disk is not
//! counted, nor what comes once a run (reading secrets, publishing). The keys are made for the
//! measurement and go with it: no key, row or output is ever on a disk.
//!
//! It owns the order of the measurements: the thread counts take turns in every round, so that what
//! else the machine does hits them alike, and medians stand with their spread.

mod plot;
mod report;
mod stages;

pub use plot::plot;
pub use report::{BenchReport, Machine, Run, Spread, StageShare};
pub use stages::{Stage, StageTimes};

use crate::generate::Generation;
use crate::keyring::{self, Keyring};
use crate::pipeline::{Destination, Job, Observer, OnFailure, PipelineError};
use crate::publish::Existing;
use crate::report::{Failure, RewrapReport};
use crate::rewrap::Rules;
use crate::row::KeyId;
use crate::stop::Stop;
use crate::table::{Compression, Format, Input, MemoryFile};
use std::io;

/// Bytes of memory that a row takes, about: a generated row is one of two fields and twenty columns.
pub const ROW_BYTES: u64 = 3_400;

/// What the generated rows are called in messages.
const NAME: &str = "the generated rows";

/// A measurement as it was asked for.
pub struct Bench {
    /// Rows to generate; each takes about [`ROW_BYTES`].
    pub rows: u64,
    /// Format of the input and of the output.
    pub format: Format,
    /// Thread counts, ascending, at least one.
    pub threads: Vec<usize>,
    /// How often each is measured, at least once.
    pub rounds: usize,
    /// Organizations of the fleet that the time is estimated for.
    pub fleet_orgs: u64,
    /// Ends it early.
    pub stop: Stop,
}

/// An export that is all under one key, to be re-wrapped to another.
#[derive(Clone)]
pub struct Subject<'a> {
    /// The export.
    pub input: Input,
    /// Its length in bytes.
    pub bytes: u64,
    /// Its format, and that of the output.
    pub format: Format,
    /// The keys.
    pub keyring: &'a Keyring,
    /// The place in the keyring of the key that all of it is under.
    pub source: usize,
    /// The place of the target.
    pub target: usize,
}

/// Rows in memory, with the keys that were made for them.
pub struct MadeRows {
    memory: MemoryFile,
    bytes: u64,
    keyring: Keyring,
}

impl Bench {
    /// Makes the rows; `progress` is told of them.
    pub fn make_rows(&self, progress: impl FnMut(u64) + Send) -> Result<MadeRows, PipelineError> {
        let mut keyring = Keyring::new();
        for id in ["old", "new"] {
            let id: KeyId = id.parse().expect("an id");
            keyring.add_key("this measurement", id, keyring::generate()?).expect("two ids");
        }
        let generation = Generation {
            format: self.format,
            compression: Compression::Usual,
            orgs: self.rows,
            keyring: &keyring,
            under: vec![(0, 1.0)],
            seed: 0,
            threads: *self.threads.last().expect("at least one"),
            stop: self.stop.clone(),
        };
        let memory = MemoryFile::new(NAME)
            .map_err(|source| PipelineError::Write { file: NAME.into(), source: source.into() })?;
        let (facts, memory) = generation.write(NAME, memory, progress)?;
        Ok(MadeRows { memory, bytes: facts.bytes, keyring })
    }

    /// Rows that [`Bench::measure`] tells its progress of.
    pub fn rows_to_measure(&self) -> u64 {
        self.rows.saturating_mul((self.threads.len() as u64 + 1) * self.rounds as u64)
    }

    /// Measures; `progress` is told of rows.
    pub fn measure(
        &self,
        made: &MadeRows,
        progress: &mut (dyn FnMut(u64) + Send),
    ) -> Result<BenchReport, PipelineError> {
        let subject = made.subject(self.format);
        let mut seconds = vec![Vec::with_capacity(self.rounds); self.threads.len()];
        let mut stages = Vec::with_capacity(self.rounds);
        let mut fields = 0;
        for _ in 0..self.rounds {
            for (threads, seconds) in self.threads.iter().zip(&mut seconds) {
                let report = self.rewrap(&subject, *threads, progress)?;
                seconds.push(report.elapsed_seconds);
                fields = report.counts.fields_reencrypted;
            }
            stages.push(StageTimes::measure(&subject, &self.stop, progress)?);
        }
        Ok(BenchReport::new(self, made.bytes, fields, &seconds, &stages))
    }

    fn rewrap(
        &self,
        subject: &Subject<'_>,
        threads: usize,
        progress: &mut (dyn FnMut(u64) + Send),
    ) -> Result<RewrapReport, PipelineError> {
        let job = Job {
            input: subject.input.clone(),
            input_format: Some(subject.format),
            output: Destination::Discarded,
            output_format: subject.format,
            compression: Compression::Usual,
            manifest: None,
            signer: None,
            existing: Existing::Refuse,
            keyring: subject.keyring,
            target: subject.target,
            scope: None,
            rules: Rules::default(),
            on_failure: OnFailure::Withhold,
            threads,
            stop: self.stop.clone(),
        };
        job.run(&mut Watch(progress))
    }
}

impl MadeRows {
    /// What is to be re-wrapped.
    fn subject(&self, format: Format) -> Subject<'_> {
        let input = Input::Memory(self.memory.clone());
        Subject { input, bytes: self.bytes, format, keyring: &self.keyring, source: 0, target: 1 }
    }
}

/// Tells of rows that go by; none of them may fail.
struct Watch<'a>(&'a mut (dyn FnMut(u64) + Send));

impl Observer for Watch<'_> {
    fn rows(&mut self, rows: u64) {
        (self.0)(rows);
    }

    fn failure(&mut self, failure: &Failure) -> io::Result<()> {
        Err(failed(&failure.error))
    }
}

/// A generated row fails only where a bit of memory does.
fn failed(what: &str) -> io::Error {
    io::Error::other(format!(
        "a row that was made to be measured failed, {what}; is this machine's memory sound?"
    ))
}
