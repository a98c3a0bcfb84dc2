//! Parquet files.
//!
//! It owns how a Parquet file is read in small batches and written in row groups of bounded size.
//! A file's own schema, its Arrow types and its key-value metadata are kept as they are. It never
//! trusts a length, a count or a tree of columns that the file only declares ([`check_footer`],
//! [`Allowed`]), and never puts ciphertext into statistics, where it would stand a second
//! time and outside of what a reader expects to be secret.
//!
//! Text and binary columns are decoded as views, which share the pages' memory, and are copied
//! into the declared type only batch by batch: a dictionary-encoded value of 100 MiB in every row
//! of a page then costs 100 MiB and not as many times that as there are rows.

use super::decoder::{arrow_error, parquet_error};
use super::digest::{FileDigest, RunningDigest};
use super::slices::Slices;
use super::source::FileAt;
use super::types::{kind, replaced};
use super::{
    BATCH_BYTES, BATCH_ROWS, COLUMNS_MAX, FileFacts, ROW_BYTES_MAX, TableError, TableReader, TableRows,
    TableWriter,
};
use crate::caught::caught;
use crate::row::{Field, ORGANIZATION_ID, printable};
use ::arrow::array::{ArrayRef, RecordBatch, new_null_array};
use ::arrow::compute::{CastOptions, cast_with_options};
use ::arrow::datatypes::{DataType, Field as Column, FieldRef, Schema, SchemaRef, TimeUnit};
use ::parquet::arrow::arrow_reader::{ParquetRecordBatchReader, RowGroups};
use ::parquet::arrow::{
    ARROW_SCHEMA_META_KEY, ArrowWriter, FieldLevels, ProjectionMask, parquet_to_arrow_field_levels,
    parquet_to_arrow_schema,
};
use ::parquet::basic::{Compression as Codec, ConvertedType, Encoding, Type as PhysicalType, ZstdLevel};
use ::parquet::column::page::{Page, PageIterator, PageMetadata, PageReader};
use ::parquet::errors::{ParquetError, Result as ParquetResult};
use ::parquet::file::metadata::{KeyValue, ParquetMetaData, ParquetMetaDataReader, RowGroupMetaData};
use ::parquet::file::properties::{EnabledStatistics, WriterProperties};
use ::parquet::file::reader::{ChunkReader, Length};
use ::parquet::file::serialized_reader::SerializedPageReader;
use ::parquet::schema::types::{ColumnDescPtr, ColumnPath};
use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes of decoded pages that one batch may need. DuckDB writes pages of up to 100 MiB for each
/// column; ten such columns still fit.
const PAGES_BYTES_MAX: u64 = 1 << 30;

/// Bytes that a page's header may have: a few dozen, or some kilobytes where it has statistics.
const PAGE_HEADER_BYTES_MAX: usize = 1 << 20;

/// Bytes that a file's directory may have: some 10 KiB a row group are usual, and decoded it takes
/// some twenty times as much at the worst.
const FOOTER_BYTES_MAX: u32 = 32 << 20;

/// What is said of an encrypted file, whether its directory is encrypted too or only its columns.
const ENCRYPTED: &str = "encrypted, which is not supported; write it without, where the keys may be";

/// How deep columns may be nested. A guard of the stack, far above what anybody writes.
const NESTING_MAX: usize = 64;

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
    /// Bytes that a row takes even where all of it is null.
    fixed_bytes: u64,
    memory: Arc<PageMemory>,
    slices: Slices,
    digest: FileDigest,
}

