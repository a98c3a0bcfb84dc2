//! A program under strace: which system calls it makes, and what comes of it when one of them
//! fails, or is the last.

use crate::folder::Site;
use std::collections::HashMap;
use std::process::{Command, Stdio};

/// A system call of a run: the `nth` of its `name` in its thread, from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    pub name: String,
    pub nth: usize,
    /// As strace shows it.
    pub line: String,
}

pub struct Traced {
    /// `None` if it was killed.
    pub status: Option<i32>,
    pub stderr: String,
    pub log: String,
}

/// Runs a command line of `rekek` in the site's folder under strace, which shows the calls of `set`
/// and spoils them as `injections` say (strace(1), "Tampering").
pub fn run(site: &Site, set: &str, injections: &[&str], line: &str) -> Traced {
    run_program(&site.plain_command(line), set, injections)
}

/// The same for any program.
pub fn run_program(program: &Command, set: &str, injections: &[&str]) -> Traced {
    let log = tempfile::NamedTempFile::new().unwrap();
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-e", "signal=none", "-e", &format!("trace={set}"), "-o"]).arg(log.path());
    for injection in injections {
        command.args(["-e", &format!("inject={injection}")]);
    }
    command.arg(program.get_program()).args(program.get_args()).stdin(Stdio::null());
    if let Some(folder) = program.get_current_dir() {
        command.current_dir(folder);
    }
    let output = command.output().expect("strace is installed (scripts/test does it)");
    let log = std::fs::read_to_string(log.path()).unwrap();
    assert_ne!(log, "", "strace could trace: {}", String::from_utf8_lossy(&output.stderr));
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    Traced { status: output.status.code(), stderr, log }
}

impl Traced {
    /// Whether a fault was put into a call.
    pub fn was_injected(&self) -> bool {
        self.log.contains("(INJECTED)")
    }

    /// The calls, counted as strace counts them: by name, in each thread.
    pub fn calls(&self) -> Vec<Call> {
        let mut counts: HashMap<(&str, &str), usize> = HashMap::new();
        let lines = self.log.lines().filter(|line| !line.contains("resumed>"));
        let calls = lines.filter_map(|line| {
            let (thread, call) = line.split_once(' ')?;
            let call = call.trim_start();
            let name = call.split_once('(')?.0;
            let nth = counts.entry((thread, name)).or_default();
            *nth += 1;
            Some(Call { name: name.to_owned(), nth: *nth, line: call.to_owned() })
        });
        calls.collect()
    }
}
