//! A Hugging Face folder (config.json, weights, tokenizer) seen as GGUF: Llama for generators, BERT for retrievers.
//!
//! Names, metadata and the row order of q and k are translated; bytes are read from the safetensors or torch files as they are asked for.

mod config;
mod write;

use std::{collections::HashMap, path::Path};

#[cfg(feature = "training")]
pub(crate) use write::config_json;
pub(in crate::weights) use write::type_names;
pub use write::{TYPES, export, tokenizer_config};

use super::{
    Metadata, TensorInfo, Value, Weights,
    folder::{self, StoredTensors},
    names::{Family, RowOrder},
    stored::StoredTensor,
    vocabulary,
};
use crate::{Error, Result, platform::LocalFuture};

/// An open Hugging Face folder.
pub struct HfFolder {
    name: String,
    metadata: Metadata,
    tensors: Vec<TensorInfo>,
    sources: HashMap<String, Source>,
    stored: StoredTensors,
}

/// Where a tensor's rows are.
struct Source {
    /// Index into `StoredTensors::tensors`.
    index: usize,
    order: RowOrder,
}

impl HfFolder {
    /// Opens a folder: checks its configuration, that no tensor is missing, and reads the vocabulary.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let name = path.display().to_string();
        let config_name = path.join("config.json").display().to_string();
        let config = folder::read_json(path, "config.json")?;
        let config = config.ok_or_else(|| Error::input(&config_name, "file", "missing: a model's folder has one"))?;
        let model = config::read(path, &config_name, &config)?;
        let stored = StoredTensors::open(path, "model", "pytorch_model")?;
        let mut folder = Self { name, metadata: model.metadata, tensors: Vec::new(), sources: HashMap::new(), stored };
        for index in 0..folder.stored.tensors.len() {
            folder.add(index, model.family, model.head_dim, model.tied)?;
        }
        for name in model.family.required(model.n_blocks) {
            if !folder.sources.contains_key(&name) {
                return Err(folder.bad(&name, "missing from the weight files"));
            }
        }
        folder.add_vocabulary(path, &model.architecture)?;
        Ok(folder)
    }

    /// Takes a stored tensor in under its GGUF name, or leaves it out when nothing computes with it.
    fn add(&mut self, index: usize, family: Family, head_dim: usize, tied: bool) -> Result<()> {
        let (_, stored) = &self.stored.tensors[index];
        let Some(name) = family.gguf_name(&stored.name) else {
            return if family.ignores(&stored.name) {
                Ok(())
            } else {
                Err(self
                    .bad(&stored.name, "this kind of tensor is not supported: the model is not a plain Llama or BERT"))
            };
        };
        if tied && name == "output.weight" {
            return Ok(());
        }
        let order = RowOrder::of(family, &name, head_dim);
        let (rows, _) = stored.matrix();
        let whole_heads = matches!(order, RowOrder::Same) || rows.is_multiple_of(head_dim);
        if !(1..=2).contains(&stored.shape.len()) || stored.shape.contains(&0) || !whole_heads {
            return Err(self.bad(&stored.name, &format!("shape {:?} is not that of {name}", stored.shape)));
        }
        let dtype = stored.usable_dtype(&self.name)?;
        let info = TensorInfo { name: name.clone(), dtype, shape: stored.shape.clone() };
        if self.sources.insert(name, Source { index, order }).is_some() {
            return Err(self.bad(&stored.name, "this tensor occurs twice"));
        }
        self.tensors.push(info);
        Ok(())
    }

    fn add_vocabulary(&mut self, path: &Path, architecture: &str) -> Result<()> {
        let rows = self.tensor("token_embd.weight").map_or(0, |tensor| tensor.matrix().0);
        self.metadata.insert(format!("{architecture}.vocab_size"), Value::U64(rows as u64));
        if let Some(tokenizer) = vocabulary::read_folder(path)? {
            self.metadata.extend(tokenizer);
            vocabulary::pad_to_rows(&self.name, &mut self.metadata, rows)?;
        }
        Ok(())
    }

    fn bad(&self, place: &str, problem: &str) -> Error {
        Error::input(&self.name, place, problem)
    }

    async fn rows(&self, source: &Source, first: usize, count: usize) -> Result<Vec<u8>> {
        let (file, stored): &(usize, StoredTensor) = &self.stored.tensors[source.index];
        let file = &self.stored.files[*file];
        let (rows, cols) = stored.matrix();
        if first.checked_add(count).is_none_or(|end| end > rows) {
            return Err(self.bad(&stored.name, &format!("{count} rows from row {first} asked for, but it has {rows}")));
        }
        let (start, n) = source.order.source_range(first, count);
        let bytes = stored.read_rows(file, start, n).await?;
        if source.order == RowOrder::Same {
            return Ok(bytes);
        }
        let row_bytes = stored.usable_dtype(&self.name)?.row_bytes(cols);
        let row = |row: usize| &bytes[(source.order.source_row(row) - start) * row_bytes..][..row_bytes];
        Ok((first..first + count).flat_map(row).copied().collect())
    }
}

impl Weights for HfFolder {
    fn name(&self) -> &str {
        &self.name
    }

    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    fn read_rows<'a>(&'a self, tensor: &'a TensorInfo, first: usize, count: usize) -> LocalFuture<'a, Result<Vec<u8>>> {
        Box::pin(async move {
            let source = self.sources.get(&tensor.name).ok_or_else(|| self.bad(&tensor.name, "no such tensor"))?;
            self.rows(source, first, count).await
        })
    }
}
