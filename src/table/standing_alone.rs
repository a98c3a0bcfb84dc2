//! Values that stand alone: out of a batch that shares its memory with others come arrays that an Arrow
//! writer can write, and nothing that their rows do not show.
//!
//! A slice has all of its batch behind it, and in some types the writer writes all of that: the values that a
//! dictionary, a view, a list view or a union may refer to. So a batch given out in a hundred slices would be
//! written a hundred times; and an output of some organizations would have values of the others.

use super::decoder::arrow_error;
use super::types::{contains, kind, replaced};
use super::{Dictionaries, TableError};
use crate::row::printable;
use ::arrow::array::{
    Array, ArrayRef, AsArray, BinaryViewArray, BooleanArray, FixedSizeListArray, LargeListArray, ListArray,
    MapArray, MutableArrayData, StringViewArray, StructArray, UnionArray, downcast_run_array, make_array,
};
use ::arrow::buffer::{Buffer, NullBuffer};
use ::arrow::compute::{CastOptions, can_cast_types, cast_with_options, nullif};
use ::arrow::datatypes::{
    BinaryViewType, ByteViewType, DataType, Field as Column, FieldRef, Schema, SchemaRef, StringViewType,
    UnionMode,
};
use ::arrow::error::ArrowError;
use std::sync::Arc;

/// The schema with plain values in place of dictionaries, at any depth; `refusal` says why a column is
/// refused, because of a type in it or since it cannot be cast.
fn in_plain(
    schema: &Schema,
    refused: impl Fn(&DataType) -> bool,
    refusal: impl Fn(&Column) -> String,
) -> Result<SchemaRef, TableError> {
    let plain = |column: &FieldRef| {
        let plain = replaced(column, &without_dictionary);
        let possible =
            !contains(column.data_type(), &refused) && can_cast_types(column.data_type(), plain.data_type());
        possible.then_some(plain).ok_or_else(|| TableError::Table(refusal(column)))
    };
    let columns = schema.fields().iter().map(plain).collect::<Result<Vec<_>, _>>()?;
    Ok(Arc::new(Schema::new_with_metadata(columns, schema.metadata().clone())))
}

/// The schema without dictionaries, for a file before whose first batch they are not known.
pub(super) fn without_dictionaries(schema: &Schema) -> Result<SchemaRef, TableError> {
    // A cast unfolds all of a dictionary, however its values share theirs.
    let unfolds = |data_type: &DataType| match data_type {
        DataType::Dictionary(_, values) => contains(values, is_dictionary),
        _ => false,
    };
    in_plain(schema, unfolds, |column| {
        format!(
            "an Arrow file cannot hold the column {}, which is {}: its dictionaries are too large, or not known \
             beforehand; an Arrow stream (arrows) can",
            printable(column.name()),
            kind(column.data_type())
        )
    })
}

/// The schema without what has values that no row refers to even in a copy: dictionaries. Refused is what
/// cannot do without.
pub(super) fn without_other_rows(schema: &Schema) -> Result<SchemaRef, TableError> {
    let has_runs = |data_type: &DataType| contains(data_type, is_runs);
    let coded_runs = |data_type: &DataType| is_runs(data_type) && contains(data_type, is_dictionary);
    let refused = |data_type: &DataType| match data_type {
        // A cast unfolds all of a dictionary, however its values share theirs.
        DataType::Dictionary(_, values) => values.is_nested() || is_dictionary(values) || has_runs(values),
        // A null has a place in the values like any other.
        DataType::ListView(_) | DataType::LargeListView(_) => true,
        // What stands under their nulls cannot be taken out of runs.
        DataType::Struct(_) | DataType::FixedSizeList(_, _) => contains(data_type, coded_runs),
        DataType::RunEndEncoded(_, values) => values.data_type().is_nested() && coded_runs(data_type),
        // Copied value by value, each would be looked for from the first run on.
        DataType::Union(_, UnionMode::Dense) => has_runs(data_type),
        _ => false,
    };
    in_plain(schema, refused, |column| {
        format!(
            "the column {}, which is {}, cannot be written for some organizations without values of others; \
             make the export without it",
            printable(column.name()),
            kind(column.data_type())
        )
    })
}

