//! Twin of `shaders/attention_coop.wgsl`: the same function as the kernel for single rows, over queries rounded to f16.

use half::f16;

use crate::ops::{Heads, RowInfo};

/// See [`super::attention`]. Queries are rounded after they are scaled.
pub fn attention_coop(
    heads: Heads,
    rows: &[RowInfo],
    pages: (&[u32], usize, usize),
    q: &[f32],
    keys: &[f32],
    values: &[f32],
) -> Vec<f32> {
    let root = (heads.head_dim as f32).sqrt();
    let rounded: Vec<f32> = q.iter().map(|v| f16::from_f32(v / root).to_f32() * root).collect();
    super::attention(heads, rows, pages, &rounded, keys, values)
}
