//! Bytes on their way to the GPU, through a few staging buffers that are mapped again and again: no allocation a piece, and the
//! memory for any number of bytes is bounded.

use std::collections::VecDeque;

use futures_channel::oneshot;

use super::{Buffer, Gpu};
use crate::{Result, error::GpuError};

/// Pieces under way: one is filled while others are copied.
const STAGES: usize = 4;

/// Mapped ranges begin at multiples of this.
const ALIGNMENT: u64 = wgpu::MAP_ALIGNMENT;

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
    /// Most pieces under way.
    stages: usize,
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
        // Room for a gap in front of each place's bytes.
        let stage_bytes = piece_bytes.next_multiple_of(ALIGNMENT) + ALIGNMENT;
        Self { gpu: gpu.clone(), stage_bytes, stages: STAGES, busy: VecDeque::new() }
    }

    /// The same with another number of pieces under way, at least 1, where they are large.
    #[cfg(not(target_family = "wasm"))]
    pub fn with_stages(gpu: &Gpu, piece_bytes: u64, stages: usize) -> Self {
        let mut uploads = Self::new(gpu, piece_bytes);
        uploads.stages = stages.max(1);
        uploads
    }

    /// Sends a piece, which may be for one place or two. Waits while too many are under way.
    pub async fn send(&mut self, piece: &[Upload<'_>]) -> Result<()> {
        let buffer = self.stage().await?;
        let mut encoder = self.gpu.encoder("upload");
        let mut at = 0;
        for Upload { to, offset, bytes } in piece.iter().filter(|upload| !upload.bytes.is_empty()) {
            write_mapped(&buffer, at, bytes)?;
            encoder.copy_buffer_to_buffer(&buffer, at as u64, to.raw(), *offset, bytes.len() as u64);
            at = (at + bytes.len()).next_multiple_of(ALIGNMENT as usize);
        }
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
        if self.busy.len() < self.stages {
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

/// By several threads where it is much: one alone writes slower than a card reads.
#[cfg(not(target_family = "wasm"))]
fn write_mapped(buffer: &wgpu::Buffer, at: usize, bytes: &[u8]) -> Result<()> {
    /// A model's load sends pieces of this size, and is busy on other threads.
    const SHARE: usize = crate::platform::LOAD_PIECE;
    let mut views = Vec::new();
    for (i, bytes) in bytes.chunks(SHARE).enumerate() {
        let first = (at + i * SHARE) as u64;
        let view = buffer.slice(first..first + bytes.len() as u64).get_mapped_range_mut().map_err(refused)?;
        views.push((view, bytes));
    }
    crate::platform::in_parallel(views.into_iter(), |(mut view, bytes)| view.copy_from_slice(bytes));
    Ok(())
}

/// The browser's array itself: wgpu's view for writing is made of a copy of what is mapped, in fresh memory, and copied back.
#[cfg(target_family = "wasm")]
fn write_mapped(buffer: &wgpu::Buffer, at: usize, bytes: &[u8]) -> Result<()> {
    let range = at as u64..(at + bytes.len()) as u64;
    buffer.slice(range).get_mapped_range().map_err(refused)?.as_uint8array().copy_from(bytes);
    Ok(())
}

fn refused(error: wgpu::MapRangeError) -> GpuError {
    GpuError::Refused(error.to_string())
}

impl Drop for Uploads {
    fn drop(&mut self) {
        // A browser would give the memory back when it finds the time.
        self.busy.iter().for_each(|stage| stage.buffer.destroy());
    }
}
