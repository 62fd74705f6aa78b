//! What was written, weighed anew: other weights, another threshold, without generating again. Pure.
//!
//! Candidates keep what their scores were computed from ([`crate::critique::Evidence`]), so a slider can move w_rel, w_sup, w_use and
//! the switches freely. What new settings would have *written* is another matter: a decision that would fall otherwise, or a path
//! that would have gone on but was dropped, is reported, not guessed.

use serde::{Deserialize, Serialize};

use super::{
    Answer, Candidate, Config, LongAnswer, LongConfig, Settings,
    long::{Segment, SegmentEnd, beam, read_out_path, segments, text_of},
    rank,
    settings::Number,
};
use crate::{
    critique::{Evidence, Scores},
    order::sort_by,
    retriever::Hit,
};

/// A candidate's scores under other settings. What was recorded without evidence keeps the scores that it has.
fn scores(candidate: &Candidate, config: &Config) -> Scores {
    match candidate.evidence == Evidence::default() {
        true => candidate.scores,
        false => candidate.evidence.scores(config),
    }
}

/// A short answer under other settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShortRanking {
    /// The chosen candidate; none: there are no candidates.
    pub best: Option<usize>,
    /// Its text, cleaned.
    pub text: String,
    /// The candidates' scores.
    pub scores: Vec<Scores>,
    /// Whether another candidate is chosen than before.
    pub changed: bool,
    /// Whether the decision to retrieve would fall otherwise, so that other candidates would have been written; none where that is
    /// unknown (no ratio was kept, or the most likely token decides).
    pub decision_changes: Option<bool>,
}

/// Ranks a short answer's candidates again. No passes of the model.
pub fn short(answer: &Answer, config: &Config) -> ShortRanking {
    let scores: Vec<Scores> = answer.candidates.iter().map(|candidate| scores(candidate, config)).collect();
    let texts: Vec<&str> = answer.candidates.iter().map(|candidate| candidate.text.as_str()).collect();
    let segment: Vec<f32> = scores.iter().map(|scores| scores.segment.unwrap_or(0.0)).collect();
    let best = rank::best(config, &texts, &segment);
    let decides = |probability: f32| config.threshold.map(|threshold| (probability > threshold) != answer.retrieved);
    ShortRanking {
        best,
        text: best.map(|best| rank::clean(texts[best], config.trim_answer)).unwrap_or_default(),
        scores,
        changed: best.is_some_and(|best| best != answer.best),
        decision_changes: answer.probability.and_then(decides),
    }
}

/// A long answer under other settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LongRanking {
    /// The chosen path.
    pub path: Vec<usize>,
    /// The last paths, best first, by their last nodes.
    pub ranked: Vec<usize>,
    /// The paths kept after each segment by their last nodes, best first: with the path, what [`super::long::Tree::fates`] asks for.
    pub beams: Vec<Vec<usize>>,
    /// The text of the chosen path.
    pub text: String,
    /// The same in pieces, with their citations.
    pub segments: Vec<Segment>,
    /// The passages that are cited.
    pub passages: Vec<Hit>,
    /// The scores of every node.
    pub scores: Vec<Scores>,
    /// The path score of every node.
    pub path_scores: Vec<f32>,
    /// Whether another path is chosen than before.
    pub changed: bool,
    /// The last nodes of paths that would be kept and gone on with, but were not written any further.
    pub unwritten: Vec<usize>,
    /// Nodes before which Retrieve would be decided otherwise.
    pub decisions: Vec<usize>,
}

/// The beam, run over a tree again.
struct Grown {
    scores: Vec<Scores>,
    path_scores: Vec<f32>,
    beams: Vec<Vec<usize>>,
    path: Vec<usize>,
    unwritten: Vec<usize>,
    decisions: Vec<usize>,
}

