//! Products on cooperative matrices, on devices that have them.

use super::{Random, compare};
use crate::{
    Result,
    gpu::{Gpu, Recording},
    ops::{self, Epilogue, FewIn, FewOut, Heads, KvCache, Matrix, Norm, Pages, RowInfo, Shape, Span, Squares, Tiles},
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
        let expected: Vec<f32> = reference::tiles(&expected, width).iter().map(|v| v.to_f32()).collect();
        let found: Vec<f32> = halves.iter().map(|v| v.to_f32()).collect();
        compare("tiles", &format!("{case}, {shape:?}"), &found, &expected, 1e-3)?;
    }
    Ok(())
}

/// `matmul_coop` and `matmul_coop_few`. Both operands are rounded to f16, eleven bits.
pub async fn matmul_coop(gpu: &Gpu, dtype: DType, seed: u64) -> Result<()> {
    if !gpu.is_cooperative() {
        return Ok(());
    }
    let mut random = Random::new(seed ^ 0xc0);
    let cols = dtype.block_len().max(64) * random.pick(1..=5);
    let rows = 16 * random.pick(1..=20);
    let bytes = random.rows(dtype, rows, cols);
    let values = reference::unpack_rows(dtype, &ops::pack_rows(dtype, &bytes, cols), rows, cols);
    let matrix = Matrix::from_bytes(gpu, dtype, &bytes, cols)?;
    let few: fn(&[f32], &[f32], usize, &mut [f32]) = reference::matmul_coop_few;
    let kernels =
        [("matmul_coop_few", random.pick(1..=16), few), ("matmul_coop", random.pick(17..=300), reference::matmul_coop)];
    for (kernel, count, twin) in kernels {
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
        ops::matmul_tiles(gpu, &mut recording, &matrix, &x_tiles, &y, count, false);
        ops::matmul_tiles(gpu, &mut recording, &matrix, &x_tiles, &sum, count, true);
        recording.submit(gpu);
        let mut expected = vec![0.0; count * rows];
        twin(&values, &x, cols, &mut expected);
        compare(kernel, &case, &gpu.download(&y, count).await?, &expected, 2e-3)?;
        let mut expected = before;
        twin(&values, &x, cols, &mut expected);
        let case = format!("{case}, residual");
        compare(kernel, &case, &gpu.download(&sum, count).await?, &expected, 2e-3)?;
    }
    Ok(())
}

/// `matmul_coop_few` with what stands around it in a decoding step: a residual product for a norm, and products after that norm.
pub async fn matmul_coop_few(gpu: &Gpu, dtype: DType, seed: u64) -> Result<()> {
    if !gpu.is_cooperative() {
        return Ok(());
    }
    let mut random = Random::new(seed ^ 0xfe);
    let unit = dtype.block_len().max(64);
    let (inner, hidden, gated) = (unit * random.pick(1..=9), unit * random.pick(1..=4), 16 * random.pick(1..=20));
    let count = random.pick(1..=16);
    let case = format!("seed {seed}, {dtype:?} {inner} to {hidden} to 2×{gated}, {count} tokens");
    let mut matrix = |rows: usize, cols: usize| -> Result<(Vec<f32>, Matrix)> {
        let bytes = random.rows(dtype, rows, cols);
        let values = reference::unpack_rows(dtype, &ops::pack_rows(dtype, &bytes, cols), rows, cols);
        Ok((values, Matrix::from_bytes(gpu, dtype, &bytes, cols)?))
    };
    let ((down, down_gpu), (gate_up, gate_up_gpu)) = (matrix(hidden, inner)?, matrix(2 * gated, hidden)?);
    let (x, gain) = (random.values(count * inner), random.values(hidden));
    let mut residual = random.values(count * hidden);
    let (x_gpu, y_gpu) = (gpu.upload("x", &x, inner)?, gpu.upload("y", &residual, hidden)?);
    let gain_gpu = gpu.upload("gain", &gain, hidden)?.buffer;
    let (x_tiles, normed) = (Tiles::new(gpu, "x", 16, inner)?, Tiles::new(gpu, "normed", 16, hidden)?);
    let (both_gpu, z) = (gpu.tensor("gate, up", count, 2 * gated)?, Tiles::new(gpu, "gated", 16, gated)?);
    let squares = Squares::new(gpu, hidden)?;
    let mut recording = Recording::new();
    let r = &mut recording;
    ops::tiles(gpu, r, &x_gpu, Shape::Plain, &x_tiles, count);
    let next = FewOut::Next { y: &y_gpu, gain: &gain_gpu, z: &normed, squares: &squares };
    ops::matmul_coop_few(gpu, r, &down_gpu, FewIn { x: &x_tiles, norm: None }, next, count);
    let x_normed = FewIn { x: &normed, norm: Some((&squares, 1e-5)) };
    ops::matmul_coop_few(gpu, r, &gate_up_gpu, x_normed, FewOut::Plain { y: &both_gpu, add: false }, count);
    ops::matmul_coop_few(gpu, r, &gate_up_gpu, x_normed, FewOut::Swiglu(&z), count);
    recording.submit(gpu);
    reference::matmul_coop_few(&down, &x, inner, &mut residual);
    compare("matmul_coop_few", &format!("{case}, residual"), &gpu.download(&y_gpu, count).await?, &residual, 2e-3)?;
    let mut both = vec![0.0; count * 2 * gated];
    reference::matmul_coop_few(&gate_up, &reference::rms_norm(&residual, &gain, 1e-5), hidden, &mut both);
    let found = gpu.download(&both_gpu, count).await?;
    compare("matmul_coop_few", &format!("{case}, normed"), &found, &both, 4e-3)?;
    let expected = reference::swiglu(&both, gated);
    compare("matmul_coop_few", &format!("{case}, gated"), &values_of(gpu, &z, count).await?, &expected, 8e-3)
}

