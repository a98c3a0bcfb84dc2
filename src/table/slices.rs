//! A batch of any size, given out in batches of the size that the table promises.
//!
//! It owns how many bytes rows count for. It copies nothing: what it gives out are views of the
//! batch it was given.

use super::{BATCH_BYTES, BATCH_ROWS, ROW_BYTES_MAX, TableError};
use ::arrow::array::{Array, ArrayRef, AsArray, ByteView, OffsetSizeTrait, RecordBatch};
use ::arrow::datatypes::{
    ArrowNativeType as _, BinaryType, ByteArrayType, DataType, Int16Type, Int32Type, Int64Type,
    LargeBinaryType, LargeUtf8Type, RunEndIndexType, Utf8Type,
};

/// What is left of a batch, and how far into the table it is.
#[derive(Default)]
pub(super) struct Slices {
    rest: Option<RecordBatch>,
    /// Rows given out, of all batches.
    rows: u64,
}

impl Slices {
    /// Takes a batch to be given out.
    pub(super) fn put(&mut self, batch: RecordBatch) {
        debug_assert!(self.rest.is_none(), "the batch before was given out to its end");
        self.rest = (batch.num_rows() > 0).then_some(batch);
    }

    /// The next rows: at most [`BATCH_ROWS`], and no more than [`BATCH_BYTES`] unless it is a
    /// single row.
    ///
    /// # Errors
    ///
    /// A row that is larger than a row may be.
    pub(super) fn take(&mut self) -> Result<Option<RecordBatch>, TableError> {
        let Some(batch) = self.rest.take() else { return Ok(None) };
        let all = batch.num_rows().min(BATCH_ROWS);
        // The size grows with the rows, so the most that fits is found by halving.
        let (mut fits, mut too_many) = (1, all + 1);
        if bytes_of_rows(&batch, 0, all) <= BATCH_BYTES {
            fits = all;
        }
        while too_many - fits > 1 {
            let middle = fits + (too_many - fits) / 2;
            if bytes_of_rows(&batch, 0, middle) <= BATCH_BYTES {
                fits = middle;
            } else {
                too_many = middle;
            }
        }
        if fits == 1 && bytes_of_rows(&batch, 0, 1) > ROW_BYTES_MAX {
            return Err(TableError::Row {
                row: self.rows + 1,
                what: format!("it has more than {ROW_BYTES_MAX} bytes; larger rows are not read"),
            });
        }
        self.rows += fits as u64;
        if fits == batch.num_rows() {
            return Ok(Some(batch));
        }
        self.rest = Some(batch.slice(fits, batch.num_rows() - fits));
        Ok(Some(batch.slice(0, fits)))
    }
}

/// About how many bytes the rows of a batch take when they stand alone.
pub fn bytes_of_batch(batch: &RecordBatch) -> usize {
    bytes_of_rows(batch, 0, batch.num_rows())
}

fn bytes_of_rows(batch: &RecordBatch, from: usize, to: usize) -> usize {
    batch.columns().iter().map(|column| bytes_of(column, from, to)).fold(0, usize::saturating_add)
}

