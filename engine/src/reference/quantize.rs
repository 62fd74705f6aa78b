//! Twin of `shaders/quantize.wgsl` and `shaders/shared/q16.wgsl`.

/// What blocks of 16-bit integers stand for: (values, per block their two half sums and the sum of `raw`'s squares).
pub fn quantize(x: &[f32], raw: &[f32]) -> (Vec<f32>, Vec<[f32; 3]>) {
    let mut values = Vec::with_capacity(x.len());
    let mut sums = Vec::new();
    for (block, raw) in x.chunks_exact(32).zip(raw.chunks_exact(32)) {
        let largest = block.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        let dx = largest / 32512.0;
        let inverse = if largest > 0.0 { 32512.0 / largest } else { 0.0 };
        values.extend(block.iter().map(|v| (v * inverse).round_ties_even() * dx));
        let sum = |part: &[f32]| part.iter().map(|v| f64::from(*v)).sum::<f64>() as f32;
        let squares = raw.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>() as f32;
        sums.push([sum(&block[..16]), sum(&block[16..]), squares]);
    }
    (values, sums)
}

/// The same read back from a row of `blocks` blocks as the GPU lays them out.
pub fn unpack_integers(words: &[u32], blocks: usize) -> (Vec<f32>, Vec<[f32; 3]>) {
    let word = |plane: usize, block: usize, i: usize| words[(plane * blocks + block) * 4 + i];
    let byte = |word: u32, i: usize| f32::from((word >> (8 * i)) as u8 as i8);
    let mut values = Vec::with_capacity(blocks * 32);
    let mut sums = Vec::new();
    for block in 0..blocks {
        let float = |i| f32::from_bits(word(4, block, i));
        for k in 0..32 {
            let (group, odd, i) = (k / 8, k % 2, k % 8 / 2);
            let high = byte(word(odd, block, group), i);
            let low = byte(word(2 + odd, block, group), i);
            values.push((256.0 * high + low) * float(0));
        }
        sums.push([float(1), float(2), float(3)]);
    }
    (values, sums)
}
