//! Replacing types, at any depth of nesting: what a format cannot hold by what it can.

use ::arrow::datatypes::{DataType, Field, FieldRef};
use std::sync::Arc;

/// The column with its type, and every type nested in it, put through `replace`, which returns
/// `None` for one that stays.
pub(super) fn replaced(column: &FieldRef, replace: &impl Fn(&DataType) -> Option<DataType>) -> FieldRef {
    let data_type = replaced_type(column.data_type(), replace);
    if data_type == *column.data_type() {
        return Arc::clone(column);
    }
    Arc::new(Field::clone(column).with_data_type(data_type))
}

/// The same of a type alone.
pub(super) fn replaced_type(
    data_type: &DataType,
    replace: &impl Fn(&DataType) -> Option<DataType>,
) -> DataType {
    if let Some(other) = replace(data_type) {
        return replaced_type(&other, replace);
    }
    let child = |column: &FieldRef| replaced(column, replace);
    match data_type {
        DataType::Dictionary(keys, values) => {
            DataType::Dictionary(keys.clone(), Box::new(replaced_type(values, replace)))
        }
        DataType::List(column) => DataType::List(child(column)),
        DataType::LargeList(column) => DataType::LargeList(child(column)),
        DataType::ListView(column) => DataType::ListView(child(column)),
        DataType::LargeListView(column) => DataType::LargeListView(child(column)),
        DataType::FixedSizeList(column, n) => DataType::FixedSizeList(child(column), *n),
        DataType::Map(column, sorted) => DataType::Map(child(column), *sorted),
        DataType::Struct(columns) => DataType::Struct(columns.iter().map(child).collect()),
        DataType::RunEndEncoded(ends, values) => DataType::RunEndEncoded(Arc::clone(ends), child(values)),
        DataType::Union(columns, mode) => {
            DataType::Union(columns.iter().map(|(id, column)| (id, child(column))).collect(), *mode)
        }
        other => other.clone(),
    }
}
