// Matrix product for few tokens (decode): y[t, n] = Σ_k W[n, k] · x[t, k], + bias[n], + y[t, n].
// A workgroup owns four rows of W and up to $COLS tokens; its 64 invocations share the inner dimension, so each weight is
// read once however many tokens there are. Cost: the bytes of W.
#import weights8

struct Params {
    cols8: u32,     // inner dimension over 8, padded
    rows: u32,      // rows of this part of W
    tokens: u32,
    x_stride: u32,  // in f32, a multiple of 8
    y_stride: u32,
    y_offset: u32,  // column of y that row 0 goes to
    flags: u32,     // 1: add to y, 2: add bias
}

@group(0) @binding(0) var<uniform> params: Params;
#import weights/$FORMAT
@group(0) @binding(3) var<storage, read> x: array<vec4<f32>>;       // (tokens, x_stride / 4)
@group(0) @binding(4) var<storage, read> bias: array<f32>;          // (rows of all parts)
@group(0) @binding(5) var<storage, read_write> y: array<f32>;       // (tokens, y_stride)

const ROWS: u32 = 4u;
const COLS: u32 = $COLSu;
const SUMS: u32 = $COLSu * 4u;

var<workgroup> slots: array<f32, SUMS * 64u>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
#ifdef SUBGROUPS
    @builtin(subgroup_invocation_id) lane: u32,
    @builtin(subgroup_size) lanes: u32,
#endif
) {
    let row0 = group.x * ROWS;
    let token0 = group.y * COLS;
    var sums: array<f32, SUMS>;
    for (var k8 = local; k8 < params.cols8; k8 += 64u) {
        var xa: array<vec4<f32>, COLS>;
        var xb: array<vec4<f32>, COLS>;
        for (var c = 0u; c < COLS; c++) {
            let i = min(token0 + c, params.tokens - 1u) * (params.x_stride / 4u) + k8 * 2u;
            xa[c] = x[i];
            xb[c] = x[i + 1u];
        }
        for (var r = 0u; r < ROWS; r++) {
            let v = weights8(min(row0 + r, params.rows - 1u), k8);
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
    let row = row0 + local / COLS;
    let token = token0 + local % COLS;
    if local < SUMS && row < params.rows && token < params.tokens {
        var total = 0.0;
        for (var i = 0u; i < used; i++) {
            total += slots[local * 64u + i];
        }
        let at = token * params.y_stride + params.y_offset + row;
        if (params.flags & 1u) != 0u {
            total += y[at];
        }
        if (params.flags & 2u) != 0u {
            total += bias[params.y_offset + row];
        }
        y[at] = total;
    }
}
