//! Parquet files.
//!
//! It owns how a Parquet file is read in small batches and written in row groups of bounded size.
//! A file's own schema, its Arrow types and its key-value metadata are kept as they are. It never
//! trusts a length, a count or a tree of columns that the file only declares ([`check_footer`],
//! [`CheckedPages`]), and never puts ciphertext into statistics, where it would stand a second
//! time and outside of what a reader expects to be secret.
//!
//! Text and binary columns are decoded as views, which share the pages' memory, and are copied
//! into the declared type only batch by batch: a dictionary-encoded value of 100 MiB in every row
//! of a page then costs 100 MiB and not as many times that as there are rows.

use super::decoder::{guarded, parquet_error};
use super::slices::Slices;
use super::source::{FileAt, WholeDigest};
use super::types::replaced;
use super::{
    BATCH_BYTES, BATCH_ROWS, COLUMNS_MAX, FileFacts, TableError, TableReader, TableRows, TableWriter,
};
use crate::row::{Field, ORGANIZATION_ID, printable};
use crate::stop::Stop;
use ::arrow::array::{ArrayRef, RecordBatch};
use ::arrow::compute::{CastOptions, cast_with_options};
use ::arrow::datatypes::{DataType, Field as Column, FieldRef, Schema, SchemaRef, TimeUnit};
use ::parquet::arrow::arrow_reader::{ParquetRecordBatchReader, RowGroups};
use ::parquet::arrow::{
    ArrowSchemaConverter, ArrowWriter, FieldLevels, ProjectionMask, parquet_to_arrow_field_levels,
    parquet_to_arrow_schema,
};
use ::parquet::basic::{Compression as Codec, ZstdLevel};
use ::parquet::column::page::{Page, PageIterator, PageMetadata, PageReader};
use ::parquet::errors::{ParquetError, Result as ParquetResult};
use ::parquet::file::metadata::{KeyValue, ParquetMetaData, ParquetMetaDataReader, RowGroupMetaData};
use ::parquet::file::properties::{EnabledStatistics, WriterProperties};
use ::parquet::file::reader::{ChunkReader, Length};
use ::parquet::file::serialized_reader::SerializedPageReader;
use ::parquet::schema::types::ColumnPath;
use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of decoded pages that one batch may need. DuckDB writes pages of up to 100 MiB for each
/// column; ten such columns still fit.
const PAGES_BYTES_MAX: u64 = 2 << 30;

/// Bytes that a file's directory may have: some 10 KiB a row group are usual.
const FOOTER_BYTES_MAX: u32 = 256 << 20;

/// How deep columns may be nested. A guard of the stack, far above what anybody writes.
const NESTING_MAX: usize = 64;

const FORMAT: &str = "Parquet file";

/// Reads a Parquet file.
pub(super) struct ParquetReader {
    file: Arc<FileAt>,
    metadata: Arc<ParquetMetaData>,
    schema: SchemaRef,
    levels: FieldLevels,
    /// The row group that is being read, and how many of its rows were.
    group: usize,
    group_rows: i64,
    batches: Option<ParquetRecordBatchReader>,
    pages_bytes: Arc<AtomicU64>,
    slices: Slices,
    digest: WholeDigest,
}

impl ParquetReader {
    pub(super) fn new(file: File, stop: &Stop) -> Result<Self, TableError> {
        let file = Arc::new(FileAt::new(file)?);
        let (metadata, schema, levels) = guarded(FORMAT, || {
            let metadata = read_footer(&file)?;
            let descriptor = metadata.file_metadata().schema_descr();
            let key_values = metadata.file_metadata().key_value_metadata();
            let schema = parquet_to_arrow_schema(descriptor, key_values)
                .map_err(|e| parquet_error("the schema", e))?;
            let hint = schema.fields().iter().map(as_view).collect();
            let levels = parquet_to_arrow_field_levels(descriptor, ProjectionMask::all(), Some(&hint))
                .map_err(|e| parquet_error("the schema", e))?;
            Ok((Arc::new(metadata), Arc::new(schema), levels))
        })?;
        let digest = WholeDigest::start(Arc::clone(&file), stop)?;
        Ok(ParquetReader {
            file,
            metadata,
            schema,
            levels,
            group: 0,
            group_rows: 0,
            batches: None,
            pages_bytes: Arc::default(),
            slices: Slices::default(),
            digest,
        })
    }

