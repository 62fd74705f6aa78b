//! `cargo xtask bench --peers`: `selfrag bench` and, beside it on the same machine, PyTorch, transformers and llama.cpp.
//!
//! The peers are the scripts in `tests/peers/`; each prints a JSON object a result. A peer that is not installed, or fails, says so in
//! the table and is no failure. Nothing is installed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use crate::{
    json::{Json, quote},
    models,
    run::{Failure, Result, at, command, root, run},
    tools,
};

/// Scripts, in the order of the table, and whom they measure.
const SCRIPTS: [(&str, &str); 5] = [
    ("torch_llama", "PyTorch compiled"),
    ("transformers_llama", "transformers"),
    ("llama_cpp", "llama.cpp"),
    ("encoder", "transformers"),
    ("search", "PyTorch"),
];
/// How long a script may take: on a GPU they need one or two minutes.
const PATIENCE: Duration = Duration::from_secs(900);
const OUR_WORKLOADS: &str = "decode,decode-10,decode-2048,prefill,short-form";
/// Those that do not depend on the generator's weights, run once.
const OUR_RETRIEVAL: &str = "search-int8,search-f16,encode-128,encode-512";
/// Columns and what they count; `selfrag bench` and the scripts use these names.
const COLUMNS: [(&str, Unit); 8] = [
    ("decode", Unit::Tokens),
    ("decode-10", Unit::Tokens),
    ("decode-2048", Unit::Tokens),
    ("prefill", Unit::Tokens),
    ("short-form", Unit::Seconds),
    ("encode-128", Unit::Passages),
    ("encode-512", Unit::Passages),
    ("search", Unit::Millis),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Tokens,
    Passages,
    Seconds,
    Millis,
}

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// The Python that has the peers.
    python: String,
    /// Weight formats of selfrag and llama.cpp.
    types: String,
    /// Tries the code with tiny models, the peers on the CPU.
    tiny: bool,
    /// Makes the table from an earlier run's files.
    from: Option<PathBuf>,
}

impl Options {
    pub(crate) fn parse(args: &[&str]) -> Result<Self> {
        let mut options = Self { python: "python3".into(), types: "q4_0,q4_k,f16".into(), tiny: false, from: None };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut value = || {
                args.next()
                    .map(|value| (*value).to_owned())
                    .ok_or_else(|| Failure::new(format!("{arg} needs a value"), ""))
            };
            match *arg {
                "--python" => options.python = value()?,
                "--types" => options.types = value()?,
                "--from" => options.from = Some(value()?.into()),
                "--tiny" => options.tiny = true,
                other => return Err(Failure::new(format!("unknown option {other}"), "see cargo xtask help")),
            }
        }
        Ok(options)
    }
}

/// One measurement, or why there is none.
#[derive(Debug, Clone, PartialEq)]
struct Outcome {
    peer: String,
    weights: String,
    workload: String,
    /// Tokens, passages or seconds, as the workload's unit says.
    value: f64,
    detail: String,
    missing: Option<String>,
}

/// Runs everything, prints the table and keeps it with all numbers in `target/bench`.
pub(crate) fn bench(options: &Options) -> Result<()> {
    let folder = root().join("target/bench");
    at(&folder, std::fs::create_dir_all(&folder))?;
    let source = options.from.clone().unwrap_or_else(|| folder.clone());
    let (ours, peers) = (source.join("selfrag.json"), source.join("peers.jsonl"));
    let retrieval = source.join("selfrag-retrieval.json");
    if options.from.is_none() {
        run_selfrag(options, &ours)?;
        run_retrieval(options, &retrieval)?;
        run_peers(options, &peers)?;
    }
    let ours = at(&ours, std::fs::read_to_string(&ours))?;
    let peers = at(&peers, std::fs::read_to_string(&peers))?;
    let no_report =
        || Failure::new("selfrag bench wrote no report that can be read", "run it by hand: selfrag bench --help");
    let reports = Json::parse(&ours).ok_or_else(no_report)?;
    // An earlier run may have none.
    let retrieval = std::fs::read_to_string(&retrieval).unwrap_or_else(|_| "[]".into());
    let retrieval_reports = Json::parse(&retrieval).ok_or_else(no_report)?;
    let ours_first = our_outcomes(&reports).into_iter().chain(our_outcomes(&retrieval_reports));
    let outcomes: Vec<Outcome> = ours_first.chain(peers.lines().filter_map(outcome)).collect();
    let device = reports.list().first().and_then(|report| report.get("device"));
    let title =
        device.and_then(|device| device.text("name")).filter(|name| !name.is_empty()).unwrap_or("An unnamed device");
    let markdown = format!("## {title}\n\n{}", table(&outcomes));
    let lines: Vec<&str> = peers.lines().filter(|line| Json::parse(line).is_some()).collect();
    let json = format!(
        "{{\"selfrag\": {},\n\"retrieval\": {},\n\"peers\": [\n{}\n]}}\n",
        ours.trim(),
        retrieval.trim(),
        lines.join(",\n")
    );
    for (name, text) in [("peers.md", &markdown), ("peers.json", &json)] {
        let path = folder.join(name);
        at(&path, std::fs::write(&path, text))?;
    }
    println!("\n{markdown}\nkept as {0}/peers.md and {0}/peers.json", folder.display());
    Ok(())
}

