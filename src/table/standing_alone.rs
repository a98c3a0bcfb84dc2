//! Values that stand alone: out of a batch that shares its memory with others come arrays that an Arrow
//! writer can write, and nothing that their rows do not show.
//!
//! A slice has all of its batch behind it, and in some types the writer writes all of that: the values that a
//! dictionary, a view, a list view or a union may refer to. So a batch given out in a hundred slices would be
//! written a hundred times; and an output of some organizations would have values of the others.

use super::decoder::arrow_error;
use super::types::{contains, replaced, replaced_type};
use super::{Dictionaries, TableError};
use crate::row::printable;
use ::arrow::array::{Array, ArrayRef, AsArray, MutableArrayData, make_array};
use ::arrow::buffer::Buffer;
use ::arrow::compute::{CastOptions, can_cast_types, cast_with_options};
use ::arrow::datatypes::{DataType, Field as Column, FieldRef, Schema, SchemaRef, UnionMode};
use std::sync::Arc;

/// The schema with other types in place of some, at any depth; `refusal` says why a column cannot have one.
fn in_plain(
    schema: &Schema,
    replace: &impl Fn(&DataType) -> Option<DataType>,
    refusal: impl Fn(&Column) -> String,
) -> Result<SchemaRef, TableError> {
    let plain = |column: &FieldRef| {
        let plain = replaced(column, replace);
        let castable = can_cast_types(column.data_type(), plain.data_type());
        castable.then_some(plain).ok_or_else(|| TableError::Table(refusal(column)))
    };
    let columns = schema.fields().iter().map(plain).collect::<Result<Vec<_>, _>>()?;
    Ok(Arc::new(Schema::new_with_metadata(columns, schema.metadata().clone())))
}

/// The schema without dictionaries, for a file before whose first batch they are not known.
pub(super) fn without_dictionaries(schema: &Schema) -> Result<SchemaRef, TableError> {
    in_plain(schema, &without_dictionary, |column| {
        format!(
            "an Arrow file cannot hold the column {}, which is {}, unless it is made from another; \
             an Arrow stream (arrows) can",
            printable(column.name()),
            column.data_type()
        )
    })
}

/// The schema without what has values that no row refers to even in a copy: dictionaries, and the buffers
/// of views. A dictionary of what is nested is refused, since a cast would unfold all of it, shared or not.
pub(super) fn without_other_rows(schema: &Schema) -> Result<SchemaRef, TableError> {
    let standing_for_itself =
        |data_type: &DataType| without_view(data_type).or(without_dictionary(data_type));
    let nested_dictionary = |data_type: &DataType| match data_type {
        DataType::Dictionary(_, values) => {
            values.is_nested()
                || matches!(**values, DataType::Dictionary(_, _) | DataType::RunEndEncoded(_, _))
        }
        _ => false,
    };
    let refusal = |column: &Column| {
        format!(
            "the column {}, which is {}, cannot be written for some organizations without values of others; \
             make the export without it",
            printable(column.name()),
            column.data_type()
        )
    };
    match schema.fields().iter().find(|column| contains(column.data_type(), nested_dictionary)) {
        Some(column) => Err(TableError::Table(refusal(column))),
        None => in_plain(schema, &standing_for_itself, refusal),
    }
}

fn without_view(data_type: &DataType) -> Option<DataType> {
    match data_type {
        DataType::Utf8View => Some(DataType::Utf8),
        DataType::BinaryView => Some(DataType::Binary),
        _ => None,
    }
}

/// For each column, whether what its rows show is to be copied before it is written.
pub(super) fn columns_to_copy(schema: &Schema, dictionaries: Dictionaries) -> Vec<bool> {
    let shared = |data_type: &DataType| {
        matches!(
            data_type,
            // The writer keeps the first array with a dictionary until the end, to know the dictionary again:
            // what it keeps must not be a view of a whole message.
            DataType::Dictionary(_, _)
                // A slice of these has all of the batch's values, and all would be written, for each slice.
                | DataType::ListView(_)
                | DataType::LargeListView(_)
                | DataType::Union(_, UnionMode::Dense)
        )
    };
    // Any other slice has at least its neighbours' bits beside its own.
    let all = dictionaries == Dictionaries::OfOtherRows;
    schema.fields().iter().map(|column| all || contains(column.data_type(), shared)).collect()
}

fn without_dictionary(data_type: &DataType) -> Option<DataType> {
    match data_type {
        DataType::Dictionary(_, values) => Some(values.as_ref().clone()),
        _ => None,
    }
}

