//! A regular file, read by position.
//!
//! It knows no format. A length that a file only declares is never allocated before it is held
//! against the bytes that are there.

use super::TableError;
use rustix::buffer::spare_capacity;
use rustix::io::{pread, retry_on_intr};
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};

/// A regular file, read by position. Every read states its own offset, so any number of readers
/// share the one descriptor (a cloned `File` would share the offset as well).
pub(super) struct FileAt {
    file: File,
    len: u64,
    changed: [i64; 4],
}

/// When a file's bytes were changed last, and when anything of it was (its mode, its links): the first its
/// owner can set back, the second only who sets the clock.
fn times(metadata: &Metadata) -> [i64; 4] {
    [metadata.mtime(), metadata.mtime_nsec(), metadata.ctime(), metadata.ctime_nsec()]
}

impl FileAt {
    /// Takes the file with the length that it has now.
    pub(super) fn new(file: File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(FileAt { file, len: metadata.len(), changed: times(&metadata) })
    }

    /// Its length in bytes.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Refuses a range that does not lie in the file.
    pub(super) fn check_range(&self, start: u64, length: u64) -> io::Result<()> {
        match start.checked_add(length) {
            Some(end) if end <= self.len => Ok(()),
            _ => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!(
                    "the file says that {length} bytes stand at byte {start}, but it ends at byte {}",
                    self.len
                ),
            )),
        }
    }

    /// Fills `buf` from the file.
    pub(super) fn read_at(&self, buf: &mut [u8], start: u64) -> io::Result<()> {
        self.check_range(start, buf.len() as u64)?;
        self.file.read_exact_at(buf, start).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => became_shorter(),
            _ => e,
        })
    }

    /// The bytes of a range, which must lie in the file.
    pub(super) fn range(&self, start: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![];
        self.append_to(&mut bytes, start, length)?;
        Ok(bytes)
    }

    /// Appends the bytes of a range, which must lie in the file; they are not set to zero first.
    pub(super) fn append_to(&self, to: &mut Vec<u8>, start: u64, length: usize) -> io::Result<()> {
        self.check_range(start, length as u64)?;
        let (held, end) = (to.len(), to.len() + length);
        to.reserve_exact(length);
        while to.len() < end {
            let at = start + (to.len() - held) as u64;
            if retry_on_intr(|| pread(&self.file, spare_capacity(to), at))? == 0 {
                return Err(became_shorter());
            }
        }
        // There may have been room for more than was asked for.
        to.truncate(end);
        Ok(())
    }

    /// Refuses a file that is no longer the one that was opened.
    pub(super) fn check_unchanged(&self) -> Result<(), TableError> {
        let metadata = self.file.metadata()?;
        if metadata.len() != self.len || times(&metadata) != self.changed {
            return Err(TableError::Table(CHANGED.into()));
        }
        Ok(())
    }
}

/// What is said of it.
pub(super) const CHANGED: &str = "the file was changed while it was read: its bytes, or its mode, its name or its links; run again when \
                       nobody does";

fn became_shorter() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the file became shorter while it was read")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn a_range_beyond_the_end_is_refused_before_it_is_allocated() {
        let mut named = tempfile::NamedTempFile::new().unwrap();
        named.write_all(b"0123456789").unwrap();
        let file = FileAt::new(File::open(named.path()).unwrap()).unwrap();
        assert_eq!(file.range(3, 4).unwrap(), b"3456");
        for (start, length) in [(3, 8), (11, 0), (0, usize::MAX), (u64::MAX, 1), (1, 1 << 50)] {
            assert_eq!(file.range(start, length).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        }
        assert!(file.check_unchanged().is_ok());
        named.as_file().set_len(5).unwrap();
        let error = file.range(3, 4).unwrap_err().to_string();
        assert_eq!(error, "the file became shorter while it was read");
    }

    /// Bytes that were others for a moment are a change, whatever time the file is given back.
    #[test]
    fn a_change_that_was_taken_back_is_one() {
        let mut named = tempfile::NamedTempFile::new().unwrap();
        named.write_all(b"0123456789").unwrap();
        std::thread::sleep(std::time::Duration::from_millis(50)); // the clock of file systems ticks slowly
        let file = FileAt::new(File::open(named.path()).unwrap()).unwrap();
        let modified = named.as_file().metadata().unwrap().modified().unwrap();
        for bytes in [b"9876543210", b"0123456789"] {
            named.as_file().write_all_at(bytes, 0).unwrap();
        }
        named.as_file().set_modified(modified).unwrap();
        assert_eq!(file.check_unchanged().unwrap_err().to_string(), CHANGED);
    }
}
