//! How a re-wrap is to be done, of one site or of a fleet: the flags that both have.

use crate::keys::read_signer;
use crate::process;
use crate::status::Usage;
use crate::warning::Warning;
use clap::Args;
use rekek::pipeline::OnFailure;
use rekek::publish::Existing;
use rekek::rewrap::Rules;
use rekek::row::KeyId;
use rekek::signer::Signer;
use rekek::signing_key::SigningKeyCheck;
use rekek::site_config::SiteConfig;
use rekek::stop::Stop;
use std::path::{Path, PathBuf};

/// The arguments as typed.
#[derive(Args)]
pub struct Conduct {
    /// Do all the work, proof included, and write no output
    #[arg(long)]
    pub dry_run: bool,

    /// Publish the output although rows failed, with those rows unchanged (the exit status stays 3)
    #[arg(long)]
    keep_going: bool,

    /// Replace files that are there already
    #[arg(long)]
    force: bool,

    /// Do not open the envelopes that name the target key already, nor compare their signing keys
    #[arg(long)]
    trust_target: bool,

    /// Compare signing keys with the public values beside them
    #[arg(long, value_enum, default_value_t, value_name = "HOW")]
    check_signing_keys: SigningKeyCheck,

    /// Sign the manifest with this minisign secret key, for instance rotation.key: writes
    /// OUTPUT.manifest.json.minisig; the passphrase of an encrypted key is asked on the terminal, once
    #[arg(long, value_name = "KEYFILE")]
    pub sign: Option<PathBuf>,

    /// Threads to work with [default: one a core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
}

impl Conduct {
    /// What to do with files that are there already.
    pub fn existing(&self) -> Existing {
        if self.force { Existing::Replace } else { Existing::Refuse }
    }

    /// What to do with rows that fail.
    pub fn on_failure(&self) -> OnFailure {
        if self.keep_going { OnFailure::KeepGoing } else { OnFailure::Withhold }
    }

    /// The rules of the re-wrap.
    pub fn rules(&self) -> Rules {
        Rules { trust_target: self.trust_target, signing_keys: self.check_signing_keys }
    }

    /// Refuses a signing key on standard input: that is the secrets'.
    pub fn check_sign(&self) -> Result<(), Usage> {
        match &self.sign {
            Some(path) if path.as_os_str() == "-" => {
                Err(Usage("the signing key cannot come from standard input; name its file".into()))
            }
            _ => Ok(()),
        }
    }

    /// The key that signs, if one is to; asks for its passphrase.
    pub fn signer(&self, stop: &Stop) -> anyhow::Result<Option<Signer>> {
        self.sign.as_deref().map(|path| read_signer(path, stop)).transpose()
    }

    /// Threads to work with.
    pub fn threads(&self) -> usize {
        process::threads(self.threads.map(usize::from))
    }
}

/// The target key of a site, as its configuration has it.
pub fn target_of(config: &Path) -> anyhow::Result<KeyId> {
    let read = SiteConfig::read(config)?;
    read.disabled(config).map(Warning::SiteDisabled).into_iter().for_each(Warning::say);
    Ok(read.current_encryption_key_id)
}
