//! safetensors: an 8-byte header length, a JSON header with type, shape and byte range of each tensor, then the bytes.
//!
//! Format: <https://github.com/huggingface/safetensors#format>. Every range is checked against the file before it is used.

use std::collections::BTreeMap;

use serde_json::json;

use super::{
    DType,
    stored::{StoredTensor, checked_bytes},
};
use crate::{
    Error, Result,
    platform::{ByteSource, block_on},
};

/// The format's own limit for its header.
const MAX_HEADER: u64 = 100_000_000;

/// The tensors of a safetensors file.
pub(crate) fn read_table(file: &dyn ByteSource) -> Result<Vec<StoredTensor>> {
    let length = block_on(file.read(0, 8))?;
    let length = u64::from_le_bytes(length.try_into().expect("8 bytes were read"));
    if length > MAX_HEADER.min(file.size() - 8) {
        let problem =
            format!("a header of {length} bytes announced in a file of {} (not a safetensors file?)", file.size());
        return Err(Error::input(file.name(), "byte 0", problem));
    }
    let header = block_on(file.read(8, length as usize))?;
    let entries: BTreeMap<String, serde_json::Value> =
        serde_json::from_slice(&header).map_err(|e| Error::input(file.name(), "header", e.to_string()))?;
    let tensors = entries.into_iter().filter(|(name, _)| name != "__metadata__");
    tensors.map(|(name, entry)| tensor(file, name, entry, 8 + length)).collect()
}

fn tensor(file: &dyn ByteSource, name: String, entry: serde_json::Value, data_start: u64) -> Result<StoredTensor> {
    #[derive(serde::Deserialize)]
    struct Entry {
        dtype: String,
        shape: Vec<usize>,
        data_offsets: (u64, u64),
    }
    let bad = |problem: String| Error::input(file.name(), &name, problem);
    let Entry { dtype, shape, data_offsets: (begin, end) } =
        serde_json::from_value(entry).map_err(|e| bad(e.to_string()))?;
    let (dtype, width) = match dtype.as_str() {
        "F32" => (Ok(DType::F32), 4),
        "F16" => (Ok(DType::F16), 2),
        "BF16" => (Ok(DType::Bf16), 2),
        _ => {
            let width = match dtype.as_str() {
                "F64" | "I64" | "U64" => 8,
                "I32" | "U32" => 4,
                "I16" | "U16" => 2,
                "I8" | "U8" | "BOOL" | "F8_E4M3" | "F8_E5M2" => 1,
                _ => return Err(bad(format!("unknown type {dtype:?}"))),
            };
            (Err(dtype), width)
        }
    };
    let expected = checked_bytes(&shape, width);
    if begin > end || expected != Some(end - begin) {
        return Err(bad(format!("bytes {begin} to {end} do not hold shape {shape:?}")));
    }
    if end > file.size() - data_start {
        return Err(bad(format!("ends at byte {} of a file of {} bytes", data_start.saturating_add(end), file.size())));
    }
    Ok(StoredTensor { name, dtype, shape, offset: data_start + begin })
}
/// The beginning of a file whose tensors, (name, type in safetensors' words, shape, bytes), follow one another; values begin at a multiple of 8.
pub(crate) fn header(tensors: impl IntoIterator<Item = (String, &'static str, Vec<usize>, usize)>) -> Vec<u8> {
    let (mut entries, mut end) = (serde_json::Map::new(), 0);
    entries.insert("__metadata__".into(), json!({"format": "pt"}));
    for (name, dtype, shape, bytes) in tensors {
        let start = end;
        end += bytes;
        entries.insert(name, json!({"dtype": dtype, "shape": shape, "data_offsets": [start, end]}));
    }
    let mut text = serde_json::Value::Object(entries).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    [&(text.len() as u64).to_le_bytes()[..], &text].concat()
}
