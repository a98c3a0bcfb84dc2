//! Tests that go through every format: what one wrote, all the others carry on unchanged.

use super::*;
use ::arrow::array::{
    Array, ArrayData, ArrayRef, AsArray, BooleanArray, DictionaryArray, Int32Array, Int64Array,
    LargeStringArray, ListArray, ListViewArray, StringArray, StringViewArray, StructArray,
    TimestampMillisecondArray, TimestampSecondArray, UnionArray, make_array,
};
use ::arrow::datatypes::{
    DataType, Field, Int8Type, Int32Type, Schema, TimestampMillisecondType, UnionFields,
};
use proptest::prelude::*;
use std::io::Write as _;
use std::sync::Arc;

/// Rows that a test vouches for.
pub(super) struct Rows(pub(super) RecordBatch);

impl TableRows for Rows {
    fn records(&self) -> &RecordBatch {
        &self.0
    }
}

/// The bytes of a table of which nothing but its schema was known beforehand.
pub(super) fn write(
    format: Format,
    compression: Compression,
    schema: &SchemaRef,
    batches: &[RecordBatch],
) -> Result<Vec<u8>, TableError> {
    let mut writer = create(Vec::new(), format, compression, schema, Dictionaries::Varying)?;
    for batch in batches {
        writer.write(&Rows(batch.clone()))?;
    }
    writer.finish()
}

/// Copies a table of those bytes into another format.
pub(super) fn carry(
    from: Format,
    bytes: &[u8],
    to: Format,
    compression: Compression,
) -> Result<Vec<u8>, TableError> {
    let file = file(from, bytes);
    let mut reader = open(&Input::File(file.path().into()), &OpenOptions::default())?;
    let mut writer = create(Vec::new(), to, compression, reader.schema(), reader.dictionaries())?;
    while let Some(batch) = reader.next_batch()? {
        writer.write(&Rows(batch))?;
    }
    writer.finish()
}

