//! Replacing types, at any depth of nesting: what a format cannot hold by what it can.

use ::arrow::datatypes::{DataType, Field, FieldRef};
use std::cell::Cell;
use std::sync::Arc;

/// The column with its type, and every type nested in it, put through `replace`, which returns
/// `None` for one that stays.
pub(super) fn replaced(column: &FieldRef, replace: &impl Fn(&DataType) -> Option<DataType>) -> FieldRef {
    let data_type = replaced_type(column.data_type(), replace);
    if data_type == *column.data_type() {
        return Arc::clone(column);
    }
    // A column of runs has its nulls among the runs' values.
    let has_nulls = match column.data_type() {
        DataType::RunEndEncoded(_, values) => values.is_nullable(),
        _ => false,
    };
    let nullable = column.is_nullable() || has_nulls;
    Arc::new(Field::clone(column).with_data_type(data_type).with_nullable(nullable))
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
        // Runs whose values change become plain: the cast from runs to runs loses what their fields say.
        DataType::RunEndEncoded(_, values) => match replaced_type(values.data_type(), replace) {
            plain if plain != *values.data_type() => plain,
            _ => data_type.clone(),
        },
        DataType::Union(columns, mode) => {
            DataType::Union(columns.iter().map(|(id, column)| (id, child(column))).collect(), *mode)
        }
        other => other.clone(),
    }
}

/// Whether the type, or one nested in it, is one of those.
pub(super) fn contains(data_type: &DataType, is: impl Fn(&DataType) -> bool) -> bool {
    let found = Cell::new(false);
    replaced_type(data_type, &|data_type| {
        found.set(found.get() || is(data_type));
        None
    });
    found.get()
}
