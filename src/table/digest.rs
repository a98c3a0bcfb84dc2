//! The SHA-256 of a file, taken beside the work on its bytes.
//!
//! Once an envelope is re-wrapped fast, hashing is what a run spends most of its time on, and a
//! digest is one long chain: no two threads can share it. So whoever reads or writes a file only
//! queues what is to be hashed, and whoever is free hashes the next piece ([`RunningDigest::work`],
//! which [`crate::parallel`] calls between two items). Nobody has to be free: what waits is
//! bounded by [`WAITING_BYTES_MAX`], and beyond that whoever queues hashes. So memory is bounded,
//! and a digest comes out right with any number of threads, or with none that help.
//!
//! It owns the order of the pieces: they are hashed as they were queued, each byte once.

use super::source::FileAt;
use super::{FileFacts, TableError};
use crate::row::Sha256Digest;
use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

/// Bytes that wait in memory to be hashed, at the most, beside the last piece queued.
const WAITING_BYTES_MAX: usize = 4 << 20;

/// Bytes hashed at a time: about a batch, so that a digest keeps pace with the work.
const STEP: usize = 1 << 20;

/// Bytes read at a time of a piece that is still in its file.
const BLOCK: usize = 1 << 18;

/// A digest on its way. A clone is another handle to the same one.
#[derive(Clone, Default)]
pub struct RunningDigest(Arc<Shared>);

#[derive(Default)]
struct Shared {
    unwanted: bool,
    waiting: Mutex<Waiting>,
    /// Held by whoever hashes. Taken before `waiting`, never after it.
    hashed: Mutex<State>,
}

#[derive(Default)]
struct Waiting {
    pieces: VecDeque<Piece>,
    /// Bytes that the pieces hold in memory.
    bytes: usize,
}

enum Piece {
    Bytes(Bytes),
    /// Still in its file, read when it is hashed.
    Range(Arc<FileAt>, Range<u64>),
}

#[derive(Default)]
struct State {
    hasher: Sha256,
    bytes: u64,
    /// What is read of a file goes through here.
    block: Vec<u8>,
    failed: Option<io::Error>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whoever panicked ends the run; its digest is not asked for.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl RunningDigest {
    /// No digest at all: what is queued is forgotten.
    pub(super) fn unwanted() -> Self {
        RunningDigest(Arc::new(Shared { unwanted: true, ..Shared::default() }))
    }

    /// Queues the next bytes of the file.
    pub(super) fn push(&self, bytes: Bytes) {
        if self.0.unwanted {
            return;
        }
        let mut waiting = lock(&self.0.waiting);
        waiting.bytes += bytes.len();
        waiting.pieces.push_back(Piece::Bytes(bytes));
        drop(waiting);
        while lock(&self.0.waiting).bytes > WAITING_BYTES_MAX {
            self.step(&mut lock(&self.0.hashed));
        }
    }

    /// Queues the next bytes of the file where they still stand in it.
    pub(super) fn push_range(&self, file: &Arc<FileAt>, range: Range<u64>) {
        if !range.is_empty() && !self.0.unwanted {
            lock(&self.0.waiting).pieces.push_back(Piece::Range(Arc::clone(file), range));
        }
    }

    /// Hashes a piece that waits, unless another thread is at it; says whether it did.
    pub fn work(&self) -> bool {
        match self.0.hashed.try_lock() {
            Ok(mut state) => self.step(&mut state),
            Err(TryLockError::Poisoned(_) | TryLockError::WouldBlock) => false,
        }
    }

    /// Hashes all that waits, and says what the bytes so far were.
    pub(super) fn finish(&self) -> Result<FileFacts, TableError> {
        if self.0.unwanted {
            return Err(TableError::Table("its digest was not taken".into()));
        }
        let mut state = lock(&self.0.hashed);
        while self.step(&mut state) {}
        match state.failed.take() {
            Some(error) => Err(error.into()),
            None => {
                Ok(FileFacts { bytes: state.bytes, sha256: Sha256Digest::of_hasher(state.hasher.clone()) })
            }
        }
    }

    /// Hashes at most [`STEP`] bytes of the first piece; false if none waits.
    fn step(&self, state: &mut State) -> bool {
        let mut waiting = lock(&self.0.waiting);
        let Some(piece) = waiting.pieces.pop_front() else { return false };
        match piece {
            Piece::Bytes(mut bytes) => {
                let now = bytes.split_to(bytes.len().min(STEP));
                waiting.bytes -= now.len();
                if !bytes.is_empty() {
                    waiting.pieces.push_front(Piece::Bytes(bytes));
                }
                drop(waiting);
                state.update(&now);
            }
            Piece::Range(file, range) => {
                let end = range.end.min(range.start + STEP as u64);
                if end < range.end {
                    waiting.pieces.push_front(Piece::Range(Arc::clone(&file), end..range.end));
                }
                drop(waiting);
                if let Err(error) = state.read(&file, range.start..end) {
                    state.failed.get_or_insert(error);
                }
            }
        }
        true
    }
}

impl State {
    fn update(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
    }

