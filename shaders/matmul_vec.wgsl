// Matrix product for few tokens (decode): y[t, n] = Σ_k W[n, k] · x[t, k], + bias[n], + y[t, n].
// A workgroup owns a few rows of W and up to $COLS tokens; its 64 invocations share the inner dimension, so each weight is
// read once however many tokens there are. Cost: the bytes of W.
//
// NORM: x is normalised on the way in (RMSNorm). Since Σ W · (x · g / rms(x)) = Σ W · (x · g) / rms(x), the squares are summed beside
// the products, and one pass over x does both.
// SWIGLU: W is gate over up; the workgroup owns the same rows of both, and y is silu(gate) · up.
#import weights8

struct Params {
    cols8: u32,     // inner dimension over 8, padded
    cols: u32,      // inner dimension
    rows: u32,      // rows of this part of W
    tokens: u32,
    x_stride: u32,  // in f32, a multiple of 8
    y_stride: u32,
    y_offset: u32,  // column of y that row 0 goes to
    flags: u32,     // 1: add to y, 2: add bias
    eps: f32,       // RMSNorm's
}

@group(0) @binding(0) var<uniform> params: Params;
#import weights/$FORMAT
@group(0) @binding(3) var<storage, read> x: array<vec4<f32>>;       // (tokens, x_stride / 4)
#ifdef NORM
@group(0) @binding(4) var<storage, read> gain: array<vec4<f32>>;    // (cols), zeros after
#else
@group(0) @binding(4) var<storage, read> bias: array<f32>;          // (rows of all parts)
#endif
@group(0) @binding(5) var<storage, read_write> y: array<f32>;       // (tokens, y_stride)

const ROWS: u32 = 4u;
const COLS: u32 = $COLSu;
const PRODUCTS: u32 = $COLSu * 4u;
#ifdef NORM
const SUMS: u32 = $COLSu * 5u;  // products, then a sum of squares a token
#else
const SUMS: u32 = PRODUCTS;
#endif

var<workgroup> slots: array<f32, SUMS * 64u>;

// The r-th row of this workgroup.
fn row_of(group: u32, r: u32) -> u32 {
#ifdef SWIGLU
    return group * 2u + (r & 1u) + (r / 2u) * (params.rows / 2u);
#else
    return group * ROWS + r;
#endif
}

fn total(index: u32, used: u32) -> f32 {
    var sum = 0.0;
    for (var i = 0u; i < used; i++) {
        sum += slots[index * 64u + i];
    }
    return sum;
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
#ifdef SUBGROUPS
    @builtin(subgroup_invocation_id) lane: u32,
    @builtin(subgroup_size) lanes: u32,
#endif
) {
    let token0 = group.y * COLS;
    var sums: array<f32, SUMS>;
    for (var k8 = local; k8 < params.cols8; k8 += 64u) {
        var xa: array<vec4<f32>, COLS>;
        var xb: array<vec4<f32>, COLS>;
#ifdef NORM
        let gain_a = gain[k8 * 2u];
        let gain_b = gain[k8 * 2u + 1u];
#endif
        for (var c = 0u; c < COLS; c++) {
            let i = min(token0 + c, params.tokens - 1u) * (params.x_stride / 4u) + k8 * 2u;
            xa[c] = x[i];
            xb[c] = x[i + 1u];
#ifdef NORM
            sums[PRODUCTS + c] += dot(xa[c], xa[c]) + dot(xb[c], xb[c]);
            xa[c] *= gain_a;
            xb[c] *= gain_b;
#endif
        }
        for (var r = 0u; r < ROWS; r++) {
            let v = weights8(min(row_of(group.x, r), params.rows - 1u), k8);
            for (var c = 0u; c < COLS; c++) {
                sums[r * COLS + c] += dot(v.a, xa[c]) + dot(v.b, xb[c]);
            }
        }
    }
#ifdef SUBGROUPS
    for (var i = 0u; i < SUMS; i++) {
        let partial = subgroupAdd(sums[i]);
        if lane == 0u {
            slots[i * 64u + local / lanes] = partial;
        }
    }
    let used = (64u + lanes - 1u) / lanes;
    workgroupBarrier();
#else
    for (var i = 0u; i < SUMS; i++) {
        slots[i * 64u + local] = sums[i];
    }
    let used = 1u;
    workgroupBarrier();
    for (var half = 32u; half > 0u; half /= 2u) {
        if local < half {
            for (var i = 0u; i < SUMS; i++) {
                slots[i * 64u + local] += slots[i * 64u + local + half];
            }
        }
        workgroupBarrier();
    }
#endif
    let r = local / COLS;
    let c = local % COLS;
    let token = token0 + c;
    let row = row_of(group.x, r);
    var scale = 1.0;
#ifdef NORM
    scale = 1.0 / sqrt(total(PRODUCTS + c, used) / f32(params.cols) + params.eps);
#endif
#ifdef SWIGLU
    if r < 2u && row < params.rows / 2u && token < params.tokens {
        let gate = total(local, used) * scale;
        let up = total(local + 2u * COLS, used) * scale;
        // exp overflows past 88; silu is 0 there to f32 precision long before.
        y[token * params.y_stride + row] = gate / (1.0 + exp(min(-gate, 80.0))) * up;
    }
#else
    if r < ROWS && row < params.rows && token < params.tokens {
        var result = total(local, used) * scale;
        let at = token * params.y_stride + params.y_offset + row;
        if (params.flags & 1u) != 0u {
            result += y[at];
        }
#ifndef NORM
        if (params.flags & 2u) != 0u {
            result += bias[params.y_offset + row];
        }
#endif
        y[at] = result;
    }
#endif
}
