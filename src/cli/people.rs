//! Reports for people: short aligned tables. (The documents for programs are in the library.)
//!
//! It owns how a report looks: labels and values, counters, grids, what to do next, and on a
//! terminal its width and colour. It never says anything by colour alone, and never cuts a value:
//! what does not fit beside its label goes below it, lines break between words only, and a word
//! longer than a line (a path, a digest) is left to the terminal, from which it can be copied
//! whole. Where no terminal is there, nothing is broken and nothing is coloured: the text is the
//! same in every pipe.

use anstyle::{AnsiColor, Style};
use anyhow::Context as _;
use std::fmt::Write as _;
use std::io::Write as _;
use std::os::fd::AsFd;
use textwrap::core::display_width;
use textwrap::{WordSplitter, wrap};

pub use rekek::figures::count;

/// Columns between a label and its value.
const GAP: usize = 2;

/// Columns beside a label into which a value may be broken; in fewer it reads better below.
const BESIDE_MIN: usize = 30;

/// Columns by which a value below its label stands in.
const BELOW: usize = 4;

/// What a value tells, for its colour. Whatever it tells, its words say it too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// Nothing particular.
    Plain,
    /// As it should be.
    Good,
    /// The answer is no.
    Bad,
}

impl Tone {
    /// Bad where there are any.
    pub fn bad_if_any(n: u64) -> Tone {
        if n > 0 { Tone::Bad } else { Tone::Plain }
    }

    fn style(self) -> Style {
        match self {
            Tone::Plain => Style::new(),
            Tone::Good => AnsiColor::Green.on_default(),
            Tone::Bad => AnsiColor::Red.on_default().bold(),
        }
    }
}

const HEADING: Style = Style::new().bold();

/// A report as it comes together, from its first line to its last.
#[derive(Default)]
pub struct Report(Vec<Part>);

enum Part {
    Line { label: String, value: String, tone: Tone },
    Count { label: String, n: u64, tone: Tone },
    Grid(Grid),
    Next { what: String, command: Option<String> },
}

impl Report {
    /// A label and its value; two blanks before a label put it under the one before.
    pub fn line(&mut self, label: impl Into<String>, value: impl Into<String>) {
        self.toned(Tone::Plain, label, value);
    }

    /// The same of a value that tells something.
    pub fn toned(&mut self, tone: Tone, label: impl Into<String>, value: impl Into<String>) {
        let (label, value) = (label.into(), without_controls(value.into()));
        self.0.push(Part::Line { label, value, tone });
    }

    /// A counter; all of a report's counters are aligned at their last digits.
    pub fn count(&mut self, label: impl Into<String>, n: u64) {
        self.0.push(Part::Count { label: label.into(), n, tone: Tone::Plain });
    }

    /// A counter that should be nought.
    pub fn count_bad(&mut self, label: impl Into<String>, n: u64) {
        self.0.push(Part::Count { label: label.into(), n, tone: Tone::bad_if_any(n) });
    }

    /// A grid, set apart by an empty line; one without rows is left out.
    pub fn grid(&mut self, grid: Grid) {
        if !grid.rows.is_empty() {
            self.0.push(Part::Grid(grid));
        }
    }

    /// What to do next, and the command for it where there is one, ready to be copied.
    pub fn next(&mut self, what: impl Into<String>, command: Option<String>) {
        self.0.push(Part::Next { what: what.into(), command });
    }

    /// The text, styled, for a terminal of so many columns; for anything else, in lines of any length.
    pub fn render(&self, columns: Option<usize>) -> String {
        let labels = self.0.iter().filter_map(|part| match part {
            Part::Line { label, .. } | Part::Count { label, .. } => Some(display_width(label)),
            Part::Grid(_) | Part::Next { .. } => None,
        });
        let label_width = labels.max().unwrap_or(0);
        let counters = self.0.iter().filter_map(|part| match part {
            Part::Count { n, .. } => Some(count(*n).len()),
            _ => None,
        });
        let count_width = counters.max().unwrap_or(0);
        let mut out = String::new();
        for part in &self.0 {
            match part {
                Part::Line { label, value, tone } => {
                    labelled(&mut out, label, label_width, value, tone.style(), columns);
                }
                Part::Count { label, n, tone } => {
                    let value = format!("{:>count_width$}", count(*n));
                    labelled(&mut out, label, label_width, &value, tone.style(), columns);
                }
                Part::Grid(grid) => {
                    out.push('\n');
                    grid.render(&mut out, columns);
                }
                Part::Next { what, command } => {
                    out.push('\n');
                    let text = broken(&format!("next: {what}"), columns).join("\n");
                    let text = text.strip_prefix("next:").expect("it was put there");
                    line(&mut out, &format!("{HEADING}next:{HEADING:#}{text}"));
                    if let Some(command) = command {
                        line(&mut out, &format!("  {command}"));
                    }
                }
            }
        }
        out
    }
}

