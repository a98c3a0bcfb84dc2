//! The public key that a manifest must be signed with, as an argument: the key, or its file.

use clap::Args;
use rekek::report::SignatureFile;
use rekek::signature::{SignatureError, TrustedKey};
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
    pub fn load(&self) -> Result<Option<TrustedKey>, SignatureError> {
        let Some(argument) = &self.trusted_key else { return Ok(None) };
        argument.parse().or_else(|_| TrustedKey::read(argument.as_ref())).map(Some)
    }
}

/// What the signer says of a signature, for people.
pub fn comment(signature: &SignatureFile) -> String {
    // Whole, since it is to be compared; a report escapes what a terminal would take for a command.
    signature.trusted_comment.replace('\t', " ")
}
