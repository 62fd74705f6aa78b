//! The sequences of a batch: all are given back however the batch ends.

use super::{
    Stop,
    writing::{Rules, Writing},
};
use crate::{
    Result,
    event::Event,
    generator::{Generator, SeqId, StepOutput},
};

/// A generator and the sequences that are in use; frees what is left of them when it goes.
pub(super) struct Sequences<'a> {
    pub(super) generator: &'a mut dyn Generator,
    live: Vec<SeqId>,
}

impl<'a> Sequences<'a> {
    pub(super) fn new(generator: &'a mut dyn Generator) -> Self {
        Self { generator, live: Vec::new() }
    }

    pub(super) fn start(&mut self) -> Result<SeqId> {
        let seq = self.generator.start()?;
        self.live.push(seq);
        Ok(seq)
    }

    pub(super) fn fork(&mut self, seq: SeqId) -> Result<SeqId> {
        let fork = self.generator.fork(seq)?;
        self.live.push(fork);
        Ok(fork)
    }

    pub(super) fn free(&mut self, seq: SeqId) {
        self.live.retain(|&live| live != seq);
        self.generator.free(seq);
    }

    /// One pass of the model, unless the caller asked to stop.
    pub(super) async fn forward(&mut self, batch: &[(SeqId, Vec<u32>)], stop: &Stop) -> Result<Vec<StepOutput>> {
        stop.check()?;
        let steps = self.generator.forward(batch).await?;
        assert_eq!(steps.len(), batch.len(), "the generator gives one output for each sequence");
        Ok(steps)
    }

    /// One pass for all unfinished candidates; whether there were any.
    pub(super) async fn step(
        &mut self,
        writings: &mut [Writing],
        rules: &Rules<'_>,
        stop: &Stop,
        on_event: &mut dyn FnMut(usize, Event),
    ) -> Result<bool> {
        let mut open: Vec<&mut Writing> = writings.iter_mut().filter(|writing| !writing.finished).collect();
        if open.is_empty() {
            return Ok(false);
        }
        let batch: Vec<(SeqId, Vec<u32>)> = open.iter_mut().map(|w| (w.seq, std::mem::take(&mut w.input))).collect();
        let steps = self.forward(&batch, stop).await?;
        for (writing, step) in open.into_iter().zip(&steps) {
            let question = writing.question;
            writing.read(step, rules, &mut |event| on_event(question, event));
        }
        Ok(true)
    }
}

impl Drop for Sequences<'_> {
    fn drop(&mut self) {
        for seq in std::mem::take(&mut self.live) {
            self.generator.free(seq);
        }
    }
}
