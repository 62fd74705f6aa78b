//! `shaders/matmul_coop_few.wgsl`: matrix product of up to 16 tokens on cooperative matrices.

use super::{Matrix, Tiles, matmul_coop};
use crate::gpu::{Gpu, Recording, Tensor, params};

/// Most tokens: a tile of them.
pub(super) const FEW: usize = 16;

/// y[t, n] = Σ_k W[n, k] · x[t, k], + y[t, n] with `add`.
pub fn matmul_coop_few(
    gpu: &Gpu,
    recording: &mut Recording,
    matrix: &Matrix,
    x: &Tiles,
    y: &Tensor,
    tokens: usize,
    add: bool,
) {
    assert!(tokens <= FEW, "matmul_coop_few: {tokens} tokens, {FEW} are the most");
    matmul_coop::check("matmul_coop_few", gpu, matrix, x, (y.rows, y.cols), (FEW, tokens));
    for part in &matrix.parts {
        let params = params::MatmulCoopFew {
            cols8: matrix.cols as u32 / 8,
            rows: part.rows as u32,
            tokens: tokens as u32,
            y_stride: y.stride as u32,
            y_offset: part.first_row as u32,
            flags: u32::from(add),
        };
        let defines = matmul_coop::defines(part.dtype);
        let buffers = [&part.w, &part.s, &x.buffer, &y.buffer];
        recording.dispatch(gpu, ("matmul_coop_few", &defines), params, &buffers, [part.rows / 16, 1, 1]);
    }
}