/// `matmul_coop` with what an encoder adds: a bias, and f16 in tiles with and without GELU.
pub async fn matmul_coop_tiles(gpu: &Gpu, dtype: DType, seed: u64) -> Result<()> {
    if !gpu.is_cooperative() {
        return Ok(());
    }
    let mut random = Random::new(seed ^ 0xb1a5);
    let cols = dtype.block_len().max(64) * random.pick(1..=4);
    let (rows, count) = (16 * random.pick(1..=20), random.pick(1..=300));
    let case = format!("seed {seed}, {dtype:?} {rows}×{cols}, {count} tokens, bias");
    let bytes = random.rows(dtype, rows, cols);
    let values = reference::unpack_rows(dtype, &ops::pack_rows(dtype, &bytes, cols), rows, cols);
    let matrix = Matrix::from_bytes(gpu, dtype, &bytes, cols)?;
    let room = count.next_multiple_of(128);
    let (x, bias) = (random.values(count * cols), random.values(rows));
    let (x_gpu, bias_gpu) = (gpu.upload("x", &x, cols)?, gpu.upload("bias", &bias, rows)?.buffer);
    let (x_tiles, y) = (Tiles::new(gpu, "x", room, cols)?, gpu.tensor("y", room, rows)?);
    let (plain, curved) = (Tiles::new(gpu, "z", room, rows)?, Tiles::new(gpu, "z", room, rows)?);
    let mut recording = Recording::new();
    let r = &mut recording;
    ops::tiles(gpu, r, &x_gpu, Shape::Plain, &x_tiles, count);
    ops::matmul_coop(gpu, r, &matrix, &x_tiles, &y, count, Epilogue { add: false, bias: Some(&bias_gpu) });
    ops::matmul_coop_tiles(gpu, r, &matrix, &x_tiles, &plain, count, &bias_gpu, false);
    ops::matmul_coop_tiles(gpu, r, &matrix, &x_tiles, &curved, count, &bias_gpu, true);
    recording.submit(gpu);
    let mut expected: Vec<f32> = bias.iter().copied().cycle().take(count * rows).collect();
    reference::matmul_coop(&values, &x, cols, &mut expected);
    compare("matmul_coop", &case, &gpu.download(&y, count).await?, &expected, 2e-3)?;
    for (z, expected) in [(plain, expected.clone()), (curved, reference::gelu(&expected))] {
        let case = format!("{case}, in tiles");
        compare("matmul_coop", &case, &values_of(gpu, &z, count).await?, &expected, 3e-3)?;
    }
    Ok(())
}

