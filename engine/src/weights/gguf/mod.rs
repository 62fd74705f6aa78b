//! GGUF: the weight format of llama.cpp, versions 2 and 3, one file or several (`-00001-of-00003.gguf`).
//!
//! A file is a header (metadata, then name, shape, type and offset of each tensor) followed by the tensors' bytes, each at a
//! multiple of `general.alignment`. Only the header is read when opening, in pieces that double from 1 MiB, because nothing says
//! how long it is and a vocabulary makes it megabytes; tensors are read row by row when asked for. All numbers are
//! little-endian. Format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.

mod header;
mod write;

use std::collections::HashMap;

pub use write::{DEFAULT_ALIGNMENT, encode_header};

use super::{Metadata, MetadataExt, TensorInfo, Weights};
use crate::{
    Error, Result,
    order::sort_by,
    platform::{ByteSource, LocalFuture},
};
use header::{Header, Parsed};

/// Size of the first piece read of a header.
const FIRST_PIECE: u64 = 1 << 20;

/// An open GGUF model.
pub struct Gguf {
    /// The first file's name.
    name: String,
    metadata: Metadata,
    tensors: Vec<TensorInfo>,
    /// Where each tensor's bytes are, in the order of `tensors`.
    places: Vec<Place>,
    by_name: HashMap<String, usize>,
    files: Vec<Box<dyn ByteSource>>,
}

/// Where a tensor's bytes are.
struct Place {
    file: usize,
    offset: u64,
}

impl Gguf {
    /// Opens a model of one file, or of all its split files in any order.
    pub async fn open(files: Vec<Box<dyn ByteSource>>) -> Result<Self> {
        if files.is_empty() {
            return Err(Error::config("model", "no file given"));
        }
        let mut parts = Vec::new();
        for file in files {
            let header = read_header(file.as_ref()).await?;
            parts.push((file, header));
        }
        order_splits(&mut parts)?;
        Self::join(parts)
    }

    /// Opens a file on disk; when its name ends in `-00001-of-0000N.gguf`, its siblings too.
    #[cfg(feature = "cli")]
    pub fn open_path(path: impl AsRef<std::path::Path>) -> Result<Self> {
        let files = split_siblings(path.as_ref());
        let open = |file| Ok(Box::new(crate::platform::FileSource::open(file)?) as Box<dyn ByteSource>);
        let files = files.into_iter().map(open).collect::<Result<_>>()?;
        crate::platform::block_on(Self::open(files))
    }

    /// One model of all parts, which are in order: metadata of the first, tensors of all.
    fn join(parts: Vec<(Box<dyn ByteSource>, Header)>) -> Result<Self> {
        let mut model = Self {
            name: parts[0].0.name().to_owned(),
            metadata: Metadata::new(),
            tensors: Vec::new(),
            places: Vec::new(),
            by_name: HashMap::new(),
            files: Vec::new(),
        };
        for (index, (file, header)) in parts.into_iter().enumerate() {
            for (info, offset) in header.tensors {
                if model.by_name.insert(info.name.clone(), model.tensors.len()).is_some() {
                    return Err(Error::input(file.name(), info.name, "this tensor's name occurs twice"));
                }
                model.tensors.push(info);
                model.places.push(Place { file: index, offset });
            }
            if index == 0 {
                model.metadata = header.metadata;
            }
            model.files.push(file);
        }
        let promised = model.metadata.get_u64(&model.name, "split.tensors.count")?;
        if promised.is_some_and(|n| n != model.tensors.len() as u64) {
            let problem = format!("{} tensors found in {} files", model.tensors.len(), model.files.len());
            return Err(Error::input(&model.name, "split.tensors.count", problem));
        }
        // How the files were split says nothing about the model.
        model.metadata.retain(|key, _| !key.starts_with("split."));
        Ok(model)
    }
}

