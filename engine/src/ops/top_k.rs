//! `shaders/top_k.wgsl`: the best rows of each chunk of scores.

use crate::gpu::{Buffer, Gpu, Recording, Tensor, params};

/// Scores a chunk.
const CHUNK: usize = 2048;

/// Words of the result for `rows` scores a question: [`top_k`] writes pairs (score's bits, row or `u32::MAX`).
pub fn top_k_words(rows: usize, questions: usize, k: usize) -> usize {
    questions * rows.div_ceil(CHUNK) * k * 2
}

/// best[question, chunk, ..k] = the chunk's best rows, best first, for the first `rows` scores of each question.
pub fn top_k(
    gpu: &Gpu,
    recording: &mut Recording,
    scores: &Tensor,
    (questions, rows, k): (usize, usize, usize),
    best: &Buffer,
) {
    assert!(
        questions <= scores.rows && rows <= scores.cols,
        "top_k: {questions}×{rows} of {}×{}",
        scores.rows,
        scores.cols
    );
    assert!(best.bytes() >= top_k_words(rows, questions, k) as u64 * 4, "top_k: the result's buffer is too small");
    let chunks = rows.div_ceil(CHUNK);
    let params = params::TopK { rows: rows as u32, stride: scores.stride as u32, chunks: chunks as u32, k: k as u32 };
    recording.dispatch(gpu, ("top_k", &[]), params, &[&scores.buffer, best], [chunks, questions, 1]);
}
