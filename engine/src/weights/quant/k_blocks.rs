//! The formats of 256 values to a block ("K quants"): Q4_K, Q5_K, Q6_K.
//!
//! Q4_K, Q5_K: eight groups of 32, each with a 6-bit scale and a 6-bit minimum, which are themselves multiples of the block's d and
//! d_min: value = (d·scale)·q − (d_min·min). Q6_K: sixteen groups of 16 with an 8-bit signed scale: value = (d·scale)·(q − 32).
//!
//! | format | bytes in order |
//! | --- | --- |
//! | Q4_K | d, d_min f16 · 12 packed scales and minima · 128 nibble pairs |
//! | Q5_K | d, d_min f16 · 12 packed scales and minima · 32 × 8 high bits · 128 nibble pairs |
//! | Q6_K | 128 nibble pairs · 64 × four high bit pairs · 16 × i8 scale · d f16 |

use super::float::f16_at;

/// Groups of a Q4_K or Q5_K block.
pub(super) const N_GROUPS: usize = 8;
/// Values of such a group.
pub(super) const GROUP: usize = 32;

pub(super) fn read_q4_k(block: &[u8], values: &mut [f32]) {
    read_offset_groups(block, &block[16..], |_, _| 0, values);
}

pub(super) fn read_q5_k(block: &[u8], values: &mut [f32]) {
    let high = &block[16..48];
    read_offset_groups(block, &block[48..], |group, j| (high[j] >> group & 1) << 4, values);
}

/// Nibble pairs hold group 2i in their low and group 2i + 1 in their high halves.
fn read_offset_groups(block: &[u8], pairs: &[u8], high: impl Fn(usize, usize) -> u8, values: &mut [f32]) {
    let (d, d_min) = (f16_at(block, 0), f16_at(block, 2));
    for (group, values) in values.chunks_exact_mut(GROUP).enumerate() {
        let (scale, min) = scale_and_min(&block[4..16], group);
        let (scale, min) = (d * f32::from(scale), d_min * f32::from(min));
        let pairs = &pairs[group / 2 * GROUP..][..GROUP];
        for (j, value) in values.iter_mut().enumerate() {
            let q = pairs[j] >> (4 * (group % 2)) & 15 | high(group, j);
            *value = scale * f32::from(q) - min;
        }
    }
}

/// The 6-bit scale and minimum of a group: the first four of each have their own bytes, the last four share the third quarter and
/// put their two high bits above the first four.
fn scale_and_min(packed: &[u8], group: usize) -> (u8, u8) {
    if group < 4 {
        return (packed[group] & 63, packed[group + 4] & 63);
    }
    let low = packed[group + 4];
    (low & 15 | packed[group - 4] >> 6 << 4, low >> 4 | packed[group] >> 6 << 4)
}

/// The inverse of [`scale_and_min`] for all groups.
pub(super) fn pack_scales(scales: &[u8; N_GROUPS], mins: &[u8; N_GROUPS], packed: &mut [u8]) {
    for group in 0..4 {
        packed[group] = scales[group] | scales[group + 4] >> 4 << 6;
        packed[group + 4] = mins[group] | mins[group + 4] >> 4 << 6;
        packed[group + 8] = scales[group + 4] & 15 | mins[group + 4] << 4;
    }
}

/// Each half of 128 values takes 64 nibble pairs and 32 × four bit pairs; quarter k of a half is in bits 2k of the latter.
pub(super) fn read_q6_k(block: &[u8], values: &mut [f32]) {
    let d = f16_at(block, 208);
    for (half, values) in values.chunks_exact_mut(128).enumerate() {
        let pairs = &block[half * 64..][..64];
        let high = &block[128 + half * 32..][..32];
        let scales = &block[192 + half * 8..][..8];
        for (j, value) in values.iter_mut().enumerate() {
            let (quarter, lane) = (j / 32, j % 32);
            let low = pairs[quarter % 2 * 32 + lane] >> (quarter / 2 * 4) & 15;
            let q = low | (high[lane] >> (2 * quarter) & 3) << 4;
            *value = d * f32::from(scales[j / 16] as i8) * f32::from(q as i8 - 32);
        }
    }
}

/// Writes the 256 steps (0..64) of a Q6_K block.
pub(super) fn pack_q6_steps(steps: &[u8; 256], block: &mut [u8]) {
    for (half, steps) in steps.chunks_exact(128).enumerate() {
        for lane in 0..32 {
            let quarter = |k: usize| steps[k * 32 + lane];
            block[half * 64 + lane] = quarter(0) & 15 | quarter(2) << 4;
            block[half * 64 + 32 + lane] = quarter(1) & 15 | quarter(3) << 4;
            let high = |k: usize| quarter(k) >> 4 << (2 * k);
            block[128 + half * 32 + lane] = high(0) | high(1) | high(2) | high(3);
        }
    }
}
