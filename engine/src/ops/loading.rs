//! Weights from a file to the GPU: first all buffers, then one stream of pieces through them.
//!
//! ```text
//! read → repack → staging buffer → copy on the GPU, while the next piece is read
//! ```
//!
//! Every piece is known before the first is read, so that they come in the file's order, and a GPU that is too small says so
//! at once. Host memory is bounded by the pieces under way.

#[cfg(all(test, feature = "cli"))]
mod tests;

use std::collections::HashMap;

use super::{
    Matrix, Packed,
    matrix::{Part, max_rows},
    packed_words,
};
use crate::{
    Error, Result,
    gpu::{Buffer, Gpu, Upload, Uploads},
    order::sort_by,
    platform::LOAD_PIECE,
    weights::{TensorInfo, Weights, quant},
};

/// Buffers that wait for their tensors.
pub struct Loading<'a> {
    gpu: &'a Gpu,
    weights: &'a dyn Weights,
    pieces: Vec<Piece<'a>>,
}

/// Consecutive rows of a tensor and where they go.
struct Piece<'a> {
    tensor: &'a TensorInfo,
    first: usize,
    rows: usize,
    place: Place,
}

enum Place {
    /// In GPU layout, from this row on.
    Rows { w: Buffer, s: Buffer, at: usize },
    /// As f32.
    Values(Buffer),
}

impl<'a> Loading<'a> {
    /// Nothing yet.
    pub fn new(gpu: &'a Gpu, weights: &'a dyn Weights) -> Self {
        Self { gpu, weights, pieces: Vec::new() }
    }

    /// A matrix of the named tensors, stacked in order. Its values come with [`Loading::run`].
    pub fn matrix(&mut self, names: &[String]) -> Result<Matrix> {
        let tensors: Vec<&TensorInfo> = names.iter().map(|name| self.find(name)).collect::<Result<_>>()?;
        let cols = tensors[0].matrix().1;
        if let Some(odd) = tensors.iter().find(|t| t.matrix().1 != cols) {
            let problem = format!("shape {:?}, {cols} columns expected", odd.shape);
            return Err(Error::input(self.weights.name(), &odd.name, problem));
        }
        let mut matrix = Matrix { rows: 0, cols, parts: Vec::new() };
        for run in tensors.chunk_by(|a, b| a.dtype == b.dtype) {
            self.place(&mut matrix, run)?;
        }
        Ok(matrix)
    }

    /// A tensor of one row as f32. Its values come with [`Loading::run`].
    pub fn vector(&mut self, name: &str) -> Result<Buffer> {
        let tensor = self.find(name)?;
        let (rows, cols) = tensor.matrix();
        if rows != 1 {
            let problem = format!("shape {:?}, one row expected", tensor.shape);
            return Err(Error::input(self.weights.name(), name, problem));
        }
        let buffer = self.gpu.tensor(name, 1, cols)?.buffer;
        self.pieces.push(Piece { tensor, first: 0, rows: 1, place: Place::Values(buffer.clone()) });
        Ok(buffer)
    }

    /// Reads, repacks and uploads everything. `progress` hears the number of bytes of each piece.
    pub async fn run(self, progress: &mut dyn FnMut(u64)) -> Result<()> {
        let Self { gpu, weights, mut pieces } = self;
        // In the file's order, as a network or disk gives most.
        let places = weights.tensors().iter().enumerate().map(|(i, tensor)| (tensor.name.as_str(), i));
        let places: HashMap<&str, usize> = places.collect();
        let place = |piece: &Piece| (places[piece.tensor.name.as_str()], piece.first);
        sort_by(&mut pieces, |a, b| place(a).cmp(&place(b)));
        let largest = pieces.iter().map(Piece::packed_bytes).max().unwrap_or(0);
        let mut uploads = Uploads::new(gpu, largest as u64);
        // Memory that serves every piece.
        let (mut bytes, mut packed) = (Vec::new(), Packed::default());
        for piece in &pieces {
            weights.read_rows_into(piece.tensor, piece.first, piece.rows, &mut bytes).await?;
            piece.upload(gpu, &mut uploads, &mut packed, &bytes).await?;
            progress(bytes.len() as u64);
        }
        uploads.finish().await
    }

    fn find(&self, name: &str) -> Result<&'a TensorInfo> {
        let tensor = self.weights.tensor(name);
        tensor.ok_or_else(|| Error::input(self.weights.name(), name, "the model has no such tensor"))
    }

    /// Adds tensors of one format to a matrix, in as few parts as the limits allow.
    fn place(&mut self, matrix: &mut Matrix, run: &[&'a TensorInfo]) -> Result<()> {
        let dtype = run[0].dtype;
        let most = max_rows(self.gpu, dtype, matrix.cols);
        let mut left: usize = run.iter().map(|t| t.matrix().0).sum();
        let most_rows = (LOAD_PIECE / dtype.row_bytes(matrix.cols).max(1)).max(1);
        // Where it stands: tensor and row within it.
        let (mut tensor, mut row) = (0, 0);
        while left > 0 {
            let part = Part::new(self.gpu, dtype, matrix.rows, left.min(most), matrix.cols)?;
            let mut filled = 0;
            while filled < part.rows {
                if row == run[tensor].matrix().0 {
                    (tensor, row) = (tensor + 1, 0);
                    continue;
                }
                // Pieces of about the same size: a small last one would cost a whole request.
                let tensor_rows = run[tensor].matrix().0;
                let even = tensor_rows.div_ceil(tensor_rows.div_ceil(most_rows));
                let rows = even.min(part.rows - filled).min(tensor_rows - row);
                let place = Place::Rows { w: part.w.clone(), s: part.s.clone(), at: filled };
                self.pieces.push(Piece { tensor: run[tensor], first: row, rows, place });
                (row, filled) = (row + rows, filled + rows);
            }
            left -= part.rows;
            matrix.push(part);
        }
        Ok(())
    }
}

impl Piece<'_> {
    /// Bytes in GPU layout.
    fn packed_bytes(&self) -> usize {
        let (w, s) = packed_words(self.tensor.dtype, self.tensor.matrix().1);
        self.rows * (w + s) * 4
    }

    async fn upload(&self, gpu: &Gpu, uploads: &mut Uploads, packed: &mut Packed, bytes: &[u8]) -> Result<()> {
        let (dtype, cols) = (self.tensor.dtype, self.tensor.matrix().1);
        match &self.place {
            Place::Values(buffer) => {
                let mut values = vec![0.0; cols];
                quant::dequantize(dtype, bytes, &mut values);
                gpu.write(buffer, 0, bytemuck::cast_slice(&values));
                Ok(())
            }
            Place::Rows { w, s, at } => {
                let (w_words, s_words) = packed_words(dtype, cols);
                let offset = |words: usize| (at * words * 4) as u64;
                // Floats whose rows are whole groups of eight are as the GPU wants them.
                let is_as_stored = dtype.block_len() == 1 && bytes.len() == self.rows * w_words * 4;
                if is_as_stored {
                    return uploads.send(&[Upload { to: w, offset: offset(w_words), bytes }]).await;
                }
                packed.fill(dtype, bytes, cols);
                let [quants, scales] = [&packed.w, &packed.s].map(|words| bytemuck::cast_slice(words));
                let quants = Upload { to: w, offset: offset(w_words), bytes: quants };
                let scales = Upload { to: s, offset: offset(s_words), bytes: scales };
                uploads.send(&[quants, scales]).await
            }
        }
    }
}

impl std::fmt::Debug for Loading<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Loading({} pieces of {})", self.pieces.len(), self.weights.name())
    }
}
