//! Twin of `shaders/matmul_vec.wgsl`.

/// `y[t, n] = Σ_k w[n, k] · x[t, k] + bias[n] + y[t, n]`; w is (rows, cols), x (tokens, cols), y (tokens, rows).
pub fn matmul_vec(w: &[f32], x: &[f32], cols: usize, bias: Option<&[f32]>, y: &mut [f32]) {
    let rows = w.len() / cols;
    for (t, x) in x.chunks(cols).enumerate() {
        for (n, w) in w.chunks(cols).enumerate() {
            let dot: f64 = w.iter().zip(x).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            y[t * rows + n] += dot as f32 + bias.map_or(0.0, |b| b[n]);
        }
    }
}
