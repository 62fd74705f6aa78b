// Weights as f16, two in a u32. With shader-f16 they are read as what they are; the values are the same.
// (A bitcast of u32 to vec2<f16> would do too, but Mesa 22.3's lavapipe gets it wrong.)
#ifdef F16
@group(0) @binding(1) var<storage, read> w: array<vec4<f16>>;  // (rows, cols8, 2)
#else
@group(0) @binding(1) var<storage, read> w: array<vec4<u32>>;  // (rows, cols8)
#endif
@group(0) @binding(2) var<storage, read> s: array<u32>;        // unused

fn weights8(row: u32, k8: u32) -> Weights8 {
    let i = row * params.cols8 + k8;
#ifdef F16
    return Weights8(vec4<f32>(w[i * 2u]), vec4<f32>(w[i * 2u + 1u]));
#else
    let bits = w[i];
    return Weights8(
        vec4<f32>(unpack2x16float(bits.x), unpack2x16float(bits.y)),
        vec4<f32>(unpack2x16float(bits.z), unpack2x16float(bits.w)),
    );
#endif
}