    /// The next decoded batch, of any number of bytes.
    fn decode(&mut self) -> Result<Option<RecordBatch>, TableError> {
        while let Some(group) = self.metadata.row_groups().get(self.group) {
            let place = format!("row group {}", self.group + 1);
            let fail = |e| parquet_error(&place, e);
            let batches = match &mut self.batches {
                Some(batches) => batches,
                none => {
                    let pages = GroupPages {
                        file: Arc::clone(&self.file),
                        metadata: Arc::clone(&self.metadata),
                        group: self.group,
                        bytes: Arc::clone(&self.pages_bytes),
                    };
                    let rows = batch_rows(group);
                    none.insert(
                        ParquetRecordBatchReader::try_new_with_row_groups(&self.levels, &pages, rows, None)
                            .map_err(fail)?,
                    )
                }
            };
            self.pages_bytes.store(0, Ordering::Relaxed);
            if let Some(batch) = batches.next() {
                let batch = batch.map_err(|e| super::decoder::arrow_error(&place, e))?;
                self.group_rows += batch.num_rows() as i64;
                return Ok(Some(batch));
            }
            if self.group_rows != group.num_rows() {
                return Err(TableError::Table(format!(
                    "{place}: it has {} rows, but the file's directory says {}",
                    self.group_rows,
                    group.num_rows()
                )));
            }
            self.batches = None;
            self.group += 1;
            self.group_rows = 0;
        }
        Ok(None)
    }

    /// The batch in the types that the file declares.
    fn declared(&self, batch: &RecordBatch) -> Result<RecordBatch, TableError> {
        let columns = batch.columns().iter().zip(self.schema.fields());
        let columns = columns.map(|(array, column)| in_type(array, column)).collect::<Result<_, _>>()?;
        RecordBatch::try_new(Arc::clone(&self.schema), columns)
            .map_err(|e| super::decoder::arrow_error("the columns", e))
    }
}

/// The array in the column's type. `safe: false`, since arrow's safe cast makes null of what it
/// cannot cast.
fn in_type(array: &ArrayRef, column: &Column) -> Result<ArrayRef, TableError> {
    if array.data_type() == column.data_type() {
        return Ok(Arc::clone(array));
    }
    let options = CastOptions { safe: false, ..Default::default() };
    cast_with_options(array, column.data_type(), &options)
        .map_err(|e| super::decoder::arrow_error(&format!("the column {}", printable(column.name())), e))
}

impl TableReader for ParquetReader {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn next_batch(&mut self) -> Result<Option<RecordBatch>, TableError> {
        guarded(FORMAT, || {
            loop {
                if let Some(slice) = self.slices.take() {
                    return Ok(Some(self.declared(&slice)?));
                }
                match self.decode()? {
                    Some(batch) => self.slices.put(batch),
                    None => return Ok(None),
                }
            }
        })
    }

    fn finish(&mut self) -> Result<FileFacts, TableError> {
        self.digest.finish()
    }
}

/// How many rows to decode at once, by the average row of the group. A little less than fills a
/// batch, so that an even table's batches are not each cut in a big and a tiny one.
fn batch_rows(group: &RowGroupMetaData) -> usize {
    let rows = u64::try_from(group.num_rows()).unwrap_or(0).max(1);
    let bytes: u64 = group
        .columns()
        .iter()
        .map(|column| {
            // Dictionary-encoded values count once in the former, in each row in the latter.
            let encoded = column.uncompressed_size();
            let values = column.unencoded_byte_array_data_bytes().unwrap_or(0);
            u64::try_from(encoded.max(values)).unwrap_or(0)
        })
        .fold(0, u64::saturating_add);
    let row = (bytes / rows).max(1);
    let budget = (BATCH_BYTES - BATCH_BYTES / 16) as u64;
    usize::try_from(budget / row).unwrap_or(BATCH_ROWS).clamp(1, BATCH_ROWS)
}

