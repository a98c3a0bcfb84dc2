//! Memory has a bound whatever a file says: each file here declares, repeats or nests more than
//! anybody means, and must be refused in one line, or go through, within [`ADDRESS_SPACE`].
//!
//! The limit is on what the process may map, so that an allocation by a declared length fails even
//! where nothing is ever written to it.

#[path = "bounds/parquet.rs"]
mod parquet;

use assert_cmd::cargo::cargo_bin;
use parquet::{Column, Footer, Page};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// KiB that the program may map: 2 GiB.
const ADDRESS_SPACE: u64 = 2 << 20;

const HEADER: &str =
    "organization_id,encrypted_signing_key_1,encrypted_signing_key_2,encrypted_auth_method_config";

struct Folder(tempfile::TempDir);

struct Ran {
    status: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Folder {
    fn new() -> Folder {
        let folder = Folder(tempfile::tempdir().unwrap());
        let secrets = std::fs::read("fixtures/sample/secrets.json").unwrap();
        folder.write("secrets.json", secrets);
        folder.write("export.csv", format!("{HEADER}\norg-1,,,\n"));
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::write(self.path(name), content).unwrap();
        std::fs::set_permissions(self.path(name), std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// `rekek` with a limit on its memory, and no word of how far it is however slow the machine is.
    fn command(&self, line: &str) -> Command {
        let mut command = Command::new("sh");
        let script = format!("ulimit -v {ADDRESS_SPACE} && exec \"$0\" \"$@\"");
        command.args(["-c", &script]).arg(cargo_bin!("rekek")).args(line.split_whitespace());
        if !line.starts_with("keygen") {
            command.args(["--progress", "never"]);
        }
        command.current_dir(self.0.path()).stdin(Stdio::null());
        command
    }

    fn rekek(&self, line: &str) -> Ran {
        ran(self.command(line).output().unwrap())
    }

    /// Runs a re-wrap of `name` that must be refused; returns what is said of the file.
    #[track_caller]
    fn refusal(&self, name: &str) -> String {
        let run =
            self.rekek(&format!("rewrap {name} -o out.csv --secrets secrets.json --to kv2 --threads 2"));
        let said = run.stderr.strip_prefix(&format!("rekek: cannot read {name}: "));
        let said = said.unwrap_or_else(|| panic!("{name}: {:?} {}", run.status, run.stderr));
        assert_eq!((run.status, run.stdout.as_str(), said.lines().count()), (Some(1), "", 1), "{said}");
        assert!(!self.path("out.csv").exists());
        said.trim_end().to_owned()
    }

    /// The same for a file that is made of those bytes.
    #[track_caller]
    fn refuses(&self, name: &str, bytes: impl AsRef<[u8]>, expected: &str) {
        self.write(name, bytes);
        let said = self.refusal(name);
        assert!(said.contains(expected), "{name}: {said}");
        std::fs::remove_file(self.path(name)).unwrap();
    }
}

fn ran(output: std::process::Output) -> Ran {
    Ran {
        status: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

#[test]
fn a_value_of_512_mib_is_refused_when_its_limit_is_reached() {
    let folder = Folder::new();
    for quote in ["", "\""] {
        let mut command =
            folder.command("rewrap - --input-format csv --dry-run --secrets secrets.json --to kv2");
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let output = std::thread::scope(|scope| {
            scope.spawn(move || {
                let block = vec![b'x'; 1 << 20];
                stdin.write_all(format!("{HEADER}\norg-1,,,{quote}").as_bytes()).unwrap();
                // The pipe breaks where it is refused.
                (0..512).try_for_each(|_| stdin.write_all(&block)).unwrap_err();
            });
            child.wait_with_output().unwrap()
        });
        let run = ran(output);
        assert_eq!(run.stderr, "rekek: cannot read -: line 2: the record is longer than 134217728 bytes\n");
        assert_eq!(run.status, Some(1));
    }
}

#[test]
fn a_value_of_64_mib_is_rewrapped() {
    let folder = Folder::new();
    let mut keyring = rekek::keyring::Keyring::new();
    keyring.add_secrets("s", &std::fs::read("fixtures/sample/secrets.json").unwrap()).unwrap();
    let key = &keyring.keys()[keyring.position("kv1").unwrap()];
    let (mut sealed, mut text) = (Vec::new(), Vec::new());
    key.cipher().seal(&[7; 12], &vec![b'x'; 14 << 20], &mut sealed);
    rekek::envelope::write("kv1", &[7; 12], &sealed, &mut Default::default(), &mut text);
    assert!((64 << 20..96 << 20).contains(&text.len()), "{}", text.len());
    let row = |id: &str| [id.as_bytes(), b",,,", &text, b"\n"].concat();
    folder.write("large.csv", [HEADER.as_bytes(), b"\n", &row("org-1"), &row("org-2")].concat());
    let run = folder.rekek("rewrap large.csv -o out.csv --secrets secrets.json --to kv2 --threads 2 --json");
    assert_eq!((run.status, run.stderr.as_str()), (Some(0), ""), "{}", run.stdout);
    let report: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(report["fields_reencrypted"], 2);
}

#[test]
fn a_million_columns() {
    let folder = Folder::new();
    let columns = ",".repeat(999_999);
    folder.refuses("wide.csv", &columns, "the header has 1000000 columns; more than 4096 are not read");
    folder.refuses(
        "wide.csv",
        format!("{HEADER}\n{columns}\n"),
        "line 2: the record has 1000000 values, the header 4",
    );
    folder.refuses("wide.parquet", Footer::with_columns(1_000_000).file(), "it has too many columns");
    folder.refuses("wide.arrows", arrow_stream(100_000), "the table has 100000 columns; more than 4096");
    // The metadata of a million columns is too much to be looked at.
    folder.refuses("wide.arrows", arrow_stream(1_000_000), "its metadata is too long");
}

/// A stream with so many columns and no row.
fn arrow_stream(columns: usize) -> Vec<u8> {
    use arrow::datatypes::{DataType, Field, Schema};
    let columns: Vec<_> = (0..columns).map(|i| Field::new(i.to_string(), DataType::Utf8, true)).collect();
    let mut writer = arrow::ipc::writer::StreamWriter::try_new(vec![], &Schema::new(columns)).unwrap();
    writer.finish().unwrap();
    writer.into_inner().unwrap()
}

#[test]
fn lengths_that_an_arrow_file_only_declares() {
    let folder = Folder::new();
    let stream = arrow_stream(4);
    let with = |at: usize, bytes: &[u8]| {
        let mut lying = stream.clone();
        lying[at..at + bytes.len()].copy_from_slice(bytes);
        lying
    };
    folder.refuses("a.arrows", with(4, &i32::MAX.to_le_bytes()), "its metadata is too long");
    folder.refuses("a.arrows", with(4, &(15_i32 << 20).to_le_bytes()), "it was cut short");
    folder.refuses("a.arrows", with(4, &(-1_i32).to_le_bytes()), "its metadata is too long");
    let footer = |length: i32| [b"ARROW1\0\0", &[0; 64][..], &length.to_le_bytes(), b"ARROW1"].concat();
    folder.refuses("a.arrow", footer(i32::MAX), "this is no Arrow file, or it is cut short");
    folder.refuses("a.arrow", footer(64), "the Arrow data is malformed: its footer");
}

#[test]
fn arrow_buffers_that_expand_a_thousandfold() {
    use arrow::array::{ArrayRef, RecordBatch, StringArray};
    use arrow::ipc::{CompressionType, writer::IpcWriteOptions, writer::StreamWriter};
    let folder = Folder::new();
    let big = "x".repeat(48 << 20);
    let text = |values: Vec<&str>| -> ArrayRef { std::sync::Arc::new(StringArray::from(values)) };
    let batch = RecordBatch::try_from_iter([
        ("organization_id", text(vec!["org-1", "org-2", "org-3", "org-4"])),
        ("encrypted_signing_key_1", text(vec![""; 4])),
        ("encrypted_signing_key_2", text(vec![""; 4])),
        ("encrypted_auth_method_config", text(vec![""; 4])),
        ("note", text(vec![big.as_str(); 4])),
    ])
    .unwrap();
    for codec in [CompressionType::ZSTD, CompressionType::LZ4_FRAME] {
        let options = IpcWriteOptions::default().try_with_compression(Some(codec)).unwrap();
        let mut writer = StreamWriter::try_new_with_options(vec![], &batch.schema(), options).unwrap();
        writer.write(&batch).unwrap();
        writer.finish().unwrap();
        let stream = writer.into_inner().unwrap();
        assert!(stream.len() < (192 << 20) / 200, "{}", stream.len());
        folder.write("a.arrows", &stream);
        let run =
            folder.rekek("rewrap a.arrows --dry-run --secrets secrets.json --to kv2 --threads 2 --json");
        assert_eq!((run.status, run.stderr.as_str()), (Some(0), ""), "{codec:?}");
        // What the buffer says of its size, with which it begins; the values are the last of them.
        let size = (192_i64 << 20).to_le_bytes();
        let at = stream.windows(8).rposition(|bytes| bytes == size).unwrap();
        for (lie, expected) in [(1_i64 << 31, "a record batch has"), ((192 << 20) + 1, ""), (7, "")] {
            let mut lying = stream.clone();
            lying[at..at + 8].copy_from_slice(&lie.to_le_bytes());
            folder.refuses("b.arrows", lying, expected);
        }
    }
}

/// Batches of hundreds of megabytes, and many threads: few of them are in work at once.
#[test]
fn many_large_batches_with_many_threads() {
    use arrow::array::{ArrayRef, RecordBatch, StringArray};
    use arrow::ipc::{CompressionType, writer::IpcWriteOptions, writer::StreamWriter};
    let folder = Folder::new();
    let big = "x".repeat(100 << 20);
    let text = |values: Vec<String>| -> ArrayRef { std::sync::Arc::new(StringArray::from(values)) };
    let batch = |first: usize| {
        RecordBatch::try_from_iter([
            ("organization_id", text((first..first + 4).map(|n| format!("org-{n:03}")).collect())),
            ("encrypted_signing_key_1", text(vec![String::new(); 4])),
            ("encrypted_signing_key_2", text(vec![String::new(); 4])),
            ("encrypted_auth_method_config", text(vec![String::new(); 4])),
            ("note", text(vec![big.clone(); 4])),
        ])
        .unwrap()
    };
    let options = IpcWriteOptions::default().try_with_compression(Some(CompressionType::ZSTD)).unwrap();
    let file = std::fs::File::create(folder.path("a.arrows")).unwrap();
    let mut writer = StreamWriter::try_new_with_options(file, &batch(0).schema(), options).unwrap();
    (0..4).for_each(|n| writer.write(&batch(n * 4)).unwrap());
    writer.finish().unwrap();
    for threads in [2, 16] {
        let line = format!(
            "rewrap a.arrows -o {threads}.arrow --secrets secrets.json --to kv2 --threads {threads} --json"
        );
        let run = folder.rekek(&line);
        assert_eq!((run.status, run.stderr.as_str()), (Some(0), ""), "{threads} threads");
        let report: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
        assert_eq!(report["rows_examined"], 16);
    }
}

/// Bytes that a codec turns into `64 << 20` of nothing, and the codec's number.
fn bombs() -> [(i64, Vec<u8>); 3] {
    const NOTHING: usize = 64 << 20;
    let mut gzip = flate2::write::GzEncoder::new(vec![], flate2::Compression::best());
    gzip.write_all(&vec![0; NOTHING]).unwrap();
    // Snappy: the size, one literal byte, then copies of 64 bytes from the byte before.
    let mut snappy = vec![0x80, 0x80, 0x80, 0x20, 0, 0];
    let mut left = NOTHING - 1;
    while left > 0 {
        let n = left.min(64);
        snappy.extend([((n - 1) as u8) << 2 | 2, 1, 0]);
        left -= n;
    }
    // Zstandard (RFC 8878): a frame header without a size, then blocks of 128 KiB of one byte.
    let mut zstd = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x58];
    let blocks = NOTHING >> 17;
    for i in 0..blocks {
        let block = (1_u32 << 17) << 3 | 1 << 1 | u32::from(i == blocks - 1);
        zstd.extend(&block.to_le_bytes()[..3]);
        zstd.push(0);
    }
    [(1, snappy), (2, gzip.finish().unwrap()), (6, zstd)]
}

#[test]
fn parquet_pages_that_expand_a_thousandfold() {
    let folder = Folder::new();
    for (codec, bytes) in bombs() {
        // A text of length nothing, and then a tail that no value needs: a page of 64 MiB with one row.
        let page = |size: i64| Page { size, codec, bytes: bytes.clone(), ..Page::empty_text() };
        folder.write("a.parquet", Footer::with_note(page(64 << 20)).file());
        let run =
            folder.rekek("rewrap a.parquet --dry-run --secrets secrets.json --to kv2 --threads 2 --json");
        assert_eq!((run.status, run.stderr.as_str()), (Some(0), ""), "codec {codec}");
        folder.refuses(
            "b.parquet",
            Footer::with_note(page(i64::from(i32::MAX))).file(),
            "take more than 1073741824 bytes",
        );
        // (Of snappy the parquet crate takes one that has less in it than the header says.)
        let wrong = [7, (64 << 20) - 1, (64 << 20) + 1];
        for wrong in &wrong[..if codec == 1 { 2 } else { 3 }] {
            folder.refuses("b.parquet", Footer::with_note(page(*wrong)).file(), "row group 1: ");
        }
        // The directory allows less than the page declares.
        let mut footer = Footer::with_note(page(64 << 20));
        footer.columns[4].told = Some(1 << 20);
        folder.refuses(
            "b.parquet",
            footer.file(),
            "a column's pages are larger than the file's directory says",
        );
    }
}

#[test]
fn numbers_that_a_parquet_page_only_declares() {
    let folder = Folder::new();
    let refuses =
        |page: Page, expected: &str| folder.refuses("a.parquet", Footer::with_note(page).file(), expected);
    // DELTA_LENGTH_BYTE_ARRAY: a block of 128 values in 4 parts, and how many lengths there are.
    let lengths = |count: u64| {
        let mut bytes = vec![0x80, 0x01, 4];
        parquet::varint(&mut bytes, count);
        bytes.push(0);
        Page { encoding: 6, size: bytes.len() as i64, bytes, ..Page::empty_text() }
    };
    for count in [2, 1 << 33, 1 << 42, u64::MAX] {
        refuses(lengths(count), "a page's lengths are not as many as its values");
    }
    let all = Page { values: i64::from(i32::MAX), ..lengths(i32::MAX as u64) };
    refuses(all, "take more than 1073741824 bytes");
    // DELTA_BYTE_ARRAY: a page of a few bytes can hold any number of large values.
    refuses(Page { encoding: 7, ..lengths(1) }, "DELTA_BYTE_ARRAY, which cannot be read with care");
    // A dictionary of two thousand million values in four bytes.
    let dictionary = Page { kind: 2, values: i64::from(i32::MAX), ..Page::empty_text() };
    refuses(dictionary, "a dictionary page declares more values than it has");
    // A header whose statistics would be 64 TiB.
    refuses(Page { statistics: Some(1 << 46), ..Page::empty_text() }, "a page's header: ");
    // A size under another type of number, which the decoder would take all the same.
    refuses(
        Page { size_kind: 6, size: i64::from(i32::MAX), ..Page::empty_text() },
        "a field of another type",
    );
}

#[test]
fn numbers_that_a_parquet_directory_only_declares() {
    let folder = Folder::new();
    let mut footer = Footer::with_note(Page::empty_text());
    footer.groups = Some(1 << 30);
    folder.refuses("a.parquet", footer.file(), "it declares more row groups than it has");
    // As many as fit: each an empty struct.
    let mut footer = Footer::with_note(Page::empty_text());
    footer.groups = Some(3 << 20);
    footer.tail = vec![0; 30 << 20];
    folder.refuses("a.parquet", footer.file(), "the Parquet file's directory: ");
    // A column of fixed width, all null: room is made for every row.
    let mut footer = Footer::with_note(Page::empty_text());
    footer.columns[4] =
        Column { fixed: Some(i64::from(i32::MAX)), ..Column::new("note", Page::empty_text()) };
    folder.refuses("a.parquet", footer.file(), "its columns of fixed width make a row of");
    let file = |length: u32| [b"PAR1", &[0; 64][..], &length.to_le_bytes(), b"PAR1"].concat();
    folder.refuses("a.parquet", file(u32::MAX), "this is no Parquet file, or it is cut short");
}

/// A page whose levels end behind its own end: the parquet crate cuts them off without looking, and
/// panics. Not a word of that is to be seen, with a backtrace asked for or not.
#[test]
fn a_panic_below_a_reader_is_an_error_that_names_the_file() {
    let folder = Folder::new();
    let page = Page { kind: 3, levels: Some(100), size: 1000, ..Page::empty_text() };
    folder.write("a.parquet", Footer::with_note(page).file());
    let expected = "rekek: cannot read a.parquet: the Parquet file is malformed: its decoder could not go on";
    for command in [
        "rewrap a.parquet -o out.csv --to kv2 --secrets secrets.json",
        "verify a.parquet",
        "inspect a.parquet",
    ] {
        for threads in [1, 2] {
            let threads =
                if command.starts_with("rewrap") { format!("--threads {threads}") } else { String::new() };
            let run = ran(folder
                .command(&format!("{command} {threads}"))
                .env("RUST_BACKTRACE", "1")
                .output()
                .unwrap());
            // `verify` warns that there is no manifest.
            let said = run.stderr.lines().rfind(|line| !line.contains(" warning: "));
            assert_eq!((said, run.status, run.stdout.as_str()), (Some(expected), Some(1), ""), "{command}");
            let warnings = usize::from(command.starts_with("verify"));
            assert_eq!(run.stderr.lines().count(), 1 + warnings, "{}", run.stderr);
            assert!(!folder.path("out.csv").exists());
        }
    }
}

/// `[[[[…` and `{"a":{"a":…`, a hundred thousand deep.
fn deep() -> [String; 2] {
    const DEEP: usize = 100_000;
    ["[".repeat(DEEP), "{\"a\":".repeat(DEEP)]
}

#[test]
fn json_that_is_nested_without_end() {
    use base64::Engine as _;
    let folder = Folder::new();
    for deep in deep() {
        for document in [deep.clone(), format!("{{\"machine_identity\": {deep}"), format!("{{\"x\": {deep}")]
        {
            for name in ["deep.json", "deep.yaml"] {
                folder.write(name, &document);
                for line in [
                    format!("rewrap export.csv --dry-run --secrets {name} --to kv2"),
                    format!("rewrap export.csv --dry-run --vault-key kv2={name} --to kv2"),
                    format!("keygen kv9 --secrets {name}"),
                ] {
                    let run = folder.rekek(&line);
                    assert_eq!(
                        (run.status, run.stderr.lines().count()),
                        (Some(1), 1),
                        "{line}: {}",
                        run.stderr
                    );
                }
            }
            folder.write("export.csv.manifest.json", &document);
            let run = folder.rekek("rewrap export.csv --dry-run --secrets secrets.json --to kv2");
            assert!(run.status == Some(1) && run.stderr.contains("is not a manifest"), "{}", run.stderr);
            std::fs::remove_file(folder.path("export.csv.manifest.json")).unwrap();
        }
        // As a ciphertext, and as the public value beside a good one.
        let envelope = base64::engine::general_purpose::STANDARD.encode(&deep);
        folder.write("row.csv", format!("{HEADER}\norg-1,,,{envelope}\n"));
        for command in ["rewrap row.csv --dry-run --to kv2", "verify row.csv"] {
            let run = folder.rekek(&format!("{command} --secrets secrets.json"));
            assert_eq!(run.status, Some(3), "{command}: {}", run.stderr);
        }
    }
}

#[test]
fn a_public_value_that_is_nested_without_end() {
    let folder = Folder::new();
    let sample = std::fs::read("fixtures/sample/export.csv").unwrap();
    let mut reader = csv::Reader::from_reader(sample.as_slice());
    let header = reader.headers().unwrap().clone();
    let column = |name: &str| header.iter().position(|h| h == name).unwrap();
    let (key, public) = (column("encrypted_signing_key_1"), column("signing_key_public_1"));
    let row = reader.records().map(Result::unwrap).find(|row| !row[key].is_empty()).unwrap();
    for deep in deep() {
        for document in [deep.clone(), format!("{{\"public_pem\":{deep}"), format!("{{\"x\":{deep}")] {
            let mut writer = csv::Writer::from_path(folder.path("row.csv")).unwrap();
            writer.write_record(&header).unwrap();
            writer
                .write_record(row.iter().enumerate().map(|(i, v)| if i == public { &document } else { v }))
                .unwrap();
            writer.flush().unwrap();
            let run = folder.rekek("rewrap row.csv --dry-run --secrets secrets.json --to kv2 --json");
            assert_eq!(run.status, Some(3), "{}", run.stderr);
            assert!(run.stdout.contains("the public value beside it is not JSON"), "{}", run.stdout);
        }
    }
}

#[test]
fn yaml_and_toml_that_grow_or_nest_without_end() {
    let folder = Folder::new();
    // Each line ten times the one before.
    let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for i in 1..12 {
        let before = vec![format!("*a{}", i - 1); 10].join(", ");
        laughs += &format!("a{i}: &a{i} [{before}]\n");
    }
    laughs += "machine_identity: {encryption_keys: *a11}\n";
    for yaml in [laughs, "- ".repeat(500_000), "a:\n ".repeat(100), format!("{}x", "? ".repeat(500_000))] {
        folder.write("s.yaml", yaml);
        let run = folder.rekek("rewrap export.csv --dry-run --secrets s.yaml --to kv2");
        assert_eq!((run.status, run.stderr.lines().count()), (Some(1), 1), "{}", run.stderr);
    }
    const DEEP: usize = 200_000;
    for toml in [
        format!("a = {}", "[".repeat(DEEP)),
        format!("a = {}", "{a=".repeat(DEEP)),
        format!("{}a = 1", "a.".repeat(DEEP)),
        format!("[{}a]\nb = 1", "a.".repeat(DEEP)),
        format!("[[{}a]]\nb = 1", "a.".repeat(DEEP)),
        "x".repeat(2 << 20),
    ] {
        folder.write("site.toml", toml);
        let run = folder.rekek("rewrap export.csv --dry-run --secrets secrets.json --site-config site.toml");
        assert_eq!((run.status, run.stderr.lines().count()), (Some(1), 1), "{}", run.stderr);
    }
}

#[test]
fn a_list_of_organizations_of_the_largest_size() {
    let folder = Folder::new();
    let mut list = String::new();
    for id in (0u32..).map(|n| format!("{n:x}\n")) {
        if list.len() + id.len() > 16 << 20 {
            break;
        }
        list += &id;
    }
    folder.write("orgs", &list);
    let run = folder.rekek("rewrap export.csv --dry-run --secrets secrets.json --to kv2 --orgs-file orgs");
    assert!(
        run.status == Some(1) && run.stderr.contains("of the organizations asked for: "),
        "{}",
        run.stderr
    );
    folder.write("orgs", list + "too-long\n");
    let run = folder.rekek("rewrap export.csv --dry-run --secrets secrets.json --to kv2 --orgs-file orgs");
    assert_eq!(run.stderr, "rekek: orgs is longer than 16777216 bytes\n");
}

#[test]
fn a_manifest_and_secrets_of_the_largest_size() {
    let folder = Folder::new();
    // A scope of eight million organizations.
    let scope = "\"a\",".repeat(8 << 20);
    folder.write("export.csv.manifest.json", format!("{{\"scope\":[{scope}\"a\"]}}"));
    let run = folder.rekek("rewrap export.csv --dry-run --secrets secrets.json --to kv2");
    assert!(run.status == Some(1) && run.stderr.contains("is not a manifest"), "{}", run.stderr);
    folder.write("export.csv.manifest.json", vec![b' '; (64 << 20) + 1]);
    let run = folder.rekek("rewrap export.csv --dry-run --secrets secrets.json --to kv2");
    assert!(run.status == Some(1) && run.stderr.contains("is longer than 67108864 bytes"), "{}", run.stderr);
    std::fs::remove_file(folder.path("export.csv.manifest.json")).unwrap();
    for name in ["s.json", "s.yaml"] {
        folder.write(name, vec![b' '; (16 << 20) + 1]);
        let run = folder.rekek(&format!("rewrap export.csv --dry-run --secrets {name} --to kv2"));
        assert!(
            run.status == Some(1) && run.stderr.contains("is longer than 16777216 bytes"),
            "{}",
            run.stderr
        );
    }
}
