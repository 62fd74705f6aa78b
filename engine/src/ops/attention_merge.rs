//! `shaders/attention_merge.wgsl`: puts the pieces of a row's attention together.

use super::Heads;
use crate::gpu::{Buffer, Gpu, Recording, Tensor, params};

/// y = Σ pieces / Σ weights for each row; `splits` as given to [`super::attention_decode`].
pub fn attention_merge(
    gpu: &Gpu,
    recording: &mut Recording,
    heads: Heads,
    rows: (&Buffer, usize),
    (pieces, splits): (&Buffer, usize),
    y: &Tensor,
) {
    assert!(y.cols == heads.heads * heads.head_dim && rows.1 <= y.rows, "attention_merge: y is {}×{}", y.rows, y.cols);
    let params = params::AttentionMerge {
        heads: heads.heads as u32,
        head_dim: heads.head_dim as u32,
        splits: splits as u32,
        y_stride: y.stride as u32,
    };
    let buffers = [rows.0, pieces, &y.buffer];
    recording.dispatch(gpu, ("attention_merge", &[]), params, &buffers, [rows.1, heads.heads, 1]);
}
