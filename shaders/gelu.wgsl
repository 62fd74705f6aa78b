// GELU in place: x · Φ(x) = x/2 · (1 + erf(x / √2)).
// erf by Abramowitz and Stegun 7.1.26, absolute error under 1.5e-7, on |x| with the sign put back.

struct Params {
    cols: u32,
    stride: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> x: array<f32>;  // (rows, stride)

// One invocation a value: workgroup (64 columns, row).
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let col = group.x * 64u + local;
    if col >= params.cols {
        return;
    }
    let i = group.y * params.stride + col;
    let v = x[i];
    let z = min(abs(v) * 0.7071067811865476, 8.0);
    let t = 1.0 / (1.0 + 0.3275911 * z);
    let poly = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t;
    // 1 - erf(z), small and exact in the tail.
    let tail = poly * exp(-z * z);
    x[i] = select(v * (1.0 - 0.5 * tail), v * 0.5 * tail, v < 0.0);
}
