//! `shaders/matmul_tile.wgsl`: matrix product for many tokens.

use super::{Epilogue, Matrix, check_matmul, matrix::format_name};
use crate::gpu::{Gpu, Recording, Tensor, params};

/// y[t, n] = Σ_k W[n, k] · x[t, k]; x is (tokens, cols), y (tokens, rows).
pub fn matmul_tile(
    gpu: &Gpu,
    recording: &mut Recording,
    matrix: &Matrix,
    x: &Tensor,
    y: &Tensor,
    tokens: usize,
    epilogue: Epilogue<'_>,
) {
    check_matmul("matmul_tile", matrix, x, y, tokens);
    for part in &matrix.parts {
        let params = params::MatmulTile {
            cols8: matrix.cols.div_ceil(8) as u32,
            rows: part.rows as u32,
            tokens: tokens as u32,
            x_stride: x.stride as u32,
            y_stride: y.stride as u32,
            y_offset: part.first_row as u32,
            flags: epilogue.flags(),
        };
        let bias = epilogue.bias.unwrap_or(&part.s);
        let buffers = [&part.w, &part.s, &x.buffer, bias, &y.buffer];
        let groups = [part.rows.div_ceil(32), tokens.div_ceil(32), 1];
        recording.dispatch(gpu, ("matmul_tile", &[format_name(part.dtype)]), params, &buffers, groups);
    }
}
