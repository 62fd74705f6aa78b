//! Writing the K quants: which scales make the squared error of a block small.
//!
//! For a group with steps q, the best scale (and minimum) in the least-squares sense has a closed form; for a given scale the best
//! steps are plain rounding. The search alternates: candidate scales around the one that spans the group's range, round, solve, and keep the best. The
//! group scales are then rounded to multiples of the block's d, and the steps rounded once more against the scales that a reader will
//! see. Cost: about 20 candidates × 4 operations a value.

use super::{
    float::put_f16,
    k_blocks::{GROUP, N_GROUPS, pack_q6_steps, pack_scales},
};

/// Candidates for a group's inverse scale: the span is divided by `top + offset`, offsets from −1 in steps of 0.1.
const N_CANDIDATES: usize = 21;

pub(super) fn write_q4_k(values: &[f32], block: &mut [u8]) {
    let steps = offset_block::<15>(values, block);
    write_pairs(&steps, &mut block[16..]);
}

pub(super) fn write_q5_k(values: &[f32], block: &mut [u8]) {
    let steps = offset_block::<31>(values, block);
    for (j, high) in block[16..48].iter_mut().enumerate() {
        *high = (0..N_GROUPS).fold(0, |bits, group| bits | (steps[group * GROUP + j] >> 4) << group);
    }
    write_pairs(&steps, &mut block[48..]);
}

fn write_pairs(steps: &[u8; 256], pairs: &mut [u8]) {
    for (groups, pairs) in steps.chunks_exact(2 * GROUP).zip(pairs.chunks_exact_mut(GROUP)) {
        for (j, pair) in pairs.iter_mut().enumerate() {
            *pair = groups[j] & 15 | groups[j + GROUP] << 4;
        }
    }
}

/// Fills d, d_min and the packed scales of a Q4_K or Q5_K block and returns the steps 0..=TOP.
fn offset_block<const TOP: u8>(values: &[f32], block: &mut [u8]) -> [u8; 256] {
    let mut fits = [Fit::default(); N_GROUPS];
    for (fit, group) in fits.iter_mut().zip(values.as_chunks::<GROUP>().0) {
        *fit = fit_offset::<TOP>(group);
    }
    let d = fits.iter().fold(0.0, |max, fit| f32::max(max, fit.scale)) / 63.0;
    let d_min = fits.iter().fold(0.0, |max, fit| f32::max(max, fit.min)) / 63.0;
    let d = put_f16(block, 0, d);
    let d_min = put_f16(block, 2, d_min);
    let scales = fits.map(|fit| six_bits(fit.scale, d));
    let mins = fits.map(|fit| six_bits(fit.min, d_min));
    pack_scales(&scales, &mins, &mut block[4..16]);
    let mut steps = [0; 256];
    for group in 0..N_GROUPS {
        let scale = d * f32::from(scales[group]);
        let min = d_min * f32::from(mins[group]);
        let inverse = inverse(scale);
        for j in group * GROUP..(group + 1) * GROUP {
            steps[j] = round((values[j] + min) * inverse).clamp(0.0, f32::from(TOP)) as u8;
        }
    }
    steps
}

fn six_bits(value: f32, unit: f32) -> u8 {
    round(value * inverse(unit)).clamp(0.0, 63.0) as u8
}

/// A group's line: value ≈ scale·q − min, both at least 0.
#[derive(Clone, Copy, Default)]
struct Fit {
    scale: f32,
    min: f32,
}

