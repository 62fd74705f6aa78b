//! Reflection-token log-probabilities → ISREL, ISSUP, ISUSE → segment score. Pure arithmetic.

use serde::{Deserialize, Serialize};

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
