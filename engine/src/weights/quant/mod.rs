//! ggml's block formats: rows of f32 to blocks and back.
//!
//! A row is cut into blocks of 32 or 256 values that share a scale; a block's bytes follow each other. Reading is bit-equal to
//! llama.cpp (each value is one or two f32 operations in its order). Writing is bit-equal for the formats of 32 values, which have a
//! closed rule; the formats of 256 values leave the choice of scales open, and `k_search` makes it.

mod float;
mod k_blocks;
mod k_search;
mod small_blocks;

use super::DType;

/// Block bytes to values, for any number of whole blocks.
///
/// # Panics
/// When `bytes` is not the size that `values` needs: callers take both from one [`super::TensorInfo`].
pub fn dequantize(dtype: DType, bytes: &[u8], values: &mut [f32]) {
    check_sizes(dtype, bytes.len(), values.len());
    match dtype {
        DType::F32 => float::read_f32(bytes, values),
        DType::F16 => float::read_f16(bytes, values),
        DType::Bf16 => float::read_bf16(bytes, values),
        DType::Q8_0 => each_block(dtype, bytes, values, small_blocks::read_q8_0),
        DType::Q4_0 => each_block(dtype, bytes, values, small_blocks::read_q4_0),
        DType::Q4_1 => each_block(dtype, bytes, values, small_blocks::read_q4_1),
        DType::Q5_0 => each_block(dtype, bytes, values, small_blocks::read_q5_0),
        DType::Q5_1 => each_block(dtype, bytes, values, small_blocks::read_q5_1),
        DType::Q4K => each_block(dtype, bytes, values, k_blocks::read_q4_k),
        DType::Q5K => each_block(dtype, bytes, values, k_blocks::read_q5_k),
        DType::Q6K => each_block(dtype, bytes, values, k_blocks::read_q6_k),
    }
}

/// Values to block bytes, for any number of whole blocks.
///
/// # Panics
/// When `bytes` is not the size that `values` needs.
pub fn quantize(dtype: DType, values: &[f32], bytes: &mut [u8]) {
    check_sizes(dtype, bytes.len(), values.len());
    match dtype {
        DType::F32 => float::write_f32(values, bytes),
        DType::F16 => float::write_f16(values, bytes),
        DType::Bf16 => float::write_bf16(values, bytes),
        DType::Q8_0 => each_block_mut(dtype, values, bytes, small_blocks::write_q8_0),
        DType::Q4_0 => each_block_mut(dtype, values, bytes, small_blocks::write_q4_0),
        DType::Q4_1 => each_block_mut(dtype, values, bytes, small_blocks::write_q4_1),
        DType::Q5_0 => each_block_mut(dtype, values, bytes, small_blocks::write_q5_0),
        DType::Q5_1 => each_block_mut(dtype, values, bytes, small_blocks::write_q5_1),
        DType::Q4K => each_block_mut(dtype, values, bytes, k_search::write_q4_k),
        DType::Q5K => each_block_mut(dtype, values, bytes, k_search::write_q5_k),
        DType::Q6K => each_block_mut(dtype, values, bytes, k_search::write_q6_k),
    }
}

fn check_sizes(dtype: DType, n_bytes: usize, n_values: usize) {
    let expected = dtype.checked_row_bytes(n_values);
    assert_eq!(
        expected,
        Some(n_bytes),
        "{} values as {}, bytes given (right) and needed (left)",
        n_values,
        dtype.name()
    );
}

fn each_block(dtype: DType, bytes: &[u8], values: &mut [f32], read: impl Fn(&[u8], &mut [f32])) {
    let blocks = bytes.chunks_exact(dtype.block_bytes());
    blocks.zip(values.chunks_exact_mut(dtype.block_len())).for_each(|(block, values)| read(block, values));
}

fn each_block_mut(dtype: DType, values: &[f32], bytes: &mut [u8], write: impl Fn(&[f32], &mut [u8])) {
    let blocks = bytes.chunks_exact_mut(dtype.block_bytes());
    blocks.zip(values.chunks_exact(dtype.block_len())).for_each(|(block, values)| write(values, block));
}