/// A file of those bytes.
pub(super) fn file(format: Format, bytes: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::Builder::new().suffix(&format!(".{}", format.name())).tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

/// Reads a table of those bytes to its end.
pub(super) fn read(format: Format, bytes: &[u8]) -> Result<(SchemaRef, Vec<RecordBatch>), TableError> {
    let file = file(format, bytes);
    let mut reader = open(&Input::File(file.path().into()), &OpenOptions::default())?;
    let mut batches = vec![];
    while let Some(batch) = reader.next_batch()? {
        assert!((1..=BATCH_ROWS).contains(&batch.num_rows()));
        assert_eq!(&batch.schema(), reader.schema());
        batches.push(batch);
    }
    assert!(reader.next_batch()?.is_none(), "the end stays the end");
    let facts = reader.finish()?;
    assert_eq!(facts, FileFacts { bytes: bytes.len() as u64, sha256: Sha256Digest::of(bytes) });
    Ok((Arc::clone(reader.schema()), batches))
}

pub(super) fn one(schema: &SchemaRef, batches: &[RecordBatch]) -> RecordBatch {
    ::arrow::compute::concat_batches(schema, batches).unwrap()
}

const FORMATS: [Format; 4] = [Format::Csv, Format::Parquet, Format::Arrow, Format::Arrows];
const CODECS: [Compression; 5] =
    [Compression::Usual, Compression::None, Compression::Snappy, Compression::Lz4, Compression::Zstd];

/// A text array of one of the types, by number.
fn text(kind: usize, values: &[Option<String>]) -> ArrayRef {
    let values = values.iter().map(Option::as_deref);
    match kind {
        0 => Arc::new(values.collect::<StringArray>()),
        1 => Arc::new(values.collect::<LargeStringArray>()),
        2 => Arc::new(values.collect::<StringViewArray>()),
        _ => Arc::new(values.collect::<DictionaryArray<Int32Type>>()),
    }
}

/// Tables of one to three text columns, any text types, in one to three batches, with metadata.
fn tables() -> impl Strategy<Value = (SchemaRef, Vec<RecordBatch>)> {
    let value = prop_oneof![
        1 => Just(None),
        1 => Just(Some(String::new())),
        3 => "[a-c,\"\n\r\u{e9}\u{1F511} ]{0,20}".prop_map(Some),
        1 => "[A-Za-z0-9+/]{200,300}".prop_map(Some),
    ];
    let batch = prop::collection::vec(prop::collection::vec(value, 3), 0..40);
    let batches = prop::collection::vec(batch, 1..4);
    let metadata = prop::collection::hash_map("[a-z]{1,5}", "\\PC{0,9}", 0..3);
    (prop::collection::vec(0..4usize, 1..=3), batches, metadata).prop_map(|(kinds, batches, metadata)| {
        let arrays = |rows: &Vec<Vec<Option<String>>>| {
            let column = |i: usize| rows.iter().map(|row| row[i].clone()).collect::<Vec<_>>();
            kinds.iter().enumerate().map(|(i, kind)| text(*kind, &column(i))).collect::<Vec<_>>()
        };
        let first = arrays(&batches[0]);
        let fields = first.iter().enumerate().map(|(i, array)| {
            Field::new(format!("c{i}"), array.data_type().clone(), true).with_metadata(metadata.clone())
        });
        let schema = Arc::new(Schema::new_with_metadata(fields.collect::<Vec<_>>(), metadata.clone()));
        let batches = batches.iter().map(|b| RecordBatch::try_new(Arc::clone(&schema), arrays(b)).unwrap());
        let batches = batches.collect();
        (schema, batches)
    })
}

/// The text of all rows, in whatever types it is.
fn texts(batches: &[RecordBatch]) -> Vec<Vec<Option<String>>> {
    let rows = batches.iter().flat_map(|batch| {
        let columns: Vec<_> = batch.columns().iter().map(|c| Text::of(c).unwrap()).collect();
        (0..batch.num_rows())
            .map(|row| columns.iter().map(|c| c.get(row).map(str::to_owned)).collect())
            .collect::<Vec<_>>()
    });
    rows.collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..Default::default() })]

    /// From one format through a second, in every pair, with every compression that the second has.
    #[test]
    fn any_format_through_any_other_is_the_same((schema, batches) in tables(), codec in 0..CODECS.len()) {
        let codec = CODECS[codec];
        let with_nulls = texts(&batches);
        // CSV has no empty text: it reads as null.
        let without_empty: Vec<Vec<_>> = with_nulls
            .iter()
            .map(|row| row.iter().map(|v| v.clone().filter(|v| !v.is_empty())).collect())
            .collect();
        for first in FORMATS {
            let bytes = write(first, Compression::Usual, &schema, &batches).unwrap();
            let (read_schema, read_batches) = read(first, &bytes).unwrap();
            if first == Format::Csv {
                prop_assert_eq!(&texts(&read_batches), &without_empty);
            } else {
                prop_assert_eq!(&texts(&read_batches), &with_nulls);
                prop_assert_eq!(read_schema.metadata(), schema.metadata());
                for (read, written) in read_schema.fields().iter().zip(schema.fields()) {
                    prop_assert_eq!(read.metadata(), written.metadata());
                    let same = first == Format::Arrow && matches!(written.data_type(), DataType::Dictionary(..));
                    prop_assert!(same || read.data_type() == written.data_type());
                }
            }
            for second in FORMATS {
                let Ok(bytes) = carry(first, &bytes, second, codec) else {
                    let has_none = matches!(
                        (second, codec),
                        (Format::Csv, _) | (Format::Arrow | Format::Arrows, Compression::Snappy)
                    );
                    prop_assert!(has_none, "{:?} {:?}", second, codec);
                    continue;
                };
                let (last_schema, last) = read(second, &bytes).unwrap();
                if first == Format::Csv || second == Format::Csv {
                    prop_assert_eq!(&texts(&last), &without_empty);
                } else {
                    prop_assert_eq!(&texts(&last), &with_nulls);
                    prop_assert_eq!(last_schema.metadata(), schema.metadata());
                }
            }
        }
    }
}

