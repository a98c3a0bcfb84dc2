//! Every command in the documents is run, in its order, and prints what they say; what they link to
//! and what they quote is there.

#[allow(dead_code)]
#[path = "../site/cluster.rs"]
mod cluster;
#[allow(dead_code)]
#[path = "../cli/support.rs"]
mod folder;
mod markdown;
mod matching;
mod quotes;
mod scenes;
mod world;

use markdown::Document;
use matching::Digits;
use world::World;

/// Programs that a line of a code block may begin with: it is a command then.
const PROGRAMS: [&str; 18] = [
    "rekek",
    "rekek-site",
    "minisign",
    "cargo",
    "scripts/",
    "psql",
    "openssl",
    "python3",
    "vault",
    "bao",
    "cp",
    "cat",
    "sed",
    "sha256sum",
    "sudo",
    "diff",
    "tail",
    "rm",
];

/// Commands in code blocks that are not run, and why.
const NOT_RUN: [(&str, &str, &str); 3] = [
    ("README.md", "scripts/demo", ".ci/run runs it"),
    ("README.md", "scripts/test", "it is what runs this"),
    ("README.md", "cargo install", "it builds all dependencies anew; .ci/run builds each program so"),
];

/// Documents that are not followed, and why.
const NOT_FOLLOWED: [(&str, &str); 6] = [
    ("docs/performance.md", "recorded by scripts/compare, scripts/peak-memory and the benches"),
    ("docs/bench.md", "recorded with a release build; tests/cli/bench.rs has its cases"),
    ("docs/terminal.md", "recorded by scripts/captures in tmux; tests/terminal.rs has its cases"),
    ("docs/import-benchmark.md", "recorded by scripts/bench-import"),
    ("docs/messages.md", "a list; tests/messages.rs holds it against the source"),
    ("docs/record/README.md", "recorded by scripts/screenshots"),
];

/// Runs a document from top to bottom. `scene` sets up the machines for what stands under a
/// heading, from those of the heading before.
fn follow(name: &str, mut digits: Digits, scene: fn(&str, Option<World>) -> Option<World>) {
    let document = Document::read(name);
    let (commands, loose) = document.commands();
    let mut faults = Vec::new();
    let mut excused = Vec::new();
    for (line, text) in &loose {
        let first = text.split_whitespace().next().unwrap_or_default();
        let is_command = PROGRAMS.iter().any(|p| first == *p || (p.ends_with('/') && first.starts_with(p)));
        let excuse = NOT_RUN.iter().find(|(file, start, _)| *file == name && text.starts_with(start));
        match excuse {
            Some(excuse) => excused.push(excuse.1),
            None if is_command => faults.push(format!("{name}:{line}: `{text}` is not run")),
            None => {}
        }
    }
    for (file, start, _) in NOT_RUN {
        if file == name && !excused.contains(&start) {
            faults.push(format!("{name} has no `{start}` any more"));
        }
    }
    let mut heading = "";
    let mut world = None;
    for command in &commands {
        if command.heading != heading {
            heading = &command.heading;
            world = scene(heading, world);
        }
        let world = world.get_or_insert_with(World::empty);
        let (output, status) = world.run(&command.machine, &digits.put_into(&command.script));
        let lines: Vec<_> = output.trim_end_matches('\n').lines().collect();
        let as_said = command.output.is_empty() || digits.output(&command.output, &lines);
        if !as_said || status != command.status {
            let (line, script) = (command.line, &command.script);
            faults.push(format!("{name}:{line}: {script}\n{output}(exit status {status})"));
        }
    }
    assert!(faults.is_empty(), "{} faults\n{}", faults.len(), faults.join("\n\n"));
}

#[test]
fn the_readme_says_what_happens() {
    follow("README.md", Digits::AsTheyStand, scenes::readme);
}

#[test]
fn the_runbook_says_what_happens() {
    follow("docs/runbook.md", Digits::OfThatRun(Default::default()), scenes::runbook);
}

#[test]
fn the_formats_are_what_they_are_said_to_be() {
    follow("docs/formats.md", Digits::AsTheyStand, |_, world| {
        world.or_else(|| Some(World::sample("", "fixtures/sample").with_vectors()))
    });
}

#[test]
fn the_fleet_does_what_is_recorded() {
    follow("docs/fleet.md", Digits::AsTheyStand, scenes::fleet);
}

#[test]
fn the_demo_does_what_is_recorded() {
    follow("docs/demo-sqlite.md", Digits::OfThatRun(Default::default()), scenes::demo);
}

#[test]
fn the_demo_on_postgresql_does_what_is_recorded() {
    follow("docs/demo-postgres.md", Digits::OfThatRun(Default::default()), scenes::demo);
}

#[test]
fn no_document_is_forgotten() {
    let mut documents = quotes::documents();
    let source = include_str!("main.rs");
    documents.retain(|name| !source.contains(&format!("follow(\"{name}\"")));
    documents.retain(|name| !NOT_FOLLOWED.iter().any(|(other, _)| other == name));
    for name in documents {
        // What has no command: were one added, it would have to be run.
        follow(&name, Digits::AsTheyStand, |_, _| panic!("this document has commands: give it a test"));
    }
}
