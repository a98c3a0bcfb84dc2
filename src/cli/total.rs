//! How many rows a file has, before it is read: for progress only, whether it is true is seen later.

use crate::progress::Total;
use rekek::manifest::Manifest;
use rekek::table::{Format, Input};
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

/// Bytes from the beginning of a CSV file by which its rows are estimated.
const SAMPLE: u64 = 1 << 20;

/// The rows of an input: its manifest tells them; of a regular CSV file without one its first rows and its
/// length do, about. Of anything else nothing is told.
pub fn rows_told(argument: &Path, format: Option<Format>) -> Total {
    if let Ok((manifest, _)) = Manifest::read(&Manifest::path_for(argument)) {
        return Total::Told(manifest.output.rows);
    }
    let input = Input::from_argument(argument);
    match (input.format(format), input.path()) {
        (Some(Format::Csv), Some(path)) if input.can_be_read_again() => {
            estimate(path).map_or(Total::Unknown, Total::About)
        }
        _ => Total::Unknown,
    }
}

fn estimate(path: &Path) -> Option<u64> {
    let file = File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    let mut sample = Vec::new();
    file.take(SAMPLE).read_to_end(&mut sample).ok()?;
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(sample.as_slice());
    reader.byte_headers().ok()?;
    let begin = reader.position().byte();
    let (mut rows, mut end) = (0u64, begin);
    let mut record = csv::ByteRecord::new();
    while reader.read_byte_record(&mut record).ok()? {
        let at = reader.position().byte();
        // The last record of a sample is cut off.
        if at == sample.len() as u64 && at < length {
            break;
        }
        (rows, end) = (rows + 1, at);
    }
    (end > begin).then(|| (u128::from(rows) * u128::from(length - begin) / u128::from(end - begin)) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_csv_file_is_estimated_by_its_first_rows_and_nothing_else_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        let told = |text: &str| {
            std::fs::write(&path, text).unwrap();
            match rows_told(&path, None) {
                Total::About(n) => Some(n),
                _ => None,
            }
        };
        assert_eq!(told("a,b\n1,2\n\"3\n\",4\n"), Some(2), "a line's end in quotes is none of a row's");
        for text in ["", "a,b\n", "a,b"] {
            assert_eq!(told(text), None, "{text}");
        }
        let row = format!("org,\"{}\"\n", "x".repeat(3000));
        let about = told(&("a,b\n".to_owned() + &row.repeat(2000))).unwrap();
        assert!((1990..=2010).contains(&about), "{about}");
        let manifest = folder.path().join("a.csv.manifest.json");
        std::fs::write(manifest, "not a manifest").unwrap();
        assert!(told(&row.repeat(10)).is_some(), "a manifest that is none tells nothing");
        for name in ["nowhere.csv", "-", "a.parquet"] {
            assert!(matches!(rows_told(&folder.path().join(name), None), Total::Unknown), "{name}");
        }
    }
}
