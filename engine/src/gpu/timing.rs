//! How long work takes on the GPU itself, by timestamp queries.
//!
//! Timestamps are taken at the ends of compute passes, since browsers offer no others. While a [`Timer`] of whole recordings runs,
//! nothing else changes; while one of kernels does, every dispatch is a pass of its own, which costs a little: use it to see where
//! time goes. Browsers round timestamps (Chromium to 100 µs), so short kernels are only right on average.

use std::collections::BTreeMap;

use super::Gpu;
use crate::Result;

/// Timestamps a query set holds, WebGPU's most: two a measurement.
const QUERIES: u32 = 4096;

/// The name under which [`Grain::Recording`] measures.
pub(super) const RECORDING: &str = "recording";

/// What is measured as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grain {
    /// Each dispatch, by its shader's name.
    Kernel,
    /// Each recording from its first dispatch to its last, gaps included.
    Recording,
}

/// Launches of a kernel, or recordings, and the GPU time they took.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct KernelTime {
    /// Launches.
    pub launches: u32,
    /// Nanoseconds on the GPU, all launches together.
    pub nanos: f64,
}

/// Timestamps that are being collected.
pub(super) struct Timing {
    pub(super) grain: Grain,
    set: wgpu::QuerySet,
    /// What was measured, in order: two queries each.
    names: Vec<String>,
    /// Measurements for which the set had no place.
    missed: bool,
}

impl Timing {
    /// The timestamps of the next pass; none when the set is full.
    pub(super) fn next(&mut self, name: &str) -> Option<wgpu::ComputePassTimestampWrites<'_>> {
        let first = self.names.len() as u32 * 2;
        if first + 2 > QUERIES {
            self.missed = true;
            return None;
        }
        self.names.push(name.to_owned());
        Some(wgpu::ComputePassTimestampWrites {
            query_set: &self.set,
            beginning_of_pass_write_index: Some(first),
            end_of_pass_write_index: Some(first + 1),
        })
    }
}

/// A measurement under way; dropping it ends it without a result.
#[derive(Debug)]
pub struct Timer {
    gpu: Gpu,
}

impl Drop for Timer {
    fn drop(&mut self) {
        *self.gpu.inner.timing.borrow_mut() = None;
    }
}

impl Gpu {
    /// Measures everything that is submitted from here on, up to 2,048 kernels or recordings; none where the device cannot.
    pub fn start_timing(&self, grain: Grain) -> Option<Timer> {
        let device = &self.inner.device;
        if !device.features().contains(wgpu::Features::TIMESTAMP_QUERY) {
            return None;
        }
        let set = device.create_query_set(&wgpu::QuerySetDescriptor {
            label: Some("timing"),
            ty: wgpu::QueryType::Timestamp,
            count: QUERIES,
        });
        *self.inner.timing.borrow_mut() = Some(Timing { grain, set, names: Vec::new(), missed: false });
        Some(Timer { gpu: self.clone() })
    }

    /// Dispatches submitted since the device was opened.
    pub fn launches(&self) -> u64 {
        self.inner.launches.get()
    }
}

impl Timer {
    /// Ends the measurement and gives the time of each kernel.
    pub async fn kernels(self) -> Result<BTreeMap<String, KernelTime>> {
        Ok(self.stop().await?.0)
    }

    /// Ends the measurement and gives the seconds of all that was submitted; none where the clock is too coarse for it or the
    /// queries did not suffice: a part must not be taken for all.
    pub async fn seconds(self) -> Result<Option<f64>> {
        let (times, missed) = self.stop().await?;
        let seconds = times.values().map(|time| time.nanos).sum::<f64>() / 1e9;
        Ok((seconds > 0.0 && !missed).then_some(seconds))
    }

    async fn stop(self) -> Result<(BTreeMap<String, KernelTime>, bool)> {
        let gpu = &self.gpu;
        let mut times: BTreeMap<String, KernelTime> = BTreeMap::new();
        let Some(timing) = gpu.inner.timing.borrow_mut().take() else { return Ok((times, false)) };
        let count = timing.names.len() as u32 * 2;
        if count == 0 {
            return Ok((times, timing.missed));
        }
        let bytes = u64::from(count) * 8;
        let device = &gpu.inner.device;
        let resolved = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("timestamps"),
            size: bytes,
            usage: wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC,
            mapped_at_creation: false,
        });
        let out = gpu.buffer("timestamps", bytes)?;
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("timing") });
        encoder.resolve_query_set(&timing.set, 0..count, &resolved, 0);
        encoder.copy_buffer_to_buffer(&resolved, 0, out.raw(), 0, bytes);
        gpu.inner.queue.submit([encoder.finish()]);
        let stamps: Vec<u64> = bytemuck::pod_collect_to_vec(&gpu.read(&out, 0, bytes).await?);
        let period = f64::from(gpu.inner.queue.get_timestamp_period());
        for (name, stamps) in timing.names.into_iter().zip(stamps.chunks_exact(2)) {
            let time = times.entry(name).or_default();
            time.launches += 1;
            time.nanos += stamps[1].saturating_sub(stamps[0]) as f64 * period;
        }
        Ok((times, timing.missed))
    }
}
