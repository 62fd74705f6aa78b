// The f16 scale of the block of 32 that holds the k8-th group of 8, where scales are stored two to a u32.

fn block_scale(row: u32, k8: u32) -> f32 {
    let block = k8 / 4u;
    let stride = (params.cols8 / 4u + 1u) / 2u;
    let pair = unpack2x16float(s[row * stride + block / 2u]);
    return select(pair.x, pair.y, (block & 1u) == 1u);
}
