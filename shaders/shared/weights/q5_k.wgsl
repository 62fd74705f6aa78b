// q5_k: 5-bit numbers under k-quant scales.
#import weights/k_scale
#import weights/fifth_bit

fn weights8(row: u32, k8: u32) -> Weights8 {
    let q = five_bits(row, k8);
    let dm = k_scale(row, k8);
    return Weights8(exact(q[0]) * dm.x - dm.y, exact(q[1]) * dm.x - dm.y);
}
