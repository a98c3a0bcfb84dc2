//! What is shipped is each binary built with its own feature alone. These tests read what cargo
//! would build: neither side of the air gap has the other's code.

use std::process::Command;

/// The names of all crates that are built for a feature alone, build scripts' included.
fn crates(feature: &str) -> Vec<String> {
    let line = format!(
        "tree --locked --offline --no-default-features --features {feature} -e normal,build --prefix none --format {{p}}"
    );
    let tree = Command::new(env!("CARGO"))
        .args(line.split(' '))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let text = String::from_utf8(tree.stdout).unwrap();
    let names: Vec<String> = text.lines().filter_map(|l| l.split(' ').next()).map(str::to_owned).collect();
    assert!(names.contains(&"rekek".to_owned()) && names.len() > 50, "{names:?}");
    names
}

#[track_caller]
fn without(feature: &str, unwanted: &[&str]) {
    let there = crates(feature);
    for name in unwanted {
        assert!(!there.iter().any(|c| c == name), "{name} is built for the feature {feature}");
    }
}

/// It can say whether a signature holds and make none: what does is minisign-verify.
#[test]
fn the_sites_side_has_no_code_that_could_sign() {
    without("site", &["ed25519-dalek", "curve25519-dalek", "scrypt", "blake2", "minisign"]);
    assert!(crates("site").contains(&"minisign-verify".to_owned()));
}

/// TLS brings its own AES (ring); nothing there can open an envelope.
#[test]
fn the_sites_side_has_no_code_that_could_open_an_envelope() {
    without(
        "site",
        &["aes-gcm", "aes", "p256", "ghash", "elliptic-curve", "ecdsa", "pem-rfc7468", "serde-saphyr"],
    );
    assert!(crates("site").contains(&"sqlx".to_owned()));
}

#[test]
fn the_keys_side_has_no_code_that_could_reach_a_database() {
    without(
        "rewrap",
        &["sqlx", "sqlx-core", "sqlx-postgres", "sqlx-sqlite", "libsqlite3-sys", "tokio", "rustls", "ring"],
    );
    assert!(crates("rewrap").contains(&"aes-gcm".to_owned()));
}
