//! Completions and manual pages, made from what `--help` is made from.

use crate::people;
use crate::status::Outcome;
use anyhow::Context as _;
use clap::{Args, Command};
use clap_complete::Shell;
use std::path::{Path, PathBuf};

/// The shell to complete for.
#[derive(Args)]
pub struct CompletionsArguments {
    /// The shell that will read them, for instance bash
    shell: Shell,
}

/// Prints a shell's completions of the program.
pub fn completions(arguments: &CompletionsArguments, mut program: Command) -> anyhow::Result<Outcome> {
    let name = program.get_name().to_owned();
    let mut text = Vec::new();
    clap_complete::generate(arguments.shell, &mut program, &name, &mut text);
    let mut text = String::from_utf8(text).context("completions are text")?;
    if arguments.shell == Shell::Bash {
        // clap_complete 4.6.11 spells a dash in the program's name in two ways, and then finds none of
        // its commands.
        text = text.replace(&name.replace('-', "__subcmd__"), &name.replace('-', "__"));
    }
    people::print_document(&text)?;
    Ok(Outcome::Done)
}

/// Where the pages go.
#[derive(Args)]
pub struct ManArguments {
    /// The folder to write them into, for instance ~/.local/share/man/man1; it is made where it is not there
    folder: PathBuf,
}

/// Writes the manual pages of the program and of each of its commands.
pub fn man(arguments: &ManArguments, program: Command) -> anyhow::Result<Outcome> {
    let folder: &Path = &arguments.folder;
    let cannot = || format!("cannot write the manual pages into {}", folder.display());
    std::fs::create_dir_all(folder).with_context(cannot)?;
    clap_mangen::generate_to(program, folder).with_context(cannot)?;
    Ok(Outcome::Done)
}
