// GELU: v · Φ(v) = v/2 · (1 + erf(v / √2)).
// erf by Abramowitz and Stegun 7.1.26, absolute error under 1.5e-7, on |v| with the sign put back.
fn gelu(v: vec4<f32>) -> vec4<f32> {
    let z = min(abs(v) * 0.7071067811865476, vec4<f32>(8.0));
    let t = 1.0 / (1.0 + 0.3275911 * z);
    let poly = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t;
    // 1 - erf(z), small and exact in the tail.
    let tail = poly * exp(-z * z);
    return select(v * (1.0 - 0.5 * tail), v * 0.5 * tail, v < vec4<f32>(0.0));
}
