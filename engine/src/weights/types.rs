//! Small helpers over the types of this module: ggml's type numbers, metadata look-ups that name file and key, values as f32.

use super::{DType, Metadata, TensorInfo, Value, Weights, quant};
use crate::{Error, Result};

/// Format, ggml's number for it, and its name as llama.cpp and `selfrag convert` spell it.
const DTYPES: [(DType, u32, &str); 11] = [
    (DType::F32, 0, "f32"),
    (DType::F16, 1, "f16"),
    (DType::Q4_0, 2, "q4_0"),
    (DType::Q4_1, 3, "q4_1"),
    (DType::Q5_0, 6, "q5_0"),
    (DType::Q5_1, 7, "q5_1"),
    (DType::Q8_0, 8, "q8_0"),
    (DType::Q4K, 12, "q4_k"),
    (DType::Q5K, 13, "q5_k"),
    (DType::Q6K, 14, "q6_k"),
    (DType::Bf16, 30, "bf16"),
];

impl DType {
    /// ggml's number for the format, as stored in GGUF.
    pub fn ggml_id(self) -> u32 {
        DTYPES.iter().find(|row| row.0 == self).expect("the table has every format").1
    }

    /// The format of ggml's number, if this engine reads it.
    pub fn from_ggml_id(id: u32) -> Option<Self> {
        DTYPES.iter().find(|row| row.1 == id).map(|row| row.0)
    }

    /// The name as written by people: `q8_0`, `f16`, …
    pub fn name(self) -> &'static str {
        DTYPES.iter().find(|row| row.0 == self).expect("the table has every format").2
    }

    /// Bytes of a row of `cols` values, or none when `cols` is not whole blocks or the size overflows.
    pub fn checked_row_bytes(self, cols: usize) -> Option<usize> {
        if cols.is_multiple_of(self.block_len()) {
            (cols / self.block_len()).checked_mul(self.block_bytes())
        } else {
            None
        }
    }
}

impl Value {
    /// A whole number, whatever its width or sign in the file.
    pub fn as_u64(&self) -> Option<u64> {
        match self {
            Self::U64(value) => Some(*value),
            Self::I64(value) => u64::try_from(*value).ok(),
            _ => None,
        }
    }

    /// A number.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::F64(value) => Some(*value),
            Self::U64(value) => Some(*value as f64),
            Self::I64(value) => Some(*value as f64),
            _ => None,
        }
    }

    /// A truth value.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// A text.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(value) => Some(value),
            _ => None,
        }
    }

    /// An array.
    pub fn as_array(&self) -> Option<&[Value]> {
        match self {
            Self::Array(values) => Some(values),
            _ => None,
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// Metadata look-ups: absent is `None`; present with another type is an error that names file and key.
pub trait MetadataExt {
    /// A whole number.
    fn get_u64(&self, file: &str, key: &str) -> Result<Option<u64>>;
    /// A number.
    fn get_f64(&self, file: &str, key: &str) -> Result<Option<f64>>;
    /// A text.
    fn get_text(&self, file: &str, key: &str) -> Result<Option<&str>>;
    /// An array.
    fn get_array(&self, file: &str, key: &str) -> Result<Option<&[Value]>>;

    /// A whole number that must be there.
    fn need_u64(&self, file: &str, key: &str) -> Result<u64> {
        self.get_u64(file, key)?.ok_or_else(|| Error::input(file, key, "missing"))
    }

    /// A text that must be there.
    fn need_text(&self, file: &str, key: &str) -> Result<&str> {
        self.get_text(file, key)?.ok_or_else(|| Error::input(file, key, "missing"))
    }
}

impl MetadataExt for Metadata {
    fn get_u64(&self, file: &str, key: &str) -> Result<Option<u64>> {
        typed(self, file, key, Value::as_u64, "a whole number")
    }

    fn get_f64(&self, file: &str, key: &str) -> Result<Option<f64>> {
        typed(self, file, key, Value::as_f64, "a number")
    }

    fn get_text(&self, file: &str, key: &str) -> Result<Option<&str>> {
        typed(self, file, key, Value::as_text, "a text")
    }

    fn get_array(&self, file: &str, key: &str) -> Result<Option<&[Value]>> {
        typed(self, file, key, Value::as_array, "an array")
    }
}

fn typed<'a, T>(
    metadata: &'a Metadata,
    file: &str,
    key: &str,
    read: impl Fn(&'a Value) -> Option<T>,
    expected: &str,
) -> Result<Option<T>> {
    match metadata.get(key) {
        None => Ok(None),
        Some(value) => match read(value) {
            Some(read) => Ok(Some(read)),
            None => Err(Error::input(file, key, format!("{expected} expected"))),
        },
    }
}

/// `count` rows of `tensor` from row `first`, as f32.
pub async fn read_values(weights: &dyn Weights, tensor: &TensorInfo, first: usize, count: usize) -> Result<Vec<f32>> {
    let bytes = weights.read_rows(tensor, first, count).await?;
    let mut values = vec![0.0; count * tensor.matrix().1];
    quant::dequantize(tensor.dtype, &bytes, &mut values);
    Ok(values)
}
