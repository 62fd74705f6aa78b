// q4_k: 4-bit numbers under k-quant scales.
#import weights/k_scale
#import weights/nibbles
@group(0) @binding(1) var<storage, read> w: array<u32>;  // (rows, cols8): 8 nibbles

fn weights8(row: u32, k8: u32) -> Weights8 {
    let bits = w[row * params.cols8 + k8];
    let dm = k_scale(row, k8);
    return Weights8(
        exact(nibbles_low(bits)) * dm.x - dm.y,
        exact(nibbles_high(bits)) * dm.x - dm.y,
    );
}
