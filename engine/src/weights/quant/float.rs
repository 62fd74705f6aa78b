//! F32, F16 and BF16: one value, one number. Rounding is to nearest, ties to even; a NaN stays one.

use half::{bf16, f16};

pub(super) fn read_f32(bytes: &[u8], values: &mut [f32]) {
    for (bytes, value) in bytes.as_chunks::<4>().0.iter().zip(values) {
        *value = f32::from_le_bytes(*bytes);
    }
}

pub(super) fn read_f16(bytes: &[u8], values: &mut [f32]) {
    for (bytes, value) in bytes.as_chunks::<2>().0.iter().zip(values) {
        *value = f16::from_le_bytes(*bytes).to_f32();
    }
}

pub(super) fn read_bf16(bytes: &[u8], values: &mut [f32]) {
    for (bytes, value) in bytes.as_chunks::<2>().0.iter().zip(values) {
        *value = f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16);
    }
}

pub(super) fn write_f32(values: &[f32], bytes: &mut [u8]) {
    for (bytes, value) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(values) {
        *bytes = value.to_le_bytes();
    }
}

pub(super) fn write_f16(values: &[f32], bytes: &mut [u8]) {
    for (bytes, value) in bytes.as_chunks_mut::<2>().0.iter_mut().zip(values) {
        *bytes = f16::from_f32(*value).to_le_bytes();
    }
}

pub(super) fn write_bf16(values: &[f32], bytes: &mut [u8]) {
    for (bytes, value) in bytes.as_chunks_mut::<2>().0.iter_mut().zip(values) {
        *bytes = bf16::from_f32(*value).to_le_bytes();
    }
}

/// An f16 of a block's header.
pub(super) fn f16_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// Stores an f16 in a block's header and returns the value that a reader will see.
pub(super) fn put_f16(block: &mut [u8], at: usize, value: f32) -> f32 {
    let rounded = f16::from_f32(value);
    block[at..at + 2].copy_from_slice(&rounded.to_le_bytes());
    rounded.to_f32()
}
