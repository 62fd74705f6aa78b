//! Twin of `shaders/attention_decode.wgsl`.

use super::{attention_merge::Piece, rope_kv};
use crate::ops::{Heads, RowInfo};

/// Turns, stores, and attends to 64 positions at a time: the pieces of every row and head, in order of positions.
pub fn attention_decode(
    heads: Heads,
    rope: (&[f32], usize),
    rows: &[RowInfo],
    (pages, max_pages, page_size): (&[u32], usize, usize),
    qkv: &[f32],
    keys: &mut [f32],
    values: &mut [f32],
) -> Vec<Vec<Piece>> {
    let q = rope_kv(heads, (rope.0, rope.1, false), rows, qkv, keys, values);
    let Heads { heads, kv_heads, head_dim } = heads;
    let mut out = Vec::new();
    for (row, q) in rows.iter().zip(q.chunks(heads * head_dim)) {
        for (head, q) in q.chunks(head_dim).enumerate() {
            let at = |position: usize| {
                let page = pages[row.sequence as usize * max_pages + position / page_size] as usize;
                ((page * page_size + position % page_size) * kv_heads + head / (heads / kv_heads)) * head_dim
            };
            let positions: Vec<usize> = (0..=row.position as usize).collect();
            let piece = |span: &[usize]| {
                let dot = |p: &usize| -> f64 {
                    q.iter().zip(&keys[at(*p)..]).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
                };
                let scores: Vec<f64> = span.iter().map(|p| dot(p) / (head_dim as f64).sqrt()).collect();
                let highest = scores.iter().copied().fold(f64::MIN, f64::max);
                let weights: Vec<f64> = scores.iter().map(|s| (s - highest).exp()).collect();
                let sum_of = |d| span.iter().zip(&weights).map(|(p, w)| w * f64::from(values[at(*p) + d])).sum();
                Piece { highest, sum: weights.iter().sum(), out: (0..head_dim).map(sum_of).collect() }
            };
            out.push(positions.chunks(64).map(piece).collect());
        }
    }
    out
}
