//! Every `rekek` command in the README is run, in its order, and prints what the README says.

use crate::signature::minisign;
use crate::support::{Site, sample};

/// The commands of a Markdown text with the output that stands below each: code blocks whose lines
/// begin with `$ rekek`, a backslash at the end of a line goes on in the next.
fn commands(text: &str) -> Vec<(String, Vec<String>)> {
    let mut commands: Vec<(String, Vec<String>)> = Vec::new();
    let mut in_command = false;
    let mut in_output = false;
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        // An empty line belongs to an output that goes on below it.
        let goes_on = line.is_empty() && lines.peek().is_some_and(|next| next.starts_with("    "));
        let Some(code) = line.strip_prefix("    ").or((in_output && goes_on).then_some("")) else {
            (in_command, in_output) = (false, false);
            continue;
        };
        if let Some(command) = code.strip_prefix("$ rekek ") {
            commands.push((String::new(), vec![]));
            (in_command, in_output) = (true, true);
            push_words(commands.last_mut(), command, &mut in_command);
        } else if in_command {
            push_words(commands.last_mut(), code, &mut in_command);
        } else if in_output {
            commands.last_mut().unwrap().1.push(code.to_owned());
        }
    }
    commands
}

fn push_words(command: Option<&mut (String, Vec<String>)>, words: &str, goes_on: &mut bool) {
    *goes_on = words.ends_with('\\');
    let line = &mut command.unwrap().0;
    line.push_str(words.trim_end_matches('\\').trim());
    line.push(' ');
}

#[test]
fn the_readme_says_what_happens() {
    let site = Site::empty();
    std::fs::create_dir_all(site.path("fixtures/sample")).unwrap();
    for name in ["export.csv", "secrets.json", "site.toml"] {
        site.write(&format!("fixtures/sample/{name}"), std::fs::read(sample(name)).unwrap());
    }
    // (The README has a passphrase asked for; tests/cli/signature.rs does that.)
    minisign(&site, "-G -W -s rotation.key -p rotation.pub");
    let readme = include_str!("../../README.md");
    let commands = commands(readme);
    assert!(commands.len() >= 5, "{commands:?}");
    for (line, expected) in commands {
        if line.contains("export-after.csv") {
            // What the import would have made of the database, as far as envelopes go.
            std::fs::copy(site.path("rewrapped.csv"), site.path("export-after.csv")).unwrap();
        }
        let run = site.rekek(&line);
        assert_eq!(run.status, 0, "{line}: {}", run.stderr);
        if expected.is_empty() {
            continue;
        }
        let said: Vec<_> = run.stdout.lines().collect();
        assert_eq!(said.len(), expected.len(), "{line}\n{}", run.stdout);
        for (said, expected) in said.iter().zip(&expected) {
            match expected.strip_suffix('…') {
                Some(start) => assert!(said.starts_with(start), "{said} / {expected}"),
                None => assert_eq!(said, expected),
            }
        }
    }
}
