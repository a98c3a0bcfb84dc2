//! From the end of a command to its exit status: 0 done, 1 it could not be done, 2 usage, 3 it
//! ran to the end and the answer is no, 130 interrupted. Every status but 0 comes with a line on
//! stderr.

use crate::people::say;
use rekek::stop::Stop;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGXFSZ};
use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

/// How a command that ran to its end ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Status 0.
    Done,
    /// Status 3: the answer is no, in one line.
    No(String),
}

/// What was asked for makes no sense; status 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// A signal ended it; status 130.
#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
pub struct Interrupted;

/// Runs a command, says the last line and chooses the exit status.
///
/// Nothing is ever printed of a panic but its place: its message could quote a value. One that the
/// library made an error of (a decoder's, below a reader) is not seen at all; any other is a fault
/// of the program and ends it, with a line like every other error.
pub fn exit(program: &str, run: impl FnOnce() -> anyhow::Result<Outcome>) -> ExitCode {
    static PLACE: Mutex<String> = Mutex::new(String::new());
    panic::set_hook(Box::new(|info| {
        if let (Some(at), Ok(mut place)) = (info.location(), PLACE.lock()) {
            *place = format!("{}:{}", at.file(), at.line());
        }
    }));
    let result = panic::catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| {
        let place = PLACE.lock().map(|place| place.clone()).unwrap_or_default();
        Err(anyhow::anyhow!("this is a fault of {program} itself, at {place}: please report it"))
    });
    match result {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::No(line)) => {
            say(format_args!("{program}: {line}"));
            ExitCode::from(3)
        }
        Err(error) => {
            // What an import has to say of its transactions stands before it.
            let all = error.is::<Interrupted>() && error.chain().count() == 1;
            let end = if all { "; nothing was left behind" } else { "" };
            say(format_args!("{program}: {}{end}", in_one_line(&error)));
            ExitCode::from(if error.is::<Usage>() {
                2
            } else if error.is::<Interrupted>() {
                130
            } else {
                1
            })
        }
    }
}

/// An error with its causes; a cause that the text before it names already is not said again.
pub fn in_one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain().map(ToString::to_string).filter(|cause| !cause.is_empty()) {
        if line.is_empty() {
            line = cause;
        } else if !line.contains(&cause) {
            line = format!("{line}: {cause}");
        }
    }
    line
}

/// From now on SIGINT and SIGTERM ask for a stop instead of ending the process; and a file that
/// grows past the process's limit is an error of the write, not a signal that kills.
pub fn stop_on_signals() -> std::io::Result<Stop> {
    let stop = Stop::default();
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, stop.flag())?;
    }
    // A closed terminal and Ctrl-\ end a run as Ctrl-C does (and show again what is typed), unless
    // somebody chose, by nohup, that they do not.
    for signal in [SIGHUP, SIGQUIT] {
        if !is_ignored(signal) {
            signal_hook::flag::register(signal, stop.flag())?;
        }
    }
    signal_hook::flag::register(SIGXFSZ, Arc::default())?;
    Ok(stop)
}

/// Whether whoever started this had a signal ignored.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}
