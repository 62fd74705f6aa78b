//! Repacks GGUF rows for the GPU: 18-byte blocks defeat 16-byte loads, so scales and quants go to separate word arrays.
//! The layouts are those of `shaders/shared/weights/*.wgsl`; values stay exactly the same.
//!
//! A load spends most of its time here, in a browser on one thread: quants are moved eight at a time, in 64-bit words.

#[cfg(test)]
mod plain;
#[cfg(test)]
mod tests;

use half::{bf16, f16};

use crate::{platform::in_parallel, weights::DType};

/// Rows in GPU layout.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Packed {
    /// Weights or quants.
    pub w: Vec<u32>,
    /// Scales; empty for formats without.
    pub s: Vec<u32>,
}

/// Words a row of `cols` values takes: (quants, scales).
pub fn packed_words(dtype: DType, cols: usize) -> (usize, usize) {
    let cols8 = cols.div_ceil(8);
    let blocks = cols / 32;
    match dtype {
        DType::F32 => (cols8 * 8, 0),
        DType::F16 | DType::Bf16 => (cols8 * 4, 0),
        DType::Q8_0 => (cols8 * 2, blocks.div_ceil(2)),
        DType::Q4_0 => (cols8, blocks.div_ceil(2)),
        DType::Q4_1 => (cols8, blocks),
        DType::Q5_0 => (blocks * 5, blocks.div_ceil(2)),
        DType::Q5_1 => (blocks * 5, blocks),
        DType::Q4K => (cols8, cols / 256 * 5),
        DType::Q5K => (blocks * 5, cols / 256 * 5),
        DType::Q6K => (blocks * 6, cols / 256 * 5),
    }
}

/// Repacks `bytes`, whole GGUF rows of `cols` values.
pub fn pack_rows(dtype: DType, bytes: &[u8], cols: usize) -> Packed {
    let mut packed = Packed::default();
    packed.fill(dtype, bytes, cols);
    packed
}

/// Bytes that one thread repacks at a time.
const BAND: usize = 256 << 10;

impl Packed {
    /// Takes the rows of `bytes` in place of what it held, in the same memory where that is enough; by several threads where
    /// there are enough of them.
    pub fn fill(&mut self, dtype: DType, bytes: &[u8], cols: usize) {
        let row_bytes = dtype.row_bytes(cols);
        assert!(cols.is_multiple_of(dtype.block_len()), "{cols} columns are not whole {dtype:?} blocks");
        assert!(
            row_bytes > 0 && bytes.len().is_multiple_of(row_bytes),
            "{} bytes are not rows of {row_bytes}",
            bytes.len()
        );
        let (w_words, s_words) = packed_words(dtype, cols);
        let rows = bytes.len() / row_bytes;
        // Every word is written below, so what was there needs no clearing.
        self.w.resize(rows * w_words, 0);
        self.s.resize(rows * s_words, 0);
        let (mut w, mut s) = (&mut self.w[..], &mut self.s[..]);
        let mut bands = Vec::new();
        for band in bytes.chunks((BAND / row_bytes).max(1) * row_bytes) {
            let rows = band.len() / row_bytes;
            let (band_w, rest_w) = w.split_at_mut(rows * w_words);
            let (band_s, rest_s) = s.split_at_mut(rows * s_words);
            bands.push((band, band_w, band_s));
            (w, s) = (rest_w, rest_s);
        }
        in_parallel(bands.into_iter(), |(band, w, s)| {
            for (row, source) in band.chunks_exact(row_bytes).enumerate() {
                pack_row(dtype, source, &mut w[row * w_words..][..w_words], &mut s[row * s_words..][..s_words]);
            }
        });
    }
}

