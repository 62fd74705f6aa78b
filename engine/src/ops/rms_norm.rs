//! `shaders/rms_norm.wgsl`: root-mean-square normalisation.

use crate::gpu::{Buffer, Gpu, Recording, Tensor, params};

/// y = x / sqrt(mean(x²) + eps) · weight for the first `rows` rows; weight is (cols).
pub fn rms_norm(gpu: &Gpu, recording: &mut Recording, x: &Tensor, weight: &Buffer, eps: f32, y: &Tensor, rows: usize) {
    assert!(x.cols == y.cols && x.stride == y.stride, "rms_norm: x has {} columns, y {}", x.cols, y.cols);
    assert!(rows <= x.rows && rows <= y.rows, "rms_norm: {rows} rows, x holds {}, y {}", x.rows, y.rows);
    let params = params::RmsNorm { cols: x.cols as u32, stride: x.stride as u32, eps };
    recording.dispatch(gpu, ("rms_norm", &[]), params, &[&x.buffer, weight, &y.buffer], [rows, 1, 1]);
}
