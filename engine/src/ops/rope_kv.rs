//! `shaders/rope_kv.wgsl`: rotary embedding and the write into the KV cache.

use super::{Heads, KvCache};
use crate::gpu::{Buffer, Gpu, Recording, Tensor, params};

/// A row of a batch, as the shaders read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct RowInfo {
    /// Token id.
    pub token: u32,
    /// Position in its sequence.
    pub position: u32,
    /// Row of the page table.
    pub sequence: u32,
    /// Place of its key and value in the cache.
    pub slot: u32,
}

/// How positions turn queries and keys.
#[derive(Debug)]
pub struct Rope {
    /// (positions, dims / 2) pairs of cosine and sine.
    pub angles: Buffer,
    /// Leading dimensions that turn.
    pub dims: usize,
    /// Whether pairs are (i, i + d/2), Hugging Face's order, rather than (2i, 2i + 1), GGUF's.
    pub half_order: bool,
}

impl Rope {
    /// The angles p · base^(-2i/d) / `factors[i]` for every position below `positions`, computed in f64.
    pub fn table(positions: usize, dims: usize, base: f64, factors: Option<&[f32]>) -> Vec<f32> {
        let half = dims / 2;
        (0..positions * half)
            .flat_map(|at| {
                let (position, i) = (at / half, at % half);
                let factor = factors.map_or(1.0, |f| f64::from(f[i]));
                let angle = position as f64 * base.powf(-2.0 * i as f64 / dims as f64) / factor;
                [angle.cos() as f32, angle.sin() as f32]
            })
            .collect()
    }
}

/// Turns the queries of `rows` into q and writes keys and values into the cache. qkv is (rows, (heads + 2 kv_heads) · head_dim).
#[allow(clippy::too_many_arguments, reason = "one argument a binding")]
pub fn rope_kv(
    gpu: &Gpu,
    recording: &mut Recording,
    heads: Heads,
    rope: &Rope,
    rows: (&Buffer, usize),
    qkv: &Tensor,
    q: &Tensor,
    cache: KvCache<'_>,
) {
    assert_eq!(qkv.cols, (heads.heads + 2 * heads.kv_heads) * heads.head_dim, "rope_kv: columns of qkv");
    assert_eq!(q.cols, heads.heads * heads.head_dim, "rope_kv: columns of q");
    assert!(
        heads.head_dim.is_multiple_of(2) && rope.dims.is_multiple_of(2) && rope.dims <= heads.head_dim,
        "rope_kv: even dimensions"
    );
    let params = params::RopeKv {
        heads: heads.heads as u32,
        kv_heads: heads.kv_heads as u32,
        head_dim: heads.head_dim as u32,
        rope_dim: rope.dims as u32,
        half_order: u32::from(rope.half_order),
        qkv_stride: qkv.stride as u32,
        q_stride: q.stride as u32,
    };
    let buffers = [rows.0, &rope.angles, &qkv.buffer, &q.buffer, cache.keys, cache.values];
    recording.dispatch(gpu, ("rope_kv", cache.defines()), params, &buffers, [rows.1, 1, 1]);
}
