//! From an output of `rekek rewrap` to the changes that an import makes.
//!
//! It owns what a row of such a file must be: ids that are ids, each once; a source digest exactly
//! where there is a value; and every value that is not the exported one is an envelope that names
//! the target key. Reading runs on a thread of its own ([`Source::spawn`]), so that parsing and
//! hashing overlap with the database's work. Parsing the envelopes takes longer than all the rest
//! of it; so it has a pass and a thread of its own ([`Source::examine`]), which goes on while the
//! database locks and compares, and must have ended well before anything is committed.

use super::SiteError;
use crate::envelope::independent;
use crate::row::{Field, KeyId, OrgId, Sha256Digest, is_absent, printable, printable_org_id};
use crate::stop::Stop;
use crate::table::{FileFacts, Input, Layout, OpenOptions, TableError, UniqueIds, open};
use tokio::sync::{mpsc, oneshot};

/// Bytes of changes that are handed over at a time.
const CHUNK_BYTES: usize = 256 << 10;

/// What an import does to a field.
pub(super) enum Change<'a> {
    /// It was absent in the export.
    Absent,
    /// It stays as it was.
    Kept { source: Sha256Digest },
    /// It gets a new text.
    New { source: Sha256Digest, text: &'a str, digest: Sha256Digest },
}

/// A row in which something changes.
pub(super) struct Row<'a> {
    pub(super) id: &'a str,
    pub(super) fields: [Change<'a>; 3],
}

/// What a file had.
#[derive(Debug, Clone, Copy)]
pub(super) struct Loaded {
    pub(super) rows: u64,
    /// Rows in which something changes; they were handed out as 1 to this number.
    pub(super) changed: u64,
    pub(super) facts: FileFacts,
}

/// A file to be imported.
#[derive(Clone)]
pub(super) struct Source {
    pub(super) input: Input,
    pub(super) options: OpenOptions,
    pub(super) target: KeyId,
    pub(super) stop: Stop,
}

/// Whether a pass over the file reads the new texts as envelopes.
#[derive(Clone, Copy, PartialEq)]
enum Envelopes {
    Read,
    ReadElsewhere,
}

/// Some changes, as the database takes them.
pub(super) struct Chunk<C> {
    pub(super) content: C,
    /// Rows of the file that were read for it.
    pub(super) rows: u64,
}

enum Message<C> {
    Chunk(Chunk<C>),
    End(Result<Loaded, SiteError>),
}

/// The changes of a file, as they come.
pub(super) struct Changes<C> {
    from: mpsc::Receiver<Message<C>>,
    loaded: Option<Loaded>,
}

impl<C> Changes<C> {
    /// The next chunk; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Chunk<C>>, SiteError> {
        match self.from.recv().await {
            Some(Message::Chunk(chunk)) => Ok(Some(chunk)),
            Some(Message::End(loaded)) => {
                self.loaded = Some(loaded?);
                Ok(None)
            }
            None => Err(died()),
        }
    }

    /// What the file had, after [`Changes::next`] has returned `None`.
    pub(super) fn end(self) -> Result<Loaded, SiteError> {
        self.loaded.ok_or_else(died)
    }
}

pub(super) fn died() -> SiteError {
    SiteError::Io {
        doing: "reading the file",
        source: std::io::Error::other("the reading thread ended early"),
    }
}

impl Source {
    /// Reads the file on a thread. `encode` adds a row, with its number, to what a chunk holds;
    /// `bytes` says how long that has become.
    pub(super) fn spawn<C: Default + Send + 'static>(
        self,
        encode: fn(&mut C, u64, &Row<'_>),
        bytes: fn(&C) -> usize,
    ) -> Changes<C> {
        // Two chunks wait while one is filled and one is sent.
        let (to, from) = mpsc::channel(2);
        std::thread::spawn(move || {
            let mut chunk = Chunk { content: C::default(), rows: 0 };
            let end = self.read(Envelopes::ReadElsewhere, |ord, row| {
                chunk.rows += 1;
                if let Some(row) = row {
                    encode(&mut chunk.content, ord, &row);
                    if bytes(&chunk.content) >= CHUNK_BYTES {
                        let full = std::mem::replace(&mut chunk, Chunk { content: C::default(), rows: 0 });
                        // Where nobody listens any more the import has failed for another reason.
                        return to.blocking_send(Message::Chunk(full)).map_err(|_| SiteError::Interrupted);
                    }
                }
                Ok(())
            });
            if end.is_ok() {
                let _ = to.blocking_send(Message::Chunk(chunk));
            }
            let _ = to.blocking_send(Message::End(end));
        });
        Changes { from, loaded: None }
    }

