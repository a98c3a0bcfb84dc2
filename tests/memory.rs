//! Memory is bounded by the batch, not by the file: four times the rows, the same peak.
//!
//! A test binary of its own, so that nothing else runs beside what is measured.

use assert_cmd::cargo::cargo_bin;
use std::path::Path;
use std::process::{Command, Stdio};

/// Runs `rekek` and returns the peak of its resident memory, in KiB.
fn peak(folder: &Path, line: &str) -> u64 {
    let mut command = Command::new(cargo_bin!("rekek"));
    command.args(line.split_whitespace()).current_dir(folder).stdout(Stdio::null());
    let mut child = command.spawn().unwrap();
    let status_file = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    loop {
        // The high-water mark only rises; the last look before the end is what counts.
        let text = std::fs::read_to_string(&status_file).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        if let Some(kib) = line.and_then(|l| l.trim().strip_suffix(" kB")).and_then(|n| n.parse().ok()) {
            peak = kib;
        }
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "{line:?}");
            return peak;
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

#[test]
fn a_peak_does_not_grow_with_the_rows() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    peak(folder, "keygen kv1 --secrets s.json");
    peak(folder, "keygen kv2 --secrets s.json");
    let mut peaks = Vec::new();
    for orgs in [50_000, 200_000] {
        let generate =
            format!("generate -o in.csv --orgs {orgs} --secrets s.json --under kv1=9 --under kv2 --force");
        peaks.push([
            ("generate", peak(folder, &generate)),
            ("inspect", peak(folder, "inspect in.csv")),
            ("rewrap", peak(folder, "rewrap in.csv -o out.csv --secrets s.json --to kv2 --force")),
            ("verify", peak(folder, "verify out.csv --source in.csv --secrets s.json")),
        ]);
    }
    for ((command, small), (_, large)) in peaks[0].into_iter().zip(peaks[1]) {
        println!("{command}: peak {small} KiB at 50,000 organizations, {large} KiB at 200,000");
        // How many batches are in work at once differs from run to run, by 16 MiB at the most; the
        // file grew by 480 MB.
        assert!(large <= small + (16 << 10), "{command} grew from {small} to {large} KiB");
        assert!(large <= 64 << 10, "{command} took {large} KiB");
    }
}
