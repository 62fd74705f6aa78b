//! Twin of `shaders/attention_bidirectional.wgsl`.

use crate::ops::Span;

/// softmax(q · Kᵀ / sqrt(head_dim)) · V within each sequence; qkv is (rows, 3 · heads · head_dim).
pub fn attention_bidirectional((heads, head_dim): (usize, usize), spans: &[Span], qkv: &[f32]) -> Vec<f32> {
    let hidden = heads * head_dim;
    let part =
        |row: usize, part: usize, head: usize| &qkv[row * 3 * hidden + part * hidden + head * head_dim..][..head_dim];
    let mut out = vec![0.0; qkv.len() / 3];
    for (first, count) in spans {
        let rows = *first as usize..(*first + *count) as usize;
        for row in rows.clone() {
            for head in 0..heads {
                let dot = |key: usize| -> f64 {
                    let pairs = part(row, 0, head).iter().zip(part(key, 1, head));
                    pairs.map(|(q, k)| f64::from(*q) * f64::from(*k)).sum::<f64>() / (head_dim as f64).sqrt()
                };
                let scores: Vec<f64> = rows.clone().map(dot).collect();
                let highest = scores.iter().copied().fold(f64::MIN, f64::max);
                let weights: Vec<f64> = scores.iter().map(|s| (s - highest).exp()).collect();
                let sum: f64 = weights.iter().sum();
                for d in 0..head_dim {
                    let pairs = rows.clone().zip(&weights);
                    let total: f64 = pairs.map(|(key, w)| w * f64::from(part(key, 2, head)[d])).sum();
                    out[row * hidden + head * head_dim + d] = (total / sum) as f32;
                }
            }
        }
    }
    out
}
