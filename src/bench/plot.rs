//! A measurement as a chart: an SVG that is whole in itself, for light and for dark.
//!
//! It owns where everything stands; how it looks is `templates/bench.svg`, which has no script and
//! asks for nothing. Whatever colour says, a text says too.

use super::{BenchReport, Run};
use crate::figures::{compact, count, duration, quantity};
use askama::Template;

/// Left and right end of the plot of rows a second, its top and its bottom, in the drawing's units.
const LEFT: f64 = 84.0;
const RIGHT: f64 = 736.0;
const TOP: f64 = 122.0;
const BOTTOM: f64 = 362.0;

/// The widest bar.
const BAR_MAX: f64 = 96.0;

/// A bar of that height holds its number; above a lower one it stands on top.
const HOLDS_TEXT: f64 = 26.0;

/// The first stage's place, from one to the next, and the width of the longest bar.
const STAGES_TOP: f64 = 520.0;
const STAGE_STEP: f64 = 26.0;
const STAGE_MAX: f64 = 420.0;

/// The chart of a measurement, as SVG.
pub fn plot(report: &BenchReport) -> String {
    Plot::of(report).render().expect("a drawing in memory")
}

#[derive(Template)]
#[template(path = "bench.svg")]
struct Plot {
    height: String,
    title: &'static str,
    machine: String,
    measured: String,
    ticks: Vec<Tick>,
    bars: Vec<Bar>,
    below: String,
    stages_title: String,
    stages: Vec<StageBar>,
    footer: String,
    footer_y: String,
}

struct Tick {
    y: String,
    label: String,
}

/// A thread count: what was measured, from the slowest to the fastest round, and what it would be if
/// each thread brought as much as the first.
struct Bar {
    middle: String,
    x: String,
    width: String,
    y: String,
    height: String,
    label: String,
    label_y: String,
    inside: bool,
    fastest_y: String,
    slowest_y: String,
    ideal_from: String,
    ideal_to: String,
    ideal_y: String,
    threads: usize,
    fleet: String,
}

struct StageBar {
    y: String,
    name: &'static str,
    width: String,
    label_x: String,
    label: String,
}

impl Plot {
    fn of(report: &BenchReport) -> Plot {
        let scale = Scale::of(report);
        let slot = (RIGHT - LEFT) / report.runs.len() as f64;
        let bars = report.runs.iter().enumerate();
        let bars = bars
            .map(|(i, run)| Bar::of(run, ideal(report, run), LEFT + slot * (i as f64 + 0.5), slot, &scale));
        let sum: f64 = report.stages.iter().map(|stage| stage.nanoseconds_per_row).sum();
        let end = STAGES_TOP + STAGE_STEP * report.stages.len() as f64;
        let machine = &report.machine;
        let mut about = machine.processor.clone().unwrap_or_else(|| "unknown processor".to_owned());
        about +=
            &format!(", {}, envelopes by the tier {}", quantity(machine.cores as u64, "core"), machine.tier);
        Plot {
            height: at(end + 44.0),
            title: match machine.optimized {
                true => "Rows re-wrapped in a second",
                false => "Rows re-wrapped in a second, by a debug build",
            },
            machine: printable(&about),
            measured: format!(
                "{} ({} fields) in memory, {} to {}, the median of {}",
                quantity(report.rows, "row"),
                count(report.fields),
                report.format.name(),
                report.format.name(),
                quantity(report.rounds as u64, "round"),
            ),
            ticks: scale.ticks(),
            bars: bars.collect(),
            below: format!(
                "threads; and, estimated, the time for a fleet of {}",
                quantity(report.fleet_orgs, "organization")
            ),
            stages_title: format!(
                "Where the time goes on one thread: {} ns a row in all",
                count(sum.round() as u64)
            ),
            stages: StageBar::all(report),
            footer: concat!(
                "rekek ",
                env!("CARGO_PKG_VERSION"),
                " bench. The rows and the output are in memory: no disk is counted."
            )
            .to_owned(),
            footer_y: at(end + 22.0),
        }
    }
}

/// Rows in a second if every thread brought as much as those of the first run.
fn ideal(report: &BenchReport, run: &Run) -> f64 {
    let first = &report.runs[0];
    first.rows_per_second.median / first.threads as f64 * run.threads as f64
}

impl Bar {
    fn of(run: &Run, ideal: f64, middle: f64, slot: f64, scale: &Scale) -> Bar {
        let width = (slot * 0.6).min(BAR_MAX);
        let y = scale.y(run.rows_per_second.median);
        let inside = BOTTOM - y >= HOLDS_TEXT;
        let fastest = scale.y(run.rows_per_second.max);
        Bar {
            middle: at(middle),
            x: at(middle - width / 2.0),
            width: at(width),
            y: at(y),
            height: at(BOTTOM - y),
            label: compact(run.rows_per_second.median),
            label_y: at(if inside { BOTTOM - 9.0 } else { fastest - 8.0 }),
            inside,
            fastest_y: at(fastest),
            slowest_y: at(scale.y(run.rows_per_second.min)),
            ideal_from: at(middle - (width * 0.7).min(slot / 2.0)),
            ideal_to: at(middle + (width * 0.7).min(slot / 2.0)),
            ideal_y: at(scale.y(ideal)),
            threads: run.threads,
            fleet: duration(run.fleet_seconds.median),
        }
    }
}

