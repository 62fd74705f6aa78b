//! A weight matrix on the GPU, in any of the formats of a GGUF file, in as many parts as the binding limit asks for.

use super::{
    Loading,
    pack::{pack_rows, packed_words},
};
use crate::{
    Result,
    gpu::{Buffer, Gpu, Tensor},
    weights::{DType, Weights},
};

/// `rows` outputs × `cols` inputs. Several tensors of the same inputs (q, k and v; gate and up) make one matrix, so that they
/// take one launch where their formats agree.
#[derive(Debug)]
pub struct Matrix {
    /// Outputs.
    pub rows: usize,
    /// Inputs.
    pub cols: usize,
    pub(super) parts: Vec<Part>,
}

/// Consecutive rows in one format and one pair of buffers.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) dtype: DType,
    pub(super) first_row: usize,
    pub(super) rows: usize,
    pub(super) w: Buffer,
    pub(super) s: Buffer,
}

/// A format's name in shaders.
pub fn format_name(dtype: DType) -> &'static str {
    match dtype {
        DType::F32 => "FORMAT=f32",
        DType::F16 => "FORMAT=f16",
        DType::Bf16 => "FORMAT=bf16",
        DType::Q8_0 => "FORMAT=q8_0",
        DType::Q4_0 => "FORMAT=q4_0",
        DType::Q4_1 => "FORMAT=q4_1",
        DType::Q5_0 => "FORMAT=q5_0",
        DType::Q5_1 => "FORMAT=q5_1",
        DType::Q4K => "FORMAT=q4_k",
        DType::Q5K => "FORMAT=q5_k",
        DType::Q6K => "FORMAT=q6_k",
    }
}

impl Matrix {
    /// Streams the named tensors, stacked in order, to the GPU. `progress` hears the number of bytes of each piece.
    pub async fn load(
        gpu: &Gpu,
        weights: &dyn Weights,
        names: &[String],
        progress: &mut dyn FnMut(u64),
    ) -> Result<Self> {
        let mut loading = Loading::new(gpu, weights);
        let matrix = loading.matrix(names)?;
        loading.run(progress).await?;
        Ok(matrix)
    }

    /// A matrix from GGUF rows in memory.
    pub fn from_bytes(gpu: &Gpu, dtype: DType, bytes: &[u8], cols: usize) -> Result<Self> {
        let mut matrix = Self { rows: 0, cols, parts: Vec::new() };
        let row_bytes = dtype.row_bytes(cols);
        let most = max_rows(gpu, dtype, cols);
        for piece in bytes.chunks(most * row_bytes) {
            let part = Part::new(gpu, dtype, matrix.rows, piece.len() / row_bytes, cols)?;
            part.write(gpu, 0, piece, cols);
            matrix.push(part);
        }
        Ok(matrix)
    }

    /// A tensor's rows as a table, without a copy.
    pub fn of_tensor(tensor: &Tensor) -> Self {
        let part = Part {
            dtype: DType::F32,
            first_row: 0,
            rows: tensor.rows,
            w: tensor.buffer.clone(),
            s: tensor.buffer.clone(),
        };
        Self { rows: tensor.rows, cols: tensor.cols, parts: vec![part] }
    }

    /// Whether all rows are in one pair of buffers and one format.
    pub fn is_whole(&self) -> bool {
        self.parts.len() == 1
    }

    /// Whether all of it is in block formats: products with integer activations then take it.
    pub fn is_blocks(&self) -> bool {
        self.parts.iter().all(|part| part.dtype.block_len() > 1)
    }

    /// Whether none of it is in a block format.
    pub fn is_floats(&self) -> bool {
        self.parts.iter().all(|part| part.dtype.block_len() == 1)
    }

    /// The formats of its parts.
    pub(crate) fn formats(&self) -> impl Iterator<Item = DType> {
        self.parts.iter().map(|part| part.dtype)
    }

    /// Bytes on the GPU.
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(|p| p.w.bytes() + p.s.bytes()).sum()
    }

    pub(super) fn push(&mut self, part: Part) {
        self.rows += part.rows;
        self.parts.push(part);
    }
}

/// Rows that fit one binding and one dispatch of the matrix-vector kernel (two rows a workgroup).
pub(super) fn max_rows(gpu: &Gpu, dtype: DType, cols: usize) -> usize {
    let (w, s) = packed_words(dtype, cols);
    let limit = (gpu.facts().max_binding_bytes / 4) as usize;
    let rows = (limit / w.max(s).max(1)).clamp(1, 2 * 65_535);
    // Whole blocks of outputs, where there is more than one.
    if rows > 32 { rows / 32 * 32 } else { rows }
}

impl Part {
    pub(super) fn new(gpu: &Gpu, dtype: DType, first_row: usize, rows: usize, cols: usize) -> Result<Self> {
        let (w, s) = packed_words(dtype, cols);
        Ok(Self {
            dtype,
            first_row,
            rows,
            w: gpu.buffer("weights", (rows * w * 4) as u64)?,
            s: gpu.buffer("scales", (rows * s * 4) as u64)?,
        })
    }

    /// Writes whole rows from row `at` of this part.
    fn write(&self, gpu: &Gpu, at: usize, bytes: &[u8], cols: usize) {
        let packed = pack_rows(self.dtype, bytes, cols);
        let (w, s) = packed_words(self.dtype, cols);
        gpu.write(&self.w, (at * w * 4) as u64, bytemuck::cast_slice(&packed.w));
        gpu.write(&self.s, (at * s * 4) as u64, bytemuck::cast_slice(&packed.s));
    }
}