/// The column with text or binary as views.
fn as_view(column: &FieldRef) -> FieldRef {
    let view = match column.data_type() {
        DataType::Utf8 | DataType::LargeUtf8 => DataType::Utf8View,
        DataType::Binary | DataType::LargeBinary => DataType::BinaryView,
        _ => return Arc::clone(column),
    };
    Arc::new(column.as_ref().clone().with_data_type(view))
}

/// The file's directory, after a look at what the decoder would take on trust.
fn read_footer(file: &FileAt) -> Result<ParquetMetaData, TableError> {
    let not_parquet = || TableError::Table("this is no Parquet file, or it is cut short".into());
    if file.len() < 12 || file.range(0, 4)? != b"PAR1" {
        return Err(not_parquet());
    }
    let mut tail = [0; 8];
    file.read_at(&mut tail, file.len() - 8)?;
    if &tail[4..] == b"PARE" {
        return Err(TableError::Table("the Parquet file is encrypted, which is not supported".into()));
    }
    let length = u32::from_le_bytes([tail[0], tail[1], tail[2], tail[3]]);
    let room = file.len() - 12;
    if &tail[4..] != b"PAR1" || u64::from(length) > room {
        return Err(not_parquet());
    }
    if length > FOOTER_BYTES_MAX {
        return Err(TableError::Table(format!(
            "the Parquet file's directory has {length} bytes; more than {FOOTER_BYTES_MAX} are not read"
        )));
    }
    let footer = file.range(file.len() - 8 - u64::from(length), length as usize)?;
    check_footer(&footer)
        .map_err(|what| TableError::Table(format!("the Parquet file's directory: {what}")))?;
    ParquetMetaDataReader::decode_metadata(&footer)
        .map_err(|e| parquet_error("the Parquet file's directory", e))
}

/// Checks the tree of columns in a footer (`FileMetaData.schema` of parquet.thrift, in Thrift's
/// compact protocol): as many as are declared, and not too deeply nested.
///
/// The decoder allocates by each `num_children` and calls itself for each level, so a footer of a
/// few hundred bytes could ask for 16 GiB, and one of some kilobytes could overflow the stack;
/// both end the process, which nothing can catch. Everything else in the footer it checks itself.
fn check_footer(footer: &[u8]) -> Result<(), &'static str> {
    let mut thrift = Thrift(footer);
    let mut last = 0;
    while let Some((id, kind)) = thrift.field(&mut last)? {
        if id == 2 && kind == Thrift::LIST {
            let (size, kind) = thrift.list()?;
            if kind != Thrift::STRUCT {
                return Err("the list of columns is no list of columns");
            }
            if size > COLUMNS_MAX as u64 * 8 {
                return Err("it has too many columns");
            }
            // For each open group, how many of its children are still to come.
            let mut open: Vec<u64> = vec![];
            for _ in 0..size {
                while open.last() == Some(&0) {
                    open.pop();
                }
                if let Some(left) = open.last_mut() {
                    *left -= 1;
                }
                let children = thrift.num_children()?;
                if children > size || open.len() > NESTING_MAX {
                    return Err("its tree of columns is malformed or too deep");
                }
                if children > 0 {
                    open.push(children);
                }
            }
            return Ok(());
        }
        thrift.skip(kind, NESTING_MAX)?;
    }
    Err("the list of columns is missing")
}

/// As much of Thrift's compact protocol as [`check_footer`] needs.
struct Thrift<'a>(&'a [u8]);

