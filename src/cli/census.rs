//! What both programs' `inspect` say of the keys.

use crate::people::{Cell, Grid, Report, Tone, count};
use rekek::census::Census;
use rekek::row::printable;

/// Malformed fields that the table names; the JSON lists more.
const SHOWN: usize = 10;

/// Adds the counts to a report; `repeated_nonces` where they were looked for.
pub fn add(table: &mut Report, census: &Census, repeated_nonces: Option<u64>) {
    table.count("fields", census.fields);
    table.count_bad("  malformed", census.malformed);
    for failure in census.failures.iter().take(SHOWN) {
        let value = format!("{} {}: {}", failure.organization_id, failure.field, failure.error);
        table.toned(Tone::Bad, "malformed", value);
    }
    let more = census.malformed.saturating_sub(SHOWN as u64);
    if more > 0 {
        table.line("malformed", format!("… and {} more", count(more)));
    }
    if let Some(repeated) = repeated_nonces {
        table.count_bad("repeated nonces", repeated);
    }
    for (key, fields) in &census.retired {
        let (tone, value) = match fields {
            0 => (Tone::Good, "no field names it".to_owned()),
            1 => (Tone::Bad, "1 field still names it".to_owned()),
            n => (Tone::Bad, format!("{} fields still name it", count(*n))),
        };
        table.toned(tone, format!("retired {}", printable(key.as_str())), value);
    }
    let mut keys = Grid::new(["key", "fields", "rows"]);
    for (key, fields) in &census.fields_by_key {
        let rows = census.rows_by_key.get(key).copied().unwrap_or_default();
        keys.row([Cell::Text(printable(key)), Cell::Count(*fields), Cell::Count(rows)]);
    }
    table.grid(keys);
}

/// What an operator might not think of before a key is removed.
pub fn reminders(census: &Census) -> Vec<String> {
    let near = census.near_misses().map(|(asked, named)| {
        let [asked, named] = [asked, named].map(|key| printable(&format!("'{key}'")));
        format!(
            "no field names {asked}, but fields name {named}: see that the one that was asked for is meant"
        )
    });
    let mut reminders: Vec<_> = near.collect();
    if !census.retired.is_empty() && census.answer().is_none() {
        let keys: Vec<_> = census.retired.keys().map(|key| printable(key.as_str())).collect();
        reminders.push(format!("backups taken before the import still need {}", keys.join(", ")));
    }
    reminders
}
