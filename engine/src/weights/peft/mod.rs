//! PEFT adapters (LoRA, trained token rows, saved modules) merged into their base as it is read.
//!
//! A row w of a changed tensor becomes w + s·b·A (b: the row of B, A: (r, cols), s = alpha / r), or is replaced by the adapter's own; it is
//! computed when asked for and has type F32. Rows of q and k are matched in Hugging Face's order, in which adapters are trained. The
//! vocabulary may grow: every new row must come from the adapter. Cost: r·cols multiplications a row.
//! LoRA: arXiv 2106.09685; layout: <https://huggingface.co/docs/peft/developer_guides/checkpoint>.

mod adapter;
mod export;

use std::{collections::BTreeSet, path::Path};

use super::{
    DType, Metadata, MetadataExt, TensorInfo, Value, Weights,
    names::{Family, RowOrder},
    read_values, vocabulary,
};
use crate::{Error, Result, platform::LocalFuture};
#[cfg(feature = "training")]
pub(crate) use adapter::check_config;
use adapter::{Adapter, Change, Located};
pub use export::export;

/// A base model with an adapter merged into it.
pub struct Merged {
    base: Box<dyn Weights>,
    adapter: Adapter,
    name: String,
    metadata: Metadata,
    tensors: Vec<TensorInfo>,
    family: Family,
    head_dim: usize,
}

impl Merged {
    /// Merges the adapter of a folder into a base model.
    pub fn open(base: Box<dyn Weights>, adapter_folder: impl AsRef<Path>) -> Result<Self> {
        let folder = adapter_folder.as_ref();
        let architecture = base.metadata().need_text(base.name(), "general.architecture")?.to_owned();
        let family = Family::of_architecture(&architecture).ok_or_else(|| {
            Error::input(base.name(), "general.architecture", format!("{architecture:?} found, llama or bert expected"))
        })?;
        let embedding = base.metadata().need_u64(base.name(), &format!("{architecture}.embedding_length"))?;
        let n_heads = base.metadata().need_u64(base.name(), &format!("{architecture}.attention.head_count"))?;
        if n_heads == 0 || !embedding.is_multiple_of(2 * n_heads) {
            let problem = format!("{n_heads} heads do not share {embedding} values in pairs");
            return Err(Error::input(base.name(), format!("{architecture}.attention.head_count"), problem));
        }
        let adapter = Adapter::open(folder, family)?;
        let mut merged = Self {
            name: format!("{} + {}", base.name(), adapter.name),
            metadata: base.metadata().clone(),
            tensors: base.tensors().to_vec(),
            base,
            adapter,
            family,
            head_dim: (embedding / n_heads) as usize,
        };
        merged.change_shapes()?;
        merged.merge_vocabulary(folder, &architecture)?;
        Ok(merged)
    }

    /// Gives changed tensors their type and shape, and checks that the adapter fits the base.
    fn change_shapes(&mut self) -> Result<()> {
        for (name, change) in &self.adapter.changes {
            let index = self.tensors.iter().position(|tensor| tensor.name == *name);
            let base = index.map(|index| &self.tensors[index]);
            let shape = changed_shape(&self.adapter, name, change, base)?;
            let info = TensorInfo { name: name.clone(), dtype: DType::F32, shape };
            match index {
                Some(index) => self.tensors[index] = info,
                None => self.tensors.push(info),
            }
        }
        Ok(())
    }

    /// The adapter's vocabulary, when it brings one, in place of the base's; both must agree on the base's plain tokens.
    fn merge_vocabulary(&mut self, folder: &Path, architecture: &str) -> Result<()> {
        if let Some(tokenizer) = vocabulary::read_folder(folder)? {
            if let (Some(old), Some(new)) =
                (self.metadata.get("tokenizer.ggml.model"), tokenizer.get("tokenizer.ggml.model"))
                && old != new
            {
                return Err(self.adapter.bad("tokenizer", &format!("of kind {new:?}, the base model's is {old:?}")));
            }
            self.check_same_tokens(&tokenizer)?;
            // "default" says only that the way of cutting was not recognised; the base may know better.
            let keep = |key: &str, value: &Value| {
                let vague = key == "tokenizer.ggml.pre" && value.as_text() == Some("default");
                !(vague && self.metadata.contains_key(key))
            };
            let new: Metadata = tokenizer.into_iter().filter(|(key, value)| keep(key, value)).collect();
            self.metadata.extend(new);
        } else {
            vocabulary::add_tokens(folder, &mut self.metadata)?;
        }
        let Some(rows) = self.tensor("token_embd.weight").map(|tensor| tensor.matrix().0) else { return Ok(()) };
        vocabulary::pad_to_rows(&self.name, &mut self.metadata, rows)?;
        self.metadata.insert(format!("{architecture}.vocab_size"), Value::U64(rows as u64));
        Ok(())
    }

