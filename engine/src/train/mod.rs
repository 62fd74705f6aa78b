//! Fine-tuning of a Llama on burn, by LoRA or whole (feature `training`).
//!
//! ```text
//! data::rows → examples (tokens, masks) → order → gradients (model, lora) → optimizer, schedule → checkpoint (PEFT's layout, or a model's folder)
//!                                            └────────────── run: the loop, settings in config ──────────────┘
//! ```
//!
//! burn gives tensors, automatic differentiation and back ends; everything else is here. It is named in this folder and nowhere else.

mod bench;
mod checkpoint;
mod config;
mod events;
mod examples;
mod flops;
mod gradients;
mod log;
mod lora;
mod model;
mod optimizer;
mod order;
mod place;
mod random;
mod ranks;
mod run;
mod schedule;
#[cfg(test)]
mod tests;
mod verify;
mod whole;

pub use bench::{Speed, bench};
pub use checkpoint::{Checkpoints, State};
pub use config::{ALIASES, LossMean, Settings, TrainConfig};
pub use examples::{Census, NewTokens};
pub use flops::Flops;
pub use gradients::{Gradients, Pieces, Trainee};
pub use log::Pace;
pub use lora::{Layout, LoraConfig, NewRows, Projection, Slot};
pub use model::{Base, Batch};
pub use optimizer::{AdamW, AdamWConfig, clip_factor, joined, norm, scaled};
pub use order::{Fill, epoch};
pub use place::{Backend, Place, Precision};
pub use random::Key;
pub use ranks::{RankPlan, Ranks};
pub use run::{Begin, Step, Trainer, checkpoint_of, run};
pub use schedule::Schedule;
pub use verify::{Difference, verify};
pub use whole::Method;
