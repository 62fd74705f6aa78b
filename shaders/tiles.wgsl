// Activations as f16 in tiles of 16 rows × 16 columns, each 512 bytes in a row: what products on cooperative matrices take.
// What f16 cannot hold is as large as it can. NORM: RMSNorm of x. SWIGLU: x is gate, then up; the result is silu(gate) · up.
struct Params {
    cols: u32,      // of the result, a multiple of 16
    x_stride: u32,  // in f32
    eps: f32,       // RMSNorm's
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;        // (rows, x_stride / 4)
@group(0) @binding(2) var<storage, read> gain: array<vec4<f32>>;     // (cols / 4)
@group(0) @binding(3) var<storage, read_write> z: array<vec2<u32>>;  // (rows / 16, cols / 16, 16, 4)

const THREADS: u32 = 256u;
#ifdef NORM
var<workgroup> slots: array<f32, THREADS>;
#endif

// Workgroup: a row.
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let row = group.x;
    let base = row * (params.x_stride / 4u);
    let fours = params.cols / 4u;
#ifdef NORM
    var squares = 0.0;
    for (var i = local; i < fours; i += THREADS) {
        squares += dot(x[base + i], x[base + i]);
    }
    slots[local] = squares;
    workgroupBarrier();
    for (var half = THREADS / 2u; half > 0u; half /= 2u) {
        if local < half {
            slots[local] += slots[local + half];
        }
        workgroupBarrier();
    }
    let scale = 1.0 / sqrt(slots[0] / f32(params.cols) + params.eps);
#endif
    for (var i = local; i < fours; i += THREADS) {
#ifdef SWIGLU
        let gate = x[base + i];
        // exp overflows past 88; silu is 0 there to f32 precision long before.
        let value = gate / (1.0 + exp(min(-gate, vec4<f32>(80.0)))) * x[base + fours + i];
#else
#ifdef NORM
        let value = x[base + i] * scale * gain[i];
#else
        let value = x[base + i];
#endif
#endif
        let tile = row / 16u * (params.cols / 16u) + i / 4u;
        let held = clamp(value, vec4<f32>(-65504.0), vec4<f32>(65504.0));
        z[(tile * 16u + row % 16u) * 4u + i % 4u] = vec2<u32>(pack2x16float(held.xy), pack2x16float(held.zw));
    }
}
