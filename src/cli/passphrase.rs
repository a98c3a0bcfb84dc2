//! Asks for a passphrase: on the terminal, which is /dev/tty whatever standard input is, and without
//! showing what is typed. Never from the environment or the command line.
//!
//! (The crates for this read with a plain `read`, which a signal that only sets a flag does not end:
//! Ctrl-C would wait for the next line.)

use anyhow::Context as _;
use rekek::secret::Passphrase;
use rekek::stop::Stop;
use rekek::table::interruptible;
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};
use std::fs::File;
use std::io::Write as _;

/// Asks for the passphrase of a file.
pub fn ask(file: &str, stop: &Stop) -> anyhow::Result<Passphrase> {
    let what = format!(
        "{file} is encrypted, and there is no terminal to ask for its passphrase: run rekek in one, or run it \
         without --sign and sign the manifest by `minisign -S` where there is one"
    );
    let terminal = File::options().read(true).write(true).open("/dev/tty").with_context(|| what.clone())?;
    let _silent = Silent::new(&terminal).context(what)?;
    let cannot = || format!("cannot read the passphrase of {file}");
    write!(&terminal, "passphrase of {file}: ").with_context(cannot)?;
    let typed = Passphrase::read_line(interruptible(terminal.try_clone().with_context(cannot)?, stop));
    // The line's end was not shown either.
    writeln!(&terminal).with_context(cannot)?;
    typed.with_context(cannot)
}

/// A terminal that shows nothing of what is typed, until this is dropped.
struct Silent<'a> {
    terminal: &'a File,
    before: Termios,
}

impl<'a> Silent<'a> {
    fn new(terminal: &'a File) -> std::io::Result<Self> {
        let before = tcgetattr(terminal)?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO | LocalModes::ECHONL);
        silent.local_modes.insert(LocalModes::ICANON | LocalModes::ISIG);
        // Stopped by Ctrl-Z, it would go on with the terminal as the shell sets it: showing what is typed.
        silent.special_codes[SpecialCodeIndex::VSUSP] = 0; // _POSIX_VDISABLE
        // What was typed before it was asked for was not meant as a passphrase.
        tcsetattr(terminal, OptionalActions::Flush, &silent)?;
        Ok(Silent { terminal, before })
    }
}

impl Drop for Silent<'_> {
    fn drop(&mut self) {
        // There is nothing to be done where it fails: the terminal is gone.
        let _ = tcsetattr(self.terminal, OptionalActions::Flush, &self.before);
    }
}
