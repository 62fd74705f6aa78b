//! `shaders/attention_merge.wgsl`: puts the pieces of a row's attention together.

use super::{Heads, Integers, Tiles};
use crate::gpu::{Buffer, Gpu, Recording, Tensor, params};

/// y = Σ pieces / Σ weights for each row; `splits` as given to [`super::attention_decode`]. With `integers` the same goes there
/// too; heads are then whole blocks of 32. `wide`: eight pieces are read at a time, as suits a device that waits for memory.
#[allow(clippy::too_many_arguments, reason = "one argument a binding")]
pub fn attention_merge(
    gpu: &Gpu,
    recording: &mut Recording,
    heads: Heads,
    rows: (&Buffer, usize),
    (pieces, splits): (&Buffer, usize),
    y: &Tensor,
    integers: Option<&Integers>,
    wide: bool,
) {
    assert!(y.cols == heads.heads * heads.head_dim && rows.1 <= y.rows, "attention_merge: y is {}×{}", y.rows, y.cols);
    if let Some(z) = integers {
        assert!(heads.head_dim.is_multiple_of(32) && z.cols == y.cols && rows.1 <= z.rows, "attention_merge: {z:?}");
    }
    let params = params::AttentionMerge {
        heads: heads.heads as u32,
        head_dim: heads.head_dim as u32,
        splits: splits as u32,
        y_stride: y.stride as u32,
        z_blocks: integers.map_or(0, |z| z.blocks() as u32),
    };
    let mut buffers = vec![rows.0, pieces, &y.buffer];
    buffers.extend(integers.map(|z| &z.buffer));
    let mut defines = vec![if wide { "AT_ONCE=8" } else { "AT_ONCE=1" }];
    defines.extend(integers.map(|_| "QUANT"));
    recording.dispatch(gpu, ("attention_merge", &defines), params, &buffers, [rows.1, heads.heads, 1]);
}

/// The same as f16 in tiles, for a product on cooperative matrices; heads are whole tiles of 16.
pub fn attention_merge_tiles(
    gpu: &Gpu,
    recording: &mut Recording,
    heads: Heads,
    rows: (&Buffer, usize),
    (pieces, splits): (&Buffer, usize),
    z: &Tiles,
) {
    assert!(heads.head_dim.is_multiple_of(16), "attention_merge: {heads:?} are not whole tiles");
    assert!(z.cols == heads.heads * heads.head_dim && rows.1 <= z.rows, "attention_merge: z is {}×{}", z.rows, z.cols);
    let params = params::AttentionMerge {
        heads: heads.heads as u32,
        head_dim: heads.head_dim as u32,
        splits: splits as u32,
        y_stride: z.cols as u32,
        z_blocks: 0,
    };
    let buffers = [rows.0, pieces, &z.buffer];
    recording.dispatch(gpu, ("attention_merge", &["AT_ONCE=8", "TILES"]), params, &buffers, [rows.1, heads.heads, 1]);
}
