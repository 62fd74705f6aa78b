// q4_0: blocks of 32, w = d · (q - 8), d an f16 per block.
#import weights/block_scale
#import weights/nibbles
@group(0) @binding(1) var<storage, read> w: array<u32>;  // (rows, cols8): 8 nibbles
@group(0) @binding(2) var<storage, read> s: array<u32>;  // (rows, ceil(blocks / 2)): two scales

fn weights8(row: u32, k8: u32) -> Weights8 {
    let bits = w[row * params.cols8 + k8];
    let d = block_scale(row, k8);
    return Weights8(
        (exact(nibbles_low(bits)) - 8.0) * d,
        (exact(nibbles_high(bits)) - 8.0) * d,
    );
}
