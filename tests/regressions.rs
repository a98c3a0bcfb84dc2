//! What fuzzing found stays found: every input that once broke something, through the target that it
//! broke; and every seed with them, the fixtures among these. (`scripts/fuzz` looks for more.)

#[path = "../fuzz/src/seeds.rs"]
mod seeds;
#[path = "../fuzz/src/targets.rs"]
mod targets;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// The files of a folder; none where it is not there.
fn files(folder: PathBuf) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(&folder) else { return vec![] };
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[track_caller]
fn replay(name: &str, target: fn(&[u8]), inputs: &[(String, Vec<u8>)]) {
    for (input, bytes) in inputs {
        let run = catch_unwind(AssertUnwindSafe(|| target(bytes)));
        assert!(run.is_ok(), "the target {name} fails on {input}");
    }
}

fn read(paths: Vec<PathBuf>) -> Vec<(String, Vec<u8>)> {
    paths.into_iter().map(|path| (path.display().to_string(), std::fs::read(&path).unwrap())).collect()
}

#[test]
fn every_input_that_was_found_passes() {
    for (name, target) in targets::ALL {
        replay(name, target, &read(files(Path::new("fuzz/regressions").join(name))));
        replay(name, target, &[("nothing".to_owned(), vec![])]);
    }
}

#[test]
fn every_seed_passes() {
    let folder = tempfile::tempdir().unwrap();
    seeds::write(folder.path()).unwrap();
    for (name, target) in targets::ALL {
        let seeds = read(files(folder.path().join(name)));
        assert!(!seeds.is_empty(), "{name}");
        replay(name, target, &seeds);
    }
    // The sample is too large for a fuzzer to begin with.
    replay("csv", targets::csv, &read(vec!["fixtures/sample/export.csv".into()]));
}
