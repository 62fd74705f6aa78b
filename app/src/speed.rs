//! A generator that counts what another one writes, for the speed that the page shows.

use std::{cell::Cell, rc::Rc};

use selfrag::{
    Result,
    generator::{Generator, SeqId, StepOutput},
    platform::{LocalFuture, now_ms},
};

use crate::protocol::Stats;

/// Tokens written one by one, and the time that took; reading prompts and passages is not counted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    n_tokens: Rc<Cell<usize>>,
    ms: Rc<Cell<f64>>,
}

impl Tally {
    /// Starts from nothing.
    pub(crate) fn reset(&self) {
        self.n_tokens.set(0);
        self.ms.set(0.0);
    }

    /// The speed so far.
    pub(crate) fn stats(&self) -> Stats {
        let (n_tokens, seconds) = (self.n_tokens.get(), self.ms.get() / 1e3);
        let tokens_per_second = if seconds > 0.0 { n_tokens as f64 / seconds } else { 0.0 };
        Stats { n_tokens, seconds, tokens_per_second, searched: None }
    }
}

/// The counting generator.
pub(crate) struct Counted<G> {
    pub(crate) inner: G,
    pub(crate) tally: Tally,
}

impl<G: Generator> Generator for Counted<G> {
    fn context_length(&self) -> usize {
        self.inner.context_length()
    }

    fn watch(&mut self, tokens: &[u32]) {
        self.inner.watch(tokens);
    }

    fn start(&mut self) -> Result<SeqId> {
        self.inner.start()
    }

    fn fork(&mut self, seq: SeqId) -> Result<SeqId> {
        self.inner.fork(seq)
    }

    fn free(&mut self, seq: SeqId) {
        self.inner.free(seq);
    }

    fn forward<'a>(&'a mut self, batch: &'a [(SeqId, Vec<u32>)]) -> LocalFuture<'a, Result<Vec<StepOutput>>> {
        Box::pin(async {
            let start = now_ms();
            let outputs = self.inner.forward(batch).await?;
            // One token each is decoding; more is a prompt or a passage being read.
            if batch.iter().all(|(_, tokens)| tokens.len() == 1) {
                self.tally.n_tokens.set(self.tally.n_tokens.get() + outputs.len());
                self.tally.ms.set(self.tally.ms.get() + now_ms() - start);
            }
            Ok(outputs)
        })
    }
}