fn run_selfrag(options: &Options, json: &Path) -> Result<()> {
    models::build_command()?;
    let json = json.to_string_lossy();
    let mut args = vec!["bench", "--type", &options.types, "--workloads", OUR_WORKLOADS, "--json", &json];
    if options.tiny {
        args = vec!["bench", "--type", "q4_0", "--workloads", "decode", "--steps", "4", "--json", &json];
        args.extend(["--geometry", "smollm2-135m", "--layers", "1"]);
    }
    measure(&args)
}

fn run_retrieval(options: &Options, json: &Path) -> Result<()> {
    let json = json.to_string_lossy();
    let mut args = vec!["bench", "--type", "f16", "--workloads", OUR_RETRIEVAL, "--json", &json];
    if options.tiny {
        args.extend(["--geometry", "tiny"]);
    }
    measure(&args)
}

fn measure(args: &[&str]) -> Result<()> {
    let mut selfrag = command(&models::selfrag(), args);
    run(
        selfrag.envs(tools::vulkan_environment()),
        "look at its message above; cargo xtask setup installs a Vulkan driver",
    )
}

/// Runs the scripts one after the other; their lines end in `file`.
fn run_peers(options: &Options, file: &Path) -> Result<()> {
    let mut lines = String::new();
    for (script, peer) in SCRIPTS {
        let path = root().join(format!("tests/peers/{script}.py")).to_string_lossy().into_owned();
        let mut args = vec![path.as_str()];
        if script == "llama_cpp" {
            args.extend(["--types", &options.types]);
        }
        if options.tiny {
            args.extend(["--geometry", "tiny", "--device", "cpu", "--steps", "4"]);
        }
        if options.tiny && script == "search" {
            args.extend(["--rows", "20000"]);
        }
        println!("\n{peer}: tests/peers/{script}.py");
        let (printed, trouble) = lines_of(&mut command(&options.python, &args), PATIENCE);
        lines += &printed;
        if let Some(trouble) = trouble {
            println!("{trouble}");
            let _ = writeln!(lines, "{{\"peer\": {}, \"missing\": {}}}", quote(peer), quote(&trouble));
        }
        at(file, std::fs::write(file, &lines))?;
    }
    Ok(())
}

/// What a program printed, shown as it came, and what went wrong; it is ended when it takes longer than `patience`.
fn lines_of(program: &mut Command, patience: Duration) -> (String, Option<String>) {
    let name = program.get_program().to_string_lossy().into_owned();
    let mut child = match program.stdout(Stdio::piped()).spawn() {
        Ok(child) => child,
        Err(e) => return (String::new(), Some(format!("{name} could not be started: {e}"))),
    };
    let stdout = child.stdout.take().expect("it was piped");
    let lines = Arc::new(Mutex::new(String::new()));
    let read = Arc::clone(&lines);
    let reader = std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(std::io::Result::ok) {
            println!("{line}");
            *read.lock().expect("nobody panics with it") += &(line + "\n");
        }
    });
    let start = Instant::now();
    let trouble = loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => break None,
            Ok(Some(status)) => break Some(format!("failed ({status})")),
            Ok(None) if start.elapsed() < patience => std::thread::sleep(Duration::from_millis(100)),
            Ok(None) => {
                let _ = child.kill();
                let _ = child.wait();
                break Some(format!("ended after {} s", patience.as_secs()));
            }
            Err(e) => break Some(format!("could not be waited for: {e}")),
        }
    };
    // What it printed last may still be on its way; helpers that it left behind may hold the pipe open for longer.
    let end = Instant::now();
    while !reader.is_finished() && end.elapsed() < Duration::from_secs(2) {
        std::thread::sleep(Duration::from_millis(20));
    }
    let lines = std::mem::take(&mut *lines.lock().expect("nobody panics with it"));
    (lines, trouble)
}