/// The array in the column's type, with no more memory behind its views than it shows.
pub(super) fn standing_alone(array: &ArrayRef, column: &Column) -> Result<ArrayRef, TableError> {
    // Not the safe cast, which makes null of what it cannot cast.
    let options = CastOptions { safe: false, ..Default::default() };
    let cast = |array: &ArrayRef, to: &DataType| {
        cast_with_options(array, to, &options).map_err(|e| arrow_error(&place(column), e))
    };
    if array.data_type() != column.data_type() {
        // Out of a dictionary first, so that no value of it is cast that no row has.
        let plain = cast(array, &replaced_type(array.data_type(), &without_dictionary))?;
        return cast(&plain, column.data_type());
    }
    let wasteful = |buffers: &[Buffer], used: usize| {
        buffers.iter().map(Buffer::len).sum::<usize>() > used + used / 4 + 4096
    };
    Ok(match array.data_type() {
        DataType::Utf8View => {
            let views = array.as_string_view();
            if wasteful(views.data_buffers(), views.total_buffer_bytes_used()) {
                Arc::new(views.gc())
            } else {
                Arc::clone(array)
            }
        }
        DataType::BinaryView => {
            let views = array.as_binary_view();
            if wasteful(views.data_buffers(), views.total_buffer_bytes_used()) {
                Arc::new(views.gc())
            } else {
                Arc::clone(array)
            }
        }
        // Made plain and views again, they refer to nothing else. (Not where that would make another
        // dictionary, or lose what the fields of runs say.)
        nested if contains(nested, |t| without_view(t).is_some()) && !contains(nested, is_kept_as_it_is) => {
            cast(&cast(array, &replaced_type(nested, &without_view))?, nested)?
        }
        _ => Arc::clone(array),
    })
}

fn is_kept_as_it_is(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Dictionary(_, _) | DataType::RunEndEncoded(_, _) | DataType::Union(_, _))
}

/// The array with what its rows show copied, and nothing beside it, but for a dictionary's values and the
/// buffers of views.
pub(super) fn copied(array: &ArrayRef, column: &Column) -> Result<ArrayRef, TableError> {
    let data = array.to_data();
    let mut copy = MutableArrayData::new(vec![&data], false, data.len());
    copy.try_extend(0, 0, data.len()).map_err(|e| arrow_error(&place(column), e))?;
    Ok(make_array(copy.freeze()))
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
        ArrayData, BooleanArray, DictionaryArray, FixedSizeListArray, Int32Array, Int64Array,
        LargeListViewArray, ListArray, ListViewArray, MapArray, RecordBatch, RunArray, StringArray,
        StringViewArray, StructArray, UInt16Array, UnionArray,
    };
    use ::arrow::buffer::{OffsetBuffer, ScalarBuffer};
    use ::arrow::datatypes::{Int8Type, Int32Type, UnionFields};

    /// A note of every row in every form in which an array can have values that none of its rows refers to,
    /// or that stand beside them.
    fn notes(rows: usize) -> Vec<(&'static str, ArrayRef)> {
        let note = |i: usize| format!("a note about row {i:04}.");
        let text: ArrayRef = Arc::new(StringArray::from_iter_values((0..rows).map(note)));
        let keys = UInt16Array::from_iter_values(0..rows as u16);
        let coded: ArrayRef = Arc::new(DictionaryArray::new(keys, Arc::clone(&text)));
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
            ("map of list view of dictionary", map(&list_view(&coded))),
            ("runs", runs(&text)),
            ("runs of dictionary", runs(&coded)),
            ("runs of list views", runs(&list_view(&views))),
            ("struct of runs", pair(runs(&views))),
            ("dense union", union(&text, UnionMode::Dense)),
            ("sparse union", union(&text, UnionMode::Sparse)),
            ("struct of union", pair(union(&text, UnionMode::Dense))),
            ("list of union", list(&union(&text, UnionMode::Dense))),
            ("union of runs of list views", union(&runs(&list_view(&text)), UnionMode::Dense)),
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
        for (name, array) in notes(ROWS) {
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
                        // A sparse union has a value in every child, and both children here have the row's.
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
        let note = |kind: &str| notes(60).into_iter().find(|(name, _)| *name == kind).unwrap().1;
        let coded = |values: ArrayRef| {
            Arc::new(DictionaryArray::new(UInt16Array::from_iter_values(0..60), values)) as ArrayRef
        };
        for column in [
            union(&note("dictionary"), UnionMode::Sparse),
            union(&note("views"), UnionMode::Dense),
            union(&note("list of dictionary"), UnionMode::Dense),
            coded(note("list view")),
            coded(note("runs")),
            coded(note("dictionary")),
        ] {
            let which = format!("the column c, which is {}, ", column.data_type());
            let batch = RecordBatch::try_from_iter_with_nullable([("c", column)].map(|(n, c)| (n, c, true)));
            let refusal = of_some(Format::Arrows, &batch.unwrap()).map(drop).unwrap_err().to_string();
            let why = "cannot be written for some organizations without values of others; \
                       make the export without it";
            assert_eq!(refusal, format!("{which}{why}"));
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
