//! The site's configuration file, as far as rekek reads it: which key the service writes under.
//!
//! It owns one table of a TOML document, `[machine_identity]`; whatever else stands there is not
//! looked at, and no value of it gets into a message.

use crate::caught::caught;
use crate::row::KeyId;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// Bytes that a configuration file may have.
const BYTES_MAX: u64 = 1 << 20;

/// What `[machine_identity]` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteConfig {
    /// `enabled`, where it is there.
    pub enabled: Option<bool>,
    /// `current_encryption_key_id`: the key that the service seals under.
    pub current_encryption_key_id: KeyId,
}

/// Why a configuration file could not be used.
#[derive(Debug, thiserror::Error)]
pub enum SiteConfigError {
    /// It could not be read.
    #[error("cannot read the site configuration {path}: {source}", path = .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not TOML.
    #[error("the site configuration {path} is not TOML: line {line}, column {column}", path = .path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line of the first fault, from 1.
        line: usize,
        /// Its column, in characters from 1.
        column: usize,
    },
    /// An entry that is needed is not there, or is not what it should be.
    #[error("the site configuration {path}: {entry} {what}", path = .path.display())]
    Entry {
        /// The file.
        path: PathBuf,
        /// The entry, with its table.
        entry: &'static str,
        /// What is wrong.
        what: &'static str,
    },
}

/// What is to be said of the configuration of a service that does not use its master key.
#[derive(Debug, thiserror::Error)]
#[error("{path}: machine_identity.enabled is false: this site does not use its master key; see that it is the right file",
    path = .0.display())]
pub struct Disabled(PathBuf);

const TABLE: &str = "machine_identity";
const ENABLED: &str = "machine_identity.enabled";
const CURRENT: &str = "machine_identity.current_encryption_key_id";

impl SiteConfig {
    /// Whether the service, whose configuration was read from `path`, does not use its master key.
    pub fn disabled(&self, path: &Path) -> Option<Disabled> {
        (self.enabled == Some(false)).then(|| Disabled(path.to_owned()))
    }

    /// Reads the file at `path`.
    pub fn read(path: &Path) -> Result<SiteConfig, SiteConfigError> {
        let io = |source| SiteConfigError::Io { path: path.to_owned(), source };
        let mut text = String::new();
        let file = crate::publish::open_regular(path).map_err(io)?;
        file.take(BYTES_MAX + 1).read_to_string(&mut text).map_err(io)?;
        if text.len() as u64 > BYTES_MAX {
            return Err(io(std::io::ErrorKind::FileTooLarge.into()));
        }
        // The parser's own message could quote the line; its place cannot.
        let syntax = |byte| {
            let (line, column) = place(&text, byte);
            SiteConfigError::Syntax { path: path.to_owned(), line, column }
        };
        let document: toml::Table = caught(|| toml::from_str(&text))
            .ok_or_else(|| syntax(0))?
            .map_err(|e| syntax(e.span().map_or(0, |span| span.start)))?;
        let bad = |entry, what| SiteConfigError::Entry { path: path.to_owned(), entry, what };
        let table = match document.get(TABLE) {
            None => return Err(bad(CURRENT, "is missing")),
            Some(value) => value.as_table().ok_or_else(|| bad(TABLE, "is not a table"))?,
        };
        let enabled = match table.get("enabled") {
            None => None,
            Some(value) => Some(value.as_bool().ok_or_else(|| bad(ENABLED, "is neither true nor false"))?),
        };
        let current = table.get("current_encryption_key_id").ok_or_else(|| bad(CURRENT, "is missing"))?;
        let current = current.as_str().ok_or_else(|| bad(CURRENT, "is not a string"))?;
        let current_encryption_key_id =
            current.parse().map_err(|_| bad(CURRENT, "is no key id: those are 1 to 255 bytes long"))?;
        Ok(SiteConfig { enabled, current_encryption_key_id })
    }
}

/// Line and column, both from 1, of a byte of `text`.
pub(crate) fn place(text: &str, byte: usize) -> (usize, usize) {
    let before = &text.as_bytes()[..byte.min(text.len())];
    let line_start = before.iter().rposition(|b| *b == b'\n').map_or(0, |i| i + 1);
    let line = 1 + before.iter().filter(|b| **b == b'\n').count();
    (line, 1 + String::from_utf8_lossy(&before[line_start..]).chars().count())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: impl AsRef<[u8]>) -> Result<SiteConfig, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("site.toml");
        std::fs::write(&path, text).unwrap();
        let shown = format!("{}: ", path.display());
        SiteConfig::read(&path)
            .map_err(|e| e.to_string().replace(&shown, "").replace(path.to_str().unwrap(), "F"))
    }

    fn config(enabled: Option<bool>, key: &str) -> SiteConfig {
        SiteConfig { enabled, current_encryption_key_id: key.parse().unwrap() }
    }

    #[test]
    fn the_table_is_read_and_the_rest_let_be() {
        let whole = "other = 1\n[machine_identity]\nenabled = true\ncurrent_encryption_key_id = \"kv2\"\nx = [1]\n[y]\n";
        assert_eq!(read(whole), Ok(config(Some(true), "kv2")));
        assert_eq!(read("machine_identity.current_encryption_key_id = 'k'"), Ok(config(None, "k")));
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = SiteConfig::read(Path::new("no/such/site.toml")).unwrap_err().to_string();
        assert!(error.starts_with("cannot read the site configuration no/such/site.toml: "), "{error}");
    }

    #[test]
    fn a_fault_is_placed_and_no_value_is_quoted() {
        let table = "[machine_identity]\n";
        let cases = [
            ("".into(), "machine_identity.current_encryption_key_id is missing"),
            (table.into(), "machine_identity.current_encryption_key_id is missing"),
            ("machine_identity = 'hush'".into(), "machine_identity is not a table"),
            (
                format!("{table}current_encryption_key_id = 7"),
                "machine_identity.current_encryption_key_id is not a string",
            ),
            (
                format!("{table}current_encryption_key_id = ''"),
                "machine_identity.current_encryption_key_id is no key id: those are 1 to 255 bytes long",
            ),
            (
                format!("{table}enabled = 'hush'\ncurrent_encryption_key_id = 'kv2'"),
                "machine_identity.enabled is neither true nor false",
            ),
            (format!("{table}é = 'hush' hush\n"), "is not TOML: line 2, column 12"),
            (format!("{table}enabled = true\nenabled = true\n"), "is not TOML: line 3, column 1"),
        ];
        for (text, expected) in cases {
            let error = read(&text).unwrap_err();
            assert!(error.ends_with(expected), "{text:?}: {error}");
            assert!(!error.contains("hush"), "{error}");
        }
        assert!(read(b"\xff").unwrap_err().contains("UTF-8"));
    }
}
