//! The memory of a process that holds keys: who may look into it (nobody), and what somebody would
//! find who could: at a rest in mid-run the keyring and nothing else, at the end nothing.
//!
//! `rekek` forbids to be looked into, so here strace makes that one call (`prctl`) do nothing. What
//! is read is every page that the process could write: more than a core would hold.

use crate::folder::{CIPHERTEXTS, Site, Table, edit_envelope, encrypt_cheaply};
use crate::needles::Needles;
use crate::pair;
use crate::terminal::Terminal;
use base64::Engine as _;
use rekek::keyring::Keyring;
use rekek::secret::Plaintext;
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::time::Duration;

const BASE64: base64::engine::GeneralPurpose = base64::engine::general_purpose::STANDARD;

/// A site of 1,500 organizations, three batches, with keys that stand nowhere else, and what to look for.
struct Held {
    site: Site,
    keys: Needles,
    plaintexts: Needles,
    /// The secret key that signs, as it stands in `sign.key`, and under [`PASSPHRASE`] in `locked.key`.
    signing: Needles,
}

/// (Nothing else has twelve characters in common with it.)
const PASSPHRASE: &str = "sphinx of black quartz, judge my vow";

const KEYS: [&str; 3] = ["kv0", "kv1", "kv2"];

fn held() -> Held {
    let site = Site::empty();
    for key in KEYS {
        site.rekek(&format!("keygen {key} --secrets secrets.json")).good();
    }
    // Another seed each time: these plaintexts are in no binary and no cache.
    let seed = u32::from_ne_bytes(key_of(&site, "kv0")[..4].try_into().unwrap());
    let line = format!(
        "generate -o export.csv --orgs 1500 --secrets secrets.json --under kv0 --under kv1 --under kv2 --seed {seed}"
    );
    site.rekek(&line).good();
    let json: serde_json::Value = serde_json::from_str(&site.read("secrets.json")).unwrap();
    let keys = &json["machine_identity"]["encryption_keys"];
    let text = |key: &str| keys[key].as_str().unwrap();
    site.write(
        "secrets.yaml",
        format!(
            "machine_identity:\n  encryption_keys:\n    kv0: {}\n    kv1: \"{}\"\n    kv2: |\n      {}\n",
            text("kv0"),
            text("kv1").replace('=', "\\x3d"),
            text("kv2")
        ),
    );
    site.write("escaped.json", site.read("secrets.json").replace("=\"", "\\u003d\\n\""));
    for key in KEYS {
        let answer = serde_json::json!({"data": {"data": {"UsernamePassword": {"username": "", "password": text(key).to_owned() + "\n"}}}});
        site.write(&format!("{key}.vault"), answer.to_string());
    }
    site.write("failing.csv", failing(&site));
    std::fs::create_dir_all(site.path("sites/one")).unwrap();
    for name in ["export.csv", "secrets.json"] {
        site.write(&format!("sites/one/{name}"), site.read(name));
    }
    site.write("sites/one/site.toml", "machine_identity.current_encryption_key_id = 'kv2'\n");
    let mut held =
        Held { keys: Needles::default(), plaintexts: Needles::default(), signing: signing(&site), site };
    for key in KEYS {
        let material = key_of(&held.site, key);
        held.keys.add(key, &material);
        held.keys.add_text(key, &schedule(&material));
    }
    let mut keyring = Keyring::new();
    keyring.add_secrets("secrets.json", held.site.read("secrets.json").as_bytes()).unwrap();
    add_plaintexts(&mut held.plaintexts, &keyring, &Table::parse(&held.site.read("export.csv")));
    held
}

/// Some rows, of which one has an envelope under a key that is none, one a signing key of another
/// row, one what is no envelope.
fn failing(site: &Site) -> String {
    let mut table = Table::parse(&site.read("export.csv"));
    table.rows.truncate(60);
    let slot = CIPHERTEXTS[0];
    let [a, b, c, d] = [0, 10, 20, 30].map(|from| table.row_with(from, &[slot]));
    let unknown =
        edit_envelope(table.get(a, slot), |json| json.replace("\"key_id\":\"kv", "\"key_id\":\"kx"));
    *table.value(a, slot) = unknown;
    let (text_b, text_c) = (table.get(b, slot).to_owned(), table.get(c, slot).to_owned());
    (*table.value(b, slot), *table.value(c, slot)) = (text_c, text_b);
    *table.value(d, slot) = "e30=".into();
    table.text()
}