impl Thrift<'_> {
    const LIST: u8 = 9;
    const STRUCT: u8 = 12;
    const CUT: &'static str = "it is cut short or malformed";

    fn byte(&mut self) -> Result<u8, &'static str> {
        let (first, rest) = self.0.split_first().ok_or(Self::CUT)?;
        self.0 = rest;
        Ok(*first)
    }

    fn bytes(&mut self, n: u64) -> Result<(), &'static str> {
        let n = usize::try_from(n).map_err(|_| Self::CUT)?;
        self.0 = self.0.get(n..).ok_or(Self::CUT)?;
        Ok(())
    }

    fn varint(&mut self) -> Result<u64, &'static str> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Self::CUT)
    }

    fn zigzag(&mut self) -> Result<i64, &'static str> {
        let n = self.varint()?;
        Ok((n >> 1) as i64 ^ -((n & 1) as i64))
    }

    /// The next field's id and type; `None` ends the struct.
    fn field(&mut self, last: &mut i64) -> Result<Option<(i64, u8)>, &'static str> {
        let head = self.byte()?;
        if head & 0x0f == 0 {
            return Ok(None);
        }
        *last = match head >> 4 {
            0 => self.zigzag()?,
            delta => last.checked_add(i64::from(delta)).ok_or(Self::CUT)?,
        };
        Ok(Some((*last, head & 0x0f)))
    }

    /// The size and the element type of a list that begins here.
    fn list(&mut self) -> Result<(u64, u8), &'static str> {
        let head = self.byte()?;
        let size = if head >> 4 == 15 { self.varint()? } else { u64::from(head >> 4) };
        Ok((size, head & 0x0f))
    }

    /// Passes over a `SchemaElement`; returns its `num_children`.
    fn num_children(&mut self) -> Result<u64, &'static str> {
        const NUM_CHILDREN: i64 = 5;
        const I32: u8 = 5;
        let (mut last, mut children) = (0, 0);
        while let Some((id, kind)) = self.field(&mut last)? {
            if (id, kind) == (NUM_CHILDREN, I32) {
                children = u64::try_from(self.zigzag()?).map_err(|_| Self::CUT)?;
            } else {
                self.skip(kind, NESTING_MAX)?;
            }
        }
        Ok(children)
    }

    fn skip(&mut self, kind: u8, depth: usize) -> Result<(), &'static str> {
        let depth = depth.checked_sub(1).ok_or(Self::CUT)?;
        match kind {
            1 | 2 => Ok(()), // a boolean is its type
            3 => self.bytes(1),
            4..=6 => self.varint().map(drop),
            7 => self.bytes(8),
            8 => self.varint().and_then(|n| self.bytes(n)),
            9 | 10 => {
                let (size, kind) = self.list()?;
                // Booleans in a list are a byte each.
                (0..size).try_for_each(|_| self.skip(if kind <= 2 { 3 } else { kind }, depth))
            }
            12 => {
                let mut last = 0;
                while let Some((_, kind)) = self.field(&mut last)? {
                    self.skip(kind, depth)?;
                }
                Ok(())
            }
            _ => Err(Self::CUT),
        }
    }
}

/// The pages of one row group.
struct GroupPages {
    file: Arc<FileAt>,
    metadata: Arc<ParquetMetaData>,
    group: usize,
    bytes: Arc<AtomicU64>,
}

impl RowGroups for GroupPages {
    fn num_rows(&self) -> usize {
        usize::try_from(self.metadata.row_group(self.group).num_rows()).unwrap_or(0)
    }

    fn column_chunks(&self, column: usize) -> ParquetResult<Box<dyn PageIterator>> {
        let chunk = self.metadata.row_group(self.group).column(column);
        let (start, length) = chunk.byte_range();
        self.file.check_range(start, length)?;
        let inflates = matches!(chunk.compression(), Codec::GZIP(_));
        let file = Arc::new(Chunks { file: Arc::clone(&self.file), inflates });
        let pages = SerializedPageReader::new(file, chunk, self.num_rows(), None)?;
        let pages = CheckedPages {
            pages,
            left: u64::try_from(chunk.uncompressed_size()).unwrap_or(0),
            bytes: Arc::clone(&self.bytes),
        };
        Ok(Box::new(Once(Some(pages))))
    }

    fn row_groups(&self) -> Box<dyn Iterator<Item = &RowGroupMetaData> + '_> {
        Box::new(std::iter::once(self.metadata.row_group(self.group)))
    }

    fn metadata(&self) -> &ParquetMetaData {
        &self.metadata
    }
}

/// One column chunk.
struct Once(Option<CheckedPages>);

impl Iterator for Once {
    type Item = ParquetResult<Box<dyn PageReader>>;
    fn next(&mut self) -> Option<Self::Item> {
        self.0.take().map(|pages| Ok(Box::new(pages) as _))
    }
}

