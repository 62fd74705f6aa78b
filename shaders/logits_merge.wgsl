// Second half of the token statistics: per row the arg-max token, its log-probability, and the log-probabilities of the watched
// tokens, all over the whole vocabulary: logprob(i) = logit(i) - maximum - ln Σ exp(logit - maximum).
#import reduce

struct Params {
    stride: u32,
    chunks: u32,
    watched: u32,
    out_stride: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> logits: array<f32>;          // (rows, stride)
@group(0) @binding(2) var<storage, read> partials: array<vec4<f32>>;  // (rows, chunks): maximum, sum, index, unused
@group(0) @binding(3) var<storage, read> watch: array<u32>;           // (watched): token ids
@group(0) @binding(4) var<storage, read_write> out: array<f32>;       // (rows, out_stride): token, logprob, watched

const LOWEST: f32 = -1e30;

// Workgroup per row.
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
    let base = group.x * params.chunks;
    var highest = LOWEST;
    for (var i = local; i < params.chunks; i += 64u) {
        highest = max(highest, partials[base + i].x);
    }
    let top = reduce_max(highest, local, lane, lanes);
    var sum = 0.0;
    for (var i = local; i < params.chunks; i += 64u) {
        sum += partials[base + i].y * exp(max(partials[base + i].x - top, -80.0));
    }
    let log_sum = log(reduce_sum(sum, local, lane, lanes));
    for (var i = local; i < params.watched; i += 64u) {
        out[group.x * params.out_stride + 2u + i] = logits[group.x * params.stride + watch[i]] - top - log_sum;
    }
    if local == 0u {
        // Chunks come in index order: the first with the maximum holds the lowest index.
        var i = 0u;
        while i + 1u < params.chunks && partials[base + i].x < top {
            i++;
        }
        out[group.x * params.out_stride] = partials[base + i].z;
        out[group.x * params.out_stride + 1u] = -log_sum;
    }
}
