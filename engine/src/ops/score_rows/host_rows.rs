//! Rows that wait in host memory, in a block's layout, so that sending them is a copy of bytes.

use super::{QUAD, ROW_TILE, RowBlock, Rows, pack_row, quads, value_bytes};
use crate::{
    Error, Result,
    gpu::{Upload, Uploads},
    weights::DType,
};

/// As many rows as a [`RowBlock`] takes at a time.
#[derive(Debug, Clone)]
pub struct HostRows {
    codes: Vec<u8>,   // (tiles, quads, 64) words of 16 bytes
    scales: Vec<f32>, // (tiles, 64); none where the format has no scales
    quads: usize,
    rows: usize,
    room: usize,
    dim: usize,
    value_bytes: usize,
}

impl HostRows {
    /// Memory for `room` rows of `dim` values, of which there are none yet; the formats are [`RowBlock::new`]'s.
    pub fn new(room: usize, dim: usize, format: DType) -> Result<Self> {
        let (quads, value_bytes, tiles) = (quads(dim, format), value_bytes(format), room.div_ceil(ROW_TILE));
        let (mut codes, mut scales) = (Vec::new(), Vec::new());
        let taken = codes
            .try_reserve_exact(tiles * quads * ROW_TILE * QUAD)
            .and_then(|()| scales.try_reserve_exact(if value_bytes == 1 { tiles * ROW_TILE } else { 0 }));
        taken
            .map_err(|e| Error::io("host memory", format!("{room} rows of {dim} that the GPU has no room for: {e}")))?;
        Ok(Self { codes, scales, quads, rows: 0, room, dim, value_bytes })
    }

    /// Appends rows, at most as many as there is room for.
    pub fn append(&mut self, rows: Rows<'_>) {
        let (bytes, value_bytes) = rows.bytes();
        assert_eq!(self.value_bytes, value_bytes, "rows of the format");
        let (row_bytes, first) = (self.dim * value_bytes, self.rows);
        let count = bytes.len() / row_bytes;
        assert!(count <= self.left(), "{first} + {count} rows of {}", self.room);
        self.rows += count;
        let (tiles, tile_bytes) = (self.rows.div_ceil(ROW_TILE), self.tile_bytes());
        self.codes.resize(tiles * tile_bytes, 0);
        for (i, row) in bytes.chunks_exact(row_bytes).enumerate() {
            let (tile, r) = ((first + i) / ROW_TILE, (first + i) % ROW_TILE);
            pack_row(row, r, &mut self.codes[tile * tile_bytes..][..tile_bytes]);
        }
        if let Rows::Int8(_, scales) = rows {
            self.scales.truncate(first);
            self.scales.extend_from_slice(scales);
            self.scales.resize(tiles * ROW_TILE, 0.0);
        }
    }

    /// Fills all the room with another's rows, whole tiles of them, over and over: values for measurements.
    pub fn repeat(&mut self, other: &Self) {
        assert_eq!((self.quads, self.value_bytes), (other.quads, other.value_bytes), "rows of one kind");
        assert!(other.rows > 0 && other.rows.is_multiple_of(ROW_TILE), "{} rows are not whole tiles", other.rows);
        let tiles = self.room.div_ceil(ROW_TILE);
        again(&mut self.codes, &other.codes, tiles * other.tile_bytes());
        again(&mut self.scales, &other.scales, if self.value_bytes == 1 { tiles * ROW_TILE } else { 0 });
        self.rows = self.room;
    }

    fn tile_bytes(&self) -> usize {
        self.quads * ROW_TILE * QUAD
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Rows that there is room for still.
    pub fn left(&self) -> usize {
        self.room - self.rows
    }

    /// Bytes that are sent.
    pub fn bytes(&self) -> u64 {
        (self.codes.len() + self.scales.len() * 4) as u64
    }
}

/// Refills `to` with so many values of `from`, again and again from its first.
fn again<T: Copy>(to: &mut Vec<T>, from: &[T], count: usize) {
    to.clear();
    while to.len() < count {
        to.extend_from_slice(&from[..from.len().min(count - to.len())]);
    }
}

impl RowBlock {
    /// Values of a row.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Bytes of [`ROW_TILE`] rows, scales included.
    pub fn tile_bytes(dim: usize, format: DType) -> u64 {
        let scales = if value_bytes(format) == 1 { ROW_TILE * 4 } else { 0 };
        (quads(dim, format) * ROW_TILE * QUAD + scales) as u64
    }

    /// The first rows of this block, in the same memory.
    pub fn head(&self, rows: usize) -> Self {
        assert!(rows <= self.rows, "{rows} rows of {}", self.rows);
        let (codes, scales) = (self.codes.clone(), self.scales.clone());
        Self { codes, scales, quads: self.quads, rows, dim: self.dim, value_bytes: self.value_bytes }
    }

    /// Sends rows over the first of this block.
    pub async fn take(&self, uploads: &mut Uploads, rows: &HostRows) -> Result<()> {
        assert_eq!((self.quads, self.value_bytes), (rows.quads, rows.value_bytes), "rows of one kind");
        assert!(rows.rows <= self.rows, "{} rows of {}", rows.rows, self.rows);
        let scales = bytemuck::cast_slice(&rows.scales);
        let codes = Upload { to: &self.codes, offset: 0, bytes: &rows.codes };
        uploads.send(&[codes, Upload { to: &self.scales, offset: 0, bytes: scales }]).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_lie_as_a_block_has_them_whatever_the_pieces() {
        let (dim, count) = (19, 150);
        let codes: Vec<i8> = (0..dim * count).map(|i| (i % 251) as i8).collect();
        let scales: Vec<f32> = (0..count).map(|i| i as f32).collect();
        let all = Rows::Int8(&codes, &scales);
        let mut packed = Vec::new();
        super::super::pack(all.bytes().0, dim, 2, &mut packed);
        let mut rows = HostRows::new(count, dim, DType::Q8_0).unwrap();
        for piece in [0..1, 1..63, 63..64, 64..129, 129..150] {
            rows.append(all.slice(piece, dim));
        }
        assert_eq!((rows.rows(), rows.left()), (count, 0));
        assert_eq!(rows.codes, packed);
        assert_eq!((&rows.scales[..count], &rows.scales[count..]), (&scales[..], &[0.0; 42][..]));
    }
}
