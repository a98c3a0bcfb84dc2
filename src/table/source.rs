//! Where the bytes of an input come from, and the digest of all of them.
//!
//! It owns the two ways of reading: in order, hashed on the way ([`HashedRead`]), and by position in a
//! regular file ([`FileAt`]), whose digest a thread of its own takes meanwhile ([`WholeDigest`]).
//! It knows no format. Whichever way, the digest covers every byte of the file, those too that no
//! row comes from, and a length that a file only declares is never allocated before it is held
//! against the bytes that are there.

use super::{FileFacts, TableError};
use crate::row::Sha256Digest;
use crate::stop::Stop;
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::SystemTime;

/// Bytes read in order, counted and hashed on their way.
pub(super) struct HashedRead<R> {
    inner: R,
    hasher: Sha256,
    bytes: u64,
}

impl<R: Read> HashedRead<R> {
    pub(super) fn new(inner: R) -> Self {
        HashedRead { inner, hasher: Sha256::new(), bytes: 0 }
    }

    /// Length and digest of what was read. Of the whole file, where a read has returned 0.
    pub(super) fn facts(&self) -> FileFacts {
        FileFacts { bytes: self.bytes, sha256: Sha256Digest::of_hasher(self.hasher.clone()) }
    }

    /// How many bytes were read.
    pub(super) fn count(&self) -> u64 {
        self.bytes
    }
}

impl<R: Read> Read for HashedRead<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.hasher.update(&buf[..n]);
        self.bytes += n as u64;
        Ok(n)
    }
}

/// A regular file, read by position. Every read states its own offset, so any number of readers
/// share the one descriptor (a cloned `File` would share the offset as well).
pub(super) struct FileAt {
    file: File,
    len: u64,
    modified: Option<SystemTime>,
}

impl FileAt {
    /// Takes the file with the length that it has now.
    pub(super) fn new(file: File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(FileAt { file, len: metadata.len(), modified: metadata.modified().ok() })
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
        self.file.read_exact_at(buf, start)
    }

    /// The bytes of a range, which must lie in the file.
    pub(super) fn range(&self, start: u64, length: usize) -> io::Result<Vec<u8>> {
        self.check_range(start, length as u64)?;
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, start)?;
        Ok(bytes)
    }

    /// Refuses a file that is no longer the one that was opened.
    fn check_unchanged(&self) -> Result<(), TableError> {
        let now = FileAt { file: self.file.try_clone()?, len: 0, modified: None };
        let metadata = now.file.metadata()?;
        if metadata.len() != self.len || metadata.modified().ok() != self.modified {
            return Err(TableError::Table("the file was changed while it was read".into()));
        }
        Ok(())
    }
}

/// The digest of a regular file, taken by a thread of its own while others read it by position.
///
/// The alternative, hashing what the decoder reads, would miss what it skips (padding, indexes)
/// and see some bytes twice; and hashing is the largest single cost of a run, so it belongs where
/// a core is idle. Dropped early, it stops the thread.
pub(super) struct WholeDigest {
    file: Arc<FileAt>,
    thread: Option<JoinHandle<Result<FileFacts, TableError>>>,
    abandoned: Stop,
}

impl WholeDigest {
    /// Begins to hash.
    pub(super) fn start(file: Arc<FileAt>, stop: &Stop) -> io::Result<Self> {
        let abandoned = Stop::default();
        let (bytes, gone, stop) = (Arc::clone(&file), abandoned.clone(), stop.clone());
        let thread = std::thread::Builder::new()
            .name("input digest".into())
            .spawn(move || digest(&bytes, || gone.is_requested() || stop.is_requested()))?;
        Ok(WholeDigest { file, thread: Some(thread), abandoned })
    }

    /// Waits for the digest. To be called once.
    pub(super) fn finish(&mut self) -> Result<FileFacts, TableError> {
        let thread = self.thread.take().expect("the digest is asked for once");
        let facts = thread.join().expect("hashing does not panic")?;
        self.file.check_unchanged()?;
        Ok(facts)
    }
}

impl Drop for WholeDigest {
    fn drop(&mut self) {
        self.abandoned.request();
    }
}

fn digest(file: &FileAt, stopped: impl Fn() -> bool) -> Result<FileFacts, TableError> {
    let mut hasher = Sha256::new();
    let mut block = vec![0; 1 << 18];
    let mut at = 0;
    while at < file.len {
        if stopped() {
            return Err(TableError::Interrupted);
        }
        let n = file.file.read_at(&mut block, at)?;
        if n == 0 {
            return Err(TableError::Table("the file became shorter while it was read".into()));
        }
        hasher.update(&block[..n]);
        at += n as u64;
    }
    Ok(FileFacts { bytes: at, sha256: Sha256Digest::of_hasher(hasher) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn file_of(bytes: &[u8]) -> (tempfile::NamedTempFile, Arc<FileAt>) {
        let mut named = tempfile::NamedTempFile::new().unwrap();
        named.write_all(bytes).unwrap();
        let file = FileAt::new(File::open(named.path()).unwrap()).unwrap();
        (named, Arc::new(file))
    }

    #[test]
    fn both_ways_come_to_the_same_digest() {
        let bytes = vec![7; (1 << 18) * 2 + 5];
        let expected = FileFacts { bytes: bytes.len() as u64, sha256: Sha256Digest::of(&bytes) };
        let (_named, file) = file_of(&bytes);
        let mut whole = WholeDigest::start(file, &Stop::default()).unwrap();
        assert_eq!(whole.finish().unwrap(), expected);
        let mut hashed = HashedRead::new(bytes.as_slice());
        io::copy(&mut hashed, &mut io::sink()).unwrap();
        assert_eq!(hashed.facts(), expected);
    }

    #[test]
    fn a_range_beyond_the_end_is_refused_before_it_is_allocated() {
        let (_named, file) = file_of(b"0123456789");
        assert_eq!(file.range(3, 4).unwrap(), b"3456");
        for (start, length) in [(3, 8), (11, 0), (0, usize::MAX), (u64::MAX, 1), (1, 1 << 50)] {
            assert_eq!(file.range(start, length).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        }
    }

    #[test]
    fn a_file_that_changes_is_noticed() {
        let (mut named, file) = file_of(b"0123456789");
        let mut whole = WholeDigest::start(Arc::clone(&file), &Stop::default()).unwrap();
        named.write_all(b"more").unwrap();
        assert_eq!(whole.finish().unwrap_err().to_string(), "the file was changed while it was read");
        named.as_file().set_len(5).unwrap();
        let error = digest(&file, || false).unwrap_err().to_string();
        assert_eq!(error, "the file became shorter while it was read");
    }
}
