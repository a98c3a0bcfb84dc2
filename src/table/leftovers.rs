//! The buffers of Arrow arrays that have no values.
//!
//! pyarrow cuts all buffers of a column of nulls from one run of zeros, and leaves to an array
//! without values, such as stands within lists, as much of it as the lists needed: 12 bytes, say, for
//! two rows of lists, where the one offset of no large texts has 8. Over a buffer that is no whole
//! number of its elements the arrow crate's decoder panics. An array without values needs no bytes,
//! and the decoder takes it without any; so before a message is decoded, such buffers are declared
//! empty, compressed or not. That only shortens what a message declares, and never looks at its body.

use super::TableError;
use super::arrow::header;
use ::arrow::datatypes::{DataType, Field, Schema, UnionMode};
use ::arrow::ipc::{FieldNode, MetadataVersion};

/// Declares empty the buffers of every array without values, in the metadata of a batch or of a
/// dictionary.
///
/// Where the metadata does not fit the schema it stops; that is the decoder's to refuse. (Of metadata
/// whose parts overlap it may alter more than lengths: what is checked must be checked afterwards.)
pub(super) fn drop_leftovers(metadata: &mut [u8], schema: &Schema) -> Result<(), TableError> {
    /// Bytes of a buffer's entry: its offset and its length, of 64 bits each.
    const ENTRY: usize = 16;
    let message = header(metadata)?;
    let dictionary = message.header_as_dictionary_batch();
    let batch = dictionary.map_or_else(|| message.header_as_record_batch(), |d| d.data());
    let Some((batch, (nodes, buffers))) = batch.and_then(|b| Some((b, b.nodes().zip(b.buffers())?))) else {
        return Ok(());
    };
    let mut walk = Walk {
        nodes: nodes.iter(),
        buffers: 0..buffers.len(),
        views: batch.variadicBufferCounts().into_iter().flatten(),
        version: message.version(),
        leftovers: vec![],
    };
    match dictionary {
        Some(dictionary) => {
            #[expect(deprecated, reason = "as the decoder finds the type of a dictionary")]
            let columns = schema.fields_with_dict_id(dictionary.id());
            if let Some(DataType::Dictionary(_, values)) = columns.first().map(|c| c.data_type()) {
                walk.array(values);
            }
        }
        None => {
            schema.fields().iter().try_for_each(|column| walk.array(column.data_type()));
        }
    }
    let entries = buffers.bytes().as_ptr().addr() - metadata.as_ptr().addr();
    for buffer in walk.leftovers {
        metadata[entries + buffer * ENTRY..][ENTRY / 2..ENTRY].fill(0);
    }
    Ok(())
}

/// A way through the arrays of a batch, in the order in which their nodes and buffers stand.
struct Walk<N, B, V> {
    nodes: N,
    /// Numbers of the buffers.
    buffers: B,
    /// How many buffers of values the arrays of views have.
    views: V,
    version: MetadataVersion,
    /// Numbers of the buffers found that should be empty.
    leftovers: Vec<usize>,
}

