//! Reflection-token log-probabilities → ISREL, ISSUP, ISUSE → segment score. Pure arithmetic.
//!
//! With p the next-token probabilities at the position where a token of the group is written (paper, eq. 4 and appendix A.3):
//!
//! ```text
//! is_rel  = p(Rel) / (p(Rel) + p(Irr))                              in  0..=1
//! is_sup  = (p(Full) + 0.5 p(Part)) / (p(Full) + p(Part) + p(No))   in  0..=1
//! is_use  = Σ a_i p(U_i) / Σ p(U_i),  a = -1, -0.5, 0, 0.5, 1       in -1..=1
//! segment = e^mean(logprob) + w_rel is_rel + w_sup is_sup + w_use is_use
//! ```
//!
//! Each is a weighted mean over one group, so one function computes all three from a table of weights. The paper's p(y|x,d) is
//! taken as the geometric mean of the tokens' probabilities, as the released code does; a product would favour short answers.

use serde::{Deserialize, Serialize};

use crate::{self_rag::Config, tokenizer::reflection::N_WATCHED};

/// Weights of `[Irrelevant]` and `[Relevant]`.
const RELEVANCE_WEIGHTS: [f32; 2] = [0.0, 1.0];
/// Weights of fully, partially and no support.
const SUPPORT_WEIGHTS: [f32; 3] = [1.0, 0.5, 0.0];
/// Weights of the utility grades 1 to 5.
const UTILITY_WEIGHTS: [f32; 5] = [-1.0, -0.5, 0.0, 0.5, 1.0];
/// Stands for the log-probability of the impossible: far below any real one, and finite.
const IMPOSSIBLE: f32 = -1e4;

/// A candidate's critique; `None` until the model has written the token it is read from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// ISREL in 0..=1: p(Relevant) normalised over its group.
    pub is_rel: Option<f32>,
    /// ISSUP in 0..=1: p(Fully) + 0.5 p(Partially), normalised over its group.
    pub is_sup: Option<f32>,
    /// ISUSE in -1..=1: expected value of the utility grades.
    pub is_use: Option<f32>,
    /// Sequence score in 0..=1: geometric mean of the tokens' probabilities.
    pub sequence: Option<f32>,
    /// The weighted sum that ranks candidates.
    pub segment: Option<f32>,
}

/// The log-probabilities of the reflection tokens at one position, by group.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GroupLogprobs {
    /// `[No Retrieval]`, `[Retrieval]`, `[Continue to Use Evidence]`.
    pub retrieval: [f32; 3],
    /// `[Irrelevant]`, `[Relevant]`.
    pub relevance: [f32; 2],
    /// Grades 1 to 5.
    pub utility: [f32; 5],
    /// Fully, partially, no support.
    pub support: [f32; 3],
}

impl GroupLogprobs {
    /// From a step's watched log-probabilities, in the order of [`crate::tokenizer::ReflectionTokens::watched`].
    pub fn read(watched: &[f32]) -> Self {
        assert_eq!(watched.len(), N_WATCHED, "one log-probability for each watched reflection token");
        let part = |at: usize| if watched[at].is_nan() { IMPOSSIBLE } else { watched[at].clamp(IMPOSSIBLE, 0.0) };
        Self {
            retrieval: std::array::from_fn(part),
            relevance: std::array::from_fn(|i| part(3 + i)),
            utility: std::array::from_fn(|i| part(5 + i)),
            support: std::array::from_fn(|i| part(10 + i)),
        }
    }
}

/// What a candidate's critique is computed from; kept with the answer, so that it can be weighted anew without generating.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// `[Irrelevant]`, `[Relevant]` at the first position.
    pub relevance: Option<[f32; 2]>,
    /// Fully, partially, no support where the first of them was written.
    pub support: Option<[f32; 3]>,
    /// Grades 1 to 5 where the first of them was written.
    pub utility: Option<[f32; 5]>,
    /// Sum of the log-probabilities of all tokens, reflection tokens and the end included.
    pub sum_logprob: f32,
    /// How many tokens.
    pub n_tokens: usize,
}

impl Evidence {
    /// Counts a token.
    pub fn add_token(&mut self, logprob: f32) {
        self.sum_logprob += if logprob.is_nan() { IMPOSSIBLE } else { logprob.clamp(IMPOSSIBLE, 0.0) };
        self.n_tokens += 1;
    }

