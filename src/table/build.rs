//! Building a text column in the type that the table has.

use arrow::array::{ArrayRef, LargeStringBuilder, StringBuilder, StringViewBuilder};
use arrow::datatypes::DataType;
use std::sync::Arc;

/// The text type of a column that is written anew: the same, without a dictionary, since no two
/// envelopes are alike; and a column that had no type, since it had no value, is one of text.
pub fn plain_text_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Dictionary(_, values) => plain_text_type(values),
        DataType::Null => DataType::Utf8,
        other => other.clone(),
    }
}

/// A builder for any of the plain text types.
pub enum TextBuilder {
    /// 32-bit offsets.
    Utf8(StringBuilder),
    /// 64-bit offsets.
    LargeUtf8(LargeStringBuilder),
    /// Views.
    Utf8View(StringViewBuilder),
}

impl TextBuilder {
    /// A builder for `data_type` with room for so many rows and bytes.
    pub fn new(data_type: &DataType, rows: usize, bytes: usize) -> Self {
        match data_type {
            DataType::LargeUtf8 => TextBuilder::LargeUtf8(LargeStringBuilder::with_capacity(rows, bytes)),
            DataType::Utf8View => TextBuilder::Utf8View(StringViewBuilder::with_capacity(rows)),
            _ => TextBuilder::Utf8(StringBuilder::with_capacity(rows, bytes)),
        }
    }

    /// Appends a row.
    pub fn append(&mut self, text: Option<&str>) {
        match self {
            TextBuilder::Utf8(b) => b.append_option(text),
            TextBuilder::LargeUtf8(b) => b.append_option(text),
            TextBuilder::Utf8View(b) => b.append_option(text),
        }
    }

    /// The column.
    pub fn finish(mut self) -> ArrayRef {
        match &mut self {
            TextBuilder::Utf8(b) => Arc::new(b.finish()),
            TextBuilder::LargeUtf8(b) => Arc::new(b.finish()),
            TextBuilder::Utf8View(b) => Arc::new(b.finish()),
        }
    }
}
