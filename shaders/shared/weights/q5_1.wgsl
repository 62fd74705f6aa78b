// q5_1: blocks of 32, w = d · q + m, d and m as f16 in one u32.
#import weights/fifth_bit
@group(0) @binding(2) var<storage, read> s: array<u32>;  // (rows, blocks): d, m

fn weights8(row: u32, k8: u32) -> Weights8 {
    let q = five_bits(row, k8);
    let dm = unpack2x16float(s[row * (params.cols8 / 4u) + k8 / 4u]);
    return Weights8(exact(q[0]) * dm.x + dm.y, exact(q[1]) * dm.x + dm.y);
}
