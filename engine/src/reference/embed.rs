//! Twin of `shaders/embed.wgsl`.

/// The table's rows of the given tokens; the table is (vocabulary, cols).
pub fn embed(table: &[f32], cols: usize, tokens: &[u32]) -> Vec<f32> {
    tokens.iter().flat_map(|t| table[*t as usize * cols..][..cols].iter().copied()).collect()
}
