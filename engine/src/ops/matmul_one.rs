//! `shaders/matmul_one.wgsl`: matrix product of a float format for one token.

use super::{Matrix, Norm, check_matmul, matrix::format_name};
use crate::gpu::{Gpu, Recording, Tensor, params};

/// What [`matmul_one`] does beside the product.
#[derive(Debug, Clone, Copy, Default)]
pub struct One<'a> {
    /// Normalise x on the way in.
    pub norm: Option<Norm<'a>>,
    /// The matrix is gate over up in one part; y, half as wide, is silu(gate) · up.
    pub swiglu: bool,
    /// Add to what y holds.
    pub add: bool,
}

/// y = W · x for the first row of x.
pub fn matmul_one(gpu: &Gpu, recording: &mut Recording, matrix: &Matrix, x: &Tensor, y: &Tensor, one: One<'_>) {
    assert!(matrix.is_floats(), "matmul_one: a block format");
    assert!(!one.swiglu || matrix.is_whole() && matrix.rows.is_multiple_of(2), "matmul_one: gate and up in one part");
    assert!(!one.swiglu || one.norm.is_some() && !one.add, "matmul_one: swiglu goes with a norm and no addition");
    if one.swiglu {
        assert_eq!(x.cols, matrix.cols, "matmul_one: x has {} columns, the matrix {}", x.cols, matrix.cols);
        assert!(y.cols >= matrix.rows / 2, "matmul_one: y has {} columns", y.cols);
    } else {
        check_matmul("matmul_one", matrix, x, y, 1);
    }
    for part in &matrix.parts {
        let params = params::MatmulOne {
            cols8: matrix.cols.div_ceil(8) as u32,
            cols: matrix.cols as u32,
            rows: part.rows as u32,
            y_offset: part.first_row as u32,
            flags: u32::from(one.add),
            eps: one.norm.map_or(0.0, |norm| norm.eps),
        };
        let gain = one.norm.map_or(&part.s, |norm| norm.gain);
        let mut defines = vec![format_name(part.dtype)];
        defines.extend(one.norm.map(|_| "NORM"));
        defines.extend(one.swiglu.then_some("SWIGLU"));
        let groups = [part.rows.div_ceil(2), 1, 1];
        let buffers = [&part.w, &part.s, &x.buffer, gain, &y.buffer];
        recording.dispatch(gpu, ("matmul_one", &defines), params, &buffers, groups);
    }
}
