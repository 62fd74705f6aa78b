// The k best of each chunk of 4,096 scores, ties to the lower row, in any order: as (score, row) pairs, which the next launch
// (PAIRS) reads in chunks in turn, until few enough are left for the host.
//
// A chunk is read once, 16 scores an invocation. Scores become integers of the same order, and the k-th largest is found bit by bit
// from the highest: is a number with this bit set too large, that is, do fewer than k reach it? Of those equal to it the lowest
// rows are wanted; the last of these rows is found the same way. So the time depends neither on k nor on the scores.

struct Params {
    count: u32,      // scores or pairs of a question
    stride: u32,     // of the questions' scores or pairs
    k: u32,          // 1 and more
    first_row: u32,  // of the first score
    out_first: u32,  // where this launch's pairs begin
    out_stride: u32, // of the questions' pairs
}

@group(0) @binding(0) var<uniform> params: Params;
#ifdef PAIRS
@group(0) @binding(1) var<storage, read> scores: array<vec2<u32>>;     // (questions, stride): a score's bits, row
#else
@group(0) @binding(1) var<storage, read> scores: array<f32>;           // (questions, stride)
#endif
@group(0) @binding(2) var<storage, read_write> best: array<vec2<u32>>; // (questions, out_stride): a score's bits, row

const CHUNK: u32 = 4096u;
const THREADS: u32 = 256u;
#ifdef PAIRS
const ROW_BITS: u32 = 32u;
#else
const ROW_BITS: u32 = 12u;  // within the chunk
#endif

// A counter a question that all invocations are asked: each is cleared once, and a barrier a question is enough.
var<workgroup> counters: array<atomic<u32>, 66>;

// The bits of a float as an integer of the same order, -0 before +0 and 0 before all numbers.
fn key_of(bits: u32) -> u32 {
    return select(bits | 0x80000000u, ~bits, (bits & 0x80000000u) != 0u);
}

fn bits_of(key: u32) -> u32 {
    return select(~key, key & 0x7fffffffu, (key & 0x80000000u) != 0u);
}

// The sum of `count` over the workgroup.
fn total(question: u32, count: u32) -> u32 {
    // Soon only the few with good scores have anything to say.
    if count > 0u {
        atomicAdd(&counters[question], count);
    }
    workgroupBarrier();
    return atomicLoad(&counters[question]);
}

// Workgroup (chunk, question).
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    if local < 66u {
        atomicStore(&counters[local], 0u);
    }
    let first = group.x * CHUNK;
    let filled = min(params.count - first, CHUNK);
    let wanted = min(params.k, filled);
    let base = group.y * params.stride + first;
    // A key of 0 is no score.
#for i in 0..16
    var key$i_ = 0u;
    var row$i_ = 0u;
    {
        let place = $iu * THREADS + local;
        if place < filled {
#ifdef PAIRS
            let pair = scores[base + place];
            key$i_ = max(key_of(pair.x), 1u);
            row$i_ = pair.y;
#else
            key$i_ = max(key_of(bitcast<u32>(scores[base + place])), 1u);
            row$i_ = place;
#endif
        }
    }
#end
    workgroupBarrier();

    // The largest number that `wanted` keys reach: the last of the wanted keys.
    var bar = 0u;
    for (var bit = 0u; bit < 32u; bit++) {
        let trial = bar | (0x80000000u >> bit);
        var count = 0u;
#for i in 0..16
        count += u32(key$i_ >= trial);
#end
        bar = select(bar, trial, total(bit, count) >= wanted);
    }
    var above = 0u;
#for i in 0..16
    above += u32(key$i_ > bar);
#end
    // At least 1.
    let ties = wanted - total(32u, above);
    // The largest row before which there are fewer than `ties` rows of that key: the last of the wanted rows.
    var last = 0u;
    for (var bit = 0u; bit < ROW_BITS; bit++) {
        let trial = last | (1u << (ROW_BITS - 1u - bit));
        var count = 0u;
#for i in 0..16
        count += u32(key$i_ == bar && row$i_ < trial);
#end
        last = select(last, trial, total(33u + bit, count) < ties);
    }

    let out = group.y * params.out_stride + params.out_first + group.x * min(params.k, CHUNK);
#for i in 0..16
    if key$i_ > bar || (key$i_ == bar && row$i_ <= last) {
        let place = out + atomicAdd(&counters[65], 1u);
#ifdef PAIRS
        best[place] = vec2<u32>(bits_of(key$i_), row$i_);
#else
        best[place] = vec2<u32>(bits_of(key$i_), params.first_row + first + row$i_);
#endif
    }
#end
}
