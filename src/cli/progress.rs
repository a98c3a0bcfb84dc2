//! Progress on a terminal: rows, rows/s, time left. Where stderr is no terminal there is none.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal as _;

/// A line on stderr that goes on while a command works, and is gone when it ends.
pub struct Progress(ProgressBar);

impl Progress {
    /// Begins; `total` is the number of rows where it is known. `quiet` shows nothing.
    pub fn new(total: Option<u64>, quiet: bool) -> Progress {
        if quiet || !std::io::stderr().is_terminal() {
            return Progress(ProgressBar::hidden());
        }
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
        let template = match total {
            Some(_) => "{pos}/{len} rows  {per_sec}  {eta} left  {wide_bar}",
            None => "{pos} rows  {per_sec}  {elapsed}",
        };
        bar.set_style(ProgressStyle::with_template(template).expect("a fixed template"));
        Progress(bar)
    }

    /// So many rows more are done.
    pub fn advance(&self, rows: u64) {
        self.0.inc(rows);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
