//! The promise: a critic is read right, in the engine and on a server, and `selfrag data generator` works with both from the command
//! line.

#[path = "common/scratch.rs"]
mod scratch;
#[path = "common/script.rs"]
mod script;
#[path = "common/server.rs"]
mod server;
#[path = "common/tiny.rs"]
mod tiny;

use std::{
    cell::RefCell,
    collections::HashMap,
    fs,
    process::{Command, Output},
    rc::Rc,
    time::Duration,
};

use scratch::Scratch;
use selfrag::{
    Error, Result,
    data::{
        critic::Judgement,
        generator::{
            critic::{Choices, Critic, RemoteCritic},
            engine_critic::EngineCritic,
            settings::{Reading, Settings},
        },
        rows::TrainingFile,
    },
    generator::{Generator, SeqId, StepOutput, server::ServerOptions},
    platform::LocalFuture,
    retriever::Passage,
    tokenizer::{EncodeOptions, Tokenizer},
};
use serde_json::{Value, json};
use server::{Reply, serve};

fn passages() -> Vec<Passage> {
    let passage = |id: &str, title: &str, text: &str| Passage { id: id.into(), title: title.into(), text: text.into() };
    vec![
        passage("1", "Dens", "Foxes live in dens in winter."),
        passage("2", "Mice", "Mice fear foxes."),
        passage("3", "Spelt", "Foxes [Relevant] live in dens."),
    ]
}

fn rows() -> Vec<Value> {
    vec![
        json!({"id": "a", "dataset_name": "nq", "instruction": "Task.## Input:\n\nTell of foxes.",
            "output": "Foxes live in dens. They also hunt mice at night."}),
        json!({"id": "b", "dataset_name": "alpaca", "instruction": "Write a poem.", "output": "Roses are red."}),
    ]
}

fn outputs(rows: &str) -> Vec<String> {
    let file = TrainingFile::new("rows", rows.as_bytes().to_vec());
    file.iter().map(|row| row.unwrap().output).collect()
}

const DENS: &str = "[Retrieval]<paragraph>Dens\nFoxes live in dens in winter.</paragraph>[Relevant]Foxes live in dens.[Fully supported]";
const POEM: &str = "[No Retrieval]Roses are red.[Utility:5]";

/// A model with a fixed idea of what follows a prompt, and the sequences that it holds.
struct Fixed {
    tokenizer: Rc<Tokenizer>,
    /// What may be written after the prompt, and the probability of each token of it given those before.
    lines: Vec<(Vec<u32>, Vec<f32>)>,
    watched: Vec<u32>,
    /// The tokens written after the prompt; none before that is read.
    sequences: HashMap<SeqId, Option<Vec<u32>>>,
    next: u32,
    log: Rc<RefCell<(usize, usize)>>,
    /// Sequences that fit at once.
    room: usize,
}

impl Generator for Fixed {
    fn context_length(&self) -> usize {
        script::CONTEXT
    }

    fn watch(&mut self, tokens: &[u32]) {
        self.watched = tokens.to_vec();
    }

    fn start(&mut self) -> Result<SeqId> {
        self.next += 1;
        self.sequences.insert(SeqId(self.next), None);
        self.log.borrow_mut().1 += 1;
        Ok(SeqId(self.next))
    }

    fn fork(&mut self, seq: SeqId) -> Result<SeqId> {
        let held = self.sequences[&seq].clone();
        let fork = self.start()?;
        self.sequences.insert(fork, held);
        Ok(fork)
    }

    fn free(&mut self, seq: SeqId) {
        self.sequences.remove(&seq).expect("a sequence is freed once");
        self.log.borrow_mut().1 -= 1;
    }