/// For each column, whether what its rows show is to be copied before it is written.
pub(super) fn columns_to_copy(schema: &Schema, dictionaries: Dictionaries) -> Vec<bool> {
    let shared = |data_type: &DataType| match data_type {
        // The writer keeps the first array with a dictionary until the end, to know the dictionary again:
        // what it keeps must not be a view of a whole message.
        DataType::Dictionary(_, _) => true,
        // A slice of these has all of the batch's values, and all would be written, for each slice.
        DataType::ListView(_) | DataType::LargeListView(_) | DataType::Union(_, UnionMode::Dense) => true,
        // So has one of views. (Those that are no part of something else: see `standing_alone`.)
        nested => nested.is_nested() && contains(nested, is_view),
    };
    let to_copy = |column: &FieldRef| match dictionaries {
        // Any slice has at least its neighbours' bits beside its own.
        Dictionaries::OfOtherRows => true,
        // To copy a slice of runs takes as long as all runs before it.
        _ => contains(column.data_type(), shared) && !contains(column.data_type(), is_runs),
    };
    schema.fields().iter().map(to_copy).collect()
}

fn without_dictionary(data_type: &DataType) -> Option<DataType> {
    match data_type {
        DataType::Dictionary(_, values) => Some(values.as_ref().clone()),
        _ => None,
    }
}

fn is_dictionary(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Dictionary(_, _))
}

fn is_runs(data_type: &DataType) -> bool {
    matches!(data_type, DataType::RunEndEncoded(_, _))
}

fn is_view(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8View | DataType::BinaryView)
}

/// The array in the column's type, with not much more memory behind its views than it shows.
pub(super) fn standing_alone(array: &ArrayRef, column: &Column) -> Result<ArrayRef, TableError> {
    let fail = |e| arrow_error(&place(column), e);
    if array.data_type() != column.data_type() {
        // Not the safe cast, which makes null of what it cannot cast.
        let options = CastOptions { safe: false, ..Default::default() };
        let array = cast_with_options(array, column.data_type(), &options).map_err(fail)?;
        // Out of a dictionary of views come views of all of its values.
        return tidied(&array, None).map_err(fail);
    }
    Ok(match array.data_type() {
        DataType::Utf8View => with_its_own_buffers::<StringViewType>(array),
        DataType::BinaryView => with_its_own_buffers::<BinaryViewType>(array),
        _ => Arc::clone(array),
    })
}

/// Views whose buffers have much more than they show, with new ones.
fn with_its_own_buffers<T: ByteViewType>(array: &ArrayRef) -> ArrayRef {
    let views = array.as_byte_view::<T>();
    let (all, shown) =
        (views.data_buffers().iter().map(Buffer::len).sum::<usize>(), views.total_buffer_bytes_used());
    if all > shown + shown / 4 + 4096 { Arc::new(views.gc()) } else { Arc::clone(array) }
}

/// The array with what its rows show copied, and nothing beside it, but for a dictionary's values.
pub(super) fn copied(array: &ArrayRef, column: &Column) -> Result<ArrayRef, TableError> {
    let fail = |e| arrow_error(&place(column), e);
    let data = array.to_data();
    // No capacity beforehand: it would follow widths that are only declared.
    let mut copy = MutableArrayData::new(vec![&data], false, 0);
    copy.try_extend(0, 0, data.len()).map_err(fail)?;
    tidied(&make_array(copy.freeze()), None).map_err(fail)
}

