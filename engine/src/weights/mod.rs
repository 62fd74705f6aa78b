//! Weights from files: one trait over GGUF and Hugging Face folders, so that a model loads the same way from either.

pub mod fetch;
pub mod kept;
pub mod manifest;

use std::collections::BTreeMap;

use crate::{Result, platform::LocalFuture};

pub mod gguf;
pub mod quant;
mod types;

#[cfg(feature = "cli")]
pub mod convert;
#[cfg(feature = "cli")]
pub(crate) mod folder;
#[cfg(feature = "cli")]
pub mod hf;
#[cfg(feature = "cli")]
mod names;
#[cfg(feature = "cli")]
mod open;
#[cfg(feature = "cli")]
pub mod peft;
#[cfg(feature = "cli")]
mod safetensors;
#[cfg(feature = "cli")]
mod stored;
#[cfg(feature = "cli")]
mod torch;
#[cfg(feature = "cli")]
mod vocabulary;

pub use gguf::Gguf;
#[cfg(feature = "cli")]
pub use open::open;
pub use types::{MetadataExt, read_values};
#[cfg(feature = "training")]
pub(crate) use {
    folder::{StoredTensors, read_json as read_folder_json},
    names::RowOrder,
    safetensors::{header as safetensors_header, read_table as read_safetensors},
    stored::StoredTensor,
};

/// How a tensor's values are stored. Block formats are ggml's; names as in GGUF.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum DType {
    F32,
    F16,
    Bf16,
    Q8_0,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q4K,
    Q5K,
    Q6K,
}

impl DType {
    /// Each of these once, by their numbers in GGUF.
    pub(crate) fn distinct(formats: impl Iterator<Item = Self>) -> Vec<Self> {
        let mut found: Vec<Self> = Vec::new();
        for format in formats {
            if let Err(place) = found.binary_search_by_key(&format.ggml_id(), |known| known.ggml_id()) {
                found.insert(place, format);
            }
        }
        found
    }

    /// Values a block holds; a row is a whole number of blocks.
    pub const fn block_len(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::Bf16 => 1,
            Self::Q8_0 | Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 => 32,
            Self::Q4K | Self::Q5K | Self::Q6K => 256,
        }
    }

    /// Bytes of a block as stored in GGUF.
    pub const fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Q8_0 => 34,
            Self::Q4_0 => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q4K => 144,
            Self::Q5K => 176,
            Self::Q6K => 210,
        }
    }

    /// Bytes of a row of `cols` values; `cols` must be whole blocks.
    pub const fn row_bytes(self, cols: usize) -> usize {
        cols / self.block_len() * self.block_bytes()
    }
}

/// Name, format and shape of a tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// GGUF name, e.g. `blk.0.attn_q.weight`.
    pub name: String,
    /// Storage format.
    pub dtype: DType,
    /// Outermost dimension first: a matrix is `[rows (outputs), cols (inputs)]`, a vector `[n]`.
    pub shape: Vec<usize>,
}

impl TensorInfo {
    /// Rows and columns; a vector is one row.
    pub fn matrix(&self) -> (usize, usize) {
        let cols = self.shape.last().copied().unwrap_or(1);
        (self.shape.iter().rev().skip(1).product(), cols)
    }

    /// Bytes of one row.
    pub fn row_bytes(&self) -> usize {
        self.dtype.row_bytes(self.matrix().1)
    }
}

/// A metadata value, with GGUF's types.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub enum Value {
    U64(u64),
    I64(i64),
    F64(f64),
    Bool(bool),
    Text(String),
    Array(Vec<Value>),
}

/// Metadata by key, in GGUF's vocabulary (`llama.block_count`, `tokenizer.ggml.tokens`, …) whatever the source.
pub type Metadata = BTreeMap<String, Value>;

/// A readable model. Tensor names, row order of q and k (interleaved RoPE pairs) and metadata keys are GGUF's, whatever the file.
pub trait Weights {
    /// File or folder, for messages.
    fn name(&self) -> &str;
    /// Hyperparameters and vocabulary.
    fn metadata(&self) -> &Metadata;
    /// Every tensor.
    fn tensors(&self) -> &[TensorInfo];
    /// The stored bytes of `count` rows of `tensor` from row `first`.
    fn read_rows<'a>(&'a self, tensor: &'a TensorInfo, first: usize, count: usize) -> LocalFuture<'a, Result<Vec<u8>>>;

    /// The same rows in place of what `out` held, in its memory where that is enough.
    fn read_rows_into<'a>(
        &'a self,
        tensor: &'a TensorInfo,
        first: usize,
        count: usize,
        out: &'a mut Vec<u8>,
    ) -> LocalFuture<'a, Result<()>> {
        Box::pin(async move {
            *out = self.read_rows(tensor, first, count).await?;
            Ok(())
        })
    }

    /// A tensor by name.
    fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors().iter().find(|t| t.name == name)
    }
}
