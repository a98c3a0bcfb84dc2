//! `rekek generate`.

use crate::people::{self, Report};
use crate::progress::ProgressArgument;
use crate::status::{Outcome, Usage};
use crate::{keys::KeyArguments, paths, process};
use anyhow::Context as _;
use clap::Args;
use rekek::generate::Generation;
use rekek::publish::{self, Existing};
use rekek::row::{KeyId, printable};
use rekek::stop::Stop;
use rekek::table::{Compression, Format};
use std::path::PathBuf;

/// The arguments as typed.
#[derive(Args)]
pub struct Arguments {
    /// The export to make, for instance made.csv
    #[arg(short, long, value_name = "OUTPUT")]
    output: PathBuf,

    /// How many organizations, for instance 1000
    #[arg(long, value_name = "N")]
    orgs: u64,

    #[command(flatten)]
    keys: KeyArguments,

    /// A key to seal under, with its share of the fields, for instance kv1=9 or kv2=0.5 [default share: 1]
    /// [repeatable]
    #[arg(long, value_name = "KEY_ID[=SHARE]", required = true, value_parser = share)]
    under: Vec<Share>,

    /// Layout and plaintexts: the same seed gives the same ones. Nonces always differ
    #[arg(long, default_value_t = 0)]
    seed: u64,

    /// Replace a file that is there already
    #[arg(long)]
    force: bool,

    /// Threads to work with [default: one a core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,

    #[command(flatten)]
    progress: ProgressArgument,

    /// Format of the output [default: by its name]
    #[arg(long, value_name = "FORMAT")]
    output_format: Option<Format>,

    /// How the output is compressed
    #[arg(long, value_enum, default_value_t, value_name = "HOW")]
    compression: Compression,
}

#[derive(Debug, Clone)]
struct Share {
    id: KeyId,
    share: f64,
}

fn share(argument: &str) -> Result<Share, String> {
    let (id, share) = match argument.rsplit_once('=') {
        None => (argument, 1.0),
        Some((id, share)) => {
            (id, share.parse::<f64>().map_err(|_| "the share is a number, such as 9 or 0.5")?)
        }
    };
    if !(share.is_finite() && share > 0.0) {
        return Err("the share is a number above 0".into());
    }
    Ok(Share { id: id.parse().map_err(|e| format!("{e}"))?, share })
}

/// Does it.
pub fn run(arguments: &Arguments, stop: &Stop) -> anyhow::Result<Outcome> {
    let read: Vec<_> = arguments.keys.paths().map(|path| ("a secrets file", path.to_owned())).collect();
    paths::refuse_dashes(&[("the output", &arguments.output)])?;
    paths::refuse_clashes(&[("the output", &arguments.output)], &read)?;
    let format = arguments.output_format.or_else(|| Format::of_path(&arguments.output)).ok_or_else(|| {
        let path = arguments.output.display();
        Usage(format!("cannot tell the format of the output {path} by its name; say it with --output-format"))
    })?;
    let existing = if arguments.force { Existing::Replace } else { Existing::Refuse };
    publish::check(&arguments.output, existing)?;
    let keyring = arguments.keys.load(stop)?;
    let under = arguments
        .under
        .iter()
        .map(|Share { id, share }| {
            let at = keyring.position(id.as_str());
            Ok((
                at.ok_or_else(|| {
                    let id = printable(id.as_str());
                    anyhow::anyhow!(
                        "the key {id} is in none of the secrets given; make it first with `rekek keygen`"
                    )
                })?,
                *share,
            ))
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    let progress = arguments.progress.begin(None, Some(arguments.orgs));
    let generation = Generation {
        format,
        compression: arguments.compression,
        orgs: arguments.orgs,
        keyring: &keyring,
        under,
        seed: arguments.seed,
        threads: process::threads(arguments.threads.map(usize::from)),
        stop: stop.clone(),
    };
    let made = generation.publish(&arguments.output, existing, |rows| progress.advance(rows))?;
    drop(progress);
    let mut report = Report::default();
    report.line("output", arguments.output.display().to_string());
    report.count("rows", made.rows);
    report.count("bytes", made.bytes);
    report.line("SHA-256", made.sha256.to_string());
    people::print(&report)
        .with_context(|| format!("{} is whole; only its report failed", arguments.output.display()))?;
    Ok(Outcome::Done)
}
