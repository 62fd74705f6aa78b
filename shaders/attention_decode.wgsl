// Attention of sequences that go on by one token each: rotary embedding of the new query and key, the write of the new key and value
// into the paged KV cache, and causal grouped-query attention over the past.
// A workgroup computes one head of one row over 64 positions, so that a long past keeps as many workgroups busy as it has pieces;
// `attention_merge` puts the pieces together. The new key and value are taken from the projection, not from the cache, so
// no launch has to write them before. A head is read 8 dimensions an invocation: 16 bytes of f16.
#import reduce

struct Params {
    heads: u32,
    kv_heads: u32,
    head_dim: u32,    // a multiple of 8, at most 256
    rope_dim: u32,    // leading dimensions that turn, a multiple of 2, in pairs (2i, 2i + 1)
    qkv_stride: u32,
    max_pages: u32,   // row length of the page table
    page_size: u32,
    splits: u32,      // pieces that a row of `pieces` has room for
    scale: f32,       // 1 / sqrt(head_dim)
}

struct Row {
    token: u32,
    position: u32,
    sequence: u32,
    slot: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> rows: array<Row>;              // (rows)
@group(0) @binding(2) var<storage, read> pages: array<u32>;             // (sequences, max_pages)
@group(0) @binding(3) var<storage, read> qkv: array<vec4<f32>>;         // (rows, qkv_stride / 4): q heads, k heads, v heads
@group(0) @binding(4) var<storage, read> angles: array<vec2<f32>>;      // (positions, rope_dim / 2): cos, sin
#ifdef KV_F32
@group(0) @binding(5) var<storage, read_write> keys: array<Eight>;      // (slots, kv_heads, head_dim / 8)
@group(0) @binding(6) var<storage, read_write> values: array<Eight>;    // same
#else
@group(0) @binding(5) var<storage, read_write> keys: array<vec4<u32>>;  // (slots, kv_heads, head_dim / 8): eight f16
@group(0) @binding(6) var<storage, read_write> values: array<vec4<u32>>; // same
#endif
@group(0) @binding(7) var<storage, read_write> pieces: array<vec4<f32>>; // (rows, heads, splits): maximum and sum, then Σ w · v

// Eight dimensions of a head.
struct Eight {
    a: vec4<f32>,
    b: vec4<f32>,
}

const SPAN: u32 = 64u;
const AHEAD: u32 = 8u;
const LOWEST: f32 = -1e30;
var<workgroup> products: array<f32, 64u * 33u>;  // (position, lane), a row's pitch odd so that sums meet no bank conflict
var<workgroup> weights: array<f32, 64>;
var<workgroup> slots: array<u32, 64>;
var<workgroup> parts: array<Eight, 64>;

#ifdef KV_F32
fn stored(v: Eight) -> Eight {
    return v;
}
fn loaded(v: Eight) -> Eight {
    return v;
}
#else
fn stored(v: Eight) -> vec4<u32> {
    return vec4<u32>(pack2x16float(v.a.xy), pack2x16float(v.a.zw), pack2x16float(v.b.xy), pack2x16float(v.b.zw));
}
fn loaded(v: vec4<u32>) -> Eight {
    return Eight(
        vec4<f32>(unpack2x16float(v.x), unpack2x16float(v.y)),
        vec4<f32>(unpack2x16float(v.z), unpack2x16float(v.w)),
    );
}
#endif

fn turn(pair: vec2<f32>, dim: u32, position: u32) -> vec2<f32> {
    if dim >= params.rope_dim {
        return pair;
    }
    let angle = angles[position * (params.rope_dim / 2u) + dim / 2u];
    return vec2<f32>(pair.x * angle.x - pair.y * angle.y, pair.y * angle.x + pair.x * angle.y);
}

// Dimensions dim..dim + 8 of the head whose values begin at `at`, turned.
fn turned(at: u32, dim: u32, position: u32) -> Eight {
    let a = qkv[at];
    let b = qkv[at + 1u];
    return Eight(
        vec4<f32>(turn(a.xy, dim, position), turn(a.zw, dim + 2u, position)),
        vec4<f32>(turn(b.xy, dim + 4u, position), turn(b.zw, dim + 6u, position)),
    );
}

// Workgroup (row, head, piece of the past).
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
    let first = group.z * SPAN;
    if first > row.position {
        return;
    }
    let here = min(row.position + 1u - first, SPAN);
    let eights = params.head_dim / 8u;
    let shared_by = params.heads / params.kv_heads;
    let kv_head = head / shared_by;
    // `eights` invocations share a position; some are idle where 64 is no multiple of that.
    let groups = 64u / eights;
    let part = local % eights;
    let turn_of = local / eights;
    let is_active = turn_of < groups;
    let base = group.x * (params.qkv_stride / 4u) + part * 2u;
    var query = turned(base + head * eights * 2u, part * 8u, row.position);
    query.a *= params.scale;
    query.b *= params.scale;
    if local < here {
        let position = first + local;
        let page = pages[row.sequence * params.max_pages + position / params.page_size];
        slots[local] = page * params.page_size + position % params.page_size;
    }
    workgroupBarrier();