    /// The critique so far; the segment score counts what is unknown as 0.
    pub fn scores(&self, config: &Config) -> Scores {
        let is_rel = self.relevance.map(is_rel);
        let is_sup = self.support.map(is_sup);
        let is_use = self.utility.map(is_use);
        // Nothing written has no probability yet: the mean of no tokens would count as certain.
        let sequence = (self.n_tokens > 0).then(|| (self.sum_logprob / self.n_tokens as f32).exp());
        let terms = [
            (config.use_seqscore, 1.0, sequence),
            (true, config.w_rel, is_rel),
            (config.use_groundness, config.w_sup, is_sup),
            (config.use_utility, config.w_use, is_use),
        ];
        let used = terms.into_iter().filter(|(used, _, _)| *used);
        let segment = used.map(|(_, weight, value)| weight * value.unwrap_or(0.0)).sum();
        Scores { is_rel, is_sup, is_use, sequence, segment: Some(segment) }
    }
}

/// ISREL from the log-probabilities of `[Irrelevant]`, `[Relevant]`.
pub fn is_rel(logprobs: [f32; 2]) -> f32 {
    expected(logprobs, RELEVANCE_WEIGHTS)
}

/// ISSUP from the log-probabilities of fully, partially and no support.
pub fn is_sup(logprobs: [f32; 3]) -> f32 {
    expected(logprobs, SUPPORT_WEIGHTS)
}

/// ISUSE from the log-probabilities of the grades 1 to 5.
pub fn is_use(logprobs: [f32; 5]) -> f32 {
    expected(logprobs, UTILITY_WEIGHTS)
}

/// The mean of `weights` under the group's probabilities. The largest is taken out first: a group whose tokens are all unlikely
/// (e^-90 is 0 in f32) still has a mean, and the sum is never 0.
fn expected<const N: usize>(logprobs: [f32; N], weights: [f32; N]) -> f32 {
    let logprobs = logprobs.map(|l| if l.is_nan() { IMPOSSIBLE } else { l.max(IMPOSSIBLE) });
    let max = logprobs.into_iter().fold(f32::MIN, f32::max);
    let probs = logprobs.map(|logprob| (logprob - max).exp());
    let sum: f32 = probs.iter().sum();
    probs.iter().zip(weights).map(|(prob, weight)| prob * weight).sum::<f32>() / sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: f32, expected: f32) {
        assert!((found - expected).abs() < 1e-5, "{found} found, {expected} expected");
    }

    /// The hand-computed goldens of the specification, appendix B.
    #[test]
    fn goldens() {
        close(is_rel([-5.0, -5.0 + 3_f32.ln()]), 0.75);
        for scale in [1.0, 1e-3, 1e-30] {
            close(is_sup([0.6_f32, 0.3, 0.1].map(|p| (p * scale).ln())), 0.75);
            close(is_use([0.0_f32, 0.0, 0.0, 0.5, 0.5].map(|p| (p * scale).ln())), 0.75);
        }
        let mut evidence = Evidence {
            relevance: Some([0.0, 3_f32.ln()]),
            support: Some([0.6_f32, 0.3, 0.1].map(f32::ln)),
            utility: Some([IMPOSSIBLE, IMPOSSIBLE, IMPOSSIBLE, 0.5_f32.ln(), 0.5_f32.ln()]),
            ..Evidence::default()
        };
        (0..4).for_each(|_| evidence.add_token(-std::f32::consts::LN_2));
        let scores = evidence.scores(&Config::paper());
        close(scores.sequence.unwrap(), 0.5);
        assert!((scores.segment.unwrap() - 2.375).abs() < 1e-4, "{scores:?}");
        let compat = evidence.scores(&Config::compat()).segment.unwrap();
        assert!((compat - 2.75).abs() < 1e-4, "{compat}");
    }

    #[test]
    fn each_switch_takes_its_term_out() {
        let evidence = Evidence {
            relevance: Some([IMPOSSIBLE, 0.0]),
            support: Some([0.0, IMPOSSIBLE, IMPOSSIBLE]),
            utility: Some([0.0, IMPOSSIBLE, IMPOSSIBLE, IMPOSSIBLE, IMPOSSIBLE]),
            sum_logprob: 0.0,
            n_tokens: 3,
        };
        let segment = |config: Config| evidence.scores(&config).segment.unwrap();
        close(segment(Config::paper()), 1.0 + 1.0 + 1.0 - 0.5);
        close(segment(Config { use_seqscore: false, ..Config::paper() }), 1.5);
        close(segment(Config { use_groundness: false, ..Config::paper() }), 1.5);
        close(segment(Config { use_utility: false, ..Config::paper() }), 3.0);
    }

    #[test]
    fn no_input_gives_nan() {
        for bad in [f32::NAN, f32::NEG_INFINITY, f32::INFINITY, -1e38, 0.0] {
            assert!((0.0..=1.0).contains(&is_rel(GroupLogprobs::read(&[bad; N_WATCHED]).relevance)));
            assert!((-1.0..=1.0).contains(&is_use(GroupLogprobs::read(&[bad; N_WATCHED]).utility)));
            let mut evidence = Evidence::default();
            evidence.add_token(bad);
            assert!(evidence.scores(&Config::paper()).segment.unwrap().is_finite());
        }
    }
}
