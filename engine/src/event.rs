//! What the engine tells while it answers, so that a terminal or a page can show it as it happens.

use serde::{Deserialize, Serialize};

use crate::{
    critique::Scores,
    retriever::Hit,
    self_rag::{Answer, LongAnswer, long::Retrieve},
};

/// A candidate of a long answer that is about to be written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Planned {
    /// Its place in the tree; the candidate's number in the events to come.
    pub node: usize,
    /// The segment it continues; none: it begins the answer.
    pub parent: Option<usize>,
    /// What was decided before it.
    pub retrieve: Retrieve,
    /// The ratio that decided; none where nothing was asked.
    pub probability: Option<f32>,
    /// The passage it is written for.
    pub hit: Option<Hit>,
}

/// One step of an answer under way. Candidates are numbered in retrieval order, without retrieval there is candidate 0 only; those of
/// a long answer by their place in its tree.
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
    /// Long answers: the candidates of the next segment.
    Segments {
        /// Which segment, counted from 1.
        depth: usize,
        /// The candidates.
        segments: Vec<Planned>,
    },
    /// Long answers: the paths that are kept after a segment.
    Beam {
        /// Which segment, counted from 1.
        depth: usize,
        /// The paths' last nodes, best first.
        nodes: Vec<usize>,
    },
    /// The end of a long answer.
    LongAnswer {
        /// The answer with its tree.
        answer: Box<LongAnswer>,
    },
}
