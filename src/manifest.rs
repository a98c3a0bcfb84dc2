//! The manifest: the document that says what a file is, how it was made, and that it is whole.
//!
//! It is written last, beside its file, as `FILE.manifest.json`; that it is there means that the
//! file was finished, and signed if it was to be. It names keys by id and fingerprint and holds
//! nothing secret.

use crate::caught::caught;
use crate::publish::{self, Existing, Placed, PublishError, Staged};
use crate::report::RewrapReport;
use crate::row::{KeyId, OrgId, Sha256Digest};
use crate::signature;
use crate::table::{FileFacts, Format, Input};
use serde::{Deserialize, Serialize};
use std::io::{Read, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// The format's name and version.
pub const FORMAT: &str = "rekek-manifest/1";

/// Bytes that a manifest may have: one that lists a million organizations fits.
const BYTES_MAX: u64 = 64 << 20;

/// The document: see the module.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Always [`FORMAT`].
    pub format: String,
    /// What wrote it.
    pub tool: Tool,
    /// When (RFC 3339, UTC).
    pub created_at: String,
    /// The key that every envelope of an output is under; null for an export.
    pub target_key_id: Option<KeyId>,
    /// The organizations that were selected; null is all of them.
    pub scope: Option<Vec<OrgId>>,
    /// The keys that opened a field, and the target.
    pub keys: Vec<KeyUse>,
    /// Seals under the target key, against the limit of NIST SP 800-38D, 8.3.
    pub seals: Seals,
    /// The file that was read; null for an export.
    pub input: Option<TableFile>,
    /// The file that this manifest is of.
    pub output: TableFile,
    /// The re-wrap's report, without its entry for the manifest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report: Option<RewrapReport>,
    /// For an export: the snapshot of the database that it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<Snapshot>,
}

/// A program and its version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tool {
    /// The program's name.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// What a key did in a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyUse {
    /// The key's id.
    pub key_id: KeyId,
    /// First 16 hex digits of HMAC-SHA-256, under the key, of a fixed text: two people can compare
    /// keys by it without showing them.
    pub fingerprint: String,
    /// Fields of the input that this key opened.
    pub fields_opened: u64,
}

/// Envelopes under the target key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seals {
    /// Sealed by this run.
    pub this_run: u64,
    /// Found in the input.
    pub already_in_export: u64,
}

/// A table's file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableFile {
    /// Its name as it was given, without the folders; `-` is standard input or output.
    pub file: String,
    /// Its format.
    pub format: Format,
    /// Its length in bytes.
    pub bytes: u64,
    /// SHA-256 of its bytes.
    pub sha256: Sha256Digest,
    /// Its rows.
    pub rows: u64,
}

/// A moment of a database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The database's own time when the snapshot was taken (RFC 3339, UTC).
    pub taken_at: String,
    /// The server's version, as it says it.
    pub server_version: String,
}

impl TableFile {
    /// The entry for a file. Of `path` only the last part is kept: a folder's name is nobody's
    /// business on the other side of the gap.
    pub fn new(path: &Path, format: Format, facts: FileFacts, rows: u64) -> Self {
        let file = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        TableFile { file, format, bytes: facts.bytes, sha256: facts.sha256, rows }
    }
}

/// A file is not the one that its manifest describes. Each says how to go on.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It could not be read.
    #[error("cannot read the manifest {path}: {source}", path = .path.display())]
    Io {
        /// The manifest.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not a manifest.
    #[error("{path} is not a manifest of format {FORMAT}: {what}", path = .path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Where it departs from the format.
        what: String,
    },
    /// It would be longer than what is read.
    #[error("the manifest {path} would have more than {BYTES_MAX} bytes; select fewer organizations",
        path = .path.display())]
    TooLong {
        /// The manifest.
        path: PathBuf,
    },
    /// Length, digest or number of rows differ.
    #[error("{file} is not the file that its manifest describes: {what}; bring both over again")]
    Mismatch {
        /// The file that was compared.
        file: String,
        /// What differs.
        what: String,
    },
}

impl Manifest {
    /// Where the manifest of `file` stands unless told otherwise.
    pub fn path_for(file: &Path) -> PathBuf {
        let mut name = file.as_os_str().to_owned();
        name.push(".manifest.json");
        name.into()
    }

