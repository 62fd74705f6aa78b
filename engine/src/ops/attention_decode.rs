//! `shaders/attention_decode.wgsl`: rotary embedding, cache write and attention of sequences that go on by one token each.

use super::{Heads, KvCache, Pages, Rope};
use crate::gpu::{Buffer, Gpu, Recording, Tensor, params};

/// Positions a workgroup takes; the shader's `SPAN`.
const SPAN: usize = 64;

/// Pieces that a past of `positions` tokens has.
pub fn splits(positions: usize) -> usize {
    positions.div_ceil(SPAN)
}

/// Bytes of the pieces of `rows` rows.
pub fn pieces_bytes(heads: Heads, rows: usize, splits: usize) -> u64 {
    (rows * heads.heads * splits * (heads.head_dim / 4 + 1) * 16) as u64
}

/// Turns the query and the key of each row, writes key and value into the cache, and computes the pieces of its attention. Each row
/// is of another sequence. The head size must be a multiple of eight, and RoPE's pairs GGUF's. `wide`: by workgroups of 256 instead of 64,
/// which keep more loads under way.
#[allow(clippy::too_many_arguments, reason = "one argument a binding")]
pub fn attention_decode(
    gpu: &Gpu,
    recording: &mut Recording,
    heads: Heads,
    rope: &Rope,
    rows: (&Buffer, usize),
    pages: Pages<'_>,
    qkv: &Tensor,
    cache: KvCache<'_>,
    (pieces, splits): (&Buffer, usize),
    wide: bool,
) {
    let Heads { heads: n_heads, kv_heads, head_dim } = heads;
    assert!(head_dim.is_multiple_of(8) && head_dim <= 256, "attention_decode: head_dim {head_dim}");
    assert!(!rope.half_order && rope.dims.is_multiple_of(2) && rope.dims <= head_dim, "attention_decode: {rope:?}");
    assert_eq!(n_heads % kv_heads, 0, "attention_decode: {n_heads} heads share {kv_heads}");
    assert_eq!(qkv.cols, (n_heads + 2 * kv_heads) * head_dim, "attention_decode: columns of qkv");
    assert!(pieces.bytes() >= pieces_bytes(heads, rows.1, splits), "attention_decode: pieces too small");
    let params = params::AttentionDecode {
        heads: n_heads as u32,
        kv_heads: kv_heads as u32,
        head_dim: head_dim as u32,
        rope_dim: rope.dims as u32,
        qkv_stride: qkv.stride as u32,
        max_pages: pages.max_pages as u32,
        page_size: pages.page_size as u32,
        splits: splits as u32,
        scale: 1.0 / (head_dim as f32).sqrt(),
    };
    let buffers = [rows.0, pages.table, &qkv.buffer, &rope.angles, cache.keys, cache.values, pieces];
    let mut defines = vec![if wide { "THREADS=256" } else { "THREADS=64" }];
    defines.extend(cache.defines());
    recording.dispatch(gpu, ("attention_decode", &defines), params, &buffers, [rows.1, n_heads, splits]);
}
