//! Arrow IPC: the file (`.arrow`, `.feather`) and the stream (`.arrows`, pipes).
//!
//! It owns the framing of both (Arrow columnar format 1.5, "Serialization and Interprocess
//! Communication"): it cuts the bytes into messages itself, holds every declared length against
//! the bytes that are there, and leaves only the decoding of a checked message to the arrow crate.
//! A stream without its end marker is refused, and so are bytes after it: a stream that was cut at
//! a message's end would otherwise pass for a shorter table.
//!
//! A batch is held in memory as the file has it, and given out in slices that share that memory.

use super::decoder::arrow_error;
use super::digest::{FileDigest, HashedRead, RunningDigest};
use super::leftovers::drop_leftovers;
use super::slices::Slices;
use super::source::FileAt;
use super::standing_alone::{
    columns_to_copy, copied, standing_alone, without_dictionaries, without_other_rows,
};
use super::{
    COLUMNS_MAX, Compression, Dictionaries, FileFacts, TableError, TableReader, TableRows, TableWriter,
};
use crate::row::Field;
use ::arrow::array::RecordBatch;
use ::arrow::buffer::Buffer;
use ::arrow::datatypes::{Field as Column, Schema, SchemaRef};
use ::arrow::ipc::convert::IpcSchemaEncoder;
use ::arrow::ipc::reader::FileDecoder;
use ::arrow::ipc::writer::{
    DictionaryHandling, DictionaryTracker, FileWriter, IpcWriteOptions, StreamWriter,
};
use ::arrow::ipc::{self, Block, CompressionType, MessageHeader, MetadataVersion};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::Arc;

/// Bytes that a message may have, in the file and decompressed together. A batch is in memory whole.
const MESSAGE_BYTES_MAX: u64 = 512 << 20;

/// Values that a column of a message may have, nested ones included. Casts take a few bytes for each at once.
const VALUES_MAX: i64 = 1 << 27;

/// Bytes that dictionaries may have to count as fixed. Written again, each column has its own, which may
/// count twice, compressed and decompressed: what is written must not be too large to be read.
const FIXED_BYTES_MAX: u64 = MESSAGE_BYTES_MAX / 4;

/// Bytes that a message's metadata, or a file's footer, may have.
const METADATA_BYTES_MAX: u64 = 16 << 20;

/// Bytes allocated for a stream's message before any of them has arrived.
const UNSEEN_BYTES: usize = 16 << 20;

/// Bytes of a file's footer beside the schema and the entries of its batches: those of its dictionaries, and
/// what holds all of it together.
const FOOTER_REST_BYTES: usize = 1 << 20;

const CONTINUATION: [u8; 4] = [0xff; 4];
const MAGIC: &[u8; 6] = b"ARROW1";

/// An encapsulated message: its prefix and metadata, then its body.
struct Message {
    bytes: Vec<u8>,
    /// Where it begins.
    at: usize,
    /// Bytes in front of its body.
    head: usize,
}

impl Message {
    /// Lays a message out: the prefix in its present-day form (the one before Arrow 0.15 had no
    /// continuation marker), and as much in front as puts the body on a multiple of 16 bytes, for
    /// the arrays are views of it. `read_body` appends the body.
    fn assemble(
        metadata: &[u8],
        expected: usize,
        read_body: impl FnOnce(&mut Vec<u8>) -> Result<(), TableError>,
    ) -> Result<Message, TableError> {
        let head = 8 + metadata.len();
        let pad = head.next_multiple_of(16) - head;
        let mut bytes = Vec::with_capacity(pad + head + expected);
        bytes.resize(pad, 0);
        bytes.extend_from_slice(&CONTINUATION);
        bytes.extend_from_slice(&(metadata.len() as i32).to_le_bytes());
        bytes.extend_from_slice(metadata);
        read_body(&mut bytes)?;
        Ok(Message { bytes, at: pad, head })
    }

    fn header(&self) -> Result<ipc::Message<'_>, TableError> {
        header(&self.bytes[self.at..][8..self.head])
    }
}

pub(super) fn header(metadata: &[u8]) -> Result<ipc::Message<'_>, TableError> {
    ipc::root_as_message(metadata).map_err(|_| malformed("a message's metadata cannot be read"))
}

fn malformed(what: &str) -> TableError {
    TableError::Table(format!("the Arrow data is malformed: {what}"))
}

/// The length of a message's body, if it is one that is read.
fn body_length(header: &ipc::Message) -> Result<u64, TableError> {
    let length = u64::try_from(header.bodyLength()).map_err(|_| malformed("a message of negative length"))?;
    if length > MESSAGE_BYTES_MAX {
        return Err(too_large(length));
    }
    Ok(length)
}

fn too_large(bytes: u64) -> TableError {
    TableError::Table(format!(
        "a record batch has {bytes} bytes; more than {MESSAGE_BYTES_MAX} are not read: \
         write the table in smaller batches"
    ))
}

/// Turns messages into batches.
struct Decoder {
    inner: FileDecoder,
    schema: SchemaRef,
    slices: Slices,
    /// Bytes of each dictionary, which stay in memory.
    dictionaries: HashMap<i64, u64>,
    /// Messages decoded, to say where one was wrong.
    messages: u64,
    /// Bytes of the batch decoded last, until they are told.
    bytes_shared: usize,
}