    fn forward<'a>(&'a mut self, batch: &'a [(SeqId, Vec<u32>)]) -> LocalFuture<'a, Result<Vec<StepOutput>>> {
        self.log.borrow_mut().0 += 1;
        if self.sequences.len() > self.room {
            let error = Error::ContextFull { needed: self.sequences.len(), available: self.room };
            return Box::pin(std::future::ready(Err(error)));
        }
        let mut outputs = Vec::new();
        for (seq, tokens) in batch {
            let held = self.sequences.get_mut(seq).expect("a live sequence");
            match held {
                Some(written) => written.extend(tokens),
                None => *held = Some(Vec::new()),
            }
            let written = held.as_deref().unwrap_or_default();
            let mut next: HashMap<u32, f32> = HashMap::new();
            for (line, probs) in self.lines.iter().filter(|(line, _)| line.starts_with(written)) {
                match line.get(written.len()) {
                    Some(token) => *next.entry(*token).or_default() = probs[written.len()],
                    None => *next.entry(self.tokenizer.eos().unwrap()).or_default() = 1.0,
                }
            }
            let (token, prob) = next.iter().max_by(|a, b| a.1.total_cmp(b.1)).expect("a line");
            let watched = self.watched.iter().map(|id| next.get(id).copied().unwrap_or(1e-9).ln()).collect();
            outputs.push(StepOutput { token: *token, logprob: prob.ln(), watched });
        }
        Box::pin(std::future::ready(Ok(outputs)))
    }
}

/// A critic that writes `lines`; the probability is that of a line's first token that others do not share, and of the one after.
fn engine_critic(lines: &[(&str, f32, f32)], reading: Reading) -> (EngineCritic, Rc<RefCell<(usize, usize)>>) {
    engine_critic_in(lines, reading, usize::MAX)
}

/// The same where `room` sequences fit at once.
fn engine_critic_in(
    lines: &[(&str, f32, f32)],
    reading: Reading,
    room: usize,
) -> (EngineCritic, Rc<RefCell<(usize, usize)>>) {
    let (tokenizer, _) = script::tokenizer();
    let encode = |text: &str| tokenizer.encode(text, EncodeOptions::CONTINUE).unwrap();
    let tokens: Vec<Vec<u32>> = lines.iter().map(|(text, ..)| encode(text)).collect();
    let probs = |at: usize| {
        let shared =
            |depth: usize| tokens.iter().filter(|line| line[..depth.min(line.len())] == tokens[at][..depth]).count();
        let branch = (1..=tokens[at].len()).find(|depth| shared(*depth) == 1).expect("lines differ") - 1;
        let prob = |depth: usize| match depth {
            _ if depth == branch => lines[at].1,
            _ if depth == branch + 1 => lines[at].2,
            _ => 1.0,
        };
        (0..tokens[at].len()).map(prob).collect::<Vec<f32>>()
    };
    let log = Rc::default();
    let generator = Fixed {
        lines: (0..lines.len()).map(|at| (tokens[at].clone(), probs(at))).collect(),
        tokenizer: Rc::new(script::tokenizer().0),
        watched: Vec::new(),
        sequences: HashMap::new(),
        next: 0,
        log: Rc::clone(&log),
        room,
    };
    let settings = Settings { critic_reading: reading, ..Settings::paper() };
    (EngineCritic::new(Box::new(generator), tokenizer, "fixed".into(), &settings), log)
}

const ASKED: [Judgement<'static>; 2] = [
    Judgement::Relevance { instruction: "I", evidence: "one" },
    Judgement::Relevance { instruction: "I", evidence: "two" },
];