    /// What a manifest describes, as the manifest's name has it; `None` where that is not the usual one.
    pub fn described_by(manifest: &Path) -> Option<PathBuf> {
        let name = manifest.file_name()?.as_encoded_bytes().strip_suffix(b".manifest.json")?;
        Some(manifest.with_file_name(std::ffi::OsStr::from_bytes(name)))
    }

    /// The document as it is written: indented JSON with a line's end.
    ///
    /// # Errors
    ///
    /// A scope so long that nobody could read the manifest again; `path` is for the message.
    pub fn to_bytes(&self, path: &Path) -> Result<Vec<u8>, ManifestError> {
        let mut bytes = serde_json::to_vec_pretty(self).expect("a manifest is plain data");
        bytes.push(b'\n');
        if bytes.len() as u64 > BYTES_MAX {
            return Err(ManifestError::TooLong { path: path.to_owned() });
        }
        Ok(bytes)
    }

    /// Reads a manifest; returns it with the SHA-256 of its bytes.
    pub fn read(path: &Path) -> Result<(Manifest, Sha256Digest), ManifestError> {
        let bytes = Self::read_bytes(path)?;
        Ok((Self::parse(path, &bytes)?, Sha256Digest::of(&bytes)))
    }

    /// The manifest beside an input, where one is there. A file of another length, which was cut or
    /// changed on its way, is refused before it is read: what it says then is of no use.
    pub fn beside(input: &Input) -> Result<Option<Manifest>, ManifestError> {
        let Some(file) = input.path() else { return Ok(None) };
        let path = Self::path_for(file);
        if !path.exists() {
            return Ok(None);
        }
        let (manifest, _) = Self::read(&path)?;
        match file.metadata() {
            Ok(metadata) if metadata.is_file() => manifest.check_length(&input.name(), metadata.len())?,
            _ => {}
        }
        Ok(Some(manifest))
    }

    /// The bytes of a manifest, to be compared with its signature before anything in them is
    /// believed.
    pub fn read_bytes(path: &Path) -> Result<Vec<u8>, ManifestError> {
        let io = |source| ManifestError::Io { path: path.to_owned(), source };
        let mut bytes = Vec::new();
        let file = publish::open_regular(path).map_err(io)?;
        file.take(BYTES_MAX + 1).read_to_end(&mut bytes).map_err(io)?;
        if bytes.len() as u64 > BYTES_MAX {
            let what = format!("it is longer than {BYTES_MAX} bytes");
            return Err(ManifestError::Format { path: path.to_owned(), what });
        }
        Ok(bytes)
    }

    /// The manifest that the bytes of `path` are.
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Manifest, ManifestError> {
        let bad = |what: String| ManifestError::Format { path: path.to_owned(), what };
        // The parser's own message could quote a value; its place cannot.
        let manifest: Manifest = caught(|| serde_json::from_slice(bytes))
            .ok_or_else(|| bad("its parser could not go on".into()))?
            .map_err(|e| bad(format!("line {}, column {}", e.line(), e.column())))?;
        if manifest.format != FORMAT {
            return Err(bad("it names another format".into()));
        }
        Ok(manifest)
    }

    /// Compares the file that this manifest is of with what was found of it; `file` is its name
    /// for the message.
    pub fn check_output(&self, file: &str, facts: FileFacts, rows: u64) -> Result<(), ManifestError> {
        self.check_length(file, facts.bytes)?;
        let told = &self.output;
        let what = if told.sha256 != facts.sha256 {
            "its SHA-256 differs".to_owned()
        } else if told.rows != rows {
            format!("it has {rows} rows, the manifest says {}", told.rows)
        } else {
            return Ok(());
        };
        Err(ManifestError::Mismatch { file: file.to_owned(), what })
    }

    fn check_length(&self, file: &str, bytes: u64) -> Result<(), ManifestError> {
        if bytes == self.output.bytes {
            return Ok(());
        }
        let what = format!("it has {bytes} bytes, the manifest says {}", self.output.bytes);
        Err(ManifestError::Mismatch { file: file.to_owned(), what })
    }
}

/// The names of an output and of all that stands beside it: one that is left from an older output
/// must never be taken for the new one's.
pub struct OutputNames {
    /// None if it goes to standard output, and only the manifest is a file.
    output: Option<PathBuf>,
    manifest: PathBuf,
}

