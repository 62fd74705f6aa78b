// q6_k: super-blocks of 256 = 16 blocks of 16 with an 8-bit scale; w = d · scale · (q - 32).
// Per 32 values: four words of nibbles and two words of upper bit pairs.
#import weights/nibbles
@group(0) @binding(1) var<storage, read> w: array<u32>;  // (rows, cols / 32, 6)
@group(0) @binding(2) var<storage, read> s: array<u32>;  // (rows, super-blocks, 5): d, then 16 scales

fn weights8(row: u32, k8: u32) -> Weights8 {
    let block = (row * (params.cols8 / 4u) + k8 / 4u) * 6u;
    let low = w[block + (k8 & 3u)];
    let high = w[block + 4u + (k8 & 3u) / 2u] >> ((k8 & 1u) * 16u);
    let first = (vec4<u32>(high) >> vec4<u32>(0u, 2u, 4u, 6u)) & vec4<u32>(3u);
    let second = (vec4<u32>(high) >> vec4<u32>(8u, 10u, 12u, 14u)) & vec4<u32>(3u);
    let super_block = (row * (params.cols8 / 32u) + k8 / 32u) * 5u;
    let sixteenth = (k8 / 2u) & 15u;
    // The scale is a signed byte: shift it to the top, then back down with its sign.
    let scale = bitcast<i32>(s[super_block + 1u + sixteenth / 4u] << (24u - (sixteenth & 3u) * 8u)) >> 24u;
    let d = unpack2x16float(s[super_block]).x * f32(scale);
    return Weights8(
        (exact(nibbles_low(low) | (first << vec4<u32>(4u))) - 32.0) * d,
        (exact(nibbles_high(low) | (second << vec4<u32>(4u))) - 32.0) * d,
    );
}
