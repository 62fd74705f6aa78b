//! The kernels' twins in plain loops, one file per shader of the same name: written for certainty, not for speed.
//! Matrices are row-major slices without padding; accumulation is in f64.

mod attention;
mod attention_bidirectional;
mod attention_decode;
mod attention_merge;
mod copy;
mod embed;
mod gelu;
mod layer_norm;
mod logits_chunk;
mod logits_merge;
mod matmul_tile;
mod matmul_vec;
mod mean_pool;
mod quantize;
mod rms_norm;
mod rope_kv;
mod score_rows;
mod swiglu;
mod top_k;
mod weights8;

pub use attention::attention;
pub use attention_bidirectional::attention_bidirectional;
pub use attention_decode::attention_decode;
pub use attention_merge::{Piece, attention_merge};
pub use copy::copy;
pub use embed::embed;
pub use gelu::gelu;
pub use layer_norm::layer_norm;
pub use logits_chunk::{Partial, logits_chunk};
pub use logits_merge::logits_merge;
pub use matmul_tile::matmul_tile;
pub use matmul_vec::matmul_vec;
pub use mean_pool::mean_pool;
pub use quantize::{quantize, unpack_integers};
pub use rms_norm::rms_norm;
pub use rope_kv::rope_kv;
pub use score_rows::score_rows;
pub use swiglu::swiglu;
pub use top_k::top_k;
pub use weights8::unpack_rows;
