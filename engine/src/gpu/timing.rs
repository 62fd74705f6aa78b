//! How long kernels take on the GPU itself, by timestamp queries.
//!
//! While [`Gpu::start_timing`] is in force every dispatch is a compute pass of its own with a timestamp at both ends, which costs
//! a little: use it to see where time goes, and the wall clock without it to see how much there is.

use std::collections::BTreeMap;

use super::Gpu;
use crate::Result;

/// Timestamps a query set holds, WebGPU's most: two a dispatch.
const QUERIES: u32 = 4096;

/// Launches of a kernel and the GPU time they took.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct KernelTime {
    /// Launches.
    pub launches: u32,
    /// Nanoseconds on the GPU, all launches together.
    pub nanos: f64,
}

/// Timestamps that are being collected.
pub(super) struct Timing {
    pub(super) set: wgpu::QuerySet,
    /// The kernels measured, in order: two queries each.
    pub(super) kernels: Vec<String>,
}

impl Timing {
    /// The timestamps of the next dispatch; none when the set is full.
    pub(super) fn next(&mut self, kernel: &str) -> Option<(u32, u32)> {
        let first = self.kernels.len() as u32 * 2;
        (first + 2 <= QUERIES).then(|| {
            self.kernels.push(kernel.to_owned());
            (first, first + 1)
        })
    }
}

impl Gpu {
    /// Measures every kernel from here on, up to 2,048 launches; whether the device can.
    pub fn start_timing(&self) -> bool {
        let device = &self.inner.device;
        if !device.features().contains(wgpu::Features::TIMESTAMP_QUERY) {
            return false;
        }
        let set = device.create_query_set(&wgpu::QuerySetDescriptor {
            label: Some("timing"),
            ty: wgpu::QueryType::Timestamp,
            count: QUERIES,
        });
        *self.inner.timing.borrow_mut() = Some(Timing { set, kernels: Vec::new() });
        true
    }

    /// Ends the measurement and gives the time of each kernel.
    pub async fn stop_timing(&self) -> Result<BTreeMap<String, KernelTime>> {
        let Some(timing) = self.inner.timing.borrow_mut().take() else { return Ok(BTreeMap::new()) };
        let count = timing.kernels.len() as u32 * 2;
        if count == 0 {
            return Ok(BTreeMap::new());
        }
        let bytes = u64::from(count) * 8;
        let device = &self.inner.device;
        let resolved = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("timestamps"),
            size: bytes,
            usage: wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC,
            mapped_at_creation: false,
        });
        let out = self.buffer("timestamps", bytes)?;
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("timing") });
        encoder.resolve_query_set(&timing.set, 0..count, &resolved, 0);
        encoder.copy_buffer_to_buffer(&resolved, 0, out.raw(), 0, bytes);
        self.inner.queue.submit([encoder.finish()]);
        let stamps: Vec<u64> = bytemuck::pod_collect_to_vec(&self.read(&out, 0, bytes).await?);
        let period = f64::from(self.inner.queue.get_timestamp_period());
        let mut times: BTreeMap<String, KernelTime> = BTreeMap::new();
        for (kernel, stamps) in timing.kernels.into_iter().zip(stamps.chunks_exact(2)) {
            let time = times.entry(kernel).or_default();
            time.launches += 1;
            time.nanos += stamps[1].saturating_sub(stamps[0]) as f64 * period;
        }
        Ok(times)
    }

    /// Dispatches submitted since the device was opened.
    pub fn launches(&self) -> u64 {
        self.inner.launches.get()
    }
}
