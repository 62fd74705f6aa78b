//! Products on cooperative matrices, on devices that have them.

use super::{Random, compare};
use crate::{
    Result,
    gpu::{Gpu, Recording},
    ops::{self, Matrix, Norm, Shape, Tiles},
    reference,
    weights::DType,
};

/// `tiles` in each of its shapes, read back through its layout.
pub async fn tiles(gpu: &Gpu, seed: u64) -> Result<()> {
    let mut random = Random::new(seed);
    let (rows, cols) = (random.pick(1..=40), 16 * random.pick(1..=30));
    let case = format!("seed {seed}, {rows}×{cols}");
    let (x, gain) = (random.values(rows * 2 * cols), random.values(2 * cols));
    let x_gpu = gpu.upload("x", &x, 2 * cols)?;
    let gain_gpu = gpu.upload("gain", &gain, 2 * cols)?.buffer;
    let norm = Shape::Norm(Norm { gain: &gain_gpu, eps: 1e-5 });
    for (shape, expected) in [
        (Shape::Plain, x.clone()),
        (norm, reference::rms_norm(&x, &gain, 1e-5)),
        (Shape::Swiglu, reference::swiglu(&x, cols)),
    ] {
        let width = expected.len() / rows;
        let z = Tiles::new(gpu, "z", rows, width)?;
        let mut recording = Recording::new();
        ops::tiles(gpu, &mut recording, &x_gpu, shape, &z, rows);
        recording.submit(gpu);
        let words = gpu.download_words(&z.buffer, z.rows * z.cols / 2).await?;
        let halves: &[half::f16] = bytemuck::cast_slice(&words);
        let at = |row: usize, col: usize| ((row / 16 * (width / 16) + col / 16) * 16 + row % 16) * 16 + col % 16;
        let found: Vec<f32> = (0..rows * width).map(|i| halves[at(i / width, i % width)].to_f32()).collect();
        compare("tiles", &format!("{case}, {shape:?}"), &found, &expected, 1e-3)?;
    }
    Ok(())
}

/// `matmul_coop` and `matmul_coop_few`. Both operands are rounded to f16, eleven bits.
pub async fn matmul_coop(gpu: &Gpu, dtype: DType, seed: u64) -> Result<()> {
    if !gpu.facts().cooperative {
        return Ok(());
    }
    let mut random = Random::new(seed ^ 0xc0);
    let cols = dtype.block_len().max(64) * random.pick(1..=5);
    let rows = 16 * random.pick(1..=20);
    let bytes = random.rows(dtype, rows, cols);
    let values = reference::unpack_rows(dtype, &ops::pack_rows(dtype, &bytes, cols), rows, cols);
    let matrix = Matrix::from_bytes(gpu, dtype, &bytes, cols)?;
    for count in [random.pick(1..=16), random.pick(17..=300)] {
        let case = format!("seed {seed}, {dtype:?} {rows}×{cols}, {count} tokens");
        let room = ops::coop_rows(count);
        let x = random.values(count * cols);
        let x_gpu = gpu.upload("x", &x, cols)?;
        let x_tiles = Tiles::new(gpu, "x", room, cols)?;
        let before = random.values(count * rows);
        let mut padded = before.clone();
        padded.resize(room * rows, 0.0);
        let (y, sum) = (gpu.tensor("y", room, rows)?, gpu.upload("y", &padded, rows)?);
        let mut recording = Recording::new();
        ops::tiles(gpu, &mut recording, &x_gpu, Shape::Plain, &x_tiles, count);
        ops::matmul_coop(gpu, &mut recording, &matrix, &x_tiles, &y, count, false);
        ops::matmul_coop(gpu, &mut recording, &matrix, &x_tiles, &sum, count, true);
        recording.submit(gpu);
        let mut expected = vec![0.0; count * rows];
        reference::matmul_vec(&values, &x, cols, None, &mut expected);
        compare("matmul_coop", &case, &gpu.download(&y, count).await?, &expected, 2e-3)?;
        let mut expected = before;
        reference::matmul_vec(&values, &x, cols, None, &mut expected);
        let case = format!("{case}, residual");
        compare("matmul_coop", &case, &gpu.download(&sum, count).await?, &expected, 2e-3)?;
    }
    Ok(())
}
