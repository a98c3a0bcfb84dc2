//! Bad input gets one clear message with the place, the documented status, and nothing written.

use crate::support::{CIPHERTEXTS, Site, Table};

const REWRAP: &str = "rewrap export.csv -o out.csv --secrets secrets.json --to kv2";

/// Runs a command that must refuse, and looks whether it left the folder as it was.
#[track_caller]
fn refused(site: &Site, line: &str, status: i32, message: &str) {
    let before: Vec<_> = site.names().into_iter().map(|n| (std::fs::read(site.path(&n)).ok(), n)).collect();
    let run = site.rekek(line);
    assert_eq!((run.stderr.as_str(), run.status), (format!("rekek: {message}\n").as_str(), status), "{line}");
    assert_eq!(run.stdout, "", "{line}");
    let after: Vec<_> = site.names().into_iter().map(|n| (std::fs::read(site.path(&n)).ok(), n)).collect();
    assert!(before == after, "{line} changed the folder");
}

/// The sample site with another export.
#[track_caller]
fn refused_export(export: impl AsRef<[u8]>, message: &str) {
    let site = Site::sample();
    site.write("export.csv", export);
    for threads in [1, 2] {
        refused(
            &site,
            &format!("{REWRAP} --threads {threads}"),
            1,
            &format!("cannot read export.csv: {message}"),
        );
    }
    let inspect = site.rekek("inspect export.csv");
    assert_eq!((inspect.status, inspect.stderr), (1, format!("rekek: cannot read export.csv: {message}\n")));
}

#[test]
fn an_export_that_is_no_table() {
    let site = Site::sample();
    let missing = "cannot read missing.csv: No such file or directory (os error 2)";
    refused(&site, "rewrap missing.csv -o out.csv --secrets secrets.json --to kv2", 1, missing);
    std::fs::create_dir(site.path("folder.csv")).unwrap();
    let run = site.rekek("rewrap folder.csv -o out.csv --secrets secrets.json --to kv2");
    assert_eq!((run.status, run.stderr.as_str()), (1, "rekek: cannot read folder.csv: is a directory\n"));

    refused_export("", "the file is empty: not even a header is there");
    let text = Table::sample().text();
    let lines: Vec<_> = text.lines().collect();
    refused_export([lines[0], "a,b"].join("\n"), "line 2: the record has 2 values, the header 10");
    refused_export(
        [lines[0], lines[1], &(lines[2].to_owned() + ",")].join("\n"),
        "line 3: the record has 11 values, the header 10",
    );
    refused_export(
        [lines[0].as_bytes(), b"\n\xff,,,,,,,,,\n"].concat(),
        "line 2: the value in organization_id is not UTF-8",
    );
    let cut = &text[..text.len() - 40];
    let cut = &cut[..cut.rfind("public_pem").unwrap()];
    refused_export(cut, "line 151: a quote is opened here and never closed: the file is cut short");
}

#[test]
fn a_header_that_lacks_a_column_or_has_one_twice() {
    for column in ["organization_id"].into_iter().chain(CIPHERTEXTS) {
        let mut table = Table::sample();
        let at = table.column(column);
        table.header[at] = "another".into();
        refused_export(table.text(), &format!("the column {column} is missing"));
        table.header[at] = column.into();
        let other = table.column("issuer");
        table.header[other] = column.into();
        refused_export(table.text(), &format!("the column {column} is there twice"));
    }
    let mut table = Table::sample();
    let other = table.column("issuer");
    table.header[other] = "source_sha256_signing_key_1".into();
    let message =
        "only some of the three source digest columns are there: an output has all of them, an export none";
    refused_export(table.text(), message);
}

