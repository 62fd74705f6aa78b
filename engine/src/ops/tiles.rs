//! `shaders/tiles.wgsl`: activations as f16 in tiles of 16 × 16, what products on cooperative matrices take.

use super::Norm;
use crate::{
    Result,
    gpu::{Buffer, Gpu, Recording, Tensor, params},
};

/// Rows of activations as f16 in tiles of 16 rows × 16 columns.
#[derive(Debug, Clone)]
pub struct Tiles {
    /// Where they live.
    pub buffer: Buffer,
    /// Rows that fit, whole tiles.
    pub rows: usize,
    /// Columns, whole tiles.
    pub cols: usize,
}

/// What [`tiles`] makes of its input.
#[derive(Debug, Clone, Copy)]
pub enum Shape<'a> {
    /// The same numbers.
    Plain,
    /// RMSNorm.
    Norm(Norm<'a>),
    /// silu(gate) · up, where the input is gate, then up.
    Swiglu,
}

impl Tiles {
    /// Room for `rows` × `cols`.
    pub fn new(gpu: &Gpu, label: &str, rows: usize, cols: usize) -> Result<Self> {
        let (rows, cols) = (rows.next_multiple_of(16), cols.next_multiple_of(16));
        Ok(Self { buffer: gpu.buffer(label, (rows * cols * 2) as u64)?, rows, cols })
    }
}

/// z = x for the first `rows` rows, which `shape` may change first.
pub fn tiles(gpu: &Gpu, recording: &mut Recording, x: &Tensor, shape: Shape<'_>, z: &Tiles, rows: usize) {
    let cols = if matches!(shape, Shape::Swiglu) { x.cols / 2 } else { x.cols };
    assert!(cols.is_multiple_of(16) && cols <= z.cols, "tiles: {cols} columns, z has {}", z.cols);
    assert!(rows <= x.rows && rows <= z.rows, "tiles: {rows} rows, x holds {}, z {}", x.rows, z.rows);
    let (define, gain, eps): (&[&str], _, _) = match shape {
        Shape::Plain => (&[], &x.buffer, 0.0),
        Shape::Norm(norm) => (&["NORM"], norm.gain, norm.eps),
        Shape::Swiglu => (&["SWIGLU"], &x.buffer, 0.0),
    };
    let params = params::Tiles { cols: cols as u32, x_stride: x.stride as u32, eps };
    recording.dispatch(gpu, ("tiles", define), params, &[&x.buffer, gain, &z.buffer], [rows, 1, 1]);
}
