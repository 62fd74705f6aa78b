//! Twin of `shaders/mean_pool.wgsl`.

use crate::ops::Span;

/// The mean of each sequence's rows, of length 1 where `normalise` says so; x is (rows, cols).
pub fn mean_pool(spans: &[Span], x: &[f32], cols: usize, normalise: bool) -> Vec<f32> {
    let mut out = Vec::new();
    for (first, count) in spans {
        let rows = &x[*first as usize * cols..(*first + *count) as usize * cols];
        let sum = |col: usize| rows.iter().skip(col).step_by(cols).map(|v| f64::from(*v)).sum::<f64>();
        let mean: Vec<f64> = (0..cols).map(|col| sum(col) / f64::from(*count)).collect();
        let length = mean.iter().map(|v| v * v).sum::<f64>().sqrt();
        let scale = if normalise { 1.0 / length.max(1e-12) } else { 1.0 };
        out.extend(mean.iter().map(|v| (v * scale) as f32));
    }
    out
}
