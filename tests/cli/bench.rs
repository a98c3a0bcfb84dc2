//! `rekek bench`: what it says of a machine hangs together, and it leaves nothing. How fast the machine
//! is no test says.

use crate::support::Site;
use rekek::envelope::Tier;
use serde_json::Value;
use std::process::Stdio;
use std::time::Duration;

const FEW: &str = "bench --rows 300 --rounds 2 --threads 1,2";

/// The tier is forced by a variable, for a comparison or where a processor is not to be trusted.
#[test]
fn the_tier_can_be_forced() {
    let site = Site::empty();
    let run = |tier: &str| {
        let mut command = site.command("bench --rows 50 --rounds 1 --threads 1 --json");
        crate::support::ran(command.env("REKEK_TIER", tier).output().unwrap())
    };
    for tier in Tier::ALL {
        // One that the processor lacks gives the best below it.
        let best = Tier::ALL.into_iter().rfind(|best| *best <= tier && best.is_available()).unwrap();
        assert_eq!(run(tier.name()).json()["machine"]["tier"], best.name(), "{tier:?}");
    }
    for wrong in ["SAFE", "", "sse9"] {
        let expected = "rekek: REKEK_TIER, where it is set, is one of safe, sse2, ssse3, avx512; unset it, and the fastest is taken\n";
        assert_eq!((run(wrong).status, run(wrong).stderr.as_str()), (2, expected), "{wrong}");
    }
}

#[test]
fn the_table_has_a_line_a_thread_count_and_one_a_stage() {
    let site = Site::empty();
    let said = site.rekek(&format!("{FEW} --fleet-orgs 5000")).good();
    for label in ["machine ", "envelopes ", "rows ", "fields ", "rounds ", "fleet "] {
        assert!(said.lines().any(|line| line.starts_with(label)), "{label}: {said}");
    }
    assert!(said.contains("5,000 organizations, estimated: no disk is counted"), "{said}");
    let grids: Vec<Vec<_>> = said.split("\n\n").skip(1).map(|grid| grid.lines().collect()).collect();
    let [runs, stages] = &grids[..] else { panic!("{said}") };
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(
        words(runs[0]),
        ["threads", "rows/s", "slowest", "fastest", "fields/s", "speedup", "fleet"],
        "{said}"
    );
    assert_eq!(runs[1..].iter().map(|line| words(line)[0].clone()).collect::<Vec<_>>(), ["1", "2"]);
    let names = stages[1..].iter().map(|line| line.split("  ").next().unwrap()).collect::<Vec<_>>();
    let expected = [
        "read",
        "open",
        "key check",
        "seal",
        "proof",
        "source digests",
        "columns",
        "file digests",
        "write",
        "sum",
    ];
    assert_eq!(names, expected);
    assert!(stages.last().unwrap().ends_with("100.0 %"), "{said}");
    assert!(said.lines().all(|line| line.starts_with("machine ") || line.len() <= 80), "{said}");
    assert_eq!(site.names(), [""; 0], "nothing is left");
}

#[test]
fn the_numbers_of_the_document_hang_together() {
    let site = Site::empty();
    for format in ["csv", "parquet", "arrow", "arrows"] {
        let line = "bench --rows 300 --rounds 3 --threads 3,1 --fleet-orgs 6000 --json";
        let said = site.rekek(&format!("{line} --format {format}")).good();
        let report: Value = serde_json::from_str(&said).unwrap();
        let number = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("{value}: {said}"));
        let close = |a: f64, b: f64| assert!((a - b).abs() <= b.abs() * 1e-6, "{a} {b}: {said}");
        assert_eq!((&report["command"], &report["format"]), (&"bench".into(), &format.into()));
        assert_eq!(
            (&report["rows"], &report["rounds"], &report["fleet_orgs"]),
            (&300.into(), &3.into(), &6000.into())
        );
        assert!(report["machine"]["cores"].as_u64().unwrap() > 0 && report["machine"]["tier"].is_string());
        assert!(report["input_bytes"].as_u64().unwrap() > 300 * 500, "{said}");
        assert!(
            report["output_bytes"].as_u64() > report["input_bytes"].as_u64(),
            "three digests a row more: {said}"
        );
        let fields = number(&report["fields"]);
        let runs = report["runs"].as_array().unwrap();
        assert_eq!(runs.iter().map(|run| &run["threads"]).collect::<Vec<_>>(), [1, 3]);
        for run in runs {
            for spread in
                ["seconds", "rows_per_second", "fields_per_second", "fleet_seconds"].map(|name| &run[name])
            {
                let [min, median, max] = ["min", "median", "max"].map(|name| number(&spread[name]));
                assert!(0.0 < min && min <= median && median <= max, "{said}");
            }
            let median = |name: &str| number(&run[name]["median"]);
            close(median("rows_per_second") * median("seconds"), 300.0);
            close(median("fields_per_second") * median("seconds"), fields);
            close(median("fleet_seconds"), median("seconds") * 20.0);
            close(number(&run["speedup"]), number(&runs[0]["seconds"]["median"]) / median("seconds"));
        }
        let stages = report["stages"].as_array().unwrap();
        assert_eq!(stages.len(), 9);
        close(stages.iter().map(|stage| number(&stage["share_percent"])).sum(), 100.0);
        assert!(stages.iter().all(|stage| number(&stage["nanoseconds_per_row"]) >= 0.0));
        for held in ["eyJz", "BEGIN", "made-up-", "key_id", "org-0"] {
            assert!(!said.contains(held), "{held}: {said}");
        }
    }
    assert_eq!(site.names(), [""; 0]);
}

