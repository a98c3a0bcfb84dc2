//! docs/messages.md lists every message of both programs with what to do about it. This test holds
//! the list against the source: whoever adds or changes a message reviews it there.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What stands before a message among SQL. (Without white space; a text before it is written `"`.)
const BEFORE_AMONG_SQL: [&str; 8] = [
    "failed(",
    "lacking(format!(",
    "letdoing=",
    "letwhat=",
    "what:",
    "what:format!(",
    "Table(format!(",
    ".step(",
];

/// What stands before a label or a value in a table for people, or before help.
const NO_MESSAGE_BEHIND: [&str; 12] = [
    "table.line(",
    "table.line(\",",
    "table.line(\",format!(",
    "table.toned(",
    "table.toned(Tone::Bad,\",",
    "table.count(",
    "table.count_bad(",
    "Grid::new([",
    "letmutstages=Grid::new([\",",
    "constAFTER:&str=",
    "constAFTER_HELP:&str=",
    "constSTATUSES:&str=",
];

/// What stands before a text that nobody is shown: a bug's, a lint's, a parser's own words.
const NEVER: [&str; 5] = ["expect(", "reason=", "assert!(", "unreachable!(", "write_str("];

/// Texts that are none of the programs' words.
const NO_MESSAGES: [&str; 14] = [
    "SQLite format 3\\0",
    "-----BEGIN PRIVATE KEY-----\\n",
    "-----BEGIN PUBLIC KEY-----\\n",
    "\\n-----END PRIVATE KEY-----",
    "\\n-----END PUBLIC KEY-----",
    "rekek key fingerprint v1",
    "untrusted comment: signature from rekek with minisign secret key {}\\n{}\\ntrusted comment: {comment}\\n{}\\n",
    "(other key ids)",
    "the room is what the encoder asks for",
    "{\\n  \\\"machine_identity\\\": {\\n    \\\"encryption_keys\\\": {}\\n  }\\n}\\n",
    "{PROGRAM}: {line}",
    "{PROGRAM}: note: {note}",
    "{PROGRAM}: warning: {self}",
    "{program}: {WARNING}warning:{WARNING:#} {rest}\\n",
];

/// What files are called in messages.
const NAMES: [&str; 17] = [
    "the signing key",
    "a secrets file",
    "the trusted key",
    "the site configuration",
    "the failures file",
    "the input's manifest",
    "an import's report",
    "what stands beside the output,",
    "the file of organizations",
    "the input of site {name}",
    "the manifest of the input of site {name}",
    "a secrets file of site {name}",
    "the configuration of site {name}",
    "the output of site {name}",
    "the manifest of the output of site {name}",
    "the signature of the output of site {name}",
    "the report of site {}",
];

/// Pieces of messages that are listed.
const PIECES: [&str; 9] = [
    "{} {}: {}",
    "{} ({} of {all})",
    "{organization_id} {field}: {error}",
    "the JSON report",
    "1 field names it",
    "{} fields name it",
    "nothing was written, as asked",
    "the other rows were written",
    "nothing was written",
];

/// Values in tables that are chosen elsewhere.
const VALUES: [&str; 13] = [
    "no field names it",
    "1 field still names it",
    "{} fields still name it",
    "{}, among the unchanged",
    "failed at the re-wrap",
    "fields after a re-wrap",
    "no: a dry run, everything was rolled back",
    "yes: there was nothing to write",
    "yes, in one transaction",
    "yes, in {} transactions",
    "no: nothing was written",
    "only {} transactions",
    "{:.1} s, {} rows/s",
];

/// Progress.
const PROGRESS: [&str; 5] = [
    "checking the file",
    "{{prefix}}{{human_pos}}{of} rows  {{rate}} rows/s  {clock}{wide}",
    "{text}; {all:#} in all",
    "of about {}",
    "{}{of} rows, {} rows/s, {clock}",
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else {
            found.push(path);
        }
    }
}

/// The string literals of a source with the code before each, without its white space.
fn literals(source: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut code = String::new();
    let mut rest = source;
    while let Some(c) = rest.chars().next() {
        if rest.starts_with("//") {
            rest = rest.find('\n').map_or("", |end| &rest[end..]);
        } else if let Some(after) = rest.strip_prefix("r#\"") {
            let end = after.find("\"#").expect("a raw text ends");
            found.push((code.clone(), after[..end].to_owned()));
            code.push('"');
            rest = &after[end + 2..];
        } else if c == '"' {
            let mut end = 1;
            while !rest[end..].starts_with('"') {
                end += if rest[end..].starts_with('\\') {
                    2
                } else {
                    rest[end..].chars().next().unwrap().len_utf8()
                };
            }
            found.push((code.clone(), joined(&rest[1..end])));
            code.push('"');
            rest = &rest[end + 1..];
        } else if c == '\'' && char_literal(rest) > 0 {
            rest = &rest[char_literal(rest)..];
        } else {
            if !c.is_whitespace() {
                code.push(c);
            }
            rest = &rest[c.len_utf8()..];
        }
    }
    found
}

