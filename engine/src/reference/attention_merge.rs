//! Twin of `shaders/attention_merge.wgsl`.

/// Attention over some of a row's positions.
#[derive(Debug, Clone, PartialEq)]
pub struct Piece {
    /// Largest score.
    pub highest: f64,
    /// Sum of weights exp(score - highest).
    pub sum: f64,
    /// Sum of weighted values.
    pub out: Vec<f64>,
}

/// All of a row's positions.
pub fn attention_merge(pieces: &[Piece]) -> Vec<f32> {
    let highest = pieces.iter().map(|piece| piece.highest).fold(f64::MIN, f64::max);
    let weights: Vec<f64> = pieces.iter().map(|piece| (piece.highest - highest).exp()).collect();
    let sum: f64 = pieces.iter().zip(&weights).map(|(piece, weight)| piece.sum * weight).sum();
    let dim = |d: usize| -> f64 { pieces.iter().zip(&weights).map(|(piece, weight)| piece.out[d] * weight).sum() };
    (0..pieces[0].out.len()).map(|d| (dim(d) / sum) as f32).collect()
}
