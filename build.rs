//! Tells the programs which commit and which features they are built from, for `--version`.
//!
//! Without git, or in an unpacked source archive, the commit is unknown and the build goes on. It
//! runs again only when HEAD has moved.

use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let commit = commit().unwrap_or_else(|| "unknown".into());
    println!("cargo::rustc-env=REKEK_COMMIT={commit}");
    let features = ["rewrap", "site"]
        .into_iter()
        .filter(|feature| std::env::var_os(format!("CARGO_FEATURE_{}", feature.to_uppercase())).is_some());
    println!("cargo::rustc-env=REKEK_FEATURES={}", features.collect::<Vec<_>>().join(", "));
    println!("cargo::rustc-env=REKEK_TARGET={}", std::env::var("TARGET").unwrap_or_default());
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}

fn commit() -> Option<String> {
    // An archive may have been unpacked inside somebody else's repository.
    let here = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR")?);
    let top = PathBuf::from(git(&["rev-parse", "--show-toplevel"])?);
    if top.canonicalize().ok()? != here.canonicalize().ok()? {
        return None;
    }
    // What moves with HEAD: itself on a checkout, its log on a commit. One that is not there is not
    // watched, or the build would begin anew each time.
    for name in ["HEAD", "logs/HEAD"] {
        let path = git(&["rev-parse", "--git-path", name])?;
        if Path::new(&path).exists() {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    let date = git(&["show", "--no-patch", "--format=%cs", "HEAD"])?;
    Some(format!("{} of {date}", git(&["rev-parse", "--short=12", "HEAD"])?))
}
