// q4_k and q5_k: d and m of a block under its super-block's scales (see weights/k_scale).
@group(0) @binding(2) var<storage, read> s: array<u32>;  // (rows, super-blocks, 5)

fn block_dm(row: u32, block: u32) -> vec2<f32> {
    let at = (row * (params.blocks / 8u) + block / 8u) * 5u;
    let d = unpack2x16float(s[at]);
    let pair = s[at + 1u + (block & 7u) / 2u] >> ((block & 1u) * 16u);
    return vec2<f32>(d.x * f32(pair & 255u), -d.y * f32((pair >> 8u) & 255u));
}
