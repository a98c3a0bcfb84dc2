//! Keys as arguments: files, never values.

use crate::people::{count, quoted};
use crate::status::Usage;
use crate::warning::Warning;
use crate::{passphrase, paths};
use anyhow::Context as _;
use clap::Args;
use rekek::keyring::{Key, Keyring, SECRETS_BYTES_MAX};
use rekek::report::RewrapReport;
use rekek::rewrap::Reason;
use rekek::row::{KeyId, printable};
use rekek::secret::wipe_stack;
use rekek::signer::Signer;
use rekek::stop::Stop;
use rekek::table::{open_interruptible, standard_input};
use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Missing keys that are named on stderr; the JSON lists them all.
const SHOWN_MISSING: usize = 10;

/// Where the keys are.
#[derive(Args, Clone)]
pub struct KeyArguments {
    /// Site secrets, JSON or YAML, with machine_identity.encryption_keys.<KEY_ID> = base64 of 32 bytes, for
    /// instance secrets.json; `-` is standard input [repeatable]
    #[arg(long, value_name = "FILE", num_args = 1)]
    pub secrets: Vec<PathBuf>,

    /// A key as `vault kv get -format=json` (or `bao`) prints it, for instance kv2=kv2.json [repeatable]
    #[arg(long, value_name = "KEY_ID=FILE", value_parser = vault_key)]
    pub vault_key: Vec<VaultKey>,
}

/// `KEY_ID=FILE`.
#[derive(Debug, Clone)]
pub struct VaultKey {
    /// The key's id.
    pub id: KeyId,
    /// What was printed.
    pub path: PathBuf,
}

fn vault_key(argument: &str) -> Result<VaultKey, String> {
    let (id, path) = argument.split_once('=').ok_or("it is spelled KEY_ID=FILE")?;
    if path.is_empty() {
        return Err("no file stands behind the `=`".into());
    }
    Ok(VaultKey { id: id.parse().map_err(|e| format!("{e}"))?, path: path.into() })
}

impl KeyArguments {
    /// All files that hold keys.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.secrets.iter().map(PathBuf::as_path).chain(self.vault_key.iter().map(|v| v.path.as_path()))
    }

    /// Whether no file was given.
    pub fn is_empty(&self) -> bool {
        self.secrets.is_empty() && self.vault_key.is_empty()
    }

    /// The arguments as one would type them again, each with a blank before it.
    pub fn as_typed(&self) -> String {
        let secrets =
            self.secrets.iter().map(|path| format!(" --secrets {}", quoted(&path.display().to_string())));
        let vault = self.vault_key.iter().map(|VaultKey { id, path }| {
            format!(" --vault-key {}", quoted(&format!("{id}={}", path.display())))
        });
        secrets.chain(vault).collect()
    }

    /// What is said of keys that were missing: how many fields name each, and where it was looked for.
    pub fn missing(&self, fields_by_key: &BTreeMap<String, u64>) -> Vec<String> {
        let looked: Vec<_> = self.paths().map(|path| path.display().to_string()).collect();
        let looked = looked.join(", ");
        let line = |(key, n): (&String, &u64)| {
            let fields =
                if *n == 1 { "1 field names it".to_owned() } else { format!("{} fields name it", count(*n)) };
            format!(
                "the key {key} is missing: {fields}, and it is not in {looked}; give the file that holds it with \
                 another --secrets FILE or --vault-key {key}=FILE"
            )
        };
        let mut lines: Vec<_> = fields_by_key.iter().take(SHOWN_MISSING).map(line).collect();
        if let Some(more @ 1..) = fields_by_key.len().checked_sub(SHOWN_MISSING) {
            let more = count(more as u64);
            lines.push(format!("{more} more keys are missing; missing_keys in the JSON report lists them"));
        }
        lines
    }

    /// Reads them all.
    pub fn load(&self, stop: &Stop) -> anyhow::Result<Keyring> {
        if self.is_empty() {
            return Err(Usage("no keys are given: name the site's secrets with --secrets FILE".into()).into());
        }
        self.vault_key.iter().try_for_each(|VaultKey { path, .. }| paths::refuse_secret(path))?;
        let mut keyring = Keyring::new();
        for path in &self.secrets {
            let secret = read_secret(path, stop)?;
            keyring.add_secrets(&path.display().to_string(), &secret.bytes)?;
            secret.warn();
        }
        for VaultKey { id, path } in &self.vault_key {
            let secret = read_secret(path, stop)?;
            keyring.add_vault(id, &path.display().to_string(), &secret.bytes)?;
            secret.warn();
        }
        wipe_stack();
        Ok(keyring)
    }
}

