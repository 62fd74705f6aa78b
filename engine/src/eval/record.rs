//! What is kept of a question: enough to score, explain and re-rank it without the model.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{prompts::Baseline, task::Task};
use crate::{
    retriever::Passage,
    self_rag::{Answer, Config, LongAnswer, LongConfig},
};

/// Metrics by name.
pub type Metrics = BTreeMap<String, f64>;

/// How questions are answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Self-RAG's short form.
    Short(Config),
    /// Self-RAG's long form.
    Long(LongConfig),
    /// A plain prompt; of the settings `n_docs`, `max_new_tokens` and `sampling` count.
    Baseline(Baseline, Config),
}

impl Method {
    /// The settings that all methods share.
    pub fn base(&self) -> &Config {
        match self {
            Self::Short(config) | Self::Baseline(_, config) => config,
            Self::Long(config) => &config.base,
        }
    }
}

/// The first line of a journal: everything that a record depends on. A run is only taken up again if it is the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// Version of the format.
    pub selfrag_eval: u32,
    /// The task.
    pub task: Task,
    /// How questions are answered.
    pub method: Method,
    /// Whether rows are read as the released code reads them.
    pub compat_rows: bool,
    /// The input file's name.
    pub input: String,
    /// SHA-256 of its content.
    pub sha256: String,
    /// Its rows.
    pub rows: usize,
    /// This shard and how many there are.
    pub shard: (usize, usize),
    /// Rows of a batch: a GPU's sums may differ in their last digits with the batch's size.
    pub batch: usize,
    /// What generates: the model's file, or the server with its model.
    pub generator: String,
    /// What is searched for passages that the rows lack.
    pub index: Option<String>,
    /// Whether it is searched for all rows.
    pub search: bool,
}

/// The format's version.
pub const VERSION: u32 = 1;

/// What was written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Written {
    /// With all candidates.
    Short(Answer),
    /// With its tree.
    Long(Box<LongAnswer>),
    /// A baseline's answer.
    Plain {
        /// As the model wrote it.
        text: String,
        /// Its tokens.
        tokens: Vec<u32>,
        /// Whether the token limit ended it.
        truncated: bool,
    },
}

/// What became of a row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was answered.
    Answered {
        /// The answer, cleaned: what short tasks are scored by.
        prediction: String,
        /// The answer with its citations, in ALCE's form (long form).
        output: Option<String>,
        /// The passages that `output` cites.
        cited: Vec<Passage>,
        /// Its scores.
        metrics: Metrics,
        /// Whether passages were used.
        retrieved: bool,
        /// What was written.
        written: Written,
    },
    /// The model could not answer it.
    Failed(String),
    /// The row could not be read.
    Unusable(String),
}

/// A row and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Place in the input.
    pub index: usize,
    /// Line in the input.
    pub line: usize,
    /// The question alone.
    pub question: String,
    /// As the model was asked.
    pub prompt: String,
    /// The right answers.
    pub golds: Vec<String>,
    /// The rest of the row, passages left out.
    pub item: Map<String, Value>,
    /// What became of it.
    pub outcome: Outcome,
}

impl Record {
    /// Its metrics, if it was answered.
    pub fn metrics(&self) -> Option<&Metrics> {
        match &self.outcome {
            Outcome::Answered { metrics, .. } => Some(metrics),
            _ => None,
        }
    }
}
