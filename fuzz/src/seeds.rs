//! The seeds: the repository's fixtures and vectors where those are small, and tables made here
//! whose envelopes are as short as can be, so that what a fuzzer changes is mostly the format's own.

use crate::targets::KEYRING;
use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, DictionaryArray, FixedSizeBinaryArray,
    FixedSizeListArray, Float64Array, Int64Array, LargeStringArray, ListArray, ListViewArray, NullArray,
    RecordBatch, RunArray, StringArray, StringViewArray, StructArray, TimestampMicrosecondArray, UnionArray,
};
use arrow::datatypes::{Field as Column, Int8Type, Int32Type, Schema, UnionFields};
use base64::Engine as _;
use rekek::envelope::{self, Scratch};
use rekek::table::{self, Compression, Dictionaries, Format, TableRows};
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes of the largest seed: a larger one only slows the fuzzer down.
const LARGEST: u64 = 32 << 10;

/// Writes them, a folder for each target.
pub fn write(to: &Path) -> io::Result<()> {
    // The repository's own tests have this file too.
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let fixtures =
        [here.join("fixtures"), here.join("../fixtures")].into_iter().find(|folder| folder.is_dir());
    let fixtures = fixtures.ok_or(io::ErrorKind::NotFound)?;
    let put = |target: &str, name: &str, bytes: &[u8]| {
        let folder = to.join(target);
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join(name), bytes)
    };
    for path in files(&fixtures.join("formats"))?
        .into_iter()
        .chain(files(&fixtures.join("hostile")).unwrap_or_default())
    {
        let Some(format) =
            Format::of_path(&path).filter(|_| path.metadata().is_ok_and(|m| m.len() <= LARGEST))
        else {
            continue;
        };
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        put(format.name(), &name, &std::fs::read(&path)?)?;
    }
    for (name, format, bytes) in tables()? {
        put(format.name(), &name, &bytes)?;
    }

    let vectors: serde_json::Value =
        serde_json::from_slice(&std::fs::read(fixtures.join("vectors/envelope-v1.json"))?)?;
    let lists = ["decode", "encode"].iter().filter_map(|list| vectors[list].as_array()).flatten();
    for (i, text) in lists.filter_map(|vector| vector["envelope"].as_str()).enumerate() {
        if text.len() as u64 > LARGEST / 4 {
            continue;
        }
        put("envelope", &format!("text-{i}"), text.as_bytes())?;
        if let Ok(json) = base64::engine::general_purpose::STANDARD.decode(text.trim()) {
            put("envelope", &format!("json-{i}"), &json)?;
        }
    }

    let secrets = std::fs::read(fixtures.join("sample/secrets.json"))?;
    put("secrets", "sample.json", &secrets)?;
    const KEY: &str = "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=";
    let yaml = format!(
        "a: &x [1, {{b: c}}]\nmachine_identity:\n  other: *x\n  encryption_keys:\n    kv1: {KEY}\n    \"kv2\": '{KEY}'\n    kv3: >-\n      {KEY}\n"
    );
    put("secrets", "site.yaml", yaml.as_bytes())?;
    let vault = format!(
        r#"{{"data": {{"data": {{"UsernamePassword": {{"username": "", "password": "{KEY}"}}}}, "metadata": {{"version": 3}}}}}}"#
    );
    put("secrets", "vault-2.json", vault.as_bytes())?;
    let vault = format!(r#"{{"lease_id": "", "data": {{"UsernamePassword": {{"password": "{KEY}"}}}}}}"#);
    put("secrets", "vault-1.json", vault.as_bytes())?;

    put("site_config", "sample.toml", &std::fs::read(fixtures.join("sample/site.toml"))?)?;
    put(
        "site_config",
        "more.toml",
        b"x = [1, {a.b = 2024-02-29}]\nmachine_identity.enabled = false\n[machine_identity]\ncurrent_encryption_key_id = '''kv2'''\n[[y]]\nz = \"\"\"a\\u00e9\"\"\"\n",
    )?;

    let (private, public) = signing_key();
    put("signing_key", "pair", format!("{private}\0{public}").as_bytes())?;

    for (name, bytes) in crate::targets::manifests() {
        put("manifest", &name, &bytes)?;
    }
    Ok(())
}

fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files =
        std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    files.sort();
    Ok(files)
}

/// A P-256 key pair that was made for this, as PEM and as the site's public value.
fn signing_key() -> (String, String) {
    let private = include_str!("../seeds/private.pem");
    let public = include_str!("../seeds/public.pem").replace('\n', "\\n");
    (private.to_owned(), format!(r#"{{"v":1,"kid":"k","alg":"ES256","public_pem":"{public}"}}"#))
}

/// An envelope of a few bytes.
fn sealed(key_id: &str, plaintext: &str) -> String {
    let key = &KEYRING.keys()[KEYRING.position(key_id).expect("the sample has it")];
    let (nonce, mut body, mut text) = ([7; 12], Vec::new(), Vec::new());
    key.cipher().seal(&nonce, plaintext.as_bytes(), &mut body);
    envelope::write(key_id, &nonce, &body, &mut Scratch::default(), &mut text);
    String::from_utf8(text).expect("base64 is text")
}

struct Rows<'a>(&'a RecordBatch);

impl TableRows for Rows<'_> {
    fn records(&self) -> &RecordBatch {
        self.0
    }
}

type Table = (String, Format, Vec<u8>);

/// Tables in every format and compression, with columns of many types.
fn tables() -> io::Result<Vec<Table>> {
    let (private, public) = signing_key();
    let ids = vec![Some("org-1"), Some("org-2"), Some("org-3")];
    let one = [Some(sealed("kv1", &private)), None, Some(sealed("kv2", "x"))];
    let two = [None, Some(sealed("kv1", "y")), Some(" ".into())];
    let auth = [Some(sealed("kv0", "{}")), Some(sealed("kv2", "")), None];
    let publics = vec![Some(public.as_str()), None, None];
    let known = |kind: usize| -> Vec<(&str, ArrayRef)> {
        let array = |values: Vec<Option<&str>>| -> ArrayRef {
            match kind {
                0 => Arc::new(StringArray::from(values)),
                1 => Arc::new(LargeStringArray::from(values)),
                2 => Arc::new(StringViewArray::from(values)),
                _ => Arc::new(values.into_iter().collect::<DictionaryArray<Int32Type>>()),
            }
        };
        vec![
            ("organization_id", array(ids.clone())),
            ("encrypted_signing_key_1", array(text(&one))),
            ("encrypted_signing_key_2", array(text(&two))),
            ("encrypted_auth_method_config", array(text(&auth))),
            ("signing_key_public_1", array(publics.clone())),
        ]
    };
    let mut out = vec![];
    for (kind, type_name) in ["utf8", "large", "view", "dictionary"].into_iter().enumerate() {
        let plain = known(kind);
        let with_scalars = [known(kind), scalars()].concat();
        let with_nested = [known(kind), scalars(), nested()].concat();
        let with_shared = [known(kind), shared()].concat();
        for (columns, others) in
            [(plain, "plain"), (with_scalars, "scalars"), (with_nested, "nested"), (with_shared, "shared")]
        {
            let fields =
                columns.iter().map(|(name, array)| Column::new(*name, array.data_type().clone(), true));
            let metadata = HashMap::from([("a".to_owned(), "b".to_owned())]);
            let schema = Arc::new(Schema::new_with_metadata(fields.collect::<Vec<_>>(), metadata));
            let arrays = columns.into_iter().map(|(_, array)| array).collect();
            let batch = RecordBatch::try_new(Arc::clone(&schema), arrays).expect("three rows in each column");
            // What has no place for a union may panic, which rekek catches and the fuzzer does not.
            let formats = match others {
                "shared" => &[Format::Arrow, Format::Arrows][..],
                _ => &[Format::Csv, Format::Parquet, Format::Arrow, Format::Arrows],
            };
            for format in formats.iter().copied() {
                for compression in
                    [Compression::None, Compression::Snappy, Compression::Lz4, Compression::Zstd]
                {
                    let Ok(mut writer) =
                        table::create(Vec::new(), format, compression, &schema, Dictionaries::Fixed)
                    else {
                        continue;
                    };
                    if writer.write(&Rows(&batch)).is_err()
                        || writer.write(&Rows(&batch.slice(1, 1))).is_err()
                    {
                        continue;
                    }
                    let bytes = writer.finish().map_err(io::Error::other)?;
                    // The second batch repeats an id: only what has one batch comes through.
                    out.push((format!("{type_name}-{others}-{compression:?}-twice"), format, bytes));
                    let mut writer =
                        table::create(Vec::new(), format, compression, &schema, Dictionaries::Fixed)
                            .map_err(io::Error::other)?;
                    writer.write(&Rows(&batch)).map_err(io::Error::other)?;
                    let bytes = writer.finish().map_err(io::Error::other)?;
                    out.push((format!("{type_name}-{others}-{compression:?}"), format, bytes));
                }
            }
        }
    }
    Ok(out)
}