/// The length of a character literal; 0 for a lifetime.
fn char_literal(rest: &str) -> usize {
    let mut chars = rest.char_indices().skip(1);
    match chars.next() {
        Some((_, '\\')) => rest[3..].find('\'').map_or(0, |end| end + 4),
        Some(_) => chars.next().filter(|(_, c)| *c == '\'').map_or(0, |(at, _)| at + 1),
        None => 0,
    }
}

/// A literal whose lines are joined by a backslash at their ends.
fn joined(text: &str) -> String {
    let mut parts = text.split("\\\n");
    let first = parts.next().unwrap().to_owned();
    parts.fold(first, |text, part| text + part.trim_start())
}

fn messages() -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    sources(&root, &mut paths);
    let mut messages = BTreeSet::new();
    for path in paths {
        let name = path.strip_prefix(&root).unwrap().to_str().unwrap();
        // How things look; tests.
        if ["bench/plot.rs", "figures.rs", "record/page.rs", "table/round.rs"].contains(&name)
            || name.ends_with("tests.rs")
        {
            continue;
        }
        let is_for_people = ["cli/", "bin/", "main.rs"].iter().any(|n| name.starts_with(n));
        let is_among_sql = ["site/sql_", "site/init.rs"].iter().any(|n| name.starts_with(n));
        let others = [&NO_MESSAGES[..], &NAMES, &PIECES, &VALUES, &PROGRESS].concat();
        let text = std::fs::read_to_string(&path).unwrap();
        let text = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        for (code, literal) in literals(text) {
            let behind = |ends: &[&str]| ends.iter().any(|end| code.ends_with(end));
            let literal = literal.trim();
            if behind(&NEVER) || others.contains(&literal) {
                continue;
            }
            let is_message = match literal.matches(' ').count() {
                0 => false,
                1 => code.ends_with("#[error("),
                _ if is_for_people => !behind(&NO_MESSAGE_BEHIND),
                _ if is_among_sql => behind(&BEFORE_AMONG_SQL) || code.ends_with("#[error("),
                _ => true,
            };
            if is_message {
                messages.insert(literal.to_owned());
            }
        }
    }
    messages
}

fn listed() -> Vec<String> {
    let list = include_str!("../docs/messages.md");
    let lines = list.lines().filter_map(|line| line.strip_prefix("- ``")?.strip_suffix("``"));
    lines.map(|line| line.trim().to_owned()).collect()
}

#[test]
fn every_message_is_in_the_reviewed_list() {
    let listed = listed();
    let once: BTreeSet<String> = listed.iter().cloned().collect();
    assert_eq!(once.len(), listed.len(), "a message is listed twice");
    let messages = messages();
    assert!(messages.len() > 250, "{}", messages.len());
    let missing: Vec<_> = messages.difference(&once).collect();
    assert!(missing.is_empty(), "docs/messages.md lacks {missing:#?}: review them there");
    let gone: Vec<_> = once.difference(&messages).collect();
    assert!(gone.is_empty(), "docs/messages.md has what the source has no longer: {gone:#?}");
}

#[test]
fn every_section_says_what_to_do() {
    let list = include_str!("../docs/messages.md");
    for section in list.split("\n## ").skip(1) {
        let title = section.lines().next().unwrap();
        let advice = section.lines().nth(2).unwrap_or_default();
        assert!(!advice.is_empty() && !advice.starts_with("- "), "{title} begins with what to do");
        assert!(section.contains("\n- ``"), "{title} lists messages");
    }
}

#[test]
fn the_source_is_read_as_rust_reads_it() {
    let source = r##"
        // "a comment" and 'c'
        fn f<'a>(c: char) { if c == '"' { g(r#"raw "text""#, "two \
            lines", "an \" escape", '\'') } }
    "##;
    let found: Vec<_> = literals(source).into_iter().map(|(_, text)| text).collect();
    assert_eq!(found, ["raw \"text\"", "two lines", "an \\\" escape"]);
}
