//! Twin of `shaders/gelu.wgsl`.

/// x · Φ(x), value by value.
pub fn gelu(x: &[f32]) -> Vec<f32> {
    let phi = |v: f64| 0.5 * (1.0 + erf(v / std::f64::consts::SQRT_2));
    x.iter().map(|v| (f64::from(*v) * phi(f64::from(*v))) as f32).collect()
}

/// erf(x) = 2/√π · e^(-x²) · Σ 2ⁿ x^(2n+1) / (2n+1)!! (Abramowitz and Stegun 7.1.6): all terms have one sign, so nothing cancels.
fn erf(x: f64) -> f64 {
    if x.abs() > 6.0 {
        return x.signum();
    }
    let (mut term, mut sum) = (x, x);
    for n in 1..300 {
        term *= 2.0 * x * x / f64::from(2 * n + 1);
        sum += term;
    }
    2.0 / std::f64::consts::PI.sqrt() * (-x * x).exp() * sum
}

#[cfg(test)]
mod tests {
    #[test]
    fn erf_has_the_tabulated_values() {
        // Abramowitz and Stegun, table 7.1.
        for (x, expected) in [(0.0, 0.0), (0.5, 0.520_499_877_8), (1.0, 0.842_700_792_9), (2.0, 0.995_322_265_0)] {
            assert!((super::erf(x) - expected).abs() < 1e-10 && (super::erf(-x) + expected).abs() < 1e-10, "erf({x})");
        }
    }
}
