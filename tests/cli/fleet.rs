//! Many sites in one go: what fails is its own, and only what is not done is run again.

use crate::signature::key_id;
use crate::support::{Site as Folder, encrypt_cheaply, minisign};
use crate::terminal::Terminal;
use rekek::report::RewrapReport;
use serde_json::{Value, json};
use std::os::unix::fs::MetadataExt as _;
use std::process::Stdio;
use std::time::Duration;

/// A site's folder as a plan without a file has it: other keys than any other site's, the same ids.
fn make_site(fleet: &Folder, name: &str, orgs: u64) {
    std::fs::create_dir_all(fleet.path(name)).unwrap();
    for key in ["kv1", "kv2"] {
        fleet.rekek(&format!("keygen {key} --secrets {name}/secrets.json")).good();
    }
    let under = format!("--secrets {name}/secrets.json --under kv1 --seed {orgs}");
    fleet.rekek(&format!("generate -o {name}/export.csv --orgs {orgs} {under}")).good();
    fleet.write(&format!("{name}/site.toml"), "machine_identity.current_encryption_key_id = 'kv2'\n");
}

fn fleet_of(names: &[&str]) -> Folder {
    let fleet = Folder::empty();
    std::thread::scope(|scope| {
        for name in names {
            let fleet = &fleet;
            scope.spawn(move || make_site(fleet, name, 5));
        }
    });
    fleet
}

/// The plan that spells out what the folders are, with `more` in each site's table.
fn plan_of(names: &[&str], more: &str) -> String {
    let site = |name: &&str| {
        format!(
            "[[site]]\nname = '{name}'\ninput = '{name}/export.csv'\noutput = '{name}/out.csv'\n\
             secrets = '{name}/secrets.json'\nsite_config = '{name}/site.toml'\n{more}\n"
        )
    };
    names.iter().map(site).collect()
}

/// Secrets without the new key.
fn without_kv2(secrets: &str) -> String {
    let mut secrets: Value = serde_json::from_str(secrets).unwrap();
    secrets["machine_identity"]["encryption_keys"].as_object_mut().unwrap().remove("kv2").unwrap();
    secrets.to_string()
}

/// Outcomes by site.
fn outcomes(report: &Value) -> Vec<(&str, &str)> {
    let sites = report["site_reports"].as_array().unwrap().iter();
    sites.map(|site| (site["site"].as_str().unwrap(), site["outcome"].as_str().unwrap())).collect()
}

