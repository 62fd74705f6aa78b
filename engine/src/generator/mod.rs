//! The generator: text in, segments out, with the log-probabilities that the critique reads.

pub mod kv_cache;
pub mod llama;
pub mod prompt;

use crate::{Result, platform::LocalFuture};

/// A sequence in the KV cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeqId(pub u32);

/// What one forward step says about one sequence's next token.
#[derive(Debug, Clone, PartialEq)]
pub struct StepOutput {
    /// The most likely token.
    pub token: u32,
    /// Its log-probability over the whole vocabulary (softmax, temperature 1).
    pub logprob: f32,
    /// Log-probabilities of the watched tokens, in the order given to [`Generator::watch`].
    pub watched: Vec<f32>,
}

/// What Self-RAG asks of a language model: sequences that share prefixes, and a few log-probabilities a step.
pub trait Generator {
    /// Longest sequence in tokens.
    fn context_length(&self) -> usize;
    /// The tokens whose log-probabilities every step reports.
    fn watch(&mut self, tokens: &[u32]);
    /// An empty sequence.
    fn start(&mut self) -> Result<SeqId>;
    /// A new sequence that begins with everything `seq` holds; the prefix is stored once.
    fn fork(&mut self, seq: SeqId) -> Result<SeqId>;
    /// Gives a sequence's memory back.
    fn free(&mut self, seq: SeqId);
    /// Appends tokens (at least one each) to the sequences, as one batch, and returns one output per entry: the next token's.
    fn forward<'a>(&'a mut self, batch: &'a [(SeqId, Vec<u32>)]) -> LocalFuture<'a, Result<Vec<StepOutput>>>;
}
