//! What is asked: rows of a file, one question for each row and job.

use std::{collections::HashSet, path::Path};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::wording;
use crate::{
    Error, Result,
    data::{critic::Judgement, draws::Draws, notes::Notes},
    json_rows::{Rows, kind},
};

/// What a label is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Job {
    /// Does the instruction need a passage?
    Retrieval,
    /// Does the next sentence, two labels.
    MultiRetrieval,
    /// Does the next sentence, three labels.
    MultiRetrievalThreeWay,
    /// Does the passage help?
    Relevance,
    /// Does it support the sentence?
    #[value(alias = "groundness", alias = "groudness")]
    Support,
    /// Is the answer useful?
    Utility,
}

impl Job {
    /// As it stands in files and counts.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Retrieval => "retrieval",
            Self::MultiRetrieval => "multi_retrieval",
            Self::MultiRetrievalThreeWay => "multi_retrieval_three_way",
            Self::Relevance => "relevance",
            Self::Support => "support",
            Self::Utility => "utility",
        }
    }
}

/// A row's fields, by their released names; what a row lacks is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Item {
    /// The row's id (`q_id` or `id`).
    pub q_id: String,
    /// Which sentence of the answer, counted from 0.
    pub sent_idx: Option<u64>,
    /// Which passage, counted from 0.
    pub p_idx: Option<u64>,
    /// What is asked (`instruction`, or `question`), its `input` after it.
    pub instruction: String,
    /// What was written before the sentence.
    pub preceding_sentences: String,
    /// The passage, its title on the first line.
    pub evidence: String,
    /// The sentence.
    pub target_output: String,
    /// The whole answer.
    pub output: String,
}

impl Item {
    /// A row's fields, or what is wrong with them.
    pub fn parse(row: &Map<String, Value>) -> std::result::Result<Self, String> {
        let text = |names: &[&str]| {
            let found = names.iter().find_map(|name| Some((name, row.get(*name).filter(|value| !value.is_null())?)));
            match found {
                None => Ok(String::new()),
                Some((_, Value::String(text))) => Ok(text.trim().to_owned()),
                Some((_, Value::Number(number))) => Ok(number.to_string()),
                Some((name, other)) => Err(format!("{name}: {}, a text expected", kind(other))),
            }
        };
        let number = |names: &[&str]| match names.iter().find_map(|name| Some((name, row.get(*name)?))) {
            None | Some((_, Value::Null)) => Ok(None),
            Some((name, value)) => {
                value.as_u64().map(Some).ok_or_else(|| format!("{name}: {}, a number from 0 expected", kind(value)))
            }
        };
        let (instruction, input) = (text(&["instruction", "question"])?, text(&["input"])?);
        Ok(Self {
            q_id: text(&["q_id", "id"])?,
            sent_idx: number(&["sent_idx", "sent_id"])?,
            p_idx: number(&["p_idx", "p_id"])?,
            instruction: if input.is_empty() { instruction } else { format!("{instruction}\n{input}") },
            preceding_sentences: text(&["preceding_sentences"])?,
            evidence: text(&["evidence"])?,
            target_output: text(&["target_output"])?,
            output: text(&["output"])?,
        })
    }

    /// What a job judges of it, or the field that is missing.
    pub fn judgement(&self, job: Job) -> std::result::Result<Judgement<'_>, &'static str> {
        let field = |name: &'static str, value: &str| if value.is_empty() { Err(name) } else { Ok(()) };
        field("instruction", &self.instruction)?;
        let (instruction, preceding) = (self.instruction.as_str(), self.preceding_sentences.as_str());
        let (evidence, output) = (self.evidence.as_str(), self.target_output.as_str());
        if matches!(job, Job::MultiRetrieval | Job::MultiRetrievalThreeWay | Job::Relevance | Job::Support) {
            field("evidence", evidence)?;
        }
        if matches!(job, Job::MultiRetrieval | Job::MultiRetrievalThreeWay | Job::Support) {
            field("target_output", output)?;
        }
        Ok(match job {
            Job::Retrieval => Judgement::Retrieval { instruction },
            Job::MultiRetrieval => {
                Judgement::NextRetrieval { instruction, preceding, evidence, output, three_way: false }
            }
            Job::MultiRetrievalThreeWay => {
                Judgement::NextRetrieval { instruction, preceding, evidence, output, three_way: true }
            }
            Job::Relevance => Judgement::Relevance { instruction, evidence },
            Job::Support => Judgement::Support { instruction, preceding, evidence, output },
            Job::Utility => {
                field("output", &self.output)?;
                Judgement::Utility { instruction, output: &self.output }
            }
        })
    }
}

