//! Twin of `shaders/matmul_coop_few.wgsl`: the same function as the kernel for many tokens, by definition.

/// See [`super::matmul_coop`].
pub fn matmul_coop_few(w: &[f32], x: &[f32], cols: usize, y: &mut [f32]) {
    super::matmul_coop(w, x, cols, y);
}