/// `matmul_coop` of gate and up, silu(gate) · up in tiles.
pub async fn matmul_coop_swiglu(gpu: &Gpu, dtype: DType, seed: u64) -> Result<()> {
    if !gpu.is_cooperative() {
        return Ok(());
    }
    let mut random = Random::new(seed ^ 0x519);
    let cols = dtype.block_len().max(64) * random.pick(1..=4);
    let (gated, count) = (16 * random.pick(1..=20), random.pick(1..=300));
    let case = format!("seed {seed}, {dtype:?} 2×{gated}×{cols}, {count} tokens, gated");
    let bytes = random.rows(dtype, 2 * gated, cols);
    let values = reference::unpack_rows(dtype, &ops::pack_rows(dtype, &bytes, cols), 2 * gated, cols);
    let matrix = Matrix::from_bytes(gpu, dtype, &bytes, cols)?;
    let room = count.next_multiple_of(128);
    // Some results are too large for f16.
    let size = if random.pick(0..=2) == 0 { 200.0 } else { 1.0 };
    let x: Vec<f32> = random.values(count * cols).iter().map(|v| v * size).collect();
    let (x_gpu, x_tiles) = (gpu.upload("x", &x, cols)?, Tiles::new(gpu, "x", room, cols)?);
    let z = Tiles::new(gpu, "z", room, gated)?;
    let mut recording = Recording::new();
    ops::tiles(gpu, &mut recording, &x_gpu, Shape::Plain, &x_tiles, count);
    ops::matmul_coop_swiglu(gpu, &mut recording, &matrix, &x_tiles, &z, count);
    recording.submit(gpu);
    let mut both = vec![0.0; count * 2 * gated];
    reference::matmul_coop(&values, &x, cols, &mut both);
    let expected: Vec<f32> = reference::swiglu(&both, gated).iter().map(|v| v.clamp(-65504.0, 65504.0)).collect();
    compare("matmul_coop", &case, &values_of(gpu, &z, count).await?, &expected, 6e-3)
}

/// The first rows of tiles in row-major order.
pub(super) async fn values_of(gpu: &Gpu, tiles: &Tiles, rows: usize) -> Result<Vec<f32>> {
    let words = gpu.download_words(&tiles.buffer, tiles.rows * tiles.cols / 2).await?;
    let halves: &[half::f16] = bytemuck::cast_slice(&words);
    let at = |row: usize, col: usize| (row / 16 * (tiles.cols / 16) + col / 16) * 256 + row % 16 * 16 + col % 16;
    Ok((0..rows).flat_map(|row| (0..tiles.cols).map(move |col| halves[at(row, col)].to_f32())).collect())
}

