//! A model that follows a script, and the world that it is asked in: passages, what is written after each, and a log.

#![allow(dead_code, reason = "each test uses its part")]

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    rc::Rc,
};

use selfrag::{
    Error, Result,
    engine::Engine,
    event::Event,
    generator::{Generator, SeqId, StepOutput, sampler::Sampling},
    platform::{LocalFuture, block_on},
    retriever::{Hit, Passage, Retriever},
    self_rag::{Answer, Config, LongAnswer, LongConfig, Question, Stop},
    tokenizer::{EncodeOptions, ReflectionTokens, Tokenizer},
};

pub(crate) const CONTEXT: usize = 4096;

pub(crate) fn tokenizer() -> (Tokenizer, ReflectionTokens) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/tokenizer/tiny.model");
    let mut tokenizer = Tokenizer::from_sentencepiece("tiny.model", &std::fs::read(path).unwrap()).unwrap();
    let reflection = ReflectionTokens::add(&mut tokenizer);
    (tokenizer, reflection)
}

/// What the model says about one next token: the token, its probability, and probabilities of watched tokens by id.
#[derive(Clone)]
pub(crate) struct Step {
    pub(crate) token: u32,
    pub(crate) prob: f32,
    pub(crate) watched: HashMap<u32, f32>,
}

/// What the tests look at afterwards.
#[derive(Default)]
pub(crate) struct Log {
    pub(crate) live: usize,
    /// What was searched for.
    pub(crate) searches: Vec<String>,
    /// Sequences in each pass.
    pub(crate) batches: Vec<usize>,
    /// How tokens were to be picked from which pass on.
    pub(crate) samplings: Vec<(usize, Sampling)>,
    /// All tokens of each sequence that was freed.
    pub(crate) freed: Vec<Vec<u32>>,
    /// Fail at this pass.
    pub(crate) fail_at: Option<usize>,
}

/// A sequence's tokens, the line it follows with the end of its marker, and how many of its steps were given.
pub(crate) type Reading = (Vec<u32>, Option<(usize, usize)>, usize);

/// A model that follows a script: by the text that a sequence holds, what comes next.
pub(crate) struct Script {
    /// (a marker in the sequence's decoded tokens, the steps); the marker that ends last counts, of those the longest.
    pub(crate) lines: Vec<(String, Vec<Step>)>,
    pub(crate) tokenizer: Tokenizer,
    pub(crate) watched: Vec<u32>,
    pub(crate) sequences: BTreeMap<SeqId, Reading>,
    pub(crate) next: u32,
    pub(crate) context: usize,
    pub(crate) log: Rc<RefCell<Log>>,
}

impl Generator for Script {
    fn context_length(&self) -> usize {
        self.context
    }

    fn watch(&mut self, tokens: &[u32]) {
        self.watched = tokens.to_vec();
    }

    fn set_sampling(&mut self, sampling: Sampling) -> Result<()> {
        let mut log = self.log.borrow_mut();
        let passes = log.batches.len();
        log.samplings.push((passes, sampling));
        Ok(())
    }

    fn start(&mut self) -> Result<SeqId> {
        self.next += 1;
        self.log.borrow_mut().live += 1;
        self.sequences.insert(SeqId(self.next), (Vec::new(), None, 0));
        Ok(SeqId(self.next))
    }

    fn fork(&mut self, seq: SeqId) -> Result<SeqId> {
        let held = self.sequences[&seq].clone();
        let fork = self.start()?;
        self.sequences.insert(fork, held);
        Ok(fork)
    }

    fn free(&mut self, seq: SeqId) {
        let (tokens, ..) = self.sequences.remove(&seq).expect("a sequence is freed once");
        self.log.borrow_mut().live -= 1;
        self.log.borrow_mut().freed.push(tokens);
    }

