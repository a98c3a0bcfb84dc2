//! `rekek`: arguments to exit status. It holds keys and never opens a socket.

#![deny(clippy::print_stdout, clippy::print_stderr)] // they panic where the other side is closed

#[path = "cli/bench.rs"]
mod bench;
#[path = "cli/census.rs"]
mod census;
#[path = "cli/conduct.rs"]
mod conduct;
#[path = "cli/fleet.rs"]
mod fleet;
#[path = "cli/generate.rs"]
mod generate;
#[path = "cli/inspect.rs"]
mod inspect;
#[path = "cli/keygen.rs"]
mod keygen;
#[path = "cli/keys.rs"]
mod keys;
#[path = "cli/passphrase.rs"]
mod passphrase;
#[path = "cli/paths.rs"]
mod paths;
#[path = "cli/people.rs"]
mod people;
#[path = "cli/process.rs"]
mod process;
#[path = "cli/progress.rs"]
mod progress;
#[path = "cli/record.rs"]
mod record;
#[path = "cli/rewrap.rs"]
mod rewrap;
#[path = "cli/shell.rs"]
mod shell;
#[path = "cli/status.rs"]
mod status;
#[path = "cli/total.rs"]
mod total;
#[path = "cli/trusted.rs"]
mod trusted;
#[path = "cli/verify.rs"]
mod verify;
#[path = "cli/version.rs"]
mod version;
#[path = "cli/warning.rs"]
mod warning;

use anyhow::Context as _;
use clap::error::{ContextKind, ContextValue};
use clap::{ArgMatches, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use rekek::envelope::Tier;
use rekek::fleet::StandingError;
use rekek::pipeline::PipelineError;
use rekek::row::COULD_BE_KEY;
use status::{Interrupted, Outcome};
use std::any::TypeId;
use std::path::PathBuf;
use std::process::ExitCode;
use warning::Warning;

/// The program's name, as its messages begin.
const PROGRAM: &str = "rekek";

/// Rotates a site's master key-encryption key offline: re-wraps an export of envelopes and proves every one.
#[derive(Parser)]
#[command(name = "rekek", version, long_version = version::LONG, max_term_width = 100, after_help = STATUSES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const STATUSES: &str = "Exit status: 0 done; 1 it could not be done; 2 usage; 3 it ran to the end and the answer \
                        is no (failed rows, a retired key still in use, a mismatch); 130 interrupted.";

#[derive(Subcommand)]
enum Command {
    /// Re-wraps every envelope of an export to the target key, and proves each by opening it again
    Rewrap(Box<rewrap::Arguments>),
    /// Re-wraps a fleet: many sites, each with its own export, secrets and target, one after another
    Fleet(fleet::Arguments),
    /// Counts fields and rows by the key they name; needs no key
    Inspect(inspect::Arguments),
    /// Proves an output from its written bytes: against its manifest, its keys and its source
    Verify(verify::Arguments),
    /// Writes a change record: one page of what manifests say, for people
    Report(record::Arguments),
    /// Makes a new master key: prints it, or adds it to a secrets file
    Keygen(keygen::Arguments),
    /// Makes a synthetic export, for a demo, a rehearsal or a measurement
    Generate(generate::Arguments),
    /// Measures this machine: rows a second by threads, what each stage takes, and how long a fleet would take
    Bench(bench::Arguments),
    /// Prints a shell's completions, for instance: rekek completions bash > /etc/bash_completion.d/rekek
    Completions(shell::CompletionsArguments),
    /// Writes the manual pages
    Man(shell::ManArguments),
}

fn main() -> ExitCode {
    people::heed_dumb_terminals();
    // What asks for help or makes no sense ends here, with status 0 or 2.
    let mut program = Arguments::command();
    let matches = program.try_get_matches_from_mut(std::env::args_os());
    let parsed = matches
        .and_then(|matches| Ok((Arguments::from_arg_matches(&matches)?, files_named(&program, &matches))));
    let (arguments, files) = parsed.unwrap_or_else(|error| without_keys(error).exit());
    let hardened = process::harden();
    hardened.err().map(Warning::CoreDumps).into_iter().for_each(Warning::say);
    status::exit(PROGRAM, || run(&arguments.command, &files))
}

/// What clap says of arguments that make no sense, without what could be a key.
fn without_keys(mut error: clap::Error) -> clap::Error {
    for kind in [ContextKind::InvalidArg, ContextKind::InvalidSubcommand, ContextKind::InvalidValue] {
        let is_key =
            |value: &ContextValue| matches!(value, ContextValue::String(text) if paths::ends_in_key(text));
        if error.get(kind).is_some_and(is_key) {
            error.insert(kind, ContextValue::String(COULD_BE_KEY.into()));
        }
    }
    error
}

fn run(command: &Command, files: &[PathBuf]) -> anyhow::Result<Outcome> {
    Tier::check_variable().map_err(|error| status::Usage(error.to_string()))?;
    files.iter().try_for_each(|path| paths::refuse_secret(path))?;
    let stop = status::stop_on_signals().context("cannot take signals")?;
    let result = match command {
        Command::Rewrap(arguments) => rewrap::run(arguments, &stop),
        Command::Fleet(arguments) => fleet::run(arguments, &stop),
        Command::Inspect(arguments) => inspect::run(arguments, &stop),
        Command::Verify(arguments) => verify::run(arguments, &stop),
        Command::Report(arguments) => record::run(arguments),
        Command::Keygen(arguments) => keygen::run(arguments, &stop),
        Command::Generate(arguments) => generate::run(arguments, &stop),
        Command::Bench(arguments) => bench::run(arguments, &stop),
        Command::Completions(arguments) => shell::completions(arguments, Arguments::command()),
        Command::Man(arguments) => shell::man(arguments, Arguments::command()),
    };
    rekek::secret::wipe_stack();
    result.map_err(|error| if is_interruption(&error) { Interrupted.into() } else { error })
}

/// Every file that was named, by whatever argument.
fn files_named(program: &clap::Command, matches: &ArgMatches) -> Vec<PathBuf> {
    let Some((name, matches)) = matches.subcommand() else { return vec![] };
    let command = program.find_subcommand(name).expect("it was parsed");
    let files = command
        .get_arguments()
        .filter(|argument| argument.get_value_parser().type_id() == TypeId::of::<PathBuf>())
        .filter_map(|argument| matches.get_many::<PathBuf>(argument.get_id().as_str()));
    files.flatten().cloned().collect()
}

/// Whether the signal is what ended it: the run, or a wait for standard input. Any other error keeps
/// its own words, even if a signal came too: it may be of a file that has its name already.
fn is_interruption(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        matches!(cause.downcast_ref(), Some(PipelineError::Interrupted(_)))
            || matches!(cause.downcast_ref(), Some(StandingError::Interrupted(_)))
            || cause.downcast_ref().is_some_and(rekek::table::is_interruption)
    })
}
