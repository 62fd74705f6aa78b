//! The quick packing against the plain one, bit for bit, and the memory that each format takes.

use super::{BAND, Packed, pack_rows, packed_words, plain};
use crate::{
    ops::self_test::{FORMATS, Random},
    weights::DType,
};

/// Any bytes are blocks of any format.
fn bytes(random: &mut Random, len: usize) -> Vec<u8> {
    (0..len).map(|_| random.bits() as u8).collect()
}

#[test]
fn every_format_is_packed_as_the_plain_loops_do() {
    let mut random = Random::new(1);
    for dtype in FORMATS {
        // Odd numbers of blocks, and for floats rows that are no whole words or groups.
        let widths = if dtype.block_len() == 1 { [1, 7, 8, 61] } else { [1, 2, 3, 8].map(|n| n * dtype.block_len()) };
        let mut reused = Packed::default();
        for cols in widths {
            // More than one thread's share too, and fewer after more.
            for rows in [2 * BAND / dtype.row_bytes(cols) + 3, 1] {
                let source = bytes(&mut random, rows * dtype.row_bytes(cols));
                let expected = plain::pack_rows(dtype, &source, cols);
                assert_eq!(pack_rows(dtype, &source, cols), expected, "{dtype:?}, {rows} rows of {cols}");
                // What memory held before must not show.
                reused.w.fill(!0);
                reused.s.fill(!0);
                reused.fill(dtype, &source, cols);
                assert_eq!(reused, expected, "{dtype:?}, {rows} rows of {cols}, over others");
            }
        }
    }
}

#[test]
fn packed_rows_take_hardly_more_than_the_files() {
    // Columns of Llama-2-7B; SmolLM2's 576 are 18 blocks of 32.
    for cols in [4096_usize, 11_008, 576] {
        for dtype in FORMATS.into_iter().filter(|dtype| cols.is_multiple_of(dtype.block_len())) {
            let (w, s) = packed_words(dtype, cols);
            let ratio = ((w + s) * 4) as f64 / dtype.row_bytes(cols) as f64;
            let most = if matches!(dtype, DType::Q4K | DType::Q5K | DType::Q6K) { 1.15 } else { 1.03 };
            assert!((1.0..=most).contains(&ratio), "{dtype:?}, {cols} columns: {ratio}");
        }
    }
}