#[test]
fn of_fifty_sites_three_are_broken_and_only_those_run_again_when_mended() {
    let names: Vec<String> = (0..50).map(|i| format!("site-{i:02}")).collect();
    let fleet = Folder::empty();
    std::thread::scope(|scope| {
        for half in names.chunks(25) {
            let fleet = &fleet;
            scope.spawn(move || half.iter().for_each(|name| make_site(fleet, name, 4)));
        }
    });
    let (wrong_key, damaged, missing) = ("site-07", "site-23", "site-41");
    let secrets = fleet.read(&format!("{wrong_key}/secrets.json"));
    let others = fleet.read("site-08/secrets.json");
    fleet.write(&format!("{wrong_key}/secrets.json"), &others);
    let export = fleet.read(&format!("{damaged}/export.csv"));
    fleet.write(&format!("{damaged}/export.csv"), &export[..export.rfind('"').unwrap()]);
    let kept = fleet.read(&format!("{missing}/secrets.json"));
    std::fs::remove_file(fleet.path(&format!("{missing}/secrets.json"))).unwrap();

    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    fleet.write("fleet.toml", plan_of(&names, ""));
    let line = "fleet fleet.toml --json --report fleet.json --site-reports reports";
    let first = fleet.rekek(line);
    assert_eq!(first.status, 1, "{}", first.stderr);
    let report = first.json();
    assert_eq!(report, serde_json::from_str::<Value>(&fleet.read("fleet.json")).unwrap());
    for (name, outcome) in outcomes(&report) {
        let expected = match name {
            _ if name == wrong_key => "rows_failed",
            _ if name == damaged || name == missing => "not_done",
            _ => "done",
        };
        assert_eq!(outcome, expected, "{name}");
        let output = fleet.path(&format!("{name}/out.csv"));
        assert_eq!(output.exists(), expected == "done", "{name}");
        let site: Value = serde_json::from_str(&fleet.read(&format!("reports/{name}.json"))).unwrap();
        assert_eq!((&site["site"], &site["outcome"]), (&json!(name), &json!(outcome)));
    }
    assert_eq!(
        (
            &report["sites"],
            &report["sites_done"],
            &report["sites_with_failed_rows"],
            &report["sites_not_done"]
        ),
        (&json!(50), &json!(47), &json!(1), &json!(2))
    );
    let said: Vec<_> = first.stderr.lines().collect();
    let site: Value = serde_json::from_str(&fleet.read("reports/site-07.json")).unwrap();
    let failures = site["report"]["failures"].as_array().unwrap();
    for (line, failure) in said.iter().zip(&failures[..2]) {
        let [organization, field] =
            [&failure["organization_id"], &failure["field"]].map(|v| v.as_str().unwrap());
        let error = failure["error"].as_str().unwrap();
        assert_eq!(*line, format!("rekek: site site-07: {organization} {field}: {error}"));
        assert!(error.ends_with(": does not open under key kv1"), "{error}");
    }
    let n = failures.len();
    assert_eq!(said[2], format!("rekek: site site-07: … all {n} failures are in reports/site-07.json"));
    let key = "rekek: site site-07: nothing opens under the key kv1: compare the fingerprint of kv1, ";
    assert!(said[3].starts_with(key), "{}", said[3]);
    assert!(said[4].starts_with("rekek: site site-07: ") && said[4].contains("rows failed"), "{}", said[4]);
    assert!(said[5].starts_with("rekek: site site-23: cannot read site-23/export.csv: "), "{}", said[5]);
    assert!(
        said[6].starts_with("rekek: site site-41: cannot read the secrets site-41/secrets.json: "),
        "{}",
        said[6]
    );
    assert_eq!(
        said[7..],
        [
            "rekek: 2 of 50 sites could not be done, in 1 of 50 sites rows failed; mend them: the same command again \
          runs only those that are not done"
        ]
    );
    let folder = fleet.path("reports").metadata().unwrap();
    assert_eq!(folder.mode() & 0o777, 0o700, "it was made, for its owner alone");
    // The same ids, and fifty different keys.
    let fingerprints = report["site_reports"].as_array().unwrap().iter();
    let fingerprints: std::collections::HashSet<_> =
        fingerprints.filter_map(|site| site["target_key_fingerprint"].as_str()).collect();
    assert_eq!(fingerprints.len(), 48, "one has no secrets, one has its neighbour's");

    let inode = |name: &&str| fleet.path(&format!("{name}/out.csv")).metadata().map(|m| m.ino()).ok();
    let before: Vec<_> = names.iter().map(inode).collect();
    fleet.write(&format!("{wrong_key}/secrets.json"), &secrets);
    fleet.write(&format!("{damaged}/export.csv"), &export);
    fleet.write(&format!("{missing}/secrets.json"), &kept);
    let second = fleet.rekek(line);
    assert_eq!((second.status, second.stderr.as_str()), (0, ""));
    let report = second.json();
    for ((name, outcome), before) in outcomes(&report).into_iter().zip(before) {
        let mended = [wrong_key, damaged, missing].contains(&name);
        assert_eq!(outcome, if mended { "done" } else { "done_before" }, "{name}");
        assert_eq!(inode(&name) == before, !mended, "{name}: only what was not done is written");
    }
    assert_eq!(report["rows_examined"], 200);
    for name in [wrong_key, "site-00"] {
        let verify =
            format!("verify {name}/out.csv --source {name}/export.csv --secrets {name}/secrets.json");
        fleet.rekek(&verify).good();
    }
    let third = fleet.rekek(line).json();
    assert!(outcomes(&third).iter().all(|(_, outcome)| *outcome == "done_before"));
    // What a site reports is what its own re-wrap reported.
    let site = &third["site_reports"][0]["report"];
    assert_eq!(serde_json::from_value::<RewrapReport>(site.clone()).unwrap().counts.rows_examined, 4);
}

