//! The encoder's kernels against their twins.

use super::{Random, compare};
use crate::{
    Result,
    gpu::{Gpu, Recording},
    ops::{self, Span},
    reference,
};

/// One random case of each.
pub async fn all(gpu: &Gpu, seed: u64) -> Result<()> {
    layer_norm(gpu, seed).await?;
    gelu(gpu, seed).await?;
    attention_and_pooling(gpu, seed).await
}

/// `layer_norm`.
pub async fn layer_norm(gpu: &Gpu, seed: u64) -> Result<()> {
    let mut random = Random::new(seed);
    let (rows, cols) = (random.pick(1..=9), random.pick(2..=800));
    // A mean far from 0, which a careless variance would not survive.
    let x: Vec<f32> = random.values(rows * cols).iter().map(|v| v + 20.0).collect();
    let (residual, weight, bias) = (random.values(rows * cols), random.values(cols), random.values(cols));
    let (x_gpu, residual_gpu) = (gpu.upload("x", &x, cols)?, gpu.upload("residual", &residual, cols)?);
    let (weight_gpu, bias_gpu) = (gpu.upload("weight", &weight, cols)?, gpu.upload("bias", &bias, cols)?);
    let norm = (&weight_gpu.buffer, &bias_gpu.buffer, 1e-12);
    for with_residual in [false, true] {
        let y = gpu.tensor("y", rows, cols)?;
        let mut recording = Recording::new();
        ops::layer_norm(gpu, &mut recording, &x_gpu, with_residual.then_some(&residual_gpu), norm, &y, rows);
        recording.submit(gpu);
        let expected = reference::layer_norm(&x, with_residual.then_some(&residual), &weight, &bias, 1e-12);
        let case = format!("seed {seed}, {rows}×{cols}, residual {with_residual}");
        compare("layer_norm", &case, &gpu.download(&y, rows).await?, &expected, 2e-5)?;
    }
    Ok(())
}

/// `gelu`, over both tails.
pub async fn gelu(gpu: &Gpu, seed: u64) -> Result<()> {
    let mut random = Random::new(seed);
    let (rows, cols) = (random.pick(1..=5), random.pick(1..=300));
    for size in [1.0, 6.0, 1000.0] {
        let x: Vec<f32> = random.values(rows * cols).iter().map(|v| v * size).collect();
        let x_gpu = gpu.upload("x", &x, cols)?;
        let mut recording = Recording::new();
        ops::gelu(gpu, &mut recording, &x_gpu, rows);
        recording.submit(gpu);
        let case = format!("seed {seed}, {rows}×{cols}, values to {size}");
        compare("gelu", &case, &gpu.download(&x_gpu, rows).await?, &reference::gelu(&x), 1e-6)?;
    }
    Ok(())
}

/// `attention_bidirectional` and `mean_pool` over sequences of different lengths.
pub async fn attention_and_pooling(gpu: &Gpu, seed: u64) -> Result<()> {
    let mut random = Random::new(seed);
    let shape = (random.pick(1..=3), 4 * random.pick(1..=32));
    let mut spans: Vec<Span> = Vec::new();
    let mut rows = 0;
    for _ in 0..random.pick(1..=4) {
        let count = random.pick(1..=90) as u32;
        spans.push((rows, count));
        rows += count;
    }
    let (rows, hidden) = (rows as usize, shape.0 * shape.1);
    let case = format!("seed {seed}, heads {shape:?}, {spans:?}");
    // Large enough that one key often outweighs the others.
    let qkv: Vec<f32> = random.values(rows * 3 * hidden).iter().map(|v| v * 4.0).collect();
    let qkv_gpu = gpu.upload("qkv", &qkv, 3 * hidden)?;
    let blocks = ops::attention_blocks(&spans);
    let blocks_gpu = gpu.upload_words("blocks", &blocks)?;
    let words: Vec<u32> = spans.iter().flat_map(|span| [span.0, span.1]).collect();
    let spans_gpu = gpu.upload_words("spans", &words)?;
    let y = gpu.tensor("y", rows, hidden)?;
    let pooled = [gpu.tensor("means", spans.len(), hidden)?, gpu.tensor("unit means", spans.len(), hidden)?];
    let mut recording = Recording::new();
    ops::attention_bidirectional(gpu, &mut recording, shape, (&blocks_gpu, blocks.len() / 4), &qkv_gpu, &y);
    for (pooled, normalise) in pooled.iter().zip([false, true]) {
        ops::mean_pool(gpu, &mut recording, (&spans_gpu, spans.len()), &y, normalise, pooled);
    }
    recording.submit(gpu);
    let found = gpu.download(&y, rows).await?;
    let expected = reference::attention_bidirectional(shape, &spans, &qkv);
    compare("attention_bidirectional", &case, &found, &expected, 2e-5)?;
    for (pooled, normalise) in pooled.iter().zip([false, true]) {
        let expected = reference::mean_pool(&spans, &found, hidden, normalise);
        compare("mean_pool", &case, &gpu.download(pooled, spans.len()).await?, &expected, 1e-5)?;
    }
    Ok(())
}
