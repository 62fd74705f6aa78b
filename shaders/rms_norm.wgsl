// RMSNorm: y = x / sqrt(mean(x²) + eps) · weight, one row per workgroup.
#import reduce

struct Params {
    cols: u32,
    stride: u32,
    eps: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;        // (rows, stride)
@group(0) @binding(2) var<storage, read> weight: array<f32>;   // (cols)
@group(0) @binding(3) var<storage, read_write> y: array<f32>;  // (rows, stride)

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
#ifdef SUBGROUPS
    @builtin(subgroup_invocation_id) lane: u32,
    @builtin(subgroup_size) lanes: u32,
#endif
) {
#ifndef SUBGROUPS
    let lane = 0u;
    let lanes = 1u;
#endif
    let row = group.x * params.stride;
    var squares = 0.0;
    for (var i = local; i < params.cols; i += WORKGROUP) {
        squares += x[row + i] * x[row + i];
    }
    let mean = reduce_sum(squares, local, lane, lanes) / f32(params.cols);
    let scale = 1.0 / sqrt(mean + params.eps);
    for (var i = local; i < params.cols; i += WORKGROUP) {
        y[row + i] = x[row + i] * scale * weight[i];
    }
}
