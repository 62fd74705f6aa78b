// Matrix product for many tokens (prefill): y[t, n] = Σ_k W[n, k] · x[t, k], + bias[n], + y[t, n].
// A workgroup computes 32 rows of W × 32 tokens, 32 of the inner dimension at a time through workgroup memory (2 × 4.2 KB);
// each of its 8 × 8 invocations keeps a 4 × 4 piece in registers, so a loaded value is used 4 times from a register and 32 times
// from workgroup memory.
#import weights8

struct Params {
    cols8: u32,
    rows: u32,
    tokens: u32,
    x_stride: u32,
    y_stride: u32,
    y_offset: u32,
    flags: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
#import weights/$FORMAT
@group(0) @binding(3) var<storage, read> x: array<vec4<f32>>;   // (tokens, x_stride / 4)
@group(0) @binding(4) var<storage, read> bias: array<f32>;      // (rows of all parts)
@group(0) @binding(5) var<storage, read_write> y: array<f32>;   // (tokens, y_stride)

// Inner dimension outermost; 33 columns so that invocations of a subgroup write to different banks.
const PITCH: u32 = 33u;
var<workgroup> w_tile: array<f32, 32u * PITCH>;  // (inner, row)
var<workgroup> x_tile: array<f32, 32u * PITCH>;  // (inner, token)

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let row0 = group.x * 32u;
    let token0 = group.y * 32u;
    let row4 = (local % 8u) * 4u;
    let token4 = (local / 8u) * 4u;
    var sums: array<vec4<f32>, 4>;
    for (var k8 = 0u; k8 < params.cols8; k8 += 4u) {
        // 32 × 4 groups of eight for each operand, two groups an invocation.
        for (var j = 0u; j < 2u; j++) {
            let outer = local / 4u + j * 16u;
            let part = local % 4u;
            var wv = Weights8(vec4<f32>(0.0), vec4<f32>(0.0));
            var xv = Weights8(vec4<f32>(0.0), vec4<f32>(0.0));
            if k8 + part < params.cols8 {
                if row0 + outer < params.rows {
                    wv = weights8(row0 + outer, k8 + part);
                }
                if token0 + outer < params.tokens {
                    let i = (token0 + outer) * (params.x_stride / 4u) + (k8 + part) * 2u;
                    xv = Weights8(x[i], x[i + 1u]);
                }
            }
            let at = part * 8u * PITCH + outer;
            for (var e = 0u; e < 4u; e++) {
                w_tile[at + e * PITCH] = wv.a[e];
                w_tile[at + (e + 4u) * PITCH] = wv.b[e];
                x_tile[at + e * PITCH] = xv.a[e];
                x_tile[at + (e + 4u) * PITCH] = xv.b[e];
            }
        }
        workgroupBarrier();
        for (var k = 0u; k < 32u; k++) {
            let wi = k * PITCH + row4;
            let xi = k * PITCH + token4;
            let wv = vec4<f32>(w_tile[wi], w_tile[wi + 1u], w_tile[wi + 2u], w_tile[wi + 3u]);
            sums[0] += wv * x_tile[xi];
            sums[1] += wv * x_tile[xi + 1u];
            sums[2] += wv * x_tile[xi + 2u];
            sums[3] += wv * x_tile[xi + 3u];
        }
        workgroupBarrier();
    }
    for (var t = 0u; t < 4u; t++) {
        let token = token0 + token4 + t;
        for (var r = 0u; r < 4u; r++) {
            let row = row0 + row4 + r;
            if token < params.tokens && row < params.rows {
                var total = sums[t][r];
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
    }
}