impl Decoder {
    fn new(schema: SchemaRef) -> Result<Self, TableError> {
        if schema.fields().len() > COLUMNS_MAX {
            return Err(TableError::Table(format!(
                "the table has {} columns; more than {COLUMNS_MAX} are not read",
                schema.fields().len()
            )));
        }
        // V1 stands for "whatever each message says": pyarrow asked for version 4 writes it in the
        // messages and 5 in the footer.
        let inner = FileDecoder::new(Arc::clone(&schema), MetadataVersion::V1);
        Ok(Decoder {
            inner,
            schema,
            slices: Slices::default(),
            dictionaries: HashMap::new(),
            messages: 0,
            bytes_shared: 0,
        })
    }

    /// Bytes of the dictionaries, each counted for every column that has it. (Those of the ciphertext
    /// columns are not written in any case.)
    fn dictionary_bytes_by_column(&self) -> u64 {
        let is_ciphertext = |column: &Column| Field::ALL.iter().any(|f| f.column() == column.name());
        let others = self.schema.fields().iter().filter(|column| !is_ciphertext(column));
        let others = Schema::new(others.cloned().collect::<Vec<_>>());
        #[expect(deprecated, reason = "as the decoder finds the columns of a dictionary")]
        let columns = |id| others.fields_with_dict_id(id).len() as u64;
        self.dictionaries
            .iter()
            .map(|(id, bytes)| bytes.saturating_mul(columns(*id)))
            .fold(0, u64::saturating_add)
    }

    /// Takes the next message: a dictionary, or a record batch, which [`Slices`] then gives out.
    fn message(&mut self, mut message: Message) -> Result<(), TableError> {
        self.messages += 1;
        let place = format!("message {}", self.messages);
        let fail = |e| arrow_error(&place, e);
        drop_leftovers(&mut message.bytes[message.at..][8..message.head], &self.schema)?;
        let whole = Buffer::from_vec(message.bytes).slice(message.at);
        let (header, body) = (header(&whole[8..message.head])?, &whole[message.head..]);
        let block = Block::new(0, message.head as i32, body.len() as i64);
        match header.header_type() {
            MessageHeader::RecordBatch => {
                let batch = header.header_as_record_batch();
                let bytes = check_batch(&batch.ok_or_else(|| malformed("an empty message"))?, body)?;
                self.bytes_shared = bytes as usize;
                let batch = self.inner.read_record_batch(&block, &whole).map_err(fail)?;
                self.slices.put(batch.ok_or_else(|| malformed("an empty message"))?);
            }
            MessageHeader::DictionaryBatch => {
                let dictionary =
                    header.header_as_dictionary_batch().ok_or_else(|| malformed("an empty message"))?;
                let batch = dictionary.data().ok_or_else(|| malformed("an empty dictionary"))?;
                let bytes = check_batch(&batch, body)?;
                let kept = self.dictionaries.entry(dictionary.id()).or_default();
                *kept = if dictionary.isDelta() { *kept + bytes } else { bytes };
                let all: u64 = self.dictionaries.values().sum();
                if all > MESSAGE_BYTES_MAX {
                    return Err(TableError::Table(format!(
                        "the dictionaries have {all} bytes; more than {MESSAGE_BYTES_MAX} are not read"
                    )));
                }
                self.inner.read_dictionary(&block, &whole).map_err(fail)?;
            }
            // Some writers pad with empty messages.
            MessageHeader::NONE => {}
            other => {
                let name = other.variant_name().unwrap_or("unknown");
                return Err(TableError::Table(format!("{place}: a {name} message does not belong here")));
            }
        }
        Ok(())
    }
}

/// Checks all that a batch declares against its body, which the decoder would take on trust or
/// allocate by: where the buffers lie, and how large they are decompressed. Returns the batch's
/// size in memory.
fn check_batch(batch: &ipc::RecordBatch, body: &[u8]) -> Result<u64, TableError> {
    if batch.length() < 0 {
        return Err(malformed("a batch with a negative number of rows"));
    }
    for node in batch.nodes().into_iter().flatten() {
        if node.length() < 0 || node.null_count() < 0 || node.null_count() > node.length() {
            return Err(malformed("a column of an impossible length"));
        }
        // What has no bytes of its own (nulls) could have any number of values.
        if node.length() > VALUES_MAX {
            return Err(TableError::Table(format!(
                "a column has {} values in one record batch; more than {VALUES_MAX} are not read: \
                 write the table in smaller batches",
                node.length()
            )));
        }
    }
    let compressed = batch.compression().is_some();
    let mut memory = body.len() as u64;
    for buffer in batch.buffers().into_iter().flatten() {
        let range = usize::try_from(buffer.offset()).ok().zip(usize::try_from(buffer.length()).ok());
        let bytes = range
            .and_then(|(start, length)| body.get(start..start.checked_add(length)?))
            .ok_or_else(|| malformed("a buffer lies outside its message"))?;
        if let (true, Some(declared)) = (compressed, bytes.first_chunk()) {
            // -1 says that this buffer is not compressed after all.
            let declared = i64::from_le_bytes(*declared);
            if declared < -1 {
                return Err(malformed("a buffer of negative length"));
            }
            memory = memory.saturating_add(declared.max(0) as u64);
        }
    }
    if memory > MESSAGE_BYTES_MAX {
        return Err(too_large(memory));
    }
    Ok(memory)
}

