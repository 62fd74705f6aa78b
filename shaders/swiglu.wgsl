// SwiGLU: y = silu(gate) · up, where gate and up are the two halves of x's columns.

struct Params {
    cols: u32,
    x_stride: u32,
    y_stride: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;        // (rows, x_stride): cols of gate, cols of up
@group(0) @binding(2) var<storage, read_write> y: array<f32>;  // (rows, y_stride)

// One invocation a value.
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let col = group.x * 64u + local;
    if col >= params.cols {
        return;
    }
    let gate = x[group.y * params.x_stride + col];
    let up = x[group.y * params.x_stride + params.cols + col];
    // exp overflows past 88; silu is 0 there to f32 precision long before.
    y[group.y * params.y_stride + col] = gate / (1.0 + exp(min(-gate, 80.0))) * up;
}
