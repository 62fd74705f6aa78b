//! An encoder's sizes, read and checked.

use super::BATCH_TOKENS;
use crate::{
    Error, Result,
    weights::{MetadataExt, Value, Weights},
};

/// Hyperparameters, from `bert.*`.
#[derive(Debug, Clone, PartialEq)]
pub struct EncoderConfig {
    /// Values of an embedding.
    pub hidden: usize,
    /// Attention heads.
    pub heads: usize,
    /// Inner size of the feed-forward part.
    pub feed_forward: usize,
    /// Layers.
    pub layers: usize,
    /// Vocabulary size.
    pub vocabulary: usize,
    /// Tokens a text is cut at.
    pub max_tokens: usize,
    /// Added to variances.
    pub eps: f32,
    /// Whether embeddings get length 1.
    pub normalise: bool,
}

impl EncoderConfig {
    /// Reads and checks the hyperparameters.
    pub fn read(weights: &dyn Weights) -> Result<Self> {
        let (file, metadata) = (weights.name(), weights.metadata());
        let architecture = metadata.need_text(file, "general.architecture")?;
        if architecture != "bert" {
            let problem = format!("{architecture:?}; encoders have \"bert\"");
            return Err(Error::input(file, "general.architecture", problem));
        }
        let pooling = metadata.get_u64(file, "bert.pooling_type")?.unwrap_or(1);
        if pooling != 1 {
            return Err(Error::input(file, "bert.pooling_type", format!("{pooling}, 1 (mean) expected")));
        }
        let size = |key: &str, most: u64| -> Result<usize> {
            let key = format!("bert.{key}");
            match metadata.need_u64(file, &key)? {
                value if (1..=most).contains(&value) => Ok(value as usize),
                value => Err(Error::input(file, key, format!("{value}, 1 to {most} expected"))),
            }
        };
        let context = size("context_length", BATCH_TOKENS as u64)?;
        let cut = metadata.get_u64(file, "selfrag.embedding.max_length")?.unwrap_or(context as u64);
        let word_table = weights.tensor("token_embd.weight");
        let word_table = word_table.ok_or_else(|| Error::input(file, "token_embd.weight", "missing"))?;
        let config = Self {
            hidden: size("embedding_length", 1 << 14)?,
            heads: size("attention.head_count", 1 << 10)?,
            feed_forward: size("feed_forward_length", 1 << 16)?,
            layers: size("block_count", 1 << 10)?,
            vocabulary: word_table.matrix().0,
            max_tokens: (cut as usize).clamp(2, context.max(2)),
            eps: metadata.get_f64(file, "bert.attention.layer_norm_epsilon")?.unwrap_or(1e-12) as f32,
            normalise: matches!(metadata.get("selfrag.embedding.normalize"), Some(Value::Bool(true))),
        };
        let head_dim = config.hidden / config.heads;
        if !config.hidden.is_multiple_of(config.heads) || !head_dim.is_multiple_of(4) || head_dim > 128 {
            let problem = format!(
                "{} heads of {}; sizes that are multiples of 4 up to 128 expected",
                config.heads, config.hidden
            );
            return Err(Error::input(file, "bert.attention.head_count", problem));
        }
        config.check_shapes(weights, context)?;
        Ok(config)
    }

    /// Heads and values of a head.
    pub(super) fn head_shape(&self) -> (usize, usize) {
        (self.heads, self.hidden / self.heads)
    }

    /// Every tensor is there with the shape that the hyperparameters say.
    fn check_shapes(&self, weights: &dyn Weights, context: usize) -> Result<()> {
        let (hidden, ff) = (self.hidden, self.feed_forward);
        let mut wanted: Vec<(String, (usize, usize))> = [
            ("token_embd.weight", (self.vocabulary, hidden)),
            ("position_embd.weight", (context, hidden)),
            ("token_embd_norm.weight", (1, hidden)),
            ("token_embd_norm.bias", (1, hidden)),
        ]
        .map(|(name, shape)| (name.to_string(), shape))
        .into();
        for i in 0..self.layers {
            for (part, rows, cols) in [
                ("attn_q", hidden, hidden),
                ("attn_k", hidden, hidden),
                ("attn_v", hidden, hidden),
                ("attn_output", hidden, hidden),
                ("ffn_up", ff, hidden),
                ("ffn_down", hidden, ff),
            ] {
                wanted.push((format!("blk.{i}.{part}.weight"), (rows, cols)));
                wanted.push((format!("blk.{i}.{part}.bias"), (1, rows)));
            }
            for part in ["attn_output_norm", "layer_output_norm"] {
                wanted.push((format!("blk.{i}.{part}.weight"), (1, hidden)));
                wanted.push((format!("blk.{i}.{part}.bias"), (1, hidden)));
            }
        }
        for (name, shape) in wanted {
            let found = weights.tensor(&name).map(|tensor| tensor.matrix());
            if found != Some(shape) {
                return Err(Error::input(weights.name(), name, format!("{found:?}, {shape:?} expected")));
            }
        }
        Ok(())
    }
}
