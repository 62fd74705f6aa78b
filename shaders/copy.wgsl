// y ← x, 16 bytes an invocation: what the memory can do when nothing is in its way. `selfrag bench` measures with it.

struct Params {
    quads: u32,
    row: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<u32>>;        // (quads)
@group(0) @binding(2) var<storage, read_write> y: array<vec4<u32>>;  // (quads)

// One invocation a quad of words: workgroup (256 quads of a row, row), since one dimension does not reach a gigabyte.
@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let i = group.y * params.row + group.x * 256u + local;
    if i >= params.quads {
        return;
    }
    y[i] = x[i];
}