#[test]
fn done_is_a_matter_of_digests_and_of_the_key_and_force_replaces_only_what_is_not() {
    let fleet = fleet_of(&["a", "b"]);
    fleet.rekek("fleet . --quiet").good();
    let made = fleet.read("a/rewrapped.csv");
    let b = fleet.path("b/rewrapped.csv").metadata().unwrap().ino();
    let (export, secrets) = (fleet.read("a/export.csv"), fleet.read("a/secrets.json"));
    let manifest = fleet.read("a/rewrapped.csv.manifest.json");
    let new_kv2 = || {
        fleet.write("a/secrets.json", without_kv2(&secrets));
        fleet.rekek("keygen kv2 --secrets a/secrets.json").good();
    };
    let exists = "./a/rewrapped.csv exists already";
    let remedy = "; if nobody needs it any more, remove it with its manifest and signature, or --force to replace them; \
                  else move it away";
    type Spoil<'a> = (&'a dyn Fn(), &'a str);
    let spoils: [Spoil; 6] = [
        (
            &|| fleet.write("a/rewrapped.csv", made.replacen("org-0000001", "org-0000009", 1)),
            "its manifest describes other bytes than the output has",
        ),
        (&|| fleet.write("a/export.csv", format!("{export}\n")), "is of another export than the one"),
        (&new_kv2, "its manifest was written under another key of the id kv2"),
        (
            &|| fleet.write("a/site.toml", "machine_identity.current_encryption_key_id = 'kv1'"),
            "its manifest names another target key, kv2",
        ),
        (&|| fleet.write("a/rewrapped.csv.manifest.json", &manifest[9..]), "is not a manifest of format"),
        (
            &|| {
                let of_one = manifest.replace("\"scope\": null", "\"scope\": [\"org-0000001\"]");
                fleet.write("a/rewrapped.csv.manifest.json", of_one);
            },
            "its manifest is of another selection of organizations",
        ),
    ];
    for (spoil, why) in spoils {
        spoil();
        for dry in ["", "--dry-run"] {
            let run = fleet.rekek(&format!("fleet . --json {dry}"));
            assert_eq!(run.status, 1, "{why}: {}", run.stderr);
            assert_eq!(outcomes(&run.json()), [("a", "not_done"), ("b", "done_before")]);
            let said = run.stderr.lines().next().unwrap();
            assert!(said.starts_with(&format!("rekek: site a: {exists} (")) && said.contains(why), "{said}");
            assert!(said.ends_with(remedy), "{said}");
        }
        if why.contains("target key") {
            // Nothing would be rotated by going back to the old key: put it right instead.
            fleet.write("a/site.toml", "machine_identity.current_encryption_key_id = 'kv2'");
            continue;
        }
        let run = fleet.rekek("fleet . --json --force");
        assert_eq!((run.status, run.stderr.as_str()), (0, ""));
        assert_eq!(outcomes(&run.json()), [("a", "done"), ("b", "done_before")]);
        assert_eq!(fleet.path("b/rewrapped.csv").metadata().unwrap().ino(), b);
        // As it was, for the next.
        fleet.write("a/export.csv", &export);
        fleet.write("a/secrets.json", &secrets);
        fleet.rekek("fleet . --quiet --force").good();
    }
    // Killed between the output and its manifest.
    std::fs::remove_file(fleet.path("a/rewrapped.csv.manifest.json")).unwrap();
    let run = fleet.rekek("fleet . --dry-run");
    assert!(run.status == 1 && run.stderr.contains("without a manifest"), "{}", run.stderr);
}

#[test]
fn failed_rows_are_a_no_until_they_are_mended() {
    let fleet = fleet_of(&["a", "b"]);
    let export = fleet.read("a/export.csv");
    let envelope = export.split(',').find(|value| value.starts_with("eyJz")).unwrap();
    fleet.write("a/export.csv", export.replacen(envelope, "e30=", 1));
    let run = fleet.rekek("fleet . --json");
    assert_eq!(run.status, 3, "{}", run.stderr);
    assert_eq!(outcomes(&run.json()), [("a", "rows_failed"), ("b", "done")]);
    assert!(!fleet.path("a/rewrapped.csv").exists());
    assert!(run.stderr.ends_with(
        "rekek: in 1 of 2 sites rows failed; mend them: the same command again runs only those that are not done\n"
    ));
    assert_eq!(fleet.rekek("fleet . --quiet --keep-going").status, 3);
    assert!(fleet.path("a/rewrapped.csv").exists());
    // Published with them: that is no "done".
    let run = fleet.rekek("fleet . --json");
    assert_eq!(run.status, 3);
    assert_eq!(outcomes(&run.json()), [("a", "rows_failed"), ("b", "done_before")]);
    assert!(run.stderr.contains("its output is there, with 1 rows that failed"), "{}", run.stderr);
    let table = fleet.rekek("fleet .").stdout;
    assert!(table.contains("a     ROWS FAILED ") && table.contains("b     done before "), "{table}");
    fleet.write("a/export.csv", export);
    fleet.rekek("fleet . --quiet --force").good();
}