#[test]
fn the_engines_critic_reads_whole_labels() {
    // 0.6 × 0.5 is more than 0.25, 0.6 × 0.3 is less: the label's tokens count together, not its first.
    for (second, best) in [(0.5, "[Irrelevant]"), (0.3, "[Relevant]")] {
        let lines = [("[Relevant]", 0.25, 1.0), ("[Irrelevant]", 0.6, second)];
        let (mut critic, log) = engine_critic(&lines, Reading::Logprob);
        let verdicts = critic.judge(&ASKED).unwrap();
        for verdict in &verdicts {
            assert_eq!((verdict.pred.as_str(), &verdict.problem), (best, &None));
            // In the order of the vocabulary: Irrelevant, Relevant.
            let found = verdict.logprobs.as_ref().unwrap();
            for (found, expected) in found.iter().zip([0.6 * second, 0.25]) {
                assert!((found.exp() - expected).abs() < 1e-5, "{found} is not ln {expected}");
            }
        }
        let (tokenizer, _) = script::tokenizer();
        let length = |label: &str| tokenizer.encode(label, EncodeOptions::CONTINUE).unwrap().len();
        let longest = length("[Irrelevant]").max(length("[Relevant]"));
        assert_eq!(*log.borrow(), (longest, 0), "a pass for each token, no sequence left behind");
    }
}

#[test]
fn a_prompt_that_does_not_fit_is_told_and_the_others_judged() {
    let (mut critic, _) = engine_critic(&[("[Relevant]", 0.9, 1.0), ("[Irrelevant]", 0.1, 1.0)], Reading::Logprob);
    let long = "long ".repeat(script::CONTEXT);
    let asked = [ASKED[0], Judgement::Relevance { instruction: "I", evidence: &long }, ASKED[1]];
    let verdicts = critic.judge(&asked).unwrap();
    assert_eq!([0, 2].map(|at| verdicts[at].pred.as_str()), ["[Relevant]"; 2]);
    assert!(verdicts[1].problem.as_ref().unwrap().contains("at most 4096 fit") && verdicts[1].pred.is_empty());
}

#[test]
fn a_batch_that_does_not_fit_is_halved() {
    let lines = [("[Relevant]", 0.25, 1.0), ("[Irrelevant]", 0.6, 1.0)];
    for reading in [Reading::Logprob, Reading::Greedy] {
        let asked: Vec<Judgement<'_>> = ASKED.into_iter().chain(ASKED).collect();
        let expected = engine_critic(&lines, reading).0.judge(&asked).unwrap();
        // Forks of two judgements do not fit, nor do four prompts.
        let (mut critic, log) = engine_critic_in(&lines, reading, 3);
        assert_eq!(critic.judge(&asked).unwrap(), expected);
        assert_eq!(log.borrow().1, 0, "no sequence left behind");
        let (mut critic, log) = engine_critic_in(&lines, reading, 0);
        let verdicts = critic.judge(&asked).unwrap();
        assert!(verdicts.iter().all(|verdict| verdict.problem.as_ref().unwrap().contains("at most 0 fit")));
        assert_eq!(log.borrow().1, 0);
    }
}

#[test]
fn a_batch_that_is_refused_is_no_end_but_a_server_that_refuses_all_is() {
    let critic = |address: String| {
        let options = ServerOptions {
            address,
            api_key: None,
            concurrency: 2,
            retries: 0,
            timeout: Duration::from_secs(60),
            per_minute: None,
        };
        RemoteCritic::new(options, "c".into(), Choices::None, &Settings::paper()).unwrap()
    };
    let refused = || Reply::Answer("400 Bad Request", "", "too long".into());
    let (address, _) = serve(move |_, _, body| match body["prompt"].as_str().unwrap().contains("Evidence: ") {
        true => refused(),
        false => Reply::json(&json!({"choices": [{"text": "[Retrieval]"}]})),
    });
    let verdicts = critic(address).judge(&ASKED).unwrap();
    assert!(verdicts.iter().all(|verdict| verdict.problem.as_ref().unwrap().contains("too long")));
    let (address, _) = serve(move |_, _, _| refused());
    assert!(critic(address).judge(&ASKED).unwrap_err().to_string().contains("too long"));
}