/// A file's name may hold what a terminal would take for a command.
fn without_controls(text: String) -> String {
    if !text.contains(char::is_control) {
        return text;
    }
    let escaped = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(escaped).collect()
}

fn line(out: &mut String, text: &str) {
    writeln!(out, "{text}").expect("a String takes it");
}

fn labelled(
    out: &mut String,
    label: &str,
    label_width: usize,
    value: &str,
    style: Style,
    columns: Option<usize>,
) {
    let indent = label_width + GAP;
    let padding = " ".repeat(indent - display_width(label));
    let fits = columns.is_none_or(|columns| indent + display_width(value) <= columns);
    if fits {
        return line(out, format!("{label}{padding}{style}{value}{style:#}").trim_end());
    }
    let beside = columns.expect("anything else fits").saturating_sub(indent);
    let longest = value.split(' ').map(display_width).max().unwrap_or(0);
    if beside >= BESIDE_MIN && longest <= beside {
        let lines = broken(value, Some(beside));
        line(out, &format!("{label}{padding}{style}{}{style:#}", lines[0]));
        for more in &lines[1..] {
            line(out, &format!("{}{style}{more}{style:#}", " ".repeat(indent)));
        }
    } else {
        line(out, label);
        for text in broken(value, columns.map(|columns| columns.saturating_sub(BELOW))) {
            line(out, &format!("{}{style}{text}{style:#}", " ".repeat(BELOW)));
        }
    }
}

/// A text in lines of at most so many columns, broken between words only.
fn broken(text: &str, columns: Option<usize>) -> Vec<String> {
    let Some(columns) = columns else { return vec![text.to_owned()] };
    let options =
        textwrap::Options::new(columns).break_words(false).word_splitter(WordSplitter::NoHyphenation);
    wrap(text, options).into_iter().map(String::from).collect()
}

/// Rows of values under headings. The first column names the row and is aligned at the left.
pub struct Grid {
    headings: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

/// A value in a grid.
pub enum Cell {
    /// A text, aligned at the left.
    Text(String),
    /// The same of a text that tells something.
    #[allow(dead_code)] // rekek-site has none
    Toned(Tone, String),
    /// A number, aligned at the right.
    Count(u64),
    /// A number that is spelled in another way, aligned at the right.
    #[allow(dead_code)] // rekek-site has none
    Figure(String),
}

impl Cell {
    fn text(&self) -> String {
        match self {
            Cell::Text(text) | Cell::Toned(_, text) | Cell::Figure(text) => text.clone(),
            Cell::Count(n) => count(*n),
        }
    }

    fn style(&self) -> Style {
        if let Cell::Toned(tone, _) = self { tone.style() } else { Style::new() }
    }
}

impl Grid {
    /// A grid of these columns.
    pub fn new(headings: impl Into<Vec<&'static str>>) -> Grid {
        Grid { headings: headings.into(), rows: Vec::new() }
    }

    /// Adds a row, a cell for each heading.
    pub fn row(&mut self, cells: impl Into<Vec<Cell>>) {
        self.rows.push(cells.into());
        debug_assert_eq!(self.rows.last().map(Vec::len), Some(self.headings.len()));
    }