impl Gguf {
    /// Where `count` rows of `tensor` are from row `first` on: file, first byte, bytes.
    fn place_of(&self, tensor: &TensorInfo, first: usize, count: usize) -> Result<(&dyn ByteSource, u64, usize)> {
        let index = self.by_name.get(&tensor.name).copied();
        let index = index.ok_or_else(|| Error::input(&self.name, &tensor.name, "no such tensor"))?;
        let (info, place) = (&self.tensors[index], &self.places[index]);
        let rows = info.matrix().0;
        let row_bytes = info.row_bytes();
        let len = first.checked_add(count).filter(|&end| end <= rows).and_then(|_| row_bytes.checked_mul(count));
        let len = len.ok_or_else(|| {
            let problem = format!("{count} rows from row {first} asked for, but it has {rows}");
            Error::input(&self.name, &tensor.name, problem)
        })?;
        Ok((self.files[place.file].as_ref(), place.offset + first as u64 * row_bytes as u64, len))
    }
}

impl Weights for Gguf {
    fn name(&self) -> &str {
        &self.name
    }

    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.by_name.get(name).map(|&index| &self.tensors[index])
    }

    fn read_rows<'a>(&'a self, tensor: &'a TensorInfo, first: usize, count: usize) -> LocalFuture<'a, Result<Vec<u8>>> {
        Box::pin(async move {
            let (file, offset, len) = self.place_of(tensor, first, count)?;
            file.read(offset, len).await
        })
    }

    fn read_rows_into<'a>(
        &'a self,
        tensor: &'a TensorInfo,
        first: usize,
        count: usize,
        out: &'a mut Vec<u8>,
    ) -> LocalFuture<'a, Result<()>> {
        Box::pin(async move {
            let (file, offset, len) = self.place_of(tensor, first, count)?;
            // The header's sizes were checked against the file's.
            out.resize(len, 0);
            file.read_into(offset, out).await
        })
    }
}

/// Reads as much of a file as its header needs.
async fn read_header(file: &dyn ByteSource) -> Result<Header> {
    let mut bytes = Vec::new();
    let mut wanted = FIRST_PIECE.min(file.size());
    loop {
        let piece = usize::try_from(wanted).map_err(|_| Error::input(file.name(), "header", "too long"))? - bytes.len();
        bytes.extend(file.read(bytes.len() as u64, piece).await?);
        match header::parse(file.name(), &bytes, file.size())? {
            Parsed::Complete(header) => return Ok(header),
            // The parser has checked that the file goes on and that the header stays within its limit.
            Parsed::NeedMore(least) => wanted = least.max(2 * wanted).min(file.size()),
        }
    }
}

/// Puts split files in order and checks that each is there once.
fn order_splits(parts: &mut Vec<(Box<dyn ByteSource>, Header)>) -> Result<()> {
    let n_given = parts.len() as u64;
    for (file, header) in parts.iter() {
        let count = header.metadata.get_u64(file.name(), "split.count")?.filter(|&n| n > 0).unwrap_or(1);
        if count != n_given {
            let problem = format!("the model is in {count} files, {n_given} given: give all of them");
            return Err(Error::input(file.name(), "split.count", problem));
        }
    }
    sort_by(parts, |(_, a), (_, b)| split_no(a).cmp(&split_no(b)));
    for (expected, (file, header)) in parts.iter().enumerate() {
        let found = split_no(header);
        if found != expected as u64 {
            let problem = format!(
                "file number {found} found where number {expected} was expected: one is missing or given twice"
            );
            return Err(Error::input(file.name(), "split.no", problem));
        }
    }
    Ok(())
}

fn split_no(header: &Header) -> u64 {
    header.metadata.get("split.no").and_then(super::Value::as_u64).unwrap_or(0)
}

/// The names of all split files, from one of them; any other name stands alone.
#[cfg(feature = "cli")]
pub fn split_siblings(path: &std::path::Path) -> Vec<std::path::PathBuf> {
    let parse = || {
        let stem = path.file_name()?.to_str()?.strip_suffix(".gguf")?;
        let (rest, count) = stem.rsplit_once("-of-")?;
        let (prefix, no) = rest.rsplit_once('-')?;
        let five_digits = |text: &str| text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit());
        (five_digits(no) && five_digits(count)).then_some(())?;
        let count: usize = count.parse().ok().filter(|&n| n > 0)?;
        Some((1..=count).map(|no| path.with_file_name(split_name(prefix, no, count))).collect())
    };
    parse().unwrap_or_else(|| vec![path.to_owned()])
}

/// The name of split file `no` (from 1) of `count`.
pub fn split_name(prefix: &str, no: usize, count: usize) -> String {
    format!("{prefix}-{no:05}-of-{count:05}.gguf")
}
