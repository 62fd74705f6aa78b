//! `shaders/attention_bidirectional_coop.wgsl`: attention without a mask on cooperative matrices.

use super::Tiles;
use crate::gpu::{Buffer, Gpu, Recording, params};

/// Whether this device can compute heads of this size this way.
pub fn can_coop_bidirectional(gpu: &Gpu, head_dim: usize) -> bool {
    gpu.is_cooperative() && [32, 64, 128].contains(&head_dim)
}

/// y = softmax(q · Kᵀ / sqrt(head_dim)) · V within each sequence; `blocks` is [`super::attention_blocks`] with their number, of
/// sequences that begin at multiples of 16 rows; qkv holds q, k, v of all heads side by side.
pub fn attention_bidirectional_coop(
    gpu: &Gpu,
    recording: &mut Recording,
    (heads, head_dim): (usize, usize),
    blocks: (&Buffer, usize),
    qkv: &Tiles,
    y: &Tiles,
) {
    assert!(can_coop_bidirectional(gpu, head_dim), "attention_bidirectional_coop: head_dim {head_dim}");
    let hidden = heads * head_dim;
    let (found, out) = (qkv.cols, y.cols);
    assert!(found == 3 * hidden && out == hidden, "attention_bidirectional_coop: {found} and {out} columns");
    assert!(qkv.rows <= y.rows, "attention_bidirectional_coop: {} rows, y holds {}", qkv.rows, y.rows);
    let dims = match head_dim {
        32 => "DIMS=2",
        64 => "DIMS=4",
        _ => "DIMS=8",
    };
    let params =
        params::AttentionBidirectionalCoop { hidden_tiles: hidden as u32 / 16, scale: 1.0 / (head_dim as f32).sqrt() };
    let buffers = [blocks.0, &qkv.buffer, &y.buffer];
    let groups = [blocks.1, heads, 1];
    recording.dispatch(gpu, ("attention_bidirectional_coop", &[dims, "COOP"]), params, &buffers, groups);
}
