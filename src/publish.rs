//! Publishing: a file gets its final name when it is whole, and not before.
//!
//! It owns the way there: bytes go to a temporary file beside the final name (without any name
//! where the system can do that, so that even kill -9 leaves nothing), mode 0600; it is synced
//! and then linked to its name, replacing nothing that it was not told to replace; the folder is
//! synced last. Symbolic links and special files are never written through.

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// What to do with a file that stands where a new one shall go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// Leave it and refuse.
    Refuse,
    /// Replace it, atomically.
    Replace,
}

/// Why a file could not be published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// Something has that name.
    #[error("{path} exists already; choose another name, or --force to replace it", path = .0.display())]
    Exists(PathBuf),
    /// An output without a manifest: what a run leaves that is stopped between the two.
    #[error(
        "{path} exists already, and without a manifest: if a run that was stopped left it there, nobody can vouch \
         for it: remove it, or --force to replace it; else choose another name", path = .0.display()
    )]
    WithoutManifest(PathBuf),
    /// The manifest could not follow its output.
    #[error("{path} was written, but its manifest was not, so it is of no use: remove it and run again: {source}",
        path = .path.display())]
    ManifestMissing {
        /// The output.
        path: PathBuf,
        /// Why.
        source: Box<PublishError>,
    },
    /// A symbolic link, a folder, a device: nothing that a careful user would replace.
    #[error("{path} is {what}, not a regular file; name a regular file", path = .path.display())]
    NotRegular {
        /// The name.
        path: PathBuf,
        /// What stands there.
        what: &'static str,
    },
    /// The system said no.
    #[error("cannot write {path}: {source}", path = .path.display())]
    Io {
        /// The final name.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Checks a final name before any work is done for it.
pub fn check(path: &Path, existing: Existing) -> Result<(), PublishError> {
    match path.symlink_metadata() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let folder = folder_of(path);
            match folder.metadata() {
                Ok(m) if m.is_dir() => Ok(()),
                Ok(_) => Err(fail(path, io::Error::from(io::ErrorKind::NotADirectory))),
                Err(e) => Err(fail(path, e)),
            }
        }
        Err(e) => Err(fail(path, e)),
        Ok(m) if m.is_file() => match existing {
            Existing::Refuse => Err(PublishError::Exists(path.to_owned())),
            Existing::Replace => Ok(()),
        },
        Ok(m) => {
            let what = match m.file_type() {
                t if t.is_symlink() => "a symbolic link",
                t if t.is_dir() => "a folder",
                _ => "a special file",
            };
            Err(PublishError::NotRegular { path: path.to_owned(), what })
        }
    }
}

