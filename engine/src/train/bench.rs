//! How fast training is here: full micro-batches of random tokens on random weights of a real model's size; speed does not depend on values.

use serde::Serialize;

use super::{
    config::TrainConfig,
    gradients::{Gradients, Pieces},
    model::Batch,
    optimizer::{AdamW, joined, norm},
    place::Place,
    random::Key,
    run::guarded,
    whole::{Method, prepare},
};
use crate::{
    Result,
    bench::{Geometry, RandomLlama},
    platform::now_ms,
    weights::DType,
};

/// What was measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Speed {
    /// Of the model.
    pub geometry: &'static str,
    /// Tokens of a micro-batch, one a step.
    pub tokens: usize,
    /// Seconds of each step, the first (kernels are compiled and tuned) included.
    pub seconds: Vec<f64>,
    /// Over the faster half of the steps.
    pub tokens_per_second: f64,
    /// 10¹² floating-point operations a second: four for each token and matrix value (forward, and backward to the inputs), six where they are
    /// trained; recomputation not counted.
    pub tflops: f64,
    /// Values that are trained.
    pub trained: usize,
}

/// Trains `steps` steps with a configuration's backend, precision, LoRA, micro_batch, max_length, segment and loss_chunk.
pub fn bench(config: &TrainConfig, geometry: Geometry, steps: usize) -> Result<Speed> {
    guarded(|| bench_unguarded(config, geometry, steps))
}

fn bench_unguarded(config: &TrainConfig, geometry: Geometry, steps: usize) -> Result<Speed> {
    let place = Place::open(config.backend, config.precision, config.device)?;
    let weights = RandomLlama::new(geometry, DType::F16);
    let rows: Vec<u32> = (geometry.vocabulary as u32 - 16..geometry.vocabulary as u32).collect();
    let (trainee, mut parameters) = prepare(config, &place, &weights, rows)?;
    let mut optimizer = AdamW::new(config.optimizer, &parameters);
    let tokens = config.micro_batch * config.max_length;
    let key = Key::new(&[config.seed]);
    let ids: Vec<u32> = (0..tokens as u64).map(|i| (key.uniform(i) * geometry.vocabulary as f64) as u32).collect();
    let trained = (0..tokens).map(|at| at % config.max_length > 0).collect();
    let batch = Batch { rows: config.micro_batch, length: config.max_length, ids, trained };
    let pieces = Pieces { segment: config.blocks_at_a_time(geometry.layers), loss_chunk: config.loss_chunk };
    let mut seconds = Vec::new();
    for step in 0..steps as u64 {
        let start = now_ms();
        let mut sums = Gradients::new(&trainee.layout);
        let dropout = (trainee.lora.dropout > 0.0).then_some(key.with(step));
        trainee.add_gradients(&parameters, &batch, 1.0 / tokens as f64, dropout, pieces, &mut sums);
        let gradients = joined(sums.into_tensors(&parameters));
        norm(&gradients)?;
        optimizer.step(&mut parameters, gradients, 1e-5);
        seconds.push((now_ms() - start) / 1e3);
    }
    let mut fastest = seconds.clone();
    fastest.sort_by(f64::total_cmp);
    fastest.truncate(fastest.len().div_ceil(2));
    let tokens_per_second = (tokens * fastest.len()) as f64 / fastest.iter().sum::<f64>();
    let Geometry { layers, hidden, feed_forward, heads, kv_heads, vocabulary, name, .. } = geometry;
    let kv = hidden / heads * kv_heads;
    let values = layers * (2 * hidden * hidden + 2 * hidden * kv + 3 * hidden * feed_forward) + vocabulary * hidden;
    Ok(Speed {
        geometry: name,
        tokens,
        seconds,
        tokens_per_second,
        tflops: if config.method == Method::Full { 6.0 } else { 4.0 } * values as f64 * tokens_per_second / 1e12,
        trained: trainee.layout.n_values(),
    })
}
