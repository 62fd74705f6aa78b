//! Buffers that know their size and count towards the memory in use, and matrices of f32 in them.

use std::rc::Rc;

use super::Gpu;
use crate::Result;

/// A GPU buffer; its memory is given back when the last clone goes.
#[derive(Clone)]
pub struct Buffer {
    inner: Rc<BufferInner>,
}

struct BufferInner {
    gpu: Gpu,
    raw: wgpu::Buffer,
    id: u64,
    bytes: u64,
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Buffer({} bytes)", self.inner.bytes)
    }
}

impl Buffer {
    pub(super) fn new(gpu: Gpu, raw: wgpu::Buffer, bytes: u64) -> Self {
        let id = gpu.inner.next_id.get();
        gpu.inner.next_id.set(id + 1);
        gpu.inner.allocated.set(gpu.inner.allocated.get() + bytes);
        Self { inner: Rc::new(BufferInner { gpu, raw, id, bytes }) }
    }

    pub(super) fn raw(&self) -> &wgpu::Buffer {
        &self.inner.raw
    }

    pub(super) fn id(&self) -> u64 {
        self.inner.id
    }

    /// Size in bytes.
    pub fn bytes(&self) -> u64 {
        self.inner.bytes
    }
}

impl Drop for BufferInner {
    fn drop(&mut self) {
        let gpu = &self.gpu.inner;
        gpu.allocated.set(gpu.allocated.get() - self.bytes);
        gpu.dropped.borrow_mut().push(self.id);
        self.raw.destroy();
    }
}

/// Row length in memory: kernels load eight values at a time, so rows begin at multiples of eight. The padding stays zero.
pub const fn padded(cols: usize) -> usize {
    cols.next_multiple_of(8)
}

/// A matrix of f32 on the GPU: `rows` × `cols`, rows `stride` apart.
#[derive(Debug, Clone)]
pub struct Tensor {
    /// Where it lives.
    pub buffer: Buffer,
    /// Rows that fit.
    pub rows: usize,
    /// Columns that count.
    pub cols: usize,
    /// Distance between rows in f32.
    pub stride: usize,
}

impl Gpu {
    /// A zeroed matrix.
    pub fn tensor(&self, label: &str, rows: usize, cols: usize) -> Result<Tensor> {
        let stride = padded(cols);
        Ok(Tensor { buffer: self.buffer(label, (rows * stride * 4) as u64)?, rows, cols, stride })
    }

    /// A matrix from values in row-major order.
    pub fn upload(&self, label: &str, values: &[f32], cols: usize) -> Result<Tensor> {
        assert!(cols > 0 && values.len().is_multiple_of(cols), "{} values are not rows of {cols}", values.len());
        let tensor = self.tensor(label, values.len() / cols, cols)?;
        let mut rows = vec![0.0f32; tensor.rows * tensor.stride];
        for (row, source) in rows.chunks_mut(tensor.stride).zip(values.chunks(cols)) {
            row[..cols].copy_from_slice(source);
        }
        self.write(&tensor.buffer, 0, bytemuck::cast_slice(&rows));
        Ok(tensor)
    }

    /// A buffer of words.
    pub fn upload_words(&self, label: &str, words: &[u32]) -> Result<Buffer> {
        let buffer = self.buffer(label, (words.len() * 4) as u64)?;
        self.write(&buffer, 0, bytemuck::cast_slice(words));
        Ok(buffer)
    }

    /// The first `rows` rows of a matrix, without padding.
    pub async fn download(&self, tensor: &Tensor, rows: usize) -> Result<Vec<f32>> {
        assert!(rows <= tensor.rows, "{rows} rows of a tensor that has {}", tensor.rows);
        let bytes = self.read(&tensor.buffer, 0, (rows * tensor.stride * 4) as u64).await?;
        let values: Vec<f32> = bytemuck::pod_collect_to_vec(&bytes);
        Ok(values.chunks(tensor.stride.max(1)).flat_map(|row| row[..tensor.cols].iter().copied()).collect())
    }

    /// The first `count` words of a buffer.
    pub async fn download_words(&self, buffer: &Buffer, count: usize) -> Result<Vec<u32>> {
        let bytes = self.read(buffer, 0, (count * 4) as u64).await?;
        Ok(bytemuck::pod_collect_to_vec(&bytes))
    }
}