#[test]
fn source_digests_that_do_not_fit_their_fields() {
    let digest = "0".repeat(64);
    let mut table = Table::sample();
    for (column, of) in [
        ("source_sha256_signing_key_1", CIPHERTEXTS[0]),
        ("source_sha256_signing_key_2", CIPHERTEXTS[1]),
        ("source_sha256_auth_method_config", CIPHERTEXTS[2]),
    ] {
        let values: Vec<_> = (0..table.rows.len()).map(|r| table.get(r, of).is_empty()).collect();
        table.header.push(column.into());
        let digest = |absent: &bool| if *absent { String::new() } else { digest.clone() };
        table.rows.iter_mut().zip(&values).for_each(|(row, absent)| row.push(digest(absent)));
    }
    let message = |row: usize| {
        format!(
            "row {row}: source_sha256_signing_key_2 must be a SHA-256 in hex where encrypted_signing_key_2 has a \
             value, and null elsewhere"
        )
    };
    let present = table.row_with(0, &["encrypted_signing_key_2"]);
    let absent = (0..).find(|r| table.get(*r, "encrypted_signing_key_2").is_empty()).unwrap();
    for (row, value) in [(present, ""), (present, "xyz"), (present, &*"A".repeat(64)), (absent, &*digest)] {
        let mut table = table.clone();
        *table.value(row, "source_sha256_signing_key_2") = value.into();
        let site = Site::sample();
        site.write("export.csv", table.text());
        refused(&site, REWRAP, 1, &format!("cannot read export.csv: {}", message(row + 1)));
        // What is wrong with the file is wrong whatever is selected of it.
        let other = table.get((row + 1) % table.rows.len(), "organization_id");
        refused(
            &site,
            &format!("{REWRAP} --org {other}"),
            1,
            &format!("cannot read export.csv: {}", message(row + 1)),
        );
    }
}

/// An output has three columns more, and must be read again.
#[test]
fn more_columns_than_an_output_may_have() {
    let mut table = Table::sample();
    table.rows.truncate(2);
    let widened = |mut table: Table, columns: usize| {
        (table.header.len()..columns).for_each(|i| table.header.push(format!("c{i}")));
        table.rows.iter_mut().for_each(|row| row.resize(columns, String::new()));
        table.text()
    };
    let site = Site::sample();
    site.write("export.csv", widened(table.clone(), 4094));
    refused(
        &site,
        REWRAP,
        1,
        "cannot read export.csv: its output would have 4097 columns, the source digests with them, and more than \
         4096 are not read; leave some of the other columns out of the export",
    );
    site.write("export.csv", widened(table, 4093));
    site.rekek(REWRAP).good();
    assert_eq!(site.rekek("inspect out.csv").status, 0);
}

#[test]
fn a_name_that_does_not_tell_the_format_is_a_usage_error_everywhere() {
    let site = Site::sample();
    site.write("export", site.read("export.csv"));
    let keys = "--secrets secrets.json";
    for (line, what) in [
        ("inspect export".to_owned(), "the input export by its name; say it with --input-format"),
        ("verify export".into(), "the input export by its name; say it with --input-format"),
        (
            format!("verify export.csv --source export {keys}"),
            "the source export by its name; say it with --source-format",
        ),
        (
            format!("rewrap export -o out.csv {keys} --to kv2"),
            "the input export by its name; say it with --input-format",
        ),
        (
            format!("rewrap export.csv -o out {keys} --to kv2"),
            "the output out by its name; say it with --output-format",
        ),
    ] {
        let run = site.rekek(&line);
        assert_eq!(
            (run.status, run.stderr),
            (2, format!("rekek: cannot tell the format of {what}\n")),
            "{line}"
        );
    }
}

#[test]
fn organization_ids_that_are_missing_or_repeated() {
    let mut table = Table::sample();
    *table.value(7, "organization_id") = String::new();
    refused_export(table.text(), "row 8: it has no organization_id");

    let mut table = Table::sample();
    let id = table.get(3, "organization_id").to_owned();
    *table.value(120, "organization_id") = id.clone();
    refused_export(
        table.text(),
        &format!("row 121: the organization id {id} is there already, in an earlier row"),
    );
}

