//! Reading a model's folder: JSON files with a bound on their size, and the weight files with their index.

use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use super::{safetensors, stored::StoredTensor};
use crate::{
    Error, Result,
    platform::{ByteSource, FileSource},
};

/// Text files of a model are smaller than this; the largest tokenizer.json has 35 MB.
const MAX_TEXT_BYTES: u64 = 128 << 20;

/// A file of the folder in memory; none when it does not exist.
pub(crate) fn read_bytes(folder: &Path, name: &str) -> Result<Option<Vec<u8>>> {
    let path = folder.join(name);
    let shown = path.display().to_string();
    let size = match std::fs::metadata(&path) {
        Ok(metadata) => metadata.len(),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io(shown, e)),
    };
    if size > MAX_TEXT_BYTES {
        return Err(Error::input(shown, "size", format!("{size} bytes found, at most {MAX_TEXT_BYTES} expected")));
    }
    std::fs::read(&path).map(Some).map_err(|e| Error::io(shown, e))
}

/// A text file of the folder; none when it does not exist.
pub(crate) fn read_text(folder: &Path, name: &str) -> Result<Option<String>> {
    let Some(bytes) = read_bytes(folder, name)? else { return Ok(None) };
    let text = String::from_utf8(bytes);
    text.map(Some).map_err(|e| Error::input(folder.join(name).display().to_string(), "text", e.to_string()))
}

/// A JSON file of the folder; none when it does not exist.
pub(crate) fn read_json(folder: &Path, name: &str) -> Result<Option<Json>> {
    let Some(bytes) = read_bytes(folder, name)? else { return Ok(None) };
    let json = serde_json::from_slice(&bytes);
    json.map(Some).map_err(|e| Error::input(folder.join(name).display().to_string(), "JSON", e.to_string()))
}

/// Tensors of one or several files, in Hugging Face's names and order.
pub(crate) struct StoredTensors {
    /// The open files.
    pub(crate) files: Vec<FileSource>,
    /// Each tensor with the number of its file.
    pub(crate) tensors: Vec<(usize, StoredTensor)>,
}

impl StoredTensors {
    /// The weights of a folder, from its [`weight_files`].
    pub(crate) fn open(folder: &Path, safetensors_stem: &str, torch_stem: &str) -> Result<Self> {
        let (paths, extension) = weight_files(folder, safetensors_stem, torch_stem)?;
        Self::read(&paths, extension)
    }

    fn read(paths: &[PathBuf], extension: &str) -> Result<Self> {
        let mut stored = Self { files: Vec::new(), tensors: Vec::new() };
        let mut names = std::collections::HashSet::new();
        for (number, path) in paths.iter().enumerate() {
            let file = FileSource::open(path)?;
            let table = if extension == "safetensors" {
                safetensors::read_table(&file)?
            } else {
                super::torch::read_table(&file)?
            };
            for tensor in table {
                if !names.insert(tensor.name.clone()) {
                    return Err(Error::input(file.name(), &tensor.name, "this tensor's name occurs twice"));
                }
                stored.tensors.push((number, tensor));
            }
            stored.files.push(file);
        }
        Ok(stored)
    }
}

/// The weight files of a folder and their extension: safetensors before torch, one file or shards by their index.
pub(crate) fn weight_files(
    folder: &Path,
    safetensors_stem: &str,
    torch_stem: &str,
) -> Result<(Vec<PathBuf>, &'static str)> {
    for (stem, extension) in [(safetensors_stem, "safetensors"), (torch_stem, "bin")] {
        let single = folder.join(format!("{stem}.{extension}"));
        let index_name = format!("{stem}.{extension}.index.json");
        if single.exists() {
            return Ok((vec![single], extension));
        } else if let Some(index) = read_json(folder, &index_name)? {
            return Ok((shard_paths(folder, &index_name, &index)?, extension));
        }
    }
    let expected = format!("{safetensors_stem}.safetensors or {torch_stem}.bin (or their .index.json) expected");
    Err(Error::input(folder.display().to_string(), "weights", expected))
}

/// The shard files that an index names, each once, in order of name.
fn shard_paths(folder: &Path, index_name: &str, index: &Json) -> Result<Vec<PathBuf>> {
    let bad = |problem: &str| Error::input(folder.join(index_name).display().to_string(), "weight_map", problem);
    let map = index.get("weight_map").and_then(Json::as_object).ok_or_else(|| bad("an object expected"))?;
    let mut names = std::collections::BTreeSet::new();
    for name in map.values() {
        let name = name.as_str().ok_or_else(|| bad("file names expected"))?;
        // The index may be anybody's: it must not point out of its folder.
        if Path::new(name).file_name().is_none_or(|file| file != name) {
            return Err(bad(&format!("{name:?} is not a plain file name")));
        }
        names.insert(name);
    }
    Ok(names.into_iter().map(|name| folder.join(name)).collect())
}
