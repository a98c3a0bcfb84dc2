//! A folder to work in, and `rekek` run in it.

use assert_cmd::cargo::cargo_bin;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The sample site's files: an export that psql wrote, its secrets, its configuration.
pub fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/sample").join(name)
}

pub struct Site(tempfile::TempDir);

/// The environment variable with which every `rekek` that these tests start dies of the first
/// system call about a socket. `scripts/test` sets it.
pub const NO_SOCKETS: &str = "REKEK_TEST_NO_SOCKETS";

/// A command in which each such call kills. strace stands aside (`-D`), so that the process that is
/// started is the command itself. (With `--seccomp-bpf` it would be faster, and kill nothing.)
pub fn without_sockets(command: &Command) -> Command {
    let mut strace = Command::new("strace");
    strace.args(["-D", "-f", "-qq", "-o", "/dev/null"]);
    strace.args(["-e", "trace=%network", "-e", "inject=%network:signal=KILL"]);
    strace.arg(command.get_program()).args(command.get_args()).stdin(Stdio::null());
    if let Some(folder) = command.get_current_dir() {
        strace.current_dir(folder);
    }
    strace
}

pub struct Ran {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// Status 0 and not a word on stderr.
    #[track_caller]
    pub fn good(self) -> String {
        assert_eq!((self.status, self.stderr.as_str()), (0, ""), "{}", self.stdout);
        self.stdout
    }

    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {} {}", self.stdout, self.stderr))
    }
}

impl Site {
    /// An empty folder.
    pub fn empty() -> Site {
        Site(tempfile::tempdir().unwrap())
    }

    /// The sample site, its files under their names.
    pub fn sample() -> Site {
        let site = Site::empty();
        for name in ["export.csv", "secrets.json", "site.toml"] {
            site.write(name, std::fs::read(sample(name)).unwrap());
        }
        site
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file that only its owner can read.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), content).unwrap();
        keep_to_owner(&self.path(name));
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    /// The names in the folder, sorted.
    pub fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// A command line with its words set apart by spaces, to be run in the folder; with
    /// [`NO_SOCKETS`], under strace.
    pub fn command(&self, line: &str) -> Command {
        let plain = self.plain_command(line);
        if std::env::var_os(NO_SOCKETS).is_some() { without_sockets(&plain) } else { plain }
    }

    /// The same, in any case without strace: there can be only one of it.
    pub fn plain_command(&self, line: &str) -> Command {
        let mut command = Command::new(cargo_bin!("rekek"));
        command.args(line.split_whitespace()).current_dir(self.0.path()).stdin(Stdio::null());
        command
    }

    pub fn rekek(&self, line: &str) -> Ran {
        ran(self.command(line).output().unwrap())
    }

    /// The same with something on standard input.
    pub fn rekek_with_input(&self, line: &str, input: &[u8]) -> Ran {
        use std::io::Write as _;
        let mut command = self.command(line);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let output = std::thread::scope(|scope| {
            // It may end before it has read everything.
            scope.spawn(move || stdin.write_all(input).ok());
            child.wait_with_output().unwrap()
        });
        ran(output)
    }
}