#[test]
fn organizations_that_the_export_does_not_have() {
    let site = Site::sample();
    let message = "export.csv does not have 1 of the organizations asked for: org-nowhere; leave them out, or export them first";
    refused(&site, &format!("{REWRAP} --org org-0000001 --org org-nowhere"), 1, message);
    site.write("orgs.txt", (0..9).map(|i| format!("no-{i}\n")).collect::<String>());
    let message = "export.csv does not have 9 of the organizations asked for: no-0, no-1, no-2, no-3, no-4, …; leave them out, or export them first";
    refused(&site, &format!("{REWRAP} --orgs-file orgs.txt"), 1, message);
    site.write("orgs.txt", "good\nnot good\n");
    let message = "orgs.txt, line 2: an organization id has only ASCII letters, digits, `_` and `-`, and at least one of them";
    refused(&site, &format!("{REWRAP} --orgs-file orgs.txt"), 1, message);
    site.write("orgs.txt", "\n");
    refused(
        &site,
        &format!("{REWRAP} --orgs-file orgs.txt"),
        1,
        "orgs.txt names no organization; write an id on each line",
    );
    assert_eq!(site.rekek(&format!("{REWRAP} --org a/b")).status, 2);
}

#[test]
fn secrets_that_cannot_be_used() {
    let site = Site::sample();
    let line = |secrets: &str, to: &str| format!("rewrap export.csv -o out.csv {secrets} --to {to}");
    let missing = "cannot read the secrets nowhere.json: No such file or directory (os error 2)";
    refused(&site, &line("--secrets nowhere.json", "kv2"), 1, missing);
    refused(&site, &line("", "kv2"), 2, "no keys are given: name the site's secrets with --secrets FILE");
    site.write("broken.json", "{\"machine_identity\": {\"encryption_keys\": {\"kv1\": \"Zm9v\", oops}}}");
    refused(&site, &line("--secrets broken.json", "kv2"), 1, "broken.json: not JSON, at line 1, column 58");
    site.write("short.json", "{\"machine_identity\": {\"encryption_keys\": {\"kv1\": \"Zm9v\"}}}");
    let short =
        "short.json: the key kv1 is 3 bytes long, not 32; a master key is 32 bytes as standard base64";
    refused(&site, &line("--secrets short.json", "kv2"), 1, short);
    let twice = "the key id kv1 is given twice: in secrets.json and in secrets.json; keep one of them";
    refused(&site, &line("--secrets secrets.json --secrets secrets.json", "kv2"), 1, twice);
    let none =
        "the target key kv9 is in none of the secrets given (they hold kv0, kv1, kv2); add it there first";
    refused(&site, &line("--secrets secrets.json", "kv9"), 1, none);
    let key = serde_json::from_str::<serde_json::Value>(&site.read("secrets.json")).unwrap();
    let key = key["machine_identity"]["encryption_keys"]["kv1"].as_str().unwrap();
    site.write(
        "same.yaml",
        format!("machine_identity:\n  encryption_keys:\n    kv3: {key}\n    zero: {}=\n", "A".repeat(43)),
    );
    let same =
        "the target key kv3 is the same 32 bytes as the key kv1: nothing would be rotated; make a new key";
    refused(&site, &line("--secrets secrets.json --secrets same.yaml", "kv3"), 1, same);
    let zero =
        "the target key zero is one byte repeated: a placeholder, not a key; make one with `rekek keygen`";
    refused(&site, &line("--secrets secrets.json --secrets same.yaml", "zero"), 1, zero);
    site.write("site.toml", "[machine_identity]\nenabled = true\n");
    let run = site.rekek("rewrap export.csv -o out.csv --secrets secrets.json --site-config site.toml");
    assert_eq!(run.status, 1);
    assert!(run.stderr.contains("machine_identity.current_encryption_key_id"), "{}", run.stderr);
}

