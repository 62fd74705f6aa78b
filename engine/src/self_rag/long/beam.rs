//! Which paths go on, from the scores of the candidates. Pure.

use std::cmp::Ordering;

use super::{
    config::{HardControl, LongConfig, PathScore},
    tree::Tree,
};
use crate::{order::sort_by, self_rag::Candidate, tokenizer::ReflectionTokens};

/// A path's score from its segments' scores, first segment first.
pub fn path_score(rule: PathScore, segments: &[f32]) -> f32 {
    match rule {
        PathScore::Sum => segments.iter().sum(),
        PathScore::Product => segments.iter().product(),
        PathScore::Mean => segments.iter().sum::<f32>() / segments.len().max(1) as f32,
    }
}

/// The paths kept after a segment: of the finished ones before (`finished`, best first) and the new candidates, those with the highest
/// scores; of equals, the earlier. Excluded candidates are only taken if there is nothing else.
pub fn select(
    config: &LongConfig,
    tree: &Tree,
    finished: &[usize],
    new: &[usize],
    score: impl Fn(usize) -> f32,
) -> Vec<usize> {
    let kept = if config.keep_finished { finished } else { &[] };
    let wanted = |&&node: &&usize| !tree.nodes[node].excluded;
    let mut pool: Vec<usize> = kept.iter().chain(new.iter().filter(wanted)).copied().collect();
    if pool.is_empty() {
        pool = new.to_vec();
    }
    // Scores are finite, so the order is total; the sort keeps equals as they come.
    sort_by(&mut pool, |&a, &b| score(b).partial_cmp(&score(a)).unwrap_or(Ordering::Equal));
    pool.truncate(config.beam_width);
    pool
}

/// Whether hard control excludes a candidate: by the tokens it wrote, the first of each group.
pub fn excluded(hard: HardControl, candidate: &Candidate, reflection: &ReflectionTokens) -> bool {
    let wrote = |token: u32| candidate.tokens.contains(&token);
    let support = candidate.tokens.iter().find(|&&token| reflection.is_support(token));
    hard.irrelevant && wrote(reflection.irrelevant)
        || hard.no_support && support == Some(&reflection.no_support)
        || hard.partial_support && support == Some(&reflection.partially)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_scores_by_hand() {
        assert_eq!(path_score(PathScore::Sum, &[1.5, 2.0]), 3.5);
        assert_eq!(path_score(PathScore::Product, &[1.5, 2.0]), 3.0);
        assert_eq!(path_score(PathScore::Mean, &[1.5, 2.0]), 1.75);
        for rule in [PathScore::Sum, PathScore::Product, PathScore::Mean] {
            assert_eq!(path_score(rule, &[2.5]), 2.5, "{rule:?}: one segment is itself");
        }
    }
}