/// What vouches for an output: the bytes of its manifest and, where that is signed, of its signature.
pub struct Vouchers<'a> {
    /// The manifest.
    pub manifest: &'a [u8],
    /// Its signature.
    pub signature: Option<&'a [u8]>,
}

impl OutputNames {
    /// The names for an output; the manifest's where it is told.
    pub fn new(output: &Path, manifest: Option<&Path>) -> Self {
        let manifest = manifest.map_or_else(|| Manifest::path_for(output), Path::to_owned);
        OutputNames { output: Some(output.to_owned()), manifest }
    }

    /// The names for an output that goes to standard output.
    pub fn of_stdout(manifest: &Path) -> Self {
        OutputNames { output: None, manifest: manifest.to_owned() }
    }

    /// Where the manifest goes.
    pub fn manifest(&self) -> &Path {
        &self.manifest
    }

    /// The manifest that was told and the one that is looked for unless told.
    fn manifests(&self) -> Vec<PathBuf> {
        let mut names = vec![self.manifest.clone()];
        names.extend(self.output.as_deref().map(Manifest::path_for));
        names.dedup();
        names
    }

    /// What must not be left there from an older output: manifests first, so that an output of which
    /// only a part was removed has none.
    pub fn beside(&self) -> Vec<PathBuf> {
        let mut names = self.manifests();
        let signatures: Vec<_> = names.iter().map(|name| signature::path_for(name)).collect();
        names.extend(signatures);
        names
    }

    /// Whether what is there, without a manifest, is what a run left that was stopped before the
    /// manifest had its name. It is of no use, and the next run replaces it.
    pub fn is_left_over(&self) -> bool {
        let there = |name: &PathBuf| name.symlink_metadata().is_ok();
        let signatures = self.manifests().into_iter().map(|name| signature::path_for(&name));
        let mut left = self.output.iter().cloned().chain(signatures).filter(there).peekable();
        !self.manifests().iter().any(there)
            && left.peek().is_some()
            && left.all(|name| publish::is_unfinished(&name))
    }

    /// Looks, before any work is done, whether all of them may be written.
    pub fn check(&self, existing: Existing) -> Result<(), PublishError> {
        if existing == Existing::Refuse && self.is_left_over() {
            return Ok(());
        }
        if let Some(output) = &self.output {
            let file = output.symlink_metadata().is_ok_and(|m| m.is_file());
            if existing == Existing::Refuse && file && !self.manifests().iter().any(|name| name.exists()) {
                return Err(PublishError::WithoutManifest(output.clone()));
            }
            publish::check(output, existing)?;
        }
        self.beside().iter().try_for_each(|name| publish::check(name, existing))
    }

    /// Gives the output its name, then the signature, and the manifest last: where it is, the others
    /// are. All are on the disk before any has a name, and before anything that they replace is gone.
    /// If one cannot follow, the names before it go again; if the run is killed in between, they stay
    /// with a mark, by which the next run knows them ([`OutputNames::is_left_over`]).
    pub fn publish(
        &self,
        mut output: Option<Staged>,
        vouchers: Option<Vouchers<'_>>,
        existing: Existing,
    ) -> Result<(), PublishError> {
        let mut after = Vec::new();
        if let Some(Vouchers { manifest, signature }) = vouchers {
            if let Some(signature) = signature {
                let mut signature = staged(&signature::path_for(&self.manifest), signature)?;
                signature.mark_unfinished();
                after.push(signature);
            }
            after.push(staged(&self.manifest, manifest)?);
        }
        if let Some(output) = &mut output {
            if !after.is_empty() {
                output.mark_unfinished();
            }
            output.sync()?;
        }
        let alone = publish::lock_folder(self.output.as_deref().unwrap_or(&self.manifest));
        // (With the lock, no other run can be on its way from this output to its manifest.)
        let left_over = alone.is_held() && self.is_left_over();
        if existing == Existing::Replace {
            output = output.map(Staged::aside).transpose()?;
            after = after.into_iter().map(Staged::aside).collect::<Result<_, _>>()?;
        }
        if existing == Existing::Replace || left_over {
            self.beside().iter().try_for_each(|name| publish::remove(name))?;
        }
        let mut placed = Vec::new();
        let first = output.map(|output| output.place(if left_over { Existing::Replace } else { existing }));
        placed.extend(first.transpose()?);
        // (What they would replace is gone already.)
        for file in after {
            match file.place(Existing::Refuse) {
                Ok(file) => placed.push(file),
                Err(error) => {
                    // All of them, though one cannot be taken back: the output, which is the last, is
                    // what an operator must know of.
                    let left = placed.into_iter().rev().filter_map(|placed| {
                        let path = placed.path().to_owned();
                        placed.take_back().err().map(|source| (path, Box::new(source)))
                    });
                    let last = left.collect::<Vec<_>>().pop();
                    let missing = |(path, source)| PublishError::ManifestMissing { path, source };
                    return Err(last.map_or(error, missing));
                }
            }
        }
        placed.into_iter().for_each(Placed::finish);
        Ok(())
    }
}

