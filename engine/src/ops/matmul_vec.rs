//! `shaders/matmul_vec.wgsl`: matrix product for few tokens.

use super::{Epilogue, Matrix, check_matmul, matrix::format_name};
use crate::gpu::{Gpu, Recording, Tensor, params};

/// Most tokens for which this kernel is chosen: beyond, the tiled kernel reads the weights less often.
pub const MAX_VEC_TOKENS: usize = 16;

/// y[t, n] = Σ_k W[n, k] · x[t, k]; x is (tokens, cols), y (tokens, rows).
pub fn matmul_vec(
    gpu: &Gpu,
    recording: &mut Recording,
    matrix: &Matrix,
    x: &Tensor,
    y: &Tensor,
    tokens: usize,
    epilogue: Epilogue<'_>,
) {
    check_matmul("matmul_vec", matrix, x, y, tokens);
    let (define, cols) = match tokens {
        0..=1 => ("COLS=1", 1),
        2 => ("COLS=2", 2),
        3..=4 => ("COLS=4", 4),
        _ => ("COLS=8", 8),
    };
    for part in &matrix.parts {
        let params = params::MatmulVec {
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
        let groups = [part.rows.div_ceil(4), tokens.div_ceil(cols), 1];
        recording.dispatch(gpu, ("matmul_vec", &[format_name(part.dtype), define]), params, &buffers, groups);
    }
}
