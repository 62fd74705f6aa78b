//! `shaders/matmul_coop.wgsl` and `shaders/matmul_coop_few.wgsl`: matrix products on cooperative matrices.

use super::{Matrix, Tiles, matrix::format_name};
use crate::gpu::{Gpu, Recording, Tensor, params};

/// Most tokens of a tile: up to here `matmul_coop_few` reads the weights once for all.
const FEW: usize = 16;
/// Tokens and rows that a workgroup of `matmul_coop` takes.
const SIDE: usize = 128;

/// Whether this device can multiply `matrix` on cooperative matrices.
pub fn can_coop(gpu: &Gpu, matrix: &Matrix) -> bool {
    gpu.facts().cooperative
        && matrix.cols.is_multiple_of(64)
        && matrix.parts.iter().all(|part| part.rows.is_multiple_of(16) && part.first_row.is_multiple_of(16))
}

/// Rows that `x` and `y` must have room for, for a product of `tokens`.
pub fn coop_rows(tokens: usize) -> usize {
    tokens.next_multiple_of(if tokens <= FEW { FEW } else { SIDE })
}

/// y[t, n] = Σ_k W[n, k] · x[t, k], + y[t, n] with `add`. Rows of y past `tokens`, up to [`coop_rows`], may be overwritten.
pub fn matmul_coop(
    gpu: &Gpu,
    recording: &mut Recording,
    matrix: &Matrix,
    x: &Tiles,
    y: &Tensor,
    tokens: usize,
    add: bool,
) {
    assert!(can_coop(gpu, matrix), "matmul_coop: the device or the matrix cannot");
    assert_eq!(x.cols, matrix.cols, "matmul_coop: x has {} columns, the matrix {}", x.cols, matrix.cols);
    assert!(y.cols >= matrix.rows, "matmul_coop: y has {} columns, the matrix {} rows", y.cols, matrix.rows);
    let rows = if tokens <= FEW { tokens } else { coop_rows(tokens) };
    assert!(coop_rows(tokens) <= x.rows && rows <= y.rows, "matmul_coop: {tokens} tokens, x {}, y {}", x.rows, y.rows);
    for part in &matrix.parts {
        let buffers = [&part.w, &part.s, &x.buffer, &y.buffer];
        let defines = [format_name(part.dtype), "COOP"];
        let (cols8, rows) = (matrix.cols as u32 / 8, part.rows as u32);
        let (y_stride, y_offset, flags) = (y.stride as u32, part.first_row as u32, u32::from(add));
        if tokens <= FEW {
            let params = params::MatmulCoopFew { cols8, rows, tokens: tokens as u32, y_stride, y_offset, flags };
            let groups = [part.rows / 16, 1, 1];
            recording.dispatch(gpu, ("matmul_coop_few", &defines), params, &buffers, groups);
        } else {
            let params = params::MatmulCoop { cols8, rows, tokens: tokens as u32, y_stride, y_offset, flags };
            let groups = [tokens.div_ceil(SIDE), part.rows.div_ceil(SIDE), 1];
            recording.dispatch(gpu, ("matmul_coop", &defines), params, &buffers, groups);
        }
    }
}