/// One row, into all words of `w` and `s`.
fn pack_row(dtype: DType, row: &[u8], w: &mut [u32], s: &mut [u32]) {
    match dtype {
        DType::F32 | DType::F16 | DType::Bf16 => copy_words(row, w),
        DType::Q8_0 => {
            put_halves::<34>(row, s);
            for (block, w) in blocks::<34>(row).zip(w.chunks_exact_mut(8)) {
                for (group, pair) in block[2..].chunks_exact(8).zip(w.chunks_exact_mut(2)) {
                    let bytes = word64(group);
                    (pair[0], pair[1]) = (even_bytes(bytes), even_bytes(bytes >> 8));
                }
            }
        }
        DType::Q4_0 => {
            put_halves::<18>(row, s);
            for (block, w) in blocks::<18>(row).zip(w.chunks_exact_mut(4)) {
                put_nibbles(&block[2..], w);
            }
        }
        DType::Q4_1 => {
            for ((block, w), s) in blocks::<20>(row).zip(w.chunks_exact_mut(4)).zip(s) {
                *s = word(block);
                put_nibbles(&block[4..], w);
            }
        }
        DType::Q5_0 => {
            put_halves::<22>(row, s);
            for (block, w) in blocks::<22>(row).zip(w.chunks_exact_mut(5)) {
                put_nibbles(&block[6..], &mut w[..4]);
                w[4] = word(&block[2..]);
            }
        }
        DType::Q5_1 => {
            for ((block, w), s) in blocks::<24>(row).zip(w.chunks_exact_mut(5)).zip(s) {
                *s = word(block);
                put_nibbles(&block[8..], &mut w[..4]);
                w[4] = word(&block[4..]);
            }
        }
        DType::Q4K => {
            for ((block, w), s) in blocks::<144>(row).zip(w.chunks_exact_mut(32)).zip(s.chunks_exact_mut(5)) {
                put_k_scales(block, s);
                for (quants, w) in block[16..].chunks_exact(32).zip(w.chunks_exact_mut(8)) {
                    put_nibbles(quants, w);
                }
            }
        }
        DType::Q5K => {
            for ((block, w), s) in blocks::<176>(row).zip(w.chunks_exact_mut(40)).zip(s.chunks_exact_mut(5)) {
                put_k_scales(block, s);
                let (high, low) = block[16..].split_at(32);
                for (j, (quants, w)) in low.chunks_exact(32).zip(w.chunks_exact_mut(10)).enumerate() {
                    let mut nibbles = [0; 8];
                    put_nibbles(quants, &mut nibbles);
                    for (half, w) in w.chunks_exact_mut(5).enumerate() {
                        w[..4].copy_from_slice(&nibbles[half * 4..][..4]);
                        // Bit 2j + half of byte l is the fifth bit of value l of this half.
                        w[4] = bit_of_bytes(high, 2 * j + half);
                    }
                }
            }
        }
        DType::Q6K => {
            for ((block, w), s) in blocks::<210>(row).zip(w.chunks_exact_mut(48)).zip(s.chunks_exact_mut(5)) {
                let (low, rest) = block.split_at(128);
                let (high, rest) = rest.split_at(64);
                s[0] = u32::from(half(&rest[16..]));
                copy_words(&rest[..16], &mut s[1..]);
                for (j, w) in w.chunks_exact_mut(6).enumerate() {
                    // Per 128 values: 64 bytes of nibbles and 32 of bit pairs; quarter q takes nibbles low (0, 1) or high (2, 3).
                    let (n, quarter) = (j / 4, j % 4);
                    let (low, high) = (&low[n * 64 + quarter % 2 * 32..][..32], &high[n * 32..][..32]);
                    for (group, w) in low.chunks_exact(8).zip(&mut *w) {
                        *w = squeeze_nibbles(word64(group) >> (quarter / 2 * 4));
                    }
                    for (groups, w) in high.chunks_exact(16).zip(&mut w[4..]) {
                        let pairs = |group: &[u8]| squeeze_pairs(word64(group) >> (quarter * 2));
                        *w = pairs(&groups[..8]) | pairs(&groups[8..]) << 16;
                    }
                }
            }
        }
    }
}

/// GPU rows of f32 as f16 or bf16 are made from f32 sources in tests and for vectors.
pub(crate) fn encode_floats(dtype: DType, values: &[f32]) -> Vec<u8> {
    match dtype {
        DType::F32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        DType::F16 => values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect(),
        DType::Bf16 => values.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect(),
        other => panic!("{other:?} is a block format"),
    }
}