fn fail(path: &Path, source: impl Into<io::Error>) -> PublishError {
    PublishError::Io { path: path.to_owned(), source: source.into() }
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// A file on its way to its name. Dropped before [`Staged::publish`], it leaves nothing.
#[derive(Debug)]
pub struct Staged {
    path: PathBuf,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Unnamed(File),
    Named(tempfile::NamedTempFile),
}

impl Staged {
    /// Opens a temporary file in the folder of `path`.
    pub fn create(path: &Path) -> Result<Staged, PublishError> {
        let kind =
            Self::unnamed(path).map_or_else(|| Self::named(path).map(Kind::Named), |f| Ok(Kind::Unnamed(f)));
        Ok(Staged { path: path.to_owned(), kind: kind.map_err(|e| fail(path, e))? })
    }

    /// `O_TMPFILE`, where the file system has it and /proc is there to give it a name later.
    fn unnamed(path: &Path) -> Option<File> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::open(folder_of(path), flags, Mode::RUSR | Mode::WUSR).ok()?);
        // The umask may have taken bits away; it cannot have added any.
        rustix::fs::fchmod(&file, Mode::RUSR | Mode::WUSR).ok()?;
        proc_name(&file).exists().then_some(file)
    }

    fn named(path: &Path) -> io::Result<tempfile::NamedTempFile> {
        let file = tempfile::Builder::new().prefix(".rekek-").suffix(".tmp").tempfile_in(folder_of(path));
        // Without the temporary name that the crate puts into its errors: nobody asked for it.
        let file = file.map_err(|e| io::Error::from(e.kind()))?;
        rustix::fs::fchmod(file.as_file(), Mode::RUSR | Mode::WUSR)?;
        Ok(file)
    }

    fn file(&mut self) -> &mut File {
        match &mut self.kind {
            Kind::Unnamed(file) => file,
            Kind::Named(file) => file.as_file_mut(),
        }
    }

    /// Brings the bytes to the disk, whatever may fail there, before anything gets a name.
    pub fn sync(&mut self) -> Result<(), PublishError> {
        let synced = self.file().sync_all();
        synced.map_err(|e| fail(&self.path, e))
    }

    /// The final name.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Syncs the file, gives it its name and syncs the folder.
    ///
    /// With [`Existing::Refuse`], a file that has come to stand there meanwhile is left alone:
    /// [`PublishError::Exists`]. With [`Existing::Replace`] the new file takes the old one's place
    /// in one step.
    pub fn publish(mut self, existing: Existing) -> Result<(), PublishError> {
        check(&self.path, existing)?;
        self.sync()?;
        let path = std::mem::take(&mut self.path);
        let given = match (self.kind, existing) {
            (Kind::Unnamed(file), Existing::Refuse) => link(&file, &path),
            (Kind::Unnamed(file), Existing::Replace) => {
                // A link cannot replace: link it to a name of its own, then rename.
                let temporary = tempfile::Builder::new()
                    .prefix(".rekek-")
                    .suffix(".tmp")
                    .make_in(folder_of(&path), |name| link(&file, name));
                temporary.and_then(|t| t.into_temp_path().persist(&path).map_err(|e| e.error))
            }
            (Kind::Named(file), Existing::Refuse) => {
                file.persist_noclobber(&path).map(drop).map_err(|e| e.error)
            }
            (Kind::Named(file), Existing::Replace) => file.persist(&path).map(drop).map_err(|e| e.error),
        };
        given.map_err(|e| match e.kind() {
            io::ErrorKind::AlreadyExists => PublishError::Exists(path.clone()),
            _ => fail(&path, e),
        })?;
        sync_folder(&path).map_err(|e| fail(&path, e))
    }
}

fn proc_name(file: &File) -> PathBuf {
    use std::os::fd::AsRawFd as _;
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

fn link(file: &File, name: &Path) -> io::Result<()> {
    Ok(rustix::fs::linkat(CWD, proc_name(file), CWD, name, AtFlags::SYMLINK_FOLLOW)?)
}

/// Makes a change of names in the folder of `path` durable. A file system that cannot sync a
/// folder (some network and FAT ones) is let pass: there is nothing more to do there.
fn sync_folder(path: &Path) -> io::Result<()> {
    match File::open(folder_of(path)).and_then(|f| f.sync_all()) {
        Err(e) if matches!(e.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => Ok(()),
        other => other,
    }
}

impl Write for Staged {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.file().write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file().flush()
    }
}

/// Writes a whole small file (a manifest, a report) and publishes it.
pub fn publish_bytes(path: &Path, bytes: &[u8], existing: Existing) -> Result<(), PublishError> {
    let mut staged = Staged::create(path)?;
    staged.write_all(bytes).map_err(|e| fail(path, e))?;
    staged.publish(existing)
}

/// Rewrites a file in one step, keeping its mode and owner: `change` gets the file's true path
/// (behind symbolic links) and gives the new content.
///
/// Two that rewrite the same file at once go one after the other, so that neither's change is
/// lost: the file is locked, and looked at again if another file has taken its name meanwhile.
pub fn rewrite<B: AsRef<[u8]>, E: From<PublishError>>(
    path: &Path,
    change: impl FnOnce(&Path) -> Result<B, E>,
) -> Result<(), E> {
    use std::os::unix::fs::MetadataExt as _;
    let path = path.canonicalize().map_err(|e| fail(path, e))?;
    let (locked, old) = loop {
        let file = File::open(&path).map_err(|e| fail(&path, e))?;
        rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).map_err(|e| fail(&path, e))?;
        let held = file.metadata().map_err(|e| fail(&path, e))?;
        let named = path.metadata().map_err(|e| fail(&path, e))?;
        if (held.dev(), held.ino()) == (named.dev(), named.ino()) {
            break (file, held);
        }
    };
    check(&path, Existing::Replace)?;
    let bytes = change(&path)?;
    let mut staged = Staged::create(&path)?;
    staged.write_all(bytes.as_ref()).map_err(|e| fail(&path, e))?;
    let file = staged.file();
    let kept = (|| -> io::Result<()> {
        let new = file.metadata()?;
        if (new.uid(), new.gid()) != (old.uid(), old.gid()) {
            std::os::unix::fs::fchown(&*file, Some(old.uid()), Some(old.gid()))?;
        }
        file.set_permissions(old.permissions())
    })();
    kept.map_err(|e| fail(&path, e))?;
    staged.publish(Existing::Replace)?;
    drop(locked);
    Ok(())
}

