//! `rekek-site`: arguments to exit status. It talks to the site's database and has no code that
//! takes a master key or could open an envelope.

// Of two uses of standard input only rekek can have any.
#[path = "../cli/census.rs"]
mod census;
#[allow(dead_code)]
#[path = "../cli/paths.rs"]
mod paths;
#[path = "../cli/people.rs"]
mod people;
#[allow(dead_code)] // how many threads is rekek's alone
#[path = "../cli/process.rs"]
mod process;
#[path = "../cli/progress.rs"]
mod progress;
#[path = "../cli/shell.rs"]
mod shell;
#[path = "../cli/site.rs"]
mod site;
#[path = "../cli/site_export.rs"]
mod site_export;
#[path = "../cli/site_import.rs"]
mod site_import;
#[path = "../cli/site_init.rs"]
mod site_init;
#[path = "../cli/site_inspect.rs"]
mod site_inspect;
#[path = "../cli/site_warning.rs"]
mod site_warning;
#[path = "../cli/status.rs"]
mod status;
#[path = "../cli/trusted.rs"]
mod trusted;
#[path = "../cli/version.rs"]
mod version;

use clap::{CommandFactory as _, Parser, Subcommand};
use site_warning::Warning;
use std::process::ExitCode;

/// The program's name, as its messages begin.
const PROGRAM: &str = "rekek-site";

/// Moves rows between a site's database and files: what `rekek` reads, and what it wrote.
#[derive(Parser)]
#[command(name = "rekek-site", version, long_version = version::LONG, max_term_width = 100, after_help = AFTER)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const AFTER: &str = "URL is postgres://USER@HOST:PORT/DATABASE or sqlite:FILE. What a PostgreSQL URL leaves out comes \
                     from the PG* variables; keep the password in a password file (PGPASSFILE, ~/.pgpass).\n\n\
                     Exit status: 0 done; 1 it could not be done; 2 usage; 3 it ran to the end and the answer is no \
                     (conflicts, a retired key still in use); 130 interrupted.";

#[derive(Subcommand)]
enum Command {
    /// Writes the rows, as they are at one moment, to a file for `rekek rewrap`
    Export(site_export::Arguments),
    /// Counts fields and rows by the key they name
    Inspect(site_inspect::Arguments),
    /// Writes what was re-wrapped, wherever the database still holds what was exported
    Import(Box<site_import::Arguments>),
    /// Makes the tables of an empty site, for a demo or a rehearsal
    Init(site_init::Arguments),
    /// Prints a shell's completions, for instance: rekek-site completions fish > ~/.config/fish/completions/rekek-site.fish
    Completions(shell::CompletionsArguments),
    /// Writes the manual pages
    Man(shell::ManArguments),
}

fn main() -> ExitCode {
    people::heed_dumb_terminals();
    // What asks for help or makes no sense ends here, with status 0 or 2.
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return site::usage(&error),
    };
    let hardened = process::harden();
    hardened.err().map(Warning::CoreDumps).into_iter().for_each(Warning::say);
    status::exit(PROGRAM, || match arguments.command {
        Command::Export(arguments) => site_export::run(&arguments),
        Command::Inspect(arguments) => site_inspect::run(&arguments),
        Command::Import(arguments) => site_import::run(&arguments),
        Command::Init(arguments) => site_init::run(&arguments),
        Command::Completions(arguments) => shell::completions(&arguments, Arguments::command()),
        Command::Man(arguments) => shell::man(&arguments, Arguments::command()),
    })
}
