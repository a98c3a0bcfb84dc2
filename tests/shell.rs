//! Completions, manual pages, `--version` and `--help` of both programs, judged by the shells and
//! the formatters that will read them. scripts/install-shells installs those that are missing;
//! without one its test fails, it does not skip.

use assert_cmd::cargo::cargo_bin;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn programs() -> [(&'static str, PathBuf); 2] {
    [("rekek", cargo_bin!("rekek").to_owned()), ("rekek-site", cargo_bin!("rekek-site").to_owned())]
}

#[track_caller]
fn printed(program: &Path, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert_eq!((output.status.code(), &*output.stderr), (Some(0), &b""[..]), "{arguments:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a program with something on its standard input; what it says on both outputs.
#[track_caller]
fn judged(program: &str, arguments: &[&str], input: &str) -> (bool, String) {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("cannot run {program} (scripts/install-shells installs it): {e}"));
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let done = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout) + String::from_utf8_lossy(&done.stderr);
    (done.status.success(), said.into_owned())
}

/// The commands of a program, as its help lists them.
fn commands(program: &Path) -> Vec<String> {
    let help = printed(program, &["--help"]);
    let (_, list) = help.split_once("Commands:\n").unwrap();
    let lines = list.lines().take_while(|line| line.starts_with("  "));
    lines
        .filter_map(|line| Some(line.strip_prefix("  ")?.split(' ').next()?.to_owned()))
        .filter(|c| !c.is_empty())
        .collect()
}

#[test]
fn each_shell_accepts_its_completions() {
    for (name, program) in programs() {
        for shell in ["bash", "zsh", "fish"] {
            let script = printed(&program, &["completions", shell]);
            for command in commands(&program) {
                assert!(script.contains(&command), "{shell}: {name} {command}");
            }
            // -n reads and runs nothing.
            assert_eq!(judged(shell, &["-n"], &script), (true, String::new()), "{shell} of {name}");
        }
    }
}

#[test]
fn bash_completes_commands_and_flags() {
    for (name, program, words, expected) in [
        ("rekek", cargo_bin!("rekek"), "rekek rew", "rewrap"),
        ("rekek", cargo_bin!("rekek"), "rekek rewrap --site", "--site-config"),
        ("rekek-site", cargo_bin!("rekek-site"), "rekek-site import --on-conflict s", "skip"),
    ] {
        let script = printed(program, &["completions", "bash"]);
        let function = name.replace('-', "__");
        let words: Vec<_> = words.split(' ').collect();
        let ask = format!(
            "{script}\nCOMP_WORDS=({}); COMP_CWORD={}; _{function} {name} {} {}; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            words.join(" "),
            words.len() - 1,
            words[words.len() - 1],
            words[words.len() - 2],
        );
        let (good, said) = judged("bash", &[], &ask);
        assert!(good && said.lines().any(|line| line == expected), "{words:?}: {said}");
    }
}

#[test]
fn the_manual_pages_are_clean_and_one_a_command() {
    for (name, program) in programs() {
        let folder = tempfile::tempdir().unwrap();
        let into = folder.path().join("man1");
        assert_eq!(printed(&program, &["man", into.to_str().unwrap()]), "");
        let mut expected: Vec<_> =
            commands(&program).iter().filter(|c| *c != "help").map(|c| format!("{name}-{c}.1")).collect();
        expected.push(format!("{name}.1"));
        expected.sort();
        let mut pages: Vec<_> = std::fs::read_dir(&into).unwrap().map(|e| e.unwrap().path()).collect();
        pages.sort();
        let names: Vec<_> =
            pages.iter().map(|p| p.file_name().unwrap().to_str().unwrap().to_owned()).collect();
        assert_eq!(names, expected);
        for page in &pages {
            let text = std::fs::read_to_string(page).unwrap();
            let (good, said) = judged("groff", &["-man", "-Kutf8", "-Tutf8", "-ww", "-z"], &text);
            assert_eq!((good, said.as_str()), (true, ""), "{}", page.display());
            // Errors; that clap_mangen leaves the date out is a warning.
            let (good, said) = judged("mandoc", &["-T", "lint", "-W", "error"], &text);
            assert_eq!((good, said.as_str()), (true, ""), "{}", page.display());
        }
    }
}

#[test]
fn the_version_says_what_was_built() {
    for (name, program) in programs() {
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(printed(&program, &["-V"]), format!("{name} {version}\n"));
        let long = printed(&program, &["--version"]);
        let lines: Vec<_> = long.lines().collect();
        let [first, commit, features, target] = lines[..] else { panic!("{long}") };
        assert_eq!(first, format!("{name} {version}"));
        // The tests are built from the same sources, by the same build script.
        assert_eq!(commit, concat!("commit    ", env!("REKEK_COMMIT")));
        assert_eq!(features, "features  rewrap, site");
        assert!(target.starts_with("target    ") && target.contains('-'), "{target}");
    }
}

#[test]
fn outside_a_repository_the_commit_is_unknown_and_the_build_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("build-script");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("build.rs");
    let built = Command::new("rustc").args(["--edition", "2024", "-o"]).arg(&script).arg(source).status();
    assert!(built.unwrap().success());
    let run = |folder: &Path, path: &str| {
        let mut command = Command::new(&script);
        command.current_dir(folder).env_clear().env("PATH", path).env("CARGO_MANIFEST_DIR", folder);
        let output = command.env("CARGO_FEATURE_SITE", "1").env("TARGET", "a-b-c").output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    let expected = "cargo::rerun-if-changed=build.rs\ncargo::rustc-env=REKEK_COMMIT=unknown\n\
                    cargo::rustc-env=REKEK_FEATURES=site\ncargo::rustc-env=REKEK_TARGET=a-b-c\n";
    let path = std::env::var("PATH").unwrap();
    assert_eq!(run(folder.path(), &path), expected, "no repository");
    assert_eq!(run(folder.path(), ""), expected, "no git");
    // An archive that was unpacked inside somebody else's repository is none of its commits.
    let git = |arguments: &[&str]| {
        let identity = ["-c", "user.name=t", "-c", "user.email=t@localhost"];
        let mut command = Command::new("git");
        let done = command.args(identity).args(arguments).current_dir(folder.path()).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    git(&["init", "-q"]);
    git(&["commit", "-q", "--allow-empty", "-m", "empty"]);
    let inside = folder.path().join("unpacked");
    std::fs::create_dir(&inside).unwrap();
    assert_eq!(run(&inside, &path), expected);
    let said = run(folder.path(), &path);
    let commit = said.lines().find_map(|line| line.strip_prefix("cargo::rustc-env=REKEK_COMMIT=")).unwrap();
    assert!(commit.len() > 12 && commit.contains(" of 20"), "{commit}");
    assert!(said.lines().any(|line| line.ends_with(".git/logs/HEAD")), "{said}");
}
