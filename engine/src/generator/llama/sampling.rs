//! Drawing tokens instead of taking the most likely: the pass's logits come to the CPU.

use super::Llama;
use crate::{
    Result,
    generator::{SeqId, StepOutput, sampler::Drawn},
};

impl Llama {
    /// Where sampling is on, puts drawn tokens in place of the most likely ones. `seqs` are the sequences of the outputs, which are the
    /// first rows of the logits. Greedy decoding returns at once and reads nothing.
    pub(super) async fn draw(&mut self, seqs: impl Iterator<Item = SeqId>, outputs: &mut [StepOutput]) -> Result<()> {
        let Some(sampler) = &mut self.sampler else { return Ok(()) };
        let logits = self.gpu.download(&self.scratch.logits, outputs.len()).await?;
        for ((seq, row), output) in seqs.zip(logits.chunks(self.config.vocabulary)).zip(outputs) {
            let Drawn { token, logprob } = sampler.draw(seq, row)?;
            (output.token, output.logprob) = (token, logprob);
        }
        Ok(())
    }
}
