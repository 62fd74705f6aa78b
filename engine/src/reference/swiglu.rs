//! Twin of `shaders/swiglu.wgsl`.

/// silu(gate) · up; x is (rows, 2 · cols): gate, then up.
pub fn swiglu(x: &[f32], cols: usize) -> Vec<f32> {
    x.chunks(2 * cols)
        .flat_map(|row| {
            let (gate, up) = row.split_at(cols);
            gate.iter().zip(up).map(|(g, u)| (f64::from(*g) / (1.0 + (-f64::from(*g)).exp()) * f64::from(*u)) as f32)
        })
        .collect()
}