impl ParquetReader {
    pub(super) fn new(file: File, digest: RunningDigest) -> Result<Self, TableError> {
        let file = Arc::new(FileAt::new(file)?);
        let metadata = Arc::new(read_footer(&file)?);
        let descriptor = metadata.file_metadata().schema_descr();
        let key_values = metadata.file_metadata().key_value_metadata();
        let schema =
            parquet_to_arrow_schema(descriptor, key_values).map_err(|e| parquet_error("the schema", e))?;
        let told = key_values.into_iter().flatten().any(|entry| entry.key == ARROW_SCHEMA_META_KEY);
        if !told && let Some(refusal) = descriptor.columns().iter().find_map(without_place) {
            return Err(refusal);
        }
        let columns: Vec<_> =
            schema.fields().iter().map(|column| replaced(column, &plain_in_parquet)).collect();
        let schema = Schema::new_with_metadata(columns, schema.metadata().clone());
        let fixed_bytes = schema.fields().iter().map(|c| fixed_bytes(c.data_type())).sum();
        if fixed_bytes > ROW_BYTES_MAX as u64 {
            return Err(TableError::Table(format!(
                "its columns of fixed width make a row of {fixed_bytes} bytes; more than {ROW_BYTES_MAX} are not read"
            )));
        }
        let hint = schema.fields().iter().map(as_view).collect();
        let levels = parquet_to_arrow_field_levels(descriptor, ProjectionMask::all(), Some(&hint))
            .map_err(|e| parquet_error("the schema", e))?;
        let schema = Arc::new(schema);
        let digest = FileDigest::new(&file, digest);
        Ok(ParquetReader {
            file,
            metadata,
            schema,
            levels,
            group: 0,
            group_rows: 0,
            batches: None,
            fixed_bytes,
            memory: Arc::default(),
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
                    self.digest.reached(self.file.len().min(end_of(group)));
                    let pages = GroupPages {
                        file: Arc::clone(&self.file),
                        metadata: Arc::clone(&self.metadata),
                        group: self.group,
                        memory: Arc::clone(&self.memory),
                    };
                    let rows = batch_rows(group, self.fixed_bytes);
                    none.insert(
                        ParquetRecordBatchReader::try_new_with_row_groups(&self.levels, &pages, rows, None)
                            .map_err(fail)?,
                    )
                }
            };
            self.memory.begin_batch();
            if let Some(batch) = batches.next() {
                let batch = batch.map_err(|e| arrow_error(&place, e))?;
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
            self.memory.clear();
            self.group += 1;
            self.group_rows = 0;
        }
        Ok(None)
    }

    /// The batch in the types that the file declares.
    fn declared(&self, batch: &RecordBatch) -> Result<RecordBatch, TableError> {
        let columns = batch.columns().iter().zip(self.schema.fields());
        let columns = columns.map(|(array, column)| in_type(array, column)).collect::<Result<_, _>>()?;
        RecordBatch::try_new(Arc::clone(&self.schema), columns).map_err(|e| arrow_error("the columns", e))
    }
}

/// Refuses a column that Arrow has no type for, where the file does not say in which of Arrow's types its
/// values fit: the decoder would leave the months of an interval away, and turn the years before 1677 and
/// after 2262 of an INT96 into others.
fn without_place(column: &ColumnDescPtr) -> Option<TableError> {
    let (what, cast) = if column.converted_type() == ConvertedType::INTERVAL {
        ("an interval of months, days and milliseconds", "text")
    } else if column.physical_type() == PhysicalType::INT96 {
        ("timestamps of 96 bits", "a timestamp in microseconds")
    } else {
        return None;
    };
    let name = column.path().parts().first().map_or("", String::as_str);
    Some(TableError::Table(format!(
        "the column {} holds {what}, which Arrow has no place for; leave it out of the export, or cast it to {cast}",
        printable(name)
    )))
}

