//! Which token comes next when it is not simply the most likely: temperature, then top-p, then a seeded draw. Pure.
//!
//! ```text
//! logits → p_i = softmax(logit_i / temperature) → the smallest set of the most likely whose p reach top_p → draw by p
//! ```
//!
//! Top-p is nucleus sampling (Holtzman et al., arXiv 1904.09751); the order, temperature first, is that of transformers and vLLM. The
//! default is greedy, as in the paper and the released code. Whatever is drawn, its log-probability is the model's own, at temperature 1
//! over the whole vocabulary: the sequence score and the critique judge what the model thinks of a text, not how it was picked.
//!
//! Cost: a step's logits are read back, rows × vocabulary × 4 bytes, and each row is gone through a few times on the CPU. Greedy decoding
//! reads 64 bytes a row and never comes here.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::SeqId;
use crate::{Error, Result, error::GpuError, ops::self_test::Random};

/// How the next token is picked.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sampling {
    /// Divides the logits: 0 is greedy, 1 the model's own distribution, more is bolder.
    pub temperature: f32,
    /// Only the most likely tokens that together have this probability may be drawn; 1: all.
    pub top_p: f32,
    /// The same seed gives the same draws for the same batch.
    pub seed: u64,
}

impl Sampling {
    /// The most likely token, always.
    pub const GREEDY: Self = Self { temperature: 0.0, top_p: 1.0, seed: 0 };

    /// Whether nothing is drawn.
    pub fn is_greedy(&self) -> bool {
        self.temperature == 0.0
    }

    /// Refuses settings that make no sense.
    pub fn check(&self) -> Result<()> {
        let Self { temperature, top_p, .. } = *self;
        if !(temperature.is_finite() && temperature >= 0.0) {
            return Err(Error::config("temperature", format!("{temperature} found, a number of 0 or more expected")));
        }
        if !(top_p > 0.0 && top_p <= 1.0) {
            return Err(Error::config("top_p", format!("{top_p} found, more than 0 and at most 1 expected")));
        }
        Ok(())
    }
}

impl Default for Sampling {
    fn default() -> Self {
        Self::GREEDY
    }
}

/// A token that was drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Drawn {
    /// Its id.
    pub token: u32,
    /// Its log-probability at temperature 1 over the whole vocabulary.
    pub logprob: f32,
}

/// Draws tokens. Each sequence has random numbers of its own, so that one's end does not change what another draws.
#[derive(Debug)]
pub struct Sampler {
    sampling: Sampling,
    /// Seeds the sequences' sources, in the order in which sequences first draw.
    seeds: Random,
    sources: BTreeMap<SeqId, Random>,
    /// Scratch: tokens that may be drawn, with their weights.
    nucleus: Vec<(u32, f64)>,
}

impl Sampler {
    /// A sampler at the beginning of its seed's draws; an error if the settings make no sense.
    pub fn new(sampling: Sampling) -> Result<Self> {
        sampling.check()?;
        Ok(Self { sampling, seeds: Random::new(sampling.seed), sources: BTreeMap::new(), nucleus: Vec::new() })
    }

    /// The next token of a sequence, from a row of logits over the whole vocabulary.
    pub fn draw(&mut self, seq: SeqId, logits: &[f32]) -> Result<Drawn> {
        let highest = highest(logits)?;
        let under_highest = |logit: f32| f64::from(logit) - f64::from(logits[highest]);
        let sum: f64 = logits.iter().map(|logit| under_highest(*logit).exp()).sum();
        let token = if self.sampling.is_greedy() { highest } else { self.pick(seq, logits, highest) };
        let logprob = (under_highest(logits[token]) - sum.ln()) as f32;
        Ok(Drawn { token: token as u32, logprob })
    }

    /// Forgets a sequence that was freed.
    pub fn forget(&mut self, seq: SeqId) {
        self.sources.remove(&seq);
    }

    fn pick(&mut self, seq: SeqId, logits: &[f32], highest: usize) -> usize {
        let total = self.fill_nucleus(logits, highest);
        let source = self.sources.entry(seq).or_insert_with(|| Random::new(self.seeds.bits()));
        let mut left = unit(source) * total;
        for &(token, weight) in &self.nucleus {
            left -= weight;
            if left < 0.0 {
                return token as usize;
            }
        }
        // Rounding can leave a crumb after the last.
        highest
    }