#[test]
fn a_dry_run_and_a_refused_plan_write_nothing() {
    let fleet = fleet_of(&["a", "b"]);
    let names = ["a", "b"];
    let before = (fleet.names(), names.map(|name| fleet.path(name).read_dir().unwrap().count()));
    let run = fleet.rekek("fleet . --dry-run");
    assert_eq!((run.status, run.stderr.as_str()), (0, ""));
    assert!(
        run.stdout.contains("rehearsed") && run.stdout.contains("rows examined        10"),
        "{}",
        run.stdout
    );
    assert_eq!((fleet.names(), names.map(|name| fleet.path(name).read_dir().unwrap().count())), before);

    let good = plan_of(&names, "");
    let with = |from: &str, to: &str| good.replacen(from, to, 1);
    let cases: [(String, i32, &str); 15] = [
        (
            with("secrets =", "secret ="),
            1,
            "line 5, column 1: a site has no entry `secret`, only name, input, ",
        ),
        (format!("{good}[defaults]\n"), 1, "line 15, column 2: a plan has nothing but [[site]] tables"),
        (with("name = 'a'", "name = 'b'"), 1, "line 9, column 8: another site of this plan has that name"),
        (with("name = 'a'", "name = '../a'"), 1, "line 2, column 8: a site's name has 1 to 100 bytes"),
        (with("input = 'a/export.csv'\n", ""), 1, "line 1, column 1: this site has no input"),
        (with("secrets = 'a/secrets.json'\n", ""), 1, "this site has no secrets and no vault_key"),
        (with("site_config = 'a/site.toml'\n", ""), 1, "this site has no target"),
        (with("site_config", "to = 'kv2'\nsite_config"), 1, "has `to` and `site_config`; keep one"),
        (with("'a/export.csv'", "7"), 1, "line 3, column 9: this is not a string"),
        (with("'a/export.csv'", "'-'"), 1, "line 3, column 9: a plan names files"),
        (with("'a/out.csv'", "'a/out'"), 1, "line 4, column 10: the name does not tell its format"),
        (with("'a/out.csv'", "'hush' hush"), 1, "line 4, column 17: this is not TOML"),
        (
            with("'a/out.csv'", "'b/../b/out.csv'"),
            2,
            "the output of site b, b/out.csv, is also the output of site a",
        ),
        (
            with("'a/out.csv'", "'b/export.csv'"),
            2,
            "b/export.csv, is also the input of site b; choose another name",
        ),
        (
            with("'a/secrets.json'", "['a/secrets.json', 'b/out.csv.manifest.json']"),
            2,
            "the manifest of the output of site b, b/out.csv.manifest.json, is also a secrets file of site a",
        ),
    ];
    for (plan, status, message) in cases {
        fleet.write("plan.toml", &plan);
        let run = fleet.rekek("fleet plan.toml --force");
        assert_eq!((run.status, run.stdout.as_str()), (status, ""), "{plan}: {}", run.stderr);
        assert!(run.stderr.contains(message) && !run.stderr.contains("hush"), "{message}: {}", run.stderr);
        assert!(!fleet.path("b/out.csv").exists());
    }
    for (report, status, message) in [
        ("--report a/export.csv", 2, "the report, a/export.csv, is also the input of site a"),
        ("--report plan.toml", 2, "the report, plan.toml, is also the plan"),
        ("--report -", 2, "the report cannot go to standard output"),
        ("--report a/site.toml.json", 1, "a/site.toml.json exists already"),
        ("--site-reports plan.toml/x", 1, "cannot make the folder plan.toml/x: "),
    ] {
        fleet.write("plan.toml", &good);
        fleet.write("a/site.toml.json", "{}");
        let run = fleet.rekek(&format!("fleet plan.toml {report}"));
        assert_eq!((run.status, run.stdout.as_str()), (status, ""), "{report}: {}", run.stderr);
        assert!(run.stderr.contains(message), "{message}: {}", run.stderr);
        assert!(!fleet.path("a/out.csv").exists());
    }
}

