//! Any model to GGUF version 3, one file or several.
//!
//! Rows stream through: a piece is read as stored, widened to f32, narrowed to its new format on all cores, and written; a tensor whose format
//! stays is copied. At most `PIECE_VALUES` values are in memory. Files are written beside their final names and renamed at the end, so a
//! file that has its name is complete.

mod policy;
mod writer;

use std::path::{Path, PathBuf};

pub use policy::FileType;

use super::{
    Metadata, TensorInfo, Value, Weights,
    gguf::{DEFAULT_ALIGNMENT, encode_header, split_name},
    quant,
};
use crate::{Error, Result, platform::block_on};
pub(super) use writer::PendingFile;

/// Values converted at a time: 16 MiB of f32.
pub(super) const PIECE_VALUES: usize = 4 << 20;

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The files, in order.
    pub files: Vec<PathBuf>,
    /// Their bytes together.
    pub n_bytes: u64,
    /// Formats that are not what was asked for, with the reason: one line each.
    pub notes: Vec<String>,
}

/// Converts a model. `progress` gets (bytes written, bytes in all) as it goes; split files are named like llama.cpp's,
/// `OUT-00001-of-0000N.gguf`, when `split_max_bytes` is given and one does not suffice.
pub fn convert(
    weights: &dyn Weights,
    out: &Path,
    file_type: FileType,
    split_max_bytes: Option<u64>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Report> {
    let tied = weights.tensor("output.weight").is_none();
    let plan = |tensor: &TensorInfo| TensorInfo { dtype: file_type.dtype_of(tensor, tied), ..tensor.clone() };
    let targets: Vec<TensorInfo> = weights.tensors().iter().map(plan).collect();
    if targets.is_empty() {
        return Err(Error::input(weights.name(), "tensors", "none found"));
    }
    // The header of the first file holds the vocabulary: megabytes that count.
    let header_bytes = encode_header(weights.metadata(), &targets)?.0.len() as u64;
    let shards = assign(&targets, header_bytes, split_max_bytes);
    let names = file_names(out, shards.len())?;
    let total = targets.iter().map(n_bytes).sum();
    let (mut written, mut pending) = (0, Vec::new());
    for (no, (shard, path)) in shards.iter().zip(&names).enumerate() {
        let metadata = shard_metadata(weights, file_type, no, shards.len(), targets.len());
        let mut file = PendingFile::create(path)?;
        let (header, offsets) = encode_header(&metadata, shard)?;
        file.write(&header)?;
        for (target, offset) in shard.iter().zip(offsets) {
            file.pad_to(header.len() as u64 + offset)?;
            let source = weights.tensor(&target.name).expect("targets are the source's tensors");
            write_tensor(weights, source, target, &mut file, &mut |n| {
                written += n;
                progress(written, total);
            })?;
        }
        // The last tensor is padded too: readers of the format map whole aligned ranges.
        file.pad_to(file.written().next_multiple_of(alignment(&metadata)))?;
        pending.push(file);
    }
    let sizes = pending.iter().map(PendingFile::written).sum();
    pending.into_iter().try_for_each(PendingFile::finish)?;
    Ok(Report { files: names, n_bytes: sizes, notes: notes(&targets, file_type) })
}

fn n_bytes(tensor: &TensorInfo) -> u64 {
    tensor.matrix().0 as u64 * tensor.row_bytes() as u64
}

fn alignment(metadata: &Metadata) -> u64 {
    metadata.get("general.alignment").and_then(Value::as_u64).unwrap_or(DEFAULT_ALIGNMENT)
}

/// Tensors in order, a new shard whenever the next would make the current one too large. The first may be left with the header alone; a
/// tensor that is larger than a shard gets its own.
fn assign(targets: &[TensorInfo], header_bytes: u64, max_bytes: Option<u64>) -> Vec<Vec<TensorInfo>> {
    let mut shards: Vec<Vec<TensorInfo>> = vec![Vec::new()];
    let mut size = header_bytes;
    for target in targets {
        let last = shards.last_mut().expect("there is always one");
        if max_bytes.is_some_and(|max| size + n_bytes(target) + shard_overhead(last.len()) > max) {
            shards.push(vec![target.clone()]);
            size = n_bytes(target);
        } else {
            last.push(target.clone());
            size += n_bytes(target);
        }
    }
    shards
}

/// Header and padding of a shard of so many tensors, generously.
fn shard_overhead(n_tensors: usize) -> u64 {
    512 + 160 * n_tensors as u64
}

fn file_names(out: &Path, n_files: usize) -> Result<Vec<PathBuf>> {
    let stem = out.file_name().and_then(|name| name.to_str()?.strip_suffix(".gguf"));
    let stem = stem.ok_or_else(|| Error::config("OUT", format!("{} does not end in .gguf", out.display())))?;
    if n_files == 1 {
        return Ok(vec![out.to_owned()]);
    }
    Ok((1..=n_files).map(|no| out.with_file_name(split_name(stem, no, n_files))).collect())
}

/// The first file carries the model's metadata, all carry their place among the split.
fn shard_metadata(weights: &dyn Weights, file_type: FileType, no: usize, n_files: usize, n_tensors: usize) -> Metadata {
    let mut metadata = Metadata::new();
    if no == 0 {
        metadata = weights.metadata().clone();
        metadata.insert("general.file_type".into(), Value::U64(file_type.number()));
        metadata.insert("general.quantization_version".into(), Value::U64(2));
    } else if let Some(alignment) = weights.metadata().get("general.alignment") {
        metadata.insert("general.alignment".into(), alignment.clone());
    }
    if n_files > 1 {
        metadata.insert("split.no".into(), Value::U64(no as u64));
        metadata.insert("split.count".into(), Value::U64(n_files as u64));
        metadata.insert("split.tensors.count".into(), Value::U64(n_tensors as u64));
    }
    metadata
}

fn write_tensor(
    weights: &dyn Weights,
    source: &TensorInfo,
    target: &TensorInfo,
    file: &mut PendingFile,
    progress: &mut dyn FnMut(u64),
) -> Result<()> {
    let (rows, cols) = target.matrix();
    let rows_at_once = (PIECE_VALUES / cols).max(1);
    for first in (0..rows).step_by(rows_at_once) {
        let count = rows_at_once.min(rows - first);
        let stored = block_on(weights.read_rows(source, first, count))?;
        let bytes = if source.dtype == target.dtype { stored } else { requantize(source, target, &stored) };
        file.write(&bytes)?;
        progress(bytes.len() as u64);
    }
    Ok(())
}

/// Rows from one format to another, on all cores.
fn requantize(source: &TensorInfo, target: &TensorInfo, stored: &[u8]) -> Vec<u8> {
    let cols = source.matrix().1;
    let rows = stored.len() / source.row_bytes();
    let mut bytes = vec![0; rows * target.row_bytes()];
    let n_threads = std::thread::available_parallelism().map_or(1, usize::from);
    let rows_each = rows.div_ceil(n_threads).max(1);
    std::thread::scope(|scope| {
        let parts = stored.chunks(rows_each * source.row_bytes()).zip(bytes.chunks_mut(rows_each * target.row_bytes()));
        for (stored, bytes) in parts {
            scope.spawn(move || {
                let mut values = vec![0.0; cols];
                for (stored, bytes) in
                    stored.chunks_exact(source.row_bytes()).zip(bytes.chunks_exact_mut(target.row_bytes()))
                {
                    quant::dequantize(source.dtype, stored, &mut values);
                    quant::quantize(target.dtype, &values, bytes);
                }
            });
        }
    });
    bytes
}

/// One line for each format that took another's place, with how often.
fn notes(targets: &[TensorInfo], file_type: FileType) -> Vec<String> {
    let mut counts = std::collections::BTreeMap::<(&str, bool), usize>::new();
    for target in targets.iter().filter(|t| t.dtype != file_type.dtype && t.dtype != super::DType::F32) {
        let blocks_fit = file_type.dtype.checked_row_bytes(target.matrix().1).is_some();
        *counts.entry((target.dtype.name(), blocks_fit)).or_default() += 1;
    }
    let line = |((name, blocks_fit), n): ((&str, bool), usize)| {
        let reason = if blocks_fit {
            "embedding and head keep more bits".to_owned()
        } else {
            format!("their rows are not whole blocks of {}", file_type.dtype.block_len())
        };
        format!("{n} tensors written as {name} instead of {}: {reason}", file_type.dtype.name())
    };
    counts.into_iter().map(line).collect()
}
