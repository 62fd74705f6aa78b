//! Questions → answers in a journal. A run that was stopped, however, asks only what is missing.
//!
//! ```text
//! FILE            {"header"…}, then {"key", "job", "label" or "problem", "response", "item"} an answer, as soon as it is there
//! FILE.aside      the questions whose answers were malformed, or that were refused, each time, with the reasons and what was answered; made anew by each run
//! ```

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    answer,
    item::{Item, Job, Question},
    wording,
};
use crate::{
    Error, Result, data::write_whole, generator::server::Server, json_journal::JsonJournal,
    tokenizer::reflection::NAMES,
};

/// Requests given up one after the other that end a run: the server is gone.
const MOST_FAILURES: usize = 5;
/// Questions refused by a run that got no answer at all, which end it: the options are wrong.
const MOST_REFUSALS: usize = 50;

/// How the model is asked. The numbers' defaults are the paper's (GPT-4 with temperature 1, 200 tokens).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, clap::Args)]
pub struct Options {
    /// The model's name at the server.
    #[arg(long, value_name = "NAME")]
    pub model: String,
    /// Sampling temperature.
    #[arg(long, value_name = "T", default_value_t = 1.0)]
    pub temperature: f64,
    /// Longest answer in tokens.
    #[arg(long, alias = "max_tokens", value_name = "N", default_value_t = 200)]
    pub max_tokens: u32,
    /// Fields of the request's body to add or, as null, to take out: '{"max_tokens": null, "max_completion_tokens": 200}'.
    #[arg(long, value_name = "JSON", value_parser = object, default_value = "{}")]
    pub body: Map<String, Value>,
}

fn object(text: &str) -> std::result::Result<Map<String, Value>, String> {
    serde_json::from_str(text).map_err(|e| format!("a JSON object expected: {e}"))
}

impl Options {
    /// Refuses numbers that make no sense.
    pub fn check(&self) -> Result<()> {
        if !(0.0..=2.0).contains(&self.temperature) {
            return Err(Error::config("temperature", format!("{}, a number from 0 to 2 expected", self.temperature)));
        }
        match self.max_tokens {
            0 => Err(Error::config("max-tokens", "at least 1 expected")),
            _ => Ok(()),
        }
    }

    fn body(&self, question: &Question, attempt: u32) -> Value {
        let messages = wording::messages(question.job, &question.item, attempt);
        let mut body = json!({
            "model": self.model,
            "messages": messages,
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
        });
        let fields = body.as_object_mut().expect("it is an object");
        for (name, value) in &self.body {
            match value {
                Value::Null => fields.remove(name),
                value => fields.insert(name.clone(), value.clone()),
            };
        }
        body
    }
}

/// An answer as it stands in the journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The question's.
    pub key: String,
    /// What was asked for.
    pub job: Job,
    /// The label, as [`NAMES`] has it; none: the answer is malformed.
    pub label: Option<String>,
    /// Why it is malformed.
    pub problem: Option<String>,
    /// All that the server answered; null: it refused the question.
    pub response: Value,
    /// What was asked about.
    pub item: Item,
}

impl Record {
    /// A line of a journal.
    pub(super) fn parse(bytes: &[u8]) -> std::result::Result<Self, String> {
        let record: Self = serde_json::from_slice(bytes).map_err(|e| format!("an answer's record expected: {e}"))?;
        match &record.label {
            Some(label) if !record.job.labels().any(|place| NAMES[place] == label) => {
                Err(format!("{label:?} is no label of {}", record.job.name()))
            }
            _ => Ok(record),
        }
    }
}

/// First line of a journal.
#[derive(Debug, Serialize)]
struct Header<'a> {
    header: &'static str,
    #[serde(flatten)]
    options: &'a Options,
}

/// What is known of a question.
#[derive(Debug, Clone)]
enum State {
    Labelled,
    /// Malformed answers with their problems; a refusal is one without an answer.
    Malformed(Vec<(String, Value)>),
}

/// Labels that were asked for, on disk.
#[derive(Debug)]
pub struct Labels {
    path: PathBuf,
    journal: JsonJournal,
    states: HashMap<String, State>,
}

/// What a run came to; of all its questions, those answered before included.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// Questions that have a label.
    pub labelled: usize,
    /// Questions whose answers were malformed, or that were refused, each time.
    pub set_aside: usize,
    /// Requests that were given up in this run, by what was said; their questions are asked in the next.
    pub failed: BTreeMap<String, usize>,
    /// Requests that were refused in this run for what they ask, by what was said; they count as malformed answers do.
    pub refused: BTreeMap<String, usize>,
    /// Answers in this run, malformed ones included.
    pub answers: usize,
    /// Malformed answers in this run.
    pub malformed: usize,
    /// Tokens in this run, as the server counts them.
    pub tokens: [u64; 2],
}

impl Labels {
    /// Begins a file of labels, or takes one up that was asked for with the same options.
    pub fn open(path: &Path, options: &Options, overwrite: bool) -> Result<Self> {
        let (name, mut states) = (path.display().to_string(), HashMap::new());
        let header = Header { header: "selfrag data critic-labels", options };
        let journal = JsonJournal::open(path, &header, overwrite, &mut |line, bytes| {
            let record = Record::parse(bytes).map_err(|e| Error::input(&name, format!("line {line}"), e))?;
            note(&mut states, record);
            Ok(())
        })?;
        Ok(Self { path: path.to_owned(), journal, states })
    }

    /// Whether a question is still to be asked: it has no label, and not yet `reasks + 1` malformed answers.
    pub fn missing(&self, question: &Question, reasks: u32) -> bool {
        self.tries(question).is_some_and(|tries| tries <= reasks)
    }