    fn read(&mut self, file: &FileAt, range: Range<u64>) -> io::Result<()> {
        let mut at = range.start;
        let mut block = std::mem::take(&mut self.block);
        block.resize(BLOCK, 0);
        while at < range.end {
            let n = usize::try_from(range.end - at).unwrap_or(BLOCK).min(BLOCK);
            file.read_at(&mut block[..n], at)?;
            self.update(&block[..n]);
            at += n as u64;
        }
        self.block = block;
        Ok(())
    }
}

/// Bytes read in order, counted and queued for their digest.
pub(super) struct HashedRead<R> {
    inner: R,
    digest: RunningDigest,
    bytes: u64,
}

impl<R: Read> HashedRead<R> {
    pub(super) fn new(inner: R, digest: RunningDigest) -> Self {
        HashedRead { inner, digest, bytes: 0 }
    }

    /// The digest of what is read.
    pub(super) fn digest(&self) -> &RunningDigest {
        &self.digest
    }

    /// How many bytes were read.
    pub(super) fn count(&self) -> u64 {
        self.bytes
    }
}

impl<R: Read> Read for HashedRead<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        // At most so much at a time, lest the copy be as large as a message of hundreds of megabytes.
        let most = buf.len().min(STEP);
        let n = self.inner.read(&mut buf[..most])?;
        self.bytes += n as u64;
        if !self.digest.0.unwanted {
            // A copy, for whoever reads works on the buffer itself. It costs a tenth of hashing it.
            self.digest.push(Bytes::copy_from_slice(&buf[..n]));
        }
        Ok(n)
    }
}

/// The digest of a file that is read by position.
///
/// What a decoder reads would not do: it skips some bytes (padding, indexes) and sees others
/// twice. So the file is read for its digest once more, from the system's cache, as far as the
/// decoder has come.
pub(super) struct FileDigest {
    file: Arc<FileAt>,
    digest: RunningDigest,
    queued: u64,
}

impl FileDigest {
    pub(super) fn new(file: &Arc<FileAt>, digest: RunningDigest) -> Self {
        FileDigest { file: Arc::clone(file), digest, queued: 0 }
    }

    pub(super) fn digest(&self) -> &RunningDigest {
        &self.digest
    }

    /// The decoder has come as far as this byte; `end` lies in the file.
    pub(super) fn reached(&mut self, end: u64) {
        if end > self.queued {
            self.digest.push_range(&self.file, self.queued..end);
            self.queued = end;
        }
    }

    /// The digest of the whole file; refuses one that has changed meanwhile.
    pub(super) fn finish(&mut self) -> Result<FileFacts, TableError> {
        self.reached(self.file.len());
        let facts = self.digest.finish()?;
        self.file.check_unchanged()?;
        Ok(facts)
    }
}

/// Bytes on their way to a file: gathered in blocks, written, and queued for their digest. Dropped
/// before [`Hashed::finish`], it still passes on what is gathered: whoever reads a stream that ends
/// early sees how far it came.
pub struct Hashed<W: Write> {
    /// Taken when it is finished.
    inner: Option<W>,
    block: Vec<u8>,
    digest: RunningDigest,
}

impl<W: Write> Hashed<W> {
    /// Nothing has passed yet.
    pub fn new(inner: W) -> Self {
        Hashed { inner: Some(inner), block: Vec::with_capacity(BLOCK), digest: RunningDigest::default() }
    }

    /// The digest of what is written.
    pub fn digest(&self) -> &RunningDigest {
        &self.digest
    }

