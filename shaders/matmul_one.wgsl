// Matrix product of a float format for one token: y[n] = Σ_k W[n, k] · x[k], + y[n].
// A workgroup of 256 invocations owns two rows of W, so that a matrix of a few thousand rows still keeps every core loading.
//
// NORM: x is normalised on the way in (RMSNorm). Since Σ W · (x · g / rms(x)) = Σ W · (x · g) / rms(x), the squares are summed beside
// the products, and one pass over x does both.
// SWIGLU: W is gate over up; a workgroup owns one row of each, and y is silu(gate) · up.
#import weights8

struct Params {
    cols8: u32,     // inner dimension over 8, padded
    cols: u32,      // inner dimension
    rows: u32,      // rows of this part of W
    y_offset: u32,  // column of y that row 0 goes to
    flags: u32,     // 1: add to y
    eps: f32,       // RMSNorm's
}

@group(0) @binding(0) var<uniform> params: Params;
#import weights/$FORMAT
@group(0) @binding(3) var<storage, read> x: array<vec4<f32>>;       // (cols)
@group(0) @binding(4) var<storage, read> gain: array<vec4<f32>>;    // (cols), zeros after
@group(0) @binding(5) var<storage, read_write> y: array<f32>;

const THREADS: u32 = 256u;
var<workgroup> slots: array<vec3<f32>, THREADS>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
#ifdef SUBGROUPS
    @builtin(subgroup_invocation_id) lane: u32,
    @builtin(subgroup_size) lanes: u32,
#endif
) {
#ifdef SWIGLU
    let first = group.x;
    let second = group.x + params.rows / 2u;
#else
    let first = group.x * 2u;
    let second = min(first + 1u, params.rows - 1u);
#endif
    var sums = vec3<f32>(0.0);  // of the first row, of the second, of squares
    for (var k8 = local; k8 < params.cols8; k8 += THREADS) {
        let a = weights8(first, k8);
        let b = weights8(second, k8);
        var low = x[k8 * 2u];
        var high = x[k8 * 2u + 1u];
#ifdef NORM
        sums.z += dot(low, low) + dot(high, high);
        low *= gain[k8 * 2u];
        high *= gain[k8 * 2u + 1u];
#endif
        sums.x += dot(a.a, low) + dot(a.b, high);
        sums.y += dot(b.a, low) + dot(b.b, high);
    }
#ifdef SUBGROUPS
    sums = subgroupAdd(sums);
    if lane == 0u {
        slots[local / lanes] = sums;
    }
    workgroupBarrier();
    if local > 0u {
        return;
    }
    sums = slots[0];
    for (var i = 1u; i * lanes < THREADS; i++) {
        sums += slots[i];
    }
#else
    slots[local] = sums;
    workgroupBarrier();
    for (var half = THREADS / 2u; half > 0u; half /= 2u) {
        if local < half {
            slots[local] += slots[local + half];
        }
        workgroupBarrier();
    }
    if local > 0u {
        return;
    }
    sums = slots[0];
#endif
    var scale = 1.0;
#ifdef NORM
    scale = 1.0 / sqrt(sums.z / f32(params.cols) + params.eps);
#endif
    var one = sums.x * scale;
    var two = sums.y * scale;
#ifdef SWIGLU
    // exp overflows past 88; silu is 0 there to f32 precision long before.
    y[group.x] = one / (1.0 + exp(min(-one, 80.0))) * two;
#else
    let at = params.y_offset + first;
    if (params.flags & 1u) != 0u {
        one += y[at];
    }
    y[at] = one;
    if first + 1u < params.rows {
        if (params.flags & 1u) != 0u {
            two += y[at + 1u];
        }
        y[at + 1u] = two;
    }
#endif
}