/// The schema of a message or a footer.
fn schema_of(schema: ipc::Schema) -> Result<Schema, TableError> {
    if !schema.endianness().equals_to_target_endianness() {
        return Err(TableError::Table("the Arrow data is in the byte order of another machine".into()));
    }
    ipc::convert::try_fb_to_schema(schema).map_err(|e| arrow_error("the schema", e))
}

/// Reads an Arrow IPC stream.
pub(super) struct ArrowStreamReader {
    input: HashedRead<Box<dyn Read + Send>>,
    decoder: Decoder,
    ended: bool,
}

impl ArrowStreamReader {
    pub(super) fn new(bytes: Box<dyn Read + Send>, digest: RunningDigest) -> Result<Self, TableError> {
        let mut input = HashedRead::new(bytes, digest);
        let first = next_message(&mut input)?;
        let message = first.ok_or_else(|| malformed("a stream without a schema"))?;
        let header = message.header()?;
        let schema = header
            .header_as_schema()
            .ok_or_else(|| malformed("a stream that does not begin with its schema"))?;
        let decoder = Decoder::new(Arc::new(schema_of(schema)?))?;
        Ok(ArrowStreamReader { input, decoder, ended: false })
    }
}

/// The next message of a stream; `None` is the end marker.
fn next_message(input: &mut HashedRead<Box<dyn Read + Send>>) -> Result<Option<Message>, TableError> {
    let mut word = [0; 4];
    if let Err(e) = input.read_exact(&mut word) {
        return Err(match e.kind() {
            io::ErrorKind::UnexpectedEof if input.count() == 0 => {
                TableError::Table("the stream is empty".into())
            }
            io::ErrorKind::UnexpectedEof => cut_short(),
            _ => e.into(),
        });
    }
    if input.count() == 4 && word == MAGIC[..4] {
        return Err(TableError::Table(
            "this is an Arrow file, not an Arrow stream: its format is named arrow".into(),
        ));
    }
    if word == CONTINUATION {
        exactly(input.read_exact(&mut word))?;
    }
    let length = i32::from_le_bytes(word);
    if length == 0 {
        return Ok(None);
    }
    let length = u64::try_from(length)
        .ok()
        .filter(|length| *length <= METADATA_BYTES_MAX)
        .ok_or_else(|| malformed("no message stands where one should, or its metadata is too long"))?;
    let mut metadata = vec![];
    append(input, &mut metadata, length)?;
    let body = body_length(&header(&metadata)?)?;
    Message::assemble(&metadata, body.min(UNSEEN_BYTES as u64) as usize, |bytes| append(input, bytes, body))
        .map(Some)
}

/// Reads `length` bytes. What is allocated is never more than twice what has arrived, so that a length
/// that is only declared costs nothing, and in the end exactly what it holds.
fn append(input: &mut impl Read, to: &mut Vec<u8>, length: u64) -> Result<(), TableError> {
    let mut left = usize::try_from(length).map_err(|_| cut_short())?;
    while left > 0 {
        let (at, step) = (to.len(), left.min(to.len().max(UNSEEN_BYTES)));
        to.reserve_exact(step);
        to.resize(at + step, 0);
        exactly(input.read_exact(&mut to[at..]))?;
        left -= step;
    }
    Ok(())
}

fn exactly(read: io::Result<()>) -> Result<(), TableError> {
    read.map_err(|e| if e.kind() == io::ErrorKind::UnexpectedEof { cut_short() } else { e.into() })
}

fn cut_short() -> TableError {
    TableError::Table("the Arrow stream ends without its end marker: it was cut short".into())
}

impl TableReader for ArrowStreamReader {
    fn schema(&self) -> &SchemaRef {
        &self.decoder.schema
    }

    fn next_batch(&mut self) -> Result<Option<RecordBatch>, TableError> {
        loop {
            if let Some(batch) = self.decoder.slices.take()? {
                return Ok(Some(batch));
            }
            if self.ended {
                return Ok(None);
            }
            match next_message(&mut self.input)? {
                Some(message) => self.decoder.message(message)?,
                None => {
                    self.ended = true;
                    if self.input.read(&mut [0])? > 0 {
                        return Err(malformed("there are bytes after the stream's end marker"));
                    }
                }
            }
        }
    }

    fn digest(&self) -> &RunningDigest {
        self.input.digest()
    }

    fn finish(&mut self) -> Result<FileFacts, TableError> {
        self.input.digest().finish()
    }
}

/// Reads an Arrow IPC file.
pub(super) struct ArrowFileReader {
    file: Arc<FileAt>,
    blocks: std::vec::IntoIter<Block>,
    decoder: Decoder,
    digest: FileDigest,
}

impl ArrowFileReader {
    pub(super) fn new(file: File, digest: RunningDigest) -> Result<Self, TableError> {
        let file = Arc::new(FileAt::new(file)?);
        let (decoder, blocks) = read_footer(&file)?;
        let digest = FileDigest::new(&file, digest);
        Ok(ArrowFileReader { file, blocks: blocks.into_iter(), decoder, digest })
    }
}