    /// Reads the file on a thread and every new text in it as an envelope.
    pub(super) fn examine(self) -> oneshot::Receiver<Result<Loaded, SiteError>> {
        let (to, from) = oneshot::channel();
        std::thread::spawn(move || to.send(self.read(Envelopes::Read, |_, _| Ok(()))));
        from
    }

    /// Length, digest and rows of the file; its values are not looked at.
    pub(super) fn facts(&self, mut seen: impl FnMut(u64)) -> Result<(FileFacts, u64), SiteError> {
        let name = self.input.name();
        let fail = |e| SiteError::table(&name, e);
        let mut reader = open(&self.input, &self.options).map_err(fail)?;
        let mut rows = 0;
        while let Some(batch) = reader.next_batch().map_err(fail)? {
            if self.stop.is_requested() {
                return Err(SiteError::Interrupted);
            }
            rows += batch.num_rows() as u64;
            seen(batch.num_rows() as u64);
        }
        Ok((reader.finish().map_err(fail)?, rows))
    }

    /// Calls `each` for every row: with its changes and their number, or with `None` where it has
    /// none.
    fn read(
        &self,
        envelopes: Envelopes,
        mut each: impl FnMut(u64, Option<Row<'_>>) -> Result<(), SiteError>,
    ) -> Result<Loaded, SiteError> {
        let name = self.input.name();
        let fail = |e| SiteError::table(&name, e);
        let mut reader = open(&self.input, &self.options).map_err(fail)?;
        let layout = Layout::of(reader.schema()).map_err(fail)?;
        if layout.source_digests.is_none() {
            let what = "it has no source digests: not an output of rekek rewrap, but an export?";
            return Err(fail(TableError::Table(what.into())));
        }
        let mut unique = UniqueIds::new(&self.input, &self.options);
        let (mut rows, mut changed) = (0, 0);
        while let Some(batch) = reader.next_batch().map_err(fail)? {
            if self.stop.is_requested() {
                return Err(SiteError::Interrupted);
            }
            let texts = layout.texts(&batch);
            let digests = texts.source_digests.as_ref().expect("checked above");
            for i in 0..batch.num_rows() {
                rows += 1;
                let id = texts.organization_id.get(i).unwrap_or_default();
                if id.is_empty() {
                    let what = "it has no organization_id".into();
                    return Err(fail(TableError::Row { row: rows, what }));
                }
                unique.check(id).map_err(fail)?;
                let mut fields = [Change::Absent, Change::Absent, Change::Absent];
                for field in Field::ALL {
                    let f = field.index();
                    fields[f] = self.change(envelopes, texts.fields[f].get(i), digests[f].get(i)).map_err(
                        |what| SiteError::Value {
                            file: name.clone(),
                            row: rows,
                            organization: printable_org_id(id),
                            field,
                            what,
                        },
                    )?;
                }
                let new = fields.iter().any(|f| matches!(f, Change::New { .. }));
                if new && !OrgId::is_valid(id) {
                    // Unchanged, it is a row that failed to be re-wrapped for this very reason.
                    let what = "a row whose organization id is not spelled as one has new values".into();
                    return Err(fail(TableError::Row { row: rows, what }));
                }
                changed += u64::from(new);
                each(changed, new.then_some(Row { id, fields }))?;
            }
        }
        Ok(Loaded { rows, changed, facts: reader.finish().map_err(fail)? })
    }

    fn change<'a>(
        &self,
        envelopes: Envelopes,
        text: Option<&'a str>,
        source: Option<&str>,
    ) -> Result<Change<'a>, String> {
        let text = text.filter(|t| !is_absent(Some(t)));
        let (text, source) = match (text, source.filter(|s| !s.is_empty())) {
            (None, None) => return Ok(Change::Absent),
            (Some(_), None) => return Err("has a value and no source digest".into()),
            (None, Some(_)) => return Err("has a source digest and no value".into()),
            (Some(text), Some(source)) => (text, source),
        };
        let source: Sha256Digest =
            source.parse().map_err(|e| format!("has a source digest that is none: {e}"))?;
        let digest = Sha256Digest::of(text);
        if digest == source {
            return Ok(Change::Kept { source });
        }
        if envelopes == Envelopes::ReadElsewhere {
            return Ok(Change::New { source, text, digest });
        }
        match independent::read(text).map(|envelope| envelope.key_id) {
            Err(_) => {
                Err("differs from its source and is no envelope: the file was altered; make it again".into())
            }
            Ok(key) if key != self.target.as_str() => Err(format!(
                "differs from its source and names the key {}, not the manifest's target {}; make the file again",
                printable(&key),
                printable(self.target.as_str())
            )),
            Ok(_) => Ok(Change::New { source, text, digest }),
        }
    }
}
