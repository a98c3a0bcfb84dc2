//! The columns that rekek knows: where they stand in a table, and their text in a batch.

use super::TableError;
use super::types::kind;
use crate::row::{Field, ORGANIZATION_ID};
use arrow::array::{Array, ArrayRef, AsArray, LargeStringArray, RecordBatch, StringArray, StringViewArray};
use arrow::datatypes::{DataType, Schema};

/// Where the columns of DESIGN section 3 stand in a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// `organization_id`.
    pub organization_id: usize,
    /// The ciphertext columns, in the order of [`Field::ALL`].
    pub fields: [usize; 3],
    /// The public value of each signing key, where the export has it.
    pub publics: [Option<usize>; 2],
    /// The source digests, in an output that rekek wrote: all three columns or none.
    pub source_digests: Option<[usize; 3]>,
}

impl Layout {
    /// Finds the columns, whatever their order.
    ///
    /// An error names the column: one that is needed and not there, one that is there twice, one
    /// that is not text, source digests of which only some are there.
    pub fn of(schema: &Schema) -> Result<Layout, TableError> {
        let find = |name: &str| -> Result<Option<usize>, TableError> {
            let mut found = schema.fields().iter().enumerate().filter(|(_, f)| f.name() == name);
            let Some((index, field)) = found.next() else { return Ok(None) };
            if found.next().is_some() {
                return Err(TableError::Table(format!("the column {name} is there twice")));
            }
            if !is_text(field.data_type()) {
                return Err(TableError::Table(format!(
                    "the column {name} is not text but {}; cast it to text",
                    kind(field.data_type())
                )));
            }
            Ok(Some(index))
        };
        // One column that is all of them: CSV with another character between its values.
        let one = schema.fields().len() == 1 && schema.field(0).name().contains(ORGANIZATION_ID);
        let need = |name: &str| -> Result<usize, TableError> {
            let hint =
                if one { ": the header is one value; write the file with commas between them" } else { "" };
            find(name)?.ok_or_else(|| TableError::Table(format!("the column {name} is missing{hint}")))
        };
        let organization_id = need(ORGANIZATION_ID)?;
        let mut fields = [0; 3];
        let mut publics = [None; 2];
        let mut digests = [None; 3];
        for field in Field::ALL {
            fields[field.index()] = need(field.column())?;
            digests[field.index()] = find(field.source_digest_column())?;
            if let Some(public) = field.public_column() {
                publics[field.index()] = find(public)?;
            }
        }
        let source_digests = match digests {
            [Some(a), Some(b), Some(c)] => Some([a, b, c]),
            [None, None, None] => None,
            _ => {
                return Err(TableError::Table(
                    "only some of the three source digest columns are there: \
                     an output has all of them, an export none"
                        .into(),
                ));
            }
        };
        Ok(Layout { organization_id, fields, publics, source_digests })
    }

    /// The text of the known columns in one batch.
    pub fn texts<'a>(&self, batch: &'a RecordBatch) -> Texts<'a> {
        let text = |index: usize| Text::of(batch.column(index)).expect("Layout::of checked the types");
        Texts {
            organization_id: text(self.organization_id),
            fields: self.fields.map(text),
            publics: self.publics.map(|index| index.map(text)),
            source_digests: self.source_digests.map(|indices| indices.map(text)),
        }
    }
}

/// The text of the known columns in one batch: see [`Layout`].
pub struct Texts<'a> {
    /// `organization_id`.
    pub organization_id: Text<'a>,
    /// The ciphertext columns, in the order of [`Field::ALL`].
    pub fields: [Text<'a>; 3],
    /// The public value of each signing key.
    pub publics: [Option<Text<'a>>; 2],
    /// The source digests.
    pub source_digests: Option<[Text<'a>; 3]>,
}

/// Whether a column of this type is read as text: also one of no type at all, as other programs write a
/// column without a value.
pub(super) fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Null | DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, values) => is_text(values),
        _ => false,
    }
}