/// The file's footer: its schema, its dictionaries (decoded, since any batch may need any), and
/// where its batches stand.
fn read_footer(file: &FileAt) -> Result<(Decoder, Vec<Block>), TableError> {
    // Magic and padding, then at the end the footer's length and the magic again.
    const LEAST: u64 = 8 + 4 + 6;
    let not_arrow = || TableError::Table("this is no Arrow file, or it is cut short".into());
    if file.len() >= 4 && file.range(0, 4)? == b"FEA1" {
        return Err(TableError::Table(
            "this is a Feather file of version 1, which is not Arrow; write it in version 2".into(),
        ));
    }
    if file.len() < LEAST || file.range(0, 6)? != MAGIC {
        if file.len() >= 4 && file.range(0, 4)? == CONTINUATION {
            return Err(TableError::Table(
                "this is an Arrow stream, not an Arrow file: its format is named arrows".into(),
            ));
        }
        return Err(not_arrow());
    }
    let mut tail = [0; 10];
    file.read_at(&mut tail, file.len() - 10)?;
    let length = i32::from_le_bytes([tail[0], tail[1], tail[2], tail[3]]);
    let length = u64::try_from(length).map_err(|_| not_arrow())?;
    if &tail[4..] != MAGIC || length > METADATA_BYTES_MAX || length > file.len() - LEAST {
        return Err(not_arrow());
    }
    let footer = file.range(file.len() - 10 - length, length as usize)?;
    let footer = ipc::root_as_footer(&footer).map_err(|_| malformed("its footer cannot be read"))?;
    let schema = footer.schema().ok_or_else(|| malformed("its footer has no schema"))?;
    let mut schema = schema_of(schema)?;
    // The file's own key-value metadata has no place but the schema's in the other formats.
    for pair in footer.custom_metadata().into_iter().flatten() {
        if let (Some(key), Some(value)) = (pair.key(), pair.value())
            && !schema.metadata.contains_key(key)
        {
            schema.metadata.insert(key, value);
        }
    }
    let mut decoder = Decoder::new(Arc::new(schema))?;
    for block in footer.dictionaries().into_iter().flatten() {
        let message = block_message(file, block)?;
        if message.header()?.header_type() != MessageHeader::DictionaryBatch {
            return Err(malformed("no dictionary stands where the footer says one does"));
        }
        decoder.message(message)?;
    }
    let blocks = footer.recordBatches().into_iter().flatten().copied().collect();
    Ok((decoder, blocks))
}

/// Where a block ends that was found to lie in its file.
fn end_of(block: &Block) -> u64 {
    let [at, head, body] =
        [block.offset(), block.metaDataLength().into(), block.bodyLength()].map(i64::cast_unsigned);
    at + head + body
}

/// The message that stands where a footer's entry says.
fn block_message(file: &FileAt, block: &Block) -> Result<Message, TableError> {
    let lengths = |what: i64| u64::try_from(what).map_err(|_| malformed("a negative place in the footer"));
    let (at, head, body) =
        (lengths(block.offset())?, lengths(block.metaDataLength().into())?, lengths(block.bodyLength())?);
    if !(8..=METADATA_BYTES_MAX).contains(&head) {
        return Err(malformed("a message's metadata is of an impossible length"));
    }
    let bytes = file.range(at, head as usize)?;
    let prefix = if bytes[..4] == CONTINUATION { 8 } else { 4 };
    let metadata = &bytes[prefix..];
    if body != body_length(&header(metadata)?)? {
        return Err(malformed("the footer and a message differ in the message's length"));
    }
    let body_at = at + head;
    file.check_range(body_at, body)?;
    Message::assemble(metadata, body as usize, |bytes| Ok(file.append_to(bytes, body_at, body as usize)?))
}

impl TableReader for ArrowFileReader {
    fn schema(&self) -> &SchemaRef {
        &self.decoder.schema
    }

    /// They have all been read, and none may be replaced.
    fn dictionaries(&self) -> Dictionaries {
        if self.decoder.dictionary_bytes_by_column() <= FIXED_BYTES_MAX {
            Dictionaries::Fixed
        } else {
            Dictionaries::Varying
        }
    }

    fn next_batch(&mut self) -> Result<Option<RecordBatch>, TableError> {
        loop {
            if let Some(batch) = self.decoder.slices.take()? {
                return Ok(Some(batch));
            }
            let Some(block) = self.blocks.next() else { return Ok(None) };
            let message = block_message(&self.file, &block)?;
            self.digest.reached(end_of(&block));
            if message.header()?.header_type() != MessageHeader::RecordBatch {
                return Err(malformed("no record batch stands where the footer says one does"));
            }
            self.decoder.message(message)?;
        }
    }

    fn bytes_shared(&mut self) -> usize {
        std::mem::take(&mut self.decoder.bytes_shared)
    }

    fn digest(&self) -> &RunningDigest {
        self.digest.digest()
    }

    fn finish(&mut self) -> Result<FileFacts, TableError> {
        self.digest.finish()
    }
}

/// Writes an Arrow IPC file or stream, in some writes that are small: `W` gathers them.
pub(super) struct ArrowWriter<W: Write> {
    inner: Inner<W>,
    schema: SchemaRef,
    /// For each column, whether what its rows show is copied.
    copied: Vec<bool>,
}

enum Inner<W: Write> {
    /// With the number of batches that it still may have.
    File(FileWriter<W>, usize),
    Stream(StreamWriter<W>),
}

