//! `shaders/matmul_coop.wgsl`: matrix product of many tokens on cooperative matrices.

use super::{Matrix, Tiles, matrix::format_name};
use crate::{
    gpu::{Gpu, Recording, Tensor, params},
    weights::DType,
};

/// Tokens and rows that a workgroup takes.
pub(super) const SIDE: usize = 128;

/// Whether this device can multiply `matrix` on cooperative matrices.
pub fn can_coop(gpu: &Gpu, matrix: &Matrix) -> bool {
    gpu.facts().cooperative
        && matrix.cols.is_multiple_of(64)
        && matrix.parts.iter().all(|part| part.rows.is_multiple_of(16) && part.first_row.is_multiple_of(16))
}

/// The checks that both products share; `rows` is what y must hold.
pub(super) fn check(op: &str, gpu: &Gpu, matrix: &Matrix, (x, y): (&Tiles, &Tensor), (tokens, rows): (usize, usize)) {
    assert!(can_coop(gpu, matrix), "{op}: the device or the matrix cannot");
    assert_eq!(x.cols, matrix.cols, "{op}: x has {} columns, the matrix {}", x.cols, matrix.cols);
    assert!(y.cols >= matrix.rows, "{op}: y has {} columns, the matrix {} rows", y.cols, matrix.rows);
    let room = super::coop_rows(tokens);
    assert!(room <= x.rows && rows <= y.rows, "{op}: {tokens} tokens, x holds {}, y {}", x.rows, y.rows);
}

/// A part's variant.
pub(super) fn defines(dtype: DType) -> Vec<&'static str> {
    let mut defines = vec![format_name(dtype), "COOP"];
    defines.extend((dtype == DType::F16).then_some("RAW"));
    defines
}

/// y[t, n] = Σ_k W[n, k] · x[t, k], + y[t, n] with `add`. Rows of y past `tokens`, up to [`super::coop_rows`], are overwritten.
pub fn matmul_coop(
    gpu: &Gpu,
    recording: &mut Recording,
    matrix: &Matrix,
    x: &Tiles,
    y: &Tensor,
    tokens: usize,
    add: bool,
) {
    check("matmul_coop", gpu, matrix, (x, y), (tokens, tokens.next_multiple_of(SIDE)));
    for part in &matrix.parts {
        let params = params::MatmulCoop {
            cols8: matrix.cols as u32 / 8,
            rows: part.rows as u32,
            tokens: tokens as u32,
            y_stride: y.stride as u32,
            y_offset: part.first_row as u32,
            flags: u32::from(add),
        };
        let groups = [tokens.div_ceil(SIDE), part.rows.div_ceil(SIDE), 1];
        let buffers = [&part.w, &part.s, &x.buffer, &y.buffer];
        recording.dispatch(gpu, ("matmul_coop", &defines(part.dtype)), params, &buffers, groups);
    }
}
