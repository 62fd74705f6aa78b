//! Learning rates over optimizer steps: the formulas of transformers' `get_linear_schedule_with_warmup` and `get_cosine_schedule_with_warmup`.

use serde::{Deserialize, Serialize};

/// How the rate falls after the warm-up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// In a straight line to zero at the last step (the generator's recipe).
    #[default]
    Linear,
    /// Along half a cosine to zero (the critic's recipe).
    Cosine,
    /// Not at all.
    Constant,
}

impl Schedule {
    /// The factor of the rate in step `step` (counted from 0) of `total`, `warmup` of which rise from zero.
    ///
    /// As in transformers, step 0 has rate zero when there is a warm-up.
    pub fn factor(self, step: u64, warmup: u64, total: u64) -> f64 {
        if step < warmup {
            return step as f64 / warmup.max(1) as f64;
        }
        let span = total.saturating_sub(warmup).max(1) as f64;
        match self {
            Self::Linear => (total.saturating_sub(step) as f64 / span).max(0.0),
            Self::Cosine => {
                let progress = (step - warmup) as f64 / span;
                (0.5 * (1.0 + (std::f64::consts::PI * progress).cos())).max(0.0)
            }
            Self::Constant => 1.0,
        }
    }

    /// Steps of warm-up: `ceil(total · ratio)`, as transformers' `get_warmup_steps`.
    pub fn warmup_steps(total: u64, ratio: f64) -> u64 {
        (total as f64 * ratio).ceil() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::Schedule;

    #[test]
    fn factors_are_those_of_transformers() {
        let all = |schedule: Schedule| (0..7).map(|step| schedule.factor(step, 2, 6)).collect::<Vec<_>>();
        assert_eq!(all(Schedule::Linear), [0.0, 0.5, 1.0, 0.75, 0.5, 0.25, 0.0]);
        let cosine = [0.0, 0.5, 1.0, 0.853_553_390_593_273_7, 0.5, 0.146_446_609_406_726_24, 0.0];
        for (found, expected) in all(Schedule::Cosine).iter().zip(cosine) {
            assert!((found - expected).abs() < 1e-12, "{found} {expected}");
        }
        assert_eq!(all(Schedule::Constant), [0.0, 0.5, 1.0, 1.0, 1.0, 1.0, 1.0]);
        assert_eq!(Schedule::Linear.factor(0, 0, 1), 1.0);
        assert_eq!(Schedule::warmup_steps(3414, 0.03), 103);
    }
}
