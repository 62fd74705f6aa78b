//! A Llama's weights on the GPU.

use super::LlamaConfig;
use crate::{
    Error, Result,
    gpu::{Buffer, Gpu},
    ops::{self, Matrix, Rope},
    weights::{Weights, read_values},
};

/// How far a load has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadProgress {
    /// Bytes of weights on the GPU.
    pub bytes: u64,
    /// Bytes in all.
    pub total: u64,
}

/// Weights in the order of use.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) embedding: Matrix, // (vocabulary, hidden)
    pub(super) layers: Vec<Layer>,
    pub(super) norm: Buffer,         // (hidden)
    pub(super) head: Option<Matrix>, // (vocabulary, hidden); none where the embedding serves
    pub(super) rope: Rope,
}

#[derive(Debug)]
pub(super) struct Layer {
    pub(super) attention_norm: Buffer, // (hidden)
    pub(super) qkv: Matrix,            // ((heads + 2 kv_heads) · head_dim, hidden)
    pub(super) output: Matrix,         // (hidden, heads · head_dim)
    pub(super) ffn_norm: Buffer,       // (hidden)
    pub(super) gate_up: Matrix,        // (2 · feed_forward, hidden)
    pub(super) down: Matrix,           // (hidden, feed_forward)
}

impl Model {
    /// Streams the weights to the GPU. Every shape is checked before anything is read.
    pub(super) async fn load(
        gpu: &Gpu,
        weights: &dyn Weights,
        config: &LlamaConfig,
        positions: usize,
        on_progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Self> {
        check_shapes(weights, config)?;
        let total = weights.tensors().iter().map(|t| t.matrix().0 as u64 * t.row_bytes() as u64).sum();
        let mut bytes = 0;
        let mut unflushed = 0;
        let mut progress = |more: u64| {
            bytes += more;
            on_progress(LoadProgress { bytes, total });
        };
        let mut layers = Vec::new();
        let embedding = Matrix::load(gpu, weights, &["token_embd.weight".into()], &mut progress).await?;
        for i in 0..config.layers {
            let name = |part: &str| format!("blk.{i}.{part}.weight");
            let layer = Layer {
                attention_norm: vector(gpu, weights, &name("attn_norm")).await?,
                qkv: Matrix::load(gpu, weights, &[name("attn_q"), name("attn_k"), name("attn_v")], &mut progress)
                    .await?,
                output: Matrix::load(gpu, weights, &[name("attn_output")], &mut progress).await?,
                ffn_norm: vector(gpu, weights, &name("ffn_norm")).await?,
                gate_up: Matrix::load(gpu, weights, &[name("ffn_gate"), name("ffn_up")], &mut progress).await?,
                down: Matrix::load(gpu, weights, &[name("ffn_down")], &mut progress).await?,
            };
            unflushed += layer.qkv.bytes() + layer.output.bytes() + layer.gate_up.bytes() + layer.down.bytes();
            layers.push(layer);
            // Written bytes wait in staging memory until a submit; this bounds it.
            if unflushed > 64 << 20 {
                gpu.flush().await?;
                unflushed = 0;
            }
        }
        let norm = vector(gpu, weights, "output_norm.weight").await?;
        let head = match weights.tensor("output.weight") {
            Some(_) => Some(Matrix::load(gpu, weights, &["output.weight".into()], &mut progress).await?),
            None => None,
        };
        let factors = match weights.tensor("rope_freqs.weight") {
            Some(tensor) => Some(read_values(weights, tensor, 0, 1).await?),
            None => None,
        };
        let mut angles = Rope::table(positions, config.rope_dims, config.rope_base, factors.as_deref());
        if config.rope_divisor != 1.0 {
            let factors = vec![config.rope_divisor as f32; config.rope_dims / 2];
            angles = Rope::table(positions, config.rope_dims, config.rope_base, Some(&factors));
        }
        let words: Vec<u32> = angles.iter().map(|v| v.to_bits()).collect();
        let rope =
            Rope { angles: gpu.upload_words("angles", &words)?, dims: config.rope_dims, half_order: config.half_order };
        gpu.flush().await?;
        Ok(Self { embedding, layers, norm, head, rope })
    }

    /// Whether the products of all layers can go to cooperative matrices.
    pub(super) fn can_coop(&self, gpu: &Gpu) -> bool {
        let matrices = self.layers.iter().flat_map(|l| [&l.qkv, &l.output, &l.gate_up, &l.down]);
        matrices.into_iter().all(|matrix| ops::can_coop(gpu, matrix))
    }

    /// The matrix that makes logits.
    pub(super) fn head(&self) -> &Matrix {
        self.head.as_ref().unwrap_or(&self.embedding)
    }
}

async fn vector(gpu: &Gpu, weights: &dyn Weights, name: &str) -> Result<Buffer> {
    let tensor = weights.tensor(name).expect("checked before loading");
    let values = read_values(weights, tensor, 0, 1).await?;
    Ok(gpu.upload(name, &values, values.len())?.buffer)
}

/// Every tensor is there with the shape that the hyperparameters say, and none that this engine would ignore.
fn check_shapes(weights: &dyn Weights, config: &LlamaConfig) -> Result<()> {
    let file = weights.name();
    let check = |name: &str, expected: (usize, usize)| {
        let tensor = weights.tensor(name).ok_or_else(|| Error::input(file, name, "the model has no such tensor"))?;
        if tensor.matrix() == expected && tensor.dtype.checked_row_bytes(expected.1).is_some() {
            Ok(())
        } else {
            let problem = format!("{:?} {:?}, expected {expected:?}", tensor.dtype, tensor.matrix());
            Err(Error::input(file, name, problem))
        }
    };
    let (hidden, kv) = (config.hidden, config.heads.kv_heads * config.heads.head_dim);
    check("token_embd.weight", (config.vocabulary, hidden))?;
    check("output_norm.weight", (1, hidden))?;
    if weights.tensor("output.weight").is_some() {
        check("output.weight", (config.vocabulary, hidden))?;
    }
    if weights.tensor("rope_freqs.weight").is_some() {
        check("rope_freqs.weight", (1, config.rope_dims / 2))?;
    }
    for i in 0..config.layers {
        for (part, shape) in [
            ("attn_norm", (1, hidden)),
            ("attn_q", (config.q(), hidden)),
            ("attn_k", (kv, hidden)),
            ("attn_v", (kv, hidden)),
            ("attn_output", (hidden, config.q())),
            ("ffn_norm", (1, hidden)),
            ("ffn_gate", (config.feed_forward, hidden)),
            ("ffn_up", (config.feed_forward, hidden)),
            ("ffn_down", (hidden, config.feed_forward)),
        ] {
            check(&format!("blk.{i}.{part}.weight"), shape)?;
        }
    }
    if let Some(bias) = weights.tensors().iter().find(|t| t.name.ends_with(".bias")) {
        return Err(Error::input(file, &bias.name, "biases are not part of the llama architecture"));
    }
    Ok(())
}
