// q8_0: blocks of 32, w = d · q with q in -128..127 and d an f16 per block.
#import weights/block_scale
#import weights/exact
@group(0) @binding(1) var<storage, read> w: array<vec2<u32>>;  // (rows, cols8): bytes of every second weight, then those between
@group(0) @binding(2) var<storage, read> s: array<u32>;        // (rows, ceil(blocks / 2)): two scales

// Signed bytes, made unsigned by their top bit.
fn bytes(bits: u32) -> vec4<f32> {
    return exact(unpack4xU8(bits ^ 0x80808080u)) - 128.0;
}

fn weights8(row: u32, k8: u32) -> Weights8 {
    let bits = w[row * params.cols8 + k8];
    let d = block_scale(row, k8);
    let even = bytes(bits.x) * d;
    let odd = bytes(bits.y) * d;
    return Weights8(vec4<f32>(even.x, odd.x, even.y, odd.y), vec4<f32>(even.z, odd.z, even.w, odd.w));
}
