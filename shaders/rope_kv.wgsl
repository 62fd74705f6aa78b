// Rotary position embedding of queries and keys, and the write of keys and values into the paged KV cache, as f16 or
// (for comparisons) f32.
// A pair of dimensions (a, b) at position p is turned by the angle p · base^(-2i/d): (a cos - b sin, b cos + a sin).
// Interleaved order pairs dimension 2i with 2i + 1 (GGUF's llama), half order pairs i with i + d/2 (Hugging Face).
// Cosines and sines come from a table: WGSL's own may be off by 2^-11.

struct Params {
    heads: u32,
    kv_heads: u32,
    head_dim: u32,
    rope_dim: u32,    // leading dimensions that turn
    half_order: u32,  // 0: interleaved, 1: half
    qkv_stride: u32,
    q_stride: u32,
}

struct Row {
    token: u32,
    position: u32,
    sequence: u32,
    slot: u32,      // place in the KV cache
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> rows: array<Row>;             // (rows)
@group(0) @binding(2) var<storage, read> angles: array<vec2<f32>>;     // (positions, rope_dim / 2): cos, sin
@group(0) @binding(3) var<storage, read> qkv: array<f32>;              // (rows, qkv_stride): q heads, k heads, v heads
@group(0) @binding(4) var<storage, read_write> q: array<f32>;          // (rows, q_stride)
#ifdef KV_F32
@group(0) @binding(5) var<storage, read_write> keys: array<vec2<f32>>;   // (slots, kv_heads, head_dim / 2)
@group(0) @binding(6) var<storage, read_write> values: array<vec2<f32>>; // same
#else
@group(0) @binding(5) var<storage, read_write> keys: array<u32>;       // (slots, kv_heads, head_dim / 2): two f16
@group(0) @binding(6) var<storage, read_write> values: array<u32>;     // same
#endif

fn turned(base: u32, dim: u32, position: u32) -> f32 {
    let value = qkv[base + dim];
    if dim >= params.rope_dim {
        return value;
    }
    let half = params.rope_dim / 2u;
    let is_half_order = params.half_order != 0u;
    let pair = select(dim / 2u, dim % half, is_half_order);
    let is_second = select((dim & 1u) == 1u, dim >= half, is_half_order);
    let partner = select(dim ^ 1u, (dim + half) % params.rope_dim, is_half_order);
    let angle = angles[position * half + pair];
    let other = qkv[base + partner];
    return value * angle.x + select(-other, other, is_second) * angle.y;
}

#ifdef KV_F32
fn stored(pair: vec2<f32>) -> vec2<f32> {
    return pair;
}
#else
fn stored(pair: vec2<f32>) -> u32 {
    return pack2x16float(pair);
}
#endif

// One workgroup a row; an invocation makes two neighbouring dimensions at a time.
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let row = rows[group.x];
    let words = params.head_dim / 2u;
    let q_words = params.heads * words;
    let kv_words = params.kv_heads * words;
    let source = group.x * params.qkv_stride;
    for (var i = local; i < q_words + 2u * kv_words; i += 64u) {
        let dim = (i % words) * 2u;
        let base = source + (i / words) * params.head_dim;
        if i < q_words + kv_words {
            let pair = vec2<f32>(turned(base, dim, row.position), turned(base, dim + 1u, row.position));
            if i < q_words {
                q[group.x * params.q_stride + i * 2u] = pair.x;
                q[group.x * params.q_stride + i * 2u + 1u] = pair.y;
            } else {
                keys[row.slot * kv_words + i - q_words] = stored(pair);
            }
        } else {
            let pair = vec2<f32>(qkv[base + dim], qkv[base + dim + 1u]);
            values[row.slot * kv_words + i - q_words - kv_words] = stored(pair);
        }
    }
}