#[test]
fn the_chart_is_whole_in_itself_and_replaces_nothing_untold() {
    let site = Site::empty();
    let said = site.rekek(&format!("{FEW} --plot bench.svg")).good();
    assert!(said.contains("\nchart      bench.svg\n"), "{said}");
    let svg = site.read("bench.svg");
    well_formed(&svg);
    let inside = svg.replacen("xmlns=\"http://www.w3.org/2000/svg\"", "", 1);
    for outside in
        ["<script", "http:", "https:", "href", "url(", "@import", "javascript:", "onload", "<image"]
    {
        assert!(!inside.contains(outside), "{outside}");
    }
    for shown in
        ["rows a second", "threads; and, estimated,", "key check", "ns a row", "prefers-color-scheme: dark"]
    {
        assert!(svg.contains(shown), "{shown}: {svg}");
    }
    let again = site.rekek(&format!("{FEW} --plot bench.svg"));
    let told = "rekek: bench.svg exists already; choose another name, or --force to replace it\n";
    assert_eq!((again.status, again.stdout.as_str(), again.stderr.as_str()), (1, "", told));
    assert_eq!(site.read("bench.svg"), svg);
    site.rekek(&format!("{FEW} --plot bench.svg --force --json")).good();
    assert_ne!(site.read("bench.svg"), svg);
    assert_eq!(site.names(), ["bench.svg"]);
}

/// Every element is closed in its place, and no text has a bare `&` or `<`.
#[track_caller]
fn well_formed(svg: &str) {
    let mut open = Vec::new();
    let mut rest = svg;
    while let Some(at) = rest.find('<') {
        for reference in rest[..at].split('&').skip(1) {
            let name = reference.split_once(';').unwrap_or_else(|| panic!("a bare & before {reference}")).0;
            assert!(name.starts_with('#'), "{name}");
        }
        let tag = &rest[at + 1..at + rest[at..].find('>').expect("a tag ends")];
        assert!(!tag.contains('<'), "{tag}");
        rest = &rest[at + tag.len() + 2..];
        let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap();
        match tag.starts_with('/') {
            true => assert_eq!(open.pop(), Some(name)),
            false if !tag.ends_with('/') => open.push(name),
            false => {}
        }
    }
    assert!(open.is_empty() && rest.trim().is_empty(), "{open:?} {rest}");
}

#[test]
fn what_makes_no_sense_is_a_usage_error() {
    let site = Site::empty();
    let bad = |list: &str, what: &str| {
        format!(
            "error: invalid value '{list}' for '--threads <LIST>': {what}\n\nFor more information, try '--help'.\n"
        )
    };
    let counts = "thread counts are numbers from 1 to 1024, such as 1,2,4";
    for (line, told) in [
        ("--threads 0", bad("0", counts)),
        ("--threads 1,,2", bad("1,,2", counts)),
        ("--threads two", bad("two", counts)),
        ("--threads 2,2", bad("2,2", "a thread count stands there twice")),
        ("--plot -", "rekek: the chart cannot go to standard output; name a file\n".to_owned()),
    ] {
        let run = site.rekek(&format!("bench {line}"));
        assert_eq!((run.status, run.stdout.as_str(), run.stderr.as_str()), (2, "", told.as_str()), "{line}");
    }
    for (line, told) in [
        ("--rows 0", "0 is not in 1..=100000000"),
        ("--rows 1000000000000", "1000000000000 is not in 1..=100000000"),
        ("--rounds 0", "0 is not in 1..=1000"),
        ("--format xml", "invalid value 'xml' for '--format <FORMAT>'"),
        ("--force", "--plot <FILE>"),
    ] {
        let run = site.rekek(&format!("bench {line}"));
        assert_eq!((run.status, run.stdout.as_str()), (2, ""), "{line}");
        assert!(run.stderr.contains(told), "{line}: {}", run.stderr);
    }
    assert_eq!(site.names(), [""; 0]);
}

#[test]
fn a_signal_ends_it_wherever_it_is_and_nothing_is_left() {
    for (name, rows, wait) in [("INT", 100_000, 300), ("TERM", 2_000, 1500)] {
        let site = Site::empty();
        // The one is still making its rows, the other measures for hours.
        let line = format!("bench --rows {rows} --rounds 1000 --plot bench.svg");
        let child = site.command(&line).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(wait));
        let killed = std::process::Command::new("kill").args(["-s", name, &child.id().to_string()]).status();
        assert!(killed.unwrap().success());
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        let message = "rekek: interrupted; nothing was left behind\n";
        assert_eq!(
            (output.status.code(), &*output.stdout, said.as_str()),
            (Some(130), &b""[..], message),
            "{name}"
        );
        assert_eq!(site.names(), [""; 0]);
    }
}
