// Attention without a mask, for encoders: softmax(q · Kᵀ / sqrt(head_dim)) · V over the rows of one sequence.
// Sequences lie one after the other without padding. A workgroup computes one head of up to 64 rows of one sequence, one row an
// invocation, which keeps its query and its output in registers; keys and values pass through workgroup memory 16 at a time and
// are used 64 times. Online softmax: any length takes the same memory. No subgroup operation is needed.

struct Params {
    head_dim: u32,   // a multiple of 4, at most $WORDS · 4
    hidden: u32,     // heads · head_dim
    qkv_stride: u32,
    y_stride: u32,
    scale: f32,      // 1 / sqrt(head_dim)
}

// Up to 64 rows of a sequence.
struct Block {
    first: u32,      // the sequence's first row
    count: u32,      // its rows
    start: u32,      // this block's first row, from the sequence's first
    unused: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> blocks: array<Block>;
@group(0) @binding(2) var<storage, read> qkv: array<vec4<f32>>;      // (rows, qkv_stride / 4): q, k, v of all heads
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;  // (rows, y_stride / 4)

const WORDS: u32 = $WORDSu;
const TILE: u32 = 16u;
const LOWEST: f32 = -1e30;
var<workgroup> keys: array<vec4<f32>, TILE * WORDS>;
var<workgroup> values: array<vec4<f32>, TILE * WORDS>;

// Workgroup (block, head).
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let block = blocks[group.x];
    let words = params.head_dim / 4u;
    let hidden = params.hidden / 4u;
    let stride = params.qkv_stride / 4u;
    let head = group.y * words;
    let row = block.start + local;
    // Invocations past the end compute the last row again, so that all meet at the barriers.
    let row_at = (block.first + min(row, block.count - 1u)) * stride + head;
    var query: array<vec4<f32>, WORDS>;
    var out: array<vec4<f32>, WORDS>;
    for (var i = 0u; i < WORDS; i++) {
        query[i] = vec4<f32>(0.0);
        out[i] = vec4<f32>(0.0);
        if i < words {
            query[i] = qkv[row_at + i] * params.scale;
        }
    }
    var highest = LOWEST;
    var sum = 0.0;
    for (var first = 0u; first < block.count; first += TILE) {
        let here = min(block.count - first, TILE);
        for (var i = local; i < TILE * WORDS; i += 64u) {
            let key = i / WORDS;
            let word = i % WORDS;
            var k = vec4<f32>(0.0);
            var v = vec4<f32>(0.0);
            if key < here && word < words {
                let at = (block.first + first + key) * stride + head + word;
                k = qkv[at + hidden];
                v = qkv[at + 2u * hidden];
            }
            keys[i] = k;
            values[i] = v;
        }
        workgroupBarrier();
        var scores: array<f32, TILE>;
        var top = highest;
        for (var key = 0u; key < here; key++) {
            var score = 0.0;
            for (var i = 0u; i < WORDS; i++) {
                score += dot(query[i], keys[key * WORDS + i]);
            }
            scores[key] = score;
            top = max(top, score);
        }
        let correction = exp(max(highest - top, -80.0));
        highest = top;
        sum *= correction;
        for (var i = 0u; i < WORDS; i++) {
            out[i] *= correction;
        }
        for (var key = 0u; key < here; key++) {
            let weight = exp(scores[key] - top);
            sum += weight;
            for (var i = 0u; i < WORDS; i++) {
                out[i] += weight * values[key * WORDS + i];
            }
        }
        workgroupBarrier();
    }
    if row < block.count {
        let at = (block.first + row) * (params.y_stride / 4u) + head;
        for (var i = 0u; i < WORDS; i++) {
            if i < words {
                y[at + i] = out[i] / sum;
            }
        }
    }
}