    /// How many malformed answers there are; none: there is a label.
    fn tries(&self, question: &Question) -> Option<u32> {
        match self.states.get(&question.key) {
            None => Some(0),
            Some(State::Malformed(answers)) => Some(answers.len() as u32),
            Some(State::Labelled) => None,
        }
    }

    /// Asks what is missing; malformed answers and refusals are asked for again `reasks` times, after the other questions. `progress` is called for
    /// each answer. An error: the server is gone, or refuses everything; what was answered is kept.
    pub fn ask(
        &mut self,
        server: &Server,
        questions: &[Question],
        options: &Options,
        reasks: u32,
        progress: &mut dyn FnMut(),
    ) -> Result<Outcome> {
        const PATH: &str = "chat/completions";
        let (mut outcome, mut given_up, mut in_a_row) = (Outcome::default(), HashSet::new(), 0);
        let mut asked = Ok(());
        while asked.is_ok() {
            let wanted: Vec<(&Question, u32)> = questions
                .iter()
                .filter(|question| !given_up.contains(question.key.as_str()))
                .filter_map(|question| Some((question, self.tries(question).filter(|tries| *tries <= reasks)?)))
                .collect();
            if wanted.is_empty() {
                break;
            }
            let body = |at: usize| options.body(wanted[at].0, wanted[at].1);
            asked = server.each(PATH, wanted.len(), &body, &mut |at, answer| {
                let question = wanted[at].0;
                progress();
                match answer {
                    Ok(response) => {
                        in_a_row = 0;
                        self.record(question, response, &mut outcome)
                    }
                    // What this one asks is refused: too long, or a filter's. Others are not.
                    Err(failed) if matches!(failed.status, Some(400 | 413 | 422)) => {
                        *outcome.refused.entry(failed.problem.clone()).or_default() += 1;
                        self.note(question, Err(failed.problem.clone()), Value::Null)?;
                        let hopeless = outcome.answers == 0 && outcome.refused.values().sum::<usize>() >= MOST_REFUSALS;
                        if hopeless { Err(server.error(PATH, failed.problem)) } else { Ok(()) }
                    }
                    Err(failed) => {
                        given_up.insert(question.key.as_str());
                        in_a_row += 1;
                        let (file, place) = &question.place;
                        *outcome.failed.entry(failed.problem.clone()).or_default() += 1;
                        let hopeless = matches!(failed.status, Some(401 | 403 | 404)) || in_a_row >= MOST_FAILURES;
                        let problem = format!("{} ({file}: {place})", failed.problem);
                        if hopeless { Err(server.error(PATH, problem)) } else { Ok(()) }
                    }
                }
            });
        }
        self.journal.sync()?;
        for question in questions {
            match self.states.get(&question.key) {
                Some(State::Labelled) => outcome.labelled += 1,
                Some(State::Malformed(_)) if !self.missing(question, reasks) => outcome.set_aside += 1,
                _ => {}
            }
        }
        self.write_aside(questions, reasks)?;
        asked.map(|()| outcome)
    }

    fn record(&mut self, question: &Question, response: Value, outcome: &mut Outcome) -> Result<()> {
        let label = answer::content(&response).and_then(|answer| answer::label(question.job, answer));
        outcome.answers += 1;
        outcome.malformed += usize::from(label.is_err());
        for (sum, name) in outcome.tokens.iter_mut().zip(["prompt_tokens", "completion_tokens"]) {
            *sum = sum.saturating_add(response["usage"][name].as_u64().unwrap_or_default());
        }
        self.note(question, label, response)
    }

    /// Keeps a label, or why there is none.
    fn note(&mut self, question: &Question, label: std::result::Result<usize, String>, response: Value) -> Result<()> {
        let (label, problem) = match label {
            Ok(label) => (Some(NAMES[label].to_owned()), None),
            Err(problem) => (None, Some(problem)),
        };
        let (key, job, item) = (question.key.clone(), question.job, question.item.clone());
        let record = Record { key, job, label, problem, response, item };
        self.journal.append(&record)?;
        note(&mut self.states, record);
        Ok(())
    }

    fn write_aside(&self, questions: &[Question], reasks: u32) -> Result<()> {
        let mut text = String::new();
        for question in questions {
            let Some(State::Malformed(answers)) = self.states.get(&question.key) else { continue };
            if !self.missing(question, reasks) {
                let problems: Vec<&String> = answers.iter().map(|(problem, _)| problem).collect();
                let responses: Vec<&Value> = answers.iter().map(|(_, response)| response).collect();
                let (key, job, item, place) = (&question.key, question.job, &question.item, &question.place);
                let line = json!({"key": key, "job": job, "problems": problems, "responses": responses, "file": place.0,
                    "place": place.1, "item": item});
                text += &format!("{line}\n");
            }
        }
        write_whole(&aside(&self.path), text.as_bytes())
    }
}

/// Where the questions of a file of labels lie that were set aside.
pub fn aside(labels: &Path) -> PathBuf {
    let mut name = labels.as_os_str().to_owned();
    name.push(".aside");
    name.into()
}

fn note(states: &mut HashMap<String, State>, record: Record) {
    let state = states.entry(record.key).or_insert_with(|| State::Malformed(Vec::new()));
    match (state, record.label) {
        (state, Some(_)) => *state = State::Labelled,
        (State::Malformed(answers), None) => {
            answers.push((record.problem.unwrap_or_default(), record.response));
        }
        (State::Labelled, None) => {}
    }
}