/// A small file that is whole and on the disk, and has no name yet.
fn staged(path: &Path, bytes: &[u8]) -> Result<Staged, PublishError> {
    let mut staged = Staged::create(path)?;
    let written = staged.write_all(bytes);
    written.map_err(|source| PublishError::Io { path: path.to_owned(), source })?;
    staged.sync()?;
    Ok(staged)
}

/// The present time as a manifest spells it: RFC 3339, UTC, whole seconds.
pub fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vouchers(signature: Option<&[u8]>) -> Option<Vouchers<'_>> {
        Some(Vouchers { manifest: b"a manifest", signature })
    }

    #[test]
    fn a_run_that_comes_second_leaves_the_signature_of_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.json");
        let names = OutputNames::of_stdout(&path);
        names.publish(None, vouchers(Some(b"the first")), Existing::Refuse).unwrap();
        for signature in [None, Some(b"the second".as_slice())] {
            let second = names.publish(None, vouchers(signature), Existing::Refuse);
            assert!(matches!(second, Err(PublishError::Exists(_))), "{second:?}");
            assert_eq!(std::fs::read(signature::path_for(&path)).unwrap(), b"the first");
        }
    }

    #[test]
    fn a_signature_whose_manifest_cannot_follow_goes_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.json");
        std::fs::create_dir(&path).unwrap();
        let failed = OutputNames::of_stdout(&path).publish(None, vouchers(Some(b"signed")), Existing::Refuse);
        assert!(matches!(failed, Err(PublishError::NotRegular { .. })), "{failed:?}");
        assert!(!signature::path_for(&path).exists());
    }

    #[test]
    fn a_manifest_that_could_not_be_read_again_is_not_written() {
        let digest = "0".repeat(64);
        let file = serde_json::json!({"file": "", "format": "csv", "bytes": 0, "sha256": digest, "rows": 0});
        let mut manifest: Manifest = serde_json::from_value(serde_json::json!({
            "format": FORMAT, "tool": {"name": "", "version": ""}, "created_at": "", "target_key_id": null,
            "scope": null, "keys": [], "seals": {"this_run": 0, "already_in_export": 0}, "input": null, "output": file,
        }))
        .unwrap();
        let path = Path::new("m.json");
        assert_eq!(Manifest::parse(path, &manifest.to_bytes(path).unwrap()).unwrap(), manifest);
        let long: OrgId = "a".repeat(1000).parse().unwrap();
        manifest.scope = Some(vec![long; 67_000]);
        let error = manifest.to_bytes(path).unwrap_err().to_string();
        let expected = "the manifest m.json would have more than 67108864 bytes; select fewer organizations";
        assert_eq!(error, expected);
    }

    #[test]
    fn a_signature_that_a_dead_run_left_alone_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.json");
        let names = OutputNames::of_stdout(&path);
        let mut left = staged(&signature::path_for(&path), b"of a dead run").unwrap();
        left.mark_unfinished();
        drop(left.place(Existing::Refuse).unwrap());
        names.check(Existing::Refuse).unwrap();
        names.publish(None, vouchers(Some(b"signed")), Existing::Refuse).unwrap();
        assert_eq!(std::fs::read(signature::path_for(&path)).unwrap(), b"signed");
        // Whole, it is not taken for one.
        std::fs::remove_file(&path).unwrap();
        assert!(!names.is_left_over());
        assert!(matches!(names.check(Existing::Refuse), Err(PublishError::Exists(_))));
    }
}
