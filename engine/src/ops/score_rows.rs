//! `shaders/score_rows.wgsl`: inner products of stored vectors with questions.

use std::ops::Range;

use crate::{
    Result,
    gpu::{Buffer, Gpu, Recording, Tensor, Upload, Uploads, params},
    platform::LOAD_PIECE,
    weights::DType,
};

#[cfg(feature = "cli")]
mod host_rows;
#[cfg(feature = "cli")]
pub use host_rows::HostRows;

/// Rows of a tile: pieces of a block begin at multiples.
pub const ROW_TILE: usize = 64;
/// Tiles of a workgroup.
const GROUP_TILES: usize = 4;
/// Bytes of a quad.
const QUAD: usize = 16;
/// Most workgroups a dimension.
const MOST_GROUPS: usize = 65_535;
/// Most questions of a launch.
pub const MOST_QUESTIONS: usize = 8;

/// Rows on their way to a block, row-major.
#[derive(Debug, Clone, Copy)]
pub enum Rows<'a> {
    /// (rows, dim)
    F32(&'a [f32]),
    /// (rows, dim)
    F16(&'a [half::f16]),
    /// Codes (rows, dim) and scales (rows).
    Int8(&'a [i8], &'a [f32]),
}

impl<'a> Rows<'a> {
    /// Bytes of the values and of one value.
    fn bytes(self) -> (&'a [u8], usize) {
        match self {
            Self::F32(values) => (bytemuck::cast_slice(values), 4),
            Self::F16(values) => (bytemuck::cast_slice(values), 2),
            Self::Int8(codes, _) => (bytemuck::cast_slice(codes), 1),
        }
    }

    /// Some of the rows.
    pub fn slice(self, rows: Range<usize>, dim: usize) -> Self {
        let values = rows.start * dim..rows.end * dim;
        match self {
            Self::F32(all) => Self::F32(&all[values]),
            Self::F16(all) => Self::F16(&all[values]),
            Self::Int8(codes, scales) => Self::Int8(&codes[values], &scales[rows]),
        }
    }
}

/// Stored vectors on the GPU, in tiles of 64 rows: (tiles, quads, 64) words of 16 bytes. What no row fills is zero.
#[derive(Debug)]
pub struct RowBlock {
    codes: Buffer,
    scales: Buffer, // (tiles, 64); one word where the format has no scales
    quads: usize,
    rows: usize,
    dim: usize,
    value_bytes: usize,
}

impl RowBlock {
    /// Room for `rows` rows of `dim` values, zeros until they are written; [`DType::F32`], [`DType::F16`], or bytes for any other format.
    pub fn new(gpu: &Gpu, rows: usize, dim: usize, format: DType) -> Result<Self> {
        let (quads, tiles, value_bytes) = (quads(dim, format), rows.div_ceil(ROW_TILE), value_bytes(format));
        let codes = gpu.buffer("vectors", (tiles * quads * ROW_TILE * QUAD) as u64)?;
        let scales = gpu.buffer("scales", if value_bytes == 1 { (tiles * ROW_TILE * 4) as u64 } else { 4 })?;
        Ok(Self { codes, scales, quads, rows, dim, value_bytes })
    }

    /// Most rows of `dim` values that one block holds: one binding of at most two gigabytes, and scores for
    /// [`MOST_QUESTIONS`] in another.
    pub fn max_rows(gpu: &Gpu, dim: usize, format: DType) -> usize {
        let facts = gpu.facts();
        let limit = facts.max_binding_bytes.min(facts.max_buffer_bytes).min(1 << 31) as usize;
        let tiles = (limit / (quads(dim, format) * ROW_TILE * QUAD)).min(limit / (4 * MOST_QUESTIONS * ROW_TILE));
        tiles.max(1) * ROW_TILE
    }

    /// Writes rows from `first`, a multiple of [`ROW_TILE`], on; what they leave of their last tile becomes zero.
    pub async fn write(&self, uploads: &mut Uploads, first: usize, rows: Rows<'_>) -> Result<()> {
        let (bytes, value_bytes) = rows.bytes();
        assert_eq!(self.value_bytes, value_bytes, "rows of the block's format");
        let row_bytes = self.dim * value_bytes;
        let count = bytes.len() / row_bytes;
        assert!(
            first.is_multiple_of(ROW_TILE) && first + count <= self.rows,
            "rows {first} + {count} of {}",
            self.rows
        );
        let tile_bytes = self.quads * ROW_TILE * QUAD;
        let step = (LOAD_PIECE / tile_bytes).max(1) * ROW_TILE;
        let (mut packed, mut scales) = (Vec::new(), Vec::new());
        for at in (0..count).step_by(step) {
            let end = (at + step).min(count);
            pack(&bytes[at * row_bytes..end * row_bytes], row_bytes, self.quads, &mut packed);
            let tile = ((first + at) / ROW_TILE) as u64;
            let mut piece = vec![Upload { to: &self.codes, offset: tile * tile_bytes as u64, bytes: &packed }];
            if let Rows::Int8(_, all) = rows {
                scales.clear();
                scales.extend_from_slice(&all[at..end]);
                scales.resize(scales.len().next_multiple_of(ROW_TILE), 0.0);
                let bytes = bytemuck::cast_slice(&scales);
                piece.push(Upload { to: &self.scales, offset: tile * (ROW_TILE * 4) as u64, bytes });
            }
            uploads.send(&piece).await?;
        }
        Ok(())
    }

    /// Bytes of a piece that [`RowBlock::write`] sends, for [`Uploads::new`].
    pub fn piece_bytes(dim: usize, format: DType) -> u64 {
        let tile = quads(dim, format) * ROW_TILE * QUAD;
        let tiles = (LOAD_PIECE / tile).max(1);
        (tiles * (tile + ROW_TILE * 4)) as u64 + 256
    }

    /// Fills this block with another's rows, over and over, on the GPU: values for measurements.
    pub fn repeat(&self, gpu: &Gpu, other: &Self) {
        assert_eq!((self.quads, self.value_bytes), (other.quads, other.value_bytes), "blocks of one kind");
        gpu.repeat(&other.codes, &self.codes);
        if self.value_bytes == 1 {
            gpu.repeat(&other.scales, &self.scales);
        }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Values of a question that are read: to the end of the last quad.
    pub fn question_values(&self) -> usize {
        self.quads * (QUAD / self.value_bytes)
    }

    /// Bytes on the GPU.
    pub fn bytes(&self) -> u64 {
        self.codes.bytes() + self.scales.bytes()
    }
}

/// Values of a question of `dim` that [`score_rows`] reads: those past `dim` may be anything finite.
pub fn question_values(dim: usize, format: DType) -> usize {
    quads(dim, format) * (QUAD / value_bytes(format))
}

/// Quads of a row: the kernel takes two at a time.
fn quads(dim: usize, format: DType) -> usize {
    dim.div_ceil(QUAD / value_bytes(format)).next_multiple_of(2)
}

/// Bytes of a value.
fn value_bytes(format: DType) -> usize {
    match format {
        DType::F32 => 4,
        DType::F16 => 2,
        _ => 1,
    }
}

/// Row-major bytes in tiles, whole ones, zeros where there are no rows.
fn pack(bytes: &[u8], row_bytes: usize, quads: usize, packed: &mut Vec<u8>) {
    let tile_bytes = quads * ROW_TILE * QUAD;
    let count = bytes.len() / row_bytes;
    packed.clear();
    packed.resize(count.div_ceil(ROW_TILE) * tile_bytes, 0);
    for (tile, rows) in packed.chunks_mut(tile_bytes).zip(bytes.chunks(row_bytes * ROW_TILE)) {
        rows.chunks(row_bytes).enumerate().for_each(|(r, row)| pack_row(row, r, tile));
    }
}

/// A row's bytes, to its places in a tile.
fn pack_row(row: &[u8], r: usize, tile: &mut [u8]) {
    for (part, places) in row.chunks(QUAD).zip(tile.chunks_mut(ROW_TILE * QUAD)) {
        places[r * QUAD..r * QUAD + part.len()].copy_from_slice(part);
    }
}

/// Rows that x and y must have room for, for a launch of `questions`; y's further rows are overwritten.
pub fn question_rows(questions: usize) -> usize {
    assert!((1..=MOST_QUESTIONS).contains(&questions), "{questions} questions, 1 to {MOST_QUESTIONS} are possible");
    questions.next_power_of_two()
}

/// `y[q, r] = ⟨row r, x[q]⟩` for the first `questions` rows of x. Both have [`question_rows`] rows, and x [`question_values`]
/// columns.
pub fn score_rows(gpu: &Gpu, recording: &mut Recording, block: &RowBlock, x: &Tensor, y: &Tensor, questions: usize) {
    let questions = question_rows(questions);
    assert!(x.stride >= block.question_values(), "score_rows: questions of {} values", x.stride);
    assert!(
        y.cols >= block.rows && questions <= x.rows.min(y.rows),
        "score_rows: y is {}×{}, x has {} rows",
        y.rows,
        y.cols,
        x.rows
    );
    let tiles = block.rows.div_ceil(ROW_TILE);
    let params = params::ScoreRows {
        quads: block.quads as u32,
        rows: block.rows as u32,
        tiles: tiles as u32,
        x_stride: (x.stride / 4) as u32,
        y_stride: y.stride as u32,
    };
    let count = format!("QUESTIONS={questions}");
    let defines: &[&str] = match block.value_bytes {
        1 => &[&count, "INT8"],
        2 => &[&count],
        _ => &[&count, "F32"],
    };
    let buffers = [&block.codes, &block.scales, &x.buffer, &y.buffer];
    let groups = tiles.div_ceil(GROUP_TILES);
    let across = groups.min(MOST_GROUPS);
    recording.dispatch(gpu, ("score_rows", defines), params, &buffers, [across, groups.div_ceil(across.max(1)), 1]);
}
