//! Memory of `rekek-site`: bounded by the batch and by the longest row, not by the table or the file.

use crate::cluster::Cluster;
use crate::folder::Site;
use crate::peak::peak;
use crate::support::{BOTH, CONFIG, Kind, Ran, Rehearsal, counts, envelope, ran};
use rekek::row::Sha256Digest;
use std::fmt::Write as _;
use std::process::{Command, Stdio};

/// A folder and a database without tables.
fn empty(kind: Kind) -> Rehearsal<'static> {
    let (folder, cluster) = (Site::empty(), Cluster::shared());
    folder.write("site.toml", "machine_identity.current_encryption_key_id = 'kv2'");
    let database = if kind == Kind::Postgres { cluster.database(None) } else { String::new() };
    let url = if kind == Kind::Postgres { cluster.url(&database) } else { "sqlite:site.db".into() };
    Rehearsal { folder, cluster, database, url }
}

const FIELDS: &str = "encrypted_signing_key_1,encrypted_signing_key_2,encrypted_auth_method_config";
const SOURCES: &str =
    "source_sha256_signing_key_1,source_sha256_signing_key_2,source_sha256_auth_method_config";

#[test]
fn a_peak_does_not_grow_with_the_rows() {
    for kind in BOTH {
        let new = envelope("kv2", 1_000);
        let [small, large] = [6_000, 24_000].map(|rows| {
            let r = empty(kind);
            let (mut made, mut out) =
                (format!("organization_id,{FIELDS}\n"), format!("organization_id,{FIELDS},{SOURCES}\n"));
            for i in 0..rows {
                let old = format!("{i} {}", "old ".repeat(750));
                writeln!(made, "org-{i:07},{old},,").unwrap();
                writeln!(out, "org-{i:07},{new},,,{},,", Sha256Digest::of(&old)).unwrap();
            }
            r.folder.write("made.csv", made);
            r.folder.write("out.csv", out);
            r.vouch_for("out.csv", rows);
            let peaks = [
                ("init", peak(r.command("init --rows made.csv"))),
                ("export", peak(r.command("export -o export.csv"))),
                ("import", peak(r.import_command(""))),
                ("inspect", peak(r.command("inspect"))),
            ];
            let written = format!("SELECT count(*) FROM {CONFIG} WHERE encrypted_signing_key_1 LIKE 'ey%'");
            assert_eq!(r.value(&written), rows.to_string());
            peaks
        });
        for ((command, small), (_, large)) in small.into_iter().zip(large) {
            println!("{kind:?} {command}: peak {small} KiB at 6,000 organizations, {large} KiB at 24,000");
            // The files grew by 54 MB.
            assert!(large <= small + (16 << 10), "{kind:?} {command} grew from {small} to {large} KiB");
            assert!(large <= 64 << 10, "{kind:?} {command} took {large} KiB");
        }
    }
}

/// KiB that the program may map: 2 GiB, as in tests/bounds.rs.
const ADDRESS_SPACE: u64 = 2 << 20;

fn limited(command: &Command) -> Ran {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("ulimit -v {ADDRESS_SPACE} && exec \"$0\" \"$@\"")]);
    shell.arg(command.get_program()).args(command.get_args());
    shell.current_dir(command.get_current_dir().unwrap()).stdin(Stdio::null());
    ran(shell.output().unwrap())
}

/// Files that fit their manifests, with a value of 100 MiB: an envelope goes in, and out again; anything else
/// is refused in one line. Nothing allocates more than a few times that.
#[test]
fn a_field_of_100_mib() {
    for kind in BOTH {
        let r = empty(kind);
        r.folder.write("made.csv", format!("organization_id,{FIELDS}\norg-1,old,,\norg-2,old,,\n"));
        r.site("init --rows made.csv").good();
        let before = r.state();
        let old = Sha256Digest::of("old");
        let import = |value: &str, more: &str| {
            let text = format!(
                "organization_id,{FIELDS},{SOURCES}\norg-1,{value},{more},,{old},,\norg-2,old,,,{old},,\n"
            );
            r.folder.write("out.csv", text);
            r.vouch_for("out.csv", 2);
            limited(&r.import_command(""))
        };
        let refused = |ran: Ran, told: &str| {
            assert_eq!((ran.status, ran.stdout.as_str()), (1, ""), "{kind:?}: {}", ran.stderr);
            assert!(
                ran.stderr.starts_with("rekek-site: ") && ran.stderr.contains(told),
                "{kind:?}: {}",
                ran.stderr
            );
            assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
            assert_eq!(r.state(), before);
        };
        let stuff = "x".repeat(100 << 20);
        refused(import(&stuff, ""), "differs from its source and is no envelope: the file was altered");
        refused(import(&stuff, &stuff), "line 2: the record is longer than 134217728 bytes");

        let large = envelope("kv2", 39_330_000);
        assert!((100 << 20..105 << 20).contains(&large.len()), "{}", large.len());
        let ran = import(&large, "");
        assert_eq!((ran.status, ran.stderr.as_str()), (0, ""), "{kind:?}");
        assert_eq!(counts(&ran), [1, 0, 1, 0]);
        let ran = limited(&r.command("export -o after.csv"));
        assert_eq!((ran.status, ran.stderr.as_str()), (0, ""), "{kind:?}");
        assert!(r.folder.read("after.csv").contains(&large), "{kind:?}: what was written is what is read");
        let ran = limited(&r.command("inspect --json"));
        assert_eq!((ran.status, ran.json()["fields_by_key"]["kv2"].as_u64()), (0, Some(1)), "{}", ran.stderr);
    }
}
