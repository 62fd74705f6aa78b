//! Floating-point operations that a step needs: what MFU (model FLOPs utilisation, PaLM, arXiv 2204.02311, appendix B) compares with a device's peak.
//!
//! A product with a matrix costs two operations a value and token forward; backward two for the gradient of its input, and two more for its own
//! where it is trained. So a frozen value costs 4 and a trained one 6; LoRA's values are counted beside the frozen ones. Attention costs
//! 4 · q operations a layer for each pair of a position and one that it looks at, and twice as many backward (q: heads times their size).
//! Left out: what is not needed for the result (recomputation of segments, padding, masked halves of scores, logits of positions that do
//! not count) and what is small (norms, softmax, embedding, optimizer).

use super::lora::Layout;
use crate::generator::llama::LlamaConfig;

/// Operations by what they are needed for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Flops {
    /// Of a token, attention and head left out.
    pub per_token: f64,
    /// Of a pair of positions of which one looks at the other.
    pub per_pair: f64,
    /// Of a position whose next token counts: the head.
    pub per_trained: f64,
}

impl Flops {
    /// Of a model with LoRA.
    pub fn of_lora(config: &LlamaConfig, layout: &Layout) -> Self {
        let vocabulary = config.vocabulary.max(layout.rows.last().map_or(0, |&last| last as usize + 1));
        let trained_rows = (layout.rows.len() * config.hidden) as f64;
        Self {
            per_token: 4.0 * projections(config) + 6.0 * layout.n_additions() as f64,
            per_pair: per_pair(config),
            per_trained: 4.0 * (vocabulary * config.hidden) as f64 + 2.0 * trained_rows,
        }
    }

    /// Of full fine-tuning, with so many tokens in the vocabulary.
    pub fn of_whole(config: &LlamaConfig, vocabulary: usize) -> Self {
        Self {
            per_token: 6.0 * projections(config),
            per_pair: per_pair(config),
            per_trained: 6.0 * (vocabulary * config.hidden) as f64,
        }
    }

    /// Of a micro-batch's rows: lengths in tokens, and positions that count.
    pub fn of(&self, lengths: impl Iterator<Item = usize>, trained: usize) -> f64 {
        let row = |n: usize| self.per_token * n as f64 + self.per_pair * (n * (n + 1) / 2) as f64;
        lengths.map(row).sum::<f64>() + self.per_trained * trained as f64
    }
}

/// Values of all blocks' matrices.
fn projections(config: &LlamaConfig) -> f64 {
    let kv = config.heads.kv_heads * config.heads.head_dim;
    let block = 2 * config.hidden * (config.q() + kv) + 3 * config.hidden * config.feed_forward;
    (config.layers * block) as f64
}

fn per_pair(config: &LlamaConfig) -> f64 {
    (12 * config.layers * config.q()) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        bench::{Geometry, RandomLlama},
        train::lora::LoraConfig,
        weights::DType,
    };

    #[test]
    fn operations_of_a_known_model() {
        let geometry = Geometry::named("llama2-7b").unwrap();
        let config = LlamaConfig::read(&RandomLlama::new(geometry, DType::F16)).unwrap();
        let lora = LoraConfig { rank: 8, ..LoraConfig::default() };
        let layout = Layout::new(&config, &lora, (32000..32016).collect(), false);
        let flops = Flops::of_lora(&config, &layout);
        // 32 · (4 · 4096² + 3 · 4096 · 11008) frozen values; 8 · (4 · 8192 + 3 · 15104) of LoRA in each block.
        let (frozen, lora) = (6_476_005_376.0, 32.0 * 8.0 * (4.0 * 8192.0 + 3.0 * 15104.0));
        assert_eq!(flops.per_token, 4.0 * frozen + 6.0 * lora);
        assert_eq!(flops.per_pair, 12.0 * 32.0 * 4096.0);
        assert_eq!(flops.per_trained, 4.0 * 32016.0 * 4096.0 + 2.0 * 16.0 * 4096.0);
        let whole = Flops::of_whole(&config, 32016);
        assert_eq!((whole.per_token, whole.per_trained), (6.0 * frozen, 6.0 * 32016.0 * 4096.0));
        assert_eq!(
            flops.of([3, 1].into_iter(), 2),
            4.0 * flops.per_token + 7.0 * flops.per_pair + 2.0 * flops.per_trained
        );
    }
}
