// First half of the token statistics: maximum, its index and Σ exp(logit - maximum) of each chunk of a row of logits.
#import reduce

struct Params {
    vocabulary: u32,
    stride: u32,
    chunks: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> logits: array<f32>;             // (rows, stride)
@group(0) @binding(2) var<storage, read_write> partials: array<vec4<f32>>; // (rows, chunks): maximum, sum, index as bits, unused

const CHUNK: u32 = 2048u;
const LOWEST: f32 = -1e30;
var<workgroup> best: array<u32, 64>;

// Workgroup (chunk, row).
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
    let row = group.y * params.stride;
    let first = group.x * CHUNK;
    let end = min(first + CHUNK, params.vocabulary);
    var highest = LOWEST;
    var index = 0xffffffffu;
    for (var i = first + local; i < end; i += 64u) {
        let value = logits[row + i];
        if value > highest {
            highest = value;
            index = i;
        }
    }
    let top = reduce_max(highest, local, lane, lanes);
    var sum = 0.0;
    for (var i = first + local; i < end; i += 64u) {
        sum += exp(logits[row + i] - top);
    }
    let total = reduce_sum(sum, local, lane, lanes);
    // Of equal maxima the lowest index wins, as in a plain loop.
    best[local] = select(0xffffffffu, index, highest == top);
    workgroupBarrier();
    if local == 0u {
        var winner = best[0];
        for (var i = 1u; i < 64u; i++) {
            winner = min(winner, best[i]);
        }
        partials[group.y * params.chunks + group.x] = vec4<f32>(top, total, f32(winner), 0.0);
    }
}
