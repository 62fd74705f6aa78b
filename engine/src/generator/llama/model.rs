//! A Llama's weights on the GPU.

use super::LlamaConfig;
use crate::{
    Error, Result,
    gpu::{Buffer, Gpu},
    ops::{self, Loading, Matrix, Rope},
    platform::now_ms,
    weights::{DType, Weights, read_values},
};

/// How far a load has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadProgress {
    /// Bytes of weights on the GPU.
    pub bytes: u64,
    /// Bytes in all.
    pub total: u64,
}

/// What was loaded, and in how long.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Loaded {
    /// Bytes of the tensors in the file.
    pub file_bytes: u64,
    /// Bytes of the same weights on the GPU.
    pub gpu_bytes: u64,
    /// From the first buffer made to the last byte on the GPU.
    pub secs: f64,
}

/// Weights in the order of use.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) embedding: Matrix, // (vocabulary, hidden)
    pub(super) layers: Vec<Layer>,
    pub(super) norm: Buffer,         // (hidden)
    pub(super) head: Option<Matrix>, // (vocabulary, hidden); none where the embedding serves
    pub(super) rope: Rope,
    pub(super) loaded: Loaded,
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

impl Layer {
    /// The formats of its matrices.
    pub(super) fn formats(&self) -> impl Iterator<Item = DType> {
        [&self.qkv, &self.output, &self.gate_up, &self.down].into_iter().flat_map(Matrix::formats)
    }
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
        let (start, before) = (now_ms(), gpu.allocated_bytes());
        let mut loading = Loading::new(gpu, weights);
        let embedding = loading.matrix(&["token_embd.weight".into()])?;
        let mut layers = Vec::new();
        for i in 0..config.layers {
            let name = |part: &str| format!("blk.{i}.{part}.weight");
            layers.push(Layer {
                attention_norm: loading.vector(&name("attn_norm"))?,
                qkv: loading.matrix(&[name("attn_q"), name("attn_k"), name("attn_v")])?,
                output: loading.matrix(&[name("attn_output")])?,
                ffn_norm: loading.vector(&name("ffn_norm"))?,
                gate_up: loading.matrix(&[name("ffn_gate"), name("ffn_up")])?,
                down: loading.matrix(&[name("ffn_down")])?,
            });
        }
        let norm = loading.vector("output_norm.weight")?;
        let head = match weights.tensor("output.weight") {
            Some(_) => Some(loading.matrix(&["output.weight".into()])?),
            None => None,
        };
        let gpu_bytes = gpu.allocated_bytes() - before;
        let mut file_bytes = 0;
        let mut progress = |more: u64| {
            file_bytes += more;
            on_progress(LoadProgress { bytes: file_bytes, total });
        };
        loading.run(&mut progress).await?;
        let loaded = Loaded { file_bytes, gpu_bytes, secs: (now_ms() - start) / 1e3 };
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
        Ok(Self { embedding, layers, norm, head, rope, loaded })
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

/// Every tensor is there with the shape that the hyperparameters say, and none that this engine would ignore.
pub(crate) fn check_shapes(weights: &dyn Weights, config: &LlamaConfig) -> Result<()> {
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