/// What is said of each key that opened nothing of what names it, as one of another site would: what to
/// compare.
pub fn other_keys(keyring: &Keyring, made: &RewrapReport) -> Vec<String> {
    let opens_nothing = |id: &str| {
        let reason = Reason::DoesNotOpen { key_id: printable(id) }.to_string();
        !made.fields_by_source_key.contains_key(id)
            && made.failures.iter().any(|f| f.error.ends_with(&reason))
    };
    let keys = keyring.keys().iter().filter(|key| opens_nothing(key.id().as_str()));
    let line = |key: &Key| {
        let (id, fingerprint) = (printable(key.id().as_str()), key.fingerprint());
        format!(
            "nothing opens under the key {id}: compare the fingerprint of {id}, {fingerprint}, with that of the \
             site's; it may be another site's key"
        )
    };
    keys.map(line).collect()
}

/// The key that signs manifests, from the file that minisign made; the passphrase of an encrypted
/// one is asked on the terminal.
pub fn read_signer(path: &Path, stop: &Stop) -> anyhow::Result<Signer> {
    let secret = read_wiped_file(path, stop)
        .with_context(|| format!("cannot read the signing key {}", path.display()))?;
    let name = path.display().to_string();
    let signer = Signer::read(&name, &secret.bytes, || passphrase::ask(&name, stop))?;
    secret.warn();
    Ok(signer)
}

/// What a file holds that is said to hold keys, in memory that is wiped.
pub struct SecretFile {
    /// What was read.
    pub bytes: Zeroizing<Vec<u8>>,
    readable: Option<Warning>,
}

impl SecretFile {
    /// Now that it is known to hold keys: warns if others can read it.
    pub fn warn(self) {
        self.readable.into_iter().for_each(Warning::say);
    }
}

/// Reads a file that holds keys.
pub fn read_secret(path: &Path, stop: &Stop) -> anyhow::Result<SecretFile> {
    let cannot = || format!("cannot read the secrets {}", path.display());
    if path.as_os_str() == "-" {
        let bytes = standard_input(stop).and_then(|mut stdin| read_wiped(&mut stdin, 0));
        return Ok(SecretFile { bytes: bytes.with_context(cannot)?, readable: None });
    }
    read_wiped_file(path, stop).with_context(cannot)
}

fn read_wiped_file(path: &Path, stop: &Stop) -> std::io::Result<SecretFile> {
    let (mut file, metadata) = open_interruptible(path, stop)?;
    let mode = metadata.mode() & 0o777;
    let readable = (mode & 0o077 != 0).then(|| Warning::SecretsReadable { path: path.to_owned(), mode });
    Ok(SecretFile { bytes: read_wiped(&mut file, metadata.len())?, readable })
}

/// Reads to the end without leaving a copy behind in memory that was outgrown.
fn read_wiped(from: &mut dyn Read, expected: u64) -> std::io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(vec![0u8; (expected.min(SECRETS_BYTES_MAX) as usize).max(4096) + 1]);
    let mut filled = 0;
    loop {
        match from.read(&mut bytes[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
        if filled as u64 > SECRETS_BYTES_MAX {
            return Err(std::io::Error::other(format!("it is longer than {SECRETS_BYTES_MAX} bytes")));
        }
        if filled == bytes.len() {
            let mut larger = Zeroizing::new(vec![0u8; bytes.len() * 2]);
            larger[..filled].copy_from_slice(&bytes);
            bytes = larger;
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}
