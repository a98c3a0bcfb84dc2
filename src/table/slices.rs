//! A batch of any size, given out in batches of the size that the table promises.
//!
//! It owns how many bytes rows count for. It copies nothing: what it gives out are views of the
//! batch it was given.

use super::{BATCH_BYTES, BATCH_ROWS, ROW_BYTES_MAX, TableError};
use ::arrow::array::{Array, ArrayRef, AsArray, ByteView, OffsetSizeTrait, RecordBatch};
use ::arrow::datatypes::{
    ArrowNativeType as _, BinaryType, ByteArrayType, DataType, Int16Type, Int32Type, Int64Type,
    LargeBinaryType, LargeUtf8Type, RunEndIndexType, UnionMode, Utf8Type,
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
        // A batch that is a little larger than its writer meant is not cut in a big and a tiny one.
        if bytes_of_rows(&batch, all, BATCH_BYTES + BATCH_BYTES / 8).is_some() {
            fits = all;
        }
        while too_many - fits > 1 {
            let middle = fits + (too_many - fits) / 2;
            if bytes_of_rows(&batch, middle, BATCH_BYTES).is_some() {
                fits = middle;
            } else {
                too_many = middle;
            }
        }
        if fits == 1 && bytes_of_rows(&batch, 1, ROW_BYTES_MAX).is_none() {
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

/// About how many bytes the rows of a batch take when they stand alone; of one that [`Slices`] gave out.
pub fn bytes_of_batch(batch: &RecordBatch) -> usize {
    bytes_of_rows(batch, batch.num_rows(), ROW_BYTES_MAX).unwrap_or(ROW_BYTES_MAX)
}

/// About how many bytes the first rows take when they stand alone; `None` if more than `limit`.
fn bytes_of_rows(batch: &RecordBatch, rows: usize, limit: usize) -> Option<usize> {
    let mut room = Room(limit);
    batch.columns().iter().try_for_each(|column| room.values(column, 0, rows))?;
    Some(limit - room.0)
}

/// Bytes that are still left of a limit.
///
/// Values may be shared, by rows and at every level of nesting, so that a small file can stand for more than
/// any number says. So everything that is looked at one by one takes some room, and nothing is looked at any
/// more when there is none.
struct Room(usize);

impl Room {
    fn take(&mut self, bytes: usize) -> Option<()> {
        self.0 = self.0.checked_sub(bytes)?;
        Some(())
    }

    /// Takes about as many bytes as the values from place `from` up to place `to` take when they stand alone.
    fn values(&mut self, array: &ArrayRef, from: usize, to: usize) -> Option<()> {
        let rows = to - from;
        if rows == 0 {
            return Some(());
        }
        self.take(rows / 8)?; // whether each is null
        match array.data_type() {
            DataType::Utf8 => self.variable::<Utf8Type>(array, from, to),
            DataType::LargeUtf8 => self.variable::<LargeUtf8Type>(array, from, to),
            DataType::Binary => self.variable::<BinaryType>(array, from, to),
            DataType::LargeBinary => self.variable::<LargeBinaryType>(array, from, to),
            DataType::Utf8View => self.views(&array.as_string_view().views()[from..to]),
            DataType::BinaryView => self.views(&array.as_binary_view().views()[from..to]),
            DataType::FixedSizeBinary(width) => self.take(rows.checked_mul((*width as usize).max(1))?),
            DataType::List(_) => self.list::<i32>(array, from, to),
            DataType::LargeList(_) => self.list::<i64>(array, from, to),
            DataType::Map(_, _) => {
                let map = array.as_map();
                let (begin, end) = self.range(map.value_offsets(), from, to)?;
                map.entries().columns().iter().try_for_each(|column| self.values(column, begin, end))
            }
            DataType::FixedSizeList(_, width) => {
                let width = *width as usize;
                self.take(rows)?;
                self.values(array.as_fixed_size_list().values(), from * width, to * width)
            }
            DataType::Struct(_) => {
                self.take(rows)?;
                array.as_struct().columns().iter().try_for_each(|column| self.values(column, from, to))
            }
            DataType::Dictionary(_, _) => self.dictionary(array, from, to),
            DataType::ListView(_) => self.list_view::<i32>(array, from, to),
            DataType::LargeListView(_) => self.list_view::<i64>(array, from, to),
            DataType::RunEndEncoded(ends, _) => match ends.data_type() {
                DataType::Int16 => self.runs::<Int16Type>(array, from, to),
                DataType::Int32 => self.runs::<Int32Type>(array, from, to),
                _ => self.runs::<Int64Type>(array, from, to),
            },
            DataType::Union(columns, UnionMode::Sparse) => {
                self.take(rows)?;
                columns.iter().try_for_each(|(id, _)| self.values(array.as_union().child(id), from, to))
            }
            DataType::Union(_, UnionMode::Dense) => {
                let union = array.as_union();
                (from..to).try_for_each(|row| {
                    self.take(1)?;
                    let at = union.value_offset(row);
                    self.values(union.child(union.type_id(row)), at, at + 1)
                })
            }
            // Fixed widths; bits, and nulls that have no place of their own.
            other => self.take(rows.checked_mul(other.primitive_width().unwrap_or(1))?),
        }
    }

    /// Where a range begins in the values, and where it ends.
    fn range<O: OffsetSizeTrait>(&mut self, offsets: &[O], from: usize, to: usize) -> Option<(usize, usize)> {
        self.take((to - from) * size_of::<O>())?;
        Some((offsets[from].as_usize(), offsets[to].as_usize()))
    }

    fn variable<T: ByteArrayType>(&mut self, array: &ArrayRef, from: usize, to: usize) -> Option<()> {
        let (begin, end) = self.range::<T::Offset>(array.as_bytes::<T>().value_offsets(), from, to)?;
        self.take(end - begin)
    }

    fn views(&mut self, views: &[u128]) -> Option<()> {
        views.iter().try_for_each(|view| self.take(16 + ByteView::from(*view).length as usize))
    }

    fn list<O: OffsetSizeTrait>(&mut self, array: &ArrayRef, from: usize, to: usize) -> Option<()> {
        let list = array.as_list::<O>();
        let (begin, end) = self.range(list.value_offsets(), from, to)?;
        self.values(list.values(), begin, end)
    }

    fn list_view<O: OffsetSizeTrait>(&mut self, array: &ArrayRef, from: usize, to: usize) -> Option<()> {
        let list = array.as_list_view::<O>();
        (from..to).try_for_each(|row| {
            self.take(2 * size_of::<O>())?;
            let begin = list.value_offset(row).as_usize();
            self.values(list.values(), begin, begin + list.value_size(row).as_usize())
        })
    }

    fn dictionary(&mut self, array: &ArrayRef, from: usize, to: usize) -> Option<()> {
        let values = array.as_any_dictionary().values();
        self.take(to - from)?;
        if values.is_empty() {
            return Some(());
        }
        let slice = array.slice(from, to - from);
        let keys = slice.as_any_dictionary().normalized_keys();
        let mut valid = keys.iter().enumerate().filter(|(row, _)| slice.is_valid(*row));
        valid.try_for_each(|(_, key)| self.values(values, *key, key + 1))
    }

    fn runs<R: RunEndIndexType>(&mut self, array: &ArrayRef, from: usize, to: usize) -> Option<()> {
        let slice = array.as_run::<R>().slice(from, to - from);
        let values = slice.values_slice();
        let mut begin = 0;
        slice.run_ends().sliced_values().enumerate().try_for_each(|(i, end)| {
            let rows = end.as_usize() - std::mem::replace(&mut begin, end.as_usize());
            let mut rest = Room(self.0);
            rest.values(&values, i, i + 1)?;
            self.take((self.0 - rest.0 + 8).checked_mul(rows)?)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::arrow::array::{
        BinaryArray, DictionaryArray, Int8Array, Int64Array, LargeListArray, LargeListViewArray,
        LargeStringArray, ListArray, ListViewArray, NullArray, RunArray, StringArray, StringViewArray,
        StructArray, UnionArray,
    };
    use ::arrow::buffer::{NullBuffer, OffsetBuffer};
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
    fn what_is_shared_counts_for_each_that_shares_it() {
        let text: ArrayRef =
            Arc::new(StringArray::from(vec!["x".repeat(BATCH_BYTES / 10 * 3), String::new()]));
        let item = |array: &ArrayRef| Arc::new(Field::new("x", array.data_type().clone(), true));
        let nulls = Some(NullBuffer::from(vec![true, true, false, true, true, true, true]));
        let views = || (vec![0; 7].into(), vec![1, 2, 1, 1, 0, 1, 1].into());
        let (places, sizes_of) = views();
        let list: ArrayRef =
            Arc::new(ListViewArray::new(item(&text), places, sizes_of, Arc::clone(&text), nulls.clone()));
        assert_eq!(sizes(vec![Arc::clone(&list)]), [3, 4]);
        let (places, sizes_of) = ([0_i64; 7], [1_i64, 2, 1, 1, 0, 1, 1]);
        let list = LargeListViewArray::new(
            item(&text),
            places.to_vec().into(),
            sizes_of.to_vec().into(),
            Arc::clone(&text),
            nulls,
        );
        // A null counts with what stands under it.
        assert_eq!(sizes(vec![Arc::new(list)]), [3, 4]);
        let keys: ArrayRef =
            Arc::new(DictionaryArray::<Int32Type>::new(vec![0, 0, 1, 0, 0].into(), Arc::clone(&text)));
        assert_eq!(sizes(vec![Arc::clone(&keys)]), [4, 1]);
        let ends: Vec<i16> = vec![1, 5];
        let runs = RunArray::<Int16Type>::try_new(&ends.into(), &keys.slice(2, 2)).unwrap();
        assert_eq!(sizes(vec![Arc::new(runs)]), [4, 1]);
        let ends: Vec<i64> = vec![4, 5];
        let runs = RunArray::<Int64Type>::try_new(&ends.into(), &text).unwrap();
        assert_eq!(sizes(vec![Arc::new(runs)]), [3, 2]);
    }

    #[test]
    fn a_little_too_much_is_not_cut() {
        let text = |bytes: usize| Arc::new(StringArray::from(vec!["x".repeat(bytes / 8); 8])) as ArrayRef;
        assert_eq!(sizes(vec![text(BATCH_BYTES / 10 * 11)]), [8]);
        assert_eq!(sizes(vec![text(BATCH_BYTES / 10 * 12)]), [6, 2]);
    }

    /// A few bytes can stand for more values than can be counted: that they are too many is found soon.
    #[test]
    fn values_shared_at_every_level_are_too_many() {
        let refused = |array: ArrayRef| {
            let mut slices = Slices::default();
            slices.put(RecordBatch::try_from_iter([("c", array)]).unwrap());
            slices.take().unwrap_err().to_string()
        };
        let item = |array: &ArrayRef| Arc::new(Field::new("x", array.data_type().clone(), true));
        let mut shared: ArrayRef = Arc::new(NullArray::new(512));
        for _ in 0..20 {
            let (places, sizes) = (vec![0; 512].into(), vec![512; 512].into());
            shared = Arc::new(ListViewArray::new(item(&shared), places, sizes, shared, None));
        }
        assert!(refused(shared).contains("larger rows are not read"));
        // Ranges of no values, over very many columns.
        let wide = (0..50_000).map(|_| Arc::new(NullArray::new(0)) as ArrayRef);
        let wide: ArrayRef = Arc::new(StructArray::from(wide.map(|c| (item(&c), c)).collect::<Vec<_>>()));
        let empty = ListViewArray::new(item(&wide), vec![0; 2000].into(), vec![0; 2000].into(), wide, None);
        let empty: ArrayRef = Arc::new(empty);
        let (places, all) = (vec![0; 500].into(), vec![2000; 500].into());
        let shared: ArrayRef = Arc::new(ListViewArray::new(item(&empty), places, all, empty, None));
        let mut slices = Slices::default();
        slices.put(RecordBatch::try_from_iter([("c", shared)]).unwrap());
        assert!((1..500).contains(&slices.take().unwrap().unwrap().num_rows()));
        // A run of so many rows of nothing, and of something whose bytes are more than a number has room for.
        for (rows, text) in [(1_i64 << 30, String::new()), (1 << 40, "x".repeat(1 << 24))] {
            let runs = RunArray::<Int64Type>::try_new(&vec![rows].into(), &StringArray::from(vec![text]));
            let runs: ArrayRef = Arc::new(runs.unwrap());
            let list =
                LargeListArray::new(item(&runs), OffsetBuffer::from_lengths([rows as usize]), runs, None);
            let list: ArrayRef = Arc::new(list);
            let byte: ArrayRef = Arc::new(Int8Array::from(vec![1]));
            let pair = StructArray::try_from(vec![("a", list), ("b", byte)]).unwrap();
            assert!(refused(Arc::new(pair)).contains("larger rows are not read"));
        }
    }

    #[test]
    fn one_row_of_any_size_is_let_through() {
        let huge = "x".repeat(BATCH_BYTES * 2);
        let values = vec![Some("a"), Some(huge.as_str()), Some("b")];
        assert_eq!(sizes(vec![Arc::new(StringArray::from(values))]), [1, 1, 1]);
    }
}
