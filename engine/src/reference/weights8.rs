//! Twin of `shaders/shared/weights/*.wgsl`: the values of packed rows.

use half::f16;

use crate::{
    ops::{Packed, packed_words},
    weights::DType,
};

/// `rows` rows of `cols` values, by the same layouts and formulas as the shaders.
pub fn unpack_rows(dtype: DType, packed: &Packed, rows: usize, cols: usize) -> Vec<f32> {
    let (w_words, s_words) = packed_words(dtype, cols);
    let mut out = Vec::with_capacity(rows * cols);
    for row in 0..rows {
        let w = &packed.w[row * w_words..][..w_words];
        let s = &packed.s[row * s_words..][..s_words];
        out.extend((0..cols).map(|k| value(dtype, w, s, k)));
    }
    out
}

fn value(dtype: DType, w: &[u32], s: &[u32], k: usize) -> f32 {
    let half = |words: &[u32], i: usize| f16::from_bits((words[i / 2] >> (i % 2 * 16)) as u16).to_f32();
    let nibble = |words: &[u32], i: usize| (words[i / 8] >> (i % 8 * 4)) & 15;
    let (block, i) = (k / 32, k % 32);
    let five = || {
        let words = &w[block * 5..][..5];
        (nibble(words, i) | (words[4] >> i & 1) << 4) as f32
    };
    let k_scale = || {
        let words = &s[k / 256 * 5..][..5];
        let block = k / 32 % 8;
        let pair = words[1 + block / 2] >> (block % 2 * 16);
        (half(words, 0) * (pair & 255) as f32, half(words, 1) * (pair >> 8 & 255) as f32)
    };
    match dtype {
        DType::F32 => f32::from_bits(w[k]),
        DType::F16 => half(w, k),
        DType::Bf16 => f32::from_bits((w[k / 2] >> (k % 2 * 16)) << 16),
        DType::Q8_0 => half(s, block) * f32::from((w[k / 8 * 2 + k % 2] >> (k % 8 / 2 * 8)) as u8 as i8),
        DType::Q4_0 => half(s, block) * (nibble(w, k) as f32 - 8.0),
        DType::Q4_1 => half(s, block * 2) * nibble(w, k) as f32 + half(s, block * 2 + 1),
        DType::Q5_0 => half(s, block) * (five() - 16.0),
        DType::Q5_1 => half(s, block * 2) * five() + half(s, block * 2 + 1),
        DType::Q4K => {
            let (d, m) = k_scale();
            d * nibble(w, k) as f32 - m
        }
        DType::Q5K => {
            let (d, m) = k_scale();
            d * five() - m
        }
        DType::Q6K => {
            let words = &w[block * 6..][..6];
            let q = (nibble(words, i) | (words[4 + i / 16] >> (i % 16 * 2) & 3) << 4) as f32 - 32.0;
            let scales = &s[k / 256 * 5..][..5];
            let sixteenth = k / 16 % 16;
            let scale = (scales[1 + sixteenth / 4] >> (sixteenth % 4 * 8)) as u8 as i8;
            half(scales, 0) * f32::from(scale) * q
        }
    }
}