#[test]
fn where_nothing_is_left_to_mend_the_report_says_what_is_next() {
    let fleet = fleet_of(&["a", "b"]);
    let run = |line: &str| fleet.rekek(line).good();
    let next = |text: &str| text[text.find("\nnext: ").expect("there is a next step") + 1..].to_owned();
    assert_eq!(next(&run("fleet . --dry-run")), "next: do it: the same command without --dry-run\n");
    let record = "rekek report -o record.html -- ./*/rewrapped.*.manifest.json";
    assert_eq!(
        next(&run("fleet .")),
        format!(
            "next: prove the written bytes of each site, before they cross the gap; for this one\n  \
             rekek verify ./a/rewrapped.csv --source ./a/export.csv --secrets ./a/secrets.json\n\n\
             next: the change record of the fleet\n  {record}\n"
        )
    );
    let before = "next: every site was done before: its change record\n";
    assert_eq!(next(&run("fleet .")), format!("{before}  {record}\n"));
    assert_eq!(next(&run("fleet . --dry-run")), "next: nothing: every site was done before\n");
    // The commands do what they say.
    run("verify ./a/rewrapped.csv --source ./a/export.csv --secrets ./a/secrets.json");
    let shell = std::process::Command::new("sh")
        .current_dir(fleet.path("."))
        .args(["-c", &record.replace("rekek", env!("CARGO_BIN_EXE_rekek"))])
        .status();
    assert!(shell.unwrap().success() && fleet.path("record.html").exists());
    // A plan's outputs have any names: all of them are named.
    fleet.write("plan.toml", plan_of(&["a", "b"], ""));
    let manifests = "a/out.csv.manifest.json b/out.csv.manifest.json";
    assert!(run("fleet plan.toml").ends_with(&format!("rekek report -o record.html -- {manifests}\n")));
}

#[test]
fn a_fleet_has_one_progress_which_names_the_site_at_work() {
    let fleet = fleet_of(&["a", "b"]);
    let run = fleet.rekek("fleet . --progress always --json");
    assert_eq!(run.status, 0, "{}", run.stderr);
    let said: Vec<_> = run.stderr.lines().collect();
    // One line at once and one at the end, for both sites together.
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].starts_with("rekek: ") && said[0].contains(" of 2): "), "{said:?}");
    assert!(said[1].starts_with("rekek: b (2 of 2): 5 of ") && said[1].ends_with(" in all"), "{said:?}");
}

#[test]
fn a_plans_paths_are_its_own_and_every_entry_is_taken() {
    let fleet = fleet_of(&["deep/a"]);
    let secrets: Value = serde_json::from_str(&fleet.read("deep/a/secrets.json")).unwrap();
    let kv2 = &secrets["machine_identity"]["encryption_keys"]["kv2"];
    let vault = json!({"data": {"data": {"UsernamePassword": {"username": "", "password": kv2}}}});
    fleet.write("deep/kv2.json", vault.to_string());
    fleet.write("deep/kv1.json", without_kv2(&fleet.read("deep/a/secrets.json")));
    std::fs::rename(fleet.path("deep/a/export.csv"), fleet.path("deep/export")).unwrap();
    fleet.write(
        "deep/plan.toml",
        "[[site]]\nname = 'a'\ninput = 'export'\ninput_format = 'csv'\noutput = 'out'\noutput_format = 'parquet'\n\
         compression = 'zstd'\nsecrets = ['kv1.json']\nvault_key = { kv2 = 'kv2.json' }\nto = 'kv2'\n",
    );
    fleet.rekek("fleet deep/plan.toml --quiet --threads 1").good();
    fleet.rekek("verify deep/out --input-format parquet --secrets deep/a/secrets.json").good();
    assert!(fleet.rekek("fleet deep/plan.toml").good().contains("done before"));
}

