//! What the documents link to, name and quote is there.

use crate::markdown::{Document, root};
use assert_cmd::cargo::cargo_bin;
use std::collections::HashMap;
use std::path::Path;
use std::process::Command;

/// Every document of the repository, by its path from the root.
pub fn documents() -> Vec<String> {
    let mut names = Vec::new();
    for folder in ["", "docs", "docs/record"] {
        for entry in std::fs::read_dir(root().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|e| e == "md") {
                names.push(path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    names.sort();
    names
}

#[test]
fn links_lead_somewhere() {
    let mut broken = Vec::new();
    let mut links = 0;
    for name in documents() {
        for (line, path, anchor) in Document::read(&name).links() {
            links += 1;
            let there = match &anchor {
                _ if !root().join(&path).exists() => false,
                Some(anchor) => Document::read(path.to_str().unwrap()).anchors().contains(anchor),
                None => true,
            };
            if !there {
                let anchor = anchor.map(|anchor| format!("#{anchor}")).unwrap_or_default();
                broken.push(format!("{name}:{line}: {}{anchor}", path.display()));
            }
        }
    }
    assert!(broken.is_empty() && links > 20, "{links} links\n{}", broken.join("\n"));
}

/// Where a message may be quoted from: the reviewed list, or the source itself.
fn sources() -> String {
    let mut text = String::new();
    let mut folders = vec![root().join("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                text += &std::fs::read_to_string(path).unwrap();
            }
        }
    }
    text + &Document::read("docs/messages.md").text
}

#[test]
fn messages_are_quoted_as_they_are() {
    let sources = sources();
    let mut wrong = Vec::new();
    let mut quoted = 0;
    for name in ["README.md", "docs/runbook.md"] {
        for (line, message) in Document::read(name).quoted_in_tables("what you see") {
            quoted += 1;
            // Between what it names, which the quote leaves out.
            if !message.split('…').all(|part| sources.contains(part.trim())) {
                wrong.push(format!("{name}:{line}: {message}"));
            }
        }
    }
    assert!(wrong.is_empty() && quoted > 30, "{quoted} messages\n{}", wrong.join("\n"));
}

#[test]
fn sources_and_tests_that_are_named_are_there() {
    let mut missing = Vec::new();
    let mut tests = 0;
    for name in documents() {
        for (line, span) in Document::read(&name).spans() {
            let (file, test) = span.split_once("::").map_or((span.as_str(), None), |(f, t)| (f, Some(t)));
            let is_source =
                file.ends_with(".rs") && !file.contains(char::is_whitespace) && file.contains('/');
            if !is_source || file.contains('*') {
                continue;
            }
            let source = std::fs::read_to_string(root().join(Path::new(file))).unwrap_or_default();
            let there = match test {
                Some(test) => {
                    tests += 1;
                    let before = source.split(&format!("fn {test}(")).next().unwrap_or_default();
                    // Behind its attribute, other ones in between.
                    before.len() < source.len()
                        && before.trim_end().lines().rev().take(3).any(|line| line.trim() == "#[test]")
                }
                None => !source.is_empty(),
            };
            if !there {
                missing.push(format!("{name}:{line}: {span}"));
            }
        }
    }
    assert!(missing.is_empty() && tests > 30, "{tests} tests\n{}", missing.join("\n"));
}

/// What a command's `--help` says; nothing if there is no such command.
fn help(program: &str, command: &str) -> Option<String> {
    let program = if program == "rekek" { cargo_bin!("rekek") } else { cargo_bin!("rekek-site") };
    let told = Command::new(program).args([command, "--help"]).output().unwrap();
    told.status.success().then(|| String::from_utf8(told.stdout).unwrap())
}

/// Commands in running text are not run; but they are there, and have the flags that are named.
#[test]
fn commands_and_flags_in_running_text_are_there() {
    let mut helps = HashMap::new();
    let mut wrong = Vec::new();
    for name in documents() {
        for (line, span) in Document::read(&name).spans() {
            let mut words = span.split_whitespace();
            let (Some(program @ ("rekek" | "rekek-site")), Some(command)) = (words.next(), words.next())
            else {
                continue;
            };
            // (A placeholder, or a flag of the program itself; what a fingerprint is the HMAC of.)
            if command.bytes().any(|b| !b.is_ascii_lowercase()) || span == "rekek key fingerprint v1" {
                continue;
            }
            let help = helps.entry(format!("{program} {command}")).or_insert_with(|| help(program, command));
            let has = |flag: &str| help.as_ref().is_some_and(|help| help.contains(flag));
            if help.is_none() || words.filter(|word| word.starts_with("--")).any(|flag| !has(flag)) {
                wrong.push(format!("{name}:{line}: {span}"));
            }
        }
    }
    assert!(wrong.is_empty() && helps.len() > 8, "{} commands\n{}", helps.len(), wrong.join("\n"));
}

#[test]
fn each_guarantee_says_what_it_does_not_prove_and_what_shows_it() {
    let text = Document::read("docs/guarantees.md").text;
    let mut sections = 0;
    for section in text.split("\n## ").skip(1).filter(|section| section.contains("\n**Proves.**")) {
        sections += 1;
        let title = section.lines().next().unwrap();
        for part in ["\n**Does not prove.**", "\n**Shown by.**"] {
            assert!(section.contains(part), "{title} lacks {part}");
        }
    }
    assert!(sections >= 6, "{sections}");
}
