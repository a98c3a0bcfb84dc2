//! The plan of a fleet: which sites, and where the pieces of each are.
//!
//! Two spellings, one meaning. A TOML file has a `[[site]]` table for each site; its paths are
//! relative to the file's folder. A folder has a folder for each site, with its pieces under fixed
//! names. It owns both and looks into none of the pieces. A fault of the file is told by line and
//! column and never quotes a value; a piece that a site's folder lacks is that site's failure and
//! does not hide the site.

use crate::caught::caught;
use crate::row::KeyId;
use crate::site_config::place;
use crate::table::{Compression, Format};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::io::{self, Read as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Bytes that a plan may have.
const BYTES_MAX: u64 = 16 << 20;

/// What an export may be called in a site's folder.
const EXPORTS: [&str; 5] =
    ["export.csv", "export.parquet", "export.arrow", "export.feather", "export.arrows"];

/// What a site's secrets may be called.
const SECRETS: [&str; 3] = ["secrets.json", "secrets.yaml", "secrets.yml"];

/// What a site's configuration is called.
const SITE_CONFIG: &str = "site.toml";

/// A site's name: 1 to 100 bytes, not beginning with a dot, of no control characters and no `/`, so
/// that it is a file's name too.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SiteName(String);

/// A name that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a site's name has 1 to 100 bytes, no `/` and no control characters, and does not begin with a dot")]
pub struct SiteNameError;

impl SiteName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for SiteName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for SiteName {
    type Error = SiteNameError;
    fn try_from(name: String) -> Result<Self, SiteNameError> {
        let bad = |c: char| c == '/' || c.is_control();
        if !(1..=100).contains(&name.len()) || name.starts_with('.') || name.contains(bad) {
            return Err(SiteNameError);
        }
        Ok(SiteName(name))
    }
}

impl From<SiteName> for String {
    fn from(name: SiteName) -> String {
        name.0
    }
}

/// Which key a site is rotated to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// This one.
    Key(KeyId),
    /// The `current_encryption_key_id` of this site configuration.
    Config(PathBuf),
}

/// One site, with where its pieces are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// The export.
    pub input: PathBuf,
    /// Its format, where its name does not tell.
    pub input_format: Option<Format>,
    /// The output.
    pub output: PathBuf,
    /// Its format.
    pub output_format: Format,
    /// Its compression.
    pub compression: Compression,
    /// Files of site secrets.
    pub secrets: Vec<PathBuf>,
    /// Keys as Vault or OpenBao prints them.
    pub vault_keys: Vec<(KeyId, PathBuf)>,
    /// The target key.
    pub target: Target,
}

/// What a site's folder lacks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{folder} {what}", folder = .folder.display())]
pub struct MissingPieces {
    folder: PathBuf,
    what: String,
}

/// A site by its name. One of a folder may lack pieces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name, which no other site of the plan has.
    pub name: SiteName,
    /// The site.
    pub site: Result<Site, MissingPieces>,
}

/// The sites of a fleet, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// At least one.
    pub entries: Vec<Entry>,
    /// Tables that lie beside the sites' folders and belong to none: somebody may think that they do.
    pub stray: Vec<PathBuf>,
}

/// Why there is no plan. Nothing is run then.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// It could not be read.
    #[error("cannot read the plan {path}: {source}", path = .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something in it is not as it must be.
    #[error("the plan {path}, line {line}, column {column}: {what}", path = .path.display())]
    Place {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
        /// What, and what it should be.
        what: String,
    },
    /// A folder's name that is no site's.
    #[error("{path}: {error}; rename the folder", path = .path.display())]
    Name {
        /// The folder.
        path: PathBuf,
        /// Why.
        error: SiteNameError,
    },
    /// No site at all.
    #[error("{path} has no site: a plan has a [[site]] table for each, a folder has a folder for each",
        path = .path.display())]
    Empty {
        /// The file or folder.
        path: PathBuf,
    },
}

impl Plan {
    /// Reads a plan: a TOML file, or a folder of sites.
    pub fn read(path: &Path) -> Result<Plan, PlanError> {
        let plan = if path.is_dir() { of_folder(path) } else { of_file(path) }?;
        if plan.entries.is_empty() {
            return Err(PlanError::Empty { path: path.to_owned() });
        }
        Ok(plan)
    }

    /// The sites that have all their pieces' names, with their own.
    pub fn sites(&self) -> impl Iterator<Item = (&SiteName, &Site)> {
        self.entries.iter().filter_map(|entry| Some((&entry.name, entry.site.as_ref().ok()?)))
    }
}

