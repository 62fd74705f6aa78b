// Attention of sequences that go on by one token each: rotary embedding of the new query and key, the write of the new key and value
// into the paged KV cache, and causal grouped-query attention over the past.
// A workgroup computes one head of one row over 64 positions, so that a long past keeps as many workgroups busy as it has pieces;
// `attention_merge` puts the pieces together. The new key and value are taken from the projection, not from the cache, so
// no launch has to write them before. A head is read 8 dimensions an invocation: 16 bytes of f16, and with a head of 128 all
// keys and values of the 64 positions are under way at once, since waiting for memory is most of what this kernel does.

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
@group(0) @binding(7) var<storage, read_write> pieces: array<f32>;       // (rows, heads, splits): maximum, sum, 0, 0, then Σ w · v

// Eight dimensions of a head.
struct Eight {
    a: vec4<f32>,
    b: vec4<f32>,
}

const SPAN: u32 = 64u;
const THREADS: u32 = $THREADSu;
const LOWEST: f32 = -1e30;
// Products (position, lane), a row's pitch odd so that sums meet no bank conflict; then sums (dimension of eight, invocation).
var<workgroup> scratch: array<f32, 64u * 33u>;
var<workgroup> scores: array<vec4<f32>, 16>;
var<workgroup> weights: array<vec4<f32>, 16>;

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

fn slot_of(row: Row, position: u32) -> u32 {
    return pages[row.sequence * params.max_pages + position / params.page_size] * params.page_size
        + position % params.page_size;
}

// Workgroup (row, head, piece of the past).
@compute @workgroup_size($THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
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
    // `eights` invocations share a position; some are idle where they do not divide the workgroup.
    let groups = THREADS / eights;
    let part = local % eights;
    let turn_of = local / eights;
    let is_active = turn_of < groups;
    let at_kv = kv_head * eights + part;
    let kv_stride = params.kv_heads * eights;
    // The own position is read too, and thrown away.
#for j in 0..4
    let at$j = turn_of + $ju * groups;
    let from$j = slot_of(row, first + min(at$j, here - 1u)) * kv_stride + at_kv;
    let key$j = keys[from$j];
    let value$j = values[from$j];
#end
    let base = group.x * (params.qkv_stride / 4u) + part * 2u;
    var query = turned(base + head * eights * 2u, part * 8u, row.position);
    query.a *= params.scale;
    query.b *= params.scale;
    let own = row.position - first;
    let owns = is_active && own < SPAN && own % groups == turn_of;
    if is_active {
#for j in 0..4
        if at$j < here {
            let key = loaded(key$j);
            scratch[at$j * 33u + part] = dot(query.a, key.a) + dot(query.b, key.b);
        }
#end
        for (var i = turn_of + 4u * groups; i < here; i += groups) {
            let key = loaded(keys[slot_of(row, first + i) * kv_stride + at_kv]);
            scratch[i * 33u + part] = dot(query.a, key.a) + dot(query.b, key.b);
        }
    }
    if owns {
        let fresh = stored(turned(base + (params.heads + kv_head) * eights * 2u, part * 8u, row.position));
        let key = loaded(fresh);
        if head % shared_by == 0u {
            keys[(row.slot * params.kv_heads + kv_head) * eights + part] = fresh;
        }
        scratch[own * 33u + part] = dot(query.a, key.a) + dot(query.b, key.b);
    }
    workgroupBarrier();
    var score = LOWEST;
    if local < SPAN {
        if local < here {
            score = 0.0;
            for (var i = 0u; i < eights; i += 4u) {
#for u in 0..4
                score += select(0.0, scratch[local * 33u + min(i + $uu, 32u)], i + $uu < eights);
#end
            }
        }
        scores[local / 4u][local % 4u] = score;
    }
    workgroupBarrier();
    var four = scores[0];
#for i in 1..16
    four = max(four, scores[$i]);
#end
    let highest = max(max(four.x, four.y), max(four.z, four.w));
    if local < SPAN {
        weights[local / 4u][local % 4u] = select(0.0, exp(score - highest), local < here);
    }
    workgroupBarrier();

    var out = Eight(vec4<f32>(0.0), vec4<f32>(0.0));
    if is_active {
#for j in 0..4
        if at$j < here && at$j != own {
            let value = loaded(value$j);
            let weight = weights[at$j / 4u][at$j % 4u];
            out.a += weight * value.a;
            out.b += weight * value.b;
        }
#end
        for (var i = turn_of + 4u * groups; i < here; i += groups) {
            if i != own {
                let value = loaded(values[slot_of(row, first + i) * kv_stride + at_kv]);
                let weight = weights[i / 4u][i % 4u];
                out.a += weight * value.a;
                out.b += weight * value.b;
            }
        }
    }
    if owns {
        let at = base + (params.heads + params.kv_heads + kv_head) * eights * 2u;
        let fresh = stored(Eight(qkv[at], qkv[at + 1u]));
        let value = loaded(fresh);
        if head % shared_by == 0u {
            values[(row.slot * params.kv_heads + kv_head) * eights + part] = fresh;
        }
        let weight = weights[own / 4u][own % 4u];
        out.a += weight * value.a;
        out.b += weight * value.b;
    }
    for (var d = 0u; d < 4u; d++) {
        scratch[d * THREADS + local] = out.a[d];
        scratch[(d + 4u) * THREADS + local] = out.b[d];
    }
    workgroupBarrier();
    let piece = ((group.x * params.heads + head) * params.splits + group.z) * (params.head_dim + 4u);
    for (var i = local; i < params.head_dim; i += THREADS) {
        let lane = i % eights;
        let d = i / eights;
        var sum = 0.0;
        for (var j = 0u; j < groups; j += 4u) {
#for u in 0..4
            sum += select(0.0, scratch[d * THREADS + min((j + $uu) * eights + lane, THREADS - 1u)], j + $uu < groups);
#end
        }
        pieces[piece + 4u + lane * 8u + d] = sum;
    }
    if local == 0u {
        var sums = weights[0];
#for i in 1..16
        sums += weights[$i];
#end
        pieces[piece] = highest;
        pieces[piece + 1u] = sums.x + sums.y + sums.z + sums.w;
    }
}
