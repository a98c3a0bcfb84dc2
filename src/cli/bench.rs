//! `rekek bench`: this machine, measured; its table for people.

use crate::people::{self, Cell, Grid, Report, Tone, count};
use crate::progress::ProgressArgument;
use crate::status::{Outcome, Usage};
use crate::{paths, process};
use clap::Args;
use rekek::bench::{Bench, BenchReport, ROW_BYTES, plot};
use rekek::figures::{duration, quantity};
use rekek::publish::{self, Existing};
use rekek::stop::Stop;
use rekek::table::Format;
use std::path::PathBuf;

/// Rows that can be asked for, whatever the memory.
const ROWS_MAX: u64 = 100_000_000;

/// Threads that can be asked for, as of a re-wrap.
const THREADS_MAX: usize = 1024;

/// Thread counts that a table and a chart have room for.
const COUNTS_MAX: usize = 16;

const AFTER_HELP: &str = "\
The rows are made up and held in memory, with keys that are made for the run and go with it; nothing is written but the \
chart. A row takes about 3.4 KB: 50,000 rows 170 MB, a million 3.4 GB. What is measured is the whole re-wrap with every \
digest and every proof, without a disk: how long a fleet takes is an estimate, and a slow disk makes it longer.

    rekek bench
    rekek bench --rows 200000 --threads 1,2,4,8 --plot bench.svg
    rekek bench --format parquet --fleet-orgs 5000000 --json
    REKEK_TIER=safe rekek bench

REKEK_TIER (safe, sse2, ssse3, avx512) keeps rekek from using more of the processor's vector instructions than that; safe \
uses none.

The thread counts take turns in each round. Where the slowest and the fastest round lie far apart, something else was \
at work: measure again.";

/// The arguments as typed.
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub struct Arguments {
    /// Rows to re-wrap, each of about 3.4 KB of memory
    #[arg(long, value_name = "N", default_value_t = 50_000, value_parser = clap::value_parser!(u64).range(1..=ROWS_MAX))]
    rows: u64,

    /// Thread counts to measure, for instance 1,2,4 [default: 1, 2, 4 and so on, up to one a core]
    #[arg(long, value_name = "LIST", value_parser = thread_counts)]
    threads: Option<ThreadCounts>,

    /// How often each is measured; the median is told
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: u16,

    /// Format of the rows, read and written
    #[arg(long, value_name = "FORMAT", default_value = "csv")]
    format: Format,

    /// Organizations of the fleet that the time is estimated for
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000_000))]
    fleet_orgs: u64,

    /// Draw a chart into this file, SVG, for instance bench.svg
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,

    /// Replace a chart that is there already
    #[arg(long, requires = "plot")]
    force: bool,

    /// Print the measurement as JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    progress: ProgressArgument,
}

/// Thread counts, ascending, each once.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ThreadCounts(Vec<usize>);

fn thread_counts(argument: &str) -> Result<ThreadCounts, String> {
    let count = |text: &str| match text.trim().parse() {
        Ok(n @ 1..=THREADS_MAX) => Ok(n),
        _ => Err(format!("thread counts are numbers from 1 to {THREADS_MAX}, such as 1,2,4")),
    };
    let mut counts = argument.split(',').map(count).collect::<Result<Vec<usize>, String>>()?;
    counts.sort_unstable();
    if counts.windows(2).any(|two| two[0] == two[1]) {
        return Err("a thread count stands there twice".into());
    }
    if counts.len() > COUNTS_MAX {
        return Err(format!("there are more than {COUNTS_MAX} thread counts"));
    }
    Ok(ThreadCounts(counts))
}

impl ThreadCounts {
    /// 1, 2, 4 and so on below the cores, and all cores.
    fn up_to(cores: usize) -> ThreadCounts {
        let doubled = std::iter::successors(Some(1usize), |n| n.checked_mul(2));
        ThreadCounts(doubled.take_while(|n| *n < cores).chain([cores]).collect())
    }
}

/// Does it.
pub fn run(arguments: &Arguments, stop: &Stop) -> anyhow::Result<Outcome> {
    let existing = if arguments.force { Existing::Replace } else { Existing::Refuse };
    if let Some(path) = &arguments.plot {
        paths::refuse_dashes(&[("the chart", path)])?;
        publish::check(path, existing)?;
    }
    refuse_too_many(arguments.rows, memory_available())?;
    let threads = arguments.threads.clone().unwrap_or_else(|| ThreadCounts::up_to(process::threads(None)));
    let bench = Bench {
        rows: arguments.rows,
        format: arguments.format,
        threads: threads.0,
        rounds: arguments.rounds.into(),
        fleet_orgs: arguments.fleet_orgs,
        stop: stop.clone(),
    };
    let progress = arguments.progress.begin(Some("making rows"), Some(bench.rows));
    let made = bench.make_rows(|rows| progress.advance(rows))?;
    drop(progress);
    let progress = arguments.progress.begin(Some("measuring"), Some(bench.rows_to_measure()));
    let report = bench.measure(&made, &mut |rows| progress.advance(rows))?;
    drop(progress);
    if let Some(path) = &arguments.plot {
        publish::publish_bytes(path, plot(&report).as_bytes(), existing)?;
    }
    if arguments.json {
        people::print_document(&(serde_json::to_string_pretty(&report)? + "\n"))?;
    } else {
        people::print(&table(&report, arguments))?;
    }
    Ok(Outcome::Done)
}

