// Mean of each sequence's rows, and, where asked for, division by its length √Σy².
// One workgroup a sequence.
#import reduce

struct Params {
    cols: u32,
    x_stride: u32,
    y_stride: u32,
    normalise: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> spans: array<vec2<u32>>;  // (sequences): first row, number of rows
@group(0) @binding(2) var<storage, read> x: array<f32>;            // (rows, x_stride)
@group(0) @binding(3) var<storage, read_write> y: array<f32>;      // (sequences, y_stride)

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
    let span = spans[group.x];
    let out = group.x * params.y_stride;
    var squares = 0.0;
    for (var col = local; col < params.cols; col += WORKGROUP) {
        var sum = 0.0;
        for (var row = 0u; row < span.y; row++) {
            sum += x[(span.x + row) * params.x_stride + col];
        }
        let mean = sum / f32(max(span.y, 1u));
        y[out + col] = mean;
        squares += mean * mean;
    }
    let length = sqrt(reduce_sum(squares, local, lane, lanes));
    if params.normalise != 0u {
        // Each invocation divides what it wrote itself; a zero vector stays zero.
        let scale = 1.0 / max(length, 1e-12);
        for (var col = local; col < params.cols; col += WORKGROUP) {
            y[out + col] *= scale;
        }
    }
}
