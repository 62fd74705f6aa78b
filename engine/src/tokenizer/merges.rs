//! SentencePiece pieces and scores → BPE merges.
//!
//! SentencePiece joins the neighbours whose union has the highest score. The same order as a list of merges: for each piece, every
//! split into two known pieces; the whole sorted by the piece's score, best first, and where scores are equal by the lengths of the
//! parts, longest first (transformers' `generate_merges`). Cost: one look-up for each character boundary of each piece.

use std::collections::HashMap;

use crate::order::sort_by;

use tokenizers::models::bpe::Merges;

use super::vocabulary::{TokenType, Vocabulary};

/// Longest piece that is split; SentencePiece's own default is 16 characters, GGUF has runs of spaces and dashes of up to 64.
const MAX_PIECE_BYTES: usize = 1024;

/// The merges of a vocabulary whose tokens have `scores` (missing or not-a-number: lowest).
pub(super) fn from_scores(vocabulary: &Vocabulary, scores: &[f32]) -> Merges {
    let normal = |id: usize| vocabulary.types[id] == TokenType::Normal && !vocabulary.tokens[id].is_empty();
    let normal_ids: Vec<usize> = (0..vocabulary.tokens.len()).filter(|&id| normal(id)).collect();
    let ids: HashMap<&str, usize> = normal_ids.iter().rev().map(|&id| (vocabulary.tokens[id].as_str(), id)).collect();
    let score = |id: usize| scores.get(id).copied().filter(|score| !score.is_nan()).unwrap_or(f32::MIN);
    let mut found = Vec::new();
    for &id in normal_ids.iter().filter(|&&id| vocabulary.tokens[id].len() <= MAX_PIECE_BYTES) {
        let piece = vocabulary.tokens[id].as_str();
        let first = found.len();
        for (at, _) in piece.char_indices().skip(1) {
            let (left, right) = piece.split_at(at);
            if let (Some(&l), Some(&r)) = (ids.get(left), ids.get(right)) {
                found.push((score(id), left, right, (l, r)));
            }
        }
        let mut of_this = found.split_off(first);
        sort_by(&mut of_this, |a, b| a.3.cmp(&b.3));
        found.append(&mut of_this);
    }
    let chars = |text: &str| text.chars().count();
    // Stable, and reversed within equal keys as Python's `reverse=True` keeps them: in the order found.
    sort_by(&mut found, |a, b| {
        b.0.total_cmp(&a.0).then_with(|| chars(b.1).cmp(&chars(a.1))).then_with(|| chars(b.2).cmp(&chars(a.2)))
    });
    found.into_iter().map(|(_, left, right, _)| (left.to_owned(), right.to_owned())).collect()
}
