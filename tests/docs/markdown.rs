//! What a test has to know of a document: its commands with their output, its links, its anchors,
//! what it quotes.
//!
//! A command stands in a code block behind a prompt, `$ ` or with the machine's name before it
//! (`keys$ `). A backslash at the end of a line goes on in the next, and so does `<<'WORD'` up to the
//! line WORD. What stands below it, up to the next prompt, is what it prints; nothing is anything.
//! In an output `…` stands for any text within a line, and alone for any lines. A last line
//! `(exit status N)` says how it ends where that is not 0. A line that begins with `# ` is a remark.

use std::path::{Path, PathBuf};

pub struct Document {
    /// Its path from the root of the repository.
    pub name: String,
    pub text: String,
}

pub struct Command {
    /// Line of the document, from 1.
    pub line: usize,
    /// The last heading before it.
    pub heading: String,
    /// The machine that it is typed at; empty where there is only one.
    pub machine: String,
    pub script: String,
    pub output: Vec<String>,
    pub status: i32,
}

/// A line of a document: what it is.
enum Line<'a> {
    Heading(&'a str),
    Code(&'a str),
    Prose(&'a str),
}

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

impl Document {
    pub fn read(name: &str) -> Document {
        let text = std::fs::read_to_string(root().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        Document { name: name.to_owned(), text }
    }

    fn lines(&self) -> impl Iterator<Item = (usize, Line<'_>)> {
        let mut in_code = false;
        let mut in_fence = false;
        let mut lines = self.text.lines().zip(1..).peekable();
        std::iter::from_fn(move || {
            let (line, number) = lines.next()?;
            let indented = |line: &str| line.starts_with("    ");
            if line.starts_with("```") {
                in_fence = !in_fence;
                return Some((number, Line::Prose("")));
            }
            // An empty line belongs to a block that goes on below it.
            let goes_on = in_code && line.is_empty() && lines.peek().is_some_and(|(next, _)| indented(next));
            in_code = indented(line) || goes_on;
            Some((
                number,
                match line {
                    _ if in_fence => Line::Code(line),
                    _ if in_code => Line::Code(line.get(4..).unwrap_or_default()),
                    _ if line.starts_with('#') => Line::Heading(line.trim_start_matches('#').trim()),
                    _ => Line::Prose(line),
                },
            ))
        })
    }

    /// Every command, and every other line of a code block that is no command's output.
    pub fn commands(&self) -> (Vec<Command>, Vec<(usize, String)>) {
        let mut commands: Vec<Command> = Vec::new();
        let mut loose = Vec::new();
        let mut heading = "";
        // What the command goes on to: a line that does not end in a backslash, or this word.
        let mut goes_on: Option<Option<String>> = None;
        let mut below = false;
        for (number, line) in self.lines() {
            match line {
                Line::Heading(text) => (heading, below) = (text, false),
                Line::Prose(_) => below = false,
                Line::Code(text) if goes_on.is_some() => {
                    let command = commands.last_mut().expect("one was begun");
                    command.script += &format!("\n{text}");
                    let end = match goes_on.as_ref().expect("it goes on") {
                        None => !text.ends_with('\\'),
                        Some(word) => text == word,
                    };
                    goes_on = goes_on.filter(|_| !end);
                }
                Line::Code(text) => match prompt(text) {
                    Some((machine, script)) => {
                        let here = script.split_once("<<'").and_then(|(_, word)| word.split_once('\''));
                        goes_on = here.map(|(word, _)| Some(word.to_owned()));
                        goes_on = goes_on.or(script.ends_with('\\').then_some(None));
                        below = true;
                        commands.push(Command {
                            line: number,
                            heading: heading.to_owned(),
                            machine: machine.to_owned(),
                            script: script.to_owned(),
                            output: vec![],
                            status: 0,
                        });
                    }
                    None if text.starts_with("# ") => below = false,
                    None if below => {
                        let command = commands.last_mut().expect("it stands below one");
                        let status = text.strip_prefix("(exit status ").and_then(|t| t.strip_suffix(')'));
                        match status {
                            Some(status) => command.status = status.parse().expect("a number"),
                            None => command.output.push(text.to_owned()),
                        }
                    }
                    None => loose.push((number, text.to_owned())),
                },
            }
        }
        // What ends a block is no part of an output.
        for command in &mut commands {
            while command.output.last().is_some_and(String::is_empty) {
                command.output.pop();
            }
        }
        (commands, loose)
    }

    /// The text outside of code blocks, spans of code included.
    fn prose(&self) -> impl Iterator<Item = (usize, &str)> {
        self.lines().filter_map(|(number, line)| match line {
            Line::Prose(text) | Line::Heading(text) => Some((number, text)),
            Line::Code(_) => None,
        })
    }

    /// Where links lead that leave no repository: a file, from the root, and an anchor in it.
    pub fn links(&self) -> Vec<(usize, PathBuf, Option<String>)> {
        let folder = Path::new(&self.name).parent().expect("it is a file");
        let mut links = Vec::new();
        for (number, text) in self.prose() {
            for link in text.split("](").skip(1) {
                let link = link.split(')').next().expect("split gives one");
                if link.contains("://") {
                    continue;
                }
                let (file, anchor) = link.split_once('#').map_or((link, None), |(f, a)| (f, Some(a)));
                let path = if file.is_empty() { self.name.clone().into() } else { folder.join(file) };
                links.push((number, path, anchor.map(str::to_owned)));
            }
        }
        links
    }

    /// The anchors of its headings, as the forges make them.
    pub fn anchors(&self) -> Vec<String> {
        let headings = self.lines().filter_map(|(_, line)| match line {
            Line::Heading(text) => Some(text),
            _ => None,
        });
        let anchor = |text: &str| -> String {
            let kept = text.to_lowercase();
            let kept = kept.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        };
        headings.map(anchor).collect()
    }

    /// Spans of code in prose, with their lines.
    pub fn spans(&self) -> Vec<(usize, String)> {
        let mut spans = Vec::new();
        for (number, mut text) in self.prose() {
            while let Some(at) = text.find('`') {
                let rest = &text[at..];
                let ticks = rest.len() - rest.trim_start_matches('`').len();
                let Some(end) = rest[ticks..].find(&rest[..ticks]) else { break };
                spans.push((number, rest[ticks..ticks + end].trim().to_owned()));
                text = &rest[2 * ticks + end..];
            }
        }
        spans
    }

    /// What the first column of its tables quotes, with the lines, under a heading of that name.
    pub fn quoted_in_tables(&self, heading: &str) -> Vec<(usize, String)> {
        let mut in_table = false;
        let mut quoted = Vec::new();
        let spans = self.spans();
        for (number, text) in self.prose() {
            in_table = text.starts_with('|') && (in_table || text.starts_with(&format!("| {heading} |")));
            if in_table {
                let column = text.split('|').nth(1).unwrap_or_default();
                let of_line = spans.iter().filter(|(line, _)| *line == number);
                quoted.extend(of_line.filter(|(_, span)| column.contains(span.as_str())).cloned());
            }
        }
        quoted
    }
}

/// The machine and what is typed, of a line that begins with a prompt.
fn prompt(text: &str) -> Option<(&str, &str)> {
    let (machine, script) = text.split_once("$ ")?;
    machine.bytes().all(|b| b.is_ascii_lowercase()).then_some((machine, script))
}
