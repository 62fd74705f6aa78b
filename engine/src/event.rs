//! What the engine tells while it answers, so that a terminal or a page can show it as it happens.

use serde::{Deserialize, Serialize};

use crate::{critique::Scores, retriever::Hit, self_rag::Answer};

/// One step of an answer under way. Candidates are numbered in retrieval order; without retrieval there is candidate 0 only.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// Whether to retrieve, and why.
    Decision {
        /// p(`[Retrieval]`) / (p(`[Retrieval]`) + p(`[No Retrieval]`)); none where the mode decides alone.
        probability: Option<f32>,
        /// The threshold δ it was held against; none when the arg-max decides.
        threshold: Option<f32>,
        /// The outcome.
        retrieve: bool,
    },
    /// The passages that candidates are written for, in retrieval order.
    Passages {
        /// Passage and retriever's score.
        hits: Vec<Hit>,
    },
    /// A piece of a candidate's text, reflection tokens left out.
    Text {
        /// Which candidate.
        candidate: usize,
        /// To be appended to what came before.
        text: String,
    },
    /// A candidate's critique so far; later events replace earlier ones.
    Scores {
        /// Which candidate.
        candidate: usize,
        /// The values known so far.
        scores: Scores,
    },
    /// A candidate is complete.
    Finished {
        /// Which candidate.
        candidate: usize,
    },
    /// Something went less well than asked, and the answer goes on.
    Warning {
        /// What.
        message: String,
    },
    /// The end: the ranked answer.
    Answer {
        /// The answer with everything that led to it.
        answer: Answer,
    },
}