impl<'a, N, B, V> Walk<N, B, V>
where
    N: Iterator<Item = &'a FieldNode>,
    B: Iterator<Item = usize>,
    V: Iterator<Item = i64>,
{
    /// Passes over an array and what is nested in it; `None` if the metadata ends before that.
    fn array(&mut self, data_type: &DataType) -> Option<()> {
        use DataType::*;
        let empty = self.nodes.next()?.length() == 0;
        let own = match data_type {
            Null | RunEndEncoded(..) => 0,
            Struct(_) | FixedSizeList(..) => 1,
            Utf8 | LargeUtf8 | Binary | LargeBinary | ListView(_) | LargeListView(_) => 3,
            Utf8View | BinaryView => u64::try_from(self.views.next()?).ok()?.saturating_add(2),
            // Until the fifth version a union had a validity of its own.
            Union(_, mode) => {
                u64::from(self.version < MetadataVersion::V5) + 1 + u64::from(*mode == UnionMode::Dense)
            }
            _ => 2,
        };
        for _ in 0..own {
            let buffer = self.buffers.next()?;
            if empty {
                self.leftovers.push(buffer);
            }
        }
        let mut nested = |column: &Field| self.array(column.data_type());
        match data_type {
            List(column) | LargeList(column) | ListView(column) | LargeListView(column) => nested(column),
            FixedSizeList(column, _) | Map(column, _) => nested(column),
            Struct(columns) => columns.iter().try_for_each(|column| nested(column)),
            Union(columns, _) => columns.iter().try_for_each(|(_, column)| nested(column)),
            RunEndEncoded(ends, values) => nested(ends).and_then(|()| nested(values)),
            _ => Some(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Format;
    use crate::table::round::read;
    use ::arrow::array::{Array, AsArray};
    use std::sync::Arc;

    /// The stream that pyarrow 26.0.1 makes of `pa.table({"c": pa.nulls(2, pa.list_(pa.large_string()))})`.
    const NULLS: &str = "\
        ffffffff980000001000000000000a000c000600050008000a000000000104000c000000080008000000040008000000\
        040000000100000004000000d8ffffff0000010c14000000180000000400000001000000200000000100000063000000\
        c8ffffff100014000800060007000c00000010001000000000000114100000001c000000040000000000000004000000\
        6974656d000000000400040004000000ffffffffc800000014000000000000000c0016000600050008000c000c000000\
        0003040018000000280000000000000000000a0018000c00040008000a0000006c000000100000000200000000000000\
        00000000050000000000000000000000010000000000000008000000000000000c000000000000001800000000000000\
        000000000000000018000000000000000c00000000000000280000000000000000000000000000000000000002000000\
        020000000000000002000000000000000000000000000000000000000000000000000000000000000000000000000000\
        000000000000000000000000000000000000000000000000ffffffff00000000";

    /// Where the metadata of the batch stands in it.
    const METADATA: std::ops::Range<usize> = 168..368;

    fn lists() -> DataType {
        DataType::List(Arc::new(Field::new("item", DataType::LargeUtf8, true)))
    }

    #[test]
    fn nulls_as_pyarrow_makes_them_are_read() {
        let (_, batches) = read(Format::Arrows, &hex::decode(NULLS).unwrap()).unwrap();
        let [batch] = &batches[..] else { panic!("one batch") };
        let column = batch.column(0);
        assert_eq!((column.data_type(), column.len(), column.null_count()), (&lists(), 2, 2));
        assert!(column.as_list::<i32>().values().is_empty());
    }

    #[test]
    fn only_lengths_of_what_has_no_values_are_altered() {
        let whole = hex::decode(NULLS).unwrap();
        let mut metadata = whole[METADATA].to_vec();
        drop_leftovers(&mut metadata, &Schema::new(vec![Field::new("c", lists(), true)])).unwrap();
        let lengths = |metadata: &[u8]| {
            let batch = header(metadata).unwrap().header_as_record_batch().unwrap();
            batch.buffers().unwrap().iter().map(|b| (b.offset(), b.length())).collect::<Vec<_>>()
        };
        assert_eq!(lengths(&whole[METADATA]), [(0, 1), (8, 12), (24, 0), (24, 12), (40, 0)]);
        assert_eq!(lengths(&metadata), [(0, 1), (8, 12), (24, 0), (24, 0), (40, 0)]);
        let altered = metadata.iter().zip(&whole[METADATA]).filter(|(now, before)| now != before);
        assert_eq!(altered.count(), 1);
    }

    #[test]
    fn metadata_that_is_bent_or_of_another_schema_does_not_harm() {
        let whole = hex::decode(NULLS).unwrap();
        let field = |data_type| Field::new("c", data_type, true);
        let structs = DataType::Struct(vec![field(lists()), field(DataType::Utf8View)].into());
        for data_type in [lists(), structs, DataType::BinaryView, DataType::Null] {
            let schema = Schema::new(vec![field(data_type.clone()), field(data_type)]);
            for bit in 0..METADATA.len() * 8 {
                let mut metadata = whole[METADATA].to_vec();
                metadata[bit / 8] ^= 1 << (bit % 8);
                let _ = drop_leftovers(&mut metadata, &schema);
            }
        }
    }
}