    fn check_same_tokens(&self, tokenizer: &Metadata) -> Result<()> {
        const NORMAL: u64 = 1;
        let get =
            |metadata: &'_ Metadata, key: &str| metadata.get_array(&self.name, key).map(|a| a.unwrap_or(&[]).to_vec());
        let old = get(&self.metadata, "tokenizer.ggml.tokens")?;
        let types = get(&self.metadata, "tokenizer.ggml.token_type")?;
        let new = get(tokenizer, "tokenizer.ggml.tokens")?;
        for (id, old) in old.iter().enumerate() {
            let normal = types.get(id).is_none_or(|token_type| token_type.as_u64() == Some(NORMAL));
            if normal && new.get(id) != Some(old) {
                let problem = format!(
                    "token {id} is {:?}, in the base model {old:?}: the adapter is for another base",
                    new.get(id)
                );
                return Err(self.adapter.bad("tokenizer", &problem));
            }
        }
        Ok(())
    }

    /// Values of `count` rows of a changed tensor.
    async fn merged_rows(&self, change: &Change, tensor: &TensorInfo, first: usize, count: usize) -> Result<Vec<f32>> {
        let (_, cols) = tensor.matrix();
        let order = RowOrder::of(self.family, &tensor.name, self.head_dim);
        let mut values = match &change.replacement {
            Some(stored) => self.replacement_rows(stored, order, first, count).await?,
            None => self.base_rows(&tensor.name, first, count, cols).await?,
        };
        if let Some((a, b, scale)) = &change.lora {
            let a = self.all_values(a).await?;
            let (start, n) = order.source_range(first, count);
            let b = b.1.read_values(self.adapter.file(b), start, n).await?;
            let r = a.len() / cols;
            for (row, values) in values.chunks_exact_mut(cols).enumerate() {
                let b = &b[(order.source_row(first + row) - start) * r..][..r];
                add_product(values, b, &a, *scale);
            }
        }
        if let Some((a, b, scale)) = &change.lora_embedding {
            // A column of A times B: one multiplication a value and rank, as above with the roles exchanged.
            let (a_values, b_values) = (self.all_values(a).await?, self.all_values(b).await?);
            let (r, rows) = a.1.matrix();
            let transposed: Vec<f32> = (0..r * cols).map(|i| b_values[i % cols * r + i / cols]).collect();
            for (row, values) in values.chunks_exact_mut(cols).enumerate() {
                let column: Vec<f32> = (0..r).map(|k| a_values[k * rows + first + row]).collect();
                add_product(values, &column, &transposed, *scale);
            }
        }
        if let Some((stored, rows)) = &change.rows {
            let new = self.all_values(stored).await?;
            for (row, values) in values.chunks_exact_mut(cols).enumerate() {
                if let Some(&from) = rows.get(&(first + row)) {
                    values.copy_from_slice(&new[from * cols..][..cols]);
                }
            }
        }
        Ok(values)
    }

    async fn replacement_rows(
        &self,
        stored: &Located,
        order: RowOrder,
        first: usize,
        count: usize,
    ) -> Result<Vec<f32>> {
        let cols = stored.1.matrix().1;
        let (start, n) = order.source_range(first, count);
        let source = stored.1.read_values(self.adapter.file(stored), start, n).await?;
        let row = |row: usize| source[(order.source_row(first + row) - start) * cols..][..cols].iter().copied();
        Ok((0..count).flat_map(row).collect())
    }

    /// The base's rows; zeros beyond its end, which the adapter's rows replace.
    async fn base_rows(&self, name: &str, first: usize, count: usize, cols: usize) -> Result<Vec<f32>> {
        let base = self.base.tensor(name).expect("a change without replacement was checked to have a base");
        let available = base.matrix().0.saturating_sub(first).min(count);
        let mut values =
            if available > 0 { read_values(self.base.as_ref(), base, first, available).await? } else { Vec::new() };
        values.resize(count * cols, 0.0);
        Ok(values)
    }

