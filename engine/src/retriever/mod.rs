//! The retriever: question in, passages out.

pub mod files;
pub mod flat;
pub mod hnsw;
pub mod manifest;
#[cfg(feature = "cli")]
pub mod passages;
pub mod vectors;

use serde::{Deserialize, Serialize};

use crate::{Result, platform::LocalFuture};

/// A retrievable piece of text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passage {
    /// Unique within its corpus.
    pub id: String,
    /// Title of the page it comes from; may be empty.
    pub title: String,
    /// The text itself.
    pub text: String,
}

/// A passage with the retriever's score.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hit {
    /// The passage.
    pub passage: Passage,
    /// Inner product of question and passage embeddings; none for passages that the user gave.
    pub score: Option<f32>,
}

/// Finds passages for questions.
pub trait Retriever {
    /// The best `n_docs` passages of each question, best first.
    fn search<'a>(&'a mut self, questions: &'a [&'a str], n_docs: usize) -> LocalFuture<'a, Result<Vec<Vec<Hit>>>>;
}
