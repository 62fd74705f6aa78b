//! `shaders/top_k.wgsl`: the best rows of each chunk of scores, and the best of those again.

use crate::gpu::{Buffer, Gpu, Recording, Tensor, params};

/// Scores or pairs a chunk.
pub const CHUNK: usize = 4096;
/// Pairs that are few enough for the host.
const FEW: usize = 4096;
/// Words of a pair: the score's bits, the row.
const PAIR: usize = 2;

/// Pairs that [`top_k`] leaves of `count` scores or pairs of a question.
pub fn top_k_pairs(count: usize, k: usize) -> usize {
    count / CHUNK * k.min(CHUNK) + k.min(count % CHUNK)
}

/// Whether another launch on `pairs` pairs is worth it.
pub fn top_k_again(pairs: usize, k: usize) -> bool {
    pairs > FEW && top_k_pairs(pairs, k) < pairs
}

/// Pairs of (a score's bits, row) for each question: (questions, `stride`).
#[derive(Debug, Clone, Copy)]
pub struct Pairs<'a> {
    /// Where they are.
    pub buffer: &'a Buffer,
    /// Distance between questions in pairs.
    pub stride: usize,
}

impl Pairs<'_> {
    fn check(&self, questions: usize, end: usize) {
        let bytes = (questions * self.stride * PAIR * 4) as u64;
        assert!(end <= self.stride && self.buffer.bytes() >= bytes, "top_k: {end} pairs of {}", self.stride);
    }
}

/// Of the first `rows` scores of each question, numbered from `first_row` on, each chunk's `k` best, in any order, ties to the lower
/// row: [`top_k_pairs`] pairs from `at` on.
pub fn top_k(
    gpu: &Gpu,
    recording: &mut Recording,
    scores: &Tensor,
    (questions, rows, k): (usize, usize, usize),
    first_row: u32,
    (best, at): (Pairs<'_>, usize),
) {
    assert!(
        questions <= scores.rows && rows <= scores.cols && k > 0,
        "top_k: {k} of {questions}×{rows} of {}×{}",
        scores.rows,
        scores.cols
    );
    best.check(questions, at + top_k_pairs(rows, k));
    let params = params::TopK {
        count: rows as u32,
        stride: scores.stride as u32,
        k: k as u32,
        first_row,
        out_first: at as u32,
        out_stride: best.stride as u32,
    };
    let groups = [rows.div_ceil(CHUNK), questions, 1];
    recording.dispatch(gpu, ("top_k", &[]), params, &[&scores.buffer, best.buffer], groups);
}

/// The same of each question's first `count` pairs.
pub fn top_k_of_pairs(
    gpu: &Gpu,
    recording: &mut Recording,
    pairs: Pairs<'_>,
    (questions, count, k): (usize, usize, usize),
    best: Pairs<'_>,
) {
    assert!(k > 0, "top_k: none of {count} pairs");
    pairs.check(questions, count);
    best.check(questions, top_k_pairs(count, k));
    let params = params::TopK {
        count: count as u32,
        stride: pairs.stride as u32,
        k: k as u32,
        first_row: 0,
        out_first: 0,
        out_stride: best.stride as u32,
    };
    let groups = [count.div_ceil(CHUNK), questions, 1];
    recording.dispatch(gpu, ("top_k", &["PAIRS"]), params, &[pairs.buffer, best.buffer], groups);
}
