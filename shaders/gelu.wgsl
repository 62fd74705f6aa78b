// GELU in place.
#import gelu

struct Params {
    cols: u32,
    stride: u32,  // in f32, a multiple of 4; what lies after cols is zeros and stays zeros
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> x: array<vec4<f32>>;  // (rows, stride / 4)

// Four values an invocation: workgroup (256 columns, row).
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let four = group.x * 64u + local;
    if four * 4u >= params.cols {
        return;
    }
    let i = group.y * (params.stride / 4u) + four;
    x[i] = gelu(x[i]);
}
