//! `copy` against its twin.

use super::Random;
use crate::{
    Result,
    error::GpuError,
    gpu::{Gpu, Recording},
    ops, reference,
};

/// A copy of a part of a buffer: what lies behind the part stays as it was.
pub async fn copy(gpu: &Gpu, seed: u64) -> Result<()> {
    let mut random = Random::new(seed);
    let words = 4 * random.pick(1..=2000);
    let bytes = 16 * random.pick(1..=words / 4);
    let mut words_of = |count: usize| -> Vec<u32> { (0..count).map(|_| random.bits() as u32).collect() };
    let (from, mut to) = (words_of(words), words_of(words));
    let (from_gpu, to_gpu) = (gpu.upload_words("from", &from)?, gpu.upload_words("to", &to)?);
    let mut recording = Recording::new();
    ops::copy(gpu, &mut recording, &from_gpu, &to_gpu, bytes as u64);
    recording.submit(gpu);
    reference::copy(&from, &mut to, bytes);
    let found = gpu.download_words(&to_gpu, words).await?;
    // Bits, not values: a word may be any, NaN included.
    match found.iter().zip(&to).position(|(found, expected)| found != expected) {
        None => Ok(()),
        Some(i) => {
            let detail = format!(
                "seed {seed}, {bytes} bytes of {}: word {i} is {:#x}, expected {:#x}",
                words * 4,
                found[i],
                to[i]
            );
            Err(GpuError::SelfTest { kernel: "copy".into(), detail }.into())
        }
    }
}