/// A script's line; others are no results.
fn outcome(line: &str) -> Option<Outcome> {
    let json = Json::parse(line)?;
    let text = |key| json.text(key).unwrap_or_default().to_owned();
    let peer = json.text("peer")?.to_owned();
    if let Some(why) = json.text("missing") {
        let missing = Some(why.to_owned());
        return Some(Outcome {
            peer,
            weights: String::new(),
            workload: String::new(),
            value: 0.0,
            detail: String::new(),
            missing,
        });
    }
    let value = value(&json, json.text("workload")?, "seconds")?;
    Some(Outcome {
        peer,
        weights: text("weights"),
        workload: text("workload"),
        value,
        detail: text("detail"),
        missing: None,
    })
}

/// The number that the workload's column shows.
fn value(row: &Json, workload: &str, seconds: &str) -> Option<f64> {
    let (_, unit) = COLUMNS.iter().find(|(name, _)| *name == workload)?;
    match unit {
        Unit::Tokens => row.number("tokens_per_sec"),
        Unit::Passages => row.number("passages_per_sec"),
        Unit::Seconds => row.number(seconds),
        Unit::Millis => row.number(seconds).map(|seconds| seconds * 1e3),
    }
}

/// The rows of what `selfrag bench --json` wrote, one report a format.
fn our_outcomes(reports: &Json) -> Vec<Outcome> {
    let rows = reports.list().iter().flat_map(|report| {
        let weights = report.text("model").unwrap_or_default().rsplit(' ').next().unwrap_or_default();
        report.get("rows").map_or(&[][..], Json::list).iter().map(move |row| (weights, row))
    });
    let outcome = |weights: &str, workload: &str, value: f64| Outcome {
        peer: "selfrag".into(),
        weights: weights.into(),
        workload: workload.into(),
        value,
        detail: String::new(),
        missing: None,
    };
    let rows = rows.filter_map(|(weights, row)| {
        let workload = row.text("workload")?;
        Some(outcome(weights, workload, value(row, workload, "secs")?))
    });
    let all_of = |key| reports.list().iter().flat_map(move |report| report.get(key).map_or(&[][..], Json::list).iter());
    let encodes = all_of("encodes").filter_map(|row| {
        let (workload, model) = (row.text("workload")?, row.text("model")?);
        Some(outcome(model.rsplit(' ').next()?, workload, value(row, workload, "secs")?))
    });
    // The table is for one question; a search of fewer rows is scaled, as the peer's is.
    let searches = all_of("searches").filter(|row| row.number("questions") == Some(1.0)).filter_map(|row| {
        let scale = row.number("wanted_rows")? / row.number("rows")?;
        let weights = row.text("workload")?.strip_prefix("search-")?;
        Some(outcome(weights, "search", value(row, "search", "secs")? * scale))
    });
    rows.chain(encodes).chain(searches).collect()
}

/// A row for each peer and format, a column for each workload that anyone has, and how each number was made.
fn table(outcomes: &[Outcome]) -> String {
    let columns: Vec<_> =
        COLUMNS.iter().filter(|(name, _)| outcomes.iter().any(|outcome| outcome.workload == *name)).collect();
    let mut rows: Vec<(String, BTreeMap<&str, f64>)> = Vec::new();
    let mut notes: Vec<(&str, &str, Vec<&str>)> = Vec::new();
    let mut absent: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for Outcome { peer, weights, workload, value, detail, missing } in outcomes {
        if let Some(why) = missing {
            absent.entry(peer.as_str()).or_default().insert(why.as_str());
            continue;
        }
        let name = format!("{peer} | {weights}");
        let row = rows.iter().position(|(known, _)| *known == name).unwrap_or_else(|| {
            rows.push((name, BTreeMap::new()));
            rows.len() - 1
        });
        rows[row].1.insert(workload, *value);
        match notes.iter_mut().find(|(who, what, _)| who == peer && what == detail) {
            Some((.., workloads)) if workloads.contains(&workload.as_str()) => {}
            Some((.., workloads)) => workloads.push(workload),
            None => notes.push((peer, detail, vec![workload])),
        }
    }
    let mut out = String::from("| engine | weights |");
    for (name, unit) in &columns {
        let unit = match unit {
            Unit::Tokens => "tok/s",
            Unit::Passages => "passages/s",
            Unit::Seconds => "s",
            Unit::Millis => "ms",
        };
        let _ = write!(out, " {name} ({unit}) |");
    }
    let _ = writeln!(out, "\n| --- | --- |{}", " --- |".repeat(columns.len()));
    for (name, values) in &rows {
        let cells =
            columns.iter().map(|(column, _)| values.get(column).map_or_else(String::new, |value| short(*value)));
        let _ = writeln!(out, "| {name} | {} |", cells.collect::<Vec<_>>().join(" | "));
    }
    for peer in absent.keys().filter(|peer| !rows.iter().any(|(name, _)| name.starts_with(&format!("{peer} |")))) {
        let _ = writeln!(out, "| {peer} | | not run{} |", " |".repeat(columns.len().saturating_sub(1)));
    }
    out.push('\n');
    for (peer, detail, workloads) in notes.iter().filter(|(_, detail, _)| !detail.is_empty()) {
        let _ = writeln!(out, "- {peer}, {}: {detail}", workloads.join(", "));
    }
    for (peer, reasons) in &absent {
        let _ = writeln!(out, "- {peer}, not run: {}", reasons.iter().copied().collect::<Vec<_>>().join("; "));
    }
    out
}