impl StageBar {
    fn all(report: &BenchReport) -> Vec<StageBar> {
        let longest =
            report.stages.iter().map(|stage| stage.nanoseconds_per_row).fold(f64::MIN_POSITIVE, f64::max);
        let bars = report.stages.iter().enumerate().map(|(i, share)| {
            let width = share.nanoseconds_per_row / longest * STAGE_MAX;
            StageBar {
                y: at(STAGES_TOP + STAGE_STEP * i as f64),
                name: share.stage.name(),
                width: at(width),
                label_x: at(width + 8.0),
                label: format!(
                    "{} ns, {:.1} %",
                    count(share.nanoseconds_per_row.round() as u64),
                    share.share_percent
                ),
            }
        });
        bars.collect()
    }
}

/// The axis of rows in a second: from nought to a round number above all that is shown.
struct Scale {
    step: f64,
    steps: u32,
}

impl Scale {
    fn of(report: &BenchReport) -> Scale {
        let shown = report.runs.iter().flat_map(|run| [run.rows_per_second.max, ideal(report, run)]);
        let greatest = shown.fold(1.0, f64::max);
        let power = 10f64.powf((greatest / 5.0).log10().floor());
        // The first of 1, 2, 5, 10 by which at most five steps reach it.
        let step = [1.0, 2.0, 5.0].map(|n| n * power).into_iter().find(|step| greatest <= step * 5.0);
        let step = step.unwrap_or(10.0 * power);
        Scale { step, steps: (greatest / step).ceil() as u32 }
    }

    fn y(&self, rows_per_second: f64) -> f64 {
        BOTTOM - rows_per_second / (self.step * f64::from(self.steps)) * (BOTTOM - TOP)
    }

    fn ticks(&self) -> Vec<Tick> {
        let tick = |i: u32| {
            let value = self.step * f64::from(i);
            Tick { y: at(self.y(value)), label: count(value.round() as u64) }
        };
        (0..=self.steps).map(tick).collect()
    }
}

/// A place in the drawing.
fn at(place: f64) -> String {
    format!("{place:.1}")
}

/// A processor's name without what XML does not take.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{Machine, Spread, Stage, StageShare};
    use crate::table::Format;

    fn report(threads: &[usize], processor: &str) -> BenchReport {
        let spread = |median: f64| Spread { median, min: median * 0.9, max: median * 1.1 };
        let runs = threads.iter().map(|threads| Run {
            threads: *threads,
            seconds: spread(1.0 / *threads as f64),
            rows_per_second: spread(50_000.0 * *threads as f64 * 0.9),
            fields_per_second: spread(100_000.0),
            speedup: *threads as f64 * 0.9,
            fleet_seconds: spread(20.0 / *threads as f64),
        });
        let stage = |stage| StageShare { stage, nanoseconds_per_row: 1000.0, share_percent: 100.0 / 9.0 };
        BenchReport {
            command: "bench",
            machine: Machine { processor: Some(processor.into()), cores: 2, tier: "safe", optimized: true },
            rows: 50_000,
            fields: 96_000,
            format: Format::Csv,
            input_bytes: 1,
            output_bytes: 1,
            rounds: 5,
            fleet_orgs: 1_000_000,
            runs: runs.collect(),
            stages: Stage::ALL.map(stage).into(),
        }
    }

    #[test]
    fn everything_stands_within_the_plot_for_any_list_of_threads() {
        for threads in [&[1][..], &[1, 2], &[2, 4, 64], &[1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024]] {
            let plot = Plot::of(&report(threads, "a processor"));
            let number = |text: &String| text.parse::<f64>().unwrap();
            for bar in &plot.bars {
                for y in [&bar.y, &bar.fastest_y, &bar.slowest_y, &bar.ideal_y].map(number) {
                    assert!((TOP - 0.1..=BOTTOM + 0.1).contains(&y), "{threads:?}: {y}");
                }
                assert!(number(&bar.ideal_from) >= LEFT && number(&bar.ideal_to) <= RIGHT, "{threads:?}");
            }
            assert!((2..=6).contains(&plot.ticks.len()), "{threads:?}: {} ticks", plot.ticks.len());
        }
    }

    #[test]
    fn a_text_of_the_machine_is_escaped() {
        let svg = plot(&report(&[1], "<script>&\u{1}\""));
        assert!(!svg.contains("<script") && !svg.contains('\u{1}'), "{svg}");
        assert!(svg.contains("&#60;script&#62;&#38;"), "{svg}");
    }
}