/// A dictionary that is none in Parquet: one of anything but text or binary stands there plain, and is
/// declared so. (Declared as a dictionary, booleans and decimals are not decoded by the parquet crate, and
/// pyarrow takes moments for numbers.)
fn plain_in_parquet(data_type: &DataType) -> Option<DataType> {
    use DataType::{Binary, BinaryView, Dictionary, LargeBinary, LargeUtf8, Utf8, Utf8View};
    match data_type {
        Dictionary(_, values) => match values.as_ref() {
            Utf8
            | LargeUtf8
            | Utf8View
            | Binary
            | LargeBinary
            | BinaryView
            | DataType::FixedSizeBinary(_) => None,
            plain => Some(plain.clone()),
        },
        _ => None,
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
        .map_err(|e| arrow_error(&format!("the column {}", printable(column.name())), e))
}

impl TableReader for ParquetReader {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn next_batch(&mut self) -> Result<Option<RecordBatch>, TableError> {
        loop {
            if let Some(slice) = self.slices.take()? {
                return Ok(Some(self.declared(&slice)?));
            }
            match self.decode()? {
                Some(batch) => self.slices.put(batch),
                None => return Ok(None),
            }
        }
    }

    fn digest(&self) -> &RunningDigest {
        self.digest.digest()
    }

    fn finish(&mut self) -> Result<FileFacts, TableError> {
        self.digest.finish()
    }
}

/// Where a row group's last page ends, as the directory has it.
fn end_of(group: &RowGroupMetaData) -> u64 {
    let ends = group.columns().iter().map(|column| {
        let (start, length) = column.byte_range();
        start.saturating_add(length)
    });
    ends.max().unwrap_or(0)
}

/// How many rows to decode at once, by the average row of the group. A little less than fills a
/// batch, so that an even table's batches are not each cut in a big and a tiny one.
fn batch_rows(group: &RowGroupMetaData, fixed_bytes: u64) -> usize {
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
    let row = (bytes / rows).max(fixed_bytes).max(1);
    let budget = (BATCH_BYTES - BATCH_BYTES / 16) as u64;
    usize::try_from(budget / row).unwrap_or(BATCH_ROWS).clamp(1, BATCH_ROWS)
}

/// Bytes that a value of this type takes even where it is null: a column of fixed width is decoded
/// with room for every row, and the width is only declared.
fn fixed_bytes(data_type: &DataType) -> u64 {
    match data_type {
        DataType::FixedSizeBinary(width) => u64::try_from(*width).unwrap_or(u64::MAX),
        DataType::FixedSizeList(column, n) => {
            u64::try_from(*n).unwrap_or(u64::MAX).saturating_mul(fixed_bytes(column.data_type()).max(1))
        }
        DataType::Struct(columns) => {
            columns.iter().map(|c| fixed_bytes(c.data_type())).fold(0, u64::saturating_add)
        }
        other => other.primitive_width().unwrap_or(16) as u64,
    }
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
    if file.len() < 12 {
        return Err(not_parquet());
    }
    let mut tail = [0; 8];
    file.read_at(&mut tail, file.len() - 8)?;
    if &tail[4..] == b"PARE" {
        return Err(TableError::Table(format!("the Parquet file is {ENCRYPTED}")));
    }
    if file.range(0, 4)? != b"PAR1" {
        return Err(not_parquet());
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
    let mut columns = None;
    while let Some((id, kind)) = thrift.field(&mut last)? {
        if id == 4 && kind == Thrift::LIST {
            let (groups, _) = Thrift(thrift.0).list()?;
            // The least that a row group has: two numbers, a list, and their field headers.
            if groups > thrift.0.len() as u64 / 8 {
                return Err("it declares more row groups than it has");
            }
        }
        // (`encryption_algorithm`: the columns are, though this directory is not.)
        if id == 8 {
            return Err(ENCRYPTED);
        }
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
            columns = Some(size);
            continue;
        }
        if matches!((id, kind), (2 | 4, other) if other != Thrift::LIST) {
            return Err(Thrift::CUT);
        }
        thrift.skip(kind, NESTING_MAX)?;
    }
    columns.map(drop).ok_or("the list of columns is missing")
}

/// As much of Thrift's compact protocol as [`check_footer`] needs.
struct Thrift<'a>(&'a [u8]);