/// `layer_norm` into tiles and `attention_bidirectional_coop` over sequences that begin at whole tiles.
pub async fn encoder(gpu: &Gpu, seed: u64) -> Result<()> {
    if !gpu.is_cooperative() {
        return Ok(());
    }
    let mut random = Random::new(seed ^ 0xe4c);
    let (rows, cols) = (random.pick(1..=40), 16 * random.pick(1..=50));
    let (x, weight, bias) = (random.values(rows * cols), random.values(cols), random.values(cols));
    let x_gpu = gpu.upload("x", &x, cols)?;
    let (weight_gpu, bias_gpu) = (gpu.upload("weight", &weight, cols)?, gpu.upload("bias", &bias, cols)?);
    let norm = (&weight_gpu.buffer, &bias_gpu.buffer, 1e-12);
    let (y, z) = (gpu.tensor("y", rows, cols)?, Tiles::new(gpu, "z", rows, cols)?);
    let shape = (random.pick(1..=3), *[32, 64, 128].get(random.pick(0..=2)).expect("three sizes"));
    let hidden = shape.0 * shape.1;
    let mut spans: Vec<Span> = Vec::new();
    let mut end = 0;
    for _ in 0..random.pick(1..=4) {
        let count = random.pick(1..=150) as u32;
        spans.push((end, count));
        end = (end + count).next_multiple_of(16);
    }
    let tokens = end as usize;
    let qkv: Vec<f32> = random.values(tokens * 3 * hidden).iter().map(|v| v * 4.0).collect();
    let qkv_gpu = gpu.upload("qkv", &qkv, 3 * hidden)?;
    let (qkv_tiles, attended) = (Tiles::new(gpu, "qkv", tokens, 3 * hidden)?, Tiles::new(gpu, "y", tokens, hidden)?);
    let blocks = ops::attention_blocks(&spans);
    let blocks_gpu = gpu.upload_words("blocks", &blocks)?;
    let mut recording = Recording::new();
    let r = &mut recording;
    ops::layer_norm_tiles(gpu, r, &x_gpu, None, norm, &y, &z, rows);
    ops::tiles(gpu, r, &qkv_gpu, Shape::Plain, &qkv_tiles, tokens);
    let blocks = (&blocks_gpu, blocks.len() / 4);
    ops::attention_bidirectional_coop(gpu, r, shape, blocks, &qkv_tiles, &attended);
    recording.submit(gpu);
    let case = format!("seed {seed}, {rows}×{cols}");
    let expected = reference::layer_norm(&x, None, &weight, &bias, 1e-12);
    compare("layer_norm", &case, &gpu.download(&y, rows).await?, &expected, 2e-5)?;
    compare("layer_norm", &format!("{case}, in tiles"), &values_of(gpu, &z, rows).await?, &expected, 1e-3)?;
    let case = format!("seed {seed}, heads {shape:?}, {spans:?}");
    let found = values_of(gpu, &attended, tokens).await?;
    let expected = reference::attention_bidirectional_coop(shape, &spans, &qkv);
    for (first, count) in spans {
        let part = first as usize * hidden..(first + count) as usize * hidden;
        compare("attention_bidirectional_coop", &case, &found[part.clone()], &expected[part], 4e-3)?;
    }
    Ok(())
}

/// `attention_coop`: runs of rows of two sequences on shuffled pages.
pub async fn attention_coop(gpu: &Gpu, seed: u64) -> Result<()> {
    let mut random = Random::new(seed ^ 0xa77);
    let kv_heads = random.pick(1..=3);
    let heads = Heads { heads: kv_heads * random.pick(1..=3), kv_heads, head_dim: 64 * random.pick(1..=2) };
    if !ops::can_coop_attention(gpu, heads) {
        return Ok(());
    }
    let (page_size, max_pages) = (16, 6);
    let mut pages: Vec<u32> = (0..2 * max_pages as u32).collect();
    for i in (1..pages.len()).rev() {
        pages.swap(i, random.pick(0..=i));
    }
    let mut rows = Vec::new();
    for sequence in 0..2 {
        let (first, count) = (random.pick(0..=40), random.pick(1..=40));
        rows.extend((first..first + count).map(|position| {
            let slot = pages[sequence * max_pages + position / page_size] as usize * page_size + position % page_size;
            RowInfo { token: 0, position: position as u32, sequence: sequence as u32, slot: slot as u32 }
        }));
    }
    let case = format!("seed {seed}, {heads:?}, {} rows", rows.len());
    let kv = 2 * max_pages * page_size * kv_heads * heads.head_dim;
    let (keys, keys_gpu) = super::random_cache(gpu, &mut random, kv, false)?;
    let (values, values_gpu) = super::random_cache(gpu, &mut random, kv, false)?;
    let width = heads.heads * heads.head_dim;
    let q = random.values(rows.len() * width);
    let (q_gpu, y) = (gpu.upload("q", &q, width)?, gpu.tensor("y", rows.len(), width)?);
    let pages_gpu = gpu.upload_words("pages", &pages)?;
    let runs = ops::runs(&rows);
    let runs_gpu = gpu.upload_words("runs", bytemuck::cast_slice(&runs))?;
    let cache = KvCache { keys: &keys_gpu, values: &values_gpu, f32: false };
    let table = Pages { table: &pages_gpu, max_pages, page_size };
    let mut recording = Recording::new();
    ops::attention_coop(gpu, &mut recording, heads, (&runs_gpu, runs.len()), table, &q_gpu, cache, &y);
    recording.submit(gpu);
    let expected = reference::attention_coop(heads, &rows, (&pages, max_pages, page_size), &q, &keys, &values);
    compare("attention_coop", &case, &gpu.download(&y, rows.len()).await?, &expected, 3e-3)
}
