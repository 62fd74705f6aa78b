//! Twin of `shaders/rope_kv.wgsl`.

use half::f16;

use crate::ops::{Heads, RowInfo};

/// Returns the turned queries (rows, heads · head_dim) and writes turned keys and values, rounded to f16, to their slots:
/// keys and values are (slots, kv_heads · head_dim), angles (positions, rope_dim / 2) pairs of cosine and sine.
pub fn rope_kv(
    heads: Heads,
    (angles, rope_dim, half_order): (&[f32], usize, bool),
    rows: &[RowInfo],
    qkv: &[f32],
    keys: &mut [f32],
    values: &mut [f32],
) -> Vec<f32> {
    let Heads { heads, kv_heads, head_dim } = heads;
    let kv = kv_heads * head_dim;
    let round = |v: f32| f16::from_f32(v).to_f32();
    let mut queries = Vec::new();
    for (row, qkv) in rows.iter().zip(qkv.chunks((heads + 2 * kv_heads) * head_dim)) {
        let half = rope_dim / 2;
        let angles = &angles[row.position as usize * rope_dim..][..rope_dim];
        let turn = |head: &[f32]| {
            let mut out = head.to_vec();
            for i in 0..half {
                let (a, b) = if half_order { (i, i + half) } else { (2 * i, 2 * i + 1) };
                let (cos, sin) = (angles[2 * i], angles[2 * i + 1]);
                out[a] = head[a] * cos - head[b] * sin;
                out[b] = head[b] * cos + head[a] * sin;
            }
            out
        };
        let mut turned: Vec<f32> = qkv[..(heads + kv_heads) * head_dim].chunks(head_dim).flat_map(turn).collect();
        let slot = row.slot as usize * kv;
        keys[slot..slot + kv].copy_from_slice(&turned.split_off(heads * head_dim));
        values[slot..slot + kv].copy_from_slice(&qkv[(heads + kv_heads) * head_dim..]);
        keys[slot..slot + kv].iter_mut().chain(&mut values[slot..slot + kv]).for_each(|v| *v = round(*v));
        queries.extend(turned);
    }
    queries
}
