//! Products of block formats with activations as integers.

use super::{Random, compare};
use crate::{
    Result,
    gpu::{Gpu, Recording},
    ops::{self, Int, Integers, Matrix},
    reference,
    weights::DType,
};

/// `quantize`.
pub async fn quantize(gpu: &Gpu, seed: u64) -> Result<()> {
    let mut random = Random::new(seed);
    let (rows, blocks) = (random.pick(1..=5), random.pick(1..=20));
    let cols = 32 * blocks;
    let mut x = random.values(rows * cols);
    // A block of zeros has no scale.
    x[..32].fill(0.0);
    let gain = random.values(cols);
    let (x_gpu, gain_gpu) = (gpu.upload("x", &x, cols)?, gpu.upload("gain", &gain, cols)?);
    for with_gain in [false, true] {
        let z = Integers::new(gpu, "z", rows, cols)?;
        let mut recording = Recording::new();
        ops::quantize(gpu, &mut recording, &x_gpu, with_gain.then_some(&gain_gpu.buffer), &z, rows);
        recording.submit(gpu);
        let case = format!("seed {seed}, {rows}×{cols}, gain {with_gain}");
        let gained: Vec<f32> =
            x.iter().zip(gain.iter().cycle()).map(|(x, g)| if with_gain { x * g } else { *x }).collect();
        check_integers(gpu, "quantize", &case, &z, (&gained, &x), 4e-5).await?;
    }
    Ok(())
}

/// Integers against the values that they should stand for; a value on a rounding boundary may fall to either neighbour.
pub(super) async fn check_integers(
    gpu: &Gpu,
    kernel: &str,
    case: &str,
    z: &Integers,
    (values, raw): (&[f32], &[f32]),
    tolerance: f32,
) -> Result<()> {
    let words = gpu.download_words(&z.buffer, z.rows * z.blocks() * 20).await?;
    for (row, words) in words.chunks(z.blocks() * 20).enumerate() {
        let here = row * z.cols..(row + 1) * z.cols;
        let (found, found_sums) = reference::unpack_integers(words, z.blocks());
        let (expected, expected_sums) = reference::quantize(&values[here.clone()], &raw[here]);
        let case = format!("{case}, row {row}");
        compare(kernel, &format!("{case}, integers"), &found, &expected, tolerance)?;
        compare(kernel, &format!("{case}, sums"), found_sums.as_flattened(), expected_sums.as_flattened(), tolerance)?;
    }
    Ok(())
}

/// `matmul_int` in each of its forms. An activation on a rounding boundary may fall to either neighbour: 3e-5 of its block's largest.
pub async fn matmul_int(gpu: &Gpu, dtype: DType, seed: u64) -> Result<()> {
    let mut random = Random::new(seed ^ 0x1d7);
    let cols = dtype.block_len() * random.pick(1..=if dtype.block_len() == 256 { 5 } else { 40 });
    let (outputs, count) = (32 * random.pick(1..=3), random.pick(1..=12));
    // A plain product has any number of rows.
    let rows = 2 * outputs - random.pick(0..=1) * random.pick(0..=31);
    let case = format!("seed {seed}, {dtype:?} {rows}×{cols}, {count} tokens");
    let x = random.values(count * cols);
    let (gain, next_gain) = (random.values(cols), random.values(2 * outputs));
    let gain_gpu = gpu.upload("gain", &gain, cols)?.buffer;
    let next_gpu = gpu.upload("gain", &next_gain, 2 * outputs)?.buffer;
    let x_gpu = gpu.upload("x", &x, cols)?;
    let (plain, gained) = (Integers::new(gpu, "x", count, cols)?, Integers::new(gpu, "x · gain", count, cols)?);
    let mut recording = Recording::new();
    ops::quantize(gpu, &mut recording, &x_gpu, None, &plain, count);
    ops::quantize(gpu, &mut recording, &x_gpu, Some(&gain_gpu), &gained, count);
    recording.submit(gpu);

    let bytes = random.rows(dtype, rows, cols);
    let values = reference::unpack_rows(dtype, &ops::pack_rows(dtype, &bytes, cols), rows, cols);
    let matrix = Matrix::from_bytes(gpu, dtype, &bytes, cols)?;
    let y = gpu.tensor("y", count, rows)?;
    let mut recording = Recording::new();
    ops::matmul_int(gpu, &mut recording, &matrix, &gained, &y, count, Int { norm: Some(1e-5), ..Int::default() });
    recording.submit(gpu);
    let expected = reference::matmul_int(&values, &x, cols, Some((&gain, 1e-5)), false);
    compare("matmul_int", &format!("{case}, norm"), &gpu.download(&y, count).await?, &expected, 1e-4)?;

    // A residual connection, and integers for what comes next.
    let rows = 2 * outputs;
    let bytes = random.rows(dtype, rows, cols);
    let values = reference::unpack_rows(dtype, &ops::pack_rows(dtype, &bytes, cols), rows, cols);
    let matrix = Matrix::from_bytes(gpu, dtype, &bytes, cols)?;
    let before = random.values(count * rows);
    let y = gpu.upload("y", &before, rows)?;
    let z = Integers::new(gpu, "z", count, rows)?;
    let mut recording = Recording::new();
    let int = Int { add: true, next: Some((Some(&next_gpu), &z)), ..Int::default() };
    ops::matmul_int(gpu, &mut recording, &matrix, &plain, &y, count, int);
    recording.submit(gpu);
    let product = reference::matmul_int(&values, &x, cols, None, false);
    let expected: Vec<f32> = before.iter().zip(product).map(|(b, p)| b + p).collect();
    let found = gpu.download(&y, count).await?;
    compare("matmul_int", &format!("{case}, residual"), &found, &expected, 1e-4)?;
    let gained_out: Vec<f32> = found.iter().zip(next_gain.iter().cycle()).map(|(v, g)| v * g).collect();
    check_integers(gpu, "matmul_int", &format!("{case}, residual"), &z, (&gained_out, &found), 4e-5).await?;

    let y = gpu.tensor("y", count, outputs)?;
    let z = Integers::new(gpu, "z", count, outputs)?;
    let mut recording = Recording::new();
    let int = Int { norm: Some(1e-5), swiglu: true, next: Some((None, &z)), add: false };
    ops::matmul_int(gpu, &mut recording, &matrix, &gained, &y, count, int);
    recording.submit(gpu);
    let expected = reference::matmul_int(&values, &x, cols, Some((&gain, 1e-5)), true);
    let found = gpu.download(&y, count).await?;
    compare("matmul_int", &format!("{case}, norm and swiglu"), &found, &expected, 2e-4)?;
    check_integers(gpu, "matmul_int", &format!("{case}, swiglu"), &z, (&found, &found), 4e-5).await
}
