//! What both programs' `inspect` say of the keys.

use crate::people::count;
use rekek::census::Census;
use rekek::row::printable;

/// Malformed fields that the table names; the JSON lists more.
const SHOWN: usize = 10;

/// The lines of the table.
pub fn lines(census: &Census) -> Vec<(String, String)> {
    let mut lines = vec![("fields".to_owned(), count(census.fields))];
    for (key, fields) in &census.fields_by_key {
        let rows = census.rows_by_key.get(key).copied().unwrap_or_default();
        let value = format!("{} fields in {} rows", count(*fields), count(rows));
        lines.push((format!("  under {}", printable(key)), value));
    }
    lines.push(("  malformed".to_owned(), count(census.malformed)));
    for failure in census.failures.iter().take(SHOWN) {
        let value = format!("{} {}: {}", failure.organization_id, failure.field, failure.error);
        lines.push(("malformed".to_owned(), value));
    }
    for (key, fields) in &census.retired {
        let label = format!("retired {}", printable(key.as_str()));
        lines.push((label, format!("{} fields name it", count(*fields))));
    }
    lines
}

/// What an operator might not think of before a key is removed.
pub fn reminder(census: &Census) -> Option<String> {
    if census.retired.is_empty() || census.answer().is_some() {
        return None;
    }
    let keys: Vec<_> = census.retired.keys().map(|key| printable(key.as_str())).collect();
    Some(format!("backups taken before the import still need {}", keys.join(", ")))
}
