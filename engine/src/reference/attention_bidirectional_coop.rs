//! Twin of `shaders/attention_bidirectional_coop.wgsl`.

use half::f16;

use crate::ops::Span;

/// As [`super::attention_bidirectional`], of q, k and v rounded to f16. Rows of no sequence are zeros.
pub fn attention_bidirectional_coop(shape: (usize, usize), spans: &[Span], qkv: &[f32]) -> Vec<f32> {
    let rounded: Vec<f32> = qkv.iter().map(|v| f16::from_f32(*v).to_f32()).collect();
    super::attention_bidirectional(shape, spans, &rounded)
}
