// Causal grouped-query attention of many rows on cooperative matrices (tensor cores): softmax(q · Kᵀ / sqrt(head_dim)) · V.
// A subgroup of 32 computes one head of up to 16 neighbouring rows of a sequence. A page of the cache is 16 keys and 16 values: a tile,
// which is read as it lies. Scores are computed twice, first for their maximum, then with their weights: sums in
// cooperative matrices cannot be rescaled row by row, as a running maximum would ask for.

struct Params {
    heads: u32,
    kv_heads: u32,
    q_stride: u32,
    y_stride: u32,
    max_pages: u32,  // row length of the page table
    scale: f32,      // 1 / sqrt(head_dim)
}

// Neighbouring rows of a sequence.
struct Run {
    row: u32,
    count: u32,     // at most 16
    sequence: u32,
    position: u32,  // of the first
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> runs: array<Run>;
@group(0) @binding(2) var<storage, read> pages: array<u32>;      // (sequences, max_pages)
@group(0) @binding(3) var<storage, read> q: array<vec4<f32>>;    // (rows, q_stride / 4)
@group(0) @binding(4) var<storage, read> keys: array<f16>;       // (pages, 16, kv_heads, head_dim)
@group(0) @binding(5) var<storage, read> values: array<f16>;     // same
@group(0) @binding(6) var<storage, read_write> y: array<f32>;    // (rows, y_stride)

const HEAD_DIM: u32 = $DIMSu * 16u;
const FOURS: u32 = $DIMSu * 4u;
const PITCH: u32 = FOURS + 2u;  // padded by 16 bytes a row against bank conflicts
const LOWEST: f32 = -1e30;
var<workgroup> query: array<vec4<f16>, 4u * 16u * PITCH>;
var<workgroup> scores: array<f32, 4u * 256u>;
var<workgroup> weights: array<vec4<f16>, 4u * 64u>;

// Workgroup (run, four heads).
@compute @workgroup_size(128)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let team = local / 32u;
    let member = local % 32u;
    let run = runs[group.x];
    let head = min(group.y * 4u + team, params.heads - 1u);
    let is_extra = group.y * 4u + team >= params.heads;
    let kv_head = head / (params.heads / params.kv_heads);
    let query_at = team * 16u * PITCH;
    for (var i = member; i < 16u * FOURS; i += 32u) {
        let row = run.row + min(i / FOURS, run.count - 1u);
        let value = q[row * (params.q_stride / 4u) + head * FOURS + i % FOURS] * params.scale;
        query[query_at + i / FOURS * PITCH + i % FOURS] = vec4<f16>(value);
    }
    subgroupBarrier();
#for d in 0..$DIMS
    let query$d = coopLoadT<coop_mat16x16<f16, A>>(&query[query_at + $du * 4u], PITCH);
    var sum$d = coop_mat16x16<f32, C>();
#end
    let kv_stride = params.kv_heads * HEAD_DIM;
    let kv_at = kv_head * HEAD_DIM;
    let scores_at = team * 256u;
    let weights_at = team * 64u;
    // An invocation has half a row of scores.
    let row = member / 2u;
    let own = scores_at + row * 16u + member % 2u * 8u;
    let last = run.position + row;
    let count = (run.position + run.count - 1u) / 16u + 1u;
    var highest = LOWEST;
    for (var p = 0u; p < count; p++) {
        let at = pages[run.sequence * params.max_pages + p] * 16u * kv_stride + kv_at;
        var score = coop_mat16x16<f32, C>();
#for d in 0..$DIMS
        score = coopMultiplyAdd(query$d, coopLoad<coop_mat16x16<f16, B>>(&keys[at + $du * 16u], kv_stride), score);
#end
        coopStoreT(score, &scores[scores_at], 16u);
        subgroupBarrier();
        for (var j = 0u; j < 8u; j++) {
            highest = max(highest, select(LOWEST, scores[own + j], p * 16u + member % 2u * 8u + j <= last));
        }
        subgroupBarrier();
    }
    highest = max(highest, subgroupShuffleXor(highest, 1u));
    var total = 0.0;
    for (var p = 0u; p < count; p++) {
        let at = pages[run.sequence * params.max_pages + p] * 16u * kv_stride + kv_at;
        var score = coop_mat16x16<f32, C>();
#for d in 0..$DIMS
        score = coopMultiplyAdd(query$d, coopLoad<coop_mat16x16<f16, B>>(&keys[at + $du * 16u], kv_stride), score);
#end
        coopStoreT(score, &scores[scores_at], 16u);
        subgroupBarrier();
        let first = p * 16u + member % 2u * 8u;
#for j in 0..8
        let weight$j = select(0.0, exp(scores[own + $ju] - highest), first + $ju <= last);
        total += weight$j;
#end
        let to = weights_at + row * 4u + member % 2u * 2u;
        weights[to] = vec4<f16>(vec4<f32>(weight0, weight1, weight2, weight3));
        weights[to + 1u] = vec4<f16>(vec4<f32>(weight4, weight5, weight6, weight7));
        subgroupBarrier();
        let weight = coopLoadT<coop_mat16x16<f16, A>>(&weights[weights_at], 4u);
#for d in 0..$DIMS
        sum$d = coopMultiplyAdd(weight, coopLoadT<coop_mat16x16<f16, B>>(&values[at + $du * 16u], kv_stride), sum$d);
#end
    }
    total += subgroupShuffleXor(total, 1u);
    let writes = !is_extra && row < run.count;
    let out = (run.row + row) * params.y_stride + head * HEAD_DIM + member % 2u * 8u;
#for d in 0..$DIMS
    subgroupBarrier();
    coopStoreT(sum$d, &scores[scores_at], 16u);
    subgroupBarrier();
    if writes {
        for (var j = 0u; j < 8u; j++) {
            y[out + $du * 16u + j] = scores[own + j] / total;
        }
    }
#end
}