/// The key that signs, what is made of it, its passphrase, and what is made of that.
fn signing(site: &Site) -> Needles {
    use sha2::Digest as _;
    pair::add(site);
    site.write("locked.key", site.read("sign.key"));
    encrypt_cheaply(site, "locked.key", PASSPHRASE);
    let mut signing = Needles::default();
    signing.add("the seed", &pair::seed());
    signing.add("the key of the seed", &sha2::Sha512::digest(pair::seed()));
    signing.add("the passphrase", PASSPHRASE.as_bytes());
    let (plain, locked) =
        (pair::key_bytes(&site.read("sign.key")), pair::key_bytes(&site.read("locked.key")));
    // (The checksum is left out: minisign's own is zero without a passphrase.)
    let mask: Vec<_> = (54..126).map(|at| plain[at] ^ locked[at]).collect();
    signing.add("the key of the passphrase", &mask);
    signing
}

/// Looks for every plaintext of a table, and for the private scalar in each signing key.
fn add_plaintexts(plaintexts: &mut Needles, keyring: &Keyring, table: &Table) {
    for row in 0..table.rows.len() {
        for column in CIPHERTEXTS {
            let text = table.get(row, column);
            if text.is_empty() {
                continue;
            }
            let envelope = rekek::envelope::independent::read(text).unwrap();
            let key = &keyring.keys()[keyring.position(&envelope.key_id).unwrap()];
            let mut plaintext = Plaintext::new();
            key.cipher().open_into(&envelope.nonce, &envelope.ciphertext, &mut plaintext).unwrap();
            let plaintext = plaintext.expose_plaintext();
            plaintexts.add_text("a plaintext", plaintext);
            // The first digits of a secret begin another's too, such as one that `rekek bench` makes up.
            if let Some(at) = plaintext.windows(8).position(|w| w == b"made-up-") {
                plaintexts.allow(&plaintext[..at + 12]);
            }
            if let Ok((_, der)) = pem_rfc7468::decode_vec(plaintext) {
                // The private scalar (RFC 5915): behind 04 20, up to the public key.
                let at = der.windows(3).position(|w| w == [1, 4, 0x20]).unwrap() + 3;
                plaintexts.add("a private scalar", &der[at..at + 32]);
                plaintexts.allow(&plaintext[..64]);
                plaintexts.allow(&plaintext[plaintext.len() - 26..]);
            }
        }
    }
    // What every configuration has around its secrets, and what the public values share.
    for row in 0..table.rows.len() {
        plaintexts.allow(format!("{{\"client_id\":\"client-{row}\",\"client_secret\":\"made-up-").as_bytes());
        for column in ["signing_key_public_1", "signing_key_public_2"] {
            plaintexts.allow(table.get(row, column).as_bytes());
        }
    }
}

fn key_of(site: &Site, key: &str) -> Vec<u8> {
    let json: serde_json::Value = serde_json::from_str(&site.read("secrets.json")).unwrap();
    BASE64.decode(json["machine_identity"]["encryption_keys"][key].as_str().unwrap()).unwrap()
}

/// The round keys of AES-256 (FIPS 197, 5.2), written down once more.
fn schedule(key: &[u8]) -> Vec<u8> {
    let mut words: Vec<[u8; 4]> = key.chunks(4).map(|w| w.try_into().unwrap()).collect();
    let mut rcon = 1u8;
    for i in 8..60 {
        let mut word = words[i - 1];
        if i % 8 == 0 {
            word.rotate_left(1);
            word = word.map(sub);
            word[0] ^= rcon;
            rcon <<= 1;
        } else if i % 8 == 4 {
            word = word.map(sub);
        }
        words.push(std::array::from_fn(|b| words[i - 8][b] ^ word[b]));
    }
    words.concat()
}

fn sub(byte: u8) -> u8 {
    S_BOX[usize::from(byte)]
}

/// The S-box (FIPS 197, 5.1.1): the inverse in GF(2^8), then an affine map.
static S_BOX: LazyLock<[u8; 256]> = LazyLock::new(|| {
    let times = |mut a: u8, mut b: u8| {
        let mut product = 0;
        while b != 0 {
            if b & 1 == 1 {
                product ^= a;
            }
            a = (a << 1) ^ if a & 0x80 == 0 { 0 } else { 0x1b };
            b >>= 1;
        }
        product
    };
    std::array::from_fn(|byte| {
        let inverse = (0..=255).find(|other| times(byte as u8, *other) == 1).unwrap_or(0);
        (0..5).fold(0x63, |sum, shift| sum ^ inverse.rotate_left(shift))
    })
});

