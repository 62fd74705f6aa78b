// Causal grouped-query attention over the paged KV cache: softmax(q · Kᵀ / sqrt(head_dim)) · V.
// A workgroup computes one head of one row. It walks the row's keys 64 at a time with a running maximum and sum (online softmax),
// so any context length takes the same workgroup memory. Sequences that share a prefix share its pages.
#import reduce

struct Params {
    heads: u32,
    kv_heads: u32,
    head_dim: u32,    // even, at most 256
    q_stride: u32,
    y_stride: u32,
    max_pages: u32,   // row length of the page table
    page_size: u32,
    scale: f32,       // 1 / sqrt(head_dim)
}

struct Row {
    token: u32,
    position: u32,
    sequence: u32,
    slot: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> rows: array<Row>;          // (rows)
@group(0) @binding(2) var<storage, read> pages: array<u32>;         // (sequences, max_pages)
@group(0) @binding(3) var<storage, read> q: array<f32>;             // (rows, q_stride)
#ifdef KV_F32
@group(0) @binding(4) var<storage, read> keys: array<vec2<f32>>;    // (slots, kv_heads, head_dim / 2)
@group(0) @binding(5) var<storage, read> values: array<vec2<f32>>;  // same
#else
#ifdef F16
@group(0) @binding(4) var<storage, read> keys: array<vec2<f16>>;    // (slots, kv_heads, head_dim / 2)
@group(0) @binding(5) var<storage, read> values: array<vec2<f16>>;  // same
#else
@group(0) @binding(4) var<storage, read> keys: array<u32>;          // (slots, kv_heads, head_dim / 2): two f16
@group(0) @binding(5) var<storage, read> values: array<u32>;        // same
#endif
#endif
@group(0) @binding(6) var<storage, read_write> y: array<f32>;       // (rows, y_stride)

const LOWEST: f32 = -1e30;
var<workgroup> query: array<vec2<f32>, 128>;
var<workgroup> weights: array<f32, 64>;
var<workgroup> slots: array<u32, 64>;
var<workgroup> parts: array<vec4<f32>, 64>;

fn key_pair(i: u32) -> vec2<f32> {
#ifdef KV_F32
    return keys[i];
#else
#ifdef F16
    return vec2<f32>(keys[i]);
#else
    return unpack2x16float(keys[i]);
#endif
#endif
}

fn value_pair(i: u32) -> vec2<f32> {
#ifdef KV_F32
    return values[i];
#else
#ifdef F16
    return vec2<f32>(values[i]);
#else
    return unpack2x16float(values[i]);
#endif
#endif
}

// Workgroup (row, head).
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
    let row = rows[group.x];
    let head = group.y;
    let words = params.head_dim / 2u;
    let kv_words = params.kv_heads * words;
    let kv_offset = head / (params.heads / params.kv_heads) * words;
    for (var i = local; i < words; i += 64u) {
        let at = group.x * params.q_stride + head * params.head_dim + i * 2u;
        query[i] = vec2<f32>(q[at], q[at + 1u]) * params.scale;
    }
    workgroupBarrier();

    // Invocations are split over words of the head and, where words are few, over keys: `stripes` invocations share a word.
    let stripes = max(64u / words, 1u);
    let stripe = local / words;
    let word = local % words;
    let is_active = stripe < stripes;
    var highest = LOWEST;
    var sum = 0.0;
    var out = vec4<f32>(0.0);  // this invocation's word and, for heads over 128, the word 64 further on
    let count = row.position + 1u;
    for (var first = 0u; first < count; first += 64u) {
        let here = min(count - first, 64u);
        var score = LOWEST;
        if local < here {
            let position = first + local;
            let page = pages[row.sequence * params.max_pages + position / params.page_size];
            let slot = page * params.page_size + position % params.page_size;
            slots[local] = slot;
            let base = slot * kv_words + kv_offset;
            score = 0.0;
            for (var i = 0u; i < words; i++) {
                score += dot(query[i], key_pair(base + i));
            }
        }
        let new_highest = max(highest, reduce_max(score, local, lane, lanes));
        let weight = select(0.0, exp(score - new_highest), local < here);
        weights[local] = weight;
        let correction = exp(max(highest - new_highest, -80.0));
        sum = sum * correction + reduce_sum(weight, local, lane, lanes);
        out *= correction;
        highest = new_highest;
        if is_active {
            for (var i = stripe; i < here; i += stripes) {
                let base = slots[i] * kv_words + kv_offset + word;
                out = vec4<f32>(out.xy + weights[i] * value_pair(base), out.zw);
                if word + 64u < words {
                    out = vec4<f32>(out.xy, out.zw + weights[i] * value_pair(base + 64u));
                }
            }
        }
        workgroupBarrier();
    }
    parts[local] = out;
    workgroupBarrier();
    if local < min(words, 64u) {
        var total = parts[local];
        for (var i = 1u; i < stripes; i++) {
            total += parts[local + i * words];
        }
        total /= sum;
        let at = group.x * params.y_stride + head * params.head_dim + local * 2u;
        y[at] = total.x;
        y[at + 1u] = total.y;
        if local + 64u < words {
            y[at + 128u] = total.z;
            y[at + 129u] = total.w;
        }
    }
}
