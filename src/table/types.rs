//! Types of columns: replacing them, at any depth of nesting (what a format cannot hold by what it can),
//! looking for them, naming them.

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

/// The type with every dictionary in it replaced by what its values are.
pub fn without_dictionaries(data_type: &DataType) -> DataType {
    replaced_type(data_type, &|data_type| match data_type {
        DataType::Dictionary(_, values) => Some(DataType::clone(values)),
        _ => None,
    })
}

/// The type, for a message; of one with names or a zone in it, which are the file's own text and may be
/// anything and go on for pages, no more than what kind it is of.
pub(super) fn kind(data_type: &DataType) -> String {
    let has_text = |data_type: &DataType| {
        data_type.is_nested()
            || matches!(data_type, DataType::RunEndEncoded(_, _) | DataType::Timestamp(_, Some(_)))
    };
    let whole = data_type.to_string();
    match whole.split_once('(') {
        Some((kind, _)) if contains(data_type, has_text) => kind.to_owned(),
        _ => whole,
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

#[cfg(test)]
mod tests {
    use super::*;
    use ::arrow::datatypes::{TimeUnit, UnionFields, UnionMode};

    /// A field may be named like a key, or in lines of its own.
    #[test]
    fn nothing_of_the_files_own_text_is_in_a_types_name() {
        let named = |name: &str| Arc::new(Field::new(name, DataType::Utf8, true));
        let secret = "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=";
        let text = named(&format!("a\nb {secret}"));
        let ends = Arc::new(Field::new("run_ends", DataType::Int32, false));
        for (data_type, name) in [
            (DataType::Utf8, "Utf8"),
            (DataType::Struct(vec![Arc::clone(&text)].into()), "Struct"),
            (
                DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::List(Arc::clone(&text)))),
                "Dictionary",
            ),
            (DataType::List(Arc::clone(&text)), "List"),
            (DataType::FixedSizeList(Arc::clone(&text), 2), "FixedSizeList"),
            (DataType::LargeListView(Arc::clone(&text)), "LargeListView"),
            (DataType::RunEndEncoded(ends, Arc::clone(&text)), "RunEndEncoded"),
            (DataType::Timestamp(TimeUnit::Second, Some(secret.into())), "Timestamp"),
            (DataType::Union(UnionFields::try_new([1], [text]).unwrap(), UnionMode::Dense), "Union"),
            (
                DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Utf8)),
                "Dictionary(Int8, Utf8)",
            ),
            (DataType::Decimal128(9, 2), "Decimal128(9, 2)"),
        ] {
            assert_eq!(kind(&data_type), name);
        }
    }
}
