//! The promise: `selfrag data critic-labels` gets a label for every question or says why not, asks nothing twice, keeps every answer,
//! and makes the critic's training file of what it got.

#[path = "common/scratch.rs"]
mod scratch;
#[path = "common/server.rs"]
mod server;

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    process::{Command, Output},
    sync::{Arc, Mutex},
};

use scratch::Scratch;
use selfrag::data::{
    labels::combine::{self, Settings},
    notes::Notes,
    report::report,
    rows::{TrainingFile, TrainingRow},
};
use serde_json::{Value, json};
use server::{Reply, Seen, serve};

/// What is asked about: the last message.
fn asked(body: &Value) -> &str {
    body["messages"].as_array().unwrap().last().unwrap()["content"].as_str().unwrap()
}

fn said(content: &str) -> Reply {
    Reply::json(&json!({
        "choices": [{"message": {"role": "assistant", "content": content}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 7},
    }))
}

/// A model that answers `SAY:a|b` with a, and when it is asked again with b, and so on with the last.
fn obedient(trouble: fn(usize) -> Option<Reply>) -> (String, Arc<Seen>) {
    let times = Mutex::new(HashMap::<String, usize>::new());
    serve(move |number, path, body| {
        assert_eq!(path, "/v1/chat/completions");
        std::thread::sleep(std::time::Duration::from_millis(10));
        if let Some(reply) = trouble(number) {
            return reply;
        }
        let line = asked(body).split_once("SAY:").expect("an instruction").1.lines().next().unwrap().to_owned();
        let mut times = times.lock().unwrap();
        let time = times.entry(line.clone()).or_default();
        let answers: Vec<&str> = line.split('|').collect();
        *time += 1;
        said(answers[(*time - 1).min(answers.len() - 1)])
    })
}

fn row(id: &str, says: &str) -> Value {
    json!({"q_id": id, "instruction": format!("{id} SAY:{says}"), "output": "x"})
}

fn ask(server: &str, input: &str, output: &str, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_selfrag"));
    command.args(["data", "critic-labels", "ask", input, "--server", server, "--model", "m", "--output", output]);
    command.args(["--concurrency", "2"]).args(more).output().unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The labels in a file, by the rows' ids.
fn labels(path: &str) -> BTreeMap<String, Option<String>> {
    let text = fs::read_to_string(path).unwrap();
    let mut found = BTreeMap::new();
    for line in text.lines().skip(1) {
        let record: Value = serde_json::from_str(line).unwrap();
        let label = record["label"].as_str().map(str::to_owned);
        found.insert(record["item"]["q_id"].as_str().unwrap().to_owned(), label);
    }
    found
}

#[test]
fn every_question_gets_a_label_or_a_reason() {
    let scratch = Scratch::new("data-labels-trouble");
    let (address, seen) = obedient(|number| match number {
        0 => Some(Reply::Answer("429 Too Many Requests", "retry-after: 0\r\n", "{}".into())),
        1 => Some(Reply::Answer("500 Internal Server Error", "", "{}".into())),
        2 => Some(Reply::HangUp),
        3 => Some(Reply::Answer("200 OK", "", "<html>".into())),
        _ => None,
    });
    let rows = [
        row("a", "[Yes]"),
        row("b", "[No]"),
        row("c", "Well, yes|I mean yes|[Yes]"),
        row("d", "\u{202e}[Utility:5]|"),
        row("e", "**[No]**"),
    ];
    let (input, output) = (scratch.write("rows.jsonl", &rows), scratch.path("labels.jsonl"));
    let run = ask(&address, &input, &output, &["--job", "retrieval", "--yes"]);
    assert!(run.status.success(), "{}", err(&run));
    let expected = [
        ("a", Some("[Retrieval]")),
        ("b", Some("[No Retrieval]")),
        ("c", Some("[Retrieval]")),
        ("d", None),
        ("e", Some("[No Retrieval]")),
    ];
    let found = labels(&output);
    assert_eq!(found.iter().map(|(id, label)| (id.as_str(), label.as_deref())).collect::<Vec<_>>(), expected);
    // Four that failed, 5 questions, two more of c, two more of d.
    assert_eq!(seen.count(), 4 + 5 + 2 + 2);
    let text = err(&run);
    for part in [
        "4 of 5 questions have a label, 1 are set aside",
        "9 answers, 5 of them malformed; 900 tokens in, 63 out",
        "labels.jsonl.aside",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    let aside = fs::read_to_string(format!("{output}.aside")).unwrap();
    let aside: Vec<Value> = aside.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((aside.len(), &aside[0]["item"]["q_id"], &aside[0]["place"]), (1, &json!("d"), &json!("line 4")));
    let problems = aside[0]["problems"].as_array().unwrap();
    assert!(problems[0].as_str().unwrap().contains("[Utility:5]") && problems[1] == "empty" && problems.len() == 3);
    assert_eq!(aside[0]["responses"][0]["usage"]["prompt_tokens"], 100, "the whole answer is kept");
    let body = seen.bodies.lock().unwrap()[4].clone();
    assert_eq!((&body["model"], &body["temperature"], &body["max_tokens"]), (&json!("m"), &json!(1.0), &json!(200)));
    let at_once = seen.most_at_once.load(std::sync::atomic::Ordering::SeqCst);
    assert!(at_once <= 2, "{at_once} at once, 2 allowed");
    // Set aside stays set aside, unless more tries are allowed.
    assert!(ask(&address, &input, &output, &["--job", "retrieval", "--yes"]).status.success());
    assert_eq!(seen.count(), 13);
    assert!(ask(&address, &input, &output, &["--job", "retrieval", "--yes", "--reasks", "3"]).status.success());
    assert_eq!(seen.count(), 14);
}

#[test]
fn a_run_that_was_stopped_asks_what_is_missing() {
    let scratch = Scratch::new("data-labels-resume");
    let (input, output) = (
        scratch.write("rows.jsonl", &(0..8).map(|at| row(&format!("r{at}"), "[Yes]")).collect::<Vec<_>>()),
        scratch.path("labels.jsonl"),
    );
    let options = ["--job", "retrieval", "--yes", "--retries", "0"];
    // The key is taken away after three answers.
    let (address, _) = obedient(|number| match number {
        0..3 => None,
        _ => Some(Reply::Answer("401 Unauthorized", "", "who are you".into())),
    });
    let run = ask(&address, &input, &output, &options);
    assert_eq!(run.status.code(), Some(1));
    assert!(err(&run).contains("401") && err(&run).contains("who are you"), "{}", err(&run));
    let answered = labels(&output);
    assert_eq!(answered.len(), 3);
    // Killed while it wrote a line.
    let mut text = fs::read_to_string(&output).unwrap();
    let whole = text.len();
    let torn = text.lines().last().unwrap()[..40].to_owned();
    text += &torn;
    fs::write(&output, &text).unwrap();
    let (address, second) = obedient(|_| None);
    let run = ask(&address, &input, &output, &options);
    assert!(run.status.success(), "{}", err(&run));
    assert!(err(&run).starts_with("5 questions (retrieval 5)"), "{}", err(&run));
    assert_eq!((second.count(), labels(&output).len()), (5, 8));
    for body in second.bodies.lock().unwrap().iter() {
        let id = &asked(body).split_once('\n').unwrap().1[..2];
        assert!(!answered.contains_key(id), "{id} was answered before");
    }
    assert_eq!(fs::read_to_string(&output).unwrap()[..whole], text[..whole], "it is only appended to");
    assert!(ask(&address, &input, &output, &options).status.success());
    assert_eq!(second.count(), 5, "nothing is missing");
    // Other settings are another run.
    let run = ask(&address, &input, &output, &[&options[..], &["--temperature", "0"]].concat());
    assert!(err(&run).contains("temperature is 1.0 there and 0.0 now"), "{}", err(&run));
}

#[test]
fn a_server_that_is_gone_ends_the_run() {
    let scratch = Scratch::new("data-labels-gone");
    let rows: Vec<Value> = (0..40).map(|at| row(&format!("r{at}"), "[Yes]")).collect();
    let (input, output) = (scratch.write("rows.jsonl", &rows), scratch.path("labels.jsonl"));
    let (address, seen) = obedient(|_| Some(Reply::HangUp));
    let options = ["--job", "retrieval", "--yes", "--retries", "0"];
    let run = ask(&address, &input, &output, &options);
    assert!(!run.status.success() && err(&run).contains("after 1 tries"), "{}", err(&run));
    assert!(seen.count() < rows.len(), "{} of {} questions sent", seen.count(), rows.len());
    // Questions that the server can not take are no end: the others are asked, and these are set aside.
    let refused = |body: &Value| (0..7).any(|at| asked(body).contains(&format!("r{at} ")));
    let (address, seen) = serve(move |_, _, body| match refused(body) {
        true => Reply::Answer("400 Bad Request", "", "too long".into()),
        false => said("[No]"),
    });
    let run = ask(&address, &input, &output, &options);
    assert!(run.status.success(), "{}", err(&run));
    assert_eq!(labels(&output).values().flatten().count(), 33);
    assert!(err(&run).contains("refused: 21 × 400 Bad Request: too long"), "{}", err(&run));
    assert!(err(&run).contains("33 of 40 questions have a label, 7 are set aside"), "{}", err(&run));
    let aside = fs::read_to_string(format!("{output}.aside")).unwrap();
    assert!(aside.lines().count() == 7 && aside.contains("too long"), "{aside}");
    let asked_before = seen.count();
    assert!(ask(&address, &input, &output, &options).status.success());
    assert_eq!(seen.count(), asked_before, "they are not asked again");
    // A server that refuses all is asked in the wrong way.
    let (address, seen) = serve(|_, _, _| Reply::Answer("400 Bad Request", "", "max_tokens".into()));
    let run = ask(&address, &input, &scratch.path("other.jsonl"), &options);
    assert!(!run.status.success() && err(&run).contains("max_tokens"), "{}", err(&run));
    assert!(seen.count() < 60, "{} sent", seen.count());
}

#[test]
fn the_cost_is_known_before() {
    let scratch = Scratch::new("data-labels-cost");
    let (address, seen) = obedient(|_| None);
    let rows =
        [row("a", "[Yes]"), row("a", "[Yes]"), json!({"q_id": "b", "instruction": " ", "output": "x"}), json!([1])];
    let (input, output) = (scratch.write("rows.jsonl", &rows), scratch.path("labels.jsonl"));
    let jobs = ["--job", "retrieval", "utility", "relevance"];
    let run = ask(&address, &input, &output, &[&jobs[..], &["--estimate-only"]].concat());
    let text = err(&run);
    assert!(run.status.success(), "{text}");
    assert!(text.contains("2 questions (retrieval 1, utility 1): about "), "{text}");
    assert!(text.contains("at most 400 out; --price-input"), "{text}");
    assert!(
        text.contains("rows.jsonl: line 3: instruction: missing or empty, a text expected for retrieval"),
        "{text}"
    );
    assert!(text.contains("rows.jsonl: line 4: an object expected"), "{text}");
    assert!(text.contains("rows.jsonl: line 1: evidence: missing or empty, a text expected for relevance"), "{text}");
    assert!(text.contains("left out: 2 × questions: asked already"), "{text}");
    let prices = ["--estimate-only", "--price-input", "0", "--price-output", "1000000"];
    assert!(err(&ask(&address, &input, &output, &[&jobs[..], &prices].concat())).contains("at most 400.00 by"));
    let run = ask(&address, &input, &output, &jobs);
    assert!(!run.status.success() && err(&run).contains("--yes expected"), "{}", err(&run));
    assert!(
        err(&ask(&address, &input, &output, &[&jobs[..], &["--yes", "--strict"]].concat()))
            .contains("expected with --strict")
    );
    fs::write(&output, "answers that were paid for").unwrap();
    assert!(!ask(&address, &input, &output, &[&jobs[..], &["--overwrite"]].concat()).status.success());
    assert_eq!(
        fs::read_to_string(&output).unwrap(),
        "answers that were paid for",
        "nothing goes before it is agreed to"
    );
    let run = ask(&address, &input, &output, &[&jobs[..], &["--estimate-only"]].concat());
    assert!(!run.status.success() && err(&run).contains("a header expected"), "{}", err(&run));
    assert_eq!(fs::read_to_string(&output).unwrap(), "answers that were paid for", "nor by an estimate");
    assert_eq!(seen.count(), 0, "nobody was asked");
    for (options, problem) in [
        (["--temperature", "nan"], "setting temperature"),
        (["--max-tokens", "0"], "setting max-tokens"),
        (["--concurrency", "0"], "setting concurrency"),
        (["--requests-per-minute", "0"], "setting requests-per-minute"),
        (["--price-input", "1"], "--price-output"),
        (["--body", "[1]"], "a JSON object expected"),
        (["--server", "https://x"], "http://… expected"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_selfrag"))
            .args(["data", "critic-labels", "ask", &input, "--model", "m", "--output", &output, "--job", "utility"])
            .args(if options[0] == "--server" { vec![] } else { vec!["--server", &address] })
            .args(options)
            .output()
            .unwrap();
        assert!(!output.status.success() && err(&output).contains(problem), "{problem}: {}", err(&output));
    }
}

#[test]
fn a_larger_sample_has_the_smaller_one_in_it() {
    let scratch = Scratch::new("data-labels-sample");
    let (address, seen) = obedient(|_| None);
    let rows: Vec<Value> = (0..30).map(|at| row(&format!("r{at:02}"), "[Yes]")).collect();
    let (input, output) = (scratch.write("rows.jsonl", &rows), scratch.path("labels.jsonl"));
    let run = |n: &str| {
        let run = ask(&address, &input, &output, &["--job", "retrieval", "--yes", "--sample", n]);
        assert!(run.status.success(), "{}", err(&run));
        labels(&output).into_keys().collect::<Vec<_>>()
    };
    let (small, large) = (run("5"), run("12"));
    assert_eq!((small.len(), large.len(), seen.count()), (5, 12, 12));
    let body = json!({"max_tokens": null, "max_completion_tokens": 9}).to_string();
    let other = scratch.path("other.jsonl");
    let more = ["--job", "retrieval", "--yes", "--sample", "5", "--seed", "2", "--body", &body];
    assert!(ask(&address, &input, &other, &more).status.success());
    assert_ne!(labels(&other).into_keys().collect::<Vec<_>>(), small, "another seed, another sample");
    let bodies = seen.bodies.lock().unwrap();
    let last = bodies.last().unwrap();
    assert_eq!((&last["max_completion_tokens"], &last["max_tokens"]), (&json!(9), &Value::Null));
}

/// A file of labels as `ask` writes it.
fn label_file(scratch: &Scratch) -> String {
    let item = |fields: Value| {
        let mut item = json!({"q_id": "q", "instruction": "I", "preceding_sentences": "P", "evidence": "T\nE",
            "target_output": "S", "output": "O"});
        item.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        item
    };
    let record = |key: &str, job: &str, label: Value, fields: Value| {
        json!({"key": key, "job": job, "label": label,
        "problem": null, "response": {}, "item": item(fields)})
    };
    let rows = [
        json!({"header": "selfrag data critic-labels", "model": "m"}),
        record("k1", "retrieval", json!("[No Retrieval]"), json!({})),
        record("k2", "multi_retrieval_three_way", json!("[Continue to Use Evidence]"), json!({})),
        record("k3", "multi_retrieval", json!("[Retrieval]"), json!({"preceding_sentences": ""})),
        record("k4", "relevance", json!("[Relevant]"), json!({})),
        record("k5", "relevance", json!("[Irrelevant]"), json!({"evidence": "other"})),
        record("k6", "support", json!("[Partially supported]"), json!({})),
        record("k7", "utility", json!("[Utility:2]"), json!({})),
        record("k8", "utility", json!(null), json!({"output": "never labelled"})),
        record("k9", "utility", json!("[Utility:1]"), json!({"output": "### Response: no"})),
        record("l1", "support", json!("[Fully supported]"), json!({"target_output": "twice"})),
        record("l2", "support", json!("[No support / Contradictory]"), json!({"target_output": "twice"})),
    ];
    scratch.write("labels.jsonl", &rows)
}

fn combined(scratch: &Scratch, settings: &Settings) -> (Vec<TrainingRow>, Notes) {
    let mut notes = Notes::default();
    let records = combine::read(&[label_file(scratch)], &mut notes).unwrap();
    let (mut train, dev) = combine::rows(&records, settings, false, &mut notes);
    assert!(dev.is_empty());
    train.sort_by(|a, b| a.id.cmp(&b.id));
    (train, notes)
}

fn settings() -> Settings {
    Settings { seed: 1, relevant_share: 1.0, dev_rows: 1500, compat: false }
}

#[test]
fn labels_become_the_critics_rows() {
    let scratch = Scratch::new("data-labels-combine");
    let (rows, notes) = combined(&scratch, &settings());
    let of = |task: &str, row: &TrainingRow| row.task.as_deref() == Some(task);
    let shown = |rows: &[TrainingRow], task: &str| -> Vec<(String, String)> {
        rows.iter().filter(|row| of(task, row)).map(|row| (row.input.clone(), row.output.clone())).collect()
    };
    let pair = |input: &str, output: &str| (input.to_owned(), output.to_owned());
    assert_eq!(shown(&rows, "retrieval"), [pair("Task instruction: I", "[No Retrieval]")]);
    let sentence =
        |preceding: &str| format!("Task instruction: I\nPreceding sentences: {preceding}\nEvidence: T\nE\nOutput: S");
    assert_eq!(
        shown(&rows, "multi_retrieval"),
        [pair(&sentence(""), "[Retrieval]"), pair(&sentence("P"), "[Continue to Use Evidence]")]
    );
    assert_eq!(
        shown(&rows, "relevance"),
        [
            pair("Task instruction: I\nEvidence: T\nE", "[Relevant]"),
            pair("Task instruction: I\nEvidence: other", "[Irrelevant]")
        ]
    );
    let support = "Task instruction: I\nPreceding sentences: P\nOutput: S\nEvidence: T\nE";
    assert_eq!(shown(&rows, "groudness"), [pair(support, "[Partially supported]")]);
    assert_eq!(shown(&rows, "utility"), [pair("Task instruction: I\nOutput: O", "[Utility:2]")]);
    assert_eq!(rows.len(), 7);
    let left_out: Vec<(&str, usize)> = notes.left_out.iter().map(|(reason, n)| (*reason, *n)).collect();
    assert_eq!(
        left_out,
        [
            ("judgements: ### Response: in them", 1),
            ("judgements: contradict each other", 1),
            ("labels: malformed answers", 1)
        ]
    );
    // The released code: nothing before a sentence, `None` where there is nothing, contradictions kept, one sentence instruction.
    let (compat, _) = combined(&scratch, &Settings { compat: true, ..settings() });
    assert_eq!(compat.len(), 9);
    assert_eq!(shown(&compat, "groudness")[0].0, "Task instruction: I\nOutput: S\nEvidence: T\nE");
    assert_eq!(shown(&compat, "multi_retrieval")[0].0, sentence("None"));
    let instructions = |rows: &[TrainingRow]| -> Vec<String> {
        rows.iter().filter(|row| of("multi_retrieval", row)).map(|row| row.instruction.clone()).collect()
    };
    let (ours, theirs) = (instructions(&rows), instructions(&compat));
    assert!(ours[0] != ours[1] && theirs[0] == theirs[1] && ours[1] == theirs[1]);
    let none = Settings { relevant_share: 0.0, ..settings() };
    assert!(shown(&combined(&scratch, &none).0, "relevance").iter().all(|(_, label)| label == "[Irrelevant]"));
}

#[test]
fn the_command_line_combines_and_the_report_reads() {
    let scratch = Scratch::new("data-labels-command");
    let labels = label_file(&scratch);
    let combine = |more: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_selfrag"))
            .args(["data", "critic-labels", "combine", &labels, "--relevant-share", "1"])
            .args(more)
            .output()
            .unwrap();
        (output.status.success(), err(&output))
    };
    let (train, dev) = (scratch.path("train.json"), scratch.path("dev.jsonl"));
    let (done, text) = combine(&["--output", &train, "--dev", &dev, "--dev-rows", "3"]);
    assert!(done && text.contains("4 rows, 3 held out"), "{text}");
    let read = |path: &str| fs::read_to_string(path).unwrap();
    let (first, held) = (read(&train), read(&dev));
    let rows = TrainingFile::new("train", first.clone().into_bytes());
    assert!(report(&rows, None, 2048).unwrap().is_clean());
    assert_eq!((rows.len(), held.lines().count()), (4, 3));
    combine(&["--output", &train, "--dev", &dev, "--dev-rows", "3"]);
    assert_eq!((read(&train), read(&dev)), (first.clone(), held), "the same seed, the same bytes");
    combine(&["--output", &train, "--dev", &dev, "--dev-rows", "3", "--seed", "2"]);
    assert_ne!(read(&train), first);
    assert!(combine(&["--output", &labels]).1.contains("it is read"));
    assert!(combine(&["--output", &train, "--dev", &train]).1.contains("different files expected"));
    assert!(combine(&["--output", &train, "--dev", &dev]).1.contains("no rows to train on"), "all are held out");
    // What is no file of labels is said by line.
    let whole = read(&labels);
    for (text, expected) in [
        ("{}\n".to_owned(), "labels.jsonl: line 1: the header of"),
        (whole.replacen("[No Retrieval]", "[Utility:1]", 1), "line 2: \"[Utility:1]\" is no label of retrieval"),
        (whole.replacen("{\"item\"", "{\"itme\"", 1), "line 2: an answer's record expected"),
        (whole.replacen("{\"item\"", "[{\"item\"", 1), "line 2, column"),
    ] {
        fs::write(&labels, text).unwrap();
        let (done, text) = combine(&["--output", &train]);
        assert!(!done && text.contains(expected), "{expected}\n{text}");
    }
    fs::write(&labels, &whole[..whole.len() - 5]).unwrap();
    let (done, text) = combine(&["--output", &train]);
    assert!(done && text.contains("left out: 1 × labels: torn last line"), "{text}");
}
