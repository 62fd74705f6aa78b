//! The loop: decide, write a candidate per passage, rank.

use serde::{Deserialize, Serialize};

use crate::{critique::Scores, retriever::Hit};

/// What the model wrote for one passage (or for none).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// The passage it was written for.
    pub hit: Option<Hit>,
    /// The text, reflection tokens left out.
    pub text: String,
    /// Every token id, reflection tokens and end included.
    pub tokens: Vec<u32>,
    /// The critique.
    pub scores: Scores,
    /// Whether the token limit ended it rather than the model.
    pub truncated: bool,
}

/// The result of one question.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The question.
    pub question: String,
    /// The chosen candidate's text, cleaned.
    pub text: String,
    /// p(Retrieve), where the mode asked for it.
    pub probability: Option<f32>,
    /// Whether passages were retrieved.
    pub retrieved: bool,
    /// All candidates in retrieval order.
    pub candidates: Vec<Candidate>,
    /// The chosen candidate; its hit is the citation.
    pub best: usize,
}
