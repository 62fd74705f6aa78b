// Attention without a mask on cooperative matrices (tensor cores): softmax(q · Kᵀ / sqrt(head_dim)) · V over the rows of one sequence.
// Queries, keys and values are f16 in tiles of 16 × 16, which are read as they lie: sequences begin at multiples of 16 rows, and what
// lies between the end of one and the next counts for nothing. A workgroup computes one head of up to 64 rows, a subgroup of 32
// sixteen of them. Scores are computed twice, first for their maximum, then with their weights: sums in cooperative matrices
// cannot be rescaled row by row, as a running maximum would ask for.

struct Params {
    hidden_tiles: u32,  // heads · head_dim / 16
    scale: f32,         // 1 / sqrt(head_dim)
}

// Up to 64 rows of a sequence.
struct Block {
    first: u32,      // the sequence's first row, a multiple of 16
    count: u32,      // its rows
    start: u32,      // this block's first row, from the sequence's first
    unused: u32,
}

struct Half8 {
    a: vec4<f16>,
    b: vec4<f16>,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> blocks: array<Block>;
@group(0) @binding(2) var<storage, read> qkv: array<f16>;         // (rows / 16, 3 · hidden_tiles, 16, 16): q, k, v of all heads
@group(0) @binding(3) var<storage, read_write> y: array<Half8>;   // (rows / 16, hidden_tiles, 16, 2)

const DIMS: u32 = $DIMSu;  // tiles of a head
const LOWEST: f32 = -1e30;
var<workgroup> scores: array<f32, 4u * 256u>;
var<workgroup> weights: array<vec4<f16>, 4u * 64u>;

// Workgroup (block, head).
@compute @workgroup_size(128)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let team = local / 32u;
    let member = local % 32u;
    let block = blocks[group.x];
    let wanted = block.start + team * 16u;
    // A subgroup without rows computes the last ones again, and writes nothing.
    let tile_row = (block.first + min(wanted, block.count - 1u)) / 16u;
    let row_tiles = 3u * params.hidden_tiles;
    let head = group.y * DIMS;
    let key_tile = block.first / 16u * row_tiles + params.hidden_tiles + head;
#for d in 0..$DIMS
    let query$d = coopLoadT<coop_mat16x16<f16, A>>(&qkv[(tile_row * row_tiles + head + $du) * 256u], 16u);
    var sum$d = coop_mat16x16<f32, C>();
#end
    let scores_at = team * 256u;
    let weights_at = team * 64u;
    // An invocation has half a row of scores.
    let row = member / 2u;
    let own = scores_at + row * 16u + member % 2u * 8u;
    let count = (block.count + 15u) / 16u;
    var highest = LOWEST;
    for (var p = 0u; p < count; p++) {
        let at = (key_tile + p * row_tiles) * 256u;
        var score = coop_mat16x16<f32, C>();
#for d in 0..$DIMS
        score = coopMultiplyAdd(query$d, coopLoad<coop_mat16x16<f16, B>>(&qkv[at + $du * 256u], 16u), score);
#end
        coopStoreT(score, &scores[scores_at], 16u);
        subgroupBarrier();
        for (var j = 0u; j < 8u; j++) {
            highest = max(highest, select(LOWEST, scores[own + j], p * 16u + member % 2u * 8u + j < block.count));
        }
        subgroupBarrier();
    }
    highest = max(highest, subgroupShuffleXor(highest, 1u));
    var total = 0.0;
    for (var p = 0u; p < count; p++) {
        let at = (key_tile + p * row_tiles) * 256u;
        var score = coop_mat16x16<f32, C>();
#for d in 0..$DIMS
        score = coopMultiplyAdd(query$d, coopLoad<coop_mat16x16<f16, B>>(&qkv[at + $du * 256u], 16u), score);
#end
        coopStoreT(score, &scores[scores_at], 16u);
        subgroupBarrier();
        let first = p * 16u + member % 2u * 8u;
#for j in 0..8
        let weight$j = select(0.0, exp((scores[own + $ju] - highest) * params.scale), first + $ju < block.count);
        total += weight$j;
#end
        let to = weights_at + row * 4u + member % 2u * 2u;
        weights[to] = vec4<f16>(vec4<f32>(weight0, weight1, weight2, weight3));
        weights[to + 1u] = vec4<f16>(vec4<f32>(weight4, weight5, weight6, weight7));
        subgroupBarrier();
        let weight = coopLoadT<coop_mat16x16<f16, A>>(&weights[weights_at], 4u);
        let value_at = at + params.hidden_tiles * 256u;
#for d in 0..$DIMS
        sum$d = coopMultiplyAdd(weight, coopLoadT<coop_mat16x16<f16, B>>(&qkv[value_at + $du * 256u], 16u), sum$d);
#end
    }
    total += subgroupShuffleXor(total, 1u);
    let scale = 1.0 / total;
#for d in 0..$DIMS
    subgroupBarrier();
    coopStoreT(sum$d, &scores[scores_at], 16u);
    subgroupBarrier();
    if wanted < block.count {
        let a = vec4<f32>(scores[own], scores[own + 1u], scores[own + 2u], scores[own + 3u]) * scale;
        let b = vec4<f32>(scores[own + 4u], scores[own + 5u], scores[own + 6u], scores[own + 7u]) * scale;
        y[(tile_row * params.hidden_tiles + head + $du) * 32u + member] = Half8(vec4<f16>(a), vec4<f16>(b));
    }
#end
}