#[test]
fn an_output_that_is_there_already() {
    let site = Site::sample();
    site.rekek(REWRAP).good();
    let exists = "out.csv exists already; choose another name, or --force to replace it";
    refused(&site, REWRAP, 1, exists);
    std::fs::remove_file(site.path("out.csv.manifest.json")).unwrap();
    let without = "out.csv exists already, and without a manifest: if a run that was stopped left it there, nobody \
                   can vouch for it: remove it, or --force to replace it; else choose another name";
    refused(&site, REWRAP, 1, without);
    std::os::unix::fs::symlink("elsewhere.csv", site.path("link.csv")).unwrap();
    let link = "link.csv is a symbolic link, not a regular file; name a regular file";
    refused(&site, "rewrap export.csv -o link.csv --secrets secrets.json --to kv2 --force", 1, link);
    let folder = "cannot write no/such/out.csv: No such file or directory (os error 2)";
    refused(&site, "rewrap export.csv -o no/such/out.csv --secrets secrets.json --to kv2", 1, folder);
}

#[test]
fn an_output_that_is_one_of_the_inputs() {
    let site = Site::sample();
    std::fs::hard_link(site.path("secrets.json"), site.path("other-name.csv")).unwrap();
    let tail = "--secrets secrets.json --site-config site.toml --force";
    for (line, message) in [
        ("-o export.csv", "the output export.csv is also the input; choose another name"),
        ("-o ./export.csv", "the output ./export.csv is also the input; choose another name"),
        ("-o other-name.csv", "the output other-name.csv is also a secrets file; choose another name"),
        (
            "-o out.csv --report secrets.json",
            "the report secrets.json is also a secrets file; choose another name",
        ),
        ("-o out.csv --report out.csv", "the output out.csv is also the report; choose another name"),
        (
            "-o out.csv --failures site.toml",
            "the failures file site.toml is also the site configuration; choose another name",
        ),
        (
            "-o out.csv --manifest export.csv",
            "the manifest export.csv is also the input; choose another name",
        ),
        (
            "-o out.csv --failures out.csv.manifest.json",
            "the manifest out.csv.manifest.json is also the failures file; choose another name",
        ),
    ] {
        refused(&site, &format!("rewrap export.csv {line} {tail}"), 2, message);
    }
}

#[test]
fn usage_that_makes_no_sense() {
    let site = Site::sample();
    for line in [
        "",
        "rewrap",
        "rewrap export.csv --secrets secrets.json --to kv2",
        "rewrap export.csv -o out.csv --secrets secrets.json",
        "rewrap export.csv -o out.csv --secrets secrets.json --to kv2 --site-config site.toml",
        "rewrap export.csv -o out.csv --secrets secrets.json --to kv2 --check-signing-keys maybe",
        "rewrap export.csv -o out.csv --secrets secrets.json --to kv2 --threads 0",
        "rewrap export.csv -o out.csv --vault-key kv2 --to kv2",
        "rewrap export.xyz -o out.csv --secrets secrets.json --to kv2",
        "rewrap export.csv -o out.xyz --secrets secrets.json --to kv2",
        "rewrap - -o out.csv --input-format csv --secrets - --to kv2",
        "verify out.csv --source export.csv",
        "generate -o g.csv --orgs 10 --secrets secrets.json",
        "generate -o g.csv --orgs 10 --secrets secrets.json --under kv1=0",
        "nonsense",
    ] {
        let run = site.rekek(line);
        assert_eq!((run.status, run.stdout.as_str()), (2, ""), "{line}: {}", run.stderr);
        assert_ne!(run.stderr, "");
    }
    assert_eq!(site.names(), ["export.csv", "secrets.json", "site.toml"]);
    for line in ["--help", "--version", "help rewrap", "rewrap --help"] {
        assert_eq!(site.rekek(line).status, 0, "{line}");
    }
}

#[test]
fn files_that_have_to_have_a_name() {
    let site = Site::sample();
    for (line, name) in [
        (format!("{REWRAP} --report -"), "the report"),
        (format!("{REWRAP} --failures -"), "the failures file"),
        (format!("{REWRAP} --manifest -"), "the manifest"),
        ("generate -o - --orgs 1 --secrets secrets.json --under kv1".to_owned(), "the output"),
    ] {
        refused(&site, &line, 2, &format!("{name} cannot go to standard output; name a file"));
    }
}

