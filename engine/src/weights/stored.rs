//! Tensors as they lie in a file: what the safetensors and torch readers find.

use super::DType;
use crate::{Error, Result, platform::ByteSource};

/// A tensor inside a file, row-major and contiguous.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredTensor {
    /// The file's own name for it.
    pub(crate) name: String,
    /// The format, or the name of one that this engine does not compute with (index buffers have such).
    pub(crate) dtype: Result<DType, String>,
    /// Outermost dimension first; empty for a scalar.
    pub(crate) shape: Vec<usize>,
    /// First byte in the file.
    pub(crate) offset: u64,
}

impl StoredTensor {
    /// The format, or an error for a tensor that cannot be used.
    pub(crate) fn usable_dtype(&self, file: &str) -> Result<DType> {
        let problem =
            |name: &String| Error::input(file, &self.name, format!("type {name} found, F32, F16 or BF16 expected"));
        self.dtype.as_ref().map_err(problem).copied()
    }

    /// Rows and columns; a vector is one row.
    pub(crate) fn matrix(&self) -> (usize, usize) {
        (self.shape.iter().rev().skip(1).product(), self.shape.last().copied().unwrap_or(1))
    }

    /// The bytes of `count` rows from row `first`.
    pub(crate) async fn read_rows(&self, file: &dyn ByteSource, first: usize, count: usize) -> Result<Vec<u8>> {
        let (rows, cols) = self.matrix();
        if first.checked_add(count).is_none_or(|end| end > rows) {
            let problem = format!("{count} rows from row {first} asked for, but it has {rows}");
            return Err(Error::input(file.name(), &self.name, problem));
        }
        let row_bytes = self.usable_dtype(file.name())?.row_bytes(cols);
        file.read(self.offset + (first * row_bytes) as u64, count * row_bytes).await
    }

    /// The values of `count` rows from row `first`.
    pub(crate) async fn read_values(&self, file: &dyn ByteSource, first: usize, count: usize) -> Result<Vec<f32>> {
        let bytes = self.read_rows(file, first, count).await?;
        let dtype = self.usable_dtype(file.name())?;
        let mut values = vec![0.0; count * self.matrix().1];
        super::quant::dequantize(dtype, &bytes, &mut values);
        Ok(values)
    }
}

/// Bytes of `shape` values of `width` bytes, when that is a size at all.
pub(crate) fn checked_bytes(shape: &[usize], width: usize) -> Option<u64> {
    let bytes = shape.iter().try_fold(width, |product, &dim| product.checked_mul(dim))?;
    u64::try_from(bytes).ok()
}
