//! `shaders/attention.wgsl`: causal grouped-query attention over the paged KV cache.

use crate::gpu::{Buffer, Gpu, Recording, Tensor, params};

/// The heads of an attention layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heads {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; a divisor of `heads`.
    pub kv_heads: usize,
    /// Even, at most 256.
    pub head_dim: usize,
}

/// Keys and values of a layer: (slots, kv_heads · head_dim) each.
#[derive(Debug, Clone, Copy)]
pub struct KvCache<'a> {
    /// Keys.
    pub keys: &'a Buffer,
    /// Values.
    pub values: &'a Buffer,
    /// Whether they are stored as f32 rather than packed f16.
    pub f32: bool,
}

impl KvCache<'_> {
    pub(super) fn defines(&self) -> &'static [&'static str] {
        if self.f32 { &["KV_F32"] } else { &[] }
    }
}

/// The page table: which cache pages a sequence's positions are in.
#[derive(Debug, Clone, Copy)]
pub struct Pages<'a> {
    /// (sequences, max_pages)
    pub table: &'a Buffer,
    /// Row length of the table.
    pub max_pages: usize,
    /// Positions a page holds.
    pub page_size: usize,
}

/// y = softmax(q · Kᵀ / sqrt(head_dim)) · V for each of the rows (token, position, sequence, slot), over positions 0..=position.
#[allow(clippy::too_many_arguments, reason = "one argument a binding")]
pub fn attention(
    gpu: &Gpu,
    recording: &mut Recording,
    heads: Heads,
    rows: (&Buffer, usize),
    pages: Pages<'_>,
    q: &Tensor,
    cache: KvCache<'_>,
    y: &Tensor,
) {
    assert!(heads.head_dim.is_multiple_of(2) && heads.head_dim <= 256, "attention: head_dim {}", heads.head_dim);
    assert_eq!(heads.heads % heads.kv_heads, 0, "attention: {} heads share {}", heads.heads, heads.kv_heads);
    let params = params::Attention {
        heads: heads.heads as u32,
        kv_heads: heads.kv_heads as u32,
        head_dim: heads.head_dim as u32,
        q_stride: q.stride as u32,
        y_stride: y.stride as u32,
        max_pages: pages.max_pages as u32,
        page_size: pages.page_size as u32,
        scale: 1.0 / (heads.head_dim as f32).sqrt(),
    };
    let buffers = [rows.0, pages.table, &q.buffer, cache.keys, cache.values, &y.buffer];
    recording.dispatch(gpu, ("attention", cache.defines()), params, &buffers, [rows.1, heads.heads, 1]);
}