    /// Writes what is gathered: what has passed, and where it went.
    pub fn finish(mut self) -> Result<(FileFacts, W), TableError> {
        self.flush()?;
        let inner = self.inner.take().expect("it is taken once, here");
        Ok((self.digest.finish()?, inner))
    }

    fn pass_on(&mut self) -> io::Result<()> {
        let Some(inner) = &mut self.inner else { return Ok(()) };
        let block = Bytes::from(std::mem::replace(&mut self.block, Vec::with_capacity(BLOCK)));
        inner.write_all(&block)?;
        self.digest.push(block);
        Ok(())
    }
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if self.block.len() == BLOCK {
            self.pass_on()?;
        }
        let n = buf.len().min(BLOCK - self.block.len());
        self.block.extend_from_slice(&buf[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.block.is_empty() {
            self.pass_on()?;
        }
        self.inner.as_mut().map_or(Ok(()), Write::flush)
    }
}

impl<W: Write> Drop for Hashed<W> {
    fn drop(&mut self) {
        _ = self.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    fn bytes(n: usize) -> Vec<u8> {
        (0..n as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
    }

    fn facts(bytes: &[u8]) -> FileFacts {
        FileFacts { bytes: bytes.len() as u64, sha256: Sha256Digest::of(bytes) }
    }

    fn file_of(bytes: &[u8]) -> (tempfile::NamedTempFile, Arc<FileAt>) {
        let mut named = tempfile::NamedTempFile::new().unwrap();
        named.write_all(bytes).unwrap();
        let file = FileAt::new(File::open(named.path()).unwrap()).unwrap();
        (named, Arc::new(file))
    }

    #[test]
    fn every_way_comes_to_the_same_digest_whoever_helps() {
        let bytes = bytes(STEP * 3 + 5);
        for helpers in [0, 1, 3] {
            let (_named, file) = file_of(&bytes);
            let mut by_position = FileDigest::new(&file, RunningDigest::default());
            let mut read = HashedRead::new(bytes.as_slice(), RunningDigest::default());
            let mut written = Hashed::new(vec![]);
            let digests = [by_position.digest(), read.digest(), written.digest()].map(Clone::clone);
            let done = std::sync::atomic::AtomicBool::new(false);
            let relaxed = std::sync::atomic::Ordering::Relaxed;
            std::thread::scope(|scope| {
                for _ in 0..helpers {
                    scope.spawn(|| {
                        while !done.load(relaxed) {
                            digests.iter().for_each(|digest| _ = digest.work());
                        }
                    });
                }
                by_position.reached(7);
                by_position.reached(5);
                by_position.reached(STEP as u64 * 2);
                assert_eq!(by_position.finish().unwrap(), facts(&bytes));
                io::copy(&mut read, &mut io::sink()).unwrap();
                assert_eq!(
                    (read.digest().finish().unwrap(), read.count()),
                    (facts(&bytes), bytes.len() as u64)
                );
                for piece in bytes.chunks(100_003) {
                    written.write_all(piece).unwrap();
                }
                let (written, to) = written.finish().unwrap();
                assert_eq!(written, facts(&bytes));
                assert!(to == bytes);
                done.store(true, relaxed);
            });
        }
    }

    #[test]
    fn what_waits_is_bounded_though_nobody_helps() {
        let digest = RunningDigest::default();
        let piece = Bytes::from(bytes(100_000));
        for _ in 0..200 {
            digest.push(piece.clone());
            assert!(lock(&digest.0.waiting).bytes <= WAITING_BYTES_MAX);
        }
        assert_eq!(digest.finish().unwrap(), facts(&piece.repeat(200)));
    }

    #[test]
    fn a_file_that_changes_is_noticed() {
        let (mut named, file) = file_of(b"0123456789");
        named.write_all(b"more").unwrap();
        let error = FileDigest::new(&file, RunningDigest::default()).finish().unwrap_err().to_string();
        assert_eq!(error, crate::table::source::CHANGED);
        named.as_file().set_len(5).unwrap();
        let error = FileDigest::new(&file, RunningDigest::default()).finish().unwrap_err().to_string();
        assert_eq!(error, "the file became shorter while it was read");
    }

    #[test]
    fn what_cannot_be_written_is_an_error() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let mut written = Hashed::new(full);
        written.write_all(b"gathered").unwrap();
        assert!(written.finish().is_err());
    }
}
