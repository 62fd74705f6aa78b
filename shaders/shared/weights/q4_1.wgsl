// q4_1: blocks of 32, w = d · q + m, d and m as f16 in one u32.
#import weights/nibbles
@group(0) @binding(1) var<storage, read> w: array<u32>;  // (rows, cols8): 8 nibbles
@group(0) @binding(2) var<storage, read> s: array<u32>;  // (rows, blocks): d, m

fn weights8(row: u32, k8: u32) -> Weights8 {
    let bits = w[row * params.cols8 + k8];
    let dm = unpack2x16float(s[row * (params.cols8 / 4u) + k8 / 4u]);
    return Weights8(
        exact(nibbles_low(bits)) * dm.x + dm.y,
        exact(nibbles_high(bits)) * dm.x + dm.y,
    );
}