#[test]
fn a_folder_tells_what_its_sites_lack_and_hides_none() {
    let fleet = fleet_of(&["a", "b"]);
    std::fs::remove_file(fleet.path("b/secrets.json")).unwrap();
    std::fs::remove_file(fleet.path("b/site.toml")).unwrap();
    std::fs::create_dir_all(fleet.path("c")).unwrap();
    std::fs::create_dir_all(fleet.path(".hidden")).unwrap();
    fleet.write("b/export.parquet", "");
    fleet.write("loose.csv", "");
    fleet.write("README.md", "");
    let run = fleet.rekek("fleet . --json");
    assert_eq!(run.status, 1);
    assert_eq!(outcomes(&run.json()), [("a", "done"), ("b", "not_done"), ("c", "not_done")]);
    let said: Vec<_> = run.stderr.lines().collect();
    assert_eq!(
        said[0],
        "rekek: warning: ./loose.csv lies beside the sites' folders and belongs to no site; put it into its site's \
         folder, or away"
    );
    assert_eq!(
        said[1],
        "rekek: site b: ./b has both export.csv and export.parquet: keep one, has no secrets (secrets.json, \
         secrets.yaml, secrets.yml), has no configuration (site.toml)"
    );
    assert!(said[2].starts_with("rekek: site c: ./c has no export (export.csv, "), "{}", said[2]);
    let empty = Folder::empty();
    let run = empty.rekek("fleet .");
    assert_eq!(run.status, 1);
    assert!(run.stderr.contains(". has no site: a plan has a [[site]] table for each"), "{}", run.stderr);
}

#[test]
fn a_signal_ends_the_fleet_and_the_same_command_goes_on() {
    let fleet = fleet_of(&["a", "b", "c"]);
    let export = fleet.read("b/export.csv");
    std::fs::remove_file(fleet.path("b/export.csv")).unwrap();
    // The second site waits for its export until the signal comes.
    assert!(std::process::Command::new("mkfifo").arg(fleet.path("b/export.csv")).status().unwrap().success());
    let line = "fleet . --json --report fleet.json";
    let mut command = fleet.command(line);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    while !fleet.path("a/rewrapped.csv.manifest.json").exists() {
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_millis(200));
    let pid = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-s", "INT", &pid]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        (output.status.code(), String::from_utf8(output.stderr).unwrap().as_str()),
        (
            Some(130),
            "rekek: interrupted at site b; 1 of 3 sites are done; the same command again runs only those that are \
             not done\n"
        )
    );
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(outcomes(&report), [("a", "done"), ("b", "not_reached"), ("c", "not_reached")]);
    assert_eq!(fleet.path("b").read_dir().unwrap().count(), 3, "nothing was left behind");

    std::fs::remove_file(fleet.path("b/export.csv")).unwrap();
    fleet.write("b/export.csv", export);
    let run = fleet.rekek(line);
    assert_eq!((run.status, run.stderr.as_str()), (0, ""));
    assert_eq!(outcomes(&run.json()), [("a", "done_before"), ("b", "done"), ("c", "done")]);
}

/// Two sites, and two key pairs of minisign's beside their folders.
fn fleet_with_signing_keys() -> Folder {
    let fleet = fleet_of(&["a", "b"]);
    for key in ["a", "b"] {
        minisign(&fleet, &format!("-G -W -s {key}.key -p {key}.pub"));
    }
    fleet
}

