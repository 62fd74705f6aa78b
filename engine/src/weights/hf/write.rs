//! A Llama as a Hugging Face folder: config.json, model.safetensors, and the vocabulary that the caller brings.
//!
//! The reverse of what this module reads: names and the row order of q and k are translated back, values are rounded once to the type that is
//! asked for. Rows stream through; the whole model is never in memory. config.json comes last: a folder that has one is complete.

use std::path::Path;

use serde_json::{Value as Json, json};

use crate::{
    Error, Result,
    platform::block_on,
    weights::{
        DType, Metadata, MetadataExt, TensorInfo, Weights,
        convert::{PIECE_VALUES, PendingFile},
        names::{Family, RowOrder},
        quant, read_values, safetensors,
    },
};

/// The types that a folder can have.
pub const TYPES: [DType; 3] = [DType::F32, DType::F16, DType::Bf16];

/// safetensors' and transformers' names of a type.
pub(in crate::weights) fn type_names(dtype: DType) -> (&'static str, &'static str) {
    match dtype {
        DType::F16 => ("F16", "float16"),
        DType::Bf16 => ("BF16", "bfloat16"),
        _ => ("F32", "float32"),
    }
}

/// Writes a model into a folder that is new or empty. `files` come beside it, e.g. tokenizer.json; `progress` gets (bytes, bytes in all).
/// Returns the bytes of the weights.
pub fn export(
    weights: &dyn Weights,
    folder: &Path,
    dtype: DType,
    files: &[(&str, Json)],
    progress: &mut dyn FnMut(u64, u64),
) -> Result<u64> {
    let io = |e: std::io::Error| Error::io(folder.display().to_string(), e);
    if !TYPES.contains(&dtype) {
        return Err(Error::config("type", format!("{}; a folder has f32, f16 or bf16", dtype.name())));
    }
    std::fs::create_dir_all(folder).map_err(io)?;
    if folder.read_dir().map_err(io)?.next().is_some() {
        return Err(Error::io(folder.display().to_string(), "is not empty: name a new folder"));
    }
    let config = config_json(weights, dtype)?;
    let n_bytes = write_safetensors(weights, &folder.join("model.safetensors"), dtype, progress)?;
    for (name, json) in files.iter().chain([&("config.json", config)]) {
        let mut file = PendingFile::create(&folder.join(name))?;
        file.write(format!("{json:#}\n").as_bytes())?;
        file.finish()?;
    }
    Ok(n_bytes)
}