    fn render(&self, out: &mut String, columns: Option<usize>) {
        let texts: Vec<Vec<String>> =
            self.rows.iter().map(|row| row.iter().map(Cell::text).collect()).collect();
        let widths: Vec<usize> = (0..self.headings.len())
            .map(|i| {
                let cells = texts.iter().map(|row| display_width(&row[i]));
                cells.chain([display_width(self.headings[i])]).max().unwrap_or(0)
            })
            .collect();
        let whole = widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1);
        if columns.is_some_and(|columns| whole > columns) {
            return self.stack(out, &texts, columns);
        }
        let right = |i: usize| self.rows.iter().any(|row| matches!(row[i], Cell::Count(_) | Cell::Figure(_)));
        let aligned = |cells: &[(&str, Style)]| {
            let mut text = String::new();
            for (i, (cell, style)) in cells.iter().enumerate() {
                let gap = " ".repeat(if i == 0 { 0 } else { GAP });
                let padding = " ".repeat(widths[i] - display_width(cell));
                let cell = format!("{style}{cell}{style:#}");
                text += &if right(i) { gap + &padding + &cell } else { gap + &cell + &padding };
            }
            text.trim_end().to_owned()
        };
        let headings: Vec<_> = self.headings.iter().map(|heading| (*heading, Style::new())).collect();
        line(out, &format!("{HEADING}{}{HEADING:#}", aligned(&headings)));
        for (row, texts) in self.rows.iter().zip(&texts) {
            let styles = row.iter().map(Cell::style);
            line(out, &aligned(&texts.iter().map(String::as_str).zip(styles).collect::<Vec<_>>()));
        }
    }

    /// Too wide for the terminal: each row as a block of lines.
    fn stack(&self, out: &mut String, texts: &[Vec<String>], columns: Option<usize>) {
        let label_width = self.headings[1..].iter().map(|h| display_width(h) + 2).max().unwrap_or(0);
        for (row, texts) in self.rows.iter().zip(texts) {
            line(out, &format!("{HEADING}{} {}{HEADING:#}", self.headings[0], texts[0]));
            for ((heading, cell), text) in self.headings.iter().zip(row).zip(texts).skip(1) {
                labelled(out, &format!("  {heading}"), label_width, text, cell.style(), columns);
            }
        }
    }
}

/// Whether no terminal here could take colours, or a line back.
pub fn is_dumb() -> bool {
    std::env::var_os("TERM").is_none_or(|term| term == "dumb")
}

/// From now on nothing is coloured on a dumb terminal; anstream would, where the variable CI is set.
/// (`CLICOLOR_FORCE` is its user's own wish.)
pub fn heed_dumb_terminals() {
    if is_dumb() && std::env::var_os("CLICOLOR_FORCE").is_none_or(|force| force.is_empty()) {
        anstream::ColorChoice::Never.write_global();
    }
}

/// Prints a report.
pub fn print(report: &Report) -> anyhow::Result<()> {
    let text = report.render(columns(std::io::stdout()));
    // What stdout can show: colour only on a terminal, and not where NO_COLOR is set.
    print_with(anstream::AutoStream::auto(std::io::stdout()), &text)
}

/// Prints a document for programs, as it is.
pub fn print_document(text: &str) -> anyhow::Result<()> {
    print_with(std::io::stdout(), text)
}

fn print_with(mut to: impl std::io::Write, text: &str) -> anyhow::Result<()> {
    to.write_all(text.as_bytes()).and_then(|()| to.flush()).context("cannot print the report")
}

/// Says a report on stderr, where stdout carries data.
pub fn say_report(report: &Report) {
    let text = report.render(columns(std::io::stderr()));
    let _ = anstream::AutoStream::auto(std::io::stderr()).write_all(text.as_bytes());
}

/// Says a document for programs on stderr, where stdout carries data.
pub fn say_document(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// A line on stderr, broken between words on a terminal. What stands before the first colon is
/// the program's name. Where stderr is full or closed there is nobody left to tell.
pub fn say(line: impl std::fmt::Display) {
    let text = match columns(std::io::stderr()) {
        None => line.to_string(),
        Some(columns) => {
            let text = line.to_string();
            let options = textwrap::Options::new(columns).subsequent_indent("  ");
            textwrap::fill(&text, options.break_words(false).word_splitter(WordSplitter::NoHyphenation))
        }
    };
    let text = match text.split_once(": ") {
        Some((program, rest)) => match rest.strip_prefix("warning: ") {
            Some(rest) => format!("{program}: {WARNING}warning:{WARNING:#} {rest}\n"),
            None => format!("{HEADING}{program}:{HEADING:#} {rest}\n"),
        },
        None => text + "\n",
    };
    let _ = anstream::AutoStream::auto(std::io::stderr()).write_all(text.as_bytes());
}

const WARNING: Style = AnsiColor::Yellow.on_default().bold();

/// The columns of a terminal; `None` where it is none.
fn columns(of: impl AsFd) -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(of).ok()?;
    (size.ws_col > 0).then_some(usize::from(size.ws_col))
}