fn text(values: &[Option<String>]) -> Vec<Option<&str>> {
    values.iter().map(Option::as_deref).collect()
}

fn scalars() -> Vec<(&'static str, ArrayRef)> {
    let decimals = Decimal128Array::from(vec![Some(1), None, Some(-3)]).with_precision_and_scale(9, 2);
    vec![
        ("number", Arc::new(Int64Array::from(vec![Some(1), None, Some(3)]))),
        ("float", Arc::new(Float64Array::from(vec![Some(1.5), None, Some(-1e300)]))),
        ("flag", Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)]))),
        ("day", Arc::new(Date32Array::from(vec![Some(1), None, Some(19_782)]))),
        (
            "time",
            Arc::new(TimestampMicrosecondArray::from(vec![Some(1), None, Some(-1)]).with_timezone("UTC")),
        ),
        ("decimal", Arc::new(decimals.expect("nine digits suffice"))),
        ("nothing", Arc::new(NullArray::new(3))),
    ]
}

fn nested() -> Vec<(&'static str, ArrayRef)> {
    let lists =
        || ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None]), None, Some(vec![])]);
    let field = Arc::new(Column::new("x", lists_type(), true));
    let structs = StructArray::from(vec![(field, Arc::new(lists()) as ArrayRef)]);
    let small: DictionaryArray<Int8Type> = [Some("a"), None, Some("a")].into_iter().collect();
    let fixed = FixedSizeBinaryArray::try_from_iter(vec![vec![1, 2], vec![3, 4], vec![5, 6]].into_iter());
    let pairs = FixedSizeListArray::from_iter_primitive::<Int32Type, _, _>(
        [Some(vec![Some(1), Some(2)]), None, None],
        2,
    );
    vec![
        ("list", Arc::new(lists())),
        ("struct", Arc::new(structs)),
        ("small", Arc::new(small)),
        ("binary", Arc::new(BinaryArray::from_opt_vec(vec![Some(b"\0\xff"), None, Some(b"")]))),
        ("fixed", Arc::new(fixed.expect("all are two bytes long"))),
        ("pairs", Arc::new(pairs)),
    ]
}

/// What may share its values.
fn shared() -> Vec<(&'static str, ArrayRef)> {
    let words: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None, Some("b")]));
    let column = |name| Column::new(name, words.data_type().clone(), true);
    let views = ListViewArray::new(
        Arc::new(column("item")),
        vec![0, 2, 0].into(),
        vec![3, 1, 2].into(),
        Arc::clone(&words),
        None,
    );
    let runs = RunArray::<Int32Type>::try_new(&vec![1, 3].into(), &words.slice(0, 2)).expect("two runs");
    let union = |places: Option<Vec<i32>>| {
        let kinds = UnionFields::try_new([2, 5], [column("a"), column("b")]).expect("two kinds");
        let children = vec![Arc::clone(&words), Arc::clone(&words)];
        UnionArray::try_new(kinds, vec![2, 5, 2].into(), places.map(Into::into), children).expect("a union")
    };
    vec![
        ("views", Arc::new(views)),
        ("runs", Arc::new(runs)),
        ("dense", Arc::new(union(Some(vec![0, 2, 0])))),
        ("sparse", Arc::new(union(None))),
    ]
}

fn lists_type() -> arrow::datatypes::DataType {
    arrow::datatypes::DataType::List(Arc::new(Column::new_list_field(
        arrow::datatypes::DataType::Int32,
        true,
    )))
}
