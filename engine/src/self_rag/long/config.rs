//! Every number and switch that changes a long answer, with its source.
//!
//! [`LongConfig::paper`] is Algorithm 1 of arXiv 2310.11511; [`LongConfig::compat`] is the tree that the released code really grows
//! (`run_long_form_static.py`), one switch for each thing it does otherwise, so that any of them can be turned alone. Where the
//! released code crashes, nothing is reproduced: `no_retrieval` mode, a depth that allows no segment, utility without groundness.

use serde::{Deserialize, Serialize};

use super::tree::{Retrieve, Wish};
use crate::{
    Error, Result,
    self_rag::{Config, DecisionRule},
    tokenizer::SegmentPrefix,
};

/// How the scores of a path's segments become the path's score.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PathScore {
    /// Their sum: the paper leaves it open, and a sum is what a beam search over log-probabilities has. Favours long answers.
    Sum,
    /// Their product (released code). A score of 0 or less, which utility can bring about, turns the order around.
    Product,
    /// Their mean: answers of different length compare as equals.
    Mean,
}

/// Critique tokens that exclude a candidate (paper, §3.3, hard constraints).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HardControl {
    /// Its passage was judged `[Irrelevant]`.
    pub irrelevant: bool,
    /// It says `[No support / Contradictory]` (the released code's `--ignore_cont`).
    pub no_support: bool,
    /// It says `[Partially supported]`.
    pub partial_support: bool,
}

impl HardControl {
    /// Whether anything is excluded.
    pub fn is_on(&self) -> bool {
        *self != Self::default()
    }
}

/// Everything that changes a long answer. The shared part means what it means in the short form, `max_new_tokens` for each segment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LongConfig {
    /// Decision, weights, passages, tokens of a segment.
    pub base: Config,
    /// Paths kept after each segment, B in the paper (2).
    pub beam_width: usize,
    /// Segments that a path may have, T in the paper (6; the published commands' 7 counts the question as one).
    pub max_depth: usize,
    /// Tokens that a path may have, all segments together.
    pub max_total_tokens: usize,
    /// Critique tokens that exclude a candidate; none in the paper's experiments (soft control).
    pub hard: HardControl,
    /// How segment scores add up. Released code: product.
    pub path_score: PathScore,
    /// End a segment where the model asks `[Retrieval]`, `[No Retrieval]` or `[Continue to Use Evidence]`, or opens a passage of its
    /// own. The released code lets it write on to the token limit, invented passages included.
    pub stop_at_segment: bool,
    /// Take `[Continue to Use Evidence]` for an answer to Retrieve: the next segment keeps the passage. The released code does not
    /// know it.
    pub continue_evidence: bool,
    /// Search again for each segment with the question and the segment before (paper, Algorithm 1). The released code offers the
    /// question's passages at every step.
    pub retrieve_again: bool,
    /// Keep the chosen passages in what the model reads, as in its training data. The released code keeps the written text only.
    pub keep_passages: bool,
    /// Let finished paths compete with longer ones. The released code reads the deepest level alone, and loses them.
    pub keep_finished: bool,
    /// Whether reflection tokens are part of the text that the tree is steered by (only read where segments are not stopped at). The
    /// released code steers by text, and vLLM leaves them out of it: no candidate ever asks for another passage, and every answer has
    /// one segment. On is what its authors must have meant.
    pub special_tokens_in_text: bool,
    /// Decide by a probe of 25 tokens: retrieve only if `[Retrieval]` is in its text, and then if the ratio is above δ (released
    /// code). Without reflection tokens in the text it never retrieves.
    pub probe_decision: bool,
    /// Turn each `[No Retrieval]` into `[Retrieval]` where (p(R) + p(Continue)) / (p(R) + p(NR)) is above δ, and append one
    /// `[No Retrieval]` too many (released code, where reflection tokens are in the text).
    pub rewrite_no_retrieval: bool,
    /// Weigh 1, 1 and 0.5 whatever `w_rel`, `w_sup` and `w_use` say: the released code parses those and uses constants.
    pub fixed_weights: bool,
    /// Count ISUSE as 0: the released code looks for five grades in a table that it filled with three.
    pub ignore_utility: bool,
    /// Count the sequence score as 0: the released code does not hand `--use_seqscore` on.
    pub ignore_seqscore: bool,
    /// A candidate's next step continues the sibling before it instead of their parent: the released code overwrites the parent's
    /// text in its loop. Needs `keep_passages` off.
    pub contaminate_siblings: bool,
    /// Whether `max_depth` counts the question as a level (released code: 7 allows 6 segments).
    pub depth_counts_root: bool,
    /// Number citations by the segment's place in the path, also where a repeated segment was left out and the passages have fewer
    /// (released code), instead of by the passage's place in the list.
    pub enumerate_citations: bool,
    /// Put a space after every `.`, `!` or `?` between word characters (released code; breaks 3.5 and U.S.).
    pub fix_spacing: bool,
    /// Leave `[Continue to Use Evidence]` out of the list of tokens that are taken out of the answer (released code).
    pub keep_continue_text: bool,
    /// What a user decided in the model's place, first segment first: retrieve or not, for every path there; none, or nothing there: the
    /// model decides. Neither paper nor released code has it. Not written where empty, so that older journals stay the same.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub forced: Vec<Option<bool>>,
}

/// Tokens of the released code's probe.
pub const PROBE_TOKENS: usize = 25;