fn fit_offset<const TOP: u8>(x: &[f32; GROUP]) -> Fit {
    let top = f32::from(TOP);
    // The format's minimum cannot be positive: a group of positive values starts at 0.
    let low = x.iter().copied().fold(0.0, f32::min);
    let high = x.iter().copied().fold(low, f32::max);
    let span = high - low;
    if !(span > 0.0 && span.is_finite()) {
        return Fit { scale: 0.0, min: if low.is_finite() { -low } else { 0.0 } };
    }
    let (mut best, mut least) = (Fit { scale: span / top, min: -low }, f32::INFINITY);
    let sum_x: f32 = x.iter().sum();
    for candidate in 0..N_CANDIDATES {
        let inverse = (top - 1.0 + 0.1 * candidate as f32) / span;
        let mut q = [0.0; GROUP];
        let (mut sum_q, mut sum_qq, mut sum_qx) = (0.0, 0.0, 0.0);
        for j in 0..GROUP {
            q[j] = round((x[j] - low) * inverse).clamp(0.0, top);
            sum_q += q[j];
            sum_qq += q[j] * q[j];
            sum_qx += q[j] * x[j];
        }
        let Some(fit) = solve(sum_q, sum_qq, sum_qx, sum_x) else { continue };
        let error: f32 = (0..GROUP).map(|j| (fit.scale * q[j] - fit.min - x[j]).powi(2)).sum();
        if error < least {
            (best, least) = (fit, error);
        }
    }
    best
}

/// Least squares of x ≈ scale·q − min over a group, with min held at 0 where it would be negative.
fn solve(sum_q: f32, sum_qq: f32, sum_qx: f32, sum_x: f32) -> Option<Fit> {
    let n = GROUP as f32;
    let determinant = n * sum_qq - sum_q * sum_q;
    if determinant <= 0.0 {
        return None;
    }
    let scale = (n * sum_qx - sum_q * sum_x) / determinant;
    let min = (sum_q * sum_qx - sum_qq * sum_x) / determinant;
    let fit = if min < 0.0 { Fit { scale: sum_qx / sum_qq, min: 0.0 } } else { Fit { scale, min } };
    (fit.scale > 0.0).then_some(fit)
}

pub(super) fn write_q6_k(values: &[f32], block: &mut [u8]) {
    const N_SCALES: usize = 16;
    let mut fits = [0.0_f32; N_SCALES];
    for (fit, group) in fits.iter_mut().zip(values.as_chunks::<16>().0) {
        *fit = fit_symmetric(group);
    }
    let largest = fits.iter().fold(0.0_f32, |max, &fit| if fit.abs() > max.abs() { fit } else { max });
    // The largest scale becomes −128, the end of i8 that reaches further.
    let d = put_f16(block, 208, largest / -128.0);
    let mut steps = [32; 256];
    for (group, &fit) in fits.iter().enumerate() {
        let scale = round(fit * inverse(d)).clamp(-128.0, 127.0);
        block[192 + group] = scale as i8 as u8;
        let inverse = inverse(d * scale);
        for j in group * 16..(group + 1) * 16 {
            steps[j] = (round(values[j] * inverse).clamp(-32.0, 31.0) + 32.0) as u8;
        }
    }
    pack_q6_steps(&steps, block);
}

/// The scale of x ≈ scale·q with q in −32..=31.
fn fit_symmetric(x: &[f32; 16]) -> f32 {
    let largest = x.iter().fold(0.0_f32, |max, &value| if value.abs() > max.abs() { value } else { max });
    if largest == 0.0 || !largest.is_finite() {
        return 0.0;
    }
    let (mut best, mut most) = (largest / -32.0, f32::NEG_INFINITY);
    for candidate in 0..N_CANDIDATES {
        let inverse = -(31.0 + 0.1 * candidate as f32) / largest;
        let (mut sum_qx, mut sum_qq) = (0.0, 0.0);
        for &value in x {
            let q = round(value * inverse).clamp(-32.0, 31.0);
            sum_qx += q * value;
            sum_qq += q * q;
        }
        // With the best scale sum_qx / sum_qq the squared error is Σx² − sum_qx² / sum_qq.
        let gain = sum_qx * sum_qx / sum_qq;
        if gain > most {
            (best, most) = (sum_qx / sum_qq, gain);
        }
    }
    best
}

/// Round to nearest for |x| < 2²², in two additions that compilers vectorise where `f32::round` is a call.
fn round(x: f32) -> f32 {
    const MAGIC: f32 = 12_582_912.0;
    (x + MAGIC) - MAGIC
}

fn inverse(d: f32) -> f32 {
    if d == 0.0 { 0.0 } else { 1.0 / d }
}