#[test]
fn greedy_reading_takes_what_is_written() {
    let lines = [("[Relevant]\n\nso", 0.6, 1.0), ("[Irrelevant]", 0.3, 1.0)];
    let (mut critic, log) = engine_critic(&lines, Reading::Greedy);
    let verdicts = critic.judge(&ASKED).unwrap();
    assert_eq!(verdicts.iter().map(|verdict| verdict.pred.as_str()).collect::<Vec<_>>(), ["[Relevant]"; 2]);
    assert!(verdicts[0].logprobs.is_none() && log.borrow().1 == 0);
    let (mut critic, log) = engine_critic(&[("maybe so", 0.6, 1.0), ("perhaps", 0.1, 1.0)], Reading::Greedy);
    assert_eq!(critic.judge(&ASKED).unwrap()[1].pred, "maybe so", "whatever it is");
    assert_eq!(log.borrow().1, 0);
}

fn selfrag(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_selfrag")).args(["data", "generator"]).args(args).output().unwrap()
}

#[test]
fn the_command_line_asks_a_server() {
    let scratch = Scratch::new("data-critic-command");
    let sources = scratch.write("sources.jsonl", &rows());
    let lines: Vec<Value> = passages().iter().map(|passage| serde_json::to_value(passage).unwrap()).collect();
    let (shelf, work, output, summary) = (
        scratch.write("passages.jsonl", &lines),
        scratch.path("work"),
        scratch.path("rows.jsonl"),
        scratch.path("s.json"),
    );
    let (address, seen) = serve(|number, path, body| {
        assert_eq!(path, "/v1/completions");
        let prompt = body["prompt"].as_str().unwrap();
        let text = match prompt {
            _ if number == 1 => return Reply::Answer("503 Service Unavailable", "retry-after: 0\r\n", "{}".into()),
            _ if prompt.contains("Mice fear") => return Reply::Answer("400 Bad Request", "", "too long".into()),
            _ if prompt.contains("seeking additional information") && prompt.contains("poem") => "[No Retrieval]",
            _ if prompt.contains("seeking additional information") => "[Retrieval]",
            _ if prompt.contains("three cases") => "[Continue to Use Evidence]\n\nExplanation",
            _ if prompt.contains("perceived utility") => "[Utility:5]</s>",
            _ if prompt.contains("rating of [Relevant]") => "[Relevant]",
            _ => "[Fully supported]",
        };
        Reply::json(&json!({"choices": [{"text": text}]}))
    });
    let base = [sources.as_str(), "--work", &work, "--output", &output, "--summary", &summary, "--passages", &shelf];
    let critic = ["--critic-server", &address, "--critic-model", "c", "--concurrency", "2"];
    let run = |more: &[&str]| selfrag(&[&base[..], &critic, more].concat());
    let first = run(&["--critic-choices", "structured_outputs"]);
    let text = String::from_utf8(first.stderr).unwrap();
    assert!(first.status.success(), "{text}");
    assert!(text.contains("problem: 1 × not judged") && text.contains("2 rows of 2 sources"), "{text}");
    let rows = fs::read_to_string(&output).unwrap();
    let second = "[Continue to Use Evidence]They also hunt mice at night.[Utility:5]";
    assert_eq!(outputs(&rows), [format!("{DENS}{second}"), POEM.to_owned()]);
    {
        let bodies = seen.bodies.lock().unwrap();
        let body =
            bodies.iter().find(|body| body["prompt"].as_str().unwrap().contains("rating of [Relevant]")).unwrap();
        assert_eq!((&body["model"], &body["max_tokens"], &body["temperature"]), (&json!("c"), &json!(15), &json!(0.0)));
        assert_eq!(body["structured_outputs"]["choice"], json!(["[Irrelevant]", "[Relevant]"]));
    }
    let summary: Value = serde_json::from_slice(&fs::read(&summary).unwrap()).unwrap();
    assert_eq!((&summary["settings"]["seed"], &summary["rows"]), (&json!(1), &json!(2)));
    assert_eq!(summary["notes"]["problems"]["not judged"], 1);
    let asked = seen.count();
    assert!(run(&["--critic-choices", "structured_outputs"]).status.success());
    assert_eq!((seen.count(), fs::read_to_string(&output).unwrap()), (asked, rows), "all steps are done");
    for (more, problem) in [
        (&[][..], "choices: structured_outputs"),
        (&["--strict", "--critic-choices", "structured_outputs"], "1 problems, none expected with --strict"),
        (&["--set", "keep=1"], "no such setting"),
        (&["--set", "keep_no_retrieval=2"], "a number from 0 to 1 expected"),
        (&["--batch", "0"], "--batch: at least 1 expected"),
        (&["--config", "neither"], "invalid value"),
    ] {
        let run = run(more);
        let text = String::from_utf8(run.stderr).unwrap();
        assert!(!run.status.success() && text.contains(problem), "{problem}\n{text}");
    }
    assert!(!selfrag(&base).status.success(), "a critic is needed");
    // The steps' files are written over.
    let step = scratch.path("work/sources.jsonl");
    let before = fs::read(&step).unwrap();
    for (from, to) in [(&sources, &step), (&output, &step), (&shelf, &step)] {
        let args: Vec<&str> = base.iter().chain(&critic).map(|arg| if arg == from { to } else { *arg }).collect();
        let text = String::from_utf8(selfrag(&args).stderr).unwrap();
        assert!(text.contains("it lies inside --work"), "{text}");
    }
    assert_eq!(fs::read(&step).unwrap(), before);
}

