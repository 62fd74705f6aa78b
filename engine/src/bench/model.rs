//! A Llama of any geometry with random weights, made on the spot: speed does not depend on their values.

use crate::{
    Error, Result,
    ops::self_test::Random,
    platform::LocalFuture,
    weights::{DType, Metadata, TensorInfo, Value, Weights},
};

/// Sizes of a Llama.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it; see `LlamaConfig`")]
pub struct Geometry {
    pub name: &'static str,
    pub layers: usize,
    pub hidden: usize,
    pub feed_forward: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub vocabulary: usize,
    pub context_length: usize,
}

impl Geometry {
    /// Self-RAG 7B.
    pub const LLAMA2_7B: Self = Self {
        name: "llama2-7b",
        layers: 32,
        hidden: 4096,
        feed_forward: 11_008,
        heads: 32,
        kv_heads: 32,
        vocabulary: 32_016,
        context_length: 4096,
    };
    /// TinyLlama 1.1B: what fits a GPU with all that full fine-tuning needs.
    pub const TINYLLAMA_1B: Self = Self {
        name: "tinyllama-1.1b",
        layers: 22,
        hidden: 2048,
        feed_forward: 5632,
        heads: 32,
        kv_heads: 4,
        vocabulary: 32_016,
        context_length: 2048,
    };
    /// The demo's generator. Its 576 columns are no whole K-blocks.
    pub const SMOLLM2_135M: Self = Self {
        name: "smollm2-135m",
        layers: 30,
        hidden: 576,
        feed_forward: 1536,
        heads: 9,
        kv_heads: 3,
        vocabulary: 49_168,
        context_length: 2048,
    };

    /// For slow devices and tests: everything runs, nothing takes long. Its columns are whole blocks of every format.
    pub const TINY: Self = Self {
        name: "tiny",
        layers: 2,
        hidden: 256,
        feed_forward: 256,
        heads: 4,
        kv_heads: 1,
        vocabulary: 4096,
        context_length: 4096,
    };

    /// The geometry of a name.
    pub fn named(name: &str) -> Result<Self> {
        let known = Self::ALL.map(|geometry| geometry.name);
        let unknown = || Error::config("geometry", format!("{name:?} is none of {known:?}"));
        Self::ALL.into_iter().find(|geometry| geometry.name == name).ok_or_else(unknown)
    }

    /// Whether rows of every matrix are whole blocks of the format.
    pub fn fits(&self, dtype: DType) -> bool {
        [self.hidden, self.feed_forward].iter().all(|cols| cols.is_multiple_of(dtype.block_len()))
    }

    /// All that have a name.
    pub const ALL: [Self; 4] = [Self::LLAMA2_7B, Self::TINYLLAMA_1B, Self::SMOLLM2_135M, Self::TINY];
}

/// Random weights of a geometry in one format; norms are f32.
#[derive(Debug)]
pub struct RandomLlama {
    name: String,
    metadata: Metadata,
    tensors: Vec<TensorInfo>,
}

/// Rows that are made; a tensor repeats them. Enough that neighbouring rows differ, few enough to be made at once.
const ROWS: usize = 61;

impl RandomLlama {
    /// Describes the model; values are made when they are read.
    pub fn new(geometry: Geometry, dtype: DType) -> Self {
        let Geometry { layers, hidden, feed_forward, heads, kv_heads, vocabulary, context_length, .. } = geometry;
        let number = |key: &str, value: usize| (format!("llama.{key}"), Value::U64(value as u64));
        let mut metadata: Metadata = [
            number("embedding_length", hidden),
            number("feed_forward_length", feed_forward),
            number("block_count", layers),
            number("attention.head_count", heads),
            number("attention.head_count_kv", kv_heads),
            number("context_length", context_length),
        ]
        .into();
        metadata.insert("general.architecture".into(), "llama".into());
        let kv = hidden / heads * kv_heads;
        let tensor = |name: String, dtype, shape: &[usize]| TensorInfo { name, dtype, shape: shape.to_vec() };
        let mut tensors = vec![
            tensor("token_embd.weight".into(), dtype, &[vocabulary, hidden]),
            tensor("output.weight".into(), dtype, &[vocabulary, hidden]),
            tensor("output_norm.weight".into(), DType::F32, &[hidden]),
        ];
        for layer in 0..layers {
            for (part, rows, cols) in [
                ("attn_q", hidden, hidden),
                ("attn_k", kv, hidden),
                ("attn_v", kv, hidden),
                ("attn_output", hidden, hidden),
                ("ffn_gate", feed_forward, hidden),
                ("ffn_up", feed_forward, hidden),
                ("ffn_down", hidden, feed_forward),
            ] {
                tensors.push(tensor(format!("blk.{layer}.{part}.weight"), dtype, &[rows, cols]));
            }
            for part in ["attn_norm", "ffn_norm"] {
                tensors.push(tensor(format!("blk.{layer}.{part}.weight"), DType::F32, &[hidden]));
            }
        }
        Self { name: format!("{} in random {}", geometry.name, dtype.name()), metadata, tensors }
    }

    /// Bytes of all tensors as a GGUF file would hold them.
    pub fn bytes(&self) -> u64 {
        self.tensors.iter().map(|t| (t.matrix().0 * t.row_bytes()) as u64).sum()
    }

    /// Bytes that a decoded token needs: all but the embedding table.
    pub fn bytes_per_token(&self) -> u64 {
        self.bytes() - self.tensors[0].matrix().0 as u64 * self.tensors[0].row_bytes() as u64
    }
}

impl Weights for RandomLlama {
    fn name(&self) -> &str {
        &self.name
    }

    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    fn read_rows<'a>(&'a self, tensor: &'a TensorInfo, first: usize, count: usize) -> LocalFuture<'a, Result<Vec<u8>>> {
        Box::pin(std::future::ready(Ok(random_rows(tensor, first, count))))
    }
}

/// Rows of a tensor: a few random ones, over and over.
pub(super) fn random_rows(tensor: &TensorInfo, first: usize, count: usize) -> Vec<u8> {
    let (_, cols) = tensor.matrix();
    let made = Random::new(first as u64).rows(tensor.dtype, count.min(ROWS), cols);
    let mut bytes = Vec::with_capacity(count * tensor.row_bytes());
    while bytes.len() < count * tensor.row_bytes() {
        let left = count * tensor.row_bytes() - bytes.len();
        bytes.extend_from_slice(&made[..made.len().min(left)]);
    }
    bytes
}
