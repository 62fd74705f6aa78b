//! Twin of `shaders/top_k.wgsl`.

/// The `k` best of each chunk of `chunk` scores: (score, row), best first, ties to the lower row.
pub fn top_k(scores: &[f32], chunk: usize, k: usize) -> Vec<Vec<(f32, u32)>> {
    let numbered: Vec<(f32, u32)> = scores.iter().copied().zip(0..).collect();
    let best = |chunk: &[(f32, u32)]| {
        let mut sorted = chunk.to_vec();
        sorted.sort_by(|a, b| b.0.partial_cmp(&a.0).unwrap_or(std::cmp::Ordering::Equal).then(a.1.cmp(&b.1)));
        sorted.truncate(k);
        sorted
    };
    numbered.chunks(chunk).map(best).collect()
}