/// Columns of other types, nested ones and dictionaries among them.
fn others() -> (SchemaRef, Vec<RecordBatch>) {
    let batch = |from: i64, words: [&str; 3]| -> Vec<(&'static str, ArrayRef)> {
        let numbers = Int64Array::from(vec![Some(from), None, Some(from + 2)]);
        let lists = ListArray::from_iter_primitive::<Int32Type, _, _>([
            Some(vec![Some(1), None]),
            None,
            Some(vec![]),
        ]);
        let field = Arc::new(Field::new("x", DataType::Int64, true));
        let structs = StructArray::from(vec![(field, Arc::new(numbers.clone()) as ArrayRef)]);
        let dictionary: DictionaryArray<Int32Type> = words.into_iter().map(Some).collect();
        let small: DictionaryArray<Int8Type> = words.into_iter().map(Some).collect();
        vec![
            ("numbers", Arc::new(numbers)),
            ("flags", Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)]))),
            ("lists", Arc::new(lists)),
            ("structs", Arc::new(structs)),
            ("dictionary", Arc::new(dictionary)),
            ("small", Arc::new(small)),
            (
                "binary",
                Arc::new(::arrow::array::BinaryArray::from_opt_vec(vec![Some(b"\0\xff"), None, Some(b"")])),
            ),
        ]
    };
    let batches = [batch(1, ["a", "b", "a"]), batch(4, ["c", "a", "d"]), batch(7, ["c", "a", "d"])];
    let fields: Vec<_> =
        batches[0].iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), true)).collect();
    let schema = Arc::new(Schema::new(fields));
    let batches = batches.map(|columns| {
        RecordBatch::try_new(Arc::clone(&schema), columns.into_iter().map(|(_, array)| array).collect())
            .unwrap()
    });
    (schema, batches.to_vec())
}

#[test]
fn other_columns_are_carried_through() {
    let (schema, batches) = others();
    let rows = |batches: &[RecordBatch]| {
        let plain = batches.iter().map(|batch| {
            let columns = batch.columns().iter().map(|column| match column.data_type() {
                DataType::Dictionary(_, values) => ::arrow::compute::cast(column, values).unwrap(),
                _ => Arc::clone(column),
            });
            let columns: Vec<_> = columns.collect();
            let fields = columns.iter().zip(schema.fields());
            let fields = fields.map(|(c, f)| Field::new(f.name(), c.data_type().clone(), true));
            RecordBatch::try_new(Arc::new(Schema::new(fields.collect::<Vec<_>>())), columns).unwrap()
        });
        let plain: Vec<_> = plain.collect();
        one(&plain[0].schema(), &plain)
    };
    let expected = rows(&batches);
    for first in &FORMATS[1..] {
        let written = write(*first, Compression::Usual, &schema, &batches).unwrap();
        let (read_schema, read_batches) = read(*first, &written).unwrap();
        assert_eq!(rows(&read_batches), expected, "{first:?}");
        for (read, written) in read_schema.fields().iter().zip(schema.fields()) {
            match (written.data_type(), first) {
                (DataType::Dictionary(_, values), Format::Arrow) => assert_eq!(read.data_type(), &**values),
                (DataType::Dictionary(_, values), Format::Parquet) => {
                    assert_eq!(
                        read.data_type(),
                        &DataType::Dictionary(Box::new(DataType::Int32), values.clone())
                    );
                }
                (other, _) => assert_eq!(read.data_type(), other),
            }
        }
        for second in &FORMATS[1..] {
            let bytes = carry(*first, &written, *second, Compression::Zstd).unwrap();
            assert_eq!(rows(&read(*second, &bytes).unwrap().1), expected, "{first:?} {second:?}");
        }
    }
}

#[test]
fn a_dictionary_of_narrow_keys_survives_a_row_group_that_has_more_values() {
    let column = |from: usize| -> ArrayRef {
        let words: Vec<String> = (from..from + 100).map(|i| format!("word {i}")).collect();
        Arc::new(words.iter().map(|w| Some(w.as_str())).collect::<DictionaryArray<Int8Type>>())
    };
    let schema = Arc::new(Schema::new(vec![Field::new("c", column(0).data_type().clone(), true)]));
    let batches: Vec<_> =
        (0..5).map(|i| RecordBatch::try_new(Arc::clone(&schema), vec![column(i * 100)]).unwrap()).collect();
    for format in &FORMATS[1..] {
        let bytes = write(*format, Compression::Usual, &schema, &batches).unwrap();
        assert_eq!(texts(&read(*format, &bytes).unwrap().1), texts(&batches), "{format:?}");
    }
}