/// Three digits or more, thousands apart.
fn short(value: f64) -> String {
    if value < 100.0 {
        return format!("{value:.*}", if value < 10.0 { 2 } else { 1 });
    }
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_and_wrong_ones_refused() {
        let options = Options::parse(&["--python", "/opt/python", "--types", "f16", "--tiny"]).unwrap();
        assert_eq!(options, Options { python: "/opt/python".into(), types: "f16".into(), tiny: true, from: None });
        for wrong in [&["--python"][..], &["--pithon", "x"], &["f16"]] {
            assert!(Options::parse(wrong).is_err(), "{wrong:?} was accepted");
        }
    }

    #[test]
    fn the_table_has_every_engine_and_who_is_missing() {
        let ours = r#"[{"model": "llama2-7b q4_0", "rows": [
            {"workload": "decode", "secs": 0.5, "tokens_per_sec": 178.2}, {"workload": "short-form", "secs": 4.2, "tokens_per_sec": 238}
        ]}, {"model": "llama2-7b f16", "rows": [], "encodes": [
            {"workload": "encode-128", "model": "bert-base in random f16", "secs": 1, "passages_per_sec": 9000}
        ], "searches": [
            {"workload": "search-int8", "questions": 1, "rows": 10, "wanted_rows": 20, "secs": 0.003},
            {"workload": "search-int8", "questions": 8, "rows": 10, "wanted_rows": 20, "secs": 0.004}
        ]}]"#;
        let theirs = [
            r#"{"peer": "transformers", "weights": "f16", "workload": "decode", "tokens_per_sec": 31.04, "seconds": 3.2, "detail": "eager"}"#,
            r#"{"peer": "transformers", "weights": "f16", "workload": "encode-128", "passages_per_sec": 12345.6, "seconds": 1, "detail": "BERT"}"#,
            r#"{"peer": "PyTorch", "weights": "int8", "workload": "search", "seconds": 0.0061, "detail": "2,600 GB/s"}"#,
            r#"{"peer": "llama.cpp", "missing": "No module named 'cyllama'"}"#,
            "a warning that is no JSON",
        ];
        let mut outcomes = our_outcomes(&Json::parse(ours).unwrap());
        outcomes.extend(theirs.iter().filter_map(|line| outcome(line)));
        let expected = "\
| engine | weights | decode (tok/s) | short-form (s) | encode-128 (passages/s) | search (ms) |
| --- | --- | --- | --- | --- | --- |
| selfrag | q4_0 | 178 | 4.20 |  |  |
| selfrag | f16 |  |  | 9,000 |  |
| selfrag | int8 |  |  |  | 6.00 |
| transformers | f16 | 31.0 |  | 12,346 |  |
| PyTorch | int8 |  |  |  | 6.10 |
| llama.cpp | | not run | | | |

- transformers, decode: eager
- transformers, encode-128: BERT
- PyTorch, search: 2,600 GB/s
- llama.cpp, not run: No module named 'cyllama'
";
        assert_eq!(table(&outcomes), expected);
    }

    #[test]
    fn a_program_that_fails_or_hangs_is_told() {
        let shell = |line: &str| {
            let mut shell = Command::new("sh");
            shell.args(["-c", line]);
            lines_of(&mut shell, Duration::from_millis(500))
        };
        assert_eq!(shell("echo 1; echo 2"), ("1\n2\n".into(), None));
        let (lines, trouble) = shell("echo 1; exit 3");
        assert_eq!(lines, "1\n");
        assert!(trouble.unwrap().contains('3'));
        let (lines, trouble) = shell("echo 1; sleep 4; true");
        assert_eq!((lines.as_str(), trouble.as_deref()), ("1\n", Some("ended after 0 s")));
        let (_, trouble) = lines_of(&mut Command::new("/no/such/python"), PATIENCE);
        assert!(trouble.unwrap().contains("could not be started"));
    }
}