/// A word of a command line as one would type it: quoted where a shell would take it apart.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./=:,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut report = Report::default();
        report.line("input", "a/folder/export.csv, 1,000 rows");
        report.count("rows examined", 1000);
        report.count_bad("  failed", 7);
        report.toned(
            Tone::Bad,
            "failed",
            "org-1 encrypted_signing_key_1: row 3: names key kv0, which is in none of the secrets",
        );
        report.line("SHA-256", "0".repeat(64));
        let mut grid = Grid::new(["key", "fingerprint", "fields before", "fields after"]);
        for (key, before) in [("kv1", 1917), ("schlüssel", 3)] {
            let cells = [Cell::Text(key.into()), Cell::Text("f".repeat(16)), Cell::Count(before)];
            grid.row(cells.into_iter().chain([Cell::Count(0)]).collect::<Vec<_>>());
        }
        report.grid(grid);
        report.grid(Grid::new(["nothing"]));
        report.next("prove the written bytes before they cross the gap", Some("rekek verify out.csv".into()));
        report
    }

    fn plain(text: &str) -> String {
        anstream::adapter::strip_str(text).to_string()
    }

    #[test]
    fn without_a_terminal_no_line_is_broken() {
        let expected = "\
input          a/folder/export.csv, 1,000 rows
rows examined  1,000
  failed           7
failed         org-1 encrypted_signing_key_1: row 3: names key kv0, which is in none of the secrets
SHA-256        0000000000000000000000000000000000000000000000000000000000000000

key        fingerprint       fields before  fields after
kv1        ffffffffffffffff          1,917             0
schlüssel  ffffffffffffffff              3             0

next: prove the written bytes before they cross the gap
  rekek verify out.csv
";
        assert_eq!(plain(&report().render(None)), expected);
    }

    #[test]
    fn a_narrow_terminal_breaks_between_words_and_cuts_nothing() {
        let expected = "\
input          a/folder/export.csv, 1,000 rows
rows examined  1,000
  failed           7
failed         org-1 encrypted_signing_key_1: row
               3: names key kv0, which is in none
               of the secrets
SHA-256
    0000000000000000000000000000000000000000000000000000000000000000

key kv1
  fingerprint    ffffffffffffffff
  fields before  1,917
  fields after   0
key schlüssel
  fingerprint    ffffffffffffffff
  fields before  3
  fields after   0

next: prove the written bytes before they cross
the gap
  rekek verify out.csv
";
        assert_eq!(plain(&report().render(Some(50))), expected);
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let all = words(&plain(&report().render(None)));
        for columns in 1..120 {
            let shown = words(&plain(&report().render(Some(columns))));
            assert!(all.iter().all(|word| shown.contains(word)), "{columns} columns");
        }
    }

    #[test]
    fn a_toned_cell_stands_where_a_plain_one_would() {
        for columns in [None, Some(10)] {
            let texts = [Tone::Plain, Tone::Bad].map(|tone| {
                let mut grid = Grid::new(["site", "outcome", "rows"]);
                grid.row([Cell::Text("a".into()), Cell::Toned(tone, "NOT DONE".into()), Cell::Count(7)]);
                let mut report = Report::default();
                report.grid(grid);
                report.render(columns)
            });
            assert_eq!(plain(&texts[0]), plain(&texts[1]));
            assert_ne!(texts[0], texts[1]);
        }
    }

    #[test]
    fn a_value_cannot_command_the_terminal() {
        let mut report = Report::default();
        report.line("input", "a\u{1b}[2Jb\n.csv");
        assert_eq!(plain(&report.render(None)), "input  a\\u{1b}[2Jb\\n.csv\n");
    }

    #[test]
    fn words_that_a_shell_would_take_apart_are_quoted() {
        for (word, expected) in [("a/b-c_1.csv", "a/b-c_1.csv"), ("a b", "'a b'"), ("it's", r"'it'\''s'")] {
            assert_eq!(quoted(word), expected);
        }
    }
}