#[test]
fn the_input_is_not_replaced_by_way_of_a_redirection_either() {
    let site = Site::sample();
    let before = site.read("export.csv");
    let open = || std::fs::File::options().read(true).append(true).open(site.path("export.csv")).unwrap();
    let tail = "--secrets secrets.json --to kv2";
    let mut in_place = site.command(&format!("rewrap - --input-format csv -o export.csv --force {tail}"));
    let run = in_place.stdin(open()).output().unwrap();
    let said = String::from_utf8(run.stderr).unwrap();
    let message = "rekek: the output export.csv is also the input; choose another name\n";
    assert_eq!((run.status.code(), said.as_str()), (Some(2), message));
    let mut appended = site.command(&format!("rewrap export.csv -o - --output-format csv {tail}"));
    let run = appended.stdout(open()).output().unwrap();
    let said = String::from_utf8(run.stderr).unwrap();
    let message = "rekek: standard output is redirected into the input; choose another name\n";
    assert_eq!((run.status.code(), said.as_str()), (Some(2), message));
    assert!(site.read("export.csv") == before);
}

/// Where nothing can be written, that is an error with a message, never a panic or a signal.
#[test]
fn a_full_disk_or_a_closed_pipe() {
    let site = Site::sample();
    let full = || std::fs::File::options().write(true).open("/dev/full").unwrap();
    for line in [
        "inspect export.csv",
        "verify export.csv",
        "rewrap export.csv --dry-run --secrets secrets.json --to kv2",
        "rewrap export.csv -o - --output-format csv --secrets secrets.json --to kv2",
        "generate -o g.csv --orgs 10 --secrets secrets.json --under kv1",
        "keygen kv7",
        "keygen kv7 --secrets new.json",
    ] {
        let run = site.command(line).stdout(full()).output().unwrap();
        let said = String::from_utf8(run.stderr).unwrap();
        assert_eq!(run.status.code(), Some(1), "{line}: {said}");
        assert!(said.ends_with("No space left on device (os error 28)\n"), "{line}: {said}");
        assert!(said.starts_with("rekek: ") && said.contains("cannot "), "{line}: {said}");
        assert_eq!(
            said.contains("new.json; only this could not be printed"),
            line.ends_with("new.json"),
            "{said}"
        );
    }
    let run = site.command("inspect nowhere.csv").stderr(full()).output().unwrap();
    assert_eq!(run.status.code(), Some(1), "nobody is left to tell, and that is no panic");
    // A limit on the size of files, which would kill by a signal.
    let before = site.names();
    let script = format!("ulimit -f 50; exec \"$0\" {REWRAP}");
    let mut limited = std::process::Command::new("bash");
    limited.args(["-c", &script]).arg(assert_cmd::cargo::cargo_bin!("rekek")).current_dir(site.path(""));
    let run = limited.output().unwrap();
    let said = String::from_utf8(run.stderr).unwrap();
    assert_eq!(
        (run.status.code(), said.as_str()),
        (Some(1), "rekek: cannot write out.csv: File too large (os error 27)\n")
    );
    assert_eq!(site.names(), before);
}

#[test]
fn a_line_of_commas_is_refused_before_it_takes_memory() {
    let site = Site::sample();
    site.write("export.csv", ",".repeat(3 << 20));
    let message = "the header has 3145729 columns; more than 4096 are not read";
    refused(&site, REWRAP, 1, &format!("cannot read export.csv: {message}"));
}

