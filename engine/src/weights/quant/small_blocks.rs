//! The formats of 32 values to a block: Q8_0, Q4_0, Q4_1, Q5_0, Q5_1.
//!
//! | format | bytes | value |
//! | --- | --- | --- |
//! | Q8_0 | d f16, 32 × i8 | d·q |
//! | Q4_0 | d f16, 16 × nibble pair | d·(q − 8) |
//! | Q4_1 | d, m f16, 16 × nibble pair | d·q + m |
//! | Q5_0 | d f16, 32 high bits, 16 × nibble pair | d·(q − 16) |
//! | Q5_1 | d, m f16, 32 high bits, 16 × nibble pair | d·q + m |
//!
//! A nibble pair holds value j in its low and value j + 16 in its high half. When writing, a symmetric format maps the value of
//! largest magnitude (with its sign) to its lowest step, so that d = −max / 2^(bits−1); an offset format spans [min, max].

use super::float::{f16_at, put_f16};

const HALF: usize = 16;

pub(super) fn read_q8_0(block: &[u8], values: &mut [f32]) {
    let d = f16_at(block, 0);
    for (value, &q) in values.iter_mut().zip(&block[2..]) {
        *value = f32::from(q as i8) * d;
    }
}

pub(super) fn read_q4_0(block: &[u8], values: &mut [f32]) {
    let d = f16_at(block, 0);
    read_nibbles(&block[2..], 0, values, |q| d * (q as i32 - 8) as f32);
}

pub(super) fn read_q4_1(block: &[u8], values: &mut [f32]) {
    let (d, m) = (f16_at(block, 0), f16_at(block, 2));
    read_nibbles(&block[4..], 0, values, |q| d * q as f32 + m);
}

pub(super) fn read_q5_0(block: &[u8], values: &mut [f32]) {
    let d = f16_at(block, 0);
    read_nibbles(&block[6..], high_bits(block, 2), values, |q| d * (q as i32 - 16) as f32);
}

pub(super) fn read_q5_1(block: &[u8], values: &mut [f32]) {
    let (d, m) = (f16_at(block, 0), f16_at(block, 2));
    read_nibbles(&block[8..], high_bits(block, 4), values, |q| d * q as f32 + m);
}

fn high_bits(block: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]])
}

fn read_nibbles(pairs: &[u8], high: u32, values: &mut [f32], value: impl Fn(u32) -> f32) {
    for (j, &pair) in pairs.iter().enumerate() {
        values[j] = value(u32::from(pair & 15) | (high >> j & 1) << 4);
        values[j + HALF] = value(u32::from(pair >> 4) | (high >> (j + HALF) & 1) << 4);
    }
}

pub(super) fn write_q8_0(values: &[f32], block: &mut [u8]) {
    let largest = values.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    let d = largest / 127.0;
    let inverse = inverse(d);
    put_f16(block, 0, d);
    for (q, &value) in block[2..].iter_mut().zip(values) {
        *q = round_half_away(value * inverse) as u8;
    }
}

/// Round to nearest, halves away from zero: truncation is one instruction, `f32::round` a call. |x| is at most 127, except where the
/// scale is so small that its inverse is infinite.
fn round_half_away(x: f32) -> i8 {
    let x = x.clamp(-127.0, 127.0);
    let whole = x as i32;
    let rest = x - whole as f32;
    (whole + (2.0 * rest) as i32) as i8
}

pub(super) fn write_q4_0(values: &[f32], block: &mut [u8]) {
    let q = symmetric_steps(values, 8, block);
    write_nibbles(&q, &mut block[2..]);
}

pub(super) fn write_q4_1(values: &[f32], block: &mut [u8]) {
    let q = offset_steps(values, 15, block);
    write_nibbles(&q, &mut block[4..]);
}

pub(super) fn write_q5_0(values: &[f32], block: &mut [u8]) {
    let q = symmetric_steps(values, 16, block);
    put_high_bits(&q, &mut block[2..6]);
    write_nibbles(&q, &mut block[6..]);
}

pub(super) fn write_q5_1(values: &[f32], block: &mut [u8]) {
    let q = offset_steps(values, 31, block);
    put_high_bits(&q, &mut block[4..8]);
    write_nibbles(&q, &mut block[8..]);
}

/// Steps q in 0..2·half for value ≈ d·(q − half); d goes into the block.
fn symmetric_steps(values: &[f32], half: u8, block: &mut [u8]) -> [u8; 32] {
    let largest =
        values.iter().fold(0.0_f32, |largest, &value| if value.abs() > largest.abs() { value } else { largest });
    let d = largest / -f32::from(half);
    let inverse = inverse(d);
    put_f16(block, 0, d);
    let offset = f32::from(half) + 0.5;
    std::array::from_fn(|j| ((values[j] * inverse + offset) as u8).min(2 * half - 1))
}

/// Steps q in 0..=top for value ≈ d·q + m; d and m go into the block.
fn offset_steps(values: &[f32], top: u8, block: &mut [u8]) -> [u8; 32] {
    let min = values.iter().copied().fold(f32::INFINITY, f32::min);
    let max = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let d = (max - min) / f32::from(top);
    let inverse = inverse(d);
    put_f16(block, 0, d);
    put_f16(block, 2, min);
    std::array::from_fn(|j| (((values[j] - min) * inverse + 0.5) as u8).min(top))
}

fn inverse(d: f32) -> f32 {
    if d == 0.0 { 0.0 } else { 1.0 / d }
}

fn write_nibbles(q: &[u8; 32], pairs: &mut [u8]) {
    for (j, pair) in pairs.iter_mut().enumerate() {
        *pair = q[j] & 15 | q[j + HALF] << 4;
    }
}

fn put_high_bits(q: &[u8; 32], bytes: &mut [u8]) {
    let high = q.iter().enumerate().fold(0_u32, |high, (j, q)| high | u32::from(q >> 4) << j);
    bytes.copy_from_slice(&high.to_le_bytes());
}
