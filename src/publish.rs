//! Publishing: a file gets its final name when it is whole, and not before.
//!
//! It owns the way there: bytes go to a temporary file beside the final name (without any name
//! where the system can do that, so that even kill -9 leaves nothing), mode 0600; it is synced
//! and then linked to its name, replacing nothing that it was not told to replace; the folder is
//! synced last. Symbolic links and special files are never written through.
//!
//! What a run leaves that is killed, the next one knows for what it is. A file that is being
//! written is locked, so a temporary name that nobody holds is of a dead run, and is removed. And a
//! file that has its name before what belongs beside it (an output without its manifest) bears a
//! mark until that is there too: marked and alone, it is of a dead run, and may be replaced.

use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, XattrFlags};
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
    #[error("{path} was written, but its manifest was not, so it is of no use, and it cannot be removed: {source}",
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
    /// Opens a temporary file in the folder of `path`, and removes there what dead runs left.
    pub fn create(path: &Path) -> Result<Staged, PublishError> {
        sweep(folder_of(path));
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
        let _ = hold(&file); // it may get a temporary name yet
        proc_name(&file).exists().then_some(file)
    }

    fn named(path: &Path) -> io::Result<tempfile::NamedTempFile> {
        loop {
            let file = temporary().tempfile_in(folder_of(path));
            let file = file.map_err(without_name)?;
            // Between its name and its lock another run may have taken it for a dead one's.
            let swept = hold(file.as_file()) == Err(rustix::io::Errno::WOULDBLOCK)
                || rustix::fs::fstat(file.as_file())?.st_nlink == 0;
            if !swept {
                rustix::fs::fchmod(file.as_file(), Mode::RUSR | Mode::WUSR)?;
                return Ok(file);
            }
        }
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

    /// Marks the file as one that something still has to follow, until [`Placed::finish`]. Where the
    /// file system keeps no such marks, there is none, and what is left by a dead run is refused like
    /// any file that is there already.
    pub fn mark_unfinished(&mut self) {
        let _ = rustix::fs::fsetxattr(self.file(), UNFINISHED, b"", XattrFlags::empty());
    }

    /// Gives the file a temporary name, so that nothing but a renaming is left to do: what can fail
    /// for want of space has then been done.
    pub fn aside(self) -> Result<Staged, PublishError> {
        let Staged { path, kind } = self;
        let kind = match kind {
            Kind::Named(file) => Kind::Named(file),
            Kind::Unnamed(file) => {
                let named = temporary().make_in(folder_of(&path), |name| link(&file, name));
                let named = named.map_err(|e| fail(&path, without_name(e)))?;
                Kind::Named(tempfile::NamedTempFile::from_parts(file, named.into_temp_path()))
            }
        };
        Ok(Staged { path, kind })
    }

    /// Syncs the file, gives it its name and syncs the folder.
    ///
    /// With [`Existing::Refuse`], a file that has come to stand there meanwhile is left alone:
    /// [`PublishError::Exists`]. With [`Existing::Replace`] the new file takes the old one's place
    /// in one step.
    pub fn publish(self, existing: Existing) -> Result<(), PublishError> {
        self.place(existing).map(drop)
    }

    /// The same, for a file that something has to follow.
    pub fn place(mut self, existing: Existing) -> Result<Placed, PublishError> {
        check(&self.path, existing)?;
        self.sync()?;
        if existing == Existing::Replace {
            self = self.aside()?; // a link cannot replace, a renaming can
        }
        let Staged { path, kind } = self;
        let given = match (kind, existing) {
            (Kind::Unnamed(file), _) => link(&file, &path).map(|()| file),
            (Kind::Named(file), Existing::Refuse) => file.persist_noclobber(&path).map_err(|e| e.error),
            (Kind::Named(file), Existing::Replace) => file.persist(&path).map_err(|e| e.error),
        };
        let file = given.map_err(|e| match e.kind() {
            io::ErrorKind::AlreadyExists => PublishError::Exists(path.clone()),
            _ => fail(&path, e),
        })?;
        let placed = Placed { path, file };
        match sync_folder(&placed.path).map_err(|e| fail(&placed.path, e)) {
            // A new name goes again. One that was replaced stays: it is whole, and what it replaced,
            // which may have been somebody's only keys, is gone.
            Err(error) if existing == Existing::Refuse => placed.take_back().and(Err(error)),
            synced => synced.map(|()| placed),
        }
    }
}