/// How many schedules stand there, of whatever keys: for the keys that nobody was told.
fn schedules(memory: &[(String, Vec<u8>)]) -> usize {
    let is_one = |bytes: &[u8]| {
        // The ninth word, looked at first, is what hardly anything else has.
        let ninth = [sub(bytes[29]) ^ 1, sub(bytes[30]), sub(bytes[31]), sub(bytes[28])];
        (0..4).all(|b| bytes[32 + b] == bytes[b] ^ ninth[b]) && bytes == schedule(&bytes[..32])
    };
    let in_one = |bytes: &[u8]| {
        (0..(bytes.len() + 1).saturating_sub(SCHEDULE))
            .step_by(4)
            .filter(|at| is_one(&bytes[*at..at + SCHEDULE]))
            .count()
    };
    memory.iter().map(|(_, bytes)| in_one(bytes)).sum()
}

#[test]
fn the_schedule_is_that_of_the_standard() {
    let key = hex::decode("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4").unwrap();
    let words = schedule(&key);
    assert_eq!(hex::encode(&words[32..36]), "9ba35411", "FIPS 197, A.3, w8");
    assert_eq!(hex::encode(&words[236..240]), "706c631e", "FIPS 197, A.3, w59");
    let memory = [vec![0; 100], words.clone(), vec![0; 100], words].concat();
    assert_eq!(schedules(&[("somewhere".into(), memory)]), 2);
}