/// Opens a small file to read it whole: a regular one, since a pipe nobody writes to would wait for
/// ever, deaf to signals.
pub fn open_regular(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is not a regular file")) }
}

/// Removes a file if it is there, durably.
pub fn remove(path: &Path) -> Result<(), PublishError> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(fail(path, e)),
        Ok(()) => sync_folder(path).map_err(|e| fail(path, e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    /// Both ways of staging, so that the one this file system does not take is tested too.
    fn stagings(path: &Path) -> Vec<Staged> {
        let named = Staged { path: path.into(), kind: Kind::Named(Staged::named(path).unwrap()) };
        let unnamed = Staged::unnamed(path).map(|f| Staged { path: path.into(), kind: Kind::Unnamed(f) });
        [Some(named), unnamed].into_iter().flatten().collect()
    }

    fn names(folder: &Path) -> Vec<String> {
        let names = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        names.collect()
    }

    #[test]
    fn a_file_appears_whole_with_mode_0600() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        for mut staged in stagings(&path) {
            staged.write_all(b"whole").unwrap();
            assert!(!path.exists());
            staged.publish(Existing::Refuse).unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), b"whole");
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
            assert_eq!(names(folder.path()), ["out"]);
            std::fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn dropped_it_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        for mut staged in stagings(&folder.path().join("out")) {
            staged.write_all(b"half").unwrap();
        }
        assert_eq!(names(folder.path()), Vec::<String>::new());
    }

    #[test]
    fn what_came_in_between_is_not_replaced_unless_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        std::fs::write(&path, b"theirs").unwrap();
        for staged in stagings(&path) {
            assert!(matches!(staged.publish(Existing::Refuse), Err(PublishError::Exists(_))));
            assert_eq!(std::fs::read(&path).unwrap(), b"theirs");
        }
        for mut staged in stagings(&path) {
            staged.write_all(b"ours").unwrap();
            staged.publish(Existing::Replace).unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), b"ours");
            assert_eq!(names(folder.path()), ["out"]);
        }
    }

    #[test]
    fn links_and_folders_are_never_written_through() {
        let folder = tempfile::tempdir().unwrap();
        let (link, target) = (folder.path().join("link"), folder.path().join("target"));
        std::fs::write(&target, b"theirs").unwrap();
        symlink(&target, &link).unwrap();
        for existing in [Existing::Refuse, Existing::Replace] {
            assert!(matches!(check(&link, existing), Err(PublishError::NotRegular { .. })));
            assert!(matches!(check(folder.path(), existing), Err(PublishError::NotRegular { .. })));
            for staged in stagings(&link) {
                assert!(matches!(staged.publish(existing), Err(PublishError::NotRegular { .. })));
            }
        }
        assert!(matches!(
            check(&folder.path().join("no/out"), Existing::Refuse),
            Err(PublishError::Io { .. })
        ));
    }
}
