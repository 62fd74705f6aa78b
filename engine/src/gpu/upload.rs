//! Bytes on their way to the GPU, through a few staging buffers that are mapped again and again: no allocation a piece, and the
//! memory for any number of bytes is bounded.

use std::collections::VecDeque;

use futures_channel::oneshot;

use super::{Buffer, Gpu};
use crate::{Result, error::GpuError};

/// Pieces under way: one is filled while others are copied.
const STAGES: usize = 4;

/// Bytes, a multiple of four of them, for a place in a buffer.
#[derive(Debug, Clone, Copy)]
pub struct Upload<'a> {
    /// Where they go.
    pub to: &'a Buffer,
    /// The first one's place.
    pub offset: u64,
    /// What goes there.
    pub bytes: &'a [u8],
}

/// Uploads in pieces.
#[derive(Debug)]
pub struct Uploads {
    gpu: Gpu,
    /// Bytes of a staging buffer.
    stage_bytes: u64,
    /// From the oldest on.
    busy: VecDeque<Stage>,
}

/// A staging buffer that is copied from, and then mapped again.
#[derive(Debug)]
struct Stage {
    buffer: wgpu::Buffer,
    mapped: oneshot::Receiver<std::result::Result<(), wgpu::BufferAsyncError>>,
    submission: wgpu::SubmissionIndex,
}

impl Uploads {
    /// For pieces of at most `piece_bytes`.
    pub fn new(gpu: &Gpu, piece_bytes: u64) -> Self {
        Self { gpu: gpu.clone(), stage_bytes: piece_bytes.max(4).next_multiple_of(8), busy: VecDeque::new() }
    }

    /// Sends a piece, which may be for several places. Waits while too many are under way.
    pub async fn send(&mut self, piece: &[Upload<'_>]) -> Result<()> {
        let total: u64 = piece.iter().map(|upload| upload.bytes.len() as u64).sum();
        assert!(total <= self.stage_bytes, "a piece of {total} bytes in a stage of {}", self.stage_bytes);
        let buffer = self.stage().await?;
        let mut view = buffer.slice(..).get_mapped_range_mut().map_err(|e| GpuError::Refused(e.to_string()))?;
        let mut encoder = self.gpu.encoder("upload");
        let mut at = 0;
        for Upload { to, offset, bytes } in piece.iter().filter(|upload| !upload.bytes.is_empty()) {
            #[cfg(not(target_family = "wasm"))]
            view.slice(at..at + bytes.len()).copy_from_slice(bytes);
            // wgpu's own way takes a copy of what is mapped before it is written, in fresh memory.
            #[cfg(target_family = "wasm")]
            view.as_uint8array().subarray(at as u32, (at + bytes.len()) as u32).copy_from(bytes);
            encoder.copy_buffer_to_buffer(&buffer, at as u64, to.raw(), *offset, bytes.len() as u64);
            at += bytes.len();
        }
        drop(view);
        buffer.unmap();
        let submission = self.gpu.inner.queue.submit([encoder.finish()]);
        let (sender, mapped) = oneshot::channel();
        buffer.slice(..).map_async(wgpu::MapMode::Write, move |result| {
            let _ = sender.send(result);
        });
        self.busy.push_back(Stage { buffer, mapped, submission });
        self.gpu.check()
    }

    /// Everything is on the GPU.
    pub async fn finish(self) -> Result<()> {
        self.gpu.flush().await
    }

    /// A mapped staging buffer.
    async fn stage(&mut self) -> Result<wgpu::Buffer> {
        if self.busy.len() < STAGES {
            let buffer = self.gpu.inner.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("upload"),
                size: self.stage_bytes,
                usage: wgpu::BufferUsages::MAP_WRITE | wgpu::BufferUsages::COPY_SRC,
                mapped_at_creation: true,
            });
            self.gpu.check()?;
            return Ok(buffer);
        }
        let Stage { buffer, mapped, submission } = self.busy.pop_front().expect("there are some");
        self.gpu.wait(Some(submission));
        let mapped = mapped.await.map_err(|_| GpuError::Lost("an upload never ended".into()))?;
        self.gpu.check()?;
        mapped.map_err(|e| GpuError::Lost(e.to_string()))?;
        Ok(buffer)
    }
}

impl Drop for Uploads {
    fn drop(&mut self) {
        // A browser would give the memory back when it finds the time.
        self.busy.iter().for_each(|stage| stage.buffer.destroy());
    }
}
