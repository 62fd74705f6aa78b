//! Launches kernels: one file per shader, which checks shapes, fills the uniforms and sizes the dispatch.
//! [`Matrix`] holds weights in any format; [`matmul`] chooses between the kernels for few and for many rows.

mod attention;
mod attention_bidirectional;
mod attention_bidirectional_coop;
mod attention_coop;
mod attention_decode;
mod attention_merge;
mod copy;
mod embed;
mod gelu;
mod layer_norm;
mod loading;
mod logits_chunk;
mod logits_merge;
mod matmul_coop;
mod matmul_coop_few;
mod matmul_int;
mod matmul_one;
mod matmul_tile;
mod matmul_vec;
mod matrix;
mod mean_pool;
mod pack;
mod quantize;
mod rms_norm;
mod rope_kv;
mod score_rows;
pub mod self_test;
mod swiglu;
mod tiles;
mod top_k;

pub use attention::{Heads, KvCache, Pages, attention};
pub use attention_bidirectional::{Span, attention_bidirectional, attention_blocks};
pub use attention_bidirectional_coop::{attention_bidirectional_coop, can_coop_bidirectional};
pub use attention_coop::{Run, attention_coop, can_coop_attention, runs};
pub use attention_decode::{attention_decode, pieces_bytes, splits};
pub use attention_merge::{attention_merge, attention_merge_tiles};
pub use copy::copy;
pub use embed::{Tokens, embed};
pub use gelu::gelu;
pub use layer_norm::{layer_norm, layer_norm_tiles};
pub use loading::Loading;
pub use logits_chunk::logits_chunk;
pub(crate) use logits_merge::partials_bytes;
pub use logits_merge::{logits_merge, token_statistics};
pub use matmul_coop::{can_coop, matmul_coop, matmul_coop_swiglu, matmul_coop_tiles};
pub use matmul_coop_few::{FewIn, FewOut, Squares, matmul_coop_few};
pub use matmul_int::{Int, matmul_int};
pub use matmul_one::{One, matmul_one};
pub use matmul_tile::matmul_tile;
pub use matmul_vec::{MAX_VEC_TOKENS, matmul_vec, matmul_vec_norm};
pub use matrix::{Matrix, format_name};
pub use mean_pool::mean_pool;
pub use pack::{Packed, pack_rows, packed_words};
pub use quantize::{Integers, quantize};
pub use rms_norm::rms_norm;
pub use rope_kv::{Rope, RowInfo, rope_kv};
#[cfg(feature = "cli")]
pub use score_rows::HostRows;
pub use score_rows::{MOST_QUESTIONS, ROW_TILE, RowBlock, Rows, question_rows, question_values, score_rows};
pub use swiglu::swiglu;
pub use tiles::{Shape, Tiles, tiles};
pub use top_k::{CHUNK as TOP_K_CHUNK, Pairs, top_k, top_k_again, top_k_of_pairs, top_k_pairs};

use crate::gpu::{Buffer, Gpu, Recording, Tensor};

/// What a matrix product does beside the product.
#[derive(Debug, Clone, Copy, Default)]
pub struct Epilogue<'a> {
    /// Add to what y holds (a residual connection) instead of replacing it.
    pub add: bool,
    /// Added to every row; as long as the matrix has rows.
    pub bias: Option<&'a Buffer>,
}

/// RMSNorm of what goes into a product.
#[derive(Debug, Clone, Copy)]
pub struct Norm<'a> {
    /// (cols), zeros up to the next multiple of eight.
    pub gain: &'a Buffer,
    /// Added to the mean square.
    pub eps: f32,
}

impl Epilogue<'_> {
    fn flags(&self) -> u32 {
        u32::from(self.add) | u32::from(self.bias.is_some()) << 1
    }
}

/// y[t, n] = Σ_k W[n, k] · x[t, k] for the first `tokens` rows of x, by the kernel that suits their number.
pub fn matmul(
    gpu: &Gpu,
    recording: &mut Recording,
    matrix: &Matrix,
    x: &Tensor,
    y: &Tensor,
    tokens: usize,
    epilogue: Epilogue<'_>,
) {
    if tokens <= MAX_VEC_TOKENS {
        matmul_vec(gpu, recording, matrix, x, y, tokens, epilogue);
    } else {
        matmul_tile(gpu, recording, matrix, x, y, tokens, epilogue);
    }
}

/// Rows that x and y must have room for, for a product of `tokens` on cooperative matrices.
pub fn coop_rows(tokens: usize) -> usize {
    tokens.next_multiple_of(if tokens <= matmul_coop_few::FEW { matmul_coop_few::FEW } else { matmul_coop::SIDE })
}

/// y = W · x, + y with `add`, on cooperative matrices by the kernel that suits the number of tokens. Rows of y past them may be
/// overwritten, up to [`coop_rows`].
pub fn matmul_tiles(
    gpu: &Gpu,
    recording: &mut Recording,
    matrix: &Matrix,
    x: &Tiles,
    y: &Tensor,
    tokens: usize,
    add: bool,
) {
    if tokens <= matmul_coop_few::FEW {
        matmul_coop_few(gpu, recording, matrix, FewIn { x, norm: None }, FewOut::Plain { y, add }, tokens);
    } else {
        matmul_coop(gpu, recording, matrix, x, y, tokens, Epilogue { add, bias: None });
    }
}

/// The checks that both matrix products share.
fn check_matmul(op: &str, matrix: &Matrix, x: &Tensor, y: &Tensor, tokens: usize) {
    assert_eq!(x.cols, matrix.cols, "{op}: x has {} columns, the matrix {}", x.cols, matrix.cols);
    assert!(y.cols >= matrix.rows, "{op}: y has {} columns, the matrix {} rows", y.cols, matrix.rows);
    assert!(tokens <= x.rows && tokens <= y.rows, "{op}: {tokens} tokens, x holds {}, y {}", x.rows, y.rows);
}