/// `rekek` with its own prctl made to do nothing; at its end it waits to be looked into.
fn open_to_view(site: &Site, line: &str) -> Command {
    let rekek = site.plain_command(line);
    let mut command = Command::new("strace");
    command.args(["-D", "-f", "-qq", "-o", "/dev/null", "-e", "trace=prctl,exit_group"]);
    command.args(["-e", "inject=prctl:retval=0", "-e", "inject=exit_group:delay_enter=600000000"]);
    command.arg(rekek.get_program()).args(rekek.get_args()).current_dir(site.path(""));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn start(site: &Site, line: &str) -> Child {
    open_to_view(site, line).spawn().expect("strace is installed (scripts/test does it)")
}

/// The `rekek` that runs in the folder, started by whatever.
fn process_in(site: &Site) -> u32 {
    let folder = site.path("").canonicalize().unwrap();
    let is_it = |process: &Path| {
        std::fs::read_to_string(process.join("comm")).is_ok_and(|name| name.trim() == "rekek")
            && std::fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd == folder)
    };
    loop {
        let processes = std::fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
        if let Some(it) = processes.into_iter().find(|path| is_it(path)) {
            return it.file_name().unwrap().to_str().unwrap().parse().unwrap();
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Waits until every thread waits for something and none has done anything for a while.
fn wait_until_idle(process: u32) {
    let mut quiet = 0;
    let mut last = String::new();
    while quiet < 15 {
        let mut now = String::new();
        let mut asleep = true;
        for task in std::fs::read_dir(format!("/proc/{process}/task")).unwrap() {
            let stat = std::fs::read_to_string(task.unwrap().path().join("stat")).unwrap_or_default();
            let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
            asleep &= fields.first() == Some(&"S");
            now += &format!("{:?} ", fields.get(11..13));
        }
        quiet = if asleep && now == last { quiet + 1 } else { 0 };
        last = now;
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until it stands before its last system call.
fn wait_until_end(process: u32) {
    let exit_group = if cfg!(target_arch = "x86_64") { "231 " } else { "94 " };
    while !std::fs::read_to_string(format!("/proc/{process}/syscall")).unwrap().starts_with(exit_group) {
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Every page that the process could write, by mapping: its name and its bytes.
fn memory(process: u32) -> Vec<(String, Vec<u8>)> {
    let maps = || std::fs::read_to_string(format!("/proc/{process}/maps")).unwrap();
    let mut memory = std::fs::File::open(format!("/proc/{process}/mem")).unwrap();
    let mut all = Vec::new();
    for line in maps().lines() {
        let fields: Vec<_> = line.split_whitespace().collect();
        if !fields[1].starts_with("rw") {
            continue;
        }
        let (start, end) = fields[0].split_once('-').unwrap();
        let [start, end] = [start, end].map(|text| u64::from_str_radix(text, 16).unwrap());
        let mut bytes = vec![0; (end - start) as usize];
        memory.seek(std::io::SeekFrom::Start(start)).unwrap();
        if let Err(error) = memory.read_exact(&mut bytes) {
            // A thread that was about to end when we looked has taken its stack with it: that is no more.
            assert!(!maps().lines().any(|still| still == line), "{line}: {error}");
            continue;
        }
        all.push((fields.get(5).unwrap_or(&"anonymous").to_string(), bytes));
    }
    assert!(all.iter().any(|(name, _)| name == "[stack]") && all.iter().any(|(name, _)| name == "[heap]"));
    all
}

/// Bytes of a schedule. (That for opening differs from that for sealing but at its ends.)
const SCHEDULE: usize = 240;

/// Where pieces are found: mapping, secret, the first byte and the last of each place.
fn places(needles: &Needles, memory: &[(String, Vec<u8>)]) -> Vec<(String, &'static str, usize, usize)> {
    let mut places: Vec<(String, &'static str, usize, usize)> = Vec::new();
    for (name, bytes) in memory {
        for (secret, at) in needles.all(bytes) {
            match places.last_mut() {
                Some(last) if last.0 == *name && last.1 == secret && at <= last.3 + SCHEDULE => {
                    last.3 = at + 12
                }
                _ => places.push((name.clone(), secret, at, at + 12)),
            }
        }
    }
    places
}

fn kill(process: u32) {
    // Its tracer first: while that counts a delay, the end of the other would wait for it.
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:")).unwrap().trim();
    let process = process.to_string();
    for id in [tracer, &process].into_iter().filter(|id| *id != "0") {
        // (Let go by its tracer, it may have ended by itself.)
        Command::new("kill").args(["-s", "KILL", id]).output().unwrap();
    }
}

fn end(mut child: Child) {
    kill(child.id());
    child.wait().unwrap();
}

impl Held {
    /// The memory of a run that has begun the export on its standard input and waits for the rest of it.
    fn mid_run(&self, process: u32, mut stdin: impl std::io::Write) -> Vec<(String, Vec<u8>)> {
        let export = self.site.read("export.csv");
        stdin.write_all(&export.as_bytes()[..export.rfind("org-0001499").unwrap()]).unwrap();
        wait_until_idle(process);
        let memory = memory(process);
        kill(process);
        memory
    }

    /// What a run's memory must have: of every key its own 32 bytes, and the cipher's schedule.
    #[track_caller]
    fn has_the_keyring_only(&self, memory: &[(String, Vec<u8>)], line: &str) {
        let found = places(&self.plaintexts, memory);
        assert_eq!(found, [], "{line}: {}", self.plaintexts.first_in(memory));
        let (keys, yaml) = (places(&self.keys, memory), line.contains(".yaml"));
        for key in KEYS {
            let places: Vec<_> = keys.iter().filter(|place| place.1 == key).collect();
            assert!(places.len() == 2 || (yaml && places.len() > 2), "{line}: {keys:#?}");
            assert!(places.iter().all(|place| !place.0.contains("stack")), "{line}: {keys:#?}");
        }
        if cfg!(target_arch = "x86_64") {
            assert_eq!(schedules(memory), KEYS.len(), "{line}");
        }
    }

    /// Of what signs there is the seed, so many times, and nothing else.
    #[track_caller]
    fn has_the_seed(&self, times: usize, memory: &[(String, Vec<u8>)], line: &str) {
        let places = places(&self.signing, memory);
        assert_eq!(places.len(), times, "{line}: {places:#?}");
        assert!(
            places.iter().all(|place| place.1 == "the seed" && !place.0.contains("stack")),
            "{line}: {places:#?}"
        );
    }

    /// Fails if anything is left at the end of a run, which is here.
    #[track_caller]
    fn has_nothing(&self, process: u32, line: &str) {
        wait_until_end(process);
        let memory = memory(process);
        let environment = std::fs::read(format!("/proc/{process}/environ")).unwrap();
        kill(process);
        assert_eq!(schedules(&memory), 0, "{line}");
        for needles in [&self.keys, &self.plaintexts, &self.signing] {
            let left: Vec<_> = places(needles, &memory).into_iter().filter(ours(line)).collect();
            assert_eq!(left, [], "{line}: {}", needles.first_in(&memory));
            needles.none_in(&environment, line);
        }
    }
}

/// The parser of YAML leaves pieces of keys on the heap, now overwritten by what comes after, now not:
/// the README says so. Whatever else is left is ours.
fn ours(line: &str) -> impl Fn(&(String, &'static str, usize, usize)) -> bool {
    let yaml = line.contains(".yaml");
    move |(mapping, secret, ..)| !(yaml && mapping == "[heap]" && KEYS.contains(secret))
}

const MID_RUN: &str = "rewrap - --input-format csv -o out.csv --to kv2 --threads 2 --check-signing-keys full";

#[test]
fn at_rest_in_mid_run_there_is_the_keyring_and_nothing_else() {
    let held = held();
    for more in ["--secrets secrets.json", "--secrets secrets.yaml", "--secrets secrets.json --sign sign.key"]
    {
        let line = format!("{MID_RUN} {more}");
        let mut child = start(&held.site, &line);
        let stdin = child.stdin.take().unwrap();
        let memory = held.mid_run(child.id(), stdin);
        child.wait().unwrap();
        held.has_the_keyring_only(&memory, &line);
        held.has_the_seed(usize::from(more.contains("--sign")), &memory, &line);
    }
}

#[test]
fn at_rest_in_mid_run_nothing_is_left_of_a_passphrase() {
    let held = held();
    assert!(Command::new("mkfifo").arg(held.site.path("fifo")).status().unwrap().success());
    let line = format!("{MID_RUN} --secrets secrets.json --sign locked.key");
    let mut terminal = Terminal::start(&open_to_view(&held.site, &line), "fifo");
    let stdin = std::fs::File::options().write(true).open(held.site.path("fifo")).unwrap();
    terminal.wait_for("passphrase of locked.key: ");
    terminal.type_in(&format!("{PASSPHRASE}\n"));
    let memory = held.mid_run(process_in(&held.site), stdin);
    terminal.end();
    held.has_the_keyring_only(&memory, &line);
    held.has_the_seed(1, &memory, &line);
}

/// Command lines at whose end nothing is left.
pub const LINES: &[&str] = &[
    "rewrap export.csv -o out1.csv --secrets secrets.json --to kv2 --threads 2",
    "rewrap export.csv -o out2.csv --secrets secrets.json --to kv2 --threads 1 --check-signing-keys full",
    "rewrap export.csv -o out3.csv --secrets escaped.json --to kv2",
    "rewrap export.csv -o out4.csv --secrets secrets.yaml --to kv2",
    "rewrap export.csv -o out5.csv --secrets - --to kv2",
    "rewrap export.csv -o out6.csv --secrets secrets.json --to kv2 --sign sign.key",
    "rewrap export.csv -o out7.csv --secrets secrets.json --to kv9 --sign sign.key",
    "rewrap failing.csv -o out8.csv --secrets secrets.json --to kv2 --keep-going --check-signing-keys full",
    "rewrap export.csv --dry-run --vault-key kv0=kv0.vault --vault-key kv1=kv1.vault --vault-key kv2=kv2.vault --to kv2",
    "rewrap export.csv --dry-run --vault-key kv0=kv1.vault --vault-key kv1=kv0.vault --vault-key kv2=kv2.vault --to kv2",
    "rewrap export.csv --dry-run --secrets secrets.json --to kv9",
    "rewrap export.csv --dry-run --secrets secrets.json --secrets escaped.json --to kv2",
    "rewrap export.csv --dry-run --secrets escaped.json --to kv9",
    "rewrap nowhere.csv --dry-run --vault-key kv1=kv1.vault --vault-key kv2=kv2.vault --to kv2",
    "verify done.csv --source export.csv --secrets secrets.json --threads 2",
    "verify failing.csv --secrets secrets.json --threads 2",
    "generate -o made.csv --orgs 20 --secrets secrets.json --under kv1",
    "fleet sites --threads 2 --sign sign.key",
    "bench --rows 40 --rounds 1 --threads 2",
    "keygen kv3 --secrets secrets.json",
    "keygen kv4",
];

#[test]
fn at_the_end_of_any_command_there_is_nothing() {
    let mut held = held();
    held.site.rekek("rewrap export.csv -o done.csv --secrets secrets.json --to kv2").good();
    for line in LINES {
        let mut child = start(&held.site, line);
        let mut stdin = child.stdin.take().unwrap();
        if line.contains("--secrets -") {
            stdin.write_all(held.site.read("secrets.json").as_bytes()).unwrap();
        }
        drop(stdin);
        wait_until_end(child.id());
        if line.starts_with("keygen kv3") {
            held.keys.add("the new key", &key_of(&held.site, "kv3"));
        } else if line.starts_with("keygen") {
            let mut text = [0; 44];
            child.stdout.as_mut().unwrap().read_exact(&mut text).unwrap();
            held.keys.add("the new key", &BASE64.decode(text).unwrap());
        }
        held.has_nothing(child.id(), line);
        child.wait().unwrap();
    }
}

#[test]
fn at_the_end_there_is_nothing_of_a_passphrase_right_or_wrong() {
    let held = held();
    for mistake in ["", "!"] {
        let line = format!(
            "rewrap export.csv -o out{mistake}.csv --secrets secrets.json --to kv2 --sign locked.key"
        );
        let mut terminal = Terminal::start(&open_to_view(&held.site, &line), "/dev/null");
        terminal.wait_for("passphrase of locked.key: ");
        terminal.type_in(&format!("{PASSPHRASE}{mistake}\n"));
        held.has_nothing(process_in(&held.site), &line);
        terminal.end();
        assert!(held.site.path("out.csv.manifest.json.minisig").exists(), "it was signed with");
    }
    assert!(!held.site.path("out!.csv").exists());
}

/// As root, everything is run as a user who is not.
fn as_somebody(program: &std::path::Path) -> Command {
    let root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
    let mut command = Command::new(if root { "setpriv".as_ref() } else { program.as_os_str() });
    if root {
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]).arg(program);
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[test]
fn nobody_may_look_into_a_run_and_it_leaves_no_core() {
    let site = Site::sample();
    let open = |name: &str, mode| {
        std::fs::set_permissions(site.path(name), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    open("", 0o777);
    open("secrets.json", 0o644);
    // (Where it was built, that user might not come to.)
    std::fs::copy(assert_cmd::cargo::cargo_bin!("rekek"), site.path("rekek")).unwrap();
    open("rekek", 0o755);
    let mut rekek = as_somebody(&site.path("rekek"));
    let line = "rewrap - --input-format csv --dry-run --secrets secrets.json --to kv2";
    let rekek = rekek.args(line.split(' ')).current_dir(site.path("")).spawn().unwrap();
    let cat = as_somebody("/bin/cat".as_ref()).spawn().unwrap();
    for child in [&rekek, &cat] {
        let program = if child.id() == cat.id() { "cat" } else { "rekek" };
        while std::fs::read_to_string(format!("/proc/{}/comm", child.id())).unwrap().trim() != program {
            std::thread::sleep(Duration::from_millis(2));
        }
        wait_until_idle(child.id());
    }
    let may = |program: &str, arguments: &[&str]| {
        let output = as_somebody(program.as_ref()).args(arguments).stdin(Stdio::null()).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for file in ["environ", "maps", "mem", "auxv"] {
        let first_byte =
            |child: &Child| may("/usr/bin/head", &["-c1", &format!("/proc/{}/{file}", child.id())]);
        let (read, said) = first_byte(&rekek);
        assert!(!read && said.contains("Permission denied"), "{file}: {said}");
        if file != "mem" {
            assert!(first_byte(&cat).0, "{file}: a process that hides nothing can be looked into");
        }
    }
    let attach = |child: &Child| {
        may("timeout", &["1", "strace", "-qq", "-o", "/dev/null", "-p", &child.id().to_string()]).1
    };
    let said = attach(&rekek);
    assert!(said.contains("Operation not permitted"), "{said}");
    // (Where Yama lets only parents attach, the other process cannot be attached to either.)
    let yama = std::fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").unwrap_or_default();
    assert_eq!(attach(&cat).contains("Operation not permitted"), !["", "0"].contains(&yama.trim()));
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", rekek.id())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().collect::<Vec<_>>()[4..6], ["0", "0"], "{core}");
    let abort = Command::new("kill").args(["-s", "ABRT", &rekek.id().to_string()]).status().unwrap();
    assert!(abort.success());
    let output = rekek.wait_with_output().unwrap();
    assert_eq!((output.status.signal(), output.status.core_dumped()), (Some(6), false));
    end(cat);
}
