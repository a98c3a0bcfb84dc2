//! Every command of `rekek` is in each list of these tests, so that a new one cannot be forgotten.

use crate::folder::Site;
use crate::{memory, silence, sockets};
use std::collections::BTreeSet;

/// The commands, as `rekek help` lists them; `help` itself is clap's.
fn all() -> BTreeSet<String> {
    let help = Site::empty().rekek("help").good();
    let list =
        help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    // (A description's second line stands further in.)
    let names = list.filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    let names: BTreeSet<_> = names.filter(|name| !["", "help"].contains(name)).map(str::to_owned).collect();
    assert!(names.len() >= 10 && names.contains("rewrap"), "{names:?} of {help}");
    names
}

/// Fails unless every command begins a line of the list, or else is excepted for a reason.
#[track_caller]
fn none_is_missing(lines: &[&str], excepted: &[(&str, &str)]) {
    let mut covered: Vec<_> = lines.iter().filter_map(|line| line.split(' ').next()).collect();
    for (command, reason) in excepted {
        assert!(!covered.contains(command), "{command} is there, and excepted ({reason})");
        covered.push(command);
    }
    let missing: Vec<_> = all().into_iter().filter(|name| !covered.contains(&name.as_str())).collect();
    assert_eq!(missing, [""; 0], "add it to the list, or except it here and say why");
}

/// A plan of a fleet of one site, with the sample's secrets.
pub fn plan(input: &str, output: &str) -> String {
    format!(
        "[[site]]\nname = 'one'\ninput = '{input}'\noutput = '{output}'\nsecrets = 'secrets.json'\nto = 'kv2'\n"
    )
}

#[test]
fn every_command_is_looked_into_traced_and_listened_to() {
    let no_secret = "no secret ever comes into it";
    none_is_missing(
        memory::LINES,
        &[("inspect", no_secret), ("report", no_secret), ("completions", no_secret), ("man", no_secret)],
    );
    none_is_missing(sockets::LINES, &[]);
    none_is_missing(&[silence::OVER_A_TABLE, silence::OF_THEIR_OWN].concat(), &[]);
}