/// The array without what stands under nulls, its own and those of what it is a part of (`above`), and with
/// views of nothing else. Under a null struct each column has a value all the same: in a dictionary, writers
/// leave its first one there, whosever that is.
fn tidied(array: &ArrayRef, above: Option<&NullBuffer>) -> Result<ArrayRef, ArrowError> {
    let array = match (array.data_type(), above) {
        // These have no nulls of their own.
        (DataType::Null | DataType::RunEndEncoded(_, _) | DataType::Union(_, _), _) | (_, None) => {
            Arc::clone(array)
        }
        (_, Some(nulls)) => nullif(array, &BooleanArray::new(!nulls.inner(), None))?,
    };
    Ok(match array.data_type() {
        DataType::Struct(_) => {
            let (fields, columns, nulls) = array.as_struct().clone().into_parts();
            let columns = columns.iter().map(|column| tidied(column, nulls.as_ref()));
            let columns = columns.collect::<Result<_, _>>()?;
            Arc::new(StructArray::try_new_with_length(fields, columns, nulls, array.len())?)
        }
        DataType::FixedSizeList(_, _) => {
            let (field, width, values, nulls) = array.as_fixed_size_list().clone().into_parts();
            let below = nulls.as_ref().map(|nulls| nulls.expand(width as usize));
            let values = tidied(&values, below.as_ref())?;
            Arc::new(FixedSizeListArray::try_new_with_length(field, width, values, nulls, array.len())?)
        }
        DataType::List(_) => {
            let (field, offsets, values, nulls) = array.as_list::<i32>().clone().into_parts();
            Arc::new(ListArray::try_new(field, offsets, tidied(&values, None)?, nulls)?)
        }
        DataType::LargeList(_) => {
            let (field, offsets, values, nulls) = array.as_list::<i64>().clone().into_parts();
            Arc::new(LargeListArray::try_new(field, offsets, tidied(&values, None)?, nulls)?)
        }
        DataType::Map(_, _) => {
            let (field, offsets, entries, nulls, sorted) = array.as_map().clone().into_parts();
            let entries: ArrayRef = Arc::new(entries);
            let entries = tidied(&entries, None)?.as_struct().clone();
            Arc::new(MapArray::try_new(field, offsets, entries, nulls, sorted)?)
        }
        DataType::Union(_, _) => {
            let (fields, kinds, places, columns) = array.as_union().clone().into_parts();
            let columns = columns.iter().map(|column| tidied(column, None)).collect::<Result<_, _>>()?;
            Arc::new(UnionArray::try_new(fields, kinds, places, columns)?)
        }
        // (This loses the metadata of the values' field.)
        DataType::RunEndEncoded(_, values) if contains(values.data_type(), is_view) => {
            let runs = array.as_ref();
            downcast_run_array!(
                runs => Arc::new(runs.with_values(tidied(runs.values(), None)?)),
                _ => unreachable!("the ends of runs have 16, 32 or 64 bits")
            )
        }
        DataType::Utf8View => Arc::new(array.as_string_view().iter().collect::<StringViewArray>()),
        DataType::BinaryView => Arc::new(array.as_binary_view().iter().collect::<BinaryViewArray>()),
        _ => array,
    })
}

