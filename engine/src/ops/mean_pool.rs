//! `shaders/mean_pool.wgsl`: one vector for each sequence.

use crate::gpu::{Buffer, Gpu, Recording, Tensor, params};

/// `y[s]` = mean of the rows of sequence s, of length 1 where `normalise` says so; `spans` holds (first row, rows) of each.
pub fn mean_pool(
    gpu: &Gpu,
    recording: &mut Recording,
    spans: (&Buffer, usize),
    x: &Tensor,
    normalise: bool,
    y: &Tensor,
) {
    assert!(x.cols == y.cols && spans.1 <= y.rows, "mean_pool: {} sequences into {}×{}", spans.1, y.rows, y.cols);
    let params = params::MeanPool {
        cols: x.cols as u32,
        x_stride: x.stride as u32,
        y_stride: y.stride as u32,
        normalise: u32::from(normalise),
    };
    recording.dispatch(gpu, ("mean_pool", &[]), params, &[spans.0, &x.buffer, &y.buffer], [spans.1, 1, 1]);
}