impl PageIterator for Once {}

/// The pages of a column chunk, held to what the directory says of them.
///
/// The batch size is chosen by the sizes in the directory; if the pages could be larger than
/// that, a small file could ask for any amount of memory.
struct CheckedPages {
    pages: SerializedPageReader<Chunks>,
    /// What the directory still allows this chunk.
    left: u64,
    /// What all pages for the present batch came to.
    bytes: Arc<AtomicU64>,
}

impl PageReader for CheckedPages {
    fn get_next_page(&mut self) -> ParquetResult<Option<Page>> {
        let Some(page) = self.pages.get_next_page()? else { return Ok(None) };
        let bytes = page.buffer().len() as u64;
        self.left = self.left.checked_sub(bytes).ok_or_else(|| {
            ParquetError::General("a column's pages are larger than the file's directory says".into())
        })?;
        if self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes > PAGES_BYTES_MAX {
            return Err(ParquetError::General(format!(
                "the pages of a few rows take more than {PAGES_BYTES_MAX} bytes; \
                 write the file with smaller pages or row groups"
            )));
        }
        // The decoder allocates by this count; no value is encoded in less than a byte.
        if page.is_dictionary_page() && u64::from(page.num_values()) > bytes {
            return Err(ParquetError::General("a dictionary page declares more values than it has".into()));
        }
        Ok(Some(page))
    }

    fn peek_next_page(&mut self) -> ParquetResult<Option<PageMetadata>> {
        self.pages.peek_next_page()
    }

    fn skip_next_page(&mut self) -> ParquetResult<()> {
        self.pages.skip_next_page()
    }

    fn at_record_boundary(&mut self) -> ParquetResult<bool> {
        self.pages.at_record_boundary()
    }
}

impl Iterator for CheckedPages {
    type Item = ParquetResult<Page>;
    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

/// The file, as the decoder asks for it.
struct Chunks {
    file: Arc<FileAt>,
    /// The pages are compressed with gzip.
    inflates: bool,
}

impl Length for Chunks {
    fn len(&self) -> u64 {
        self.file.len()
    }
}

impl ChunkReader for Chunks {
    type T = BufReader<From>;

    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        // Only page headers are read this way, a few dozen bytes each.
        Ok(BufReader::with_capacity(512, From { file: Arc::clone(&self.file), at: start }))
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        let bytes = self.file.range(start, length)?;
        if self.inflates {
            check_gzip(&bytes, PAGES_BYTES_MAX)?;
        }
        Ok(bytes.into())
    }
}

/// Refuses a page that gzip would blow up.
///
/// Of all codecs, it is the one for which the decoder takes no notice of the size in the page's
/// header. Deflate makes 1,032 bytes of one at the most, so only a page of megabytes can exceed
/// the limit, and only such a page is inflated here, into nothing, to see.
fn check_gzip(page: &[u8], limit: u64) -> ParquetResult<()> {
    const DEFLATE_RATIO: u64 = 1032;
    if page.len() as u64 * DEFLATE_RATIO <= limit {
        return Ok(());
    }
    // The page begins with its levels where it is of the second version, which leaves no way to
    // tell from here where the compressed part begins; that part must stand at the beginning.
    let inflated = MultiGzDecoder::new(page).take(limit.saturating_add(1));
    match io::copy(&mut { inflated }, &mut io::sink()) {
        Ok(n) if n <= limit => Ok(()),
        _ => Err(ParquetError::General(
            "a page compressed with gzip is too large to be inflated with care; \
             write the file with smaller pages, or with another compression"
                .into(),
        )),
    }
}

/// The file from a place on.
struct From {
    file: Arc<FileAt>,
    at: u64,
}

