// Matrix product for up to 16 tokens on cooperative matrices (tensor cores): y[t, n] = Σ_k W[n, k] · x[t, k], + y[t, n].
// A workgroup computes 16 rows; its eight subgroups of 32 share the inner dimension, 64 columns at a time, so that a matrix of a few
// thousand rows keeps every core loading. Weights go through workgroup memory of the subgroup's own, the next ones are
// loaded while these are multiplied, and the subgroups' sums meet at the end.
// BLOCKS: a block format; an invocation loads 32 weights at once instead of four times eight.
// What stands around a product in a decoding step is done here too, since a launch costs as much as a small product:
// NORM: x is there times the gain of a RMSNorm, but not yet divided by its root mean square, which the row's squares give.
// NEXT: adds to y, and writes y · gain of the RMSNorm that comes next, and its squares.
// SWIGLU: W is gate, then up; the result is silu(gate) · up, in tiles for the next product.
// What f16 cannot hold is as large as it can: no infinity reaches the next product.
#ifndef BLOCKS
#import weights8
#endif

struct Params {
    cols8: u32,     // inner dimension over 8, a multiple of 8
    blocks: u32,    // inner dimension over 32
    rows: u32,      // rows of this part of W, a multiple of 16
    tokens: u32,
    y_stride: u32,  // of y, or columns of z
    y_offset: u32,
    flags: u32,     // 1: add to y
    squares: u32,   // partial sums of squares of a token
    eps: f32,       // RMSNorm's
}

@group(0) @binding(0) var<uniform> params: Params;
#ifdef BLOCKS
#import blocks/$FORMAT
#else
#import weights/$FORMAT
#import half8
#endif
@group(0) @binding(3) var<storage, read> x: array<vec4<f16>>;  // tiles of 16 × 16 (see tiles), 16 tokens
#ifdef SWIGLU
@group(0) @binding(4) var<storage, read_write> z: array<f16>;  // tiles of 16 × 16, 16 tokens
#else
@group(0) @binding(4) var<storage, read_write> y: array<f32>;  // (tokens, y_stride)
#endif
#ifdef NORM
@group(0) @binding(5) var<storage, read> squares: array<vec4<f32>>;  // (squares, 16 / 4)
#endif
#ifdef NEXT
@group(0) @binding(5) var<storage, read> gain: array<f32>;             // (y_stride)
@group(0) @binding(6) var<storage, read_write> z: array<f16>;          // tiles of 16 × 16, 16 tokens
@group(0) @binding(7) var<storage, read_write> squares: array<f32>;    // (squares, 16)
#endif

const TEAMS: u32 = 8u;
const PITCH: u32 = 18u;  // of vec4<f16>: 64 columns and 8 more
const TILE: u32 = 16u * PITCH;
var<workgroup> tile: array<vec4<f16>, TEAMS * TILE>;
// Half of the subgroups' sums at a time: what workgroups leave of a core's memory is its cache for x.
var<workgroup> sums: array<f32, TEAMS / 2u * 256u>;
#ifdef NORM
var<workgroup> scales: array<f32, 16>;
#endif

#ifdef BLOCKS
struct Half8 {
    a: vec4<f16>,
    b: vec4<f16>,
}

// The bytes of a word as d · byte + m: put into the mantissa of 1.0 with their signs turned, since conversions are slow.
fn scaled(word: u32, d: f32, m: f32) -> vec4<f32> {
    let bytes = word ^ 0x80808080u;
    let mantissa = vec4<u32>(bytes << 15u, bytes << 7u, bytes >> 1u, bytes >> 9u) & vec4<u32>(0x007f8000u);
    return fma(bitcast<vec4<f32>>(mantissa | vec4<u32>(0x3f800000u)), vec4<f32>(256.0 * d), vec4<f32>(m - 384.0 * d));
}

// Eight weights from every second one and those between.
fn woven(even: u32, odd: u32, d: f32, m: f32) -> Half8 {
    let e = scaled(even, d, m);
    let o = scaled(odd, d, m);
    return Half8(
        vec4<f16>(f16(e.x), f16(o.x), f16(e.y), f16(o.y)),
        vec4<f16>(f16(e.z), f16(o.z), f16(e.w), f16(o.w)),
    );
}
#endif

