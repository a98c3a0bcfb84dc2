//! Which keys envelopes name, counted: of an export's rows or of a database's.
//!
//! It owns the check before a key is removed ([`Census::answer`]). It opens nothing; an envelope
//! that cannot be read counts as malformed, since nobody can say which key it names.

use crate::report::{Failure, LISTED_MAX};
use crate::row::{KeyId, could_be_key, printable};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Key ids that are counted one by one; what names more than these is no site's.
const KEY_IDS_MAX: usize = 10_000;

/// Where the fields of further key ids are counted.
const OTHER_KEY_IDS: &str = "(other key ids)";

/// The counts. Its members are part of the report of both programs' `inspect`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Census {
    /// Rows counted.
    pub rows: u64,
    /// Fields with ciphertext, malformed ones included.
    pub fields: u64,
    /// Well-formed fields by the key id that they name.
    pub fields_by_key: BTreeMap<String, u64>,
    /// Rows by the key ids that their fields name; a row with two keys counts under both.
    pub rows_by_key: BTreeMap<String, u64>,
    /// Fields that are no envelope.
    pub malformed: u64,
    /// The first [`LISTED_MAX`] of them.
    pub failures: Vec<Failure>,
    /// Whether there were more.
    pub failures_truncated: bool,
    /// For each key about to be removed: fields that still name it.
    pub retired: BTreeMap<KeyId, u64>,
}

/// A row that is being counted.
pub struct Row<'c> {
    census: &'c mut Census,
    keys: Vec<String>,
}

impl Census {
    /// Nothing counted yet; `retired` are the keys about to be removed.
    pub fn new(retired: &[KeyId]) -> Self {
        Census { retired: retired.iter().map(|key| (key.clone(), 0)).collect(), ..Census::default() }
    }

    /// Counts a row; `fields` tells what each of its fields is.
    pub fn row(&mut self, fields: impl FnOnce(&mut Row<'_>)) {
        self.rows += 1;
        let mut row = Row { census: self, keys: Vec::new() };
        fields(&mut row);
        let keys = row.keys;
        keys.iter().for_each(|key| add_bounded(&mut self.rows_by_key, key, 1));
    }

    /// Adds what was counted of later rows.
    pub fn add(&mut self, later: Census) {
        self.rows += later.rows;
        self.fields += later.fields;
        self.malformed += later.malformed;
        later.fields_by_key.iter().for_each(|(key, n)| add_bounded(&mut self.fields_by_key, key, *n));
        later.rows_by_key.iter().for_each(|(key, n)| add_bounded(&mut self.rows_by_key, key, *n));
        later.retired.into_iter().for_each(|(key, n)| *self.retired.entry(key).or_default() += n);
        self.failures_truncated |= later.failures_truncated;
        later.failures.into_iter().for_each(|failure| self.list(failure));
    }

    fn list(&mut self, failure: Failure) {
        if self.failures.len() < LISTED_MAX {
            self.failures.push(failure);
        } else {
            self.failures_truncated = true;
        }
    }

    /// Keys that were asked for and that no field names, each with one that fields name and that differs in
    /// nothing but case or white space around it.
    pub fn near_misses(&self) -> impl Iterator<Item = (&str, &str)> {
        self.unnamed().flat_map(|asked| {
            let near = move |named: &&str| asked.trim().eq_ignore_ascii_case(named.trim());
            self.fields_by_key.keys().map(String::as_str).filter(near).map(move |named| (asked, named))
        })
    }

    /// Keys that were asked for and that no field names.
    fn unnamed(&self) -> impl Iterator<Item = &str> {
        self.retired.iter().filter(|(_, fields)| **fields == 0).map(|(key, _)| key.as_str())
    }

    /// Why a retired key may not be removed; `None` where nothing speaks against it.
    pub fn answer(&self) -> Option<String> {
        let used = self.retired.iter().filter(|(_, fields)| **fields > 0);
        let mut no: Vec<String> = used
            .map(|(key, n)| format!("key {} is still in use: {n} fields name it", printable(key.as_str())))
            .collect();
        for key in self.unnamed() {
            let meant = self.fields_by_key.keys().filter(|named| is_one_of(key, named));
            no.extend(meant.map(|named| {
                let (key, named) = (printable(key), printable(named));
                format!("no field names {key}, but fields name {named}: if that is meant, ask for --retired {named}")
            }));
        }
        if !self.retired.is_empty() && self.malformed > 0 {
            let n = self.malformed;
            no.push(format!("{n} envelopes are malformed, and nobody can say which key they name"));
        }
        (!no.is_empty()).then(|| no.join("; "))
    }
}

impl Row<'_> {
    /// A field whose envelope names this key.
    pub fn names(&mut self, key_id: &str) {
        self.census.fields += 1;
        let retired = self.census.retired.iter_mut().find(|(key, _)| key.as_str() == key_id);
        if let Some((_, fields)) = retired {
            *fields += 1;
        }
        // A longer one is no key's, and what could be a key is no id.
        let is_id = key_id.len() <= 255 && !could_be_key(key_id);
        let name = if is_id { key_id.to_owned() } else { printable(key_id) };
        add_bounded(&mut self.census.fields_by_key, &name, 1);
        if !self.keys.contains(&name) {
            self.keys.push(name);
        }
    }

