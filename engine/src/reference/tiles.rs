//! Twin of `shaders/tiles.wgsl`.

use half::f16;

/// Rows of `cols` values as f16 in tiles of 16 × 16, each in row-major order; rows that are missing from the last tiles are zeros.
/// What f16 cannot hold is as large as it can.
pub fn tiles(values: &[f32], cols: usize) -> Vec<f16> {
    let rows = values.len() / cols;
    let mut out = vec![f16::ZERO; rows.next_multiple_of(16) * cols];
    for (i, value) in values.iter().enumerate() {
        let (row, col) = (i / cols, i % cols);
        let held = value.clamp(-65504.0, 65504.0);
        out[(row / 16 * (cols / 16) + col / 16) * 256 + row % 16 * 16 + col % 16] = f16::from_f32(held);
    }
    out
}
