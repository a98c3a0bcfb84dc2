//! `rekek keygen`: the one place where a key is printed, or added to a secrets file.

use crate::PROGRAM;
use crate::keys::read_secret;
use anyhow::Context as _;
use base64::Engine as _;
use clap::Args;
use rekek::keyring::{fingerprint, generate, insert_into_secrets, new_secrets};
use rekek::publish::{self, Existing, PublishError};
use rekek::row::{KeyId, could_be_key, printable};
use rekek::stop::Stop;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use zeroize::Zeroizing;

use crate::people::{print_document, say};
use crate::status::{Outcome, Usage};
use crate::warning::Warning;

/// The arguments as typed.
#[derive(Args)]
pub struct Arguments {
    /// The new key's id, for instance kv3
    key_id: KeyId,

    /// Add it to this JSON secrets file, keeping everything else (a file that is not there is begun);
    /// otherwise the key is printed
    #[arg(long, value_name = "FILE")]
    secrets: Option<PathBuf>,
}

/// Does it.
pub fn run(arguments: &Arguments, stop: &Stop) -> anyhow::Result<Outcome> {
    let id = &arguments.key_id;
    if could_be_key(id.as_str()) {
        return Err(Usage(
            "the key's id could be a key itself (not shown), which no secrets file may have; choose a name such as kv3"
                .into(),
        )
        .into());
    }
    let shown = printable(id.as_str());
    let key = generate().context("the operating system gave no random bytes")?;
    let fingerprint = fingerprint(&key);
    let Some(path) = &arguments.secrets else {
        let base64 = base64::engine::general_purpose::STANDARD;
        let text = Zeroizing::new(base64.encode(key.expose_key()));
        // Straight to the descriptor: the buffer of std's standard output is never wiped.
        let mut stdout =
            File::from(rustix::io::dup(rustix::stdio::stdout()).context("cannot print the key")?);
        stdout
            .write_all(text.as_bytes())
            .and_then(|()| stdout.write_all(b"\n"))
            .context("cannot print the key")?;
        let metadata = stdout.metadata().ok().filter(|metadata| metadata.is_file());
        if let Some(mode) =
            metadata.map(|metadata| metadata.permissions().mode() & 0o7777).filter(|mode| mode & 0o077 != 0)
        {
            Warning::SecretsReadable { path: "standard output".into(), mode }.say();
        }
        say(format_args!(
            "{PROGRAM}: this is the new key {shown} (fingerprint {fingerprint}); put it away safely"
        ));
        return Ok(Outcome::Done);
    };
    if path.as_os_str() == "-" {
        return Err(Usage("a key cannot be added to standard input; name a file".into()).into());
    }
    let name = path.display().to_string();
    // What must not be tried again, whatever becomes of the line that says so.
    let is_there = || {
        format!(
            "the new key {shown} (fingerprint {fingerprint}) is in {name}; only this could not be printed"
        )
    };
    if path.symlink_metadata().is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound) {
        let begun = publish::publish_bytes(path, new_secrets(id, &key).as_bytes(), Existing::Refuse);
        begun.map_err(|error| match error {
            PublishError::Exists(_) => {
                anyhow::anyhow!("another has begun {name} at this moment; run it again to add the key to it")
            }
            error => error.into(),
        })?;
        print_document(&format!("began {name} with the new key {shown} (fingerprint {fingerprint})\n"))
            .with_context(is_there)?;
        return Ok(Outcome::Done);
    }
    publish::rewrite(path, |file| -> anyhow::Result<Zeroizing<Vec<u8>>> {
        let name = file.display().to_string();
        let secret = read_secret(file, stop)?;
        let text = std::str::from_utf8(&secret.bytes).with_context(|| format!("{name} is not text"))?;
        let text = Zeroizing::new(insert_into_secrets(&name, text, id, &key)?.as_bytes().to_vec());
        secret.warn();
        Ok(text)
    })?;
    print_document(&format!("added the new key {shown} (fingerprint {fingerprint}) to {name}\n"))
        .with_context(is_there)?;
    Ok(Outcome::Done)
}
