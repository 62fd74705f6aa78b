//! `shaders/logits_merge.wgsl`: per row the arg-max token, its log-probability and those of the watched tokens.

use super::logits_chunk::{CHUNK, logits_chunk};
use crate::gpu::{Buffer, Gpu, Recording, Tensor, params};

/// `out[row]` = (token, logprob, watched logprobs…) from the logits and their chunks.
pub fn logits_merge(
    gpu: &Gpu,
    recording: &mut Recording,
    logits: &Tensor,
    partials: &Buffer,
    watch: (&Buffer, usize),
    out: &Tensor,
    rows: usize,
) {
    assert_eq!(out.cols, 2 + watch.1, "logits_merge: columns of out");
    let params = params::LogitsMerge {
        stride: logits.stride as u32,
        chunks: logits.cols.div_ceil(CHUNK) as u32,
        watched: watch.1 as u32,
        out_stride: out.stride as u32,
    };
    let buffers = [&logits.buffer, partials, watch.0, &out.buffer];
    recording.dispatch(gpu, ("logits_merge", &[]), params, &buffers, [rows, 1, 1]);
}

/// Both halves: all that Self-RAG reads of a row of logits, 4 · (2 + watched) bytes instead of 4 · vocabulary.
pub fn token_statistics(
    gpu: &Gpu,
    recording: &mut Recording,
    logits: &Tensor,
    partials: &Buffer,
    watch: (&Buffer, usize),
    out: &Tensor,
    rows: usize,
) {
    logits_chunk(gpu, recording, logits, partials, rows);
    logits_merge(gpu, recording, logits, partials, watch, out, rows);
}

/// Bytes of partials that `rows` rows need.
pub(crate) fn partials_bytes(vocabulary: usize, rows: usize) -> u64 {
    (rows * vocabulary.div_ceil(CHUNK) * 16) as u64
}
