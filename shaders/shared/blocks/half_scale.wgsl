// The f16 scale of a block, where scales are stored two to a u32.
@group(0) @binding(2) var<storage, read> s: array<u32>;  // (rows, ceil(blocks / 2))

fn half_scale(row: u32, block: u32) -> f32 {
    let pair = unpack2x16float(s[row * ((params.blocks + 1u) / 2u) + block / 2u]);
    return select(pair.x, pair.y, (block & 1u) == 1u);
}
