//! `shaders/attention_bidirectional.wgsl`: attention within whole sequences.

use crate::gpu::{Buffer, Gpu, Recording, Tensor, params};

/// Rows of a sequence that one workgroup computes.
const BLOCK_ROWS: u32 = 64;

/// Consecutive rows that belong together: (first row, number of rows).
pub type Span = (u32, u32);

/// The work list of [`attention_bidirectional`]: (first row, rows, start within the sequence, 0) for every 64 rows of a sequence.
pub fn attention_blocks(spans: &[Span]) -> Vec<u32> {
    let blocks =
        |(first, count): Span| (0..count).step_by(BLOCK_ROWS as usize).flat_map(move |start| [first, count, start, 0]);
    spans.iter().copied().flat_map(blocks).collect()
}

/// y = softmax(q · Kᵀ / sqrt(head_dim)) · V within each sequence; `qkv` is (rows, 3 · heads · head_dim), `blocks` holds
/// [`attention_blocks`] and their number.
pub fn attention_bidirectional(
    gpu: &Gpu,
    recording: &mut Recording,
    (heads, head_dim): (usize, usize),
    blocks: (&Buffer, usize),
    qkv: &Tensor,
    y: &Tensor,
) {
    assert!(head_dim % 4 == 0 && head_dim <= 128, "attention_bidirectional: head_dim {head_dim}");
    let hidden = heads * head_dim;
    assert!(qkv.cols == 3 * hidden && y.cols == hidden, "attention_bidirectional: {} and {} columns", qkv.cols, y.cols);
    let words = match head_dim {
        0..=32 => "WORDS=8",
        33..=64 => "WORDS=16",
        _ => "WORDS=32",
    };
    let params = params::AttentionBidirectional {
        head_dim: head_dim as u32,
        hidden: hidden as u32,
        qkv_stride: qkv.stride as u32,
        y_stride: y.stride as u32,
        scale: 1.0 / (head_dim as f32).sqrt(),
    };
    let buffers = [blocks.0, &qkv.buffer, &y.buffer];
    recording.dispatch(gpu, ("attention_bidirectional", &[words]), params, &buffers, [blocks.1, heads, 1]);
}
