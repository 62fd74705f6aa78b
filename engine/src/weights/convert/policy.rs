//! Which format each tensor gets: llama.cpp's rules.
//!
//! Norms, biases and the small tables of BERT stay F32. The head (the embedding when they are tied) suffers most from rounding, so formats under six bits
//! give it Q6_K. A row that is not whole blocks of a format gets the nearest format of smaller blocks.

use crate::weights::{DType, TensorInfo};

/// What `selfrag convert --type` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileType {
    /// Format of the matrices.
    pub dtype: DType,
}

/// Formats with llama.cpp's number for a file "mostly" of them (`general.file_type`).
const FILE_TYPES: [(DType, u64); 11] = [
    (DType::F32, 0),
    (DType::F16, 1),
    (DType::Q4_0, 2),
    (DType::Q4_1, 3),
    (DType::Q8_0, 7),
    (DType::Q5_0, 8),
    (DType::Q5_1, 9),
    (DType::Q4K, 14),
    (DType::Q5K, 16),
    (DType::Q6K, 18),
    (DType::Bf16, 32),
];

impl FileType {
    /// The names that `--type` takes.
    pub fn names() -> impl Iterator<Item = &'static str> {
        FILE_TYPES.iter().map(|row| row.0.name())
    }

    /// The file type of a name such as `q8_0`.
    pub fn from_name(name: &str) -> Option<Self> {
        FILE_TYPES.iter().find(|row| row.0.name() == name).map(|row| Self { dtype: row.0 })
    }

    /// llama.cpp's number.
    pub fn number(self) -> u64 {
        FILE_TYPES.iter().find(|row| row.0 == self.dtype).expect("the table has every format").1
    }

    /// The format of a tensor. `tied`: the model has no head of its own.
    pub fn dtype_of(self, tensor: &TensorInfo, tied: bool) -> DType {
        let (rows, cols) = tensor.matrix();
        let is_matrix = tensor.shape.len() > 1 && rows > 1;
        if !is_matrix
            || tensor.name.ends_with("_norm.weight")
            || matches!(tensor.name.as_str(), "position_embd.weight" | "token_types.weight")
        {
            return DType::F32;
        }
        let is_head = tensor.name == "output.weight" || tied && tensor.name == "token_embd.weight";
        let is_embedding = tensor.name == "token_embd.weight";
        let under_six_bits = !matches!(self.dtype, DType::F32 | DType::F16 | DType::Bf16 | DType::Q8_0 | DType::Q6K);
        let wanted = if (is_head || is_embedding) && under_six_bits { DType::Q6K } else { self.dtype };
        fitting(wanted, cols)
    }
}

/// The format, or the nearest whose blocks make up a row of `cols` values.
fn fitting(dtype: DType, cols: usize) -> DType {
    let smaller_blocks = match dtype {
        DType::Q4K => DType::Q5_0,
        DType::Q5K => DType::Q5_1,
        DType::Q6K => DType::Q8_0,
        _ => DType::F16,
    };
    if dtype.checked_row_bytes(cols).is_some() { dtype } else { fitting(smaller_blocks, cols) }
}
