//! `shaders/layer_norm.wgsl`: layer normalisation with a residual connection.

use crate::gpu::{Buffer, Gpu, Recording, Tensor, params};

/// y = (v - mean(v)) / sqrt(var(v) + eps) · weight + bias with v = x + residual, for the first `rows` rows; weight and bias are (cols).
pub fn layer_norm(
    gpu: &Gpu,
    recording: &mut Recording,
    x: &Tensor,
    residual: Option<&Tensor>,
    (weight, bias, eps): (&Buffer, &Buffer, f32),
    y: &Tensor,
    rows: usize,
) {
    for (name, tensor) in [("residual", residual.unwrap_or(x)), ("y", y)] {
        assert!(x.cols == tensor.cols, "layer_norm: x has {} columns, {name} {}", x.cols, tensor.cols);
        assert!(rows <= tensor.rows.min(x.rows), "layer_norm: {rows} rows, x holds {}, {name} {}", x.rows, tensor.rows);
    }
    let residual_flag = u32::from(residual.is_some());
    let params = params::LayerNorm { cols: x.cols as u32, stride: x.stride as u32, eps, residual: residual_flag };
    let buffers = [&x.buffer, &residual.unwrap_or(x).buffer, weight, bias, &y.buffer];
    recording.dispatch(gpu, ("layer_norm", &[]), params, &buffers, [rows, 1, 1]);
}
