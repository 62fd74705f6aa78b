// Matrix product for up to 16 tokens on cooperative matrices (tensor cores): y[t, n] = Σ_k W[n, k] · x[t, k], + y[t, n].
// A workgroup computes 16 rows; its four subgroups of 32 share the inner dimension, 64 columns at a time, so that a matrix of a few
// thousand rows keeps every core loading. Weights go through workgroup memory of the subgroup's own, the next ones are
// loaded while these are multiplied, and the subgroups' sums meet at the end.
#import weights8

struct Params {
    cols8: u32,     // inner dimension over 8, a multiple of 8
    rows: u32,      // rows of this part of W, a multiple of 16
    tokens: u32,
    y_stride: u32,
    y_offset: u32,
    flags: u32,     // 1: add to y
}

@group(0) @binding(0) var<uniform> params: Params;
#import weights/$FORMAT
#import half8
@group(0) @binding(3) var<storage, read> x: array<vec4<f16>>;  // tiles of 16 × 16 (see tiles), 16 tokens
@group(0) @binding(4) var<storage, read_write> y: array<f32>;  // (tokens, y_stride)

const PITCH: u32 = 18u;  // of vec4<f16>: 64 columns and 8 more
const TILE: u32 = 16u * PITCH;
var<workgroup> tile: array<vec4<f16>, 4u * TILE>;
var<workgroup> sums: array<f32, 4u * 256u>;

@compute @workgroup_size(128)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let team = local / 32u;
    let member = local % 32u;
    let first_row = group.x * 16u;
    let base = team * TILE;
    var sum = coop_mat16x16<f32, C>();
    // Four groups of eight an invocation.
#for i in 0..4
    let row$i = first_row + member / 8u + $iu * 4u;
    let to$i = base + (member / 8u + $iu * 4u) * PITCH + member % 8u * 2u;
    var next$i = half8(row$i, min(team * 8u, params.cols8 - 8u) + member % 8u);
#end
    for (var k8 = team * 8u; k8 < params.cols8; k8 += 32u) {
#for i in 0..4
        tile[to$i] = next$i.a;
        tile[to$i + 1u] = next$i.b;
#end
        subgroupBarrier();
        let ahead = min(k8 + 32u, params.cols8 - 8u);
#for i in 0..4
        next$i = half8(row$i, ahead + member % 8u);
#end
#for k in 0..4
        {
            let b = coopLoad<coop_mat16x16<f16, B>>(&x[(k8 / 2u + $ku) * 64u], 4u);
            let a = coopLoadT<coop_mat16x16<f16, A>>(&tile[base + $ku * 4u], PITCH);
            sum = coopMultiplyAdd(a, b, sum);
        }
#end
        subgroupBarrier();
    }
    let sums_at = team * 256u;
    coopStore(sum, &sums[sums_at], 16u);
    workgroupBarrier();
    for (var i = local; i < 256u; i += 128u) {
        let token = i / 16u;
        if token < params.tokens {
            var total = sums[i] + sums[i + 256u] + sums[i + 512u] + sums[i + 768u];
            let at = token * params.y_stride + params.y_offset + first_row + i % 16u;
            if (params.flags & 1u) != 0u {
                total += y[at];
            }
            y[at] = total;
        }
    }
}
