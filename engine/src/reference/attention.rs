//! Twin of `shaders/attention.wgsl`.

use crate::ops::{Heads, RowInfo};

/// softmax(q · Kᵀ / sqrt(head_dim)) · V for each row over positions 0..=position. q is (rows, heads · head_dim), keys and values
/// (slots, kv_heads · head_dim), pages (sequences, max_pages).
pub fn attention(
    heads: Heads,
    rows: &[RowInfo],
    (pages, max_pages, page_size): (&[u32], usize, usize),
    q: &[f32],
    keys: &[f32],
    values: &[f32],
) -> Vec<f32> {
    let Heads { heads, kv_heads, head_dim } = heads;
    let mut out = Vec::new();
    for (row, q) in rows.iter().zip(q.chunks(heads * head_dim)) {
        let slots: Vec<usize> = (0..=row.position as usize)
            .map(|p| pages[row.sequence as usize * max_pages + p / page_size] as usize * page_size + p % page_size)
            .collect();
        for (head, q) in q.chunks(head_dim).enumerate() {
            let at = |slot: usize| (slot * kv_heads + head / (heads / kv_heads)) * head_dim;
            let dot = |slot: usize| -> f64 {
                q.iter().zip(&keys[at(slot)..]).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
            };
            let scores: Vec<f64> = slots.iter().map(|s| dot(*s) / (head_dim as f64).sqrt()).collect();
            let highest = scores.iter().copied().fold(f64::MIN, f64::max);
            let weights: Vec<f64> = scores.iter().map(|s| (s - highest).exp()).collect();
            let sum: f64 = weights.iter().sum();
            out.extend((0..head_dim).map(|d| {
                let total: f64 = slots.iter().zip(&weights).map(|(s, w)| w * f64::from(values[at(*s) + d])).sum();
                (total / sum) as f32
            }));
        }
    }
    out
}
