//! What was written, weighed anew: other weights, another threshold, without generating again. Pure.
//!
//! Candidates keep what their scores were computed from ([`crate::critique::Evidence`]), so a slider can move w_rel, w_sup, w_use and
//! the switches freely. What new settings would have *written* is another matter: a decision that would fall otherwise, or a path
//! that would have gone on but was dropped, is reported, not guessed.

use serde::{Deserialize, Serialize};

use super::{
    Answer, Config, LongAnswer, LongConfig,
    long::{Segment, SegmentEnd, beam, read_out_path, segments, text_of},
    rank,
};
use crate::{critique::Scores, retriever::Hit};

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
    let scores: Vec<Scores> = answer.candidates.iter().map(|candidate| candidate.evidence.scores(config)).collect();
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

/// Runs the beam over a long answer's tree again. No passes of the model.
pub fn long(answer: &LongAnswer, config: &LongConfig) -> LongRanking {
    let tree = &answer.tree;
    let scoring = config.scoring();
    let scores: Vec<Scores> = tree.nodes.iter().map(|node| node.candidate.evidence.scores(&scoring)).collect();
    let path_scores: Vec<f32> = (0..tree.nodes.len()).map(|node| beam::rescored(config, tree, node)).collect();
    let (mut open, mut finished, mut ranked, mut unwritten) = (vec![None], Vec::new(), Vec::new(), Vec::new());
    for level in 1..=config.levels() {
        let mut new: Vec<usize> = open.iter().flat_map(|&parent| tree.children(parent)).collect();
        new.sort_unstable();
        if new.is_empty() {
            break;
        }
        ranked = beam::select(config, tree, &finished, &new, |node| path_scores[node]);
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
    }
    // What was dropped from the beam later is no longer missed.
    unwritten.retain(|node| ranked.contains(node));
    let path = read_out_path(config, tree, &ranked);
    let (segments, passages) = segments(config, tree, &path);
    let otherwise = |&at: &usize| {
        let node = &tree.nodes[at];
        node.wish.is_some_and(|wish| wish.decide(&config.base, config.continue_evidence).0 != node.retrieve)
    };
    LongRanking {
        changed: path != answer.path,
        text: text_of(config, tree, &path),
        decisions: (0..tree.nodes.len()).filter(otherwise).collect(),
        path,
        ranked,
        segments,
        passages,
        scores,
        path_scores,
        unwritten,
    }
}