/// Bytes of memory that the system could give, where it tells.
fn memory_available() -> Option<u64> {
    let told = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = told.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

fn refuse_too_many(rows: u64, available: Option<u64>) -> Result<(), Usage> {
    let needed = rows * ROW_BYTES;
    match available {
        Some(available) if needed > available => Err(Usage(format!(
            "{} rows take about {} MB of memory, and this machine has {} MB to give; ask for fewer with --rows",
            count(rows),
            count(needed / 1_000_000),
            count(available / 1_000_000),
        ))),
        _ => Ok(()),
    }
}

/// The measurement for people.
fn table(report: &BenchReport, arguments: &Arguments) -> Report {
    let mut table = Report::default();
    let machine = &report.machine;
    let cores = quantity(machine.cores as u64, "core");
    let processor = machine.processor.as_deref().unwrap_or("unknown processor");
    table.line("machine", format!("{processor}, {cores}"));
    table.line("envelopes", format!("by the tier {}", machine.tier));
    if !machine.optimized {
        table.toned(Tone::Bad, "build", "debug: it tells nothing of the one that is shipped");
    }
    let (format, bytes) = (report.format.name(), count(report.input_bytes / 1_000_000));
    table.line("rows", format!("{}, {format} to {format}, {bytes} MB in memory", count(report.rows)));
    table.line("fields", count(report.fields));
    table.line(
        "rounds",
        format!("{}: the medians, and the rows/s of the slowest and the fastest", report.rounds),
    );
    table.line(
        "fleet",
        format!("{}, estimated: no disk is counted", quantity(report.fleet_orgs, "organization")),
    );
    if let Some(path) = &arguments.plot {
        table.line("chart", path.display().to_string());
    }

    let mut runs = Grid::new(["threads", "rows/s", "slowest", "fastest", "fields/s", "speedup", "fleet"]);
    for run in &report.runs {
        let rate = run.rows_per_second;
        runs.row([
            Cell::Text(run.threads.to_string()),
            Cell::Count(rate.median as u64),
            Cell::Count(rate.min as u64),
            Cell::Count(rate.max as u64),
            Cell::Count(run.fields_per_second.median as u64),
            Cell::Figure(format!("{:.2}x", run.speedup)),
            Cell::Figure(duration(run.fleet_seconds.median)),
        ]);
    }
    table.grid(runs);

    let mut stages = Grid::new(["stage, 1 thread", "ns a row", "share"]);
    let mut row = |name: &str, cost: f64, share: f64| {
        let share = Cell::Figure(format!("{share:.1} %"));
        stages.row([Cell::Text(name.to_owned()), Cell::Count(cost.round() as u64), share]);
    };
    for share in &report.stages {
        row(share.stage.name(), share.nanoseconds_per_row, share.share_percent);
    }
    row("sum", report.stages.iter().map(|share| share.nanoseconds_per_row).sum(), 100.0);
    table.grid(stages);
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_doubled_up_to_all_cores() {
        let up_to = |cores| ThreadCounts::up_to(cores).0;
        assert_eq!(up_to(1), [1]);
        assert_eq!(up_to(2), [1, 2]);
        assert_eq!(up_to(6), [1, 2, 4, 6]);
        assert_eq!(up_to(8), [1, 2, 4, 8]);
        assert!(up_to(THREADS_MAX).len() <= COUNTS_MAX);
    }

    #[test]
    fn a_list_of_threads_is_sorted_and_mistakes_are_told() {
        assert_eq!(thread_counts("4, 1,2").unwrap().0, [1, 2, 4]);
        for list in ["", "0", "1,", "1,,2", "two", "-1", "1025", "1;2"] {
            assert_eq!(
                thread_counts(list).unwrap_err(),
                "thread counts are numbers from 1 to 1024, such as 1,2,4",
                "{list}"
            );
        }
        assert_eq!(thread_counts("2,1,2").unwrap_err(), "a thread count stands there twice");
        let many = (1..=17).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
        assert_eq!(thread_counts(&many).unwrap_err(), "there are more than 16 thread counts");
    }

    #[test]
    fn more_rows_than_memory_are_refused() {
        refuse_too_many(ROWS_MAX, None).unwrap();
        refuse_too_many(1_000_000, Some(4_000_000_000)).unwrap();
        assert_eq!(
            refuse_too_many(2_000_000, Some(4_000_000_000)).unwrap_err().to_string(),
            "2,000,000 rows take about 6,800 MB of memory, and this machine has 4,000 MB to give; ask for fewer \
             with --rows"
        );
    }
}