/// A model of random weights but for a liking of `[Irr`: other labels it finds somehow. Of an irrelevant passage support is not asked.
#[test]
fn the_command_line_runs_a_critic_in_the_engine() {
    let scratch = Scratch::new("data-critic-engine");
    let model = scratch.path("critic.gguf");
    tiny::write(model.as_ref(), &[("[", "I"), ("I", "r"), ("r", "r")]);
    let mut row = rows().remove(0);
    row["output"] = json!("Foxes live in dens.");
    let sources = scratch.write("sources.jsonl", &[row]);
    let lines: Vec<Value> = passages().iter().map(|passage| serde_json::to_value(passage).unwrap()).collect();
    let (shelf, work, output) =
        (scratch.write("passages.jsonl", &lines), scratch.path("work"), scratch.path("rows.jsonl"));
    let args = [&sources, "--work", &work, "--output", &output, "--passages", &shelf, "--critic", &model];
    let run = selfrag(&[&args[..], &["--set", "n_docs=1", "--set", "top_n=1"]].concat());
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let step = |name: &str| -> Vec<Value> {
        let text = fs::read_to_string(scratch.0.join("work").join(format!("{name}.jsonl"))).unwrap();
        text.lines().skip(1).map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    for (name, labels) in [("need_retrieval", 2), ("utility", 5), ("relevance", 2)] {
        let records = step(name);
        assert!(!records.is_empty(), "{name}");
        for record in records {
            let logprobs: Vec<f64> =
                record["logprobs"].as_array().unwrap().iter().map(|p| p.as_f64().unwrap()).collect();
            assert_eq!(logprobs.len(), labels, "{record}");
            assert!(logprobs.iter().all(|logprob| *logprob < 0.0), "{record}");
        }
    }
    let preds = |name: &str| step(name).into_iter().map(|record| record["pred"].clone()).collect::<Vec<_>>();
    assert_eq!(preds("need_retrieval"), ["[Retrieval]"]);
    assert_eq!((preds("relevance"), step("support").len()), (vec![json!("[Irrelevant]")], 0));
    let rows = outputs(&fs::read_to_string(&output).unwrap());
    let passage =
        "[Retrieval]<paragraph>Dens\nFoxes live in dens in winter.</paragraph>[Irrelevant]Foxes live in dens.";
    assert!(rows[0].starts_with(passage), "{rows:?}");
}
