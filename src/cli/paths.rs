//! Paths as arguments: which of them are one file, and which are standard input.

use crate::status::Usage;
use rekek::row::could_be_key;
use rekek::table::{Format, Input};
use std::ffi::OsString;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Whether two paths are the same file, by whatever names: also a link to it, or a file that is
/// not there yet.
pub fn same_file(a: &Path, b: &Path) -> bool {
    if let (Some(a), Some(b)) = (identity(a), identity(b)) {
        return a == b;
    }
    place(a).is_some_and(|a| Some(a) == place(b))
}

/// A file's folder, by its true path, and its name.
fn place(path: &Path) -> Option<(PathBuf, OsString)> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    Some((folder.canonicalize().ok()?, path.file_name()?.to_owned()))
}

/// What a file is, by whatever name; `-` is standard input, where that is a file.
fn identity(path: &Path) -> Option<(u64, u64)> {
    if path.as_os_str() == "-" {
        return identity_of(rustix::stdio::stdin());
    }
    path.metadata().ok().map(|m| (m.dev(), m.ino()))
}

/// The same of an open file; a terminal or a pipe is none that could be spoiled.
fn identity_of(file: impl AsFd) -> Option<(u64, u64)> {
    let stat = rustix::fs::fstat(file).ok()?;
    let regular = rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file();
    regular.then_some((stat.st_dev, stat.st_ino))
}

/// Refuses a file to be written that is one to be read, or written for something else, even if
/// replacing files was asked for.
pub fn refuse_clashes(written: &[(&str, &Path)], read: &[(&str, PathBuf)]) -> Result<(), Usage> {
    for (i, (name, path)) in written.iter().enumerate() {
        let read = read.iter().map(|(name, path)| (*name, path.as_path()));
        let other = read.chain(written[i + 1..].iter().copied()).find(|(_, other)| same_file(path, other));
        if let Some((other, _)) = other {
            return Err(Usage(format!("{name} {} is also {other}; choose another name", path.display())));
        }
    }
    Ok(())
}

/// Which file a path is, to find the same one among many: by its identity where it is there, else by
/// its place.
#[derive(PartialEq, Eq, Hash)]
pub enum WhichFile {
    /// Device and inode.
    There(u64, u64),
    /// Its folder, by whatever name, and its name.
    NotYet(PathBuf, OsString),
}

impl WhichFile {
    /// Looks.
    pub fn at(path: &Path) -> WhichFile {
        if let Some((device, inode)) = identity(path) {
            return WhichFile::There(device, inode);
        }
        let (folder, name) = place(path).unwrap_or_else(|| (path.to_owned(), OsString::new()));
        WhichFile::NotYet(folder, name)
    }
}

/// Refuses `-` for a file that has to have a name.
pub fn refuse_dashes(written: &[(&str, &Path)]) -> Result<(), Usage> {
    match written.iter().find(|(_, path)| path.as_os_str() == "-") {
        Some((name, _)) => Err(Usage(format!("{name} cannot go to standard output; name a file"))),
        None => Ok(()),
    }
}

/// Refuses standard output that is redirected into a file that is read.
pub fn refuse_redirected(read: &[(&str, PathBuf)]) -> Result<(), Usage> {
    let stdout = identity_of(rustix::stdio::stdout());
    let clash = read.iter().find(|(_, path)| stdout.is_some() && identity(path) == stdout);
    match clash {
        Some((name, _)) => {
            Err(Usage(format!("standard output is redirected into {name}; choose another name")))
        }
        None => Ok(()),
    }
}

/// Refuses a database's URL where a file should be named, before a message names it: it may have a password.
pub fn refuse_url(path: &Path) -> Result<(), Usage> {
    let text = path.to_string_lossy();
    let is_url = text.contains("://")
        || text.contains("password=")
        || ["postgres:", "postgresql:"].iter().any(|scheme| text.starts_with(scheme));
    if !is_url || path.symlink_metadata().is_ok() {
        return Ok(());
    }
    let what =
        "a URL stands where a file should be named (not shown); a database's goes to --db of rekek-site";
    Err(Usage(what.into()))
}

/// Whether an argument is or ends in what could be a key. (It may stand behind a `/`, and has one in it
/// itself every second time.)
pub fn ends_in_key(argument: &str) -> bool {
    let ends = argument.match_indices(['/', '=', '@']).map(|(at, _)| &argument[at + 1..]);
    ends.chain([argument]).any(could_be_key)
}

/// Refuses what could be a key or a URL where a file should be named, before a message names it.
pub fn refuse_secret(path: &Path) -> Result<(), Usage> {
    refuse_url(path)?;
    if !ends_in_key(&path.to_string_lossy()) || path.symlink_metadata().is_ok() {
        return Ok(());
    }
    let what = "what should name a file could be a key (not shown), and no file is called so; a key stands in a \
                file, and the file is named; a new file is called something else";
    Err(Usage(what.into()))
}

/// The format of a table, which its name or else `flag` has to say.
pub fn format_of(what: &str, path: &Path, given: Option<Format>, flag: &str) -> Result<Format, Usage> {
    if let Some(format) = Input::from_argument(path).format(given) {
        return Ok(format);
    }
    Err(Usage(format!("cannot tell the format of {what} {} by its name; say it with {flag}", path.display())))
}

/// The flag that a command on this file needs, with a blank before it: none where the name tells the format.
#[allow(dead_code)] // Each program has its own commands.
pub fn format_as_typed(path: &Path, flag: &str, format: Option<Format>) -> String {
    match format {
        Some(format) if Format::of_path(path) != Some(format) => format!(" {flag} {}", format.name()),
        _ => String::new(),
    }
}

/// Refuses two uses of standard input.
pub fn refuse_two_stdins<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Result<(), Usage> {
    if paths.into_iter().filter(|path| path.as_os_str() == "-").count() > 1 {
        return Err(Usage(
            "`-` stands twice, but there is one standard input; give one of them as a file".into(),
        ));
    }
    Ok(())
}
