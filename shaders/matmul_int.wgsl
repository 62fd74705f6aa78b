// Matrix product of a block format for few tokens (decode): y[t, n] = Σ_k W[n, k] · x[t, k], + y[t, n].
// x comes as 16-bit integers (see q16), so that a block of 32 is 16 products of four bytes and two sums, where floats would
// take a conversion and a product a weight: a 4-bit product is otherwise bound by conversions, not by memory.
// A team of 32 invocations owns the rows of $OUTS outputs; each takes a block at a time, 16 bytes of weights a load.
//
// NORM: x was multiplied by the gain only; the sums of its squares, which came with it, make the scale at the end.
// SWIGLU: W is gate over up; y is silu(gate) · up.
// QUANT: a workgroup has 32 outputs, one block, and writes them as integers too, for the product that comes next: y · gain.

struct Params {
    blocks: u32,    // inner dimension over 32
    rows: u32,      // rows of this part of W
    tokens: u32,
    y_stride: u32,
    y_offset: u32,  // column of y that row 0 goes to, with QUANT a multiple of 32
    z_blocks: u32,  // blocks of a row of z
    flags: u32,     // 1: add to y, 2: multiply z by the gain
    eps: f32,       // RMSNorm's
}

@group(0) @binding(0) var<uniform> params: Params;
#import blocks/$FORMAT
@group(0) @binding(3) var<storage, read> x: array<vec4<u32>>;  // (tokens, 5, blocks)
@group(0) @binding(4) var<storage, read_write> y: array<f32>;  // (tokens, y_stride)
#ifdef QUANT
@group(0) @binding(5) var<storage, read> gain: array<f32>;
@group(0) @binding(6) var<storage, read_write> z: array<u32>;  // (tokens, 5, z_blocks, 4)

var<workgroup> q16_values: array<f32, 32u * $COLSu>;
var<workgroup> q16_raw: array<f32, 32u * $COLSu>;

#import q16
#endif

const TEAMS: u32 = $TEAMSu;
const OUTS: u32 = $OUTSu;
const COLS: u32 = $COLSu;
const TOTALS: u32 = TEAMS * OUTS * COLS;
#ifdef SWIGLU
const KINDS: u32 = 2u;  // gate and up
#else
const KINDS: u32 = 1u;
#endif
#ifdef SUBGROUPS
const SLOTS: u32 = 8u;  // subgroups have four invocations at least
#else
const SLOTS: u32 = 1u;
// What all invocations have for one token: (row of an output and kind, or squares; invocation).
const ROWS: u32 = OUTS * KINDS;
var<workgroup> values: array<f32, (ROWS + 1u) * TEAMS * 32u>;
#endif
// Sums over a team, or over its subgroups: (output, token, kind, slot).
var<workgroup> slots: array<f32, TOTALS * KINDS * SLOTS>;
#ifdef NORM
var<workgroup> square_slots: array<f32, TEAMS * COLS * SLOTS>;
#endif

// Σ over one block, less the scale of x: two bytes an activation.
fn block_product(block: Block, he: vec4<u32>, ho: vec4<u32>, le: vec4<u32>, lo: vec4<u32>, x: vec4<f32>) -> f32 {
    var high = dot4I8Packed(block.even.x, he.x);
    var low = dot4I8Packed(block.even.x, le.x);
    high += dot4I8Packed(block.odd.x, ho.x);
    low += dot4I8Packed(block.odd.x, lo.x);
    high += dot4I8Packed(block.even.y, he.y);
    low += dot4I8Packed(block.even.y, le.y);
    high += dot4I8Packed(block.odd.y, ho.y);
    low += dot4I8Packed(block.odd.y, lo.y);
#ifdef HALVES
    let first = f32(high * 256 + low) * block.d.x;
    high = 0;
    low = 0;
#endif
    high += dot4I8Packed(block.even.z, he.z);
    low += dot4I8Packed(block.even.z, le.z);
    high += dot4I8Packed(block.odd.z, ho.z);
    low += dot4I8Packed(block.odd.z, lo.z);
    high += dot4I8Packed(block.even.w, he.w);
    low += dot4I8Packed(block.even.w, le.w);
    high += dot4I8Packed(block.odd.w, ho.w);
    low += dot4I8Packed(block.odd.w, lo.w);
#ifdef HALVES
    let second = f32(high * 256 + low) * block.d.y;
    return (first + second) * x.x + block.m.x * x.y + block.m.y * x.z;
#else
    return f32(high * 256 + low) * (block.d.x * x.x) + block.m.x * (x.y + x.z);
#endif
}

#ifdef SUBGROUPS
// The sum over a team's invocations that share a subgroup with this one, which may be smaller than a team, or larger.
fn joined(value: f32, lanes: u32) -> f32 {
    var sum = value;
    sum += select(0.0, subgroupShuffleXor(sum, 1u), lanes > 1u);
    sum += select(0.0, subgroupShuffleXor(sum, 2u), lanes > 2u);
    sum += select(0.0, subgroupShuffleXor(sum, 4u), lanes > 4u);
    sum += select(0.0, subgroupShuffleXor(sum, 8u), lanes > 8u);
    sum += select(0.0, subgroupShuffleXor(sum, 16u), lanes > 16u);
    return sum;
}
#endif

@compute @workgroup_size($TEAMS * 32)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
#ifdef SUBGROUPS
    @builtin(subgroup_size) subgroup_lanes: u32,