#[test]
fn a_batch_of_views_is_not_written_once_for_each_of_its_slices() {
    let values: Vec<_> = (0..4000).map(|i| format!("{i:0500}")).collect();
    let views: ArrayRef = Arc::new(values.iter().map(|v| Some(v.as_str())).collect::<StringViewArray>());
    let text: ArrayRef = Arc::new(values.iter().map(|v| Some(v.as_str())).collect::<StringArray>());
    let item = Arc::new(Field::new("item", DataType::Utf8, true));
    let places = || (0..4000).collect();
    let lists: ArrayRef =
        Arc::new(ListViewArray::new(item, places(), vec![1; 4000].into(), Arc::clone(&text), None));
    let kinds = UnionFields::try_new([5], [Field::new("text", DataType::Utf8, true)]).unwrap();
    let union = UnionArray::try_new(kinds, vec![5; 4000].into(), Some(places()), vec![text]).unwrap();
    let nested = |array| Arc::new(StructArray::try_from(vec![("c", array)]).unwrap());
    for array in [Arc::clone(&views), lists, nested(Arc::new(union)), nested(views)] {
        let schema = Arc::new(Schema::new(vec![Field::new("c", array.data_type().clone(), true)]));
        let whole = RecordBatch::try_new(Arc::clone(&schema), vec![array]).unwrap();
        let bytes = write(Format::Arrows, Compression::Usual, &schema, std::slice::from_ref(&whole)).unwrap();
        let (_, slices) = read(Format::Arrows, &bytes).unwrap();
        assert!(slices.len() > 1);
        for format in [Format::Arrow, Format::Arrows] {
            let again = write(format, Compression::Usual, &schema, &slices).unwrap();
            assert!(again.len() < bytes.len() * 11 / 10, "{} of {}", again.len(), bytes.len());
            assert_eq!(one(&schema, &read(format, &again).unwrap().1), whole);
        }
    }
}

/// Their fields may be named and nullable in any way, which a cast from runs to runs does not keep.
#[test]
fn runs_of_what_parquet_lacks_become_plain_there() {
    let values = TimestampSecondArray::from(vec![Some(7), None]);
    let field = |name, kind: &DataType, nullable| Arc::new(Field::new(name, kind.clone(), nullable));
    let ends = Int32Array::from(vec![2, 3]);
    let kind = DataType::RunEndEncoded(
        field("ends", ends.data_type(), false),
        field("of its own", values.data_type(), true),
    );
    let data = ArrayData::builder(kind.clone()).len(3);
    let data = data.add_child_data(ends.into_data()).add_child_data(values.into_data()).build().unwrap();
    let schema = Arc::new(Schema::new(vec![Field::new("c", kind, true)]));
    let batch = RecordBatch::try_new(Arc::clone(&schema), vec![make_array(data)]).unwrap();
    let bytes = write(Format::Parquet, Compression::Usual, &schema, &[batch]).unwrap();
    let (schema, batches) = read(Format::Parquet, &bytes).unwrap();
    let expected = TimestampMillisecondArray::from(vec![Some(7000), Some(7000), None]);
    let column = one(&schema, &batches).column(0).clone();
    assert_eq!(column.as_primitive::<TimestampMillisecondType>(), &expected);
}

#[test]
fn a_value_of_64_mib_goes_through_every_format() {
    let huge = "x".repeat(64 << 20);
    let array: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), Some(huge.as_str()), None]));
    let schema = Arc::new(Schema::new(vec![Field::new("c", DataType::Utf8, true)]));
    let batch = RecordBatch::try_new(Arc::clone(&schema), vec![array]).unwrap();
    for format in FORMATS {
        let bytes = write(format, Compression::Usual, &schema, std::slice::from_ref(&batch)).unwrap();
        let (_, batches) = read(format, &bytes).unwrap();
        let lengths: Vec<_> = texts(&batches).iter().map(|row| row[0].as_ref().map(String::len)).collect();
        let last = if format == Format::Csv { 2 } else { 3 };
        assert_eq!(lengths[..last], [Some(1), Some(64 << 20), None][..last], "{format:?}");
    }
}

#[test]
fn an_empty_table_stays_one() {
    let schema = Arc::new(Schema::new(vec![Field::new("c", DataType::Utf8, true)]));
    for format in FORMATS {
        let bytes = write(format, Compression::Usual, &schema, &[]).unwrap();
        let (read_schema, batches) = read(format, &bytes).unwrap();
        assert!(batches.is_empty());
        assert_eq!(read_schema, schema);
    }
}