impl<W: Write> ArrowWriter<W> {
    /// Begins a file.
    ///
    /// An IPC file has one dictionary a column, and it stands before the first batch. Where they are not
    /// fixed, dictionary columns are written as plain values.
    pub(super) fn file(
        to: W,
        schema: &SchemaRef,
        dictionaries: Dictionaries,
        codec: Option<CompressionType>,
    ) -> Result<Self, TableError> {
        let copied = columns_to_copy(schema, dictionaries);
        let schema = match dictionaries {
            Dictionaries::Fixed => Arc::clone(schema),
            Dictionaries::Varying => without_dictionaries(schema)?,
            Dictionaries::OfOtherRows => without_other_rows(schema)?,
        };
        let writer = FileWriter::try_new_with_options(to, &schema, options(codec)?)
            .map_err(|e| arrow_error("the header", e))?;
        Ok(ArrowWriter { inner: Inner::File(writer, batches_max(&schema)), schema, copied })
    }

    /// Begins a stream. A dictionary that changes is written again, or what was added to it.
    pub(super) fn stream(
        to: W,
        schema: &SchemaRef,
        dictionaries: Dictionaries,
        codec: Option<CompressionType>,
    ) -> Result<Self, TableError> {
        let copied = columns_to_copy(schema, dictionaries);
        let schema = match dictionaries {
            Dictionaries::Fixed | Dictionaries::Varying => Arc::clone(schema),
            Dictionaries::OfOtherRows => without_other_rows(schema)?,
        };
        let options = options(codec)?.with_dictionary_handling(DictionaryHandling::Delta);
        let writer = StreamWriter::try_new_with_options(to, &schema, options)
            .map_err(|e| arrow_error("the header", e))?;
        Ok(ArrowWriter { inner: Inner::Stream(writer), schema, copied })
    }
}

/// Batches that a file of this schema may have: its footer has an entry for each, and must not be too large
/// to be read. (Batches are cut small where a dictionary or a run has large values.)
fn batches_max(schema: &Schema) -> usize {
    let mut dictionaries = DictionaryTracker::new(false);
    let mut encoder = IpcSchemaEncoder::new().with_dictionary_tracker(&mut dictionaries);
    let schema = encoder.schema_to_fb(schema).finished_data().len();
    (METADATA_BYTES_MAX as usize).saturating_sub(schema + FOOTER_REST_BYTES) / size_of::<Block>()
}

fn options(codec: Option<CompressionType>) -> Result<IpcWriteOptions, TableError> {
    let fail = |e| arrow_error("the header", e);
    let options = IpcWriteOptions::default().try_with_compression(codec).map_err(fail)?;
    let level = (codec == Some(CompressionType::ZSTD)).then_some(1);
    options.try_with_compression_level(level).map_err(fail)
}

/// The codec that a `--compression` means here.
pub(super) fn codec(compression: Compression) -> Result<Option<CompressionType>, TableError> {
    match compression {
        Compression::Usual | Compression::None => Ok(None),
        Compression::Zstd => Ok(Some(CompressionType::ZSTD)),
        Compression::Lz4 => Ok(Some(CompressionType::LZ4_FRAME)),
        Compression::Snappy => {
            Err(TableError::Table("Arrow has no snappy compression; it has none, lz4 and zstd".into()))
        }
    }
}

