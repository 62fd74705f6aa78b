//! `shaders/gelu.wgsl`: the activation of BERT.

use crate::gpu::{Gpu, Recording, Tensor, params};

/// x ← x · Φ(x) for the first `rows` rows.
pub fn gelu(gpu: &Gpu, recording: &mut Recording, x: &Tensor, rows: usize) {
    assert!(rows <= x.rows, "gelu: {rows} rows, x holds {}", x.rows);
    let params = params::Gelu { cols: x.cols as u32, stride: x.stride as u32 };
    recording.dispatch(gpu, ("gelu", &[]), params, &[&x.buffer], [x.cols.div_ceil(256), rows, 1]);
}
