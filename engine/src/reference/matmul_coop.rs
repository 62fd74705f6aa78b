//! Twin of `shaders/matmul_coop.wgsl`.

use half::f16;

/// y[t, n] += Σ_k w[n, k] · x[t, k] over operands rounded to f16; w is (rows, cols), x (tokens, cols), y (tokens, rows).
pub fn matmul_coop(w: &[f32], x: &[f32], cols: usize, y: &mut [f32]) {
    let rounded = |values: &[f32]| -> Vec<f32> { values.iter().map(|v| f16::from_f32(*v).to_f32()).collect() };
    super::matmul_vec(&rounded(w), &rounded(x), cols, None, y);
}