pub fn ran(output: std::process::Output) -> Ran {
    Ran {
        status: output.status.code().expect("it ended by itself"),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Takes a file's bits for others away.
pub fn keep_to_owner(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// minisign, run in the folder; its standard output.
#[track_caller]
pub fn minisign(site: &Site, line: &str) -> String {
    minisign_with_input(site, line, "")
}

#[track_caller]
pub fn minisign_with_input(site: &Site, line: &str, input: &str) -> String {
    use std::io::Write as _;
    let mut command = Command::new("minisign");
    command.args(line.split_whitespace()).current_dir(site.path(""));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("minisign is installed by scripts/test");
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A key file of minisign's without a passphrase gets one, with scrypt as cheap as the format has it: a
/// second for each time that it is asked for would be too long. (minisign opens it as well: see
/// signature.rs.)
pub fn encrypt_cheaply(site: &Site, name: &str, passphrase: &str) {
    use base64::Engine as _;
    use blake2::{Blake2b256, Digest as _};
    let standard = base64::engine::general_purpose::STANDARD;
    let mut key = standard.decode(site.read(name).lines().nth(1).unwrap()).unwrap();
    let sum = Blake2b256::new().chain_update(&key[..2]).chain_update(&key[54..126]).finalize();
    key[126..].copy_from_slice(&sum);
    key[2..4].copy_from_slice(b"Sc");
    key[6..38].fill(7);
    key[38..46].copy_from_slice(&32_768u64.to_le_bytes());
    key[46..54].copy_from_slice(&(16u64 << 20).to_le_bytes());
    let mut stream = [0; 104];
    // 32768 operations: N = 2^10, r = 8, p = 1.
    let costs = scrypt::Params::new(10, 8, 1).unwrap();
    scrypt::scrypt(passphrase.as_bytes(), &[7; 32], &costs, &mut stream).unwrap();
    key[54..].iter_mut().zip(stream).for_each(|(byte, mask)| *byte ^= mask);
    site.write(name, format!("untrusted comment: cheap\n{}\n", standard.encode(key)));
}

/// A CSV table in memory, to be spoiled.
#[derive(Clone)]
pub struct Table {
    pub header: Vec<String>,
    pub rows: Vec<Vec<String>>,
}

impl Table {
    pub fn parse(text: &str) -> Table {
        let mut reader = csv::ReaderBuilder::new().from_reader(text.as_bytes());
        let header = reader.headers().unwrap().iter().map(str::to_owned).collect();
        let rows = reader.records().map(|r| r.unwrap().iter().map(str::to_owned).collect()).collect();
        Table { header, rows }
    }

    /// The sample export.
    pub fn sample() -> Table {
        Table::parse(&std::fs::read_to_string(sample("export.csv")).unwrap())
    }

    pub fn column(&self, name: &str) -> usize {
        self.header.iter().position(|h| h == name).unwrap_or_else(|| panic!("no column {name}"))
    }

    pub fn value(&mut self, row: usize, column: &str) -> &mut String {
        let column = self.column(column);
        &mut self.rows[row][column]
    }

    pub fn get(&self, row: usize, column: &str) -> &str {
        &self.rows[row][self.column(column)]
    }

    /// The first row with values in all of `columns`, from `from` on.
    pub fn row_with(&self, from: usize, columns: &[&str]) -> usize {
        (from..self.rows.len()).find(|r| columns.iter().all(|c| !self.get(*r, c).is_empty())).unwrap()
    }

    pub fn text(&self) -> String {
        let mut writer = csv::Writer::from_writer(vec![]);
        writer.write_record(&self.header).unwrap();
        self.rows.iter().for_each(|row| writer.write_record(row).unwrap());
        String::from_utf8(writer.into_inner().unwrap()).unwrap()
    }
}

/// An envelope's text with its JSON changed.
pub fn edit_envelope(text: &str, edit: impl FnOnce(String) -> String) -> String {
    use base64::Engine as _;
    let base64 = base64::engine::general_purpose::STANDARD;
    base64.encode(edit(String::from_utf8(base64.decode(text).unwrap()).unwrap()))
}

/// The key id that an envelope names.
pub fn key_of(text: &str) -> String {
    rekek::envelope::independent::read(text).unwrap().key_id
}

pub const CIPHERTEXTS: [&str; 3] =
    ["encrypted_signing_key_1", "encrypted_signing_key_2", "encrypted_auth_method_config"];

/// The sample with one defect in each of some rows: (row, organization, column, what the report says).
pub fn spoiled() -> (Table, Vec<(usize, String, &'static str, String)>) {
    let mut table = Table::sample();
    let mut expected = Vec::new();
    let mut expect = |row: usize, table: &Table, column: &'static str, error: &str| {
        // What is not spelled as an id is not quoted.
        let id = if column == "organization_id" { "?" } else { table.get(row, "organization_id") };
        let id = id.to_owned();
        expected.push((row, id, column, format!("row {}: {error}", row + 1)));
    };
    let [one, two, auth] = CIPHERTEXTS;

    let row = table.row_with(10, &[one]);
    *table.value(row, one) = "e30=".into();
    expect(row, &table, one, "malformed envelope");

    let row = table.row_with(20, &[one, auth]);
    let unknown = edit_envelope(table.get(row, auth), |json| {
        json.replace("\"kv0\"", "\"kv9\"").replace("\"kv1\"", "\"kv9\"").replace("\"kv2\"", "\"kv9\"")
    });
    *table.value(row, auth) = unknown;
    expect(row, &table, auth, "names key kv9, which is in none of the secrets given");

    let row = (30..).find(|r| !table.get(*r, one).is_empty() && key_of(table.get(*r, one)) == "kv1").unwrap();
    let wrong = edit_envelope(table.get(row, one), |json| json.replace("\"kv1\"", "\"kv0\""));
    *table.value(row, one) = wrong;
    expect(row, &table, one, "does not open under key kv0");

    // An envelope that already names the target must open too.
    let row = (40..).find(|r| !table.get(*r, one).is_empty() && key_of(table.get(*r, one)) == "kv1").unwrap();
    let forged = edit_envelope(table.get(row, one), |json| json.replace("\"kv1\"", "\"kv2\""));
    *table.value(row, one) = forged;
    expect(row, &table, one, "does not open under key kv2");

    // Two organizations' signing keys, swapped: both open, neither belongs where it is.
    let (a, b) = (table.row_with(50, &[one]), table.row_with(60, &[one]));
    let (text_a, text_b) = (table.get(a, one).to_owned(), table.get(b, one).to_owned());
    (*table.value(a, one), *table.value(b, one)) = (text_b, text_a);
    let differs = "the signing key does not match the public value beside it: the envelope may be another row's or slot's";
    expect(a, &table, one, differs);
    expect(b, &table, one, differs);

    let row = table.row_with(70, &[two]);
    *table.value(row, "signing_key_public_2") = "{\"v\": 1}".into();
    let public = "the public value beside it is not JSON with a P-256 public key in `public_pem`";
    expect(row, &table, two, public);

    let row = 80;
    *table.value(row, "organization_id") = "org 80/ä".into();
    expect(
        row,
        &table,
        "organization_id",
        "an organization id has only ASCII letters, digits, `_` and `-`, and at least one of them",
    );

    let row = table.row_with(90, &[one]);
    let version = edit_envelope(table.get(row, one), |json| {
        json.replace("\"scheme_version\":1", "\"scheme_version\":2")
    });
    *table.value(row, one) = version;
    expect(row, &table, one, "scheme version 2");
    (table, expected)
}
