//! Whether to retrieve, from the first position's log-probabilities of `[Retrieval]` and `[No Retrieval]`. Pure arithmetic.

use super::config::{Config, DecisionRule, Mode};

/// The decision with what led to it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Decision {
    /// The ratio; none where the mode decides alone.
    pub probability: Option<f32>,
    /// What it was held against; none where the most likely token decides.
    pub threshold: Option<f32>,
    /// The outcome.
    pub retrieve: bool,
}

/// Decides from the log-probabilities of `[No Retrieval]` and `[Retrieval]` (`retrieval`, the group's first two) and whether the most
/// likely token is `[Retrieval]`.
pub fn decide(config: &Config, retrieval: [f32; 3], is_most_likely: bool) -> Decision {
    let [no, yes, _] = retrieval;
    match config.mode {
        Mode::Always => Decision { probability: None, threshold: None, retrieve: true },
        Mode::Never => Decision { probability: None, threshold: None, retrieve: false },
        Mode::Adaptive => {
            let ratio = ratio(config.decision, yes, no);
            let retrieve = config.threshold.map_or(is_most_likely, |threshold| ratio > threshold);
            Decision { probability: Some(ratio), threshold: config.threshold, retrieve }
        }
    }
}

/// p(R) / (p(R) + p(NR)), or the same with log-probabilities.
pub fn ratio(rule: DecisionRule, yes: f32, no: f32) -> f32 {
    match rule {
        // Written with one exponential, which can not be 0/0.
        DecisionRule::Probability => 1.0 / (1.0 + (no - yes).exp()),
        DecisionRule::LogRatio => {
            let sum = yes + no;
            if sum == 0.0 { 0.0 } else { yes / sum }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decision(config: Config, yes: f32, no: f32) -> (f32, bool) {
        let decision = decide(&config, [no.ln(), yes.ln(), -20.0], false);
        (decision.probability.unwrap(), decision.retrieve)
    }

    /// The hand-computed goldens of the specification, appendix B.
    #[test]
    fn goldens() {
        let cases = [
            (Config::paper(), 0.3, 0.6, 0.3333, true),
            (Config::compat(), 0.3, 0.6, 0.7021, true),
            (Config::paper(), 0.98, 0.01, 0.98990, true),
            (Config::compat(), 0.98, 0.01, 0.00437, false),
        ];
        for (config, yes, no, expected, retrieve) in cases {
            let (found, retrieves) = decision(config, yes, no);
            assert!((found - expected).abs() < 1e-4, "{found} found, {expected} expected");
            assert_eq!(retrieves, retrieve);
        }
    }

    #[test]
    fn without_a_threshold_the_most_likely_token_decides() {
        let config = Config { threshold: None, ..Config::paper() };
        for most_likely in [false, true] {
            assert_eq!(decide(&config, [-1.0, -2.0, -3.0], most_likely).retrieve, most_likely);
        }
    }

    #[test]
    fn modes_decide_alone_and_extremes_are_numbers() {
        assert!(decide(&Config { mode: Mode::Always, ..Config::paper() }, [0.0, -1e4, -1e4], false).retrieve);
        assert!(!decide(&Config { mode: Mode::Never, ..Config::paper() }, [-1e4, 0.0, -1e4], true).retrieve);
        for (yes, no) in [(0.0, 0.0), (0.0, -1e4), (-1e4, 0.0), (-1e4, -1e4)] {
            for rule in [DecisionRule::Probability, DecisionRule::LogRatio] {
                assert!((0.0..=1.0).contains(&ratio(rule, yes, no)), "{rule:?} {yes} {no}");
            }
        }
    }
}
