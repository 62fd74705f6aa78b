//! Files of passage embeddings as the original writes them: a pickle of `(ids, array)`, an f16 or f32 array of (rows, dim).
//!
//! They are read without being run (module `pickle`) and never whole: [`Embeddings::rows`] reads the rows asked for. Arrays may be in C's
//! or Fortran's order, of NumPy 1 or 2, of protocols 2 to 5. [`mod@write`] makes the same files.

mod latin1;
pub mod matched;
pub mod shard;
pub mod write;

use std::path::{Path, PathBuf};

use half::f16;

use super::manifest::{MAX_COUNT, MAX_DIM};
use crate::{
    Error, Result,
    pickle::numpy::{Array, Dtype, Ids, read_pair},
    platform::{ByteSource, FileSource, block_on},
};
use latin1::Latin1;

/// An open file of embeddings.
pub struct Embeddings {
    source: Box<dyn ByteSource>,
    ids: Ids,
    dim: usize,
    is_f32: bool,
    /// Column after column.
    is_fortran: bool,
    values: Values,
}

enum Values {
    /// From this byte of the file on.
    Raw(u64),
    Latin1(Latin1),
}

impl std::fmt::Debug for Embeddings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Embeddings({}, {} rows of {})", self.source.name(), self.len(), self.dim)
    }
}

impl Embeddings {
    /// Opens a file: its ids are read, its array is found and measured.
    pub fn open(path: &Path) -> Result<Self> {
        Self::read(Box::new(FileSource::open(path)?))
    }

    /// The same from any bytes.
    pub fn read(source: Box<dyn ByteSource>) -> Result<Self> {
        let (ids, array) = read_pair(source.as_ref())?;
        let Array { dtype, shape, is_fortran, bytes } = array;
        let bad = |problem: String| Error::input(source.name(), "array", problem);
        let [rows, dim] = shape[..] else { return Err(bad(format!("shape {shape:?}, (rows, dim) expected"))) };
        if dim == 0 || dim > MAX_DIM || rows as u64 > MAX_COUNT {
            return Err(bad(format!("shape {shape:?}, at most {MAX_COUNT} rows of 1 to {MAX_DIM} values expected")));
        }
        if rows != ids.len() {
            return Err(bad(format!("{rows} rows, but there are {} ids", ids.len())));
        }
        let is_f32 = dtype == Dtype::F32;
        let expected = (rows * dim * if is_f32 { 4 } else { 2 }) as u64;
        let (values, found) = match bytes.is_latin1 {
            false => (Values::Raw(bytes.place), bytes.len),
            true => {
                let text = Latin1::scan(source.as_ref(), bytes.place, bytes.len)?;
                let found = text.len();
                (Values::Latin1(text), found)
            }
        };
        if found != expected {
            return Err(bad(format!("{found} bytes of values, {expected} expected for {rows} rows of {dim}")));
        }
        Ok(Self { source, ids, dim, is_f32, is_fortran, values })
    }

    /// The file's name.
    pub fn name(&self) -> &str {
        self.source.name()
    }

    /// The file's size.
    pub(super) fn bytes(&self) -> u64 {
        self.source.size()
    }

    /// Some of the file's bytes.
    pub(super) fn sample(&self, start: u64, len: usize) -> Result<Vec<u8>> {
        block_on(self.source.read(start, len))
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Values of a row.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Whether the values are f32, not f16.
    pub fn is_f32(&self) -> bool {
        self.is_f32
    }

    /// The id of a row; a whole number in decimal digits.
    pub fn id(&self, row: usize) -> &str {
        self.ids.get(row)
    }

    /// How many ids are numbers in the file, not strings.
    pub fn number_ids(&self) -> usize {
        self.ids.numbers
    }

    /// `count` rows from `first` on: (count, dim), all finite.
    pub fn rows(&self, first: usize, count: usize) -> Result<Vec<f32>> {
        assert!(first + count <= self.len(), "rows {first} + {count} of {}", self.len());
        let values = match self.is_fortran {
            false => self.values(first * self.dim, count * self.dim)?,
            true => {
                let mut values = vec![0.0; count * self.dim];
                for column in 0..self.dim {
                    let part = self.values(column * self.len() + first, count)?;
                    part.iter().enumerate().for_each(|(row, value)| values[row * self.dim + column] = *value);
                }
                values
            }
        };
        match values.iter().position(|value| !value.is_finite()) {
            None => Ok(values),
            Some(at) => {
                let row = first + at / self.dim;
                let place = format!("row {row} (id {:?})", self.id(row));
                Err(Error::input(self.name(), place, "a value that is infinite or not a number"))
            }
        }
    }

    /// Values in the order of the file.
    fn values(&self, first: usize, count: usize) -> Result<Vec<f32>> {
        let width = if self.is_f32 { 4 } else { 2 };
        let (start, len) = ((first * width) as u64, count * width);
        let bytes = match &self.values {
            Values::Raw(place) => block_on(self.source.read(place + start, len))?,
            Values::Latin1(text) => text.read(self.source.as_ref(), start, len)?,
        };
        Ok(match self.is_f32 {
            true => bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect(),
            false => bytes.as_chunks::<2>().0.iter().map(|bytes| f16::from_le_bytes(*bytes).to_f32()).collect(),
        })
    }
}

/// Files that patterns name, in the order of their names, and those left out: the original keeps its index (`index.faiss`,
/// `index_meta.faiss`) beside the embeddings, and its own `dir/*` then picks it up as embeddings.
pub fn find(patterns: &[String]) -> Result<(Vec<PathBuf>, Vec<PathBuf>)> {
    let mut files = Vec::new();
    for pattern in patterns {
        // A name may have characters of patterns.
        if Path::new(pattern).is_file() {
            files.push(pattern.into());
            continue;
        }
        // As in a shell: letters are as they are, and `*` does not name what begins with a dot, files under way.
        let dots = glob::MatchOptions { require_literal_leading_dot: true, ..glob::MatchOptions::new() };
        let paths =
            glob::glob_with(pattern, dots).map_err(|e| Error::config("embeddings", format!("{pattern:?}: {e}")))?;
        let before = files.len();
        for path in paths {
            let path = path.map_err(|e| Error::io(e.path().display().to_string(), e.error()))?;
            if path.is_file() {
                files.push(path);
            }
        }
        if files.len() == before {
            return Err(Error::io(pattern, "no such file"));
        }
    }
    files.sort();
    files.dedup();
    let is_index = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("index"));
    let (indices, files): (Vec<_>, Vec<_>) = files.into_iter().partition(is_index);
    if files.is_empty() {
        return Err(Error::config("embeddings", "only index files, embeddings expected"));
    }
    Ok((files, indices))
}
