//! Every number that changes an answer, with its source.
//!
//! [`Config::paper`] is what arXiv 2310.11511 describes; [`Config::compat`] is what the released code does, its slips included, for
//! comparing with published runs. Three more of the code's peculiarities need no switch in the short form: it drops reflection
//! tokens from the text it returns (so does this loop, which works on ids), its strip list lacks `[Continue to Use Evidence]` (inert
//! for the same reason), and it crashes on one passage or none.

use serde::{Deserialize, Serialize};

use crate::{Error, Result, generator::sampler::Sampling, tokenizer::SegmentPrefix};

/// When to retrieve.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// When the model asks for it.
    #[default]
    Adaptive,
    /// For every question.
    Always,
    /// For none.
    Never,
}

/// How the wish to retrieve is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecisionRule {
    /// p(R) / (p(R) + p(NR)) (paper, appendix A.3).
    Probability,
    /// The same with log-probabilities, which turns the order around (released code: an `exp` is missing).
    LogRatio,
}

/// How the answer is picked from the candidates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// The candidate with the highest segment score.
    Open,
    /// The text with the highest sum of segment scores (multiple choice, true or false).
    Closed {
        /// Whether `True` and `true` are one text (PubHealth).
        ignore_case: bool,
    },
}

/// Everything that changes an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// When to retrieve.
    pub mode: Mode,
    /// Retrieve when the ratio is above this, δ in the paper (0.2 in its experiments); none: when the most likely token is
    /// `[Retrieval]`. With [`DecisionRule::LogRatio`] it must be given: the released code reads an undefined variable.
    pub threshold: Option<f32>,
    /// How the ratio is computed.
    pub decision: DecisionRule,
    /// Weight of ISREL (paper: 1).
    pub w_rel: f32,
    /// Weight of ISSUP (paper: 1).
    pub w_sup: f32,
    /// Weight of ISUSE (paper: 0.5; the released command line's default is 1 and hides the function's 0.5).
    pub w_use: f32,
    /// Whether the sequence score counts (`--use_seqscore` in all published commands).
    pub use_seqscore: bool,
    /// Whether ISSUP counts (`--use_groundness` in all published commands).
    pub use_groundness: bool,
    /// Whether ISUSE counts (`--use_utility` in all published commands).
    pub use_utility: bool,
    /// Tokens a candidate may have (100 for PopQA and TriviaQA, 50 for closed tasks).
    pub max_new_tokens: usize,
    /// How a candidate's tokens are picked: greedily (paper, §4.3; released code, `SamplingParams(temperature=0.0, top_p=1.0)`). The decision
    /// to retrieve is never sampled, and every log-probability stays the model's own.
    pub sampling: Sampling,
    /// Passages a question gets (5; 10 for PopQA and TriviaQA).
    pub n_docs: usize,
    /// Space after a special token: none as in training, every as in vLLM's published runs.
    pub segment_prefix: SegmentPrefix,
    /// End a candidate where the model asks for another passage, before it invents one. The released code goes on.
    pub stop_at_retrieval: bool,
    /// How the answer is picked.
    pub task: Task,
    /// Trim the answer's white space. The released code returns open answers and compares closed ones as they are.
    pub trim_answer: bool,
}

impl Config {
    /// As the paper describes.
    pub const fn paper() -> Self {
        Self {
            mode: Mode::Adaptive,
            threshold: Some(0.2),
            decision: DecisionRule::Probability,
            w_rel: 1.0,
            w_sup: 1.0,
            w_use: 0.5,
            use_seqscore: true,
            use_groundness: true,
            use_utility: true,
            max_new_tokens: 100,
            sampling: Sampling::GREEDY,
            n_docs: 5,
            segment_prefix: SegmentPrefix::None,
            stop_at_retrieval: true,
            task: Task::Open,
            trim_answer: true,
        }
    }

    /// As the released code behaves under its published command lines.
    pub const fn compat() -> Self {
        Self {
            decision: DecisionRule::LogRatio,
            w_use: 1.0,
            segment_prefix: SegmentPrefix::Every,
            stop_at_retrieval: false,
            trim_answer: false,
            ..Self::paper()
        }
    }

    /// Refuses settings that make no sense.
    pub fn check(&self) -> Result<()> {
        self.sampling.check()?;
        if self.threshold.is_some_and(|threshold| !threshold.is_finite()) {
            return Err(Error::config("threshold", "a number expected"));
        }
        if self.threshold.is_none() && self.decision == DecisionRule::LogRatio && self.mode == Mode::Adaptive {
            return Err(Error::config("threshold", "the released code needs one: it has no rule without"));
        }
        for (name, weight) in [("w_rel", self.w_rel), ("w_sup", self.w_sup), ("w_use", self.w_use)] {
            if !weight.is_finite() || weight.abs() > 1e6 {
                return Err(Error::config(name, format!("{weight} found, a number up to 1e6 expected")));
            }
        }
        for (name, count) in [("max_new_tokens", self.max_new_tokens), ("n_docs", self.n_docs)] {
            if count == 0 {
                return Err(Error::config(name, "at least 1 expected"));
            }
        }
        Ok(())
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::paper()
    }
}
