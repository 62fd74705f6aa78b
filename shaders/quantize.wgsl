// Activations to blocks of 16-bit integers (see q16): z = x, or x · gain, with x's squares summed beside.

struct Params {
    blocks: u32,    // blocks of 32 a row
    rows: u32,
    x_stride: u32,  // in f32
    has_gain: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;         // (rows, x_stride)
@group(0) @binding(2) var<storage, read> gain: array<f32>;      // (32 · blocks)
@group(0) @binding(3) var<storage, read_write> z: array<u32>;   // (rows, 5, blocks, 4)

var<workgroup> q16_values: array<f32, 256>;
var<workgroup> q16_raw: array<f32, 256>;

#import q16

// Workgroup (eight blocks, row): eight invocations a block.
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    for (var i = local; i < 256u; i += 64u) {
        let column = group.x * 256u + i;
        if column < params.blocks * 32u {
            let value = x[group.y * params.x_stride + column];
            q16_raw[i] = value;
            q16_values[i] = value;
            if params.has_gain == 1u {
                q16_values[i] = value * gain[column];
            }
        }
    }
    workgroupBarrier();
    let block = group.x * 8u + local / 8u;
    if block < params.blocks {
        write16(local / 8u * 32u, local % 8u, (group.y * 5u * params.blocks + block) * 4u, params.blocks * 4u);
    }
}