fn grow(answer: &LongAnswer, config: &LongConfig) -> Grown {
    let tree = &answer.tree;
    let scoring = config.scoring();
    let scores: Vec<Scores> = tree.nodes.iter().map(|node| scores(&node.candidate, &scoring)).collect();
    let path_score = |node: usize| {
        let segments: Vec<f32> = tree.path(node).iter().map(|&at| scores[at].segment.unwrap_or(0.0)).collect();
        beam::path_score(config.path_score, &segments)
    };
    let path_scores: Vec<f32> = (0..tree.nodes.len()).map(path_score).collect();
    let (mut open, mut finished, mut unwritten) = (vec![None], Vec::new(), Vec::new());
    let mut beams: Vec<Vec<usize>> = Vec::new();
    for level in 1..=config.levels() {
        let mut new: Vec<usize> = open.iter().flat_map(|&parent| tree.children(parent)).collect();
        sort_by(&mut new, usize::cmp);
        if new.is_empty() {
            break;
        }
        let ranked = beam::select(config, tree, &finished, &new, |node| path_scores[node]);
        (open, finished) = (Vec::new(), Vec::new());
        for &node in &ranked {
            let goes_on = tree.nodes[node].end == SegmentEnd::Next && level < config.levels();
            let is_written = tree.children(Some(node)).next().is_some();
            if goes_on && is_written && tree.nodes[node].depth == level {
                open.push(Some(node));
            } else {
                finished.push(node);
            }
            if goes_on && !is_written && !unwritten.contains(&node) {
                unwritten.push(node);
            }
        }
        beams.push(ranked);
    }
    let ranked = beams.last().map_or(&[][..], Vec::as_slice);
    // What was dropped from the beam later is no longer missed.
    unwritten.retain(|node| ranked.contains(node));
    let otherwise = |&at: &usize| {
        let node = &tree.nodes[at];
        node.wish.is_some_and(|wish| config.decide(node.depth, &wish).0 != node.retrieve)
    };
    let decisions = (0..tree.nodes.len()).filter(otherwise).collect();
    Grown { path: read_out_path(config, tree, ranked), scores, path_scores, beams, unwritten, decisions }
}

/// Runs the beam over a long answer's tree again. No passes of the model.
pub fn long(answer: &LongAnswer, config: &LongConfig) -> LongRanking {
    let Grown { scores, path_scores, beams, path, unwritten, decisions } = grow(answer, config);
    let (segments, passages) = segments(config, &answer.tree, &path);
    LongRanking {
        changed: path != answer.path,
        text: text_of(config, &answer.tree, &path),
        decisions,
        path,
        ranked: beams.last().cloned().unwrap_or_default(),
        beams,
        segments,
        passages,
        scores,
        path_scores,
        unwritten,
    }
}

/// What [`turning_points`] compares of a short answer: the choice, and whether it would be another decision.
pub fn short_outcome(answer: &Answer, config: &Config) -> Vec<usize> {
    let ShortRanking { best, decision_changes, .. } = short(answer, config);
    vec![best.unwrap_or(usize::MAX), usize::from(decision_changes == Some(true))]
}

/// What [`turning_points`] compares of a long answer: the path, and the nodes before which it would be another decision.
pub fn long_outcome(answer: &LongAnswer, config: &LongConfig) -> Vec<usize> {
    let Grown { mut path, decisions, .. } = grow(answer, config);
    path.push(usize::MAX);
    path.extend(decisions);
    path
}

/// The nearest values below and above the present one at which something would come out otherwise; none: not in the number's range.
/// `outcome` says in any way what comes out, and is asked for each value that a slider can have until it differs.
pub fn turning_points(
    number: &Number,
    settings: &Settings,
    outcome: &dyn Fn(&Settings) -> Vec<usize>,
) -> [Option<f32>; 2] {
    let (here, present) = ((number.get)(settings), outcome(settings));
    let value = |step: i32| number.least + step as f32 * number.step;
    let last = ((number.most - number.least) / number.step).round() as i32;
    let differs = |step: &i32| {
        let mut other = *settings;
        (number.set)(&mut other, value(*step));
        outcome(&other) != present
    };
    // Half a step: a slider's value and a computed one differ in their last digits.
    let half = number.step / 2.0;
    let below = (0..=last).rev().filter(|&step| value(step) < here - half).find(differs);
    let above = (0..=last).filter(|&step| value(step) > here + half).find(differs);
    [below.map(value), above.map(value)]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sum of two candidates' scores by hand: 1 + 0.5 w against 0.4 + w, equal at w = 1.2.
    #[test]
    fn a_turning_point_is_the_first_value_with_another_outcome() {
        let outcome = |settings: &Settings| vec![usize::from(0.4 + settings.w_sup > 1.0 + 0.5 * settings.w_sup + 1e-3)];
        let at = |w_sup| turning_points(&Number::W_SUP, &Settings { w_sup, ..Settings::default() }, &outcome);
        let close = |found: Option<f32>, expected: f32| assert!((found.unwrap() - expected).abs() < 1e-4, "{found:?}");
        let [below, above] = at(1.0);
        assert_eq!(below, None);
        close(above, 1.25);
        let [below, above] = at(1.8);
        close(below, 1.2);
        assert_eq!(above, None);
        assert_eq!(turning_points(&Number::W_REL, &Settings::default(), &outcome), [None, None], "it changes nothing");
    }
}
