//! The retriever: question in, passages out.
//!
//! [`encoder`] turns texts into vectors (Contriever, MiniLM: BERT with mean pooling); [`store`] holds passages and their vectors;
//! [`flat_gpu`] (natively [`flat_stream`], where its memory is short), [`flat`] and [`hnsw`] find the nearest; [`index`] puts them together. [`clusters`] does without
//! loading a store; [`open`] takes either. Natively a collection on a Milvus server ([`milvus`]) is searched too. [`beside`] searches a user's [`documents`] with or without a store. Similarity is the inner product.

pub mod beside;
#[cfg(feature = "cli")]
pub mod build;
pub mod clusters;
pub mod documents;
#[cfg(feature = "cli")]
pub mod embeddings;
pub mod encoder;
pub mod files;
pub mod flat;
pub mod flat_gpu;
#[cfg(feature = "cli")]
pub mod flat_stream;
pub mod hnsw;
pub mod index;
pub mod manifest;
#[cfg(feature = "cli")]
pub mod milvus;
pub mod open;
#[cfg(feature = "cli")]
pub mod passages;
pub mod store;
pub mod text;
pub mod vectors;
#[cfg(feature = "cli")]
pub mod verify;

use serde::{Deserialize, Serialize};

use crate::{Result, platform::LocalFuture};
use manifest::EncoderInfo;

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

    /// The encoder, with what texts are prepared by; none where there is no encoder to lend.
    fn encoder(&mut self) -> Option<(&mut dyn Embedder, EncoderInfo)> {
        None
    }

    /// What the last search took and how exact it is, where that is not plain: for people.
    fn told(&self) -> Option<String> {
        None
    }

    /// What is streamed from host memory for each search, and what that cost so far; none where nothing is.
    #[cfg(feature = "cli")]
    fn streaming(&self) -> Option<flat_stream::Streaming> {
        None
    }

    /// What tells its passages from others where the place does not; none where they are files.
    #[cfg(feature = "cli")]
    fn identity(&self) -> Option<String> {
        None
    }
}

/// An open store with its encoder: what is searched by vectors.
pub trait Corpus {
    /// The encoder, with what the store says about it: texts are prepared for this store's vectors.
    fn encoder(&mut self) -> (&mut dyn Embedder, EncoderInfo);

    /// The `n_docs` passages with the largest inner products, best first, of each query.
    fn nearest<'a>(&'a mut self, queries: &'a [Vec<f32>], n_docs: usize) -> LocalFuture<'a, Result<Vec<Vec<Hit>>>>;

    /// What the last search took and how exact it is, where that is not plain: for people.
    fn told(&self) -> Option<String> {
        None
    }
}

/// The questions' vectors, for searching `corpus` and all that is embedded alike.
async fn embed_questions(corpus: &mut dyn Corpus, questions: &[&str]) -> Result<Vec<Vec<f32>>> {
    let (embedder, made_with) = corpus.encoder();
    let text = |question: &&str| made_with.query_prefix.clone() + &made_with.text.question(question);
    let texts: Vec<String> = questions.iter().map(text).collect();
    embedder.embed(&texts).await
}

/// Turns texts into vectors.
pub trait Embedder {
    /// Values of a vector.
    fn dim(&self) -> usize;
    /// What a store made with it says about it.
    fn info(&self) -> EncoderInfo;
    /// Texts are cut at `most` tokens from now on, at least 2, if the model does not cut them earlier.
    fn limit_tokens(&mut self, most: usize);
    /// One vector a text.
    fn embed<'a>(&'a mut self, texts: &'a [String]) -> LocalFuture<'a, Result<Vec<Vec<f32>>>>;
}

/// What of a passage is embedded where nothing else is asked for: title and text.
pub fn passage_text(passage: &Passage) -> String {
    text::TextOptions::default().passage(passage)
}