impl LongConfig {
    /// Algorithm 1.
    pub const fn paper() -> Self {
        Self {
            base: Config { max_new_tokens: 200, ..Config::paper() },
            beam_width: 2,
            max_depth: 6,
            max_total_tokens: 1000,
            hard: HardControl { irrelevant: false, no_support: false, partial_support: false },
            path_score: PathScore::Sum,
            stop_at_segment: true,
            continue_evidence: true,
            retrieve_again: true,
            keep_passages: true,
            keep_finished: true,
            special_tokens_in_text: true,
            probe_decision: false,
            rewrite_no_retrieval: false,
            fixed_weights: false,
            ignore_utility: false,
            ignore_seqscore: false,
            contaminate_siblings: false,
            depth_counts_root: false,
            enumerate_citations: false,
            fix_spacing: false,
            keep_continue_text: false,
            forced: Vec::new(),
        }
    }

    /// The released code under its published command lines. The decision has its `exp` here, unlike in the short form.
    pub const fn compat() -> Self {
        Self {
            base: Config {
                decision: DecisionRule::Probability,
                w_use: 0.5,
                max_new_tokens: 300,
                segment_prefix: SegmentPrefix::Every,
                ..Config::compat()
            },
            beam_width: 2,
            max_depth: 7,
            // 6 segments of 300: the released code has no limit beside these.
            max_total_tokens: 1800,
            hard: HardControl { irrelevant: false, no_support: false, partial_support: false },
            path_score: PathScore::Product,
            stop_at_segment: false,
            continue_evidence: false,
            retrieve_again: false,
            keep_passages: false,
            keep_finished: false,
            special_tokens_in_text: false,
            probe_decision: true,
            rewrite_no_retrieval: true,
            fixed_weights: true,
            ignore_utility: true,
            ignore_seqscore: true,
            contaminate_siblings: true,
            depth_counts_root: true,
            enumerate_citations: true,
            fix_spacing: true,
            keep_continue_text: true,
            forced: Vec::new(),
        }
    }

    /// Segments that a path may have.
    pub fn levels(&self) -> usize {
        self.max_depth - usize::from(self.depth_counts_root)
    }

    /// What comes before segment `depth`, counted from 1, and the ratio that decided; none where the mode or the user did.
    pub fn decide(&self, depth: usize, wish: &Wish) -> (Retrieve, Option<f32>) {
        match self.forced.get(depth - 1).copied().flatten() {
            Some(true) => (Retrieve::Yes, None),
            Some(false) => (Retrieve::No, None),
            None => wish.decide(&self.base, self.continue_evidence),
        }
    }

    /// The weights and terms that really count.
    pub fn scoring(&self) -> Config {
        let mut config = self.base.clone();
        if self.fixed_weights {
            (config.w_rel, config.w_sup, config.w_use) = (1.0, 1.0, 0.5);
        }
        config.use_utility &= !self.ignore_utility;
        config.use_seqscore &= !self.ignore_seqscore;
        config
    }

    /// Refuses settings that make no sense.
    pub fn check(&self) -> Result<()> {
        self.base.check()?;
        for (name, count) in [("beam_width", self.beam_width), ("max_total_tokens", self.max_total_tokens)] {
            if count == 0 {
                return Err(Error::config(name, "at least 1 expected"));
            }
        }
        let least = 1 + usize::from(self.depth_counts_root);
        if self.max_depth < least {
            return Err(Error::config("max_depth", format!("{} found, at least {least} expected", self.max_depth)));
        }
        if self.contaminate_siblings && self.keep_passages {
            return Err(Error::config("contaminate_siblings", "needs keep_passages off: only text can be mixed up"));
        }
        Ok(())
    }
}

impl Default for LongConfig {
    fn default() -> Self {
        Self::paper()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_are_sound_and_depths_agree() {
        for config in [LongConfig::paper(), LongConfig::compat()] {
            config.check().unwrap();
            assert_eq!(config.levels(), 6);
            let json = serde_json::to_string(&config).unwrap();
            assert_eq!(serde_json::from_str::<LongConfig>(&json).unwrap(), config);
        }
    }

    #[test]
    fn compat_scores_by_constants() {
        let base = Config { w_rel: 7.0, w_sup: 7.0, w_use: 7.0, ..Config::compat() };
        let scoring = LongConfig { base: base.clone(), ..LongConfig::compat() }.scoring();
        assert_eq!((scoring.w_rel, scoring.w_sup, scoring.w_use), (1.0, 1.0, 0.5));
        assert!(!scoring.use_utility && !scoring.use_seqscore && scoring.use_groundness);
        let scoring = LongConfig { base, ..LongConfig::paper() }.scoring();
        assert_eq!((scoring.w_rel, scoring.use_utility, scoring.use_seqscore), (7.0, true, true));
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        let paper = LongConfig::paper;
        for (config, name) in [
            (LongConfig { beam_width: 0, ..paper() }, "beam_width"),
            (LongConfig { max_depth: 0, ..paper() }, "max_depth"),
            (LongConfig { max_depth: 1, depth_counts_root: true, ..paper() }, "max_depth"),
            (LongConfig { max_total_tokens: 0, ..paper() }, "max_total_tokens"),
            (LongConfig { contaminate_siblings: true, ..paper() }, "contaminate_siblings"),
            (LongConfig { base: Config { n_docs: 0, ..Config::paper() }, ..paper() }, "n_docs"),
        ] {
            let error = config.check().unwrap_err();
            assert!(matches!(&error, Error::Config { name: found, .. } if found == name), "{error}");
        }
    }
}
