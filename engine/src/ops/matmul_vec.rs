//! `shaders/matmul_vec.wgsl`: matrix product for few tokens.

use super::{Epilogue, Matrix, Norm, check_matmul, matrix::format_name};
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
    let (define, cols) = columns(tokens);
    for part in &matrix.parts {
        let extra = epilogue.bias.unwrap_or(&part.s);
        let buffers = [&part.w, &part.s, &x.buffer, extra, &y.buffer];
        let params = params::MatmulVec { flags: epilogue.flags(), ..part_params(matrix, part, x, y, tokens) };
        let groups = [part.rows.div_ceil(4), tokens.div_ceil(cols), 1];
        recording.dispatch(gpu, ("matmul_vec", &[format_name(part.dtype), define]), params, &buffers, groups);
    }
}

/// The same with x normalised on the way in. With `swiglu` the matrix is gate over up in one part (see [`Matrix::is_whole`]), and
/// y, half as wide, is silu(gate) · up.
#[allow(clippy::too_many_arguments, reason = "a product, what goes before it and what after")]
pub fn matmul_vec_norm(
    gpu: &Gpu,
    recording: &mut Recording,
    matrix: &Matrix,
    norm: Norm<'_>,
    swiglu: bool,
    x: &Tensor,
    y: &Tensor,
    tokens: usize,
) {
    assert_eq!(x.cols, matrix.cols, "matmul_vec_norm: x has {} columns, the matrix {}", x.cols, matrix.cols);
    let wanted = if swiglu { matrix.rows / 2 } else { matrix.rows };
    assert!(y.cols >= wanted, "matmul_vec_norm: y has {} columns, {wanted} wanted", y.cols);
    assert!(tokens <= x.rows && tokens <= y.rows, "matmul_vec_norm: {tokens} tokens, x {}, y {}", x.rows, y.rows);
    assert!(!swiglu || matrix.is_whole() && matrix.rows.is_multiple_of(2), "matmul_vec_norm: gate and up in one part");
    let (define, cols) = columns(tokens);
    for part in &matrix.parts {
        let buffers = [&part.w, &part.s, &x.buffer, norm.gain, &y.buffer];
        let params = params::MatmulVec { eps: norm.eps, ..part_params(matrix, part, x, y, tokens) };
        let groups = [part.rows.div_ceil(4), tokens.div_ceil(cols), 1];
        let mut defines = vec![format_name(part.dtype), define, "NORM"];
        defines.extend(swiglu.then_some("SWIGLU"));
        recording.dispatch(gpu, ("matmul_vec", &defines), params, &buffers, groups);
    }
}

/// How many tokens a workgroup takes.
fn columns(tokens: usize) -> (&'static str, usize) {
    match tokens {
        0..=1 => ("COLS=1", 1),
        2 => ("COLS=2", 2),
        3..=4 => ("COLS=4", 4),
        _ => ("COLS=8", 8),
    }
}

fn part_params(
    matrix: &Matrix,
    part: &super::matrix::Part,
    x: &Tensor,
    y: &Tensor,
    tokens: usize,
) -> params::MatmulVec {
    params::MatmulVec {
        cols8: matrix.cols.div_ceil(8) as u32,
        cols: matrix.cols as u32,
        rows: part.rows as u32,
        tokens: tokens as u32,
        x_stride: x.stride as u32,
        y_stride: y.stride as u32,
        y_offset: part.first_row as u32,
        flags: 0,
        eps: 0.0,
    }
}
