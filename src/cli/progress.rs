//! Progress on stderr: a bar on a terminal, a line now and then in a log.
//!
//! It owns when something is shown and what it looks like. It never says anything of a run that
//! is over before somebody would ask, and never of a row.

use crate::PROGRAM;
use crate::people::{count, is_dumb, say};
use clap::{Args, ValueEnum};
use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// From one line in a log to the next.
const EVERY: Duration = Duration::from_secs(5);

/// A run that is over by then leaves no line in a log, unless asked for.
const PATIENCE: Duration = Duration::from_secs(15);

/// How often the bar is drawn while no rows come: its clock goes on.
const TICK: Duration = Duration::from_millis(250);

/// When progress is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum When {
    /// A bar on a terminal; in a log, a line every 5 s once a step has taken 15 s
    #[default]
    Auto,
    /// A bar on a terminal; in a log, a line at once, every 5 s, and at the end
    Always,
    /// Nothing
    Never,
}

/// How many rows are to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Total {
    /// So many.
    Told(u64),
    /// About so many.
    #[allow(dead_code)] // rekek-site is always told
    About(u64),
    /// Nobody knows.
    Unknown,
}

impl Total {
    fn rows(self) -> Option<u64> {
        match self {
            Total::Told(rows) | Total::About(rows) => Some(rows),
            Total::Unknown => None,
        }
    }
}

impl From<Option<u64>> for Total {
    fn from(rows: Option<u64>) -> Self {
        rows.map_or(Total::Unknown, Total::Told)
    }
}

/// Whether progress is shown.
#[derive(Args, Clone, Copy, Default)]
pub struct ProgressArgument {
    /// Show rows, rows/s and time left on stderr
    #[arg(long, value_enum, default_value_t, value_name = "WHEN")]
    pub progress: When,
}

impl ProgressArgument {
    /// Begins to show a step; `step` names it where a command has several.
    pub fn begin(self, step: Option<&'static str>, total: impl Into<Total>) -> Progress {
        self.show(Step::new(step.unwrap_or_default().into(), total.into(), Clock::Left))
    }

    /// Begins to show many steps, of which this is the first. The time is that of them all.
    #[allow(dead_code)] // rekek-site has none
    pub fn begin_many(self, first: String) -> Progress {
        self.show(Step::new(first, Total::Unknown, Clock::Elapsed))
    }

    fn show(self, step: Step) -> Progress {
        Progress(match self.progress {
            When::Never => Shown::Nothing,
            // A dumb terminal cannot take a line back.
            _ if std::io::stderr().is_terminal() && !is_dumb() => Shown::Bar(bar(&step)),
            when => Shown::Log(Log::begin(step, when)),
        })
    }
}

/// What goes on while a command works, and is gone when it is dropped.
pub struct Progress(Shown);

enum Shown {
    Nothing,
    Bar(ProgressBar),
    Log(Log),
}

impl Progress {
    /// So many rows more are done.
    pub fn advance(&self, rows: u64) {
        match &self.0 {
            Shown::Nothing => {}
            Shown::Bar(bar) => bar.inc(rows),
            Shown::Log(log) => {
                log.lines.rows.fetch_add(rows, Ordering::Relaxed);
            }
        }
    }

    /// The step goes on under another name.
    #[allow(dead_code)] // rekek's steps keep theirs
    pub fn rename(&self, name: &str) {
        match &self.0 {
            Shown::Nothing => {}
            Shown::Bar(bar) => bar.set_prefix(prefix(name)),
            Shown::Log(log) => {
                log.lines.step.lock().unwrap_or_else(PoisonError::into_inner).prefix = prefix(name);
            }
        }
    }

    /// The next of many steps begins.
    #[allow(dead_code)] // rekek-site has none
    pub fn step(&self, name: String, total: Total) {
        let step = Step::new(name, total, Clock::Elapsed);
        match &self.0 {
            Shown::Nothing => {}
            Shown::Bar(bar) => step.show_on(bar),
            Shown::Log(log) => log.lines.begin(step),
        }
    }

    /// Does what may print lines, without a bar in their way.
    #[allow(dead_code)] // rekek-site has none
    pub fn aside<T>(&self, print: impl FnOnce() -> T) -> T {
        match &self.0 {
            Shown::Bar(bar) => bar.suspend(print),
            Shown::Nothing | Shown::Log(_) => print(),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        match &mut self.0 {
            Shown::Nothing => {}
            Shown::Bar(bar) => bar.finish_and_clear(),
            Shown::Log(log) => log.end(),
        }
    }
}

/// Which time is shown.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Clock {
    /// What is left of the step, where that can be told.
    Left,
    /// What has gone by since the first step: one step's end says nothing of the others'.
    Elapsed,
}

/// A step's name as it stands before what is said of it.
fn prefix(name: &str) -> String {
    if name.is_empty() { String::new() } else { format!("{name}: ") }
}

/// What is being done.
struct Step {
    /// With a colon, where it has a name.
    prefix: String,
    total: Total,
    clock: Clock,
    begun: Instant,
}

impl Step {
    fn new(name: String, total: Total, clock: Clock) -> Step {
        Step { prefix: prefix(&name), total, clock, begun: Instant::now() }
    }

