//! `shaders/embed.wgsl`: embedding lookup.

use super::{Matrix, matrix::format_name};
use crate::gpu::{Buffer, Gpu, Recording, Tensor, params};

/// Where token ids are: one every `stride` words, from the first on.
#[derive(Debug, Clone, Copy)]
pub struct Tokens<'a> {
    /// The words.
    pub buffer: &'a Buffer,
    /// Words between two ids.
    pub stride: usize,
    /// How many.
    pub count: usize,
    /// They are f32: the step before wrote them beside its log-probabilities.
    pub drawn: bool,
}

/// `y[t] = table[token[t]]`. The ids must be below the table's rows: the caller checks, the kernel skips others.
pub fn embed(gpu: &Gpu, recording: &mut Recording, table: &Matrix, tokens: Tokens<'_>, y: &Tensor) {
    assert!(y.cols == table.cols && tokens.count <= y.rows, "embed: y is {}×{}", y.rows, y.cols);
    for part in &table.parts {
        let params = params::Embed {
            cols8: table.cols.div_ceil(8) as u32,
            first_row: part.first_row as u32,
            rows: part.rows as u32,
            stride: y.stride as u32,
            entry_stride: tokens.stride as u32,
        };
        let buffers = [&part.w, &part.s, tokens.buffer, &y.buffer];
        let mut defines = vec![format_name(part.dtype)];
        defines.extend(tokens.drawn.then_some("DRAWN"));
        recording.dispatch(gpu, ("embed", &defines), params, &buffers, [tokens.count, 1, 1]);
    }
}
