// Embedding lookup: y[t] = table[token[t]], from a table in any weight format. A table in several parts is looked up part by
// part: rows that another part holds are left alone.
// DRAWN: the ids are those that the step before has written beside its log-probabilities, as f32.
#import weights8

struct Params {
    cols8: u32,
    first_row: u32,
    rows: u32,
    stride: u32,
    entry_stride: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
#import weights/$FORMAT
@group(0) @binding(3) var<storage, read> tokens: array<u32>;       // (tokens, entry_stride): the id first
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>; // (tokens, stride / 4)

// One workgroup a token.
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
#ifdef DRAWN
    let token = u32(bitcast<f32>(tokens[group.x * params.entry_stride]));
#else
    let token = tokens[group.x * params.entry_stride];
#endif
    if token < params.first_row || token - params.first_row >= params.rows {
        return;
    }
    for (var k8 = local; k8 < params.cols8; k8 += 64u) {
        let v = weights8(token - params.first_row, k8);
        let i = group.x * (params.stride / 4u) + k8 * 2u;
        y[i] = v.a;
        y[i + 1u] = v.b;
    }
}