impl Thrift<'_> {
    const I32: u8 = 5;
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
        let (mut last, mut children) = (0, 0);
        while let Some((id, kind)) = self.field(&mut last)? {
            if (id, kind) == (NUM_CHILDREN, Self::I32) {
                children = u64::try_from(self.zigzag()?).map_err(|_| Self::CUT)?;
            } else if id == NUM_CHILDREN {
                return Err(Self::CUT);
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
    memory: Arc<PageMemory>,
}

impl RowGroups for GroupPages {
    fn num_rows(&self) -> usize {
        usize::try_from(self.metadata.row_group(self.group).num_rows()).unwrap_or(0)
    }

    fn column_chunks(&self, column: usize) -> ParquetResult<Box<dyn PageIterator>> {
        let chunk = self.metadata.row_group(self.group).column(column);
        let (start, length) = chunk.byte_range();
        self.file.check_range(start, length)?;
        let allowed = Allowed {
            left: u64::try_from(chunk.uncompressed_size()).unwrap_or(0),
            memory: Arc::clone(&self.memory),
            page: PageHeader::default(),
            data_page: 0,
            repeats: chunk.column_descr().max_rep_level() > 0,
        };
        let chunks = Arc::new(Chunks {
            file: Arc::clone(&self.file),
            codec: chunk.compression(),
            allowed: Arc::new(Mutex::new(allowed)),
        });
        let allowed = Arc::clone(&chunks.allowed);
        // What is inflated here must not be inflated there again.
        let plain = match chunk.compression() {
            Codec::GZIP(_) => chunk.clone().into_builder().set_compression(Codec::UNCOMPRESSED).build()?,
            _ => chunk.clone(),
        };
        let pages = SerializedPageReader::new(chunks, &plain, self.num_rows(), None)?;
        Ok(Box::new(Once(Some(CheckedPages { pages, allowed, column: chunk.column_descr_ptr() }))))
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

/// Bytes that decoded pages take in memory.
#[derive(Default)]
struct PageMemory {
    /// Of the present batch.
    batch: AtomicU64,
    /// Of the pages from which the columns will read on.
    open: AtomicU64,
}

impl PageMemory {
    /// The batch before is given away; what is open stays.
    fn begin_batch(&self) {
        self.batch.store(self.open.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// The row group has been read.
    fn clear(&self) {
        self.open.store(0, Ordering::Relaxed);
    }

    /// A column turns from a page to one of so many bytes.
    fn turn(&self, from: u64, to: u64) -> ParquetResult<()> {
        self.open.fetch_add(to.wrapping_sub(from), Ordering::Relaxed);
        if self.batch.fetch_add(to, Ordering::Relaxed).saturating_add(to) > PAGES_BYTES_MAX {
            return Err(ParquetError::General(format!(
                "the pages of a few rows take more than {PAGES_BYTES_MAX} bytes; \
                 write the file with smaller pages or row groups"
            )));
        }
        Ok(())
    }
}

/// What a column chunk's pages are held to.
///
/// The batch size is chosen by the sizes in the directory; if the pages could be larger than
/// that, a small file could ask for any amount of memory. The decoder makes room for a page by
/// what the page's header declares, so the header is looked at before the decoder sees it.
struct Allowed {
    /// What the directory still allows this chunk.
    left: u64,
    memory: Arc<PageMemory>,
    /// The page whose header was read last.
    page: PageHeader,
    /// Bytes of the data page that is open.
    data_page: u64,
    /// The column has lists: a single row may have any number of the values that a page declares.
    repeats: bool,
}

impl Allowed {
    fn take(&mut self, page: PageHeader) -> ParquetResult<()> {
        let left = self.left.checked_sub(page.bytes);
        self.left = left.ok_or_else(|| {
            ParquetError::General("a column's pages are larger than the file's directory says".into())
        })?;
        // The decoder makes room by this count; no value of a dictionary has less than a byte.
        if page.is_dictionary && page.values > page.bytes {
            return Err(ParquetError::General("a dictionary page declares more values than it has".into()));
        }
        // A view, or two levels and a number.
        const VALUE: u64 = 16;
        let counted = if page.is_dictionary || self.repeats { page.values.saturating_mul(VALUE) } else { 0 };
        // What is not compressed is taken as it stands in the file, whatever its size is said to be.
        let bytes = page.bytes.max(page.compressed).saturating_add(counted);
        let before = if page.is_dictionary { 0 } else { std::mem::replace(&mut self.data_page, bytes) };
        self.page = page;
        self.memory.turn(before, bytes)
    }
}

/// As much of a page's header (`PageHeader` of parquet.thrift) as tells what its decoding takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct PageHeader {
    is_dictionary: bool,
    /// Bytes once it is decompressed.
    bytes: u64,
    /// Bytes in the file.
    compressed: u64,
    /// Values, nulls included.
    values: u64,
    /// Bytes of levels in front, which are not compressed (pages of the second version).
    levels: u64,
    /// The page is not compressed, whatever the chunk is (likewise).
    is_plain: bool,
}

impl PageHeader {
    fn read(thrift: &mut Thrift<'_>) -> Result<PageHeader, &'static str> {
        const DICTIONARY: i64 = 2;
        const KIND: &str = "a field of another type than it must have";
        let mut page = PageHeader::default();
        let mut last = 0;
        let size = |n: i64| u64::try_from(n).map_err(|_| "a page of negative size");
        while let Some((id, kind)) = thrift.field(&mut last)? {
            match (id, kind) {
                (1, Thrift::I32) => page.is_dictionary = thrift.zigzag()? == DICTIONARY,
                (2, Thrift::I32) => page.bytes = size(thrift.zigzag()?)?,
                (3, Thrift::I32) => page.compressed = size(thrift.zigzag()?)?,
                (5 | 7 | 8, Thrift::STRUCT) => {
                    let mut last = 0;
                    while let Some((inner, kind)) = thrift.field(&mut last)? {
                        match (id, inner, kind) {
                            (_, 1, Thrift::I32) => page.values = page.values.max(size(thrift.zigzag()?)?),
                            (8, 5 | 6, Thrift::I32) => {
                                page.levels = page.levels.saturating_add(size(thrift.zigzag()?)?)
                            }
                            (8, 7, 1 | 2) => page.is_plain = kind == 2,
                            (_, 1, _) | (8, 5..=7, _) => return Err(KIND),
                            _ => thrift.skip(kind, NESTING_MAX)?,
                        }
                    }
                }
                // The decoder goes by the field's number alone, and must not see another size than is
                // seen here.
                (1 | 2 | 3 | 5 | 7 | 8, _) => return Err(KIND),
                _ => thrift.skip(kind, NESTING_MAX)?,
            }
        }
        Ok(page)
    }

    /// The header that stands at `start`.
    fn at(file: &FileAt, start: u64) -> ParquetResult<PageHeader> {
        let left = usize::try_from(file.len().saturating_sub(start)).unwrap_or(usize::MAX);
        for window in [1 << 10, PAGE_HEADER_BYTES_MAX] {
            let bytes = file.range(start, window.min(left))?;
            match PageHeader::read(&mut Thrift(&bytes)) {
                Ok(page) => return Ok(page),
                Err(Thrift::CUT) if window < PAGE_HEADER_BYTES_MAX && window < left => {}
                Err(what) => return Err(ParquetError::General(format!("a page's header: {what}"))),
            }
        }
        unreachable!("the last window returns")
    }
}

/// The pages of a column chunk, with a look at what their encoding declares.
struct CheckedPages {
    pages: SerializedPageReader<Chunks>,
    allowed: Arc<Mutex<Allowed>>,
    column: ColumnDescPtr,
}

impl CheckedPages {
    /// Refuses a page of text whose decoder would make room by a number in it.
    fn check_encoding(&self, page: &Page) -> ParquetResult<()> {
        match page.encoding() {
            // Each value may have the whole of the one before it, so that a small page holds any number of
            // large ones; and how many it has is said in the middle of it.
            Encoding::DELTA_BYTE_ARRAY => Err(ParquetError::General(
                "a page has the encoding DELTA_BYTE_ARRAY, which cannot be read with care; \
                 write the file with another encoding"
                    .into(),
            )),
            Encoding::DELTA_LENGTH_BYTE_ARRAY => {
                let values = self.values(page).and_then(|values| {
                    let mut values = Thrift(values);
                    // Two sizes of blocks, then the count.
                    let _ = (values.varint().ok()?, values.varint().ok()?);
                    values.varint().ok()
                });
                let values = values.filter(|n| *n <= u64::from(page.num_values())).ok_or_else(|| {
                    ParquetError::General("a page's lengths are not as many as its values".into())
                })?;
                lock(&self.allowed).memory.turn(0, values * 4)
            }
            _ => Ok(()),
        }
    }

    /// The values of a data page, behind its levels.
    fn values<'a>(&self, page: &'a Page) -> Option<&'a [u8]> {
        let buffer: &[u8] = page.buffer();
        let (rep, def) = (self.column.max_rep_level(), self.column.max_def_level());
        match page {
            Page::DataPageV2 { def_levels_byte_len, rep_levels_byte_len, .. } => {
                buffer.get((*def_levels_byte_len as usize).checked_add(*rep_levels_byte_len as usize)?..)
            }
            Page::DataPage { num_values, def_level_encoding, rep_level_encoding, .. } => {
                let levels = |rest: &'a [u8], max: i16, encoding: &Encoding| -> Option<&'a [u8]> {
                    if max <= 0 {
                        return Some(rest);
                    }
                    let bits = u64::from(i16::BITS - max.leading_zeros());
                    match encoding {
                        Encoding::RLE => {
                            let length = u32::from_le_bytes(*rest.first_chunk()?) as usize;
                            rest.get(4..)?.get(length..)
                        }
                        _ => rest.get((u64::from(*num_values) * bits).div_ceil(8) as usize..),
                    }
                };
                levels(levels(buffer, rep, rep_level_encoding)?, def, def_level_encoding)
            }
            Page::DictionaryPage { .. } => Some(buffer),
        }
    }
}

impl PageReader for CheckedPages {
    fn get_next_page(&mut self) -> ParquetResult<Option<Page>> {
        let Some(page) = self.pages.get_next_page()? else { return Ok(None) };
        self.check_encoding(&page)?;
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

fn lock(allowed: &Mutex<Allowed>) -> MutexGuard<'_, Allowed> {
    allowed.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The file, as the decoder of a column chunk asks for it.
struct Chunks {
    file: Arc<FileAt>,
    codec: Codec,
    allowed: Arc<Mutex<Allowed>>,
}

impl Length for Chunks {
    fn len(&self) -> u64 {
        self.file.len()
    }
}

impl ChunkReader for Chunks {
    type T = BufReader<HeaderAt>;

    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        // Only page headers are read this way.
        let header =
            HeaderAt { file: Arc::clone(&self.file), at: start, unchecked: Some(Arc::clone(&self.allowed)) };
        Ok(BufReader::with_capacity(512, header))
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        let bytes = self.file.range(start, length)?;
        let page = lock(&self.allowed).page;
        match self.codec {
            Codec::GZIP(_) if !page.is_plain => Ok(inflate(&bytes, page)?.into()),
            // This old codec stands for three, and of the one that is tried last the decoder does not
            // bound the output; LZ4 makes 255 bytes of one at the most.
            Codec::LZ4 if bytes.len() as u64 * 255 > PAGES_BYTES_MAX => Err(ParquetError::General(
                "a page compressed with the old LZ4 is too large to be read with care; \
                 write the file with smaller pages, or with another compression"
                    .into(),
            )),
            _ => Ok(bytes.into()),
        }
    }
}

/// Inflates a page: of all codecs, gzip is the one for which the decoder takes no notice of the size
/// in the page's header, and deflate makes a thousand bytes of one.
fn inflate(bytes: &[u8], page: PageHeader) -> ParquetResult<Vec<u8>> {
    let differs = || ParquetError::General("a page inflates to another size than its header says".into());
    let levels = usize::try_from(page.levels).ok().filter(|n| *n <= bytes.len() && page.levels <= page.bytes);
    let (levels, values) = bytes.split_at(levels.ok_or_else(differs)?);
    let mut out = Vec::with_capacity(page.bytes as usize);
    out.extend_from_slice(levels);
    // Where nothing but nulls is left, nothing may stand there, not even an empty stream.
    if page.bytes > page.levels {
        MultiGzDecoder::new(values).take(page.bytes - page.levels + 1).read_to_end(&mut out)?;
    }
    if out.len() as u64 == page.bytes { Ok(out) } else { Err(differs()) }
}

/// The file from a page's header on. The header is checked when the first byte of it is asked for:
/// the decoder asks for a reader also where it has read the header before.
struct HeaderAt {
    file: Arc<FileAt>,
    at: u64,
    unchecked: Option<Arc<Mutex<Allowed>>>,
}

impl Read for HeaderAt {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if let Some(allowed) = self.unchecked.take() {
            let checked = PageHeader::at(&self.file, self.at).and_then(|page| lock(&allowed).take(page));
            checked.map_err(io::Error::other)?;
        }
        let left = self.file.len().saturating_sub(self.at);
        let n = usize::try_from(left).unwrap_or(usize::MAX).min(buf.len());
        self.file.read_at(&mut buf[..n], self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}

/// Rows of a row group, at the most.
const GROUP_ROWS: usize = 1 << 17;

/// Bytes of a row group, encoded, after which it is closed. What the writer holds in memory, and
/// what it hands over to be written and hashed at once, while nothing else is written.
const GROUP_BYTES: usize = 16 << 20;

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
        for column in schema.fields().iter().filter(|column| *column.data_type() != DataType::Utf8) {
            let held = caught(|| try_to_hold(column)).is_some_and(|tried| tried.is_ok());
            if !held {
                return Err(cannot_hold(column));
            }
        }
        let properties = properties(&schema, codec);
        let writer = ArrowWriter::try_new(Lent(Some(to)), Arc::clone(&schema), Some(properties))
            .map_err(|e| parquet_error("the header", e))?;
        Ok(ParquetWriter { writer, schema })
    }
}

/// Writes a null in such a column to nowhere: some types are refused only once there are values. Of a
/// width that is only declared nothing is allocated: a value that is wide is held as one that is not.
fn try_to_hold(column: &FieldRef) -> Result<(), ParquetError> {
    use DataType::{FixedSizeBinary, FixedSizeList};
    let column = replaced(column, &|data_type| match data_type {
        FixedSizeBinary(2..) => Some(FixedSizeBinary(1)),
        FixedSizeList(values, 2..) => Some(FixedSizeList(Arc::clone(values), 1)),
        _ => None,
    });
    let alone = Arc::new(Schema::new(vec![Column::clone(&column).with_nullable(true)]));
    let null = RecordBatch::try_new(Arc::clone(&alone), vec![new_null_array(column.data_type(), 1)])?;
    let mut writer = ArrowWriter::try_new(io::sink(), alone, None)?;
    writer.write(&null)?;
    writer.close().map(drop)
}

fn cannot_hold(column: &Column) -> TableError {
    TableError::Table(format!(
        "Parquet cannot hold the column {}, which is {}",
        printable(column.name()),
        kind(column.data_type())
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
    let in_another_type = |data_type: &DataType| match data_type {
        Dictionary(keys, values) if keys.primitive_width().is_some_and(|bytes| bytes < 4) => {
            Some(Dictionary(Box::new(Int32), values.clone()))
        }
        Timestamp(TimeUnit::Second, zone) => Some(Timestamp(TimeUnit::Millisecond, zone.clone())),
        Time32(TimeUnit::Second) => Some(Time32(TimeUnit::Millisecond)),
        Date64 => Some(Date32),
        _ => None,
    };
    replaced(column, &|data_type| plain_in_parquet(data_type).or_else(|| in_another_type(data_type)))
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
            .map_err(|e| arrow_error("the rows", e))?;
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
    use ::arrow::datatypes::{Int32Type, IntervalUnit, UnionFields, UnionMode};
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
    fn a_column_that_parquet_cannot_hold_is_named_before_any_row() {
        use DataType::{FixedSizeBinary, Float16, Int32, Interval, List, Map, Null, Struct, Union, Utf8};
        let begun = |data_type: &DataType| {
            let columns = vec![Column::new("id", Utf8, false), Column::new("odd", data_type.clone(), true)];
            let schema = Arc::new(Schema::new(columns));
            ParquetWriter::new(io::sink(), &schema, Codec::SNAPPY).map(drop).map_err(|e| e.to_string())
        };
        let required = |data_type| Arc::new(Column::new("part", data_type, false));
        let parts = UnionFields::from_fields([Column::new("part", Int32, true)]);
        for refused in [
            Interval(IntervalUnit::MonthDayNano),
            FixedSizeBinary(0),
            Union(parts.clone(), UnionMode::Sparse),
            Union(parts, UnionMode::Dense),
            List(required(Interval(IntervalUnit::MonthDayNano))),
        ] {
            let expected = format!("Parquet cannot hold the column odd, which is {}", kind(&refused));
            assert_eq!(begun(&refused), Err(expected));
        }
        // No column is refused for what a null in it lacks.
        let entries =
            Struct(vec![Column::new("key", Utf8, false), Column::new("value", Int32, false)].into());
        for held in [
            Null,
            Float16,
            FixedSizeBinary(3),
            DataType::Decimal256(60, 3),
            List(required(Int32)),
            DataType::FixedSizeList(required(Utf8), 3),
            // Petabytes, if a null had them.
            FixedSizeBinary(i32::MAX),
            DataType::FixedSizeList(required(DataType::FixedSizeList(required(Utf8), i32::MAX)), i32::MAX),
            Struct(vec![required(Struct(vec![required(Int32)].into()))].into()),
            Map(required(entries), false),
            DataType::Dictionary(Box::new(Int32), Box::new(Utf8)),
        ] {
            assert_eq!(begun(&held), Ok(()), "{held}");
        }
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
    fn a_page_is_inflated_to_the_size_that_it_declares_and_no_further() {
        let gzip = |bytes: &[u8]| {
            let mut encoder = flate2::write::GzEncoder::new(vec![], flate2::Compression::best());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        };
        let page = |bytes: u64, levels: u64| PageHeader { bytes, levels, ..PageHeader::default() };
        // A member of 1 MiB of nothing, repeated: gzip takes members as one text.
        let nothing = gzip(&[0; 1 << 20]).repeat(3);
        assert_eq!(inflate(&nothing, page(3 << 20, 0)).unwrap(), vec![0; 3 << 20]);
        for wrong in [1, (3 << 20) - 1, (3 << 20) + 1, 1 << 29] {
            assert!(inflate(&nothing, page(wrong, 0)).is_err(), "{wrong}");
        }
        let with_levels = [b"levels", nothing.as_slice()].concat();
        assert_eq!(inflate(&with_levels, page((3 << 20) + 6, 6)).unwrap()[..6], *b"levels");
        assert_eq!(inflate(b"levels", page(6, 6)).unwrap(), b"levels");
        assert!(inflate(b"levels", page(6, 7)).is_err() && inflate(b"levels", page(5, 6)).is_err());
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
        // 500 rows of one value of 4 MiB: a page of indexes and 4 MiB of dictionary in the file,
        // 2 GiB if decoding copied them. A batch must not be more than a row or so.
        let big = StringArray::from(vec!["x".repeat(4 << 20)]);
        let values = DictionaryArray::<Int32Type>::new(vec![0; 500].into(), Arc::new(big));
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
        let mut reader =
            ParquetReader::new(File::open(file.path()).unwrap(), RunningDigest::default()).unwrap();
        assert_eq!(reader.schema().field(0).data_type(), &DataType::Utf8);
        for _ in 0..20 {
            assert_eq!(reader.next_batch().unwrap().unwrap().num_rows(), 1);
        }
    }
}