// The row of W that is row i of a workgroup's tile.
fn row_of(first_row: u32, i: u32) -> u32 {
#ifdef SWIGLU
    return first_row / 2u + i % 8u + i / 8u * (params.rows / 2u);
#else
    return first_row + i;
#endif
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let team = local / 32u;
    let member = local % 32u;
    let first_row = group.x * 16u;
    let base = team * TILE;
    let last = params.cols8 - 8u;
    var sum = coop_mat16x16<f32, C>();
#ifdef BLOCKS
    // A block an invocation.
    let row = row_of(first_row, member / 2u);
    let to = base + member / 2u * PITCH + member % 2u * 8u;
    var next = load_block(row, min(team * 8u, last) / 4u + member % 2u);
#else
    // Four groups of eight an invocation.
#for i in 0..4
    let row$i = row_of(first_row, member / 8u + $iu * 4u);
    let to$i = base + (member / 8u + $iu * 4u) * PITCH + member % 8u * 2u;
    var next$i = half8(row$i, min(team * 8u, last) + member % 8u);
#end
#endif
#ifdef NORM
    // Four tokens of a part of sixteen columns an invocation, sixty-four parts at a time, four of them under way.
    var square = vec4<f32>(0.0);
    for (var part = local / 4u; part < params.squares; part += 256u) {
#for i in 0..4
        let part$i = part + $iu * 64u;
        let part_squares$i = squares[min(part$i, params.squares - 1u) * 4u + local % 4u];
        square += select(vec4<f32>(0.0), part_squares$i, part$i < params.squares);
#end
    }
#for i in 0..4
    sums[local / 4u * 16u + local % 4u * 4u + $iu] = square[$i];
#end
#endif
    for (var k8 = team * 8u; k8 < params.cols8; k8 += TEAMS * 8u) {
#ifdef BLOCKS
#for g in 0..4
        let half$g = woven(next.even[$g], next.odd[$g], next.d[$g / 2], next.m[$g / 2]);
        tile[to + $gu * 2u] = half$g.a;
        tile[to + $gu * 2u + 1u] = half$g.b;
#end
#else
#for i in 0..4
        tile[to$i] = next$i.a;
        tile[to$i + 1u] = next$i.b;
#end
#endif
        subgroupBarrier();
        let ahead = min(k8 + TEAMS * 8u, last);
#ifdef BLOCKS
        next = load_block(row, ahead / 4u + member % 2u);
#else
#for i in 0..4
        next$i = half8(row$i, ahead + member % 8u);
#end
#endif
#for k in 0..4
        {
            let b = coopLoad<coop_mat16x16<f16, B>>(&x[(k8 / 2u + $ku) * 64u], 4u);
            let a = coopLoadT<coop_mat16x16<f16, A>>(&tile[base + $ku * 4u], PITCH);
            sum = coopMultiplyAdd(a, b, sum);
        }
#end
        subgroupBarrier();
    }
    // An invocation has one row of one token.
    let token = local / 16u;
    workgroupBarrier();
#ifdef NORM
    // Sixteen invocations a token, then one.
    let part = local % 16u;
    let squared = sums[part * 16u + token] + sums[(part + 16u) * 16u + token]
        + sums[(part + 32u) * 16u + token] + sums[(part + 48u) * 16u + token];
    workgroupBarrier();
    sums[local] = squared;
    workgroupBarrier();
    if local < 16u {
        var all = 0.0;
#for i in 0..16
        all += sums[local * 16u + $iu];
#end
        scales[local] = 1.0 / sqrt(all / f32(params.cols8 * 8u) + params.eps);
    }
    workgroupBarrier();
#endif
    var total = 0.0;
#for half in 0..2
    // A loop of one turn or none: naga takes a branch on a subgroup's own condition for one that parts invocations.
    for (var own = team / (TEAMS / 2u); own == $halfu; own += 2u) {
        let sums_at = team % (TEAMS / 2u) * 256u;
        coopStore(sum, &sums[sums_at], 16u);
    }
    workgroupBarrier();
#for t in 0..4
    total += sums[local + $tu * 256u];
#end
    workgroupBarrier();
#end
#ifdef NORM
    total *= scales[token];
#endif
#ifdef SWIGLU
    // The first eight rows are gate, the others up.
    sums[local] = total;
    workgroupBarrier();
    let n = first_row / 2u + local % 8u;
    if local % 16u < 8u && token < params.tokens {
        // exp overflows past 88; silu is 0 there to f32 precision long before.
        let value = total / (1.0 + exp(min(-total, 80.0))) * sums[local + 8u];
        z[(n / 16u * 16u + token) * 16u + n % 16u] = f16(clamp(value, -65504.0, 65504.0));
    }
#else
    let n = params.y_offset + first_row + local % 16u;
    let at = token * params.y_stride + n;
#ifdef NEXT
    if token < params.tokens {
        total += y[at];
        y[at] = total;
        z[(n / 16u * 16u + token) * 16u + n % 16u] = f16(clamp(total * gain[n], -65504.0, 65504.0));
    }
    sums[local] = total * total;
    workgroupBarrier();
    if local < params.tokens {
        var square = 0.0;
#for i in 0..16
        square += sums[local * 16u + $iu];
#end
        squares[params.y_offset + first_row + local] = square;
    }
#else
    if token < params.tokens {
        if (params.flags & 1u) != 0u {
            total += y[at];
        }
        y[at] = total;
    }
#endif
#endif
}
