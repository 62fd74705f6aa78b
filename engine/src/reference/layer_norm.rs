//! Twin of `shaders/layer_norm.wgsl`.

/// (v - mean(v)) / sqrt(var(v) + eps) · weight + bias with v = x + residual, row by row; weight and bias are (cols).
pub fn layer_norm(x: &[f32], residual: Option<&[f32]>, weight: &[f32], bias: &[f32], eps: f32) -> Vec<f32> {
    let cols = weight.len();
    let sum = |i: usize| f64::from(x[i]) + residual.map_or(0.0, |r| f64::from(r[i]));
    let mut out = Vec::new();
    for row in 0..x.len() / cols {
        let v: Vec<f64> = (row * cols..(row + 1) * cols).map(sum).collect();
        let mean = v.iter().sum::<f64>() / cols as f64;
        let variance = v.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / cols as f64;
        let scale = 1.0 / (variance + f64::from(eps)).sqrt();
        out.extend((0..cols).map(|i| ((v[i] - mean) * scale) as f32 * weight[i] + bias[i]));
    }
    out
}
