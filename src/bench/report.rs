//! What a measurement found: the document of `rekek bench --json`.
//!
//! It owns medians, shares and the estimate; how they look is for the table and the chart.

use super::{Bench, Stage, StageTimes};
use crate::envelope::Tier;
use crate::table::Format;
use serde::Serialize;

/// The document.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BenchReport {
    /// Always `bench`.
    pub command: &'static str,
    /// Where it was measured.
    pub machine: Machine,
    /// Rows that were re-wrapped in each run.
    pub rows: u64,
    /// Fields of them: each was opened, sealed and proven.
    pub fields: u64,
    /// Format of the input and of the output.
    pub format: Format,
    /// Length of the input.
    pub input_bytes: u64,
    /// Length of the output.
    pub output_bytes: u64,
    /// Runs for each thread count.
    pub rounds: usize,
    /// Organizations that [`Run::fleet_seconds`] is for.
    pub fleet_orgs: u64,
    /// A run for each thread count, ascending.
    pub runs: Vec<Run>,
    /// The stages on one thread, in their order.
    pub stages: Vec<StageShare>,
}

/// A machine, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// What the processor calls itself; null where the system does not tell.
    pub processor: Option<String>,
    /// Threads that can run at once.
    pub cores: usize,
    /// How the numbers of envelopes are read and written: see [`Tier`].
    pub tier: &'static str,
    /// Whether this program was built for speed. One that was not tells nothing of the one that is
    /// shipped.
    pub optimized: bool,
}

/// What was found with so many threads.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Run {
    /// Threads.
    pub threads: usize,
    /// Seconds for all rows.
    pub seconds: Spread,
    /// Rows in a second.
    pub rows_per_second: Spread,
    /// Fields in a second.
    pub fields_per_second: Spread,
    /// How many times as fast as with the fewest threads that were measured, by the medians.
    pub speedup: f64,
    /// Seconds for a fleet of [`BenchReport::fleet_orgs`]: an estimate, without any disk.
    pub fleet_seconds: Spread,
}

/// The median of the rounds, with the least and the greatest.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// The median; of an even number of rounds the greater of the two in the middle.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
}

/// A stage's cost, the median of the rounds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StageShare {
    /// Which.
    pub stage: Stage,
    /// Nanoseconds a row.
    pub nanoseconds_per_row: f64,
    /// Its part of the sum of all stages, in percent.
    pub share_percent: f64,
}

impl BenchReport {
    /// From the seconds of each thread count's rounds, and the stages of each round.
    pub(super) fn new(
        bench: &Bench,
        input_bytes: u64,
        fields: u64,
        seconds: &[Vec<f64>],
        stages: &[StageTimes],
    ) -> BenchReport {
        let (rows, orgs) = (bench.rows as f64, bench.fleet_orgs as f64);
        let seconds: Vec<_> = seconds.iter().map(|seconds| Spread::of(seconds.iter().copied())).collect();
        let runs = bench.threads.iter().zip(&seconds).map(|(threads, took)| Run {
            threads: *threads,
            seconds: *took,
            rows_per_second: took.rate_of(rows),
            fields_per_second: took.rate_of(fields as f64),
            speedup: seconds[0].median / took.median,
            fleet_seconds: took.times(orgs / rows),
        });
        let costs = Stage::ALL.map(|stage| {
            let rounds = stages.iter().map(|times| times.nanoseconds_per_row(stage));
            (stage, Spread::of(rounds).median)
        });
        let sum: f64 = costs.iter().map(|(_, cost)| cost).sum();
        let share = |(stage, cost)| StageShare {
            stage,
            nanoseconds_per_row: cost,
            share_percent: cost / sum * 100.0,
        };
        BenchReport {
            command: "bench",
            machine: Machine::here(),
            rows: bench.rows,
            fields,
            format: bench.format,
            input_bytes,
            output_bytes: stages[0].output_bytes,
            rounds: bench.rounds,
            fleet_orgs: bench.fleet_orgs,
            runs: runs.collect(),
            stages: costs.map(share).into(),
        }
    }
}

impl Machine {
    /// The one that this runs on.
    pub fn here() -> Machine {
        let told = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = |line: &str| Some(line.strip_prefix("model name")?.split_once(':')?.1.trim().to_owned());
        Machine {
            processor: told.lines().find_map(model),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            tier: Tier::chosen().name(),
            optimized: !cfg!(debug_assertions),
        }
    }
}

impl Spread {
    /// Of at least one value.
    fn of(values: impl Iterator<Item = f64>) -> Spread {
        // A clock that did not move would make a rate without end.
        let mut values: Vec<_> = values.map(|value| value.max(1e-9)).collect();
        values.sort_by(f64::total_cmp);
        Spread { median: values[values.len() / 2], min: values[0], max: values[values.len() - 1] }
    }

    /// Of times, the rate of so many in each.
    fn rate_of(self, n: f64) -> Spread {
        Spread { median: n / self.median, min: n / self.max, max: n / self.min }
    }

    fn times(self, factor: f64) -> Spread {
        Spread { median: self.median * factor, min: self.min * factor, max: self.max * factor }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_has_its_middle_and_its_ends_and_turns_round_in_a_rate() {
        let times = Spread::of([4.0, 1.0, 2.0].into_iter());
        assert_eq!(times, Spread { median: 2.0, min: 1.0, max: 4.0 });
        assert_eq!(times.rate_of(8.0), Spread { median: 4.0, min: 2.0, max: 8.0 });
        assert_eq!(times.times(10.0), Spread { median: 20.0, min: 10.0, max: 40.0 });
        assert!(Spread::of([0.0].into_iter()).rate_of(1.0).max.is_finite());
    }
}
