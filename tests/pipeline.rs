//! Promise: tests/pipeline.sh leads from annotated questions to an answer with a citation, on a tiny model that learns the rows by heart.

#[path = "common/training.rs"]
mod training;

use std::{path::Path, process::Command};

use selfrag::{
    self_rag::Answer,
    tokenizer::{ReflectionTokens, Tokenizer},
    weights::open,
};
use serde_json::{Value, json};
use training::{Scratch, Sizes, write_base};

fn tests(name: &str) -> std::path::PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests")).join(name)
}

/// The set's paragraphs as passages to search, and its first article's questions as a set of its own.
fn write_passages_and_questions(passages: &Path, questions: &Path) {
    let mut set: Value = serde_json::from_slice(&std::fs::read(tests("data/qa/squad.json")).unwrap()).unwrap();
    let mut lines = String::new();
    for article in set["data"].as_array().unwrap() {
        let title = article["title"].as_str().unwrap().replace('_', " ");
        for paragraph in article["paragraphs"].as_array().unwrap() {
            let id = lines.lines().count();
            lines += &format!("{}\n", json!({"id": id.to_string(), "title": title, "text": paragraph["context"]}));
        }
    }
    std::fs::write(passages, lines).unwrap();
    set["data"].as_array_mut().unwrap().truncate(1);
    std::fs::write(questions, set.to_string()).unwrap();
}

#[test]
fn from_questions_to_an_answer() {
    let scratch = Scratch::new("pipeline");
    let at = |name: &str| scratch.0.join(name);
    write_base(&at("base"), Sizes { hidden: 64, feed_forward: 128, heads: 4, kv_heads: 2, context: 2048 });
    write_passages_and_questions(&at("passages.jsonl"), &at("questions.json"));
    assert!(tests("../models/minilm").exists(), "models/minilm is missing: run `cargo xtask setup`");
    let run = Command::new("sh")
        .arg(tests("pipeline.sh"))
        .arg(at("out"))
        .env("SELFRAG", env!("CARGO_BIN_EXE_selfrag"))
        .env("SELFRAG_HOME", tests("../models"))
        .env("ENCODER", tests("../models/minilm"))
        .env("BASE", at("base"))
        .env("QA", at("questions.json"))
        .env("INSTRUCTIONS", tests("data/qa/instructions.txt"))
        .env("PASSAGES", at("passages.jsonl"))
        .env("CONFIG", tests("data/qa/train.toml"))
        .env("TYPE", "f32")
        .env("QUESTION", "When was the lighthouse of Velm built?")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{said}");
    assert!(said.contains("the likeliest token is another at 0"), "merged and unmerged logits agree: {said}");

    let log = std::fs::read_to_string(at("out/run/log.jsonl")).unwrap();
    let losses: Vec<f64> =
        log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["loss"].as_f64().unwrap()).collect();
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    let (first, last) = (mean(&losses[..5]), mean(&losses[losses.len() - 5..]));
    assert!(last < first / 3.0, "loss {first} at the start, {last} at the end");

    // Each decision that the rows have, judged with the row's own text in front of it.
    let labels = std::fs::read_to_string(at("out/labels.md")).unwrap();
    // The few grades of given sentences are harder to learn by heart than what stands in front of them.
    for (group, least) in [("relevance", 90.0), ("retrieval", 90.0), ("support", 70.0), ("utility", 70.0)] {
        let line = labels.lines().find_map(|line| line.strip_prefix(group)?.strip_prefix(": "));
        let right: f64 = line.and_then(|line| line.split(' ').next()?.parse().ok()).unwrap_or_default();
        assert!(right > least, "{group}: {labels}");
    }

    let model = open(&at("out/generator.gguf"), None).unwrap();
    let tokenizer = Tokenizer::from_metadata("generator.gguf", model.metadata()).unwrap();
    let reflection = ReflectionTokens::find(&tokenizer).unwrap();
    let answer: Answer = serde_json::from_slice(&std::fs::read(at("out/answer.json")).unwrap()).unwrap();
    assert!(answer.retrieved && answer.candidates.len() > 1, "{answer:?}");
    // What it learned by heart, in the form that it learned: relevance first, the sentence, its support, the answer's use.
    let about = |hit: &selfrag::retriever::Hit| hit.passage.text.contains("built in 1871");
    let learned = answer.candidates.iter().find(|candidate| candidate.hit.as_ref().is_some_and(about));
    let learned = learned.expect("the passage is found by its question");
    assert_eq!(learned.tokens[0], reflection.relevant, "{learned:?}");
    let has = |ids: &[u32]| ids.iter().any(|id| learned.tokens.contains(id));
    assert!(has(&[reflection.fully]) && has(&reflection.utility), "{learned:?}");
    assert!(learned.text.contains("built in 1871"), "{learned:?}");
}
