//! The public key that a manifest must be signed with, as an argument: the key, or its file.

use crate::paths;
use clap::Args;
use rekek::report::SignatureFile;
use rekek::signature::TrustedKey;
use std::path::PathBuf;

/// Whom the operator trusts.
#[derive(Args)]
pub struct TrustedKeyArgument {
    /// Refuse a manifest that is not signed with this minisign public key: the key itself (RW…), or its file, for instance
    /// rotation.pub
    #[arg(long, value_name = "PUBKEY")]
    trusted_key: Option<String>,
}

impl TrustedKeyArgument {
    /// The file, if it is one.
    pub fn path(&self) -> Option<PathBuf> {
        let argument = self.trusted_key.as_ref()?;
        argument.parse::<TrustedKey>().is_err().then(|| argument.into())
    }

    /// The argument as one would type it again, with a blank before it; nothing if it was not given.
    #[allow(dead_code)] // rekek-site has nothing to suggest.
    pub fn as_typed(&self) -> String {
        let quoted = |argument: &String| format!(" --trusted-key {}", crate::people::quoted(argument));
        self.trusted_key.as_ref().map(quoted).unwrap_or_default()
    }

    /// Reads it.
    pub fn load(&self) -> anyhow::Result<Option<TrustedKey>> {
        let Some(argument) = &self.trusted_key else { return Ok(None) };
        if let Ok(key) = argument.parse() {
            return Ok(Some(key));
        }
        paths::refuse_secret(argument.as_ref())?;
        Ok(Some(TrustedKey::read(argument.as_ref())?))
    }
}

/// What the signer says of a signature, for people.
pub fn comment(signature: &SignatureFile) -> String {
    // Whole, since it is to be compared; a report escapes what a terminal would take for a command.
    signature.trusted_comment.replace('\t', " ")
}