#endif
) {
    let team = local / 32u;
    let member = local % 32u;
    let output = (group.x * TEAMS + team) * OUTS;
    let token0 = group.y * COLS;
#ifdef SWIGLU
    let outputs = params.rows / 2u;
#else
    let outputs = params.rows;
#endif
#for r in 0..$OUTS
    let row$r = min(output + $ru, outputs - 1u);
#for c in 0..$COLS
    var sum$r_$c = 0.0;
#ifdef SWIGLU
    var up$r_$c = 0.0;
#endif
#end
#end
#for c in 0..$COLS
    let x$c = min(token0 + $cu, params.tokens - 1u) * 5u * params.blocks;
#ifdef NORM
    var square$c = 0.0;
#endif
#end
    for (var b = member; b < params.blocks; b += 32u) {
#for r in 0..$OUTS
        let block$r = load_block(row$r, b);
#ifdef SWIGLU
        let upper$r = load_block(row$r + outputs, b);
#endif
#end
#for c in 0..$COLS
        {
            let he = x[x$c + b];
            let ho = x[x$c + params.blocks + b];
            let le = x[x$c + 2u * params.blocks + b];
            let lo = x[x$c + 3u * params.blocks + b];
            let sums = bitcast<vec4<f32>>(x[x$c + 4u * params.blocks + b]);
#ifdef NORM
            square$c += sums.w;
#endif
#for r in 0..$OUTS
            sum$r_$c += block_product(block$r, he, ho, le, lo, sums);
#ifdef SWIGLU
            up$r_$c += block_product(upper$r, he, ho, le, lo, sums);
#endif
#end
        }
#end
    }

#ifdef SUBGROUPS
    let lanes = min(subgroup_lanes, 32u);
    let used = 32u / lanes;
    let slot = member / lanes;
    let writes = member % lanes == 0u;
#for c in 0..$COLS
#ifdef NORM
    let joined_square$c = joined(square$c, lanes);
    if writes {
        square_slots[(team * COLS + $cu) * SLOTS + slot] = joined_square$c;
    }
#endif
#for r in 0..$OUTS
    let joined$r_$c = joined(sum$r_$c, lanes);
    if writes {
        slots[((team * OUTS + $ru) * COLS + $cu) * KINDS * SLOTS + slot] = joined$r_$c;
    }
#ifdef SWIGLU
    let joined_up$r_$c = joined(up$r_$c, lanes);
    if writes {
        slots[(((team * OUTS + $ru) * COLS + $cu) * KINDS + 1u) * SLOTS + slot] = joined_up$r_$c;
    }
#endif
#end
#end
#else
    // One token after the other, which keeps workgroup memory small.
    let used = 1u;
#for c in 0..$COLS
#for r in 0..$OUTS
    values[$ru * KINDS * TEAMS * 32u + local] = sum$r_$c;
#ifdef SWIGLU
    values[($ru * KINDS + 1u) * TEAMS * 32u + local] = up$r_$c;
#endif
#end
#ifdef NORM
    values[ROWS * TEAMS * 32u + local] = square$c;
#endif
    workgroupBarrier();
    if member <= ROWS {
        var sum = 0.0;
        for (var i = 0u; i < 32u; i++) {
            sum += values[member * TEAMS * 32u + team * 32u + i];
        }
        if member < ROWS {
            slots[((team * OUTS + member / KINDS) * COLS + $cu) * KINDS + member % KINDS] = sum;
        }
#ifdef NORM
        if member == ROWS {
            square_slots[team * COLS + $cu] = sum;
        }
#endif
    }
    workgroupBarrier();
#end
#endif
    workgroupBarrier();

    for (var i = local; i < TOTALS; i += TEAMS * 32u) {
        let column = group.x * TEAMS * OUTS + i / COLS;
        let token = token0 + i % COLS;
        if column < outputs && token < params.tokens {
            var result = 0.0;
            for (var j = 0u; j < used; j++) {
                result += slots[i * KINDS * SLOTS + j];
            }
#ifdef NORM
            var square = 0.0;
            for (var j = 0u; j < used; j++) {
                square += square_slots[(i / (OUTS * COLS) * COLS + i % COLS) * SLOTS + j];
            }
            let scale = 1.0 / sqrt(square / f32(params.blocks * 32u) + params.eps);
            result *= scale;
#endif
#ifdef SWIGLU
            var up = 0.0;
            for (var j = 0u; j < used; j++) {
                up += slots[(i * KINDS + 1u) * SLOTS + j];
            }
            // exp overflows past 88; silu is 0 there to f32 precision long before.
            result = result / (1.0 + exp(min(-result, 80.0))) * up * scale;
#endif
            let at = token * params.y_stride + params.y_offset + column;
            if (params.flags & 1u) != 0u {
                result += y[at];
            }
            y[at] = result;
#ifdef QUANT
            q16_raw[i % COLS * 32u + i / COLS] = result;
            if (params.flags & 2u) != 0u {
                result *= gain[params.y_offset + column];
            }
            q16_values[i % COLS * 32u + i / COLS] = result;
#endif
        }
    }
#ifdef QUANT
    workgroupBarrier();
    if local < 8u * COLS && token0 + local / 8u < params.tokens {
        let block = params.y_offset / 32u + group.x;
        let z0 = ((token0 + local / 8u) * 5u * params.z_blocks + block) * 4u;
        write16(local / 8u * 32u, local % 8u, z0, params.z_blocks * 4u);
    }
#endif
}
