//! Whether the model found its passages relevant: what a reader should know before trusting a citation. Pure; a notice only.
//!
//! Ranking sums several scores (paper, eq. 3 and 4), so a candidate whose own passage was judged `[Irrelevant]` can be the best
//! one, above all when every passage was. The paper quotes it all the same, and so does this loop; it says so beside the answer.

use serde::{Deserialize, Serialize};

use super::{Answer, Candidate};

/// Which passages of an answer the model judged relevant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Relevance {
    /// The cited one, perhaps among others.
    Cited,
    /// Others, but not the cited one.
    Others,
    /// None of them.
    NoPassage,
}

impl Answer {
    /// Which of its passages were judged relevant; nothing is known without a passage, or where the critique lacks ISREL.
    pub fn relevance(&self) -> Option<Relevance> {
        if is_relevant(self.candidates.get(self.best)?)? {
            return Some(Relevance::Cited);
        }
        // What was not judged may be relevant, but nobody said so.
        let others = self.candidates.iter().any(|candidate| is_relevant(candidate) == Some(true));
        Some(if others { Relevance::Others } else { Relevance::NoPassage })
    }
}

/// Whether a candidate's passage was judged relevant: `[Irrelevant]` was not the likelier of the two tokens, which is the same as
/// ISREL = p(Rel) / (p(Rel) + p(Irr)) ≥ 0.5. A comparison of two probabilities, so no setting.
fn is_relevant(candidate: &Candidate) -> Option<bool> {
    candidate.hit.as_ref()?;
    candidate.scores.is_rel.map(|is_rel| is_rel >= 0.5)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        critique::{Evidence, Scores, is_rel},
        retriever::{Hit, Passage},
    };

    /// An answer whose candidates have these ISREL, each for a passage.
    fn answer(best: usize, is_rel: &[Option<f32>]) -> Answer {
        let candidate = |&is_rel: &Option<f32>| Candidate {
            hit: Some(Hit {
                passage: Passage { id: "7".into(), title: String::new(), text: String::new() },
                score: None,
            }),
            text: String::new(),
            tokens: Vec::new(),
            scores: Scores { is_rel, segment: Some(1.0), ..Scores::default() },
            evidence: Evidence::default(),
            truncated: false,
        };
        Answer {
            question: "Q?".into(),
            text: String::new(),
            probability: None,
            retrieved: true,
            candidates: is_rel.iter().map(candidate).collect(),
            best,
        }
    }

    #[test]
    fn judged_by_the_likelier_token() {
        let cases = [
            ("the demo's misleading case", 0, &[Some(0.01), Some(0.0)][..], Some(Relevance::NoPassage)),
            ("one passage", 0, &[Some(0.4)], Some(Relevance::NoPassage)),
            ("the cited one is relevant", 1, &[Some(0.01), Some(0.9)], Some(Relevance::Cited)),
            ("another one is", 0, &[Some(0.3), Some(0.9), Some(0.1)], Some(Relevance::Others)),
            ("equally likely is not irrelevant", 0, &[Some(0.5), Some(0.1)], Some(Relevance::Cited)),
            ("one was not judged", 0, &[Some(0.1), None], Some(Relevance::NoPassage)),
            ("the cited one was not judged", 0, &[None, Some(0.9)], None),
            ("no such candidate", 3, &[Some(0.9)], None),
        ];
        for (name, best, is_rel, expected) in cases {
            assert_eq!(answer(best, is_rel).relevance(), expected, "{name}");
        }
    }

    /// p(Irr), p(Rel) by hand: 0.03 / (0.03 + 0.02) = 0.6 and 0.02 / 0.05 = 0.4, however small both are.
    #[test]
    fn the_boundary_is_where_the_tokens_are_equally_likely() {
        for scale in [1.0_f32, 1e-6] {
            let score =
                |irrelevant: f32, relevant: f32| Some(is_rel([(irrelevant * scale).ln(), (relevant * scale).ln()]));
            assert_eq!(answer(0, &[score(0.02, 0.03)]).relevance(), Some(Relevance::Cited));
            assert_eq!(answer(0, &[score(0.03, 0.02)]).relevance(), Some(Relevance::NoPassage));
            assert_eq!(answer(0, &[score(0.02, 0.02)]).relevance(), Some(Relevance::Cited));
        }
    }

    #[test]
    fn without_a_passage_there_is_nothing_to_judge() {
        let mut plain = answer(0, &[None]);
        plain.candidates[0].hit = None;
        assert_eq!(plain.relevance(), None);
        plain.candidates[0].scores.is_rel = Some(0.1);
        assert_eq!(plain.relevance(), None, "a score without a passage is about nothing");
    }
}
