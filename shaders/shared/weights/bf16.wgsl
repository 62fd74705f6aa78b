// Weights as bf16, two in a u32: the upper half of an f32.
@group(0) @binding(1) var<storage, read> w: array<vec4<u32>>;  // (rows, cols8)
@group(0) @binding(2) var<storage, read> s: array<u32>;        // unused

fn weights8(row: u32, k8: u32) -> Weights8 {
    let bits = w[row * params.cols8 + k8];
    let even = bitcast<vec4<f32>>(bits << vec4<u32>(16u));
    let odd = bitcast<vec4<f32>>(bits & vec4<u32>(0xffff0000u));
    return Weights8(vec4<f32>(even.x, odd.x, even.y, odd.y), vec4<f32>(even.z, odd.z, even.w, odd.w));
}
