//! LoRA fine-tuning of a Llama on burn (feature `training`).
//!
//! ```text
//! data::rows → examples (tokens, masks) → order → gradients (model, lora) → optimizer, schedule → checkpoint (PEFT's layout)
//!                                            └────────────── run: the loop, settings in config ──────────────┘
//! ```
//!
//! burn gives tensors, automatic differentiation and back ends; everything else is here. It is named in this folder and nowhere else.

mod bench;
mod checkpoint;
mod config;
mod examples;
mod gradients;
mod lora;
mod model;
mod optimizer;
mod order;
mod place;
mod random;
mod run;
mod schedule;
#[cfg(test)]
mod tests;

pub use bench::{Speed, bench};
pub use checkpoint::{Checkpoints, State};
pub use config::{ALIASES, LossMean, Settings, TrainConfig};
pub use examples::{Census, NewTokens};
pub use gradients::{Gradients, Pieces, Trainee};
pub use lora::{Layout, LoraConfig, NewRows, Projection, Slot};
pub use model::{Base, Batch};
pub use optimizer::{AdamW, AdamWConfig, clip_factor, joined, norm, scaled};
pub use order::{Fill, epoch};
pub use place::{Backend, Place, Precision};
pub use random::Key;
pub use run::{Begin, Pace, Step, Trainer, checkpoint_of, run};
pub use schedule::Schedule;
