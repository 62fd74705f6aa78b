//! Hugging Face's tensor names and row order against GGUF's.
//!
//! Hugging Face's Llama rotates value i of a head with value i + d/2, GGUF's with its neighbour, so the rows of `attn_q` and `attn_k` are
//! reordered: GGUF's row 2i + p of a head is Hugging Face's row p·d/2 + i.

/// Which family's names apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    /// `general.architecture = llama`.
    Llama,
    /// `general.architecture = bert`.
    Bert,
}

impl Family {
    /// The family of a GGUF architecture.
    pub(crate) fn of_architecture(architecture: &str) -> Option<Self> {
        match architecture {
            "llama" => Some(Self::Llama),
            "bert" => Some(Self::Bert),
            _ => None,
        }
    }

    /// GGUF's name for a Hugging Face parameter, e.g. `model.layers.0.self_attn.q_proj.weight`.
    pub(crate) fn gguf_name(self, name: &str) -> Option<String> {
        let (table, blocks, block_table) = match self {
            Self::Llama => (LLAMA.as_slice(), "model.layers.", LLAMA_BLOCK.as_slice()),
            Self::Bert => (BERT.as_slice(), "encoder.layer.", BERT_BLOCK.as_slice()),
        };
        // BERT inside a larger model has its own prefix.
        let name = if self == Self::Bert { name.strip_prefix("bert.").unwrap_or(name) } else { name };
        let (module, parameter) = name.rsplit_once('.').filter(|(_, p)| matches!(*p, "weight" | "bias"))?;
        let find =
            |table: &[(&str, &'static str)], module: &str| table.iter().find(|row| row.0 == module).map(|row| row.1);
        if let Some(found) = find(table, module) {
            return Some(format!("{found}.{parameter}"));
        }
        let (block, module) = module.strip_prefix(blocks)?.split_once('.')?;
        let block: usize = block.parse().ok()?;
        Some(format!("blk.{block}.{}.{parameter}", find(block_table, module)?))
    }

    /// The Hugging Face parameter of a GGUF name: [`Self::gguf_name`] backwards.
    pub(crate) fn hf_name(self, name: &str) -> Option<String> {
        let (table, blocks, block_table) = match self {
            Self::Llama => (LLAMA.as_slice(), "model.layers.", LLAMA_BLOCK.as_slice()),
            Self::Bert => (BERT.as_slice(), "encoder.layer.", BERT_BLOCK.as_slice()),
        };
        let (module, parameter) = name.rsplit_once('.')?;
        let find =
            |table: &[(&'static str, &str)], module: &str| table.iter().find(|row| row.1 == module).map(|row| row.0);
        if let Some(found) = find(table, module) {
            return Some(format!("{found}.{parameter}"));
        }
        let (block, module) = module.strip_prefix("blk.")?.split_once('.')?;
        let block: usize = block.parse().ok()?;
        Some(format!("{blocks}{block}.{}.{parameter}", find(block_table, module)?))
    }

    /// The GGUF names that a complete model has, in no particular order.
    pub(crate) fn required(self, n_blocks: usize) -> impl Iterator<Item = String> {
        let (table, block_table) = match self {
            Self::Llama => (&LLAMA[..2], LLAMA_BLOCK.as_slice()),
            Self::Bert => (BERT.as_slice(), BERT_BLOCK.as_slice()),
        };
        let parameters = move |name: String| {
            let has_bias =
                self == Self::Bert && !matches!(name.as_str(), "token_embd" | "position_embd" | "token_types");
            let bias = has_bias.then(|| format!("{name}.bias"));
            std::iter::once(format!("{name}.weight")).chain(bias)
        };
        let outer = table.iter().map(|row| row.1.to_owned());
        let blocks =
            (0..n_blocks).flat_map(move |block| block_table.iter().map(move |row| format!("blk.{block}.{}", row.1)));
        outer.chain(blocks).flat_map(parameters)
    }

    /// Whether a tensor without a GGUF name may be left out: buffers that follow from the configuration, and heads that are not used.
    pub(crate) fn ignores(self, name: &str) -> bool {
        let buffers = [".rotary_emb.inv_freq", "embeddings.position_ids", "embeddings.token_type_ids"];
        let heads = ["pooler.", "bert.pooler.", "cls."];
        buffers.iter().any(|end| name.ends_with(end))
            || self == Self::Bert && heads.iter().any(|start| name.starts_with(start))
    }
}

const LLAMA: [(&str, &str); 3] =
    [("model.embed_tokens", "token_embd"), ("model.norm", "output_norm"), ("lm_head", "output")];

const LLAMA_BLOCK: [(&str, &str); 9] = [
    ("input_layernorm", "attn_norm"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("post_attention_layernorm", "ffn_norm"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
];

const BERT: [(&str, &str); 4] = [
    ("embeddings.word_embeddings", "token_embd"),
    ("embeddings.position_embeddings", "position_embd"),
    ("embeddings.token_type_embeddings", "token_types"),
    ("embeddings.LayerNorm", "token_embd_norm"),
];

const BERT_BLOCK: [(&str, &str); 8] = [
    ("attention.self.query", "attn_q"),
    ("attention.self.key", "attn_k"),
    ("attention.self.value", "attn_v"),
    ("attention.output.dense", "attn_output"),
    ("attention.output.LayerNorm", "attn_output_norm"),
    ("intermediate.dense", "ffn_up"),
    ("output.dense", "ffn_down"),
    ("output.LayerNorm", "layer_output_norm"),
];

/// The order of a tensor's rows in Hugging Face's file, seen from GGUF's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RowOrder {
    /// The same.
    Same,
    /// RoPE pairs of heads of this many rows are interleaved in GGUF.
    Interleaved {
        /// Rows of a head, even.
        head_dim: usize,
    },
}

impl RowOrder {
    /// The order of a tensor of a family, by its GGUF name.
    pub(crate) fn of(family: Family, gguf_name: &str, head_dim: usize) -> Self {
        let rotated = gguf_name.ends_with(".attn_q.weight") || gguf_name.ends_with(".attn_k.weight");
        if family == Family::Llama && rotated { Self::Interleaved { head_dim } } else { Self::Same }
    }

    /// The order of a tensor of a Llama.
    #[cfg(feature = "training")]
    pub(crate) fn of_llama(gguf_name: &str, head_dim: usize) -> Self {
        Self::of(Family::Llama, gguf_name, head_dim)
    }

    /// Hugging Face's row of GGUF's row.
    pub(crate) fn source_row(self, row: usize) -> usize {
        match self {
            Self::Same => row,
            Self::Interleaved { head_dim } => {
                let (head, lane) = (row / head_dim, row % head_dim);
                head * head_dim + lane % 2 * (head_dim / 2) + lane / 2
            }
        }
    }

    /// GGUF's row of Hugging Face's row.
    pub(crate) fn target_row(self, row: usize) -> usize {
        match self {
            Self::Same => row,
            Self::Interleaved { head_dim } => {
                let (head, lane) = (row / head_dim, row % head_dim);
                head * head_dim + lane % (head_dim / 2) * 2 + lane / (head_dim / 2)
            }
        }
    }

    /// A contiguous range of Hugging Face's rows that holds GGUF's rows `first..first + count`: (first, count).
    pub(crate) fn source_range(self, first: usize, count: usize) -> (usize, usize) {
        match self {
            Self::Same => (first, count),
            Self::Interleaved { head_dim } => {
                let start = first / head_dim * head_dim;
                (start, (first + count).next_multiple_of(head_dim) - start)
            }
        }
    }
}
