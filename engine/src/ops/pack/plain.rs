//! The same layouts, written for certainty: what [`super::pack_rows`] is held against.

use super::{Packed, packed_words};
use crate::weights::DType;

/// Repacks `bytes`, whole GGUF rows of `cols` values.
pub(super) fn pack_rows(dtype: DType, bytes: &[u8], cols: usize) -> Packed {
    let row_bytes = dtype.row_bytes(cols);
    let (w_words, s_words) = packed_words(dtype, cols);
    let rows = bytes.len() / row_bytes;
    let mut packed = Packed { w: vec![0; rows * w_words], s: vec![0; rows * s_words] };
    for (row, source) in bytes.chunks_exact(row_bytes).enumerate() {
        let w = &mut packed.w[row * w_words..][..w_words];
        let s = &mut packed.s[row * s_words..][..s_words];
        match dtype {
            DType::F32 => copy_words(source, w),
            DType::F16 | DType::Bf16 => copy_words(source, w),
            DType::Q8_0 => blocks(source, 34, |i, block| {
                put_half(s, i, &block[..2]);
                for (group, pair) in block[2..].chunks_exact(8).zip(w[i * 8..][..8].chunks_exact_mut(2)) {
                    pair[0] = u32::from_le_bytes([group[0], group[2], group[4], group[6]]);
                    pair[1] = u32::from_le_bytes([group[1], group[3], group[5], group[7]]);
                }
            }),
            DType::Q4_0 => blocks(source, 18, |i, block| {
                put_half(s, i, &block[..2]);
                put_nibbles(&mut w[i * 4..][..4], &nibbles(&block[2..]));
            }),
            DType::Q4_1 => blocks(source, 20, |i, block| {
                copy_words(&block[..4], &mut s[i..=i]);
                put_nibbles(&mut w[i * 4..][..4], &nibbles(&block[4..]));
            }),
            DType::Q5_0 => blocks(source, 22, |i, block| {
                put_half(s, i, &block[..2]);
                put_fives(&mut w[i * 5..][..5], &nibbles(&block[6..]), &block[2..6]);
            }),
            DType::Q5_1 => blocks(source, 24, |i, block| {
                copy_words(&block[..4], &mut s[i..=i]);
                put_fives(&mut w[i * 5..][..5], &nibbles(&block[8..]), &block[4..8]);
            }),
            DType::Q4K => blocks(source, 144, |i, block| {
                put_k_scales(&mut s[i * 5..][..5], &block[..16]);
                for (j, quants) in block[16..].chunks_exact(32).enumerate() {
                    put_nibbles(&mut w[i * 32 + j * 8..][..8], &split_nibbles(quants));
                }
            }),
            DType::Q5K => blocks(source, 176, |i, block| {
                put_k_scales(&mut s[i * 5..][..5], &block[..16]);
                let (high, low) = block[16..].split_at(32);
                for (j, quants) in low.chunks_exact(32).enumerate() {
                    let low = split_nibbles(quants);
                    for half in 0..2 {
                        // Bit 2j + half of byte l is the fifth bit of value l of this half.
                        let bits = (0..32).fold(0u32, |bits, l| bits | u32::from(high[l] >> (2 * j + half) & 1) << l);
                        let at = &mut w[(i * 8 + j * 2 + half) * 5..][..5];
                        put_fives(at, &low[half * 32..][..32], &bits.to_le_bytes());
                    }
                }
            }),
            DType::Q6K => blocks(source, 210, |i, block| {
                let (low, rest) = block.split_at(128);
                let (high, rest) = rest.split_at(64);
                put_half(&mut s[i * 5..][..1], 0, &rest[16..18]);
                copy_words(&rest[..16], &mut s[i * 5 + 1..][..4]);
                for j in 0..8 {
                    // Per 128 values: 64 bytes of nibbles and 32 of bit pairs; quarter q takes nibbles low (0, 1) or high (2, 3).
                    let (n, quarter) = (j / 4, j % 4);
                    let at = &mut w[(i * 8 + j) * 6..][..6];
                    for l in 0..32 {
                        let nibble = low[n * 64 + quarter % 2 * 32 + l] >> (quarter / 2 * 4) & 15;
                        let pair = high[n * 32 + l] >> (quarter * 2) & 3;
                        at[l / 8] |= u32::from(nibble) << (l % 8 * 4);
                        at[4 + l / 16] |= u32::from(pair) << (l % 16 * 2);
                    }
                }
            }),
        }
    }
    packed
}

fn blocks(row: &[u8], block_bytes: usize, mut each: impl FnMut(usize, &[u8])) {
    row.chunks_exact(block_bytes).enumerate().for_each(|(i, block)| each(i, block));
}

/// Little-endian words; a last word that is not full is padded with zeros.
fn copy_words(bytes: &[u8], words: &mut [u32]) {
    for (word, bytes) in words.iter_mut().zip(bytes.chunks(4)) {
        let mut full = [0; 4];
        full[..bytes.len()].copy_from_slice(bytes);
        *word = u32::from_le_bytes(full);
    }
}

/// The i-th f16 of an array that holds two a word.
fn put_half(words: &mut [u32], i: usize, bytes: &[u8]) {
    words[i / 2] |= u32::from(u16::from_le_bytes([bytes[0], bytes[1]])) << (i % 2 * 16);
}

/// The 32 numbers of 16 bytes: byte j holds value j in its low and value j + 16 in its high half.
fn nibbles(bytes: &[u8]) -> [u8; 32] {
    std::array::from_fn(|i| if i < 16 { bytes[i] & 15 } else { bytes[i - 16] >> 4 })
}

/// The 64 numbers of 32 bytes: byte j holds value j in its low and value j + 32 in its high half.
fn split_nibbles(bytes: &[u8]) -> [u8; 64] {
    std::array::from_fn(|i| if i < 32 { bytes[i] & 15 } else { bytes[i - 32] >> 4 })
}

fn put_nibbles(words: &mut [u32], values: &[u8]) {
    for (i, value) in values.iter().enumerate() {
        words[i / 8] |= u32::from(*value) << (i % 8 * 4);
    }
}

fn put_fives(words: &mut [u32], low: &[u8], high: &[u8]) {
    put_nibbles(&mut words[..4], low);
    copy_words(high, &mut words[4..5]);
}

/// d and dmin, then for each of the 8 blocks a byte of scale and a byte of minimum, from ggml's twelve packed bytes.
fn put_k_scales(words: &mut [u32], head: &[u8]) {
    copy_words(&head[..4], &mut words[..1]);
    let packed = &head[4..16];
    for j in 0..8 {
        let (scale, minimum) = if j < 4 {
            (packed[j] & 63, packed[j + 4] & 63)
        } else {
            (packed[j + 4] & 15 | packed[j - 4] >> 6 << 4, packed[j + 4] >> 4 | packed[j] >> 6 << 4)
        };
        words[1 + j / 2] |= (u32::from(scale) | u32::from(minimum) << 8) << (j % 2 * 16);
    }
}