/// A file that has its name, while what belongs beside it may still fail.
pub struct Placed {
    path: PathBuf,
    file: File,
}

impl Placed {
    /// The name.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Says that it is whole now, with all that belongs beside it.
    pub fn finish(self) {
        let _ = rustix::fs::fremovexattr(&self.file, UNFINISHED);
    }

    /// Takes the name away again, if it is still this file's.
    pub fn take_back(self) -> Result<(), PublishError> {
        use std::os::unix::fs::MetadataExt as _;
        let ours = self.file.metadata().map_err(|e| fail(&self.path, e))?;
        match self.path.symlink_metadata() {
            Ok(named) if (named.dev(), named.ino()) == (ours.dev(), ours.ino()) => {
                std::fs::remove_file(&self.path).map_err(|e| fail(&self.path, e))?;
                // It is gone for everybody who looks; that this is durable cannot be had by force.
                let _ = sync_folder(&self.path);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// The attribute that marks a file as unfinished.
const UNFINISHED: &str = "user.rekek.unfinished";

/// Whether a dead run left this file, or one that publishes at this moment ([`lock_folder`] tells
/// the two apart): a regular file that bears the mark.
pub fn is_unfinished(path: &Path) -> bool {
    let marked = rustix::fs::lgetxattr(path, UNFINISHED, &mut [0u8; 8]).is_ok();
    marked && path.symlink_metadata().is_ok_and(|m| m.is_file())
}

/// An error without the temporary name that tempfile puts into it: nobody asked for it.
fn without_name(error: io::Error) -> io::Error {
    error.raw_os_error().map_or(error.kind().into(), io::Error::from_raw_os_error)
}

/// How temporary files are named.
fn temporary() -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".rekek-").suffix(".tmp");
    builder
}

/// Whether a file is named as [`temporary`] names them: six letters or digits in the middle.
fn is_temporary(name: &[u8]) -> bool {
    let random = name.strip_prefix(b".rekek-").and_then(|name| name.strip_suffix(b".tmp"));
    random.is_some_and(|random| random.len() == 6 && random.iter().all(u8::is_ascii_alphanumeric))
}

/// Locks a file for as long as it is open. (A file system without locks gives an error, and then
/// nothing there is taken for a dead run's.)
fn hold(file: &File) -> rustix::io::Result<()> {
    rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive)
}

/// Removes temporary files that no living run holds. All of it may fail: then they stay.
fn sweep(folder: &Path) {
    use std::os::unix::fs::MetadataExt as _;
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if !is_temporary(entry.file_name().as_encoded_bytes()) {
            continue;
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let Ok(file) = rustix::fs::open(entry.path(), flags, Mode::empty()).map(File::from) else { continue };
        let mine = |m: std::fs::Metadata| m.is_file() && m.uid() == rustix::process::geteuid().as_raw();
        if file.metadata().is_ok_and(mine) && hold(&file).is_ok() {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// The right to publish in a folder: one run at a time, so that no output ever stands beside the
/// manifest of another. Held for a moment, when all bytes are on the disk.
pub struct FolderLock(Option<File>);

impl FolderLock {
    /// Whether it was to be had.
    pub fn is_held(&self) -> bool {
        self.0.is_some()
    }
}

/// How often, 20 ms apart, a folder's lock is tried. Anybody who may read a folder may lock it, so
/// this is not for ever.
const LOCK_TRIES: u32 = 500;

/// Takes the lock of the folder of `path`; on a file system without locks there is none to take.
pub fn lock_folder(path: &Path) -> FolderLock {
    let Ok(folder) = File::open(folder_of(path)) else { return FolderLock(None) };
    for _ in 0..LOCK_TRIES {
        match hold(&folder) {
            Ok(()) => return FolderLock(Some(folder)),
            Err(rustix::io::Errno::WOULDBLOCK) => std::thread::sleep(std::time::Duration::from_millis(20)),
            Err(_) => break,
        }
    }
    FolderLock(None)
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

/// Rewrites a file in one step, keeping its mode, access list and owner: `change` gets the file's true path
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
        keep_access_list(&locked, file)?;
        file.set_permissions(old.permissions())
    })();
    kept.map_err(|e| fail(&path, e))?;
    staged.publish(Existing::Replace)?;
    drop(locked);
    Ok(())
}

/// Gives a new file the access list of an old one (POSIX ACLs, acl(5)), or takes away the one that it has
/// from its folder: without either, others could read it than before.
fn keep_access_list(old: &File, new: &File) -> io::Result<()> {
    const NAME: &str = "system.posix_acl_access";
    let none = |errno| matches!(errno, rustix::io::Errno::NODATA | rustix::io::Errno::OPNOTSUPP);
    let mut list = vec![0; 64 << 10]; // the most that Linux keeps in an attribute
    match rustix::fs::fgetxattr(old, NAME, &mut list) {
        Ok(bytes) => Ok(rustix::fs::fsetxattr(new, NAME, &list[..bytes], XattrFlags::empty())?),
        Err(errno) if none(errno) => match rustix::fs::fremovexattr(new, NAME) {
            Err(errno) if !none(errno) => Err(errno.into()),
            _ => Ok(()),
        },
        Err(errno) => Err(errno.into()),
    }
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
    fn only_what_is_named_as_a_temporary_file_is_taken_for_one() {
        assert!(is_temporary(b".rekek-a1B2c3.tmp"));
        for name in
            [".rekek-notes.tmp", ".rekek-a1B2c3", ".rekek-a1-2c3.tmp", "x.rekek-a1B2c3.tmp", ".rekek-.tmp"]
        {
            assert!(!is_temporary(name.as_bytes()), "{name}");
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        let named = Staged::named(&path).unwrap().into_temp_path();
        assert!(is_temporary(named.file_name().unwrap().as_encoded_bytes()));
        // Whatever mode it was to have: a secrets file that is rewritten keeps its own.
        std::fs::set_permissions(&named, std::fs::Permissions::from_mode(0o640)).unwrap();
        let theirs = folder.path().join(".rekek-notes.tmp");
        std::fs::write(&theirs, "notes").unwrap();
        drop(Staged::create(&path).unwrap());
        assert!(theirs.exists() && !named.exists(), "the one is swept, the other not");
    }

    /// acl(5): a version, then an entry of tag, permissions and id for each.
    fn access_list(entries: &[(u16, u16, u32)]) -> Vec<u8> {
        let mut list = 2u32.to_le_bytes().to_vec();
        for (tag, permissions, id) in entries {
            list.extend(tag.to_le_bytes());
            list.extend(permissions.to_le_bytes());
            list.extend(id.to_le_bytes());
        }
        list
    }

    #[test]
    fn a_rewritten_file_can_be_read_by_whom_it_could_be_read_by() {
        const NOBODY: u32 = u32::MAX;
        // The owner reads and writes, user 1234 reads, the group does not; and the same for new files of a folder.
        let list =
            access_list(&[(1, 6, NOBODY), (2, 4, 1234), (4, 0, NOBODY), (16, 4, NOBODY), (32, 0, NOBODY)]);
        let get = |path: &Path| {
            let mut list = vec![0; 1024];
            let bytes = rustix::fs::getxattr(path, "system.posix_acl_access", &mut list);
            bytes.map(|n| list[..n].to_vec())
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secrets.json");
        let rewritten = || {
            rewrite(&path, |_| Ok::<_, PublishError>("new")).unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), b"new");
        };
        std::fs::write(&path, "old").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let set = rustix::fs::setxattr(&path, "system.posix_acl_access", &list, XattrFlags::empty());
        rewritten();
        if set == Err(rustix::io::Errno::OPNOTSUPP) {
            #[allow(clippy::print_stdout)] // a test's own words
            {
                println!("this file system has no access lists: that they are kept is not tested here");
            }
            return;
        }
        assert_eq!(get(&path), Ok(list.clone()), "{set:?}");
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "old").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        rustix::fs::setxattr(folder.path(), "system.posix_acl_default", &list, XattrFlags::empty()).unwrap();
        rewritten();
        assert_eq!(get(&path), Err(rustix::io::Errno::NODATA));
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o640);
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
