//! Every step of the model, kept so that the algorithms can be replayed without it (`tests/replay/replay.py`).
//!
//! JSON lines, compressed where the name ends in .gz. The first says what the ids mean; then one a batch:
//!
//! ```text
//! {"kind": "model", "reflection": {…}, "watched": [13 ids], "stops": […], "strips_first_space": …, "header": {…}}
//! {"kind": "batch",
//!  "sequences": [{"fork": [sequence, length] | null, "steps": [{"in": [ids], "token", "logprob", "watched": [13]}]}],
//!  "searches":  [{"query", "passages": [{"id", "tokens"}]}],
//!  "questions": [{"index", "query", "prompt": [ids], "passages": [{"id", "tokens"}] | null}],
//!  "pieces":    {id: the token's bytes in hexadecimal}}
//! ```
//!
//! A sequence begins with the first `length` tokens of the one it was forked from.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, HashMap},
    fs::File,
    io::{BufWriter, Write},
    path::Path,
    rc::Rc,
};

use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};

use super::{
    evaluate::{Plan, question},
    record::Header,
    rows::Row,
};
use crate::{
    Error, Result,
    engine::Engine,
    generator::{Generator, SeqId, StepOutput, prompt, sampler::Sampling},
    platform::LocalFuture,
    retriever::{Hit, Passage, Retriever},
    self_rag::Passages,
    tokenizer::SegmentPrefix,
};

/// What was seen since the last batch.
#[derive(Debug, Default)]
struct Tape {
    sequences: Vec<Sequence>,
    /// Where the live sequences are in the list.
    places: HashMap<SeqId, usize>,
    searches: Vec<(String, Vec<Hit>)>,
}

#[derive(Debug, Default)]
struct Sequence {
    fork: Option<(usize, usize)>,
    length: usize,
    steps: Vec<(Vec<u32>, StepOutput)>,
}

/// Writes what a watched engine does.
pub struct Recorder {
    name: String,
    file: BufWriter<Box<dyn Write>>,
    tape: Rc<RefCell<Tape>>,
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Recorder({})", self.name)
    }
}

impl Recorder {
    /// Begins a recording and returns the engine to use with it.
    pub fn start(path: &Path, engine: Engine, header: &Header) -> Result<(Self, Engine)> {
        let name = path.display().to_string();
        let file = File::create(path).map_err(|e| Error::io(&name, e))?;
        // The encoder ends its stream when it is dropped.
        let file: Box<dyn Write> =
            if name.ends_with(".gz") { Box::new(GzEncoder::new(file, Compression::default())) } else { Box::new(file) };
        let file = BufWriter::new(file);
        let tape = Rc::new(RefCell::new(Tape::default()));
        let (for_generator, for_retriever) = (tape.clone(), tape.clone());
        let engine = engine.wrap(
            |inner| Box::new(Watched { inner, tape: for_generator }),
            |inner| Box::new(WatchedRetriever { inner, tape: for_retriever }),
        );
        let mut recorder = Self { name, file, tape };
        let reflection = engine.reflection();
        recorder.write(&json!({
            "kind": "model",
            "reflection": reflection,
            "watched": reflection.watched(),
            "stops": engine.tokenizer().stop_tokens(),
            "strips_first_space": engine.tokenizer().strips_first_space(),
            "header": header,
        }))?;
        Ok((recorder, engine))
    }

    /// Writes what was seen for a batch, with what its questions are made of.
    pub fn keep(&mut self, engine: &Engine, plan: &Plan<'_>, rows: &[&Row]) -> Result<()> {
        let tape = std::mem::take(&mut *self.tape.borrow_mut());
        let prefix = plan.method.base().segment_prefix;
        let passages = |all: &mut dyn Iterator<Item = &Passage>| -> Result<Vec<Value>> {
            all.map(|passage| passage_tokens(engine, passage, prefix)).collect()
        };
        let mut questions = Vec::new();
        for row in rows {
            let asked = question(plan, row);
            let tokens = prompt::prompt(engine.tokenizer(), &asked.text)?;
            let own = match &asked.passages {
                Passages::Given(own) => Some(passages(&mut own.iter())?),
                Passages::Retrieved => None,
            };
            questions.push(json!({"index": row.index, "query": asked.query(), "prompt": tokens, "passages": own}));
        }
        let mut searches = Vec::new();
        for (query, hits) in &tape.searches {
            let found = passages(&mut hits.iter().map(|hit| &hit.passage))?;
            searches.push(json!({"query": query, "passages": found}));
        }
        let ids: BTreeSet<u32> = tape.sequences.iter().flat_map(|s| &s.steps).map(|(_, step)| step.token).collect();
        let hex = |bytes: Vec<u8>| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let pieces: BTreeMap<String, String> =
            ids.into_iter().filter_map(|id| Some((id.to_string(), hex(engine.tokenizer().token_bytes(id)?)))).collect();
        let sequences: Vec<Value> = tape.sequences.iter().map(sequence).collect();
        self.write(&json!({
            "kind": "batch",
            "sequences": sequences,
            "searches": searches,
            "questions": questions,
            "pieces": pieces,
        }))
    }