/// A question for the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// What for.
    pub job: Job,
    /// About what.
    pub item: Item,
    /// SHA-256 of job and messages: the same question has the same key in every file and run.
    pub key: String,
    /// File and line, for messages.
    pub place: (String, String),
}

/// The questions of some files, each once; with `sample` so many of each job, drawn by `seed`: a larger sample has the smaller one in it.
pub fn questions(
    files: &[impl AsRef<Path>],
    jobs: &[Job],
    sample: Option<usize>,
    seed: u64,
    notes: &mut Notes,
) -> Result<Vec<Question>> {
    let (mut questions, mut seen) = (Vec::new(), HashSet::new());
    for path in files {
        let rows = Rows::open(path.as_ref())?;
        if let Some(error) = rows.broken() {
            return Err(error);
        }
        for index in 0..rows.len() {
            let place = (rows.name().to_owned(), format!("line {}", rows.line(index)));
            let item = match rows.object(index) {
                Ok(row) => Item::parse(&row).map_err(|problem| Error::input(&place.0, &place.1, problem)),
                Err(error) => Err(error),
            };
            let item = match item {
                Ok(item) => item,
                Err(error) => {
                    notes.problems.push(("unusable row", error));
                    continue;
                }
            };
            for &job in jobs {
                if let Some(reason) = not_asked(job, &item) {
                    notes.left_out(reason);
                    continue;
                }
                if let Err(field) = item.judgement(job) {
                    let problem = format!("{field}: missing or empty, a text expected for {}", job.name());
                    notes.problem("row without a field of its job", &place.0, &place.1, problem);
                    continue;
                }
                let key = key(job, &item);
                match seen.insert(key.clone()) {
                    true => questions.push(Question { job, item: item.clone(), key, place: place.clone() }),
                    false => notes.left_out("questions: asked already"),
                }
            }
        }
    }
    if let Some(sample) = sample {
        let lot = |question: &Question| Draws::new(seed, &question.key, "sample").unit();
        for &job in jobs {
            let mut lots: Vec<f64> = questions.iter().filter(|question| question.job == job).map(lot).collect();
            if lots.len() > sample {
                lots.sort_by(f64::total_cmp);
                let before = questions.len();
                questions.retain(|question| question.job != job || lot(question) < lots[sample]);
                (questions.len()..before).for_each(|_| notes.left_out("questions: not in the sample"));
            }
        }
    }
    Ok(questions)
}

/// What the released scripts do not ask either.
fn not_asked(job: Job, item: &Item) -> Option<&'static str> {
    const REFUSAL: &str = "As a language model, I cannot";
    let first = item.sent_idx == Some(0);
    match job {
        Job::MultiRetrieval | Job::MultiRetrievalThreeWay if first => {
            Some("first sentences, whose retrieval the instruction decides")
        }
        Job::Relevance | Job::Support if [&item.output, &item.target_output].iter().any(|t| t.contains(REFUSAL)) => {
            Some("answers that refuse")
        }
        _ => None,
    }
}

fn key(job: Job, item: &Item) -> String {
    let messages = wording::messages(job, item, 0);
    let hash = Sha256::digest(format!("{}\0{}", job.name(), serde_json::to_string(&messages).expect("it is JSON")));
    hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}