fn of_folder(folder: &Path) -> Result<Plan, PlanError> {
    let io = |source| PlanError::Io { path: folder.to_owned(), source };
    let (mut sites, mut stray) = (Vec::new(), Vec::new());
    for entry in folder.read_dir().map_err(io)? {
        let path = entry.map_err(io)?.path();
        let name = path.file_name().expect("a folder's entries have names");
        if name.as_encoded_bytes().starts_with(b".") {
            continue;
        }
        // (A link that leads nowhere is taken for a folder, and will be told to lack everything.)
        if path.is_file() {
            stray.extend(Format::of_path(&path).map(|_| path));
        } else {
            let name = SiteName::try_from(name.to_string_lossy().into_owned());
            sites.push((name.map_err(|error| PlanError::Name { path: path.clone(), error })?, path));
        }
    }
    sites.sort_by(|(_, a), (_, b)| a.cmp(b));
    stray.sort();
    let entries = sites.into_iter().map(|(name, path)| Entry { name, site: site_of_folder(path) });
    Ok(Plan { entries: entries.collect(), stray })
}

fn site_of_folder(folder: PathBuf) -> Result<Site, MissingPieces> {
    let there = |names: &[&'static str]| -> Vec<&'static str> {
        names.iter().copied().filter(|name| folder.join(name).exists()).collect()
    };
    let mut wrong = Vec::new();
    let mut one = |what: &str, names: &[&'static str]| -> &'static str {
        match there(names)[..] {
            [name] => return name,
            [] => wrong.push(format!("has no {what} ({})", names.join(", "))),
            [first, second, ..] => wrong.push(format!("has both {first} and {second}: keep one")),
        }
        names[0]
    };
    let (export, secrets, config) =
        (one("export", &EXPORTS), one("secrets", &SECRETS), one("configuration", &[SITE_CONFIG]));
    if !wrong.is_empty() {
        return Err(MissingPieces { folder, what: wrong.join(", ") });
    }
    let output = export.replace("export", "rewrapped");
    Ok(Site {
        input: folder.join(export),
        input_format: None,
        output_format: Format::of_path(Path::new(&output)).expect("the names are those of formats"),
        output: folder.join(output),
        compression: Compression::default(),
        secrets: vec![folder.join(secrets)],
        vault_keys: Vec::new(),
        target: Target::Config(folder.join(config)),
    })
}

fn of_file(path: &Path) -> Result<Plan, PlanError> {
    let io = |source| PlanError::Io { path: path.to_owned(), source };
    let mut text = String::new();
    let file = crate::publish::open_regular(path).map_err(io)?;
    file.take(BYTES_MAX + 1).read_to_string(&mut text).map_err(io)?;
    if text.len() as u64 > BYTES_MAX {
        return Err(io(io::ErrorKind::FileTooLarge.into()));
    }
    let text = Text { path, text: &text };
    // The parser's own message could quote the line; its place cannot.
    let no_toml = |span| text.at(span, "this is not TOML");
    let document = caught(|| DeTable::parse(text.text)).ok_or_else(|| no_toml(0..0))?;
    let document = document.map_err(|e| no_toml(e.span().unwrap_or_default()))?;
    let mut entries: Vec<Entry> = Vec::new();
    let mut names = HashSet::new();
    for (key, value) in document.get_ref() {
        if key.get_ref() != "site" {
            return Err(text.at(key.span(), "a plan has nothing but [[site]] tables"));
        }
        let wrong = || text.at(value.span(), "`site` is not an array of tables: spell them [[site]]");
        for site in value.get_ref().as_array().ok_or_else(wrong)?.iter() {
            let table = site.get_ref().as_table().ok_or_else(wrong)?;
            let (name, at, site) = text.site(table, site.span())?;
            if !names.insert(name.clone()) {
                return Err(text.at(at, "another site of this plan has that name"));
            }
            entries.push(Entry { name, site: Ok(site) });
        }
    }
    Ok(Plan { entries, stray: Vec::new() })
}

/// A plan's text while it is read: every fault has its place.
struct Text<'a> {
    path: &'a Path,
    text: &'a str,
}

type Value<'a> = Spanned<DeValue<'a>>;

impl Text<'_> {
    fn at(&self, span: Range<usize>, what: impl Into<String>) -> PlanError {
        let (line, column) = place(self.text, span.start);
        PlanError::Place { path: self.path.to_owned(), line, column, what: what.into() }
    }

    fn site(
        &self,
        table: &DeTable<'_>,
        whole: Range<usize>,
    ) -> Result<(SiteName, Range<usize>, Site), PlanError> {
        let (mut name, mut input, mut output, mut to, mut config) = (None, None, None, None, None);
        let (mut input_format, mut output_format, mut compression) = (None, None, Compression::default());
        let (mut secrets, mut vault_keys) = (Vec::new(), Vec::new());
        for (key, value) in table {
            match &**key.get_ref() {
                "name" => {
                    let told = SiteName::try_from(self.string(value)?.to_owned());
                    name = Some((told.map_err(|e| self.at(value.span(), e.to_string()))?, value.span()));
                }
                "input" => input = Some((self.file(value)?, value.span())),
                "output" => output = Some((self.file(value)?, value.span())),
                "secrets" => match value.get_ref().as_array() {
                    Some(files) => secrets = files.iter().map(|v| self.file(v)).collect::<Result<_, _>>()?,
                    None => secrets.push(self.file(value)?),
                },
                "vault_key" => {
                    let wrong = || self.at(value.span(), "this is not a table of files by key id");
                    for (id, file) in value.get_ref().as_table().ok_or_else(wrong)? {
                        vault_keys.push((self.key_id(id.get_ref(), id.span())?, self.file(file)?));
                    }
                }
                "to" => to = Some(self.key_id(self.string(value)?, value.span())?),
                "site_config" => config = Some(self.file(value)?),
                "input_format" => input_format = Some(self.named(value)?),
                "output_format" => output_format = Some(self.named(value)?),
                "compression" => compression = self.named(value)?,
                _ => {
                    let known = "name, input, output, secrets, vault_key, to, site_config, input_format, \
                                 output_format, compression";
                    let unknown = crate::row::printable(key.get_ref());
                    return Err(self.at(key.span(), format!("a site has no entry `{unknown}`, only {known}")));
                }
            }
        }
        let missing = |what: &str| self.at(whole.clone(), format!("this site has no {what}"));
        let (name, name_at) = name.ok_or_else(|| missing("name"))?;
        let (input, input_at) = input.ok_or_else(|| missing("input"))?;
        let (output, output_at) = output.ok_or_else(|| missing("output"))?;
        if secrets.is_empty() && vault_keys.is_empty() {
            return Err(missing("secrets and no vault_key: nothing could be opened"));
        }
        let target = match (to, config) {
            (Some(id), None) => Target::Key(id),
            (None, Some(config)) => Target::Config(config),
            (None, None) => return Err(missing("target: name it by `to` or by `site_config`")),
            (Some(_), Some(_)) => {
                return Err(self.at(whole, "this site has `to` and `site_config`; keep one of them"));
            }
        };
        let untold =
            |at, entry| self.at(at, format!("the name does not tell its format; say it by `{entry}`"));
        if input_format.is_none() && Format::of_path(&input).is_none() {
            return Err(untold(input_at, "input_format"));
        }
        let output_format = output_format
            .or_else(|| Format::of_path(&output))
            .ok_or_else(|| untold(output_at, "output_format"))?;
        let site =
            Site { input, input_format, output, output_format, compression, secrets, vault_keys, target };
        Ok((name, name_at, site))
    }

    fn string<'v>(&self, value: &'v Value<'_>) -> Result<&'v str, PlanError> {
        value.get_ref().as_str().ok_or_else(|| self.at(value.span(), "this is not a string"))
    }

    /// A path, seen from the plan's folder.
    fn file(&self, value: &Value<'_>) -> Result<PathBuf, PlanError> {
        let name = self.string(value)?;
        if name.is_empty() || name == "-" {
            return Err(self.at(value.span(), "a plan names files, and nothing goes through pipes"));
        }
        Ok(self.path.parent().unwrap_or(Path::new("")).join(name))
    }

    fn key_id(&self, text: &str, span: Range<usize>) -> Result<KeyId, PlanError> {
        text.parse().map_err(|_| self.at(span, "this is no key id: those are 1 to 255 bytes long"))
    }

    /// A value that a flag of the same name takes.
    fn named<T: clap::ValueEnum>(&self, value: &Value<'_>) -> Result<T, PlanError> {
        T::from_str(self.string(value)?, false).map_err(|_| {
            let known = T::value_variants().iter().filter_map(T::to_possible_value);
            let known: Vec<_> = known.map(|v| v.get_name().to_owned()).collect();
            self.at(value.span(), format!("this is none of {}", known.join(", ")))
        })
    }
}
