// The k best of each chunk of 2,048 scores, best first, ties to the lower row; the host merges the chunks.
// k rounds: every invocation looks for its best score behind the last winner in that order, a tree finds the winner. Nothing is
// marked, so scores stay as they are.

struct Params {
    rows: u32,
    stride: u32,
    chunks: u32,  // of this launch
    k: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> scores: array<f32>;             // (questions, stride)
@group(0) @binding(2) var<storage, read_write> best: array<vec2<u32>>;   // (questions, chunks, k): score's bits, row or none

const CHUNK: u32 = 2048u;
const LOWEST: f32 = -3.4e38;
const NONE: u32 = 0xffffffffu;
var<workgroup> slot_scores: array<f32, 64>;
var<workgroup> slot_rows: array<u32, 64>;

fn before(score: f32, row: u32, other: f32, other_row: u32) -> bool {
    return score > other || (score == other && row < other_row);
}

// Workgroup (chunk, question).
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let first = group.x * CHUNK;
    let end = min(first + CHUNK, params.rows);
    let base = group.y * params.stride;
    let out = (group.y * params.chunks + group.x) * params.k;
    var last_score = 0.0;
    var last_row = NONE;
    for (var round = 0u; round < params.k; round++) {
        var score = LOWEST;
        var row = NONE;
        for (var i = first + local; i < end; i += 64u) {
            let value = scores[base + i];
            if (round == 0u || (last_row != NONE && before(last_score, last_row, value, i))) && before(value, i, score, row) {
                score = value;
                row = i;
            }
        }
        slot_scores[local] = score;
        slot_rows[local] = row;
        workgroupBarrier();
        for (var half = 32u; half > 0u; half /= 2u) {
            if local < half && before(slot_scores[local + half], slot_rows[local + half], slot_scores[local], slot_rows[local]) {
                slot_scores[local] = slot_scores[local + half];
                slot_rows[local] = slot_rows[local + half];
            }
            workgroupBarrier();
        }
        last_score = slot_scores[0];
        last_row = slot_rows[0];
        if local == 0u {
            best[out + round] = vec2<u32>(bitcast<u32>(last_score), last_row);
        }
        workgroupBarrier();
    }
}