impl<W: Write + Send> TableWriter<W> for ArrowWriter<W> {
    fn write(&mut self, rows: &dyn TableRows) -> Result<(), TableError> {
        let batch = rows.records();
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let fail = |e| arrow_error("the rows", e);
        let columns = batch.columns().iter().zip(&self.copied).zip(self.schema.fields());
        let columns = columns.map(|((array, copy), column)| match copy {
            true => standing_alone(&copied(array, column)?, column),
            false => standing_alone(array, column),
        });
        let columns = columns.collect::<Result<_, _>>()?;
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns).map_err(fail)?;
        match &mut self.inner {
            Inner::File(_, 0) => Err(TableError::Table(
                "the table has more record batches than an Arrow file's directory has room for; \
                 an Arrow stream (arrows) has no such limit"
                    .into(),
            )),
            Inner::File(writer, left) => {
                *left -= 1;
                writer.write(&batch).map_err(fail)
            }
            Inner::Stream(writer) => writer.write(&batch).map_err(fail),
        }
    }

    fn finish(self: Box<Self>) -> Result<W, TableError> {
        let fail = |e| arrow_error("the end", e);
        match self.inner {
            Inner::File(writer, _) => writer.into_inner().map_err(fail),
            Inner::Stream(writer) => writer.into_inner().map_err(fail),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Format;
    use crate::table::Hashed;
    use crate::table::create;
    use crate::table::round::{Rows, carry, one, read, write};
    use ::arrow::array::{
        Array, ArrayRef, AsArray, BooleanArray, DictionaryArray, Float64Array, Int64Array, ListArray,
        MapArray, StringArray, StringViewArray, StructArray, UInt16Array,
    };
    use ::arrow::buffer::OffsetBuffer;
    use ::arrow::datatypes::{DataType, Int8Type, Metadata, UInt16Type};

    fn table() -> (SchemaRef, RecordBatch) {
        let schema = Arc::new(Schema::new(vec![Column::new("c", DataType::Utf8, true)]));
        let values = vec![Some("a".repeat(100)), None, Some(String::new())];
        let batch =
            RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(StringArray::from(values))]).unwrap();
        (schema, batch)
    }

    fn refusal(format: Format, bytes: &[u8]) -> String {
        read(format, bytes).map(drop).unwrap_err().to_string()
    }

    #[test]
    fn a_stream_without_its_end_marker_was_cut() {
        let (schema, batch) = table();
        let whole =
            write(Format::Arrows, Compression::Usual, &schema, &[batch.clone(), batch.clone()]).unwrap();
        assert_eq!(&whole[whole.len() - 8..], [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
        let cut = "the Arrow stream ends without its end marker: it was cut short";
        assert_eq!(refusal(Format::Arrows, &whole[..whole.len() - 8]), cut);
        assert_eq!(refusal(Format::Arrows, &whole[..whole.len() - 4]), cut);
        assert_eq!(refusal(Format::Arrows, b""), "the stream is empty");
        let more = [whole.as_slice(), b"\0"].concat();
        assert!(refusal(Format::Arrows, &more).ends_with("bytes after the stream's end marker"));
    }

    #[test]
    fn a_writer_that_is_dropped_leaves_no_end_marker() {
        let (schema, batch) = table();
        let mut out = vec![];
        let mut writer = ArrowWriter::stream(&mut out, &schema, Dictionaries::Varying, None).unwrap();
        writer.write(&Rows(batch)).unwrap();
        drop(writer);
        assert!(!out.is_empty() && !out.ends_with(&[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]));
    }

    #[test]
    fn what_a_footer_says_becomes_the_schemas_own() {
        let (schema, batch) = table();
        let metadata = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
            Metadata::from(pairs.collect::<HashMap<_, _>>())
        };
        let schema = Schema::clone(&schema).with_metadata(metadata(&[("both", "schema")]));
        let batch = batch.with_schema(Arc::new(schema)).unwrap();
        let mut writer = FileWriter::try_new(vec![], batch.schema_ref()).unwrap();
        writer.write_metadata("both", "footer");
        writer.write_metadata("footer's", "own");
        writer.write(&batch).unwrap();
        let (schema, batches) = read(Format::Arrow, &writer.into_inner().unwrap()).unwrap();
        let expected = metadata(&[("both", "schema"), ("footer's", "own")]);
        assert_eq!(*schema.metadata(), expected);
        // And so is there in every format that has a place for it.
        for format in [Format::Parquet, Format::Arrow, Format::Arrows] {
            let written = write(format, Compression::Usual, &schema, &batches).unwrap();
            assert_eq!(*read(format, &written).unwrap().0.metadata(), expected, "{format:?}");
        }
    }

    #[test]
    fn a_declared_length_is_not_allocated() {
        let (schema, batch) = table();
        let stream = write(Format::Arrows, Compression::Zstd, &schema, &[batch]).unwrap();
        // The metadata's length, at the very beginning.
        let mut lying = stream.clone();
        lying[4..8].copy_from_slice(&i32::MAX.to_le_bytes());
        assert!(refusal(Format::Arrows, &lying).contains("its metadata is too long"));
        // The length of a buffer once it is decompressed: it stands before zstd's magic number.
        let magic = stream.windows(4).position(|w| w == 0xfd2f_b528_u32.to_le_bytes()).unwrap();
        let mut lying = stream.clone();
        lying[magic - 8..magic].copy_from_slice(&(1_i64 << 50).to_le_bytes());
        assert!(refusal(Format::Arrows, &lying).starts_with("a record batch has 1125899906"));
        let mut lying = stream;
        lying[magic - 8..magic].copy_from_slice(&i64::MIN.to_le_bytes());
        assert!(refusal(Format::Arrows, &lying).ends_with("a buffer of negative length"));
    }

    #[test]
    fn a_file_has_no_more_batches_than_can_be_read_again() {
        // Most of a footer is the schema's metadata, so that a few batches fill the rest.
        let metadata =
            HashMap::from([("long".to_owned(), "x".repeat(METADATA_BYTES_MAX as usize - (3 << 19)))]);
        let column = Column::new("c", DataType::Boolean, false);
        let schema = Arc::new(Schema::new_with_metadata(vec![column], metadata));
        let array: ArrayRef = Arc::new(BooleanArray::from(vec![true]));
        let rows = Rows(RecordBatch::try_new(Arc::clone(&schema), vec![array]).unwrap());
        let room = batches_max(&schema);
        assert!((20_000..22_000).contains(&room), "{room}");
        let full = |batches: usize| {
            let file = tempfile::tempfile().unwrap();
            let to = io::BufWriter::new(file.try_clone().unwrap());
            let mut writer = Box::new(ArrowWriter::file(to, &schema, Dictionaries::Fixed, None).unwrap());
            let written = (0..batches).try_for_each(|_| writer.write(&rows));
            written.and_then(|()| writer.finish()).map(|mut to| {
                to.flush().unwrap();
                ArrowFileReader::new(file, RunningDigest::default()).unwrap().blocks.len()
            })
        };
        assert_eq!(full(room).unwrap(), room);
        let refusal = "the table has more record batches than an Arrow file's directory has room for; \
                       an Arrow stream (arrows) has no such limit";
        assert_eq!(full(room + 1).unwrap_err().to_string(), refusal);
    }

    #[test]
    fn a_broken_pipe_is_told_as_one() {
        struct Broken;
        impl Write for Broken {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (schema, batch) = table();
        for format in [Format::Csv, Format::Parquet, Format::Arrow, Format::Arrows] {
            let to = Hashed::new(Broken);
            let mut writer = create(to, format, Compression::Usual, &schema, Dictionaries::Varying).unwrap();
            let rows = Rows(batch.clone());
            // What is small stays in a buffer until the end.
            let error =
                writer.write(&rows).and_then(|()| writer.finish()).and_then(|to| to.finish().map(drop));
            let error = error.unwrap_err();
            assert!(
                matches!(&error, TableError::Io(e) if e.kind() == io::ErrorKind::BrokenPipe),
                "{format:?}: {error}"
            );
        }
    }

    /// How many dictionaries a file has, as its footer tells.
    fn dictionaries_of(file: &[u8]) -> usize {
        let length = file.len() - 10;
        let footer = i32::from_le_bytes(file[length..][..4].try_into().unwrap()) as usize;
        let footer = ipc::root_as_footer(&file[length - footer..length]).unwrap();
        footer.dictionaries().map_or(0, |blocks| blocks.len())
    }

    /// Dictionaries of text, of views, of numbers and of lists with a dictionary in them; at the top
    /// and within lists, structs and maps; with nulls among the keys and among the values.
    fn dictionaries(rows: usize) -> RecordBatch {
        let keys = |n: usize| (0..rows).map(move |i| (i % 7 != 3).then_some(i % n));
        let small = || keys(3).map(|key| key.map(|key| key as i8)).collect::<::arrow::array::Int8Array>();
        let wide = || keys(4).map(|key| key.map(|key| key as u16)).collect::<UInt16Array>();
        let words = || Arc::new(StringArray::from(vec![Some("a"), None, Some("b")]));
        let text = || Arc::new(DictionaryArray::<Int8Type>::new(small(), words()));
        let item = |array: &ArrayRef| Arc::new(Column::new("item", array.data_type().clone(), true));
        let lists = |array: ArrayRef| {
            let offsets = OffsetBuffer::from_lengths(std::iter::repeat_n(1, array.len()));
            ListArray::new(item(&array), offsets, array, None)
        };
        let views = StringViewArray::from(vec!["a view that is not inlined", "b", "b", ""]);
        let floats = Float64Array::from(vec![f64::NAN, -0.0, 0.0, 1.0]);
        let structs = || {
            let value: ArrayRef = text();
            let key: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows as i64));
            let columns = [("key", key, false), ("value", value, true)];
            let columns = columns.map(|(name, array, nullable)| {
                (Arc::new(Column::new(name, array.data_type().clone(), nullable)), array)
            });
            StructArray::from(columns.to_vec())
        };
        let entries = Arc::new(Column::new("entries", structs().data_type().clone(), false));
        let each = OffsetBuffer::from_lengths(std::iter::repeat_n(1, rows));
        let inner = DictionaryArray::<Int8Type>::new(vec![0, 1, 2, 0].into(), words());
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("text", text()),
            ("views", Arc::new(DictionaryArray::<UInt16Type>::new(wide(), Arc::new(views)))),
            ("floats", Arc::new(DictionaryArray::<UInt16Type>::new(wide(), Arc::new(floats)))),
            ("list", Arc::new(lists(text()))),
            ("struct", Arc::new(structs())),
            ("map", Arc::new(MapArray::new(entries, each, structs(), None, false))),
            ("lists", Arc::new(DictionaryArray::<UInt16Type>::new(wide(), Arc::new(lists(Arc::new(inner)))))),
            (
                "empty",
                Arc::new(DictionaryArray::<Int8Type>::new(
                    vec![None; rows].into(),
                    Arc::new(words().slice(0, 0)),
                )),
            ),
        ];
        let fields = columns.iter().enumerate().map(|(i, (name, array))| {
            let column = Column::new(*name, array.data_type().clone(), true);
            column.with_dict_is_ordered(i % 2 == 1)
        });
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        RecordBatch::try_new(schema, columns.into_iter().map(|(_, array)| array).collect()).unwrap()
    }

    fn by_arrow(options: IpcWriteOptions, schema: &SchemaRef, batches: &[RecordBatch]) -> Vec<u8> {
        let mut writer = FileWriter::try_new_with_options(vec![], schema, options).unwrap();
        batches.iter().for_each(|batch| writer.write(batch).unwrap());
        writer.into_inner().unwrap()
    }

    #[test]
    fn a_file_keeps_the_dictionaries_of_a_file_and_writes_each_once() {
        let batch = dictionaries(2000);
        let schema = batch.schema();
        let ordered = |schema: &SchemaRef| {
            schema.fields().iter().map(|column| column.dict_is_ordered()).collect::<Vec<_>>()
        };
        let parts: Vec<_> = (0..4).map(|i| batch.slice(i * 500, 500)).collect();
        for input in [&[][..], std::slice::from_ref(&batch), &parts] {
            let expected = one(&schema, input);
            let bytes = by_arrow(IpcWriteOptions::default(), &schema, input);
            for compression in [Compression::Usual, Compression::Lz4, Compression::Zstd] {
                let once = carry(Format::Arrow, &bytes, Format::Arrow, compression).unwrap();
                let twice = carry(Format::Arrow, &once, Format::Arrow, compression).unwrap();
                for output in [once, twice] {
                    let (read_schema, batches) = read(Format::Arrow, &output).unwrap();
                    assert_eq!(read_schema, schema);
                    // Equality leaves that out.
                    assert_eq!(ordered(&read_schema), ordered(&schema));
                    assert_eq!(one(&schema, &batches), expected);
                    assert_eq!(batches.len() >= 4, !input.is_empty());
                    assert_eq!(dictionaries_of(&output), if input.is_empty() { 0 } else { 9 });
                }
            }
        }
    }

    #[test]
    fn a_dictionary_that_grows_within_a_file_is_kept_as_the_whole_of_it() {
        let batch = |words: &[&str], keys: &[i8]| {
            let words = StringArray::from(words.to_vec());
            let array = DictionaryArray::<Int8Type>::new(keys.to_vec().into(), Arc::new(words));
            let schema = Schema::new(vec![Column::new("c", array.data_type().clone(), true)]);
            RecordBatch::try_new(Arc::new(schema), vec![Arc::new(array)]).unwrap()
        };
        let batches = [batch(&["a"], &[0, 0]), batch(&["a", "b"], &[1, 0]), batch(&["a", "b", "c"], &[2])];
        let schema = batches[0].schema();
        let options = IpcWriteOptions::default().with_dictionary_handling(DictionaryHandling::Delta);
        let grown = by_arrow(options, &schema, &batches);
        assert_eq!(dictionaries_of(&grown), 3);
        let output = carry(Format::Arrow, &grown, Format::Arrow, Compression::Usual).unwrap();
        assert_eq!(dictionaries_of(&output), 1);
        let (read_schema, read_batches) = read(Format::Arrow, &output).unwrap();
        assert_eq!(one(&read_schema, &read_batches), one(&schema, &batches));
        assert_eq!(read_batches[0].column(0).as_any_dictionary().values().len(), 3);
    }

    #[test]
    fn what_was_known_of_no_dictionary_beforehand_becomes_plain() {
        let batch = dictionaries(10).project(&[0, 2, 3, 4]).unwrap();
        let schema = batch.schema();
        for format in [Format::Arrows, Format::Parquet] {
            let bytes = write(format, Compression::Usual, &schema, std::slice::from_ref(&batch)).unwrap();
            let output = carry(format, &bytes, Format::Arrow, Compression::Usual).unwrap();
            let (read_schema, _) = read(Format::Arrow, &output).unwrap();
            let types = format!("{read_schema:?}");
            assert!(!types.contains("Dictionary"), "{format:?}: {types}");
        }
    }

    /// Written again, the columns would have a copy each.
    #[test]
    fn a_dictionary_counts_for_every_column_that_has_it() {
        let batch = dictionaries(10).project(&[0]).unwrap();
        let bytes =
            write(Format::Arrows, Compression::Usual, &batch.schema(), std::slice::from_ref(&batch)).unwrap();
        let dictionary = || {
            let mut input = HashedRead::new(
                Box::new(io::Cursor::new(bytes.clone())) as Box<dyn Read + Send>,
                RunningDigest::default(),
            );
            next_message(&mut input).unwrap();
            next_message(&mut input).unwrap().unwrap()
        };
        let [once, thrice] = [1, 3].map(|columns| {
            let columns = vec![batch.schema().field(0).clone(); columns];
            let mut decoder = Decoder::new(Arc::new(Schema::new(columns))).unwrap();
            decoder.message(dictionary()).unwrap();
            decoder.dictionary_bytes_by_column()
        });
        assert!(once > 0);
        assert_eq!(thrice, once * 3);
    }

    /// The whole of it with the first rows, nothing with the others: so no more batches wait in memory
    /// than there is room for, however few rows of them are in work.
    #[test]
    fn what_the_slices_of_a_batch_share_is_told_once() {
        let batch = dictionaries(2000);
        let bytes = by_arrow(IpcWriteOptions::default(), &batch.schema(), &[batch.clone(), batch.clone()]);
        let file = crate::table::round::file(Format::Arrow, &bytes);
        let mut reader =
            crate::table::open(&crate::table::Input::File(file.path().into()), &Default::default()).unwrap();
        let mut told = Vec::new();
        while let Some(rows) = reader.next_batch().unwrap() {
            told.push((rows.num_rows(), reader.bytes_shared()));
        }
        let whole = told[0].1;
        assert!(whole > bytes.len() / 4 && whole < bytes.len() / 2, "{whole} of {}", bytes.len());
        let expected = [(512, whole), (512, 0), (512, 0), (464, 0)];
        assert_eq!(told, [expected, expected].concat());
    }

    #[test]
    fn a_ciphertexts_dictionary_does_not_count() {
        let batch = dictionaries(10).project(&[0]).unwrap();
        let bytes_as = |name: &str| {
            let column = batch.schema().field(0).clone().with_name(name);
            let batch =
                RecordBatch::try_new(Arc::new(Schema::new(vec![column])), batch.columns().to_vec()).unwrap();
            let file = crate::table::round::file(
                Format::Arrow,
                &by_arrow(IpcWriteOptions::default(), &batch.schema(), std::slice::from_ref(&batch)),
            );
            let (decoder, _) = read_footer(&FileAt::new(File::open(file.path()).unwrap()).unwrap()).unwrap();
            decoder.dictionary_bytes_by_column()
        };
        assert!(bytes_as("note") > 0);
        assert_eq!(bytes_as(Field::ALL[0].column()), 0);
    }
}
