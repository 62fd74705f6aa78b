//! `shaders/quantize.wgsl`: activations as blocks of 16-bit integers, what the products of block formats take.

use crate::{
    Result,
    gpu::{Buffer, Gpu, Recording, Tensor, params},
};

/// Rows of activations in blocks of 32 integers of 16 bits; `shaders/shared/q16.wgsl` has the layout.
#[derive(Debug, Clone)]
pub struct Integers {
    /// Where they live.
    pub buffer: Buffer,
    /// Rows that fit.
    pub rows: usize,
    /// Columns, whole blocks.
    pub cols: usize,
}

/// Bytes of a block: four planes of bytes and one of sums.
const BLOCK_BYTES: usize = 5 * 16;

impl Integers {
    /// Room for `rows` × `cols`, rounded up to whole blocks.
    pub fn new(gpu: &Gpu, label: &str, rows: usize, cols: usize) -> Result<Self> {
        let buffer = gpu.buffer(label, (rows * cols.div_ceil(32) * BLOCK_BYTES) as u64)?;
        Ok(Self { buffer, rows, cols })
    }

    /// Blocks a row.
    pub fn blocks(&self) -> usize {
        self.cols / 32
    }
}

/// z = x, or x · gain, for the first `rows` rows of x, with the sums of x's squares.
pub fn quantize(gpu: &Gpu, recording: &mut Recording, x: &Tensor, gain: Option<&Buffer>, z: &Integers, rows: usize) {
    assert!(x.cols == z.cols && z.cols.is_multiple_of(32), "quantize: {} columns, {} wanted", x.cols, z.cols);
    assert!(rows <= x.rows && rows <= z.rows, "quantize: {rows} rows, x holds {}, z {}", x.rows, z.rows);
    let params = params::Quantize {
        blocks: z.blocks() as u32,
        rows: rows as u32,
        x_stride: x.stride as u32,
        has_gain: u32::from(gain.is_some()),
    };
    let buffers = [&x.buffer, gain.unwrap_or(&x.buffer), &z.buffer];
    recording.dispatch(gpu, ("quantize", &[]), params, &buffers, [z.blocks().div_ceil(8), rows, 1]);
}
