//! Device, buffers, pipelines, recordings: the only module that names wgpu.
//!
//! A [`Recording`] is a list of dispatches; submitting it encodes one compute pass. Pipelines are compiled on first use
//! from the variants that `build.rs` validated; bind groups are cached; all parameters of a recording travel in one write.

mod device;
mod pipeline;
mod preprocess;
mod recording;
mod shaders;
mod tensor;
mod timing;
mod upload;
#[cfg(target_family = "wasm")]
mod web;

pub use device::{Facts, Gpu, Options, Reading};
pub use recording::Recording;
pub use shaders::params;
pub use tensor::{Buffer, Tensor, padded};
pub use timing::{Grain, KernelTime, Timer};
pub use upload::{Upload, Uploads};
