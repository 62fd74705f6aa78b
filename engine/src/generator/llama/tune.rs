//! How a decoding step is computed, chosen by measuring it.
//!
//! The kernels have alternatives that give the same numbers but for rounding: norms inside products or before them, block formats times
//! integers or floats, attention by large workgroups or small ones. Which is quickest depends on the device's launch cost, registers and
//! driver, and not on its maker, so [`Llama::tune`] times a few steps of each on the loaded model. [`Tunings`] is what a program keeps of
//! that, so that a device and model are measured once.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Llama, PAGE, model::Layer};
use crate::{
    Result,
    generator::{Generator, SeqId},
    gpu::Facts,
    ops::self_test,
    order::sort_by,
    platform::now_ms,
    weights::DType,
};

/// Tokens before the steps that are measured: two pieces of attention.
const PROMPT: usize = 80;
/// Steps before the clock counts: recording, compiling, the first look ahead.
const WARM_UP: usize = 3;
/// Steps by the clock, unless they take longer than [`PATIENCE_MS`].
const STEPS: usize = 16;
const PATIENCE_MS: f64 = 400.0;
/// An alternative must save that share of a step: less is noise, and a choice should not change from day to day.
const WORTH: f64 = 0.03;
/// Goes up when kernels change so much that what was kept says nothing any more.
const VERSION: u32 = 1;

/// How a decoding step is computed. Choices differ in rounding only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepPlan {
    /// Normalise inside the products of float formats: fewer launches, more arithmetic.
    pub fuse_norm: bool,
    /// Multiply block formats with activations as 16-bit integers.
    pub integers: bool,
    /// Attention by workgroups of 256 instead of 64: more loads under way.
    pub wide_attention: bool,
}

impl StepPlan {
    /// What is quickest on the devices that were measured (BENCHMARKS.md): all three on a GPU, where a launch costs more than arithmetic
    /// and memory must be kept waiting for; none on a software device.
    pub fn usual(facts: &Facts) -> Self {
        let gpu = !facts.software;
        Self { fuse_norm: gpu, integers: gpu, wide_attention: gpu }
    }

    /// The plan with one choice the other way round; `which` counts from 0 to 2.
    fn other(self, which: usize) -> Self {
        match which {
            0 => Self { integers: !self.integers, ..self },
            1 => Self { fuse_norm: !self.fuse_norm, ..self },
            _ => Self { wide_attention: !self.wide_attention, ..self },
        }
    }
}

impl std::fmt::Display for StepPlan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let norm = if self.fuse_norm { "in products" } else { "apart" };
        let blocks = if self.integers { "integers" } else { "floats" };
        let attention = if self.wide_attention { 256 } else { 64 };
        write!(f, "norms {norm}, block formats with {blocks}, attention by {attention}")
    }
}

/// What was measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Tuned {
    /// The quickest, which is in use now.
    pub plan: StepPlan,
    /// Milliseconds a step of each that was tried, the usual plan first.
    pub tried: Vec<(StepPlan, f64)>,
}

/// Plans by [`Llama::tuning_key`], kept between runs as JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tunings(BTreeMap<String, StepPlan>);

impl Tunings {
    /// Reads what was kept; anything else than that is as good as nothing, since it can be measured again.
    pub fn parse(json: &[u8]) -> Self {
        serde_json::from_slice(json).unwrap_or_default()
    }

    /// To keep.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("strings and booleans")
    }

    /// The plan that was chosen before.
    pub fn get(&self, key: &str) -> Option<StepPlan> {
        self.0.get(key).copied()
    }

    /// Notes a choice.
    pub fn insert(&mut self, key: String, plan: StepPlan) {
        self.0.insert(key, plan);
    }
}

impl Llama {
    /// How a step is computed now.
    pub fn plan(&self) -> StepPlan {
        self.plan
    }

    /// Computes steps so from now on.
    pub fn set_plan(&mut self, plan: StepPlan) {
        if plan != self.plan {
            self.forget_ahead();
            self.decode.clear();
            self.plan = plan;
        }
    }

    /// Computes steps by a plan that was kept. Kernels that were not looked at when the model was loaded are looked at first; if they compute
    /// wrongly, that is the error, and the plan stays the usual one.
    pub async fn use_plan(&mut self, plan: StepPlan) -> Result<()> {
        let usual = StepPlan::usual(self.gpu.facts());
        self.set_plan(usual);
        if plan != usual {
            self_test::unusual(&self.gpu, &self.formats()).await?;
            self.set_plan(plan);
        }
        Ok(())
    }

