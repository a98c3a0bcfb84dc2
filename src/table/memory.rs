//! A table's bytes in memory: a file that has no name and is on no disk (memfd_create(2)).
//!
//! For measuring: whoever reads it goes the way of every regular file, system calls included, and no
//! disk's speed is in what it takes. Its memory is given back with its last handle.

use rustix::fs::{MemfdFlags, memfd_create};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

/// A file in memory. A clone is another handle to the same one.
#[derive(Debug, Clone)]
pub struct MemoryFile {
    name: String,
    file: Arc<File>,
}

impl MemoryFile {
    /// An empty one, with a name for messages.
    pub fn new(name: &str) -> io::Result<Self> {
        let file = memfd_create("rekek", MemfdFlags::CLOEXEC)?;
        Ok(MemoryFile { name: name.to_owned(), file: Arc::new(file.into()) })
    }

    /// Its name, for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A descriptor of it. All of them share one offset, so it is to be read by position.
    pub(super) fn descriptor(&self) -> io::Result<File> {
        self.file.try_clone()
    }
}

/// Appends.
impl Write for MemoryFile {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        (&*self.file).write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A file read from its first byte on, wherever the offset of its descriptor stands.
pub(super) struct FromStart {
    file: File,
    at: u64,
}

impl FromStart {
    pub(super) fn new(file: File) -> Self {
        FromStart { file, at: 0 }
    }
}

impl Read for FromStart {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read_at(buf, self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reader_begins_at_the_beginning() {
        let mut memory = MemoryFile::new("rows").unwrap();
        memory.write_all(b"0123").unwrap();
        memory.clone().write_all(b"456").unwrap();
        let mut readers = [0, 1].map(|_| FromStart::new(memory.descriptor().unwrap()));
        let mut first = [0; 2];
        readers[0].read_exact(&mut first).unwrap();
        let mut texts = readers.map(|reader| io::read_to_string(reader).unwrap());
        texts[0].insert_str(0, std::str::from_utf8(&first).unwrap());
        assert_eq!(texts, ["0123456", "0123456"]);
    }
}
