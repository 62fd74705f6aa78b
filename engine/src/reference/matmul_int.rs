//! Twin of `shaders/matmul_int.wgsl`.

/// W · x for each token, where x, times the gain of `norm` (gain and epsilon), is rounded to blocks of 16-bit integers before the
/// product and normalised after it; with `swiglu` W is gate over up, and the result is silu(gate) · up.
pub fn matmul_int(w: &[f32], x: &[f32], cols: usize, norm: Option<(&[f32], f32)>, swiglu: bool) -> Vec<f32> {
    let rows = w.len() / cols;
    let mut y = vec![0.0; x.len() / cols * rows];
    for (x, y) in x.chunks(cols).zip(y.chunks_mut(rows)) {
        let gained: Vec<f32> = match norm {
            Some((gain, _)) => x.iter().zip(gain).map(|(x, g)| x * g).collect(),
            None => x.to_vec(),
        };
        super::matmul_vec(w, &super::quantize(&gained, x).0, cols, None, y);
        if let Some((_, eps)) = norm {
            let mean = x.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / cols as f64;
            let scale = 1.0 / (mean + f64::from(eps)).sqrt();
            y.iter_mut().for_each(|y| *y = (f64::from(*y) * scale) as f32);
        }
    }
    if swiglu { super::swiglu(&y, rows / 2) } else { y }
}