/// Wherever a file is to be named.
#[test]
fn a_key_that_was_typed_is_not_shown() {
    let site = Site::sample();
    site.rekek(&format!("{REWRAP} --force")).good();
    for key in [
        "q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA=",
        "q83vEjRWeJCrze8SNFZ4/KvN7xI0VniQq83vEjRWeJA=",
        "q83vEjRWeJCrze8SNFZ4_KvN7xI0VniQq83vEjRWeJA",
        "abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789",
    ] {
        for line in [
            "rewrap KEY --secrets secrets.json --to kv2 --dry-run",
            "rewrap export.csv -o KEY --output-format csv --secrets secrets.json --to kv2",
            "rewrap export.csv -o=KEY --output-format csv --secrets secrets.json --to kv2",
            "rewrap export.csv --dry-run --secrets KEY --to kv2",
            "rewrap export.csv --dry-run --secrets=./KEY --to kv2",
            "rewrap export.csv --dry-run --vault-key kv2=KEY --to kv2",
            "rewrap export.csv --dry-run --secrets secrets.json --to kv2 --report KEY",
            "rewrap export.csv --dry-run --secrets secrets.json --to kv2 --failures KEY",
            "rewrap export.csv --dry-run --secrets secrets.json --to kv2 --orgs-file KEY",
            "rewrap export.csv -o x.csv --secrets secrets.json --to kv2 --sign KEY",
            "rewrap export.csv -o x.csv --secrets secrets.json --site-config KEY",
            "verify out.csv --manifest KEY",
            "verify out.csv --trusted-key KEY",
            "inspect KEY --input-format csv",
            "report KEY -o r.html",
            "report out.csv.manifest.json -o KEY",
            "fleet KEY --dry-run",
            "generate -o x.csv --orgs 3 --secrets secrets.json --under kv1=KEY",
            "generate -o x.csv --orgs 3 --secrets secrets.json --under KEY",
            "bench --plot KEY",
            "rewrap export.csv -oKEY --output-format csv --secrets secrets.json --to kv2",
            "keygen kv9 --secrets=KEY",
            "KEY",
            "rewrap export.csv export.csv=KEY",
        ] {
            let run = site.rekek(&line.replace("KEY", key));
            assert!([1, 2].contains(&run.status) && run.stdout.is_empty(), "{line}: {}", run.stderr);
            assert!(!run.stderr.contains(&key[8..20]), "{line}: {}", run.stderr);
        }
        // A file may be called so, if it is there.
        let name = key.replace('/', "_");
        std::fs::copy(site.path("secrets.json"), site.path(&name)).unwrap();
        for line in ["--secrets KEY", "--secrets=KEY"] {
            site.rekek(&format!("rewrap export.csv --dry-run {} --to kv2", line.replace("KEY", &name)))
                .good();
        }
        std::fs::remove_file(site.path(&name)).unwrap();
    }
}

/// Every failing command, with everything it says and leaves, holds no key and no plaintext.
#[test]
fn no_message_holds_a_key() {
    let site = Site::sample();
    let keys: serde_json::Value = serde_json::from_str(&site.read("secrets.json")).unwrap();
    let keys = keys["machine_identity"]["encryption_keys"].as_object().unwrap();
    for secrets in [
        site.read("secrets.json").replace("kv0", "kv1"),
        site.read("secrets.json").replace("=\"", "==\""),
        site.read("secrets.json").replace("\"encryption_keys\": {", "\"encryption_keys\": {{"),
        site.read("secrets.json")
            .replace("\"encryption_keys\": {", "\"encryption_keys\": [")
            .replace("}}", "]}"),
    ] {
        for name in ["bad.json", "bad.yaml"] {
            site.write(name, &secrets);
            for line in [
                format!("rewrap export.csv -o out.csv --secrets {name} --to kv2 --json"),
                format!("rewrap export.csv -o out.csv --vault-key kv2={name} --to kv2 --json"),
                format!("keygen kv9 --secrets {name}"),
            ] {
                let run = site.rekek(&line);
                assert_eq!(run.status, 1, "{line}: {}", run.stderr);
                for key in keys.values() {
                    let key = &key.as_str().unwrap()[..12];
                    assert!(!run.stderr.contains(key) && !run.stdout.contains(key), "{line}");
                }
            }
        }
    }
}