fn place(column: &Column) -> String {
    format!("the column {}", printable(column.name()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::round::{Rows, carry, one, read, write};
    use crate::table::{Compression, Format, create};
    use ::arrow::array::{
        ArrayData, DictionaryArray, Int32Array, Int64Array, LargeListViewArray, ListViewArray, RecordBatch,
        RunArray, StringArray, UInt16Array,
    };
    use ::arrow::buffer::{OffsetBuffer, ScalarBuffer};
    use ::arrow::datatypes::{Int8Type, Int32Type, UnionFields};

    const REFUSED: [&str; 13] = [
        "list view",
        "list view of dictionary",
        "large list view",
        "map of list view",
        "runs of list view",
        "struct of runs of dictionary",
        "dense union of runs",
        "union of dictionary",
        "sparse union of lists of dictionary",
        "dictionary of lists",
        "dictionary of lists of dictionary",
        "dictionary of dictionary",
        "dictionary of runs",
    ];

    /// A note of every row in every form in which an array can have values that none of its rows refers to,
    /// or that stand beside them. Those that cannot be written for some organizations are in [`REFUSED`].
    fn notes(rows: usize) -> Vec<(&'static str, ArrayRef)> {
        let note = |i: usize| format!("a note about row {i:04}.");
        let text: ArrayRef = Arc::new(StringArray::from_iter_values((0..rows).map(note)));
        let coded_of = |values: &ArrayRef| {
            let keys = UInt16Array::from_iter_values(0..rows as u16);
            Arc::new(DictionaryArray::new(keys, Arc::clone(values))) as ArrayRef
        };
        let coded = coded_of(&text);
        let views: ArrayRef = Arc::new(StringViewArray::from_iter_values((0..rows).map(note)));
        let binary = cast_with_options(&views, &DataType::BinaryView, &CastOptions::default()).unwrap();
        let item = |array: &ArrayRef| Arc::new(Column::new("item", array.data_type().clone(), true));
        let (places, ones) = (|| (0..rows as i32).collect::<Vec<_>>(), || vec![1; rows]);
        let list = |values: &ArrayRef| {
            Arc::new(ListArray::new(
                item(values),
                OffsetBuffer::from_lengths(ones()),
                Arc::clone(values),
                None,
            ))
        };
        let list_view = |values: &ArrayRef| {
            let (places, ones) = (places().into(), ones().iter().map(|one| *one as i32).collect());
            Arc::new(ListViewArray::new(item(values), places, ones, Arc::clone(values), None)) as ArrayRef
        };
        let runs = |values: &ArrayRef| {
            let ends = Int32Array::from_iter_values(1..=rows as i32);
            Arc::new(RunArray::<Int32Type>::try_new(&ends, values).unwrap()) as ArrayRef
        };
        let pair = |array: ArrayRef| Arc::new(StructArray::try_from(vec![("of a struct", array)]).unwrap());
        let backwards = |values: &ArrayRef| {
            let places = (0..rows as i64).rev().map(|i| i.max(1)).collect();
            let list =
                LargeListViewArray::new(item(values), places, vec![1; rows].into(), Arc::clone(values), None);
            Arc::new(list) as ArrayRef
        };
        let fixed = |values: &ArrayRef| {
            Arc::new(FixedSizeListArray::new(item(values), 1, Arc::clone(values), None)) as ArrayRef
        };
        let map = |values: &ArrayRef| {
            let columns = ["key", "value"].map(|name| {
                let column = Column::new(name, values.data_type().clone(), name == "value");
                (Arc::new(column), Arc::clone(values))
            });
            let entries = StructArray::from(columns.to_vec());
            let column = Arc::new(Column::new("entries", entries.data_type().clone(), false));
            let each = OffsetBuffer::from_lengths(ones());
            Arc::new(MapArray::new(column, each, entries, None, false)) as ArrayRef
        };
        vec![
            ("text", Arc::clone(&text)),
            ("dictionary", Arc::clone(&coded)),
            ("views", Arc::clone(&views)),
            ("binary views", binary),
            ("list of dictionary", list(&coded)),
            ("list view", list_view(&text)),
            ("list view of dictionary", list_view(&coded)),
            ("large list view", backwards(&backwards(&text))),
            ("fixed list of views", fixed(&views)),
            ("map of dictionary", map(&coded)),
            ("map of list view", map(&list_view(&text))),
            ("runs", runs(&text)),
            ("runs of dictionary", runs(&coded)),
            ("runs of views", runs(&views)),
            ("runs of list view", runs(&list_view(&text))),
            ("struct of runs of dictionary", pair(runs(&coded))),
            ("struct of runs", pair(runs(&views))),
            ("dense union", union(&text, UnionMode::Dense)),
            ("sparse union", union(&text, UnionMode::Sparse)),
            ("struct of union", pair(union(&text, UnionMode::Dense))),
            ("list of union", list(&union(&text, UnionMode::Dense))),
            ("union of views", union(&views, UnionMode::Dense)),
            ("sparse union of views", union(&views, UnionMode::Sparse)),
            ("sparse union of runs of views", union(&runs(&views), UnionMode::Sparse)),
            ("dense union of runs", union(&runs(&text), UnionMode::Dense)),
            ("union of dictionary", union(&coded, UnionMode::Dense)),
            ("sparse union of lists of dictionary", union(&(list(&coded) as ArrayRef), UnionMode::Sparse)),
            ("dictionary of lists", coded_of(&(list(&text) as ArrayRef))),
            ("dictionary of lists of dictionary", coded_of(&(list(&coded) as ArrayRef))),
            ("dictionary of dictionary", coded_of(&coded)),
            ("dictionary of runs", coded_of(&runs(&text))),
        ]
    }

    /// Every second value in one child, the others in the other.
    fn union(values: &ArrayRef, mode: UnionMode) -> ArrayRef {
        let column = |name| Column::new(name, values.data_type().clone(), true);
        let fields = UnionFields::try_new([3, 7], [column("a"), column("b")]).unwrap();
        let ids = (0..values.len()).map(|i| if i % 2 == 0 { 3_i8 } else { 7 }).collect();
        let places =
            (mode == UnionMode::Dense).then(|| (0..values.len() as i32).collect::<ScalarBuffer<i32>>());
        let children = vec![Arc::clone(values), Arc::clone(values)];
        Arc::new(UnionArray::try_new(fields, ids, places, children).unwrap())
    }

    fn of_some(format: Format, batch: &RecordBatch) -> Result<Vec<u8>, TableError> {
        let (compression, schema) = (Compression::None, batch.schema());
        let mut writer = create(vec![], format, compression, &schema, Dictionaries::OfOtherRows)?;
        writer.write(&Rows(batch.clone()))?;
        writer.finish()
    }

    /// Neither where some rows were picked out of a batch, nor where all of a slice of it were.
    #[test]
    fn nothing_of_rows_that_were_left_out_is_written() {
        const ROWS: usize = 60;
        let picked = |row: usize| (20..30).contains(&row) && !row.is_multiple_of(3);
        let mask = (0..ROWS).map(|row| Some(picked(row))).collect::<BooleanArray>();
        for (name, array) in notes(ROWS).into_iter().filter(|(name, _)| !REFUSED.contains(name)) {
            let batch = RecordBatch::try_from_iter_with_nullable([(name, array, true)]).unwrap();
            let some = ::arrow::compute::filter_record_batch(&batch, &mask).unwrap();
            let slice = batch.slice(20, 10);
            let in_slice = |row: usize| (20..30).contains(&row);
            for (rows, belongs) in [(some, &picked as &dyn Fn(usize) -> bool), (slice, &in_slice)] {
                for format in [Format::Arrow, Format::Arrows] {
                    let bytes = of_some(format, &rows).unwrap();
                    for row in 0..ROWS {
                        let note = format!("a note about row {row:04}.");
                        let found = bytes.windows(note.len()).any(|window| window == note.as_bytes());
                        assert_eq!(found, belongs(row), "{name}, {format:?}, row {row}");
                    }
                    let (schema, batches) = read(format, &bytes).unwrap();
                    let (written, column) = (one(&schema, &batches), schema.field(0));
                    let expected = cast_with_options(rows.column(0), column.data_type(), &Default::default());
                    assert_eq!(written.column(0), &expected.unwrap(), "{name}, {format:?}");
                }
            }
        }
    }

    #[test]
    fn what_cannot_stand_alone_is_refused_for_some_organizations() {
        let refused: Vec<_> = notes(60).into_iter().filter(|(name, _)| REFUSED.contains(name)).collect();
        assert_eq!(refused.len(), REFUSED.len());
        for (name, column) in refused {
            let which = format!("the column {name}, which is {}, ", kind(column.data_type()));
            let batch = RecordBatch::try_from_iter_with_nullable([(name, column, true)]).unwrap();
            let refusal = of_some(Format::Arrows, &batch).map(drop).unwrap_err().to_string();
            let why = "cannot be written for some organizations without values of others; \
                       make the export without it";
            assert_eq!(refusal, format!("{which}{why}"));
        }
    }

    /// From a stream to a file: what has no plain form, or one that no memory would hold.
    #[test]
    fn what_has_dictionaries_and_no_plain_form_is_refused_in_a_file() {
        // IPC has no dictionaries of dictionaries.
        for (name, column) in notes(10).into_iter().filter(|(name, _)| *name != "dictionary of dictionary") {
            let batch = RecordBatch::try_from_iter_with_nullable([(name, column, true)]).unwrap();
            let (schema, batches) = (batch.schema(), std::slice::from_ref(&batch));
            let stream = write(Format::Arrows, Compression::Usual, &schema, batches).unwrap();
            let file = carry(Format::Arrows, &stream, Format::Arrow, Compression::Usual);
            match name {
                "union of dictionary"
                | "sparse union of lists of dictionary"
                | "dictionary of lists of dictionary" => {
                    let why = format!(
                        "an Arrow file cannot hold the column {name}, which is {}: its dictionaries are too \
                         large, or not known beforehand; an Arrow stream (arrows) can",
                        kind(schema.field(0).data_type())
                    );
                    assert_eq!(file.map(drop).unwrap_err().to_string(), why);
                }
                _ => {
                    let (schema, batches) = read(Format::Arrow, &file.unwrap()).unwrap();
                    let plain = schema.field(0).data_type();
                    assert!(!contains(plain, is_dictionary), "{name}");
                    let expected = cast_with_options(batch.column(0), plain, &Default::default());
                    assert_eq!(one(&schema, &batches).column(0), &expected.unwrap(), "{name}");
                }
            }
        }
    }

    /// Under a null struct, pyarrow leaves the dictionary's first value, valid.
    #[test]
    fn what_stands_under_nulls_is_not_written() {
        let secret = "a secret of the first row";
        let words: ArrayRef = Arc::new(StringArray::from(vec![secret, "b"]));
        let coded: ArrayRef = Arc::new(DictionaryArray::<Int8Type>::new(vec![0, 0, 1, 0].into(), words));
        let views: ArrayRef = Arc::new(StringViewArray::from(vec![secret; 4]));
        let nulls = Some(NullBuffer::from(vec![true, false, true, false]));
        let column = |name, array: &ArrayRef| Arc::new(Column::new(name, array.data_type().clone(), false));
        let inner = StructArray::new(
            vec![column("coded", &coded), column("views", &views)].into(),
            vec![coded, views],
            None,
        );
        let inner: ArrayRef = Arc::new(inner);
        let outer: ArrayRef = Arc::new(StructArray::new(
            vec![column("in", &inner)].into(),
            vec![Arc::clone(&inner)],
            nulls.clone(),
        ));
        let list: ArrayRef = Arc::new(FixedSizeListArray::new(column("item", &inner), 1, inner, nulls));
        for array in [outer, list] {
            let batch = RecordBatch::try_from_iter_with_nullable([("c", array, true)]).unwrap();
            for format in [Format::Arrow, Format::Arrows] {
                // Of the rows after the first, one has something to show, and that is a view of the secret.
                let rows = batch.slice(3, 1);
                let bytes = of_some(format, &rows).unwrap();
                assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()));
                let (schema, batches) = read(format, &bytes).unwrap();
                assert!(one(&schema, &batches).column(0).is_null(0));
                let all = of_some(format, &batch).unwrap();
                let (schema, batches) = read(format, &all).unwrap();
                let (written, kind) = (one(&schema, &batches), schema.field(0).data_type().clone());
                let expected = cast_with_options(batch.column(0), &kind, &Default::default()).unwrap();
                assert_eq!(written.column(0), &expected);
            }
        }
    }

    /// Not even the bits beside a slice's: a bitmap ends within a byte.
    #[test]
    fn no_bit_of_rows_that_were_left_out_is_written() {
        let written = |left_out: bool| {
            let bit = |row: usize| Some(if (8..13).contains(&row) { row == 9 } else { left_out });
            let bits: ArrayRef = Arc::new((0..40).map(bit).collect::<BooleanArray>());
            let nulls = |row: usize| bit(row).unwrap().then_some(1);
            let nulls: ArrayRef = Arc::new((0..40).map(nulls).collect::<Int64Array>());
            let batch =
                RecordBatch::try_from_iter_with_nullable([("bits", bits, true), ("nulls", nulls, true)]);
            of_some(Format::Arrows, &batch.unwrap().slice(8, 5)).unwrap()
        };
        assert_eq!(written(false), written(true));
    }

    /// A column of runs has its nulls among the runs' values, and keeps them where it becomes plain.
    #[test]
    fn runs_that_become_plain_keep_their_nulls() {
        let words: DictionaryArray<Int8Type> = [Some("a"), None].into_iter().collect();
        let named = |name| Arc::new(Column::new(name, DataType::Int32, false));
        let values = Column::new("of its own", words.data_type().clone(), true);
        let kind = DataType::RunEndEncoded(named("ends"), Arc::new(values));
        let data = ArrayData::builder(kind.clone()).len(5);
        let ends = Int32Array::from(vec![2, 5]);
        let data = data.add_child_data(ends.into_data()).add_child_data(words.into_data()).build().unwrap();
        let runs: ArrayRef = make_array(data);
        let schema = Arc::new(Schema::new(vec![Column::new("c", kind, false)]));
        let batch = RecordBatch::try_new(Arc::clone(&schema), vec![runs]).unwrap();
        let expected = StringArray::from(vec![Some("a"), Some("a"), None, None, None]);
        let some = of_some(Format::Arrows, &batch).unwrap();
        let stream =
            write(Format::Arrows, Compression::Usual, &schema, std::slice::from_ref(&batch)).unwrap();
        let file = carry(Format::Arrows, &stream, Format::Arrow, Compression::Usual).unwrap();
        for (format, bytes) in [(Format::Arrows, some), (Format::Arrow, file)] {
            let (schema, batches) = read(format, &bytes).unwrap();
            assert!(schema.field(0).is_nullable());
            assert_eq!(one(&schema, &batches).column(0).as_string::<i32>(), &expected, "{format:?}");
        }
    }
}
