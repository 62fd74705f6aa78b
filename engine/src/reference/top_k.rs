//! Twin of `shaders/top_k.wgsl`.

use crate::order::sort_by;

/// The `k` best of each chunk of `chunk` (score, row) pairs: best first, -0 behind 0, ties to the lower row.
pub fn top_k(pairs: &[(f32, u32)], chunk: usize, k: usize) -> Vec<Vec<(f32, u32)>> {
    let best = |chunk: &[(f32, u32)]| {
        let mut sorted = chunk.to_vec();
        sort_by(&mut sorted, |a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        sorted.truncate(k);
        sorted
    };
    pairs.chunks(chunk).map(best).collect()
}
