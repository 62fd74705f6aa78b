//! The kernels' twins in plain loops, one file per shader of the same name: written for certainty, not for speed.
//! Matrices are row-major slices without padding; accumulation is in f64.

mod attention;
mod embed;
mod logits_chunk;
mod logits_merge;
mod matmul_tile;
mod matmul_vec;
mod rms_norm;
mod rope_kv;
mod swiglu;
mod weights8;

pub use attention::attention;
pub use embed::embed;
pub use logits_chunk::{Partial, logits_chunk};
pub use logits_merge::logits_merge;
pub use matmul_tile::matmul_tile;
pub use matmul_vec::matmul_vec;
pub use rms_norm::rms_norm;
pub use rope_kv::rope_kv;
pub use swiglu::swiglu;
pub use weights8::unpack_rows;