/// About how many bytes the values from row `from` up to row `to` take when they stand alone.
fn bytes_of(array: &ArrayRef, from: usize, to: usize) -> usize {
    fn variable<T: ByteArrayType>(array: &ArrayRef, from: usize, to: usize) -> usize {
        range::<T::Offset>(array.as_bytes::<T>().value_offsets(), from, to).1
    }
    /// Where a range begins in the values, and its length.
    fn range<O: OffsetSizeTrait>(offsets: &[O], from: usize, to: usize) -> (usize, usize) {
        let begin = offsets[from].as_usize();
        (begin, offsets[to].as_usize() - begin)
    }
    fn views(views: &[u128]) -> usize {
        views.iter().map(|view| 16 + ByteView::from(*view).length as usize).sum()
    }
    fn list<O: OffsetSizeTrait>(array: &ArrayRef, from: usize, to: usize) -> usize {
        let list = array.as_list::<O>();
        let (begin, length) = range(list.value_offsets(), from, to);
        bytes_of(list.values(), begin, begin + length)
    }
    // Ranges of its values may overlap.
    fn list_view<O: OffsetSizeTrait>(array: &ArrayRef, from: usize, to: usize) -> usize {
        let list = array.as_list_view::<O>();
        let place = |row: usize| (list.value_offset(row).as_usize(), list.value_size(row).as_usize());
        (from..to)
            .filter(|row| list.is_valid(*row))
            .map(place)
            .map(|(begin, length)| bytes_of(list.values(), begin, begin + length))
            .fold(0, usize::saturating_add)
    }
    fn runs<R: RunEndIndexType>(array: &ArrayRef, from: usize, to: usize) -> usize {
        let slice = array.as_run::<R>().slice(from, to - from);
        let values = slice.values_slice();
        let mut begin = 0;
        let run = |(i, end): (usize, R::Native)| {
            let rows = end.as_usize() - std::mem::replace(&mut begin, end.as_usize());
            bytes_of(&values, i, i + 1).saturating_mul(rows)
        };
        slice.run_ends().sliced_values().enumerate().map(run).fold(0, usize::saturating_add)
    }
    let rows = to - from;
    let data_type = array.data_type();
    let values = match data_type {
        DataType::Utf8 => variable::<Utf8Type>(array, from, to),
        DataType::LargeUtf8 => variable::<LargeUtf8Type>(array, from, to),
        DataType::Binary => variable::<BinaryType>(array, from, to),
        DataType::LargeBinary => variable::<LargeBinaryType>(array, from, to),
        DataType::Utf8View => views(&array.as_string_view().views()[from..to]),
        DataType::BinaryView => views(&array.as_binary_view().views()[from..to]),
        DataType::FixedSizeBinary(width) => rows * *width as usize,
        DataType::List(_) => list::<i32>(array, from, to),
        DataType::LargeList(_) => list::<i64>(array, from, to),
        DataType::Map(_, _) => {
            let map = array.as_map();
            let (begin, length) = range(map.value_offsets(), from, to);
            map.entries().columns().iter().map(|c| bytes_of(c, begin, begin + length)).sum()
        }
        DataType::FixedSizeList(_, width) => {
            let width = *width as usize;
            bytes_of(array.as_fixed_size_list().values(), from * width, to * width)
        }
        DataType::Struct(_) => {
            array.as_struct().columns().iter().map(|column| bytes_of(column, from, to)).sum()
        }
        DataType::Dictionary(_, _) => {
            let dictionary = array.as_any_dictionary();
            let values = dictionary.values();
            if values.is_empty() {
                0
            } else {
                let slice = array.slice(from, rows);
                let keys = slice.as_any_dictionary().normalized_keys();
                let valid = keys.iter().enumerate().filter(|(row, _)| slice.is_valid(*row));
                valid.map(|(_, key)| bytes_of(values, *key, key + 1)).fold(0, usize::saturating_add)
            }
        }
        DataType::ListView(_) => list_view::<i32>(array, from, to),
        DataType::LargeListView(_) => list_view::<i64>(array, from, to),
        DataType::RunEndEncoded(ends, _) => match ends.data_type() {
            DataType::Int16 => runs::<Int16Type>(array, from, to),
            DataType::Int32 => runs::<Int32Type>(array, from, to),
            _ => runs::<Int64Type>(array, from, to),
        },
        DataType::Union(_, _) => {
            let union = array.as_union();
            (from..to)
                .map(|row| (union.child(union.type_id(row)), union.value_offset(row)))
                .map(|(child, at)| 1 + bytes_of(child, at, at + 1))
                .fold(0, usize::saturating_add)
        }
        // Fixed widths, and nulls without any.
        other => rows * other.primitive_width().unwrap_or(1),
    };
    values.saturating_add(rows / 8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::arrow::array::{
        BinaryArray, DictionaryArray, Int64Array, LargeStringArray, ListArray, ListViewArray, RunArray,
        StringArray, StringViewArray, StructArray, UnionArray,
    };
    use ::arrow::datatypes::{Field, Int32Type, Schema, UnionFields};
    use std::sync::Arc;

    fn sizes(columns: Vec<ArrayRef>) -> Vec<usize> {
        let fields: Vec<_> = columns.iter().map(|c| Field::new("c", c.data_type().clone(), true)).collect();
        let mut slices = Slices::default();
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
        slices.put(batch.clone());
        let out: Vec<_> = std::iter::from_fn(|| slices.take().unwrap()).collect();
        let joined = ::arrow::compute::concat_batches(&batch.schema(), &out);
        assert_eq!(joined.unwrap(), batch, "nothing lost, nothing moved");
        out.iter().map(RecordBatch::num_rows).collect()
    }

    #[test]
    fn a_big_batch_comes_out_in_small_ones() {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..BATCH_ROWS as i64 * 2 + 1));
        assert_eq!(sizes(vec![numbers]), [BATCH_ROWS, BATCH_ROWS, 1]);
        assert!(sizes(vec![Arc::new(Int64Array::from(Vec::<i64>::new()))]).is_empty());
    }

    #[test]
    fn bytes_close_a_batch_in_every_type() {
        let big = "x".repeat(BATCH_BYTES / 2 - 100);
        let values = [Some(big.as_str()), None, Some(&big), Some(&big), Some("x"), Some(&big)];
        let text: ArrayRef = Arc::new(StringArray::from(values.to_vec()));
        let list = ListArray::from_iter_primitive::<Int32Type, _, _>(
            (0..6).map(|_| Some(vec![Some(1); BATCH_BYTES / 16])),
        );
        let field = Arc::new(Field::new("x", DataType::Utf8, true));
        let dictionary: DictionaryArray<Int32Type> = values.into_iter().collect();
        // Of which the first run has four rows.
        let runs = [Some(&big[..BATCH_BYTES / 3 - 100]), Some("x"), Some(big.as_str())];
        for column in [
            Arc::clone(&text),
            Arc::new(LargeStringArray::from(values.to_vec())),
            Arc::new(StringViewArray::from(values.to_vec())),
            Arc::new(BinaryArray::from_iter(values)),
            Arc::new(dictionary),
            Arc::new(StructArray::from(vec![(field, Arc::clone(&text))])),
            Arc::new(ListViewArray::new(
                Arc::new(Field::new("x", DataType::Utf8, true)),
                vec![0; 6].into(),
                vec![1, 0, 1, 1, 0, 1].into(),
                Arc::clone(&text),
                None,
            )),
            Arc::new(
                RunArray::<Int32Type>::try_new(&vec![4, 5, 6].into(), &StringArray::from(runs.to_vec()))
                    .unwrap(),
            ),
            Arc::new(
                UnionArray::try_new(
                    UnionFields::try_new([0], [Field::new("x", DataType::Utf8, true)]).unwrap(),
                    vec![0; 6].into(),
                    Some(vec![0, 1, 2, 3, 4, 5].into()),
                    vec![Arc::clone(&text)],
                )
                .unwrap(),
            ),
        ] {
            assert_eq!(sizes(vec![column]), [3, 3]);
        }
        assert_eq!(sizes(vec![Arc::new(list)]), [3, 3]);
    }

    #[test]
    fn one_row_of_any_size_is_let_through() {
        let huge = "x".repeat(BATCH_BYTES * 2);
        let values = vec![Some("a"), Some(huge.as_str()), Some("b")];
        assert_eq!(sizes(vec![Arc::new(StringArray::from(values))]), [1, 1, 1]);
    }
}