    /// Keeps the tokens that may be drawn and returns the sum of their weights. A weight is p over the most likely token's p.
    fn fill_nucleus(&mut self, logits: &[f32], highest: usize) -> f64 {
        let temperature = f64::from(self.sampling.temperature);
        let weight = |logit: &f32| ((f64::from(*logit) - f64::from(logits[highest])) / temperature).exp();
        self.nucleus.clear();
        self.nucleus.extend((0u32..).zip(logits.iter().map(weight)));
        let total: f64 = self.nucleus.iter().map(|(_, weight)| weight).sum();
        if self.sampling.top_p == 1.0 {
            return total;
        }
        let wanted = f64::from(self.sampling.top_p) * total;
        // All tokens below this together weigh less than what may be left out, so none of them is needed: few remain to be sorted.
        let least = (total - wanted) / logits.len() as f64;
        self.nucleus.retain(|(_, weight)| *weight >= least);
        // Stable: of equals the first id comes first.
        self.nucleus.sort_by(|a, b| b.1.total_cmp(&a.1));
        let mut reached = 0.0;
        let enough = self.nucleus.iter().position(|(_, weight)| {
            reached += weight;
            reached >= wanted
        });
        self.nucleus.truncate(enough.map_or(usize::MAX, |last| last + 1));
        reached
    }
}

/// The first of the highest logits. Logits that are not numbers come from a GPU that computes wrongly or from spoilt weights.
fn highest(logits: &[f32]) -> Result<usize> {
    assert!(!logits.is_empty(), "a vocabulary has tokens");
    if let Some(token) = logits.iter().position(|logit| !logit.is_finite()) {
        let detail = format!("the logit of token {token} is {}, a finite number expected", logits[token]);
        return Err(GpuError::SelfTest { kernel: "llama".into(), detail }.into());
    }
    Ok((1..logits.len()).fold(0, |best, token| if logits[token] > logits[best] { token } else { best }))
}