    /// A field that is no envelope.
    pub fn malformed(&mut self, failure: Failure) {
        self.census.fields += 1;
        self.census.malformed += 1;
        self.census.list(failure);
    }
}

/// Whether who asked for one key may have meant several in one argument, of which this is one.
fn is_one_of(asked: &str, named: &str) -> bool {
    let mut parts = asked.trim().split(|c: char| c.is_whitespace() || c == ',' || c == ';');
    asked.trim() != named.trim() && parts.any(|part| part == named)
}

/// Adds to a key id's count; hostile input cannot make the map grow without end.
pub(crate) fn add_bounded(map: &mut BTreeMap<String, u64>, key: &str, n: u64) {
    if let Some(count) = map.get_mut(key) {
        *count += n;
    } else if map.len() < KEY_IDS_MAX {
        map.insert(key.to_owned(), n);
    } else {
        *map.entry(OTHER_KEY_IDS.to_owned()).or_default() += n;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure() -> Failure {
        Failure { organization_id: "org".into(), field: "f".into(), error: "malformed".into() }
    }

    #[test]
    fn a_row_counts_once_under_each_of_its_keys_and_parts_add_up() {
        let retired: Vec<KeyId> = vec!["a".parse().unwrap(), "z".parse().unwrap()];
        let count = |rows: usize| {
            let mut census = Census::new(&retired);
            for _ in 0..rows {
                census.row(|row| ["a", "a", "b"].into_iter().for_each(|key| row.names(key)));
                census.row(|row| row.malformed(failure()));
            }
            census
        };
        let mut sum = count(3);
        sum.add(count(900));
        assert_eq!((sum.rows, sum.fields, sum.malformed), (2 * 903, 4 * 903, 903));
        assert_eq!((sum.fields_by_key["a"], sum.rows_by_key["a"], sum.rows_by_key["b"]), (2 * 903, 903, 903));
        assert!(!sum.failures_truncated);
        sum.add(count(100));
        assert_eq!((sum.failures.len(), sum.failures_truncated), (LISTED_MAX, true));
        let answer = sum.answer().unwrap();
        assert_eq!(
            answer,
            "key a is still in use: 2006 fields name it; \
             1003 envelopes are malformed, and nobody can say which key they name"
        );
        assert_eq!(Census::new(&retired).answer(), None);
    }

    #[test]
    fn an_id_that_no_field_names_may_be_a_misspelt_one() {
        let counted = |asked: &str| {
            let mut census = Census::new(&[asked.parse().unwrap()]);
            census.row(|row| ["kv1", "kv10"].into_iter().for_each(|key| row.names(key)));
            census
        };
        let answer = |asked: &str| counted(asked).answer();
        let near = |asked: &str| {
            let counted = counted(asked);
            counted
                .near_misses()
                .map(|(asked, named)| (asked.to_owned(), named.to_owned()))
                .collect::<Vec<_>>()
        };
        for asked in ["kv0,kv1", "kv0 kv1", "kv1;kv2"] {
            let answer = answer(asked).unwrap();
            assert!(
                answer.ends_with("but fields name kv1: if that is meant, ask for --retired kv1"),
                "{answer}"
            );
        }
        // Both may be keys of the site: a note, and no answer.
        for asked in ["kv1 ", "KV1"] {
            assert_eq!((answer(asked), near(asked)), (None, vec![(asked.to_owned(), "kv1".to_owned())]));
        }
        for asked in ["kv0", "kv", "kv2,kv3", "kv1x"] {
            assert_eq!((answer(asked), near(asked)), (None, vec![]), "{asked}");
        }
    }
}