#[test]
fn every_site_is_signed_and_one_without_its_signature_is_not_done() {
    let fleet = fleet_with_signing_keys();
    let id = key_id(&fleet, "a.pub");
    let before = fleet.path("a").read_dir().unwrap().count();
    let run = fleet.rekek("fleet . --dry-run --sign a.key");
    assert_eq!((run.status, run.stderr.as_str()), (0, ""));
    assert_eq!(fleet.path("a").read_dir().unwrap().count(), before, "a dry run writes no signature");

    let run = fleet.rekek("fleet . --json --sign a.key");
    assert_eq!((run.status, run.stderr.as_str()), (0, ""));
    let signed_with = |report: &Value, site: usize| {
        report["site_reports"][site]["report"]["manifest"]["signature"]["public_key_id"].clone()
    };
    for (site, name) in ["a", "b"].into_iter().enumerate() {
        assert_eq!(signed_with(&run.json(), site), id.as_str());
        minisign(&fleet, &format!("-V -H -q -m {name}/rewrapped.csv.manifest.json -p a.pub"));
        fleet.rekek(&format!("verify {name}/rewrapped.csv --trusted-key a.pub")).good();
    }
    let again = fleet.rekek("fleet . --json --sign a.key").json();
    assert_eq!(outcomes(&again), [("a", "done_before"), ("b", "done_before")]);
    assert_eq!(signed_with(&again, 0), id.as_str());
    // Who does not ask for signatures is not held up by them.
    assert_eq!(outcomes(&fleet.rekek("fleet . --json").json()), [("a", "done_before"), ("b", "done_before")]);

    let signature = "a/rewrapped.csv.manifest.json.minisig";
    let b = fleet.path("b/rewrapped.csv").metadata().unwrap().ino();
    let exists = "rekek: site a: ./a/rewrapped.csv exists already (";
    let not_done = |why: &str| {
        let files = [signature, "a/rewrapped.csv"].map(|name| std::fs::read(fleet.path(name)).ok());
        let run = fleet.rekek("fleet . --json --sign a.key");
        assert_eq!((run.status, outcomes(&run.json())), (1, vec![("a", "not_done"), ("b", "done_before")]));
        let said = run.stderr.lines().next().unwrap();
        assert!(said.starts_with(exists) && said.contains(why), "{said}");
        assert_eq!([signature, "a/rewrapped.csv"].map(|name| std::fs::read(fleet.path(name)).ok()), files);
    };
    std::fs::remove_file(fleet.path(signature)).unwrap();
    not_done("./a/rewrapped.csv.manifest.json is not signed");
    minisign(&fleet, "-S -s b.key -m a/rewrapped.csv.manifest.json");
    not_done(&format!("is signed with the key {}, not with the trusted key {id}", key_id(&fleet, "b.pub")));
    fleet.write(signature, "hello");
    not_done("is not a minisign signature");
    // Either of the two ways that the help names.
    minisign(&fleet, "-S -s a.key -m a/rewrapped.csv.manifest.json");
    let run = fleet.rekek("fleet . --sign a.key");
    assert_eq!((run.status, run.stderr.as_str()), (0, ""));
    assert!(run.stdout.contains(&format!("signed with key      {id}\n")), "{}", run.stdout);
    std::fs::remove_file(fleet.path(signature)).unwrap();
    let run = fleet.rekek("fleet . --json --sign a.key --force");
    assert_eq!((run.status, outcomes(&run.json())), (0, vec![("a", "done"), ("b", "done_before")]));
    minisign(&fleet, "-V -H -q -m a/rewrapped.csv.manifest.json -p a.pub");
    assert_eq!(fleet.path("b/rewrapped.csv").metadata().unwrap().ino(), b);
}

#[test]
fn the_passphrase_of_a_fleet_is_asked_once() {
    let fleet = fleet_with_signing_keys();
    encrypt_cheaply(&fleet, "a.key", "horse");
    let mut terminal = Terminal::start(&fleet.command("fleet . --quiet --sign a.key"), "/dev/null");
    terminal.wait_for("passphrase of a.key: ");
    terminal.type_in("horse\n");
    let ended = terminal.end();
    assert_eq!((ended.status, ended.stderr.as_str()), (0, ""));
    assert_eq!(ended.shown, "passphrase of a.key: \r\n");
    for name in ["a", "b"] {
        minisign(&fleet, &format!("-V -H -q -m {name}/rewrapped.csv.manifest.json -p a.pub"));
    }
}

#[test]
fn a_signing_key_that_clashes_or_is_none_ends_a_fleet_before_its_first_site() {
    let fleet = fleet_with_signing_keys();
    let signature = "a/rewrapped.csv.manifest.json.minisig";
    std::fs::copy(fleet.path("a.key"), fleet.path(signature)).unwrap();
    let key = format!("--force --sign {signature}");
    let report = format!("--force --sign a.key --report {signature}");
    for (line, status, told) in [
        ("--sign -", 2, "the signing key cannot come from standard input; name its file"),
        ("--sign a.pub", 1, "a.pub is not a minisign secret key"),
        ("--sign a.key --force --report a.key", 2, "the report, a.key, is also the signing key"),
        (
            &key,
            2,
            "the signature of the output of site a, ./a/rewrapped.csv.manifest.json.minisig, is also the signing key",
        ),
        (&report, 2, "is also the signature of the output of site a"),
    ] {
        let run = fleet.rekek(&format!("fleet . {line}"));
        assert_eq!((run.status, run.stdout.as_str()), (status, ""), "{line}: {}", run.stderr);
        assert!(run.stderr.contains(told), "{line}: {}", run.stderr);
        assert!(!fleet.path("a/rewrapped.csv").exists() && !fleet.path("b/rewrapped.csv").exists());
    }
    assert_eq!(fleet.read(signature), fleet.read("a.key"));
}
