//! The loop: decide, write a candidate per passage, rank ([`short`]); or a tree of them, segment after segment ([`long`]).
//! [`rerank`] weighs what was written anew; [`settings`] are what a user sets, [`export`] what is taken away.

pub mod config;
pub mod decide;
pub mod export;
pub mod long;
pub mod plain;
pub mod rank;
pub mod relevance;
pub mod rerank;
mod sequences;
pub mod settings;
pub mod short;
mod writing;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use serde::{Deserialize, Serialize};

pub use self::{
    config::{Config, DecisionRule, Mode, Task},
    long::{LongAnswer, LongConfig, LongForm},
    relevance::Relevance,
    settings::{Form, Settings},
    short::{Passages, Question, ShortForm},
};
use crate::{
    critique::{Evidence, Scores},
    retriever::Hit,
};

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
    /// What the critique was computed from: enough to weight it anew.
    #[serde(default)]
    pub evidence: Evidence,
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

/// Asks a running loop to stop; clones share the flag. The loop looks before every pass of the model.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Stops the loop at its next step.
    pub fn stop(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it was asked to stop.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// An error if it was.
    pub fn check(&self) -> crate::Result<()> {
        if self.is_set() { Err(crate::Error::Stopped) } else { Ok(()) }
    }
}