    fn write(&mut self, line: &Value) -> Result<()> {
        let written = writeln!(self.file, "{line}").and_then(|()| self.file.flush());
        written.map_err(|e| Error::io(&self.name, e))
    }
}

fn passage_tokens(engine: &Engine, passage: &Passage, prefix: SegmentPrefix) -> Result<Value> {
    let made = prompt::passage(engine.tokenizer(), engine.reflection(), passage, prefix, usize::MAX)?;
    Ok(json!({"id": passage.id, "tokens": made.tokens}))
}

fn sequence(sequence: &Sequence) -> Value {
    let step = |(input, step): &(Vec<u32>, StepOutput)| json!({"in": input, "token": step.token, "logprob": step.logprob, "watched": step.watched});
    json!({"fork": sequence.fork, "steps": sequence.steps.iter().map(step).collect::<Vec<_>>()})
}

struct Watched {
    inner: Box<dyn Generator>,
    tape: Rc<RefCell<Tape>>,
}

impl Tape {
    fn begin(&mut self, seq: SeqId, fork: Option<SeqId>) {
        let fork = fork.and_then(|of| self.places.get(&of)).map(|&at| (at, self.sequences[at].length));
        let length = fork.map_or(0, |(_, length)| length);
        self.places.insert(seq, self.sequences.len());
        self.sequences.push(Sequence { fork, length, steps: Vec::new() });
    }
}

impl Generator for Watched {
    fn context_length(&self) -> usize {
        self.inner.context_length()
    }

    fn watch(&mut self, tokens: &[u32]) {
        self.inner.watch(tokens);
    }

    fn set_sampling(&mut self, sampling: Sampling) -> Result<()> {
        self.inner.set_sampling(sampling)
    }

    fn start(&mut self) -> Result<SeqId> {
        let seq = self.inner.start()?;
        self.tape.borrow_mut().begin(seq, None);
        Ok(seq)
    }

    fn fork(&mut self, seq: SeqId) -> Result<SeqId> {
        let fork = self.inner.fork(seq)?;
        self.tape.borrow_mut().begin(fork, Some(seq));
        Ok(fork)
    }

    fn free(&mut self, seq: SeqId) {
        self.tape.borrow_mut().places.remove(&seq);
        self.inner.free(seq);
    }

    fn forward<'a>(&'a mut self, batch: &'a [(SeqId, Vec<u32>)]) -> LocalFuture<'a, Result<Vec<StepOutput>>> {
        Box::pin(async move {
            let steps = self.inner.forward(batch).await?;
            let mut tape = self.tape.borrow_mut();
            for ((seq, input), step) in batch.iter().zip(&steps) {
                if let Some(&at) = tape.places.get(seq) {
                    let sequence = &mut tape.sequences[at];
                    sequence.length += input.len();
                    sequence.steps.push((input.clone(), step.clone()));
                }
            }
            Ok(steps)
        })
    }
}

struct WatchedRetriever {
    inner: Box<dyn Retriever>,
    tape: Rc<RefCell<Tape>>,
}

impl Retriever for WatchedRetriever {
    fn search<'a>(&'a mut self, questions: &'a [&'a str], n_docs: usize) -> LocalFuture<'a, Result<Vec<Vec<Hit>>>> {
        Box::pin(async move {
            let found = self.inner.search(questions, n_docs).await?;
            let seen = questions.iter().zip(&found).map(|(question, hits)| ((*question).to_owned(), hits.clone()));
            self.tape.borrow_mut().searches.extend(seen);
            Ok(found)
        })
    }
}
