//! The promise: an independent program (tests/replay/replay.py, numpy) that sees only what the model said at each step comes to the
//! same answers and scores. Its results on two recordings are kept beside them: short answers of the demo generator, and long ones of
//! the tiny model, which has more to say. Here the engine plays the same recordings and has to agree to 1e-5.

#[path = "common/tiny.rs"]
mod tiny;

use std::{
    collections::HashMap,
    fs,
    io::Read,
    path::{Path, PathBuf},
};

use selfrag::{
    Error, Result,
    engine::Engine,
    eval::{
        evaluate::{self, Plan},
        journal::{Journal, Records},
        record::{Header, Outcome, Written},
        rows::{Rows, Schema},
    },
    generator::{Generator, SeqId, StepOutput},
    platform::LocalFuture,
    self_rag::Stop,
    tokenizer::{ReflectionTokens, Tokenizer},
    weights::{Gguf, Metadata, Value, Weights},
};
use serde_json::Value as Json;

fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests")
}

fn unpacked(name: &str) -> String {
    let file = fs::File::open(tests().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    let mut text = String::new();
    flate2::read::GzDecoder::new(file).read_to_string(&mut text).unwrap();
    text
}

/// The demo generator's vocabulary: SmolLM2's with the reflection tokens behind it.
fn smollm2() -> Tokenizer {
    fn value(json: &Json) -> Value {
        match json {
            Json::Bool(flag) => Value::Bool(*flag),
            Json::Number(n) => n.as_u64().map_or_else(|| Value::F64(n.as_f64().unwrap()), Value::U64),
            Json::Array(values) => Value::Array(values.iter().map(value).collect()),
            other => Value::Text(other.as_str().expect("a text").to_owned()),
        }
    }
    let json: Json = serde_json::from_str(&unpacked("golden/tokenizer/smollm2.json.gz")).unwrap();
    let metadata: Metadata = json.as_object().unwrap().iter().map(|(key, json)| (key.clone(), value(json))).collect();
    let mut tokenizer = Tokenizer::from_metadata("smollm2.json.gz", &metadata).unwrap();
    ReflectionTokens::add(&mut tokenizer);
    tokenizer
}

fn tiny() -> Tokenizer {
    let path = std::env::temp_dir().join(format!("selfrag-replay-tiny-{}.gguf", std::process::id()));
    tiny::write(&path, &tiny::LONG);
    let metadata = Gguf::open_path(&path).unwrap().metadata().clone();
    fs::remove_file(&path).unwrap();
    Tokenizer::from_metadata("tiny.gguf", &metadata).unwrap()
}

/// A model that says again what it said after the same tokens.
#[derive(Default)]
struct Playback {
    steps: HashMap<Vec<u32>, StepOutput>,
    sequences: HashMap<SeqId, Vec<u32>>,
    watched: Vec<u32>,
    next: u32,
}

impl Playback {
    fn new(lines: &[Json]) -> Self {
        let ids = |json: &Json| json.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
        let mut playback = Self { watched: ids(&lines[0]["watched"]), ..Self::default() };
        for batch in &lines[1..] {
            let mut held: Vec<Vec<u32>> = Vec::new();
            for sequence in batch["sequences"].as_array().unwrap() {
                let fork = sequence["fork"].as_array().map(|fork| [0, 1].map(|at| fork[at].as_u64().unwrap() as usize));
                let mut tokens = fork.map_or(Vec::new(), |[of, length]| held[of][..length].to_vec());
                for step in sequence["steps"].as_array().unwrap() {
                    tokens.extend::<Vec<u32>>(ids(&step["in"]));
                    let watched = step["watched"].as_array().unwrap();
                    let output = StepOutput {
                        token: step["token"].as_u64().unwrap() as u32,
                        logprob: step["logprob"].as_f64().unwrap() as f32,
                        watched: watched.iter().map(|value| value.as_f64().unwrap() as f32).collect(),
                    };
                    playback.steps.insert(tokens.clone(), output);
                }
                held.push(tokens);
            }
        }
        playback
    }

    fn begin(&mut self, tokens: Vec<u32>) -> SeqId {
        self.next += 1;
        self.sequences.insert(SeqId(self.next), tokens);
        SeqId(self.next)
    }
}

impl Generator for Playback {
    fn context_length(&self) -> usize {
        2048
    }

    fn watch(&mut self, tokens: &[u32]) {
        assert_eq!(self.watched, tokens, "the recording watched the same tokens");
    }

    fn start(&mut self) -> Result<SeqId> {
        Ok(self.begin(Vec::new()))
    }

    fn fork(&mut self, seq: SeqId) -> Result<SeqId> {
        let tokens = self.sequences[&seq].clone();
        Ok(self.begin(tokens))
    }

    fn free(&mut self, seq: SeqId) {
        self.sequences.remove(&seq);
    }

    fn forward<'a>(&'a mut self, batch: &'a [(SeqId, Vec<u32>)]) -> LocalFuture<'a, Result<Vec<StepOutput>>> {
        let step = |(seq, tokens): &(SeqId, Vec<u32>)| {
            let held = self.sequences.get_mut(seq).expect("a live sequence");
            held.extend_from_slice(tokens);
            let step = self.steps.get(held).cloned();
            step.ok_or_else(|| Error::input("recording", format!("{} tokens", held.len()), "never read"))
        };
        Box::pin(std::future::ready(batch.iter().map(step).collect()))
    }
}

#[track_caller]
fn close(at: &str, found: impl Into<Option<f32>>, expected: &Json) {
    match (found.into(), expected.as_f64()) {
        (None, None) => {}
        (Some(found), Some(expected)) => {
            let difference = (f64::from(found) - expected).abs();
            assert!(difference <= 1e-5 * expected.abs().max(1.0), "{at}: {found} found, the script has {expected}");
        }
        (found, expected) => panic!("{at}: {found:?} found, the script has {expected:?}"),
    }
}

/// Plays a recording and holds the records against the script's results.
fn agrees(name: &str, input: &str, tokenizer: Tokenizer) -> usize {
    let text = unpacked(&format!("replay/{name}.jsonl.gz"));
    let lines: Vec<Json> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let header: Header = serde_json::from_value(lines[0]["header"].clone()).unwrap();
    let reflection = ReflectionTokens::find(&tokenizer).unwrap();
    assert_eq!(serde_json::to_value(reflection).unwrap(), lines[0]["reflection"], "the same ids");
    let rows = Rows::open(&tests().join("data/eval").join(input)).unwrap();
    let schema = Schema {
        task: header.task,
        passages_optional: false,
        n_docs: header.method.base().n_docs,
        compat: header.compat_rows,
    };
    let (batch, shard) = (header.batch, header.shard);
    let plan = Plan { task: header.task, method: &header.method, schema, batch, shard, search: false };
    let folder = std::env::temp_dir().join(format!("selfrag-replay-{name}-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join("records.jsonl");
    let mut journal = Journal::open(&path, &header, true).unwrap();
    let mut engine = Engine::new(Box::new(Playback::new(&lines)), tokenizer, None).unwrap();
    evaluate::run(&mut engine, &rows, &plan, &mut journal, None, &Stop::default(), &mut |_| {}).unwrap();
    let results: Json =
        serde_json::from_str(&fs::read_to_string(tests().join(format!("replay/{name}.json"))).unwrap()).unwrap();
    let mut compared = 0;
    for (record, expected) in Records::open(&path).unwrap().zip(results.as_array().unwrap()) {
        let record = record.unwrap();
        assert_eq!(record.index as u64, expected["index"].as_u64().unwrap());
        let Outcome::Answered { written, .. } = record.outcome else { panic!("{:?}", record.outcome) };
        let (text, probability, scores) = match &written {
            Written::Short(answer) => {
                assert_eq!(answer.best as u64, expected["best"].as_u64().unwrap());
                (&answer.text, answer.probability, answer.candidates.iter().map(|c| c.scores).collect::<Vec<_>>())
            }
            Written::Long(answer) => {
                assert_eq!(serde_json::to_value(&answer.path).unwrap(), expected["path"]);
                for (node, expected) in answer.tree.nodes.iter().zip(expected["path_scores"].as_array().unwrap()) {
                    close("path score", node.path_score, expected);
                }
                (&answer.text, answer.probability, answer.tree.nodes.iter().map(|node| node.candidate.scores).collect())
            }
            Written::Plain { .. } => panic!("a baseline is not recorded"),
        };
        assert_eq!(*text, expected["text"].as_str().unwrap());
        close("p(Retrieve)", probability, &expected["probability"]);
        let theirs = expected["scores"].as_array().unwrap();
        assert_eq!(scores.len(), theirs.len(), "candidates of row {}", record.index);
        for (scores, theirs) in scores.iter().zip(theirs) {
            close("ISREL", scores.is_rel, &theirs["is_rel"]);
            close("ISSUP", scores.is_sup, &theirs["is_sup"]);
            close("ISUSE", scores.is_use, &theirs["is_use"]);
            close("sequence", scores.sequence, &theirs["sequence"]);
            close("segment", scores.segment, &theirs["segment"]);
            compared += 1;
        }
    }
    fs::remove_dir_all(&folder).ok();
    compared
}

#[test]
fn short_form() {
    assert_eq!(agrees("short", "popqa.jsonl", smollm2()), 9);
}

#[test]
fn long_form() {
    assert_eq!(agrees("long", "asqa.json", tiny()), 45);
}
