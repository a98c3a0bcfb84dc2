//! The peak of a program's memory.

use std::process::{Command, Stdio};

/// Runs a command and returns the peak of its resident memory, in KiB.
#[track_caller]
pub fn peak(mut command: Command) -> u64 {
    let mut child = command.stdout(Stdio::null()).spawn().unwrap();
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
            assert!(status.success(), "{command:?}");
            return peak;
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}
