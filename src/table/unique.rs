//! Refuses a table in which an organization id stands twice.
//!
//! While the ids arrive in ascending byte order, as a sorted export has them, the last one is all
//! that is kept. Where the order first breaks, the ids before that place are read from the file
//! once more, and from there on 16 bytes an id are kept: a keyed hash of 128 bits. With the hash
//! table's free space that is 20 to 40 bytes a row, and up to 60 while the table grows. A pipe
//! cannot be read again, so there the hashes are kept from the start.

use super::{Input, Layout, OpenOptions, TableError};
use crate::row::printable_org_id;
use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

/// The check: see the module.
pub struct UniqueIds {
    /// The file, to read again; `None` is a pipe.
    again: Option<(Input, OpenOptions)>,
    rows: u64,
    last: String,
    seen: Option<Seen>,
}

/// Keyed hashes of the ids seen. The keys are the process's own random ones: two ids that meet in
/// 128 bits by chance or by intent are not to be expected, and would only refuse the file.
#[derive(Default)]
struct Seen {
    ids: HashSet<(u64, u64)>,
    keys: (RandomState, RandomState),
}

impl Seen {
    fn insert(&mut self, id: &str) -> bool {
        self.ids.insert((self.keys.0.hash_one(id), self.keys.1.hash_one(id)))
    }
}

impl UniqueIds {
    /// A check of the table that `input` is.
    pub fn new(input: &Input, options: &OpenOptions) -> Self {
        let options = OpenOptions { unhashed: true, ..options.clone() };
        let again = input.can_be_read_again().then(|| (input.clone(), options));
        let seen = if again.is_some() { None } else { Some(Seen::default()) };
        UniqueIds { again, rows: 0, last: String::new(), seen }
    }

    /// Takes the next row's id; refuses it where an earlier row had it.
    pub fn check(&mut self, id: &str) -> Result<(), TableError> {
        self.rows += 1;
        if self.seen.is_none() {
            if self.rows == 1 || id > self.last.as_str() {
                self.last.clear();
                self.last.push_str(id);
                return Ok(());
            }
            self.seen = Some(self.read_again()?);
        }
        let new = self.seen.as_mut().is_some_and(|seen| seen.insert(id));
        if new { Ok(()) } else { Err(self.repeated(id)) }
    }

    fn repeated(&self, id: &str) -> TableError {
        TableError::Row {
            row: self.rows,
            what: format!("the organization id {} is there already, in an earlier row", printable_org_id(id)),
        }
    }

    /// The ids of all rows before the present one.
    fn read_again(&self) -> Result<Seen, TableError> {
        let (input, options) = self.again.as_ref().expect("a pipe's ids are kept from the start");
        let mut seen = Seen::default();
        let mut reader = super::open(input, options)?;
        let layout = Layout::of(reader.schema())?;
        let mut left = self.rows - 1;
        while left > 0 {
            let Some(batch) = reader.next_batch()? else {
                return Err(TableError::Table("the file became shorter while it was read".into()));
            };
            let texts = layout.texts(&batch);
            for row in 0..batch.num_rows().min(left as usize) {
                seen.insert(texts.organization_id.get(row).unwrap_or_default());
                left -= 1;
            }
        }
        Ok(seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn table(ids: &[&str]) -> tempfile::NamedTempFile {
        let mut file = tempfile::Builder::new().suffix(".csv").tempfile().unwrap();
        let header =
            "organization_id,encrypted_signing_key_1,encrypted_signing_key_2,encrypted_auth_method_config";
        writeln!(file, "{header}").unwrap();
        for id in ids {
            writeln!(file, "{id},,,").unwrap();
        }
        file
    }

    /// The first row that is refused, and whether hashes had to be kept.
    fn refused(ids: &[&str]) -> (Option<usize>, bool) {
        let file = table(ids);
        let mut check = UniqueIds::new(&Input::File(file.path().into()), &OpenOptions::default());
        let refused = ids.iter().position(|id| check.check(id).is_err());
        (refused, check.seen.is_some())
    }

    #[test]
    fn sorted_ids_need_no_memory() {
        assert_eq!(refused(&["a", "b", "ba", "c"]), (None, false));
    }

    #[test]
    fn a_repeat_is_found_wherever_it_stands() {
        assert_eq!(refused(&["a", "a"]), (Some(1), true), "next to it");
        assert_eq!(refused(&["a", "b", "c", "a"]), (Some(3), true), "breaking the order itself");
        assert_eq!(refused(&["b", "c", "a", "d", "c"]), (Some(4), true), "of before the break");
        assert_eq!(refused(&["b", "a", "x", "x"]), (Some(3), true), "of after the break");
        assert_eq!(refused(&["c", "b", "a", "d", "B"]), (None, true));
    }

    #[test]
    fn a_pipe_is_checked_too() {
        let mut check = UniqueIds::new(&Input::Stdin, &OpenOptions::default());
        assert!(check.check("a").is_ok() && check.check("b").is_ok());
        let error = check.check("a").unwrap_err().to_string();
        assert_eq!(error, "row 3: the organization id a is there already, in an earlier row");
    }
}