impl Read for From {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let left = self.file.len().saturating_sub(self.at);
        let n = usize::try_from(left).unwrap_or(usize::MAX).min(buf.len());
        self.file.read_at(&mut buf[..n], self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}

/// Rows of a row group, at the most.
const GROUP_ROWS: usize = 1 << 17;

/// Bytes of a row group, encoded, after which it is closed. What the writer holds in memory.
const GROUP_BYTES: usize = 48 << 20;

/// Bytes of a page.
const PAGE_BYTES: usize = 1 << 20;

/// Writes a Parquet file.
pub(super) struct ParquetWriter<W: Write + Send> {
    writer: ArrowWriter<Lent<W>>,
    schema: SchemaRef,
}

/// A file that can be taken back from the writer that has it. The writer's own `into_inner` makes
/// a sentence of the system's error, and a broken pipe has to be told from a full disk.
struct Lent<W>(Option<W>);

impl<W: Write> Lent<W> {
    fn inner(&mut self) -> io::Result<&mut W> {
        self.0.as_mut().ok_or_else(|| io::Error::other("written to after the end"))
    }
}

impl<W: Write> Write for Lent<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.inner()?.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner()?.flush()
    }
}

impl<W: Write + Send> ParquetWriter<W> {
    pub(super) fn new(to: W, schema: &SchemaRef, codec: Codec) -> Result<Self, TableError> {
        let columns = schema.fields().iter().map(storable).collect::<Vec<_>>();
        let schema = Arc::new(Schema::new_with_metadata(columns, schema.metadata().clone()));
        for column in schema.fields() {
            let alone = Schema::new(vec![Arc::clone(column)]);
            guarded(FORMAT, || {
                ArrowSchemaConverter::new().convert(&alone).map(drop).map_err(|_| cannot_hold(column))
            })
            .map_err(|_| cannot_hold(column))?;
        }
        let properties = properties(&schema, codec);
        let writer = ArrowWriter::try_new(Lent(Some(to)), Arc::clone(&schema), Some(properties))
            .map_err(|e| parquet_error("the header", e))?;
        Ok(ParquetWriter { writer, schema })
    }
}

fn cannot_hold(column: &Column) -> TableError {
    TableError::Table(format!(
        "Parquet cannot hold the column {}, which is {}",
        printable(column.name()),
        column.data_type()
    ))
}

/// The column in types that Parquet has a place for.
///
/// Keys of a dictionary get 32 bits at least: a row group has one dictionary where the input had
/// one a batch, so 8-bit keys that sufficed there may not suffice here, and a file with more
/// values than its declared keys can name is one that nobody reads. Seconds become milliseconds,
/// as pyarrow does it: the arrow crate would write bare integers, and note their meaning only
/// where other programs do not look.
fn storable(column: &FieldRef) -> FieldRef {
    use DataType::{Date32, Date64, Dictionary, Int32, Time32, Timestamp};
    replaced(column, &|data_type| match data_type {
        Dictionary(keys, values) if keys.primitive_width().is_some_and(|bytes| bytes < 4) => {
            Some(Dictionary(Box::new(Int32), values.clone()))
        }
        Timestamp(TimeUnit::Second, zone) => Some(Timestamp(TimeUnit::Millisecond, zone.clone())),
        Time32(TimeUnit::Second) => Some(Time32(TimeUnit::Millisecond)),
        Date64 => Some(Date32),
        _ => None,
    })
}

fn properties(schema: &Schema, codec: Codec) -> WriterProperties {
    let key_values = schema.metadata().iter();
    let key_values: Vec<_> = key_values.map(|(k, v)| KeyValue::new(k.clone(), v.clone())).collect();
    let mut properties = WriterProperties::builder()
        .set_compression(codec)
        .set_max_row_group_row_count(Some(GROUP_ROWS))
        .set_max_row_group_bytes(Some(GROUP_BYTES))
        .set_data_page_size_limit(PAGE_BYTES)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_created_by(concat!("rekek ", env!("CARGO_PKG_VERSION")).into())
        .set_key_value_metadata((!key_values.is_empty()).then_some(key_values));
    let column = |name: &str| ColumnPath::new(vec![name.to_owned()]);
    // Every value is there once, so a dictionary would only be built and thrown away.
    properties = properties.set_column_dictionary_enabled(column(ORGANIZATION_ID), false);
    for field in Field::ALL {
        for name in [Some(field.column()), Some(field.source_digest_column()), field.public_column()] {
            let Some(name) = name else { continue };
            properties = properties.set_column_dictionary_enabled(column(name), false);
            // The least and the greatest ciphertext tell nobody anything.
            properties = properties.set_column_statistics_enabled(column(name), EnabledStatistics::None);
        }
    }
    properties.build()
}

