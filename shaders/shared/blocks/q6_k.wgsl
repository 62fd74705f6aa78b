// q6_k: w = d · scale · (q - 32), a scale for each half of a block. Per block four words of nibbles and two of upper bit pairs.
#import blocks/block
@group(0) @binding(1) var<storage, read> w: array<u32>;  // (rows, blocks, 6)
@group(0) @binding(2) var<storage, read> s: array<u32>;  // (rows, super-blocks, 5): d, then 16 scales

// The upper pairs of the weights 8g, 8g + 2, … at bit 4 of each byte: pair i of a group stands at bit 2i.
fn even_pairs(groups: vec4<u32>) -> vec4<u32> {
    return ((groups & vec4<u32>(0x3u)) << vec4<u32>(4u)) | ((groups & vec4<u32>(0x30u)) << vec4<u32>(8u))
        | ((groups & vec4<u32>(0x300u)) << vec4<u32>(12u)) | ((groups & vec4<u32>(0x3000u)) << vec4<u32>(16u));
}

fn load_block(row: u32, block: u32) -> Block {
    let at = (row * params.blocks + block) * 6u;
    let words = vec4<u32>(w[at], w[at + 1u], w[at + 2u], w[at + 3u]);
    let first = w[at + 4u];
    let second = w[at + 5u];
    let groups = vec4<u32>(first, first >> 16u, second, second >> 16u);
    let super_block = (row * (params.blocks / 8u) + block / 8u) * 5u;
    let scales = s[super_block + 1u + (block & 7u) / 2u] >> ((block & 1u) * 16u);
    // Signed bytes: to the top, then back down with their signs.
    let signed = vec2<i32>(bitcast<i32>(scales << 24u) >> 24u, bitcast<i32>(scales << 16u) >> 24u);
    let d = unpack2x16float(s[super_block]).x * vec2<f32>(signed);
    return Block(
        even_nibbles(words) | even_pairs(groups),
        odd_nibbles(words) | even_pairs(groups >> vec4<u32>(2u)),
        d,
        -32.0 * d,
    );
}
