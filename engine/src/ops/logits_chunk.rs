//! `shaders/logits_chunk.wgsl`: maximum, index and sum of exponentials of each chunk of a row of logits.

use crate::gpu::{Buffer, Gpu, Recording, Tensor, params};

/// Logits a chunk.
pub(super) const CHUNK: usize = 2048;

/// partials[row, chunk] = (maximum, Σ exp(logit - maximum), index of the maximum, 0) for the first `rows` rows.
pub fn logits_chunk(gpu: &Gpu, recording: &mut Recording, logits: &Tensor, partials: &Buffer, rows: usize) {
    let chunks = logits.cols.div_ceil(CHUNK);
    assert!(partials.bytes() >= (rows * chunks * 16) as u64, "logits_chunk: partials too small");
    let params =
        params::LogitsChunk { vocabulary: logits.cols as u32, stride: logits.stride as u32, chunks: chunks as u32 };
    recording.dispatch(gpu, ("logits_chunk", &[]), params, &[&logits.buffer, partials], [chunks, rows, 1]);
}
