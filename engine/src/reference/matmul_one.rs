//! Twin of `shaders/matmul_one.wgsl`.

/// W · x for one token, where `norm` (gain and epsilon) normalises x first; with `swiglu` W is gate over up, and the result is
/// silu(gate) · up.
pub fn matmul_one(w: &[f32], x: &[f32], norm: Option<(&[f32], f32)>, swiglu: bool) -> Vec<f32> {
    let rows = w.len() / x.len();
    let normed = norm.map(|(gain, eps)| super::rms_norm(x, gain, eps));
    let mut y = vec![0.0; rows];
    super::matmul_vec(w, normed.as_deref().unwrap_or(x), x.len(), None, &mut y);
    if swiglu { super::swiglu(&y, rows / 2) } else { y }
}
