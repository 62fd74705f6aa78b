//! LoRA fine-tuning of a Llama on burn (feature `training`).
//!
//! ```text
//! rows (data) → tokens and masks (examples) → order → gradients (model, lora) → optimizer, schedule → checkpoint (PEFT's layout)
//! ```
//!
//! burn gives tensors, automatic differentiation and back ends; everything else is here. It is named in this folder and nowhere else.

mod gradients;
mod lora;
mod model;
mod optimizer;
mod order;
mod place;
mod random;
mod schedule;

pub use gradients::{Gradients, Pieces, Trainee};
pub use lora::{Layout, LoraConfig, NewRows, Projection, Slot};
pub use model::{Base, Batch};
pub use optimizer::{AdamW, AdamWConfig, clip, norm};
pub use order::epoch;
pub use place::{Backend, Place};
pub use random::Key;
pub use schedule::Schedule;
