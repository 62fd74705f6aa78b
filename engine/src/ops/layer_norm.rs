//! `shaders/layer_norm.wgsl`: layer normalisation with a residual connection.

use super::Tiles;
use crate::gpu::{Buffer, Gpu, Recording, Tensor, params};

/// y = (v - mean(v)) / sqrt(var(v) + eps) · weight + bias with v = x + residual, for the first `rows` rows; weight and bias are (cols).
pub fn layer_norm(
    gpu: &Gpu,
    recording: &mut Recording,
    x: &Tensor,
    residual: Option<&Tensor>,
    norm: (&Buffer, &Buffer, f32),
    y: &Tensor,
    rows: usize,
) {
    launch(gpu, recording, x, residual, norm, (y, None), rows);
}

/// The same, into `z` as well: as f16 in tiles.
#[allow(clippy::too_many_arguments, reason = "two outputs")]
pub fn layer_norm_tiles(
    gpu: &Gpu,
    recording: &mut Recording,
    x: &Tensor,
    residual: Option<&Tensor>,
    norm: (&Buffer, &Buffer, f32),
    y: &Tensor,
    z: &Tiles,
    rows: usize,
) {
    assert!(x.cols == z.cols, "layer_norm: x has {} columns, z {}", x.cols, z.cols);
    assert!(rows <= z.rows, "layer_norm: {rows} rows, z holds {}", z.rows);
    launch(gpu, recording, x, residual, norm, (y, Some(z)), rows);
}

fn launch(
    gpu: &Gpu,
    recording: &mut Recording,
    x: &Tensor,
    residual: Option<&Tensor>,
    (weight, bias, eps): (&Buffer, &Buffer, f32),
    (y, z): (&Tensor, Option<&Tiles>),
    rows: usize,
) {
    for (name, tensor) in [("residual", residual.unwrap_or(x)), ("y", y)] {
        assert!(x.cols == tensor.cols, "layer_norm: x has {} columns, {name} {}", x.cols, tensor.cols);
        assert!(rows <= tensor.rows.min(x.rows), "layer_norm: {rows} rows, x holds {}, {name} {}", x.rows, tensor.rows);
    }
    let residual_flag = u32::from(residual.is_some());
    let params = params::LayerNorm { cols: x.cols as u32, stride: x.stride as u32, eps, residual: residual_flag };
    let mut buffers = vec![&x.buffer, &residual.unwrap_or(x).buffer, weight, bias, &y.buffer];
    buffers.extend(z.map(|z| &z.buffer));
    let defines: &[&str] = if z.is_some() { &["TILES"] } else { &[] };
    recording.dispatch(gpu, ("layer_norm", defines), params, &buffers, [rows, 1, 1]);
}
