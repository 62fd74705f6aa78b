// q4_k and q5_k: super-blocks of 256 = 8 blocks of 32 with 6-bit scale and minimum; w = d · scale · q - dmin · minimum.
// Five words a super-block: (d, dmin) as f16, then four words of two (scale, minimum) pairs, a byte each.
@group(0) @binding(2) var<storage, read> s: array<u32>;  // (rows, super-blocks, 5)

fn k_scale(row: u32, k8: u32) -> vec2<f32> {
    let super_block = (row * (params.cols8 / 32u) + k8 / 32u) * 5u;
    let d = unpack2x16float(s[super_block]);
    let block = (k8 / 4u) & 7u;
    let pair = s[super_block + 1u + block / 2u] >> ((block & 1u) * 16u);
    return d * vec2<f32>(f32(pair & 255u), f32((pair >> 8u) & 255u));
}
