//! `shaders/swiglu.wgsl`: the gated activation.

use crate::gpu::{Gpu, Recording, Tensor, params};

/// y = silu(gate) · up for the first `rows` rows; x is (rows, 2 · cols): gate, then up.
pub fn swiglu(gpu: &Gpu, recording: &mut Recording, x: &Tensor, y: &Tensor, rows: usize) {
    assert_eq!(x.cols, 2 * y.cols, "swiglu: x has {} columns, y {}", x.cols, y.cols);
    let params = params::Swiglu { cols: y.cols as u32, x_stride: x.stride as u32, y_stride: y.stride as u32 };
    recording.dispatch(gpu, ("swiglu", &[]), params, &[&x.buffer, &y.buffer], [y.cols.div_ceil(64), rows, 1]);
}