/// Uniform in 0..1, with the 53 bits that an f64 holds.
fn unit(source: &mut Random) -> f64 {
    (source.bits() >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEQ: SeqId = SeqId(0);
    const LOGITS: [f32; 8] = [0.5, -1.0, 2.0, 1.5, -3.0, 0.0, 2.5, 1.0];

    fn sampler(temperature: f32, top_p: f32, seed: u64) -> Sampler {
        Sampler::new(Sampling { temperature, top_p, seed }).unwrap()
    }

    /// Softmax at a temperature, in plain loops.
    fn probs(logits: &[f32], temperature: f64) -> Vec<f64> {
        let exps: Vec<f64> = logits.iter().map(|l| (f64::from(*l) / temperature).exp()).collect();
        let sum: f64 = exps.iter().sum();
        exps.iter().map(|e| e / sum).collect()
    }

    fn counts(sampler: &mut Sampler, n: usize) -> [usize; LOGITS.len()] {
        let mut counts = [0; LOGITS.len()];
        (0..n).for_each(|_| counts[sampler.draw(SEQ, &LOGITS).unwrap().token as usize] += 1);
        counts
    }

    #[test]
    fn temperature_towards_zero_is_arg_max() {
        for seed in 0..200 {
            let mut random = Random::new(seed);
            let logits = random.values(500);
            let expected = sampler(0.0, 1.0, seed).draw(SEQ, &logits).unwrap();
            assert!(logits.iter().all(|logit| *logit <= logits[expected.token as usize]), "seed {seed}: arg-max");
            for (temperature, top_p) in [(0.0, 0.5), (1e-7, 1.0), (f32::MIN_POSITIVE, 0.9), (1.0, f32::MIN_POSITIVE)] {
                let found = sampler(temperature, top_p, seed).draw(SEQ, &logits).unwrap();
                assert_eq!(found, expected, "seed {seed}, temperature {temperature}, top_p {top_p}");
            }
        }
        assert_eq!(sampler(0.0, 1.0, 0).draw(SEQ, &[1.0, 2.0, 2.0]).unwrap().token, 1, "the first of equals");
    }

    /// χ² with 7 degrees of freedom is over 24.3 once in a thousand; the seed is fixed, so this is no matter of luck.
    #[test]
    fn frequencies_follow_the_softmax() {
        for temperature in [0.5, 1.0, 1.7] {
            let n = 40_000;
            let counts = counts(&mut sampler(temperature, 1.0, 7), n);
            let expected = probs(&LOGITS, f64::from(temperature)).into_iter().map(|p| p * n as f64);
            let square: f64 = counts.iter().zip(expected).map(|(c, e)| (*c as f64 - e).powi(2) / e).sum();
            assert!(square < 24.3, "temperature {temperature}: χ² {square}, counts {counts:?}");
        }
    }

    #[test]
    fn top_p_keeps_the_smallest_set_that_reaches_it() {
        for seed in 0..300 {
            let mut random = Random::new(seed);
            let count = random.pick(1..=60);
            let logits: Vec<f32> = random.values(count).iter().map(|v| v * 4.0).collect();
            let (temperature, top_p) = (0.3 + random.unit().abs(), random.unit().abs().clamp(0.01, 0.999));
            let mut sampler = sampler(temperature, top_p, seed);
            let highest = highest(&logits).unwrap();
            let total = sampler.fill_nucleus(&logits, highest);
            let probs = probs(&logits, f64::from(temperature));
            let mut order: Vec<usize> = (0..logits.len()).collect();
            order.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]));
            let kept: Vec<usize> = sampler.nucleus.iter().map(|(token, _)| *token as usize).collect();
            let case = format!("seed {seed}: {kept:?} kept of {order:?}");
            assert_eq!(kept, order[..kept.len()], "{case}");
            let sum = |tokens: &[usize]| tokens.iter().map(|t| probs[*t]).sum::<f64>();
            assert!(sum(&kept) >= f64::from(top_p) - 1e-9, "{case}: {} does not reach {top_p}", sum(&kept));
            let fewer = sum(&kept[..kept.len() - 1]);
            assert!(fewer < f64::from(top_p) + 1e-9, "{case}: {fewer} would have reached {top_p}");
            assert!((total * probs[highest] - sum(&kept)).abs() < 1e-6, "{case}: weights sum to {total}");
        }
        // p: 0.41, 0.25, 0.15, …: 0.6 takes two tokens, and both are drawn.
        let counts = counts(&mut sampler(1.0, 0.6, 3), 1000);
        assert!(counts[6] > counts[2] && counts[2] > 0 && counts[6] + counts[2] == 1000, "{counts:?}");
    }

    #[test]
    fn log_probabilities_are_the_models_own() {
        let probs = probs(&LOGITS, 1.0);
        for (temperature, top_p) in [(0.0, 1.0), (0.4, 1.0), (3.0, 0.8)] {
            let mut sampler = sampler(temperature, top_p, 1);
            for _ in 0..50 {
                let Drawn { token, logprob } = sampler.draw(SEQ, &LOGITS).unwrap();
                let expected = probs[token as usize].ln();
                assert!((f64::from(logprob) - expected).abs() < 1e-6, "{logprob} found, {expected} expected");
            }
        }
    }

    #[test]
    fn a_seed_repeats_and_sequences_do_not_disturb_each_other() {
        let draw = |sampler: &mut Sampler, seq| sampler.draw(SeqId(seq), &LOGITS).unwrap().token;
        let (mut both, mut one) = (sampler(1.0, 1.0, 5), sampler(1.0, 1.0, 5));
        let together: Vec<[u32; 2]> = (0..40).map(|_| [draw(&mut both, 8), draw(&mut both, 9)]).collect();
        let alone: Vec<u32> = (0..40).map(|_| draw(&mut one, 3)).collect();
        assert_eq!(alone, together.iter().map(|[first, _]| *first).collect::<Vec<_>>(), "whatever its id");
        assert!(together.iter().any(|[first, second]| first != second), "two sequences draw differently");
        let other: Vec<u32> = (0..40).map(|_| draw(&mut sampler(1.0, 1.0, 6), 3)).collect();
        assert_ne!(alone, other, "another seed");
    }

    #[test]
    fn what_is_no_number_is_an_error() {
        for (bad, top_p) in [(f32::NAN, 1.0), (f32::INFINITY, 0.5), (f32::NEG_INFINITY, 1.0)] {
            for temperature in [0.0, 1.0] {
                let error = sampler(temperature, top_p, 0).draw(SEQ, &[0.0, bad, 1.0]).unwrap_err().to_string();
                assert!(error.contains("token 1") && error.contains(&bad.to_string()), "{error}");
            }
        }
        // The widest numbers there are overflow nothing.
        let drawn = sampler(1e-30, 0.9, 0).draw(SEQ, &[f32::MIN, f32::MAX, 0.0]).unwrap();
        assert_eq!((drawn.token, drawn.logprob), (1, 0.0));
        for (temperature, top_p, name) in [
            (-1.0, 1.0, "temperature"),
            (f32::NAN, 1.0, "temperature"),
            (f32::INFINITY, 1.0, "temperature"),
            (1.0, 0.0, "top_p"),
            (1.0, 1.01, "top_p"),
            (1.0, f32::NAN, "top_p"),
        ] {
            let error = Sampler::new(Sampling { temperature, top_p, seed: 0 }).unwrap_err();
            assert!(matches!(&error, Error::Config { name: found, .. } if found == name), "{error}");
        }
    }
}
