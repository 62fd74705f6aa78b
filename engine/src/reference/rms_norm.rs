//! Twin of `shaders/rms_norm.wgsl`.

/// x / sqrt(mean(x²) + eps) · weight, row by row; x is (rows, cols), weight (cols).
pub fn rms_norm(x: &[f32], weight: &[f32], eps: f32) -> Vec<f32> {
    x.chunks(weight.len())
        .flat_map(|row| {
            let mean = row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / row.len() as f64;
            let scale = 1.0 / (mean + f64::from(eps)).sqrt();
            row.iter().zip(weight).map(move |(v, w)| (f64::from(*v) * scale) as f32 * w)
        })
        .collect()
}
