//! A Llama's hyperparameters, from GGUF metadata.

use crate::{
    Error, Result,
    ops::Heads,
    weights::{MetadataExt, Weights},
};

/// Sizes and constants of a Llama.
#[derive(Debug, Clone, PartialEq)]
pub struct LlamaConfig {
    /// Hidden size.
    pub hidden: usize,
    /// Inner size of the feed-forward layers.
    pub feed_forward: usize,
    /// Layers.
    pub layers: usize,
    /// Attention heads.
    pub heads: Heads,
    /// Tokens in the vocabulary: rows of the embedding table.
    pub vocabulary: usize,
    /// Longest sequence the model was made for.
    pub context_length: usize,
    /// RMSNorm's epsilon.
    pub norm_eps: f32,
    /// RoPE's base.
    pub rope_base: f64,
    /// Leading head dimensions that RoPE turns.
    pub rope_dims: usize,
    /// Linear position scaling: positions are divided by this.
    pub rope_divisor: f64,
    /// Row order of q and k: false is GGUF's (interleaved pairs), true Hugging Face's (halves).
    pub half_order: bool,
}

/// No model that people run is larger; a file that says so lies, and would make us reserve memory for nothing.
const MOST: u64 = 1 << 20;

impl LlamaConfig {
    /// Reads and checks the keys `llama.*`.
    pub fn read(weights: &dyn Weights) -> Result<Self> {
        let (file, meta) = (weights.name(), weights.metadata());
        let architecture = meta.need_text(file, "general.architecture")?;
        if architecture != "llama" {
            let problem = format!("{architecture:?}; a generator must be \"llama\"");
            return Err(Error::input(file, "general.architecture", problem));
        }
        let size = |key: &str| -> Result<usize> {
            let value = meta.need_u64(file, key)?;
            if (1..=MOST).contains(&value) {
                Ok(value as usize)
            } else {
                Err(Error::input(file, key, format!("{value}, expected 1 to {MOST}")))
            }
        };
        let optional = |key: &str, default: usize| if meta.contains_key(key) { size(key) } else { Ok(default) };
        let hidden = size("llama.embedding_length")?;
        let heads = size("llama.attention.head_count")?;
        let kv_heads = optional("llama.attention.head_count_kv", heads)?;
        let head_dim = optional("llama.attention.key_length", hidden / heads)?;
        let heads = Heads { heads, kv_heads, head_dim };
        let sound =
            head_dim > 0 && head_dim.is_multiple_of(2) && head_dim <= 256 && heads.heads.is_multiple_of(kv_heads);
        if !sound {
            let problem = format!("{heads:?}: the head size must be even and at most 256, kv_heads a divisor of heads");
            return Err(Error::input(file, "llama.attention", problem));
        }
        let rope_dims = optional("llama.rope.dimension_count", head_dim)?;
        if rope_dims > head_dim || rope_dims % 2 == 1 {
            let problem = format!("{rope_dims}, expected an even number up to the head size {head_dim}");
            return Err(Error::input(file, "llama.rope.dimension_count", problem));
        }
        let norm_eps = meta.get_f64(file, "llama.attention.layer_norm_rms_epsilon")?.unwrap_or(1e-5);
        let rope_base = meta.get_f64(file, "llama.rope.freq_base")?.unwrap_or(10_000.0);
        let rope_divisor = match meta.get_text(file, "llama.rope.scaling.type")? {
            None | Some("none") => 1.0,
            Some("linear") => meta.get_f64(file, "llama.rope.scaling.factor")?.unwrap_or(1.0),
            Some(other) => {
                let problem = format!("{other:?}; only \"linear\" and \"none\" are known");
                return Err(Error::input(file, "llama.rope.scaling.type", problem));
            }
        };
        for (key, value) in
            [("layer_norm_rms_epsilon", norm_eps), ("freq_base", rope_base), ("scaling.factor", rope_divisor)]
        {
            if !(value.is_finite() && value > 0.0) {
                return Err(Error::input(file, key, format!("{value}, expected a positive number")));
            }
        }
        let table = weights
            .tensor("token_embd.weight")
            .ok_or_else(|| Error::input(file, "token_embd.weight", "the model has no such tensor"))?;
        Ok(Self {
            hidden,
            feed_forward: size("llama.feed_forward_length")?,
            layers: size("llama.block_count")?,
            heads,
            vocabulary: table.matrix().0,
            context_length: size("llama.context_length")?,
            norm_eps: norm_eps as f32,
            rope_base,
            rope_dims,
            rope_divisor,
            half_order: false,
        })
    }

    /// Columns of q, k and v together.
    pub fn qkv(&self) -> usize {
        (self.heads.heads + 2 * self.heads.kv_heads) * self.heads.head_dim
    }

    /// Columns of q, which are those of attention's output.
    pub fn q(&self) -> usize {
        self.heads.heads * self.heads.head_dim
    }

    /// Bytes of KV cache a token takes: keys and values of all layers in f16.
    pub fn kv_bytes_per_token(&self) -> u64 {
        (self.layers * 2 * self.heads.kv_heads * self.heads.head_dim * 2) as u64
    }
}
