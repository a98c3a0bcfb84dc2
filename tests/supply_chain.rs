//! What rekek is built of: the licences, bans and sources of deny.toml, read here as cargo-deny
//! reads them, since that takes minutes to build (scripts/supply-chain has it check the same, and
//! known vulnerabilities where their list can be had). And where unsafe code stands.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All packages that any target or feature would build, but rekek.
fn packages() -> Vec<Value> {
    let line = "metadata --locked --offline --all-features --format-version 1";
    let output = Command::new(env!("CARGO")).args(line.split(' ')).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let packages: Vec<_> = packages.iter().filter(|package| package["name"] != "rekek").cloned().collect();
    assert!(packages.len() > 200, "{}", packages.len());
    packages
}

fn rules() -> toml::Table {
    std::fs::read_to_string(root().join("deny.toml")).unwrap().parse().unwrap()
}

fn strings<'a>(list: &'a toml::Value, of: impl Fn(&'a toml::Value) -> &'a toml::Value) -> Vec<&'a str> {
    list.as_array().unwrap().iter().map(|entry| of(entry).as_str().unwrap()).collect()
}

/// Whether a licence expression can be satisfied by the allowed licences.
fn satisfied(expression: &str, allowed: &[&str]) -> bool {
    let parsed = spdx::Expression::parse_mode(expression, spdx::ParseMode::LAX);
    parsed.unwrap_or_else(|e| panic!("{expression}: {e}")).evaluate(|needed| {
        needed.addition.is_none() && needed.license.id().is_some_and(|id| allowed.contains(&id.name))
    })
}

#[test]
fn every_licence_is_allowed_and_every_allowed_one_is_needed() {
    let (packages, rules) = (packages(), rules());
    let allowed = strings(&rules["licenses"]["allow"], |entry| entry);
    let refused = |allowed: &[&str]| -> Vec<String> {
        let licence = |package: &Value| package["license"].as_str().unwrap_or("NONE").to_owned();
        let bad = packages.iter().filter(|package| !satisfied(&licence(package), allowed));
        bad.map(|package| format!("{}: {}", package["name"], licence(package))).collect()
    };
    assert_eq!(refused(&allowed), Vec::<String>::new());
    for needless in &allowed {
        let others: Vec<_> = allowed.iter().filter(|other| *other != needless).copied().collect();
        assert!(!refused(&others).is_empty(), "{needless} is allowed, and nothing needs it");
    }
    assert!(!satisfied("GPL-3.0-only", &allowed) && !satisfied("MIT AND GPL-3.0-only", &allowed));
    assert!(satisfied("GPL-3.0-only OR MIT", &allowed) && satisfied("MIT/Apache-2.0", &allowed));
}

#[test]
fn nothing_is_built_that_is_banned_or_not_from_the_registry() {
    let (packages, rules) = (packages(), rules());
    let banned = strings(&rules["bans"]["deny"], |entry| &entry["crate"]);
    let registries = strings(&rules["sources"]["allow-registry"], |entry| entry);
    assert!(!banned.is_empty() && registries.len() == 1);
    for package in &packages {
        let (name, source) =
            (package["name"].as_str().unwrap(), package["source"].as_str().unwrap_or("none"));
        assert!(!banned.contains(&name), "{name}");
        assert_eq!(source, format!("registry+{}", registries[0]), "{name}");
    }
}

/// The one module with unsafe code. It is denied everywhere else, by Cargo.toml.
const UNSAFE: &str = "src/envelope/simd.rs";

#[test]
fn unsafe_code_stands_in_one_module() {
    let manifest: toml::Table = std::fs::read_to_string(root().join("Cargo.toml")).unwrap().parse().unwrap();
    assert_eq!(manifest["lints"]["rust"]["unsafe_code"].as_str(), Some("deny"));
    let mut files = vec![root().join("build.rs")];
    for folder in ["src", "tests", "benches", "fuzz/src", "fuzz/targets"] {
        let before = files.len();
        files.extend(sources(&root().join(folder)));
        assert!(files.len() > before, "{folder}");
    }
    assert!(files.len() > 100, "{}", files.len());
    let mut found = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let lines = text.lines().map(|line| line.split("//").next().unwrap());
        let mut words = lines.flat_map(|line| line.split(|c: char| c != '_' && !c.is_alphanumeric()));
        if words.any(|word| word == "unsafe" || word == "unsafe_code") {
            found.push(file.strip_prefix(root()).unwrap().to_str().unwrap().to_owned());
        }
    }
    // Here the words are looked for.
    found.retain(|file| file != "tests/supply_chain.rs");
    assert_eq!(found, [UNSAFE]);
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            files.extend(sources(&entry));
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            files.push(entry);
        }
    }
    files
}
