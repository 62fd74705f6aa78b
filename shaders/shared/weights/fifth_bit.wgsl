// 4-bit numbers with a fifth bit each: per block of 32, four words of nibbles and one word of high bits.
#import weights/nibbles
@group(0) @binding(1) var<storage, read> w: array<u32>;  // (rows, blocks, 5)

fn five_bits(row: u32, k8: u32) -> array<vec4<u32>, 2> {
    let block = (row * (params.cols8 / 4u) + k8 / 4u) * 5u;
    let low = w[block + (k8 & 3u)];
    let high = w[block + 4u] >> ((k8 & 3u) * 8u);
    let first = (vec4<u32>(high) >> vec4<u32>(0u, 1u, 2u, 3u)) & vec4<u32>(1u);
    let second = (vec4<u32>(high) >> vec4<u32>(4u, 5u, 6u, 7u)) & vec4<u32>(1u);
    return array<vec4<u32>, 2>(
        nibbles_low(low) | (first << vec4<u32>(4u)),
        nibbles_high(low) | (second << vec4<u32>(4u)),
    );
}
