//! The generator: text in, segments out, with the log-probabilities that the critique reads.

pub mod kv_cache;
pub mod llama;
pub mod prompt;
#[cfg(feature = "cli")]
pub mod remote;
pub mod sampler;
#[cfg(feature = "cli")]
pub mod server;

use crate::{Error, Result, platform::LocalFuture};
use sampler::Sampling;

/// A sequence in the KV cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeqId(pub u32);

/// What one forward step says about one sequence's next token.
#[derive(Debug, Clone, PartialEq)]
pub struct StepOutput {
    /// The most likely token, or the one drawn where [`Generator::set_sampling`] says so.
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
    /// How the next tokens are picked from now on, greedily until this is called; the seed's draws begin anew.
    ///
    /// A generator that knows only the most likely token leaves this as it is.
    fn set_sampling(&mut self, sampling: Sampling) -> Result<()> {
        sampling.check()?;
        if sampling.is_greedy() {
            Ok(())
        } else {
            let problem =
                format!("{} found, but this generator only decodes greedily: 0 expected", sampling.temperature);
            Err(Error::config("temperature", problem))
        }
    }
    /// An empty sequence.
    fn start(&mut self) -> Result<SeqId>;
    /// A new sequence that begins with everything `seq` holds; the prefix is stored once.
    fn fork(&mut self, seq: SeqId) -> Result<SeqId>;
    /// Gives a sequence's memory back.
    fn free(&mut self, seq: SeqId);
    /// Appends tokens (at least one each) to the sequences, as one batch, and returns one output per entry: the next token's.
    fn forward<'a>(&'a mut self, batch: &'a [(SeqId, Vec<u32>)]) -> LocalFuture<'a, Result<Vec<StepOutput>>>;
}