fn blocks<const BYTES: usize>(row: &[u8]) -> impl Iterator<Item = &[u8; BYTES]> {
    row.as_chunks().0.iter()
}

fn half(bytes: &[u8]) -> u16 {
    u16::from_le_bytes([bytes[0], bytes[1]])
}

fn word(bytes: &[u8]) -> u32 {
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

fn word64(bytes: &[u8]) -> u64 {
    u64::from(word(bytes)) | u64::from(word(&bytes[4..])) << 32
}

/// Little-endian words; a last word that is not full, and any after it, are padded with zeros.
fn copy_words(bytes: &[u8], words: &mut [u32]) {
    let (full, rest) = bytes.as_chunks::<4>();
    for (word, bytes) in words.iter_mut().zip(full) {
        *word = u32::from_le_bytes(*bytes);
    }
    for (i, word) in words[full.len()..].iter_mut().enumerate() {
        let mut last = [0; 4];
        if i == 0 {
            last[..rest.len()].copy_from_slice(rest);
        }
        *word = u32::from_le_bytes(last);
    }
}

/// The f16 at the head of each block, two a word.
fn put_halves<const BYTES: usize>(row: &[u8], words: &mut [u32]) {
    for (pair, word) in row.chunks(2 * BYTES).zip(words) {
        let second = pair.get(BYTES..BYTES + 2).map_or(0, half);
        *word = u32::from(half(pair)) | u32::from(second) << 16;
    }
}

/// Nibbles of n bytes: n low ones, which are the first values, and then n high ones.
fn put_nibbles(bytes: &[u8], words: &mut [u32]) {
    let (low, high) = words.split_at_mut(bytes.len() / 8);
    for ((group, low), high) in bytes.chunks_exact(8).zip(low).zip(high) {
        let group = word64(group);
        (*low, *high) = (squeeze_nibbles(group), squeeze_nibbles(group >> 4));
    }
}

/// The low nibbles of eight bytes, side by side.
fn squeeze_nibbles(bytes: u64) -> u32 {
    let nibbles = bytes & 0x0f0f_0f0f_0f0f_0f0f;
    even_bytes(nibbles | nibbles >> 4)
}

/// The low two bits of eight bytes, side by side.
fn squeeze_pairs(bytes: u64) -> u32 {
    let pairs = bytes & 0x0303_0303_0303_0303;
    let pairs = (pairs | pairs >> 6) & 0x000f_000f_000f_000f;
    let pairs = (pairs | pairs >> 12) & 0x0000_00ff_0000_00ff;
    ((pairs | pairs >> 24) & 0xffff) as u32
}

/// Bytes 0, 2, 4 and 6.
fn even_bytes(bytes: u64) -> u32 {
    let bytes = bytes & 0x00ff_00ff_00ff_00ff;
    let bytes = (bytes | bytes >> 8) & 0x0000_ffff_0000_ffff;
    (bytes | bytes >> 16) as u32
}

/// Bit `bit` of each of 32 bytes.
fn bit_of_bytes(bytes: &[u8], bit: usize) -> u32 {
    // The product gathers the lowest bits of eight bytes in its highest byte.
    let gather =
        |group| (((word64(group) >> bit) & 0x0101_0101_0101_0101).wrapping_mul(0x0102_0408_1020_4080) >> 56) as u32;
    bytes.chunks_exact(8).enumerate().fold(0, |bits, (i, group)| bits | gather(group) << (i * 8))
}

/// d and dmin, then for each of the 8 blocks a byte of scale and a byte of minimum, from ggml's twelve packed bytes.
fn put_k_scales(head: &[u8], words: &mut [u32]) {
    words[0] = word(head);
    let packed = &head[4..16];
    let pair = |j: usize| {
        let (scale, minimum) = if j < 4 {
            (packed[j] & 63, packed[j + 4] & 63)
        } else {
            (packed[j + 4] & 15 | packed[j - 4] >> 6 << 4, packed[j + 4] >> 4 | packed[j] >> 6 << 4)
        };
        u32::from(scale) | u32::from(minimum) << 8
    };
    for (j, word) in words[1..].iter_mut().enumerate() {
        *word = pair(2 * j) | pair(2 * j + 1) << 16;
    }
}