    async fn all_values(&self, located: &Located) -> Result<Vec<f32>> {
        located.1.read_values(self.adapter.file(located), 0, located.1.matrix().0).await
    }
}

/// values += scale · b · a, with a: (r, cols) and b: (r).
fn add_product(values: &mut [f32], b: &[f32], a: &[f32], scale: f32) {
    let mut sum = vec![0.0; values.len()];
    for (b, a) in b.iter().zip(a.chunks_exact(values.len())) {
        sum.iter_mut().zip(a).for_each(|(sum, a)| *sum += b * a);
    }
    values.iter_mut().zip(sum).for_each(|(value, sum)| *value += scale * sum);
}

/// The shape of a tensor after its change; an error when the parts do not fit.
fn changed_shape(adapter: &Adapter, name: &str, change: &Change, base: Option<&TensorInfo>) -> Result<Vec<usize>> {
    let bad = |problem: String| adapter.bad(name, &problem);
    let parts = [&change.replacement, &change.rows.as_ref().map(|rows| rows.0.clone())];
    let loras = [&change.lora, &change.lora_embedding].into_iter().flatten().flat_map(|(a, b, _)| [a, b]);
    for located in parts.into_iter().flatten().chain(loras) {
        located.1.usable_dtype(&adapter.name)?;
    }
    let before = match (&change.replacement, base) {
        (Some((_, stored)), Some(base))
            if stored.shape.len() != base.shape.len() || stored.matrix().1 != base.matrix().1 =>
        {
            return Err(bad(format!("shape {:?} replaces {:?}", stored.shape, base.shape)));
        }
        (Some((_, stored)), Some(base))
            if stored.shape != base.shape && !matches!(name, "token_embd.weight" | "output.weight") =>
        {
            return Err(bad(format!("shape {:?} replaces {:?}", stored.shape, base.shape)));
        }
        (Some((_, stored)), _) => stored.shape.clone(),
        (None, Some(base)) => base.shape.clone(),
        (None, None) => return Err(bad("the base model has no such tensor (tied to the embedding?)".to_owned())),
    };
    if !(1..=2).contains(&before.len()) || before.contains(&0) {
        return Err(bad(format!("shape {before:?} is neither a vector nor a matrix")));
    }
    let [rows, cols] = before[..] else {
        return if change.lora.is_none() && change.lora_embedding.is_none() && change.rows.is_none() {
            Ok(before)
        } else {
            Err(bad(format!("a matrix expected, the base has shape {before:?}")))
        };
    };
    let lora = change.lora.as_ref().map(|(a, b, _)| (b.1.shape[0], a.1.shape[1]));
    let lora_embedding = change.lora_embedding.as_ref().map(|(a, b, _)| (a.1.shape[1], b.1.shape[0]));
    for shape in [lora, lora_embedding].into_iter().flatten() {
        if shape != (rows, cols) {
            return Err(bad(format!("the adapter is for shape {shape:?}, the base has {:?}", (rows, cols))));
        }
    }
    let Some((stored, new_rows)) = &change.rows else { return Ok(before) };
    if stored.1.shape[1] != cols {
        return Err(bad(format!("new rows of {} values, the base has {cols}", stored.1.shape[1])));
    }
    let ids: BTreeSet<usize> = new_rows.keys().copied().filter(|&id| id >= rows).collect();
    let total = rows + ids.len();
    if let Some(&gap) = ids.last().filter(|&&last| last >= total) {
        return Err(bad(format!("row {gap} is new, but some between it and the base's {rows} rows are missing")));
    }
    Ok(vec![total, cols])
}

impl Weights for Merged {
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
        let Some(change) = self.adapter.changes.get(&tensor.name) else {
            return self.base.read_rows(tensor, first, count);
        };
        Box::pin(async move {
            let tensor = self.tensor(&tensor.name).expect("every changed tensor is in the list");
            let rows = tensor.matrix().0;
            if first.checked_add(count).is_none_or(|end| end > rows) {
                let problem = format!("{count} rows from row {first} asked for, but it has {rows}");
                return Err(Error::input(&self.name, &tensor.name, problem));
            }
            let values = self.merged_rows(change, tensor, first, count).await?;
            Ok(bytemuck::cast_slice(&values).to_vec())
        })
    }
}