    fn forward<'a>(&'a mut self, batch: &'a [(SeqId, Vec<u32>)]) -> LocalFuture<'a, Result<Vec<StepOutput>>> {
        let mut log = self.log.borrow_mut();
        log.batches.push(batch.len());
        if log.fail_at == Some(log.batches.len()) {
            return Box::pin(std::future::ready(Err(Error::input("script", "pass", "told to fail"))));
        }
        let mut outputs = Vec::new();
        for (seq, tokens) in batch {
            let (held, followed, position) = self.sequences.get_mut(seq).expect("a live sequence");
            assert!(held.len() + tokens.len() <= self.context, "the context is respected");
            held.extend_from_slice(tokens);
            let text: String =
                held.iter().map(|&id| self.tokenizer.token(id).unwrap().replace('\u{2581}', " ")).collect();
            // With a space after every special token or without, a passage is the same.
            let text = text.replace("<paragraph> ", "<paragraph>");
            let ends = |marker: &str| text.rfind(marker).map(|at| (at + marker.len(), marker.len()));
            let fits = (0..self.lines.len()).filter_map(|line| Some((ends(&self.lines[line].0)?, line)));
            let ((end, _), line) = fits.max().unwrap_or_else(|| panic!("no line for {text}"));
            let (marker, steps) = &self.lines[line];
            if *followed != Some((line, end)) || tokens.len() > 1 {
                (*followed, *position) = (Some((line, end)), 0);
            }
            let step = steps.get(*position).unwrap_or_else(|| panic!("the line {marker} ended at {position}"));
            *position += 1;
            let logprob = |id: &u32| step.watched.get(id).map_or(-30.0, |prob| prob.ln());
            let watched = self.watched.iter().map(logprob).collect();
            outputs.push(StepOutput { token: step.token, logprob: step.prob.ln(), watched });
        }
        drop(log);
        Box::pin(std::future::ready(Ok(outputs)))
    }
}

pub(crate) struct Shelf(pub(crate) Vec<Passage>, pub(crate) Rc<RefCell<Log>>);

impl Retriever for Shelf {
    fn search<'a>(&'a mut self, questions: &'a [&'a str], n_docs: usize) -> LocalFuture<'a, Result<Vec<Vec<Hit>>>> {
        self.1.borrow_mut().searches.extend(questions.iter().map(|question| (*question).to_owned()));
        let hit = |passage: &Passage| Hit { passage: passage.clone(), score: Some(0.5) };
        let hits: Vec<Hit> = self.0.iter().take(n_docs).map(hit).collect();
        Box::pin(std::future::ready(Ok(vec![hits; questions.len()])))
    }
}

pub(crate) fn passage(title: &str) -> Passage {
    Passage { id: title.into(), title: title.into(), text: "text".into() }
}

/// Builds scripts.
pub(crate) struct World {
    pub(crate) tokenizer: Tokenizer,
    pub(crate) reflection: ReflectionTokens,
    pub(crate) lines: Vec<(String, Vec<Step>)>,
    pub(crate) passages: Vec<Passage>,
    pub(crate) context: usize,
    pub(crate) log: Rc<RefCell<Log>>,
}

impl World {
    /// A model that wants to retrieve with p(R) and p(NR), and has nothing to say yet.
    pub(crate) fn new(retrieval: f32, no_retrieval: f32) -> Self {
        let (tokenizer, reflection) = tokenizer();
        let watched = HashMap::from([(reflection.retrieval, retrieval), (reflection.no_retrieval, no_retrieval)]);
        let token = if retrieval > no_retrieval { reflection.retrieval } else { reflection.no_retrieval };
        let lines = vec![("### Response".to_owned(), vec![Step { token, prob: 0.9, watched }])];
        Self { tokenizer, reflection, lines, passages: Vec::new(), context: CONTEXT, log: Rc::default() }
    }

    pub(crate) fn words(&self, text: &str, prob: f32) -> Vec<Step> {
        let ids = self.tokenizer.encode(text, EncodeOptions::CONTINUE).unwrap();
        ids.into_iter().map(|token| Step { token, prob, watched: HashMap::new() }).collect()
    }

    pub(crate) fn end(&self, prob: f32) -> Step {
        Step { token: self.tokenizer.eos().unwrap(), prob, watched: HashMap::new() }
    }