/// The codec that a `--compression` means here.
pub(super) fn codec(compression: super::Compression) -> Codec {
    use super::Compression;
    match compression {
        Compression::Usual | Compression::Snappy => Codec::SNAPPY,
        Compression::None => Codec::UNCOMPRESSED,
        Compression::Zstd => Codec::ZSTD(ZstdLevel::try_new(1).expect("1 is a level of zstd")),
        Compression::Lz4 => Codec::LZ4_RAW,
    }
}

impl<W: Write + Send> TableWriter<W> for ParquetWriter<W> {
    fn write(&mut self, rows: &dyn TableRows) -> Result<(), TableError> {
        let batch = rows.records();
        let columns = batch.columns().iter().zip(self.schema.fields());
        let columns = columns.map(|(array, column)| in_type(array, column)).collect::<Result<_, _>>()?;
        let fail = |e| parquet_error("the rows", e);
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns)
            .map_err(|e| super::decoder::arrow_error("the rows", e))?;
        self.writer.write(&batch).map_err(fail)
    }

    fn finish(mut self: Box<Self>) -> Result<W, TableError> {
        self.writer.finish().map_err(|e| parquet_error("the end", e))?;
        Ok(self.writer.inner_mut().0.take().expect("it is taken back once, here"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::round::{file, read, write};
    use crate::table::{Compression, Format};
    use ::arrow::array::{Array as _, DictionaryArray, StringArray};
    use ::arrow::datatypes::Int32Type;
    use ::parquet::file::reader::{FileReader as _, SerializedFileReader};

    /// A footer (`FileMetaData`) with only a list of columns, each given as its `num_children`.
    fn footer(columns: &[i64]) -> Vec<u8> {
        let varint = |out: &mut Vec<u8>, mut n: u64| {
            while n >= 0x80 {
                out.push(n as u8 | 0x80);
                n >>= 7;
            }
            out.push(n as u8);
        };
        let mut out = vec![0x15, 2]; // version, as i32
        out.extend([0x19, 0xfc]); // field 2: a list of structs
        varint(&mut out, columns.len() as u64);
        for children in columns {
            out.extend([0x48, 1, b'a']); // field 4: the name
            out.push(0x15); // field 5: num_children, as i32
            varint(&mut out, ((children << 1) ^ (children >> 63)) as u64);
            out.push(0);
        }
        out.push(0);
        out
    }

    #[test]
    fn a_tree_of_columns_that_would_end_the_process_is_refused() {
        assert_eq!(check_footer(&footer(&[2, 0, 1, 0])), Ok(()));
        let chain = |depth: usize| [vec![1; depth], vec![0]].concat();
        assert_eq!(check_footer(&footer(&chain(NESTING_MAX))), Ok(()));
        for (hostile, what) in [
            (footer(&[i64::from(i32::MAX), 0]), "its tree of columns is malformed or too deep"),
            (footer(&chain(NESTING_MAX + 10)), "its tree of columns is malformed or too deep"),
            (footer(&chain(30_000)), "its tree of columns is malformed or too deep"),
            (footer(&vec![0; 40_000]), "it has too many columns"),
            (footer(&[-1, 0]), "it is cut short or malformed"),
            (footer(&[1, 0])[..9].to_vec(), "it is cut short or malformed"),
            (vec![0], "the list of columns is missing"),
            (vec![0x1c; 100_000], "it is cut short or malformed"),
            (vec![0x2b, 0xff, 0xff, 0xff, 0x0f], "it is cut short or malformed"),
        ] {
            assert_eq!(check_footer(&hostile), Err(what));
            // And through the door: such a file is an error like any other.
            let length = (hostile.len() as u32).to_le_bytes();
            let bytes = [b"PAR1", hostile.as_slice(), &length, b"PAR1"].concat();
            assert!(read(Format::Parquet, &bytes).is_err());
        }
    }

    fn texts(values: Vec<Option<&str>>) -> (SchemaRef, RecordBatch) {
        let schema =
            Arc::new(Schema::new(vec![Column::new("encrypted_signing_key_1", DataType::Utf8, true)]));
        let batch = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(StringArray::from(values))]);
        (schema, batch.unwrap())
    }

    #[test]
    fn ciphertext_stands_in_the_file_once_and_in_no_statistics() {
        let secret = "c2VjcmV0IHRleHQ=";
        let (schema, batch) = texts(vec![Some(secret)]);
        let bytes = write(Format::Parquet, Compression::None, &schema, &[batch]).unwrap();
        let found = bytes.windows(secret.len()).filter(|w| *w == secret.as_bytes()).count();
        assert_eq!(found, 1);
    }

    #[test]
    fn a_page_that_gzip_would_blow_up_is_refused() {
        let gzip = |bytes: &[u8]| {
            let mut encoder = flate2::write::GzEncoder::new(vec![], flate2::Compression::best());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        };
        const LIMIT: u64 = 8 << 20;
        // A member of 1 MiB of nothing, repeated: gzip takes members as one text.
        let nothing = gzip(&[0; 1 << 20]);
        assert!(check_gzip(&nothing.repeat(8), LIMIT).is_ok());
        assert!(check_gzip(&nothing.repeat(9), LIMIT).is_err());
        let mut state = 1_u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        };
        let dense = gzip(&(0..1 << 20).map(|_| random()).collect::<Vec<_>>());
        assert!(dense.len() > 1 << 20 && check_gzip(&dense, LIMIT).is_ok());
        assert!(check_gzip(&[b"levels", dense.as_slice()].concat(), LIMIT).is_err());
    }

    #[test]
    fn row_groups_are_bounded_by_rows_and_by_bytes() {
        let groups = |value: &str, rows: usize| {
            let (schema, batch) = texts(vec![Some(value); 512.min(rows)]);
            let batches = vec![batch; rows.div_ceil(512)];
            let bytes = write(Format::Parquet, Compression::None, &schema, &batches).unwrap();
            let file = file(Format::Parquet, &bytes);
            let reader = SerializedFileReader::new(File::open(file.path()).unwrap()).unwrap();
            reader
                .metadata()
                .row_groups()
                .iter()
                .map(|g| (g.num_rows(), g.total_byte_size()))
                .collect::<Vec<_>>()
        };
        let many = groups("x", GROUP_ROWS + 512);
        assert_eq!(many.iter().map(|g| g.0).collect::<Vec<_>>(), [GROUP_ROWS as i64, 512]);
        let large = groups(&"x".repeat(8 << 10), 16 << 10);
        assert!(large.len() > 2 && large.iter().all(|g| g.1 < GROUP_BYTES as i64 * 5 / 4), "{large:?}");
    }

    #[test]
    fn a_large_value_in_every_row_is_not_in_memory_once_a_row() {
        // 2,000 rows of one value of 4 MiB: a page of indexes and 4 MiB of dictionary in the file,
        // 8 GiB if decoding copied them. A batch must not be more than a row or so.
        let big = "x".repeat(4 << 20);
        let values: DictionaryArray<Int32Type> = std::iter::repeat_n(Some(big.as_str()), 2000).collect();
        let schema = Schema::new(vec![Column::new("c", values.data_type().clone(), true)]);
        let batch = RecordBatch::try_new(Arc::new(schema), vec![Arc::new(values)]).unwrap();
        // Written without the Arrow schema, so that it reads as plain text.
        let options =
            ::parquet::arrow::arrow_writer::ArrowWriterOptions::new().with_skip_arrow_metadata(true);
        let mut writer = ArrowWriter::try_new_with_options(vec![], batch.schema(), options).unwrap();
        writer.write(&batch).unwrap();
        let bytes = writer.into_inner().unwrap();
        assert!(bytes.len() < 8 << 20);
        let file = file(Format::Parquet, &bytes);
        let mut reader = ParquetReader::new(File::open(file.path()).unwrap(), &Stop::default()).unwrap();
        assert_eq!(reader.schema().field(0).data_type(), &DataType::Utf8);
        for _ in 0..20 {
            assert_eq!(reader.next_batch().unwrap().unwrap().num_rows(), 1);
        }
    }
}