    let own = row.position - first;
    if is_active {
        // Several loads under way at once: one after the other, each would wait for memory. The own position's are thrown away.
        for (var i = turn_of; i < here; i += groups * AHEAD) {
            var ahead: array<Eight, AHEAD>;
            for (var j = 0u; j < AHEAD; j++) {
                ahead[j] = loaded(keys[(slots[min(i + j * groups, here - 1u)] * params.kv_heads + kv_head) * eights + part]);
            }
            for (var j = 0u; j < AHEAD; j++) {
                if i + j * groups < here {
                    products[(i + j * groups) * 33u + part] = dot(query.a, ahead[j].a) + dot(query.b, ahead[j].b);
                }
            }
        }
        if own < SPAN && own % groups == turn_of {
            let fresh = stored(turned(base + (params.heads + kv_head) * eights * 2u, part * 8u, row.position));
            let key = loaded(fresh);
            if head % shared_by == 0u {
                keys[(row.slot * params.kv_heads + kv_head) * eights + part] = fresh;
            }
            products[own * 33u + part] = dot(query.a, key.a) + dot(query.b, key.b);
        }
    }
    workgroupBarrier();
    var score = LOWEST;
    if local < here {
        score = 0.0;
        for (var i = 0u; i < eights; i++) {
            score += products[local * 33u + i];
        }
    }
    let highest = reduce_max(score, local, lane, lanes);
    let weight = select(0.0, exp(score - highest), local < here);
    weights[local] = weight;
    let sum = reduce_sum(weight, local, lane, lanes);

    var out = Eight(vec4<f32>(0.0), vec4<f32>(0.0));
    if is_active {
        for (var i = turn_of; i < here; i += groups * AHEAD) {
            var ahead: array<Eight, AHEAD>;
            for (var j = 0u; j < AHEAD; j++) {
                ahead[j] = loaded(values[(slots[min(i + j * groups, here - 1u)] * params.kv_heads + kv_head) * eights + part]);
            }
            for (var j = 0u; j < AHEAD; j++) {
                let at = i + j * groups;
                if at < here && at != own {
                    out.a += weights[at] * ahead[j].a;
                    out.b += weights[at] * ahead[j].b;
                }
            }
        }
        if own < SPAN && own % groups == turn_of {
            let at = base + (params.heads + params.kv_heads + kv_head) * eights * 2u;
            let fresh = stored(Eight(qkv[at], qkv[at + 1u]));
            let value = loaded(fresh);
            if head % shared_by == 0u {
                values[(row.slot * params.kv_heads + kv_head) * eights + part] = fresh;
            }
            out.a += weights[own] * value.a;
            out.b += weights[own] * value.b;
        }
    }
    parts[local] = out;
    workgroupBarrier();
    let piece = ((group.x * params.heads + head) * params.splits + group.z) * (eights * 2u + 1u);
    if local < eights {
        for (var i = 1u; i < groups; i++) {
            out.a += parts[local + i * eights].a;
            out.b += parts[local + i * eights].b;
        }
        pieces[piece + 1u + local * 2u] = out.a;
        pieces[piece + 2u + local * 2u] = out.b;
    }
    if local == 0u {
        pieces[piece] = vec4<f32>(highest, sum, 0.0, 0.0);
    }
}