fn write_safetensors(
    weights: &dyn Weights,
    path: &Path,
    dtype: DType,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<u64> {
    let head_dim = head_dim(weights)?;
    let mut entries = Vec::new();
    for tensor in weights.tensors() {
        let name = Family::Llama.hf_name(&tensor.name).ok_or_else(|| {
            Error::input(weights.name(), &tensor.name, "a Hugging Face folder of a Llama has no such tensor")
        })?;
        let bytes = tensor.shape.iter().product::<usize>() * dtype.block_bytes();
        entries.push((name, type_names(dtype).0, tensor.shape.clone(), bytes));
    }
    let end: usize = entries.iter().map(|(.., bytes)| bytes).sum();
    let mut file = PendingFile::create(path)?;
    file.write(&safetensors::header(entries))?;
    let mut written = 0;
    for tensor in weights.tensors() {
        let order = RowOrder::of(Family::Llama, &tensor.name, head_dim);
        let (rows, cols) = tensor.matrix();
        let together = if order == RowOrder::Same { 1 } else { head_dim };
        if !rows.is_multiple_of(together) {
            let problem = format!("{rows} rows are not whole heads of {head_dim}");
            return Err(Error::input(weights.name(), &tensor.name, problem));
        }
        let at_once = (PIECE_VALUES / cols / together).max(1) * together;
        for first in (0..rows).step_by(at_once) {
            let bytes = rows_in_order(weights, tensor, order, first, at_once.min(rows - first), dtype)?;
            file.write(&bytes)?;
            written += bytes.len() as u64;
            progress(written, end as u64);
        }
    }
    let n_bytes = file.written();
    file.finish()?;
    Ok(n_bytes)
}

/// Rows in Hugging Face's order, in their new type. Where the order differs they are whole heads.
fn rows_in_order(
    weights: &dyn Weights,
    tensor: &TensorInfo,
    order: RowOrder,
    first: usize,
    count: usize,
    dtype: DType,
) -> Result<Vec<u8>> {
    let cols = tensor.matrix().1;
    let values = block_on(read_values(weights, tensor, first, count))?;
    let mut bytes = vec![0; count * dtype.row_bytes(cols)];
    for (row, out) in bytes.chunks_exact_mut(dtype.row_bytes(cols)).enumerate() {
        quant::quantize(dtype, &values[(order.target_row(first + row) - first) * cols..][..cols], out);
    }
    Ok(bytes)
}

fn head_dim(weights: &dyn Weights) -> Result<usize> {
    let (file, metadata) = (weights.name(), weights.metadata());
    let hidden = metadata.need_u64(file, "llama.embedding_length")?;
    let heads = metadata.need_u64(file, "llama.attention.head_count")?;
    let dims = metadata.get_u64(file, "llama.rope.dimension_count")?;
    let fits = heads > 0 && hidden.is_multiple_of(2 * heads) && dims.is_none_or(|dims| dims == hidden / heads);
    let key = metadata.get_u64(file, "llama.attention.key_length")?;
    if !fits || key.is_some_and(|key| key != hidden / heads) {
        let problem =
            format!("{heads} heads of {hidden} values, {dims:?} of them turned, keys of {key:?}: not a plain Llama's");
        return Err(Error::input(file, "llama.attention", problem));
    }
    Ok((hidden / heads) as usize)
}

/// config.json of a Llama, with as many tokens as its table has rows.
pub(crate) fn config_json(weights: &dyn Weights, dtype: DType) -> Result<Json> {
    let (file, metadata) = (weights.name(), weights.metadata());
    let architecture = metadata.need_text(file, "general.architecture")?;
    if architecture != "llama" {
        let problem = format!("{architecture:?}; folders are written of \"llama\" only");
        return Err(Error::input(file, "general.architecture", problem));
    }
    if weights.tensor("rope_freqs.weight").is_some() || metadata.contains_key("llama.rope.scaling.factor") {
        return Err(Error::input(
            file,
            "llama.rope.scaling",
            "scaled positions are not written to a folder yet; GGUF keeps them",
        ));
    }
    let number = |key: &str| metadata.need_u64(file, &format!("llama.{key}"));
    let heads = number("attention.head_count")?;
    let table =
        weights.tensor("token_embd.weight").ok_or_else(|| Error::input(file, "token_embd.weight", "missing"))?;
    let epsilon = metadata.get_f64(file, "llama.attention.layer_norm_rms_epsilon")?.unwrap_or(1e-5);
    let mut config = json!({
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "hidden_size": number("embedding_length")?,
        "intermediate_size": number("feed_forward_length")?,
        "num_hidden_layers": number("block_count")?,
        "num_attention_heads": heads,
        "num_key_value_heads": metadata.get_u64(file, "llama.attention.head_count_kv")?.unwrap_or(heads),
        "head_dim": head_dim(weights)?,
        "max_position_embeddings": number("context_length")?,
        "rms_norm_eps": shortest(epsilon),
        "rope_theta": shortest(metadata.get_f64(file, "llama.rope.freq_base")?.unwrap_or(10_000.0)),
        "attention_bias": false,
        "mlp_bias": false,
        "vocab_size": table.matrix().0,
        "tie_word_embeddings": weights.tensor("output.weight").is_none(),
        "torch_dtype": type_names(dtype).1,
    });
    for role in ROLES {
        if let Some(id) = metadata.get_u64(file, &format!("tokenizer.ggml.{}_token_id", role.1))? {
            config[format!("{}_token_id", role.0)] = id.into();
        }
    }
    Ok(config)
}

/// Special tokens by Hugging Face's and GGUF's names.
const ROLES: [(&str, &str); 3] = [("bos", "bos"), ("eos", "eos"), ("pad", "padding")];

/// A number that a file may have as f32, as it was meant: 1e-5, not 9.999999747378752e-6.
fn shortest(value: f64) -> f64 {
    let narrow = value as f32;
    if f64::from(narrow) == value { narrow.to_string().parse().unwrap_or(value) } else { value }
}

/// tokenizer_config.json, beside a tokenizer.json.
pub fn tokenizer_config(file: &str, metadata: &Metadata) -> Result<Json> {
    let tokens = metadata.get_array(file, "tokenizer.ggml.tokens")?.unwrap_or(&[]);
    let mut config = json!({"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": false});
    for role in ROLES.into_iter().chain([("unk", "unknown")]) {
        let id = metadata.get_u64(file, &format!("tokenizer.ggml.{}_token_id", role.1))?;
        if let Some(text) = id.and_then(|id| tokens.get(usize::try_from(id).ok()?)?.as_text()) {
            config[format!("{}_token", role.0)] = text.into();
        }
    }
    if let Some(template) = metadata.get_text(file, "tokenizer.chat_template")? {
        config["chat_template"] = template.into();
    }
    Ok(config)
}
