// LayerNorm with a residual connection: v = x + residual, y = (v - mean(v)) / sqrt(var(v) + eps) · weight + bias.
// One row per workgroup. TILES: also as f16 in tiles, for a product on cooperative matrices.
#import reduce

struct Params {
    cols: u32,
    stride: u32,
    eps: f32,
    residual: u32,  // 0: v = x
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;         // (rows, stride)
@group(0) @binding(2) var<storage, read> residual: array<f32>;  // (rows, stride)
@group(0) @binding(3) var<storage, read> weight: array<f32>;    // (cols)
@group(0) @binding(4) var<storage, read> bias: array<f32>;      // (cols)
@group(0) @binding(5) var<storage, read_write> y: array<f32>;   // (rows, stride)
#ifdef TILES
@group(0) @binding(6) var<storage, read_write> z: array<f16>;   // (rows / 16, cols / 16, 16, 16)
#endif

fn value(i: u32) -> f32 {
    if params.residual != 0u {
        return x[i] + residual[i];
    }
    return x[i];
}

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
    var sum = 0.0;
    for (var i = local; i < params.cols; i += WORKGROUP) {
        sum += value(row + i);
    }
    let mean = reduce_sum(sum, local, lane, lanes) / f32(params.cols);
    // Squares of deviations, not E[v²] - mean²: that would cancel where the mean is large.
    var squares = 0.0;
    for (var i = local; i < params.cols; i += WORKGROUP) {
        let deviation = value(row + i) - mean;
        squares += deviation * deviation;
    }
    let variance = reduce_sum(squares, local, lane, lanes) / f32(params.cols);
    // BERT's eps of 1e-12 vanishes beside any variance but 0, where 1/sqrt would overflow.
    let scale = 1.0 / sqrt(max(variance + params.eps, 1e-30));
    for (var i = local; i < params.cols; i += WORKGROUP) {
        let normed = (value(row + i) - mean) * scale * weight[i] + bias[i];
        y[row + i] = normed;
#ifdef TILES
        z[((group.x / 16u * (params.cols / 16u) + i / 16u) * 16u + group.x % 16u) * 16u + i % 16u] = f16(normed);
#endif
    }
}
