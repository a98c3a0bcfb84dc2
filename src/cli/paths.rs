//! Paths as arguments: which of them are one file, and which are standard input.

use crate::status::Usage;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Whether two paths are the same file, by whatever names: also a link to it, or a file that is
/// not there yet.
pub fn same_file(a: &Path, b: &Path) -> bool {
    if let (Ok(a), Ok(b)) = (a.metadata(), b.metadata()) {
        return (a.dev(), a.ino()) == (b.dev(), b.ino());
    }
    let place = |path: &Path| {
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        Some((folder.canonicalize().ok()?, path.file_name()?.to_owned()))
    };
    place(a).is_some_and(|a| Some(a) == place(b))
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

/// Refuses two uses of standard input.
pub fn refuse_two_stdins<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Result<(), Usage> {
    if paths.into_iter().filter(|path| path.as_os_str() == "-").count() > 1 {
        return Err(Usage(
            "`-` stands twice, but there is one standard input; give one of them as a file".into(),
        ));
    }
    Ok(())
}
