// q5_0: blocks of 32, w = d · (q - 16), d an f16 per block.
#import weights/block_scale
#import weights/fifth_bit
@group(0) @binding(2) var<storage, read> s: array<u32>;  // (rows, ceil(blocks / 2)): two scales

fn weights8(row: u32, k8: u32) -> Weights8 {
    let q = five_bits(row, k8);
    let d = block_scale(row, k8);
    return Weights8((exact(q[0]) - 16.0) * d, (exact(q[1]) - 16.0) * d);
}