/// A text column of a batch, in any of Arrow's text types.
pub enum Text<'a> {
    /// Nothing but nulls.
    Nulls,
    /// 32-bit offsets.
    Utf8(&'a StringArray),
    /// 64-bit offsets.
    LargeUtf8(&'a LargeStringArray),
    /// Views.
    Utf8View(&'a StringViewArray),
    /// Dictionary-encoded, with keys of any width.
    Dictionary {
        /// For each row the place of its value.
        keys: Vec<usize>,
        /// The column itself, for its nulls.
        rows: &'a dyn Array,
        /// The values.
        values: Box<Text<'a>>,
    },
}

impl<'a> Text<'a> {
    /// The column's text, or `None` where its type is not text.
    pub fn of(array: &'a ArrayRef) -> Option<Text<'a>> {
        Some(match array.data_type() {
            DataType::Null => Text::Nulls,
            DataType::Utf8 => Text::Utf8(array.as_string()),
            DataType::LargeUtf8 => Text::LargeUtf8(array.as_string()),
            DataType::Utf8View => Text::Utf8View(array.as_string_view()),
            DataType::Dictionary(_, values) if is_text(values) => {
                let dictionary = array.as_any_dictionary();
                let values = dictionary.values();
                // normalized_keys cannot place a key where there is no value at all.
                let keys = if values.is_empty() { vec![] } else { dictionary.normalized_keys() };
                Text::Dictionary { keys, rows: array.as_ref(), values: Box::new(Text::of(values)?) }
            }
            _ => return None,
        })
    }

    /// The text in a row of the batch; `None` is null.
    pub fn get(&self, row: usize) -> Option<&'a str> {
        match self {
            Text::Nulls => None,
            Text::Utf8(a) => a.is_valid(row).then(|| a.value(row)),
            Text::LargeUtf8(a) => a.is_valid(row).then(|| a.value(row)),
            Text::Utf8View(a) => a.is_valid(row).then(|| a.value(row)),
            Text::Dictionary { keys, rows, values } => {
                if rows.is_null(row) || keys.is_empty() {
                    None
                } else {
                    values.get(keys[row])
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{DictionaryArray, NullArray, types::Int8Type};
    use arrow::datatypes::Field as Column;
    use std::sync::Arc;

    fn schema(columns: &[&str]) -> Schema {
        Schema::new(columns.iter().map(|c| Column::new(*c, DataType::Utf8, true)).collect::<Vec<_>>())
    }

    const NEEDED: [&str; 4] = [
        "encrypted_auth_method_config",
        "organization_id",
        "encrypted_signing_key_2",
        "encrypted_signing_key_1",
    ];

    #[test]
    fn columns_are_found_in_any_order() {
        let layout = Layout::of(&schema(&NEEDED)).unwrap();
        assert_eq!((layout.organization_id, layout.fields), (1, [3, 2, 0]));
        assert_eq!((layout.publics, layout.source_digests), ([None, None], None));
    }

    #[test]
    fn a_header_that_is_one_value_is_told_of() {
        let error =
            Layout::of(&schema(&["organization_id;encrypted_signing_key_1"])).unwrap_err().to_string();
        let hint = "the header is one value; write the file with commas between them";
        assert_eq!(error, format!("the column organization_id is missing: {hint}"));
    }

    #[test]
    fn a_missing_or_repeated_column_is_named() {
        for missing in NEEDED {
            let rest: Vec<_> = NEEDED.into_iter().filter(|c| *c != missing).collect();
            let error = Layout::of(&schema(&rest)).unwrap_err().to_string();
            assert_eq!(error, format!("the column {missing} is missing"));
            let twice: Vec<_> = NEEDED.into_iter().chain([missing]).collect();
            let error = Layout::of(&schema(&twice)).unwrap_err().to_string();
            assert_eq!(error, format!("the column {missing} is there twice"));
        }
        let some: Vec<_> = NEEDED.into_iter().chain(["source_sha256_signing_key_2"]).collect();
        assert!(Layout::of(&schema(&some)).unwrap_err().to_string().contains("only some of the three"));
    }

    #[test]
    fn every_text_type_reads_the_same() {
        let values = [Some("a"), None, Some("bc"), Some("a")];
        let dictionary: DictionaryArray<Int8Type> = values.into_iter().collect();
        let empty: DictionaryArray<Int8Type> = [None::<&str>, None].into_iter().collect();
        let arrays: [ArrayRef; 4] = [
            Arc::new(StringArray::from(values.to_vec())),
            Arc::new(LargeStringArray::from(values.to_vec())),
            Arc::new(StringViewArray::from(values.to_vec())),
            Arc::new(dictionary),
        ];
        for array in &arrays {
            let text = Text::of(array).unwrap();
            assert_eq!((0..4).map(|i| text.get(i)).collect::<Vec<_>>(), values);
        }
        for empty in [Arc::new(empty) as ArrayRef, Arc::new(NullArray::new(2))] {
            assert_eq!(Text::of(&empty).unwrap().get(1), None);
        }
    }
}