    fn show_on(&self, bar: &ProgressBar) {
        let of = match self.total {
            Total::About(_) => "/~{human_len}",
            Total::Told(_) => "/{human_len}",
            Total::Unknown => "",
        };
        let clock = match (self.clock, self.total) {
            (Clock::Left, Total::About(_) | Total::Told(_)) => "{eta} left",
            _ => "{elapsed}",
        };
        let wide = if self.total == Total::Unknown { "" } else { "  {wide_bar}" };
        let template = format!("{{prefix}}{{human_pos}}{of} rows  {{rate}} rows/s  {clock}{wide}");
        let style = ProgressStyle::with_template(&template).expect("a fixed template");
        bar.set_style(style.with_key(
            "rate",
            |state: &indicatif::ProgressState, out: &mut dyn std::fmt::Write| {
                let _ = out.write_str(&count(state.per_sec() as u64));
            },
        ));
        bar.set_prefix(self.prefix.clone());
        bar.set_length(self.total.rows().unwrap_or(0));
        bar.set_position(0);
        bar.reset_eta();
    }
}

fn bar(step: &Step) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(step.total.rows(), ProgressDrawTarget::stderr());
    step.show_on(&bar);
    bar.enable_steady_tick(TICK);
    bar
}

/// Lines in a log, by a thread of their own: that nothing goes on is worth a line too.
struct Log {
    lines: Arc<Lines>,
    thread: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Log {
    fn begin(step: Step, when: When) -> Log {
        let lines = Arc::new(Lines { begun: step.begun, step: Mutex::new(step), rows: AtomicU64::new(0) });
        let (dropped, ended) = channel();
        let shown = Arc::clone(&lines);
        let thread = std::thread::Builder::new().name("progress".into()).spawn(move || {
            let mut wait = if when == When::Always { Duration::ZERO } else { PATIENCE };
            let mut said = when == When::Always;
            while ended.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
                shown.say(false);
                (wait, said) = (EVERY, true);
            }
            if said {
                shown.say(true);
            }
        });
        // Without a thread there is no progress; the work goes on.
        Log { lines, thread: thread.ok().map(|thread| (dropped, thread)) }
    }

    fn end(&mut self) {
        if let Some((dropped, thread)) = self.thread.take() {
            drop(dropped);
            let _ = thread.join();
        }
    }
}

struct Lines {
    step: Mutex<Step>,
    /// Of this step.
    rows: AtomicU64,
    /// The first step.
    begun: Instant,
}

impl Lines {
    fn begin(&self, step: Step) {
        let mut now = self.step.lock().unwrap_or_else(PoisonError::into_inner);
        self.rows.store(0, Ordering::Relaxed);
        *now = step;
    }

    fn say(&self, ended: bool) {
        let step = self.step.lock().unwrap_or_else(PoisonError::into_inner);
        let rows = self.rows.load(Ordering::Relaxed);
        let mut text = line(rows, step.total, step.begun.elapsed(), ended || step.clock == Clock::Elapsed);
        if step.clock == Clock::Elapsed {
            let all = HumanDuration(self.begun.elapsed());
            text = format!("{text}; {all:#} in all");
        }
        say(format_args!("{PROGRAM}: {}{text}", step.prefix));
    }
}

/// What is said of so many rows in so much time.
fn line(rows: u64, total: Total, elapsed: Duration, ended: bool) -> String {
    let seconds = elapsed.as_secs_f64();
    let rate = if seconds > 0.0 { (rows as f64 / seconds) as u64 } else { 0 };
    let clock = match total.rows().filter(|total| !ended && rows > 0 && *total >= rows) {
        Some(total) => {
            let left = Duration::from_secs_f64(seconds * (total - rows) as f64 / rows as f64);
            format!("{:#} left", HumanDuration(left))
        }
        None => format!("{:#}", HumanDuration(elapsed)),
    };
    let of = match total {
        Total::Told(total) => format!(" of {}", count(total)),
        Total::About(total) => format!(" of about {}", count(total)),
        Total::Unknown => String::new(),
    };
    format!("{}{of} rows, {} rows/s, {clock}", count(rows), count(rate))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_rows_rate_and_what_it_knows_of_the_time() {
        let ten = Duration::from_secs(10);
        for (rows, total, ended, expected) in [
            (0, Some(5000), false, "0 of 5,000 rows, 0 rows/s, 10s"),
            (1000, Some(5000), false, "1,000 of 5,000 rows, 100 rows/s, 40s left"),
            (5000, Some(5000), true, "5,000 of 5,000 rows, 500 rows/s, 10s"),
            (1000, None, false, "1,000 rows, 100 rows/s, 10s"),
            // A manifest that tells too few: no time left can be told.
            (6000, Some(5000), false, "6,000 of 5,000 rows, 600 rows/s, 10s"),
        ] {
            assert_eq!(line(rows, total.into(), ten, ended), expected);
        }
        assert_eq!(line(0, Total::Unknown, Duration::ZERO, false), "0 rows, 0 rows/s, 0s");
        assert_eq!(line(10, Total::About(20), ten, false), "10 of about 20 rows, 1 rows/s, 10s left");
    }
}
