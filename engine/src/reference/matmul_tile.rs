//! Twin of `shaders/matmul_tile.wgsl`: the same function as the kernel for few tokens, by definition.

/// See [`super::matmul_vec`].
pub fn matmul_tile(w: &[f32], x: &[f32], cols: usize, bias: Option<&[f32]>, y: &mut [f32]) {
    super::matmul_vec(w, x, cols, bias, y);
}