    /// What a choice depends on: the device and what is in use of it, the weights' formats, the model's sizes.
    pub fn tuning_key(&self) -> String {
        let (facts, config) = (self.gpu.facts(), &self.config);
        let formats: Vec<String> = self.formats().iter().map(|format| format!("{format:?}")).collect();
        format!(
            "{VERSION} {} {} {}{}{} {} {}x{}x{}",
            facts.name,
            facts.backend,
            u8::from(facts.subgroups),
            u8::from(facts.f16),
            u8::from(facts.cooperative),
            formats.join("+"),
            config.layers,
            config.hidden,
            config.feed_forward
        )
    }

    /// Measures the alternatives, one choice after the other, and keeps the quickest. Takes a few dozen steps, on a fast GPU less than a second.
    /// A model whose context or cache has no room for them stays as it is.
    pub async fn tune(&mut self) -> Result<Tuned> {
        let mut best = (self.plan, f64::INFINITY);
        let mut tried = Vec::new();
        let room = PROMPT + 4 * (WARM_UP + STEPS + 1) + PAGE;
        if self.context_length < room || self.free_tokens() < room {
            return Ok(Tuned { plan: best.0, tried });
        }
        let seq = self.start()?;
        let result = self.try_plans(seq, &mut best, &mut tried).await;
        self.free(seq);
        let chosen = if result.is_ok() { best.0 } else { StepPlan::usual(self.gpu.facts()) };
        self.use_plan(chosen).await?;
        result.map(|()| Tuned { plan: best.0, tried })
    }

    async fn try_plans(
        &mut self,
        seq: SeqId,
        best: &mut (StepPlan, f64),
        tried: &mut Vec<(StepPlan, f64)>,
    ) -> Result<()> {
        let prompt = (0..PROMPT).map(|at| (at % self.config.vocabulary) as u32).collect();
        let mut token = self.forward(&[(seq, prompt)]).await?[0].token;
        best.1 = self.step_ms(seq, &mut token).await?;
        tried.push(*best);
        let formats = self.formats();
        let blocks = formats.iter().any(|format| format.block_len() > 1);
        let floats = formats.iter().any(|format| format.block_len() == 1);
        for (which, matters) in [(0, blocks), (1, floats), (2, true)] {
            if !matters {
                continue;
            }
            let plan = best.0.other(which);
            self.set_plan(plan);
            let ms = self.step_ms(seq, &mut token).await?;
            tried.push((plan, ms));
            if ms < best.1 * (1.0 - WORTH) {
                *best = (plan, ms);
            }
        }
        Ok(())
    }

    /// The formats of the layers' matrices.
    fn formats(&self) -> Vec<DType> {
        DType::distinct(self.model.layers.iter().flat_map(Layer::formats))
    }

    /// Milliseconds of a step: the median, so that one that was disturbed does not count.
    async fn step_ms(&mut self, seq: SeqId, token: &mut u32) -> Result<f64> {
        let mut times = Vec::with_capacity(STEPS);
        for step in 0..WARM_UP + STEPS {
            let start = now_ms();
            *token = self.forward(&[(seq, vec![*token])]).await?[0].token;
            if step >= WARM_UP {
                times.push(now_ms() - start);
            }
            if times.len() > 2 && times.iter().sum::<f64>() > PATIENCE_MS {
                break;
            }
        }
        sort_by(&mut times, f64::total_cmp);
        Ok(times[times.len() / 2])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: StepPlan = StepPlan { fuse_norm: true, integers: true, wide_attention: true };

    #[test]
    fn what_is_kept_comes_back_and_anything_else_is_nothing() {
        let mut tunings = Tunings::default();
        tunings.insert("1 GPU".into(), ALL);
        let back = Tunings::parse(tunings.to_json().as_bytes());
        assert_eq!(back.get("1 GPU"), Some(ALL));
        assert_eq!(back.get("2 GPU"), None);
        for bad in ["", "[]", "{\"1 GPU\":7}", "{\"1 GPU\":{\"integers\":true}}", "\u{0}"] {
            assert_eq!(Tunings::parse(bad.as_bytes()), Tunings::default(), "{bad:?}");
        }
    }

    #[test]
    fn each_choice_is_tried_alone() {
        let others: Vec<StepPlan> = (0..3).map(|which| ALL.other(which)).collect();
        assert!(others.iter().all(|plan| *plan != ALL));
        assert_eq!(others[0], StepPlan { integers: false, ..ALL });
        assert_eq!(others[1], StepPlan { fuse_norm: false, ..ALL });
        assert_eq!(others[2], StepPlan { wide_attention: false, ..ALL });
        assert_eq!(ALL.to_string(), "norms in products, block formats with integers, attention by 256");
    }
}