    /// `[Relevant]text[Fully supported][Utility:5]</s>` with the given group probabilities; every token has probability 0.5.
    pub(crate) fn graded(&self, text: &str, relevant: f32, support: [f32; 3], utility: [f32; 5]) -> Vec<Step> {
        let r = self.reflection;
        let grades =
            |ids: &[u32], probs: &[f32]| ids.iter().copied().zip(probs.iter().copied()).collect::<HashMap<_, _>>();
        let best = |probs: &HashMap<u32, f32>| *probs.iter().max_by(|a, b| a.1.total_cmp(b.1)).unwrap().0;
        let step = |watched: HashMap<u32, f32>| Step { token: best(&watched), prob: 0.5, watched };
        let mut steps = vec![step(grades(&[r.irrelevant, r.relevant], &[1.0 - relevant, relevant]))];
        steps.extend(self.words(text, 0.5));
        steps.push(step(grades(&[r.fully, r.partially, r.no_support], &support)));
        steps.push(step(grades(&r.utility, &utility)));
        steps.push(self.end(0.5));
        steps
    }

    /// A passage titled `title` after which the model writes `steps`.
    pub(crate) fn shelve(&mut self, title: &str, steps: Vec<Step>) {
        self.passages.push(passage(title));
        self.lines.push((format!("<paragraph>{title}"), steps));
    }

    pub(crate) fn without(&mut self, steps: Vec<Step>) {
        self.lines.push(("[No Retrieval]".into(), steps));
    }

    pub(crate) fn engine(&self) -> Engine {
        let (tokenizer, _) = self::tokenizer();
        let script = Script {
            lines: self.lines.clone(),
            tokenizer: self::tokenizer().0,
            watched: Vec::new(),
            sequences: BTreeMap::new(),
            next: 0,
            context: self.context,
            log: self.log.clone(),
        };
        Engine::new(Box::new(script), tokenizer, Some(Box::new(Shelf(self.passages.clone(), self.log.clone()))))
            .unwrap()
    }

    pub(crate) fn ask(&self, config: &Config) -> (Answer, Vec<Event>) {
        let mut events = Vec::new();
        let question = Question::new("Q?");
        let answer = block_on(self.engine().ask(&question, config, &Stop::default(), &mut |event| events.push(event)));
        assert_eq!(self.log.borrow().live, 0, "every sequence is freed");
        (answer.unwrap(), events)
    }

    pub(crate) fn ask_long(&self, config: &LongConfig) -> (LongAnswer, Vec<Event>) {
        let (mut answers, events) =
            self.try_long(&[Question::new("Q?")], config, &Stop::default(), &mut |_| {}).unwrap();
        (answers.remove(0), events)
    }

    /// Asks in long form; whatever comes of it, every sequence is freed.
    pub(crate) fn try_long(
        &self,
        questions: &[Question],
        config: &LongConfig,
        stop: &Stop,
        look: &mut dyn FnMut(&Event),
    ) -> Result<(Vec<LongAnswer>, Vec<Event>)> {
        let mut events = Vec::new();
        let result = block_on(self.engine().ask_long_batch(questions, config, stop, &mut |_, event| {
            look(&event);
            events.push(event);
        }));
        assert_eq!(self.log.borrow().live, 0, "every sequence is freed");
        Ok((result?, events))
    }

    /// A token that is written with probability 0.5, with the probabilities of the retrieval group: No, Yes, Continue.
    pub(crate) fn boundary(&self, token: u32, [no, yes, more]: [f32; 3]) -> Step {
        let r = self.reflection;
        Step {
            token,
            prob: 0.5,
            watched: HashMap::from([(r.no_retrieval, no), (r.retrieval, yes), (r.continue_, more)]),
        }
    }

    /// `[Relevant]text[Fully supported]`, without a grade or an end.
    pub(crate) fn supported(&self, text: &str, relevant: f32, support: [f32; 3]) -> Vec<Step> {
        let mut steps = self.graded(text, relevant, support, [0.2; 5]);
        steps.truncate(steps.len() - 2);
        steps
    }
}
