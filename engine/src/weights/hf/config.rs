//! config.json (and sentence-transformers' modules.json) as GGUF metadata.
//!
//! What would change the arithmetic and is not implemented is refused by name, never ignored.

use std::path::Path;

use serde_json::Value as Json;

use crate::{
    Error, Result,
    weights::{Metadata, Value, folder, names::Family},
};

/// More blocks than any model has; keeps a hostile number from being counted to.
const MAX_BLOCKS: u64 = 10_000;

/// What the configuration says about the model.
pub(super) struct Model {
    pub(super) family: Family,
    pub(super) architecture: String,
    pub(super) metadata: Metadata,
    pub(super) head_dim: usize,
    pub(super) n_blocks: usize,
    /// The head is the embedding.
    pub(super) tied: bool,
}

/// Reads config.json and what stands beside it.
pub(super) fn read(path: &Path, file: &str, json: &Json) -> Result<Model> {
    let config = Config { file, json };
    let (family, architecture) = match json["model_type"].as_str() {
        Some("llama") => (Family::Llama, "llama"),
        Some("bert") => (Family::Bert, "bert"),
        other => return Err(config.bad("model_type", &format!("{other:?} found, \"llama\" or \"bert\" expected"))),
    };
    let (hidden, n_heads) = (config.size("hidden_size")?, config.size("num_attention_heads")?);
    if !hidden.is_multiple_of(2 * n_heads) {
        return Err(
            config.bad("num_attention_heads", &format!("{n_heads} heads do not share {hidden} values in pairs"))
        );
    }
    let n_blocks = config.size("num_hidden_layers")?;
    if n_blocks > MAX_BLOCKS {
        return Err(config.bad("num_hidden_layers", &format!("{n_blocks} found, at most {MAX_BLOCKS} expected")));
    }
    let mut keys = Keys { architecture, metadata: Metadata::new() };
    keys.metadata.insert("general.architecture".into(), architecture.into());
    let name = path.canonicalize().ok().and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
    keys.metadata.insert("general.name".into(), Value::Text(name.unwrap_or_else(|| architecture.to_owned())));
    keys.set("context_length", Value::U64(config.size("max_position_embeddings")?));
    keys.set("embedding_length", Value::U64(hidden));
    keys.set("block_count", Value::U64(n_blocks));
    keys.set("feed_forward_length", Value::U64(config.size("intermediate_size")?));
    keys.set("attention.head_count", Value::U64(n_heads));
    let tied = match family {
        Family::Llama => llama(&config, &mut keys, hidden, n_heads)?,
        Family::Bert => bert(&config, &mut keys, path)?,
    };
    Ok(Model {
        family,
        architecture: architecture.to_owned(),
        metadata: keys.metadata,
        head_dim: (hidden / n_heads) as usize,
        n_blocks: n_blocks as usize,
        tied,
    })
}

/// Llama's own keys; returns whether the head is the embedding.
fn llama(config: &Config, keys: &mut Keys, hidden: u64, n_heads: u64) -> Result<bool> {
    let json = config.json;
    config.only("hidden_act", &[Json::Null, "silu".into()])?;
    config.only("attention_bias", &[Json::Null, false.into()])?;
    config.only("mlp_bias", &[Json::Null, false.into()])?;
    let head_dim = hidden / n_heads;
    config.only("head_dim", &[Json::Null, head_dim.into()])?;
    // transformers 5 keeps both settings of RoPE in one object.
    let rope = if json["rope_parameters"].is_object() { &json["rope_parameters"] } else { &json["rope_scaling"] };
    let rope_type = rope["rope_type"].as_str().or(rope["type"].as_str()).unwrap_or("default");
    if rope_type != "default" {
        return Err(config.bad("rope_scaling", &format!("{rope_type:?} is not supported, \"default\" expected")));
    }
    let theta = rope["rope_theta"].as_f64().or(json["rope_theta"].as_f64()).unwrap_or(10_000.0);
    let epsilon = json["rms_norm_eps"].as_f64().ok_or_else(|| config.bad("rms_norm_eps", "a number expected"))?;
    let n_kv_heads =
        if json["num_key_value_heads"].is_null() { n_heads } else { config.size("num_key_value_heads")? };
    if !n_heads.is_multiple_of(n_kv_heads) {
        return Err(config.bad("num_key_value_heads", &format!("{n_kv_heads} do not divide {n_heads} heads")));
    }
    keys.set("attention.head_count_kv", Value::U64(n_kv_heads));
    keys.set("attention.layer_norm_rms_epsilon", Value::F64(epsilon));
    keys.set("rope.freq_base", Value::F64(theta));
    keys.set("rope.dimension_count", Value::U64(head_dim));
    Ok(json["tie_word_embeddings"].as_bool().unwrap_or(false))
}

/// BERT's own keys. It has no head.
fn bert(config: &Config, keys: &mut Keys, path: &Path) -> Result<bool> {
    config.only("hidden_act", &[Json::Null, "gelu".into()])?;
    config.only("position_embedding_type", &[Json::Null, "absolute".into()])?;
    let epsilon =
        config.json["layer_norm_eps"].as_f64().ok_or_else(|| config.bad("layer_norm_eps", "a number expected"))?;
    keys.set("attention.layer_norm_epsilon", Value::F64(epsilon));
    keys.set("attention.causal", Value::Bool(false));
    let token_types = config.json["type_vocab_size"].as_u64().unwrap_or(2);
    keys.metadata.insert("tokenizer.ggml.token_type_count".into(), Value::U64(token_types));
    let pooling = pooling(path)?;
    keys.set("pooling_type", Value::U64(pooling.pooling_type));
    keys.metadata.insert("selfrag.embedding.normalize".into(), Value::Bool(pooling.normalize));
    if let Some(length) =
        folder::read_json(path, "sentence_bert_config.json")?.and_then(|json| json["max_seq_length"].as_u64())
    {
        keys.metadata.insert("selfrag.embedding.max_length".into(), Value::U64(length));
    }
    Ok(false)
}

/// How token vectors become one.
struct Pooling {
    /// llama.cpp's number: 1 mean, 2 the first token's.
    pooling_type: u64,
    normalize: bool,
}

/// sentence-transformers' modules; without them the mean as it is, which is Contriever's way.
fn pooling(path: &Path) -> Result<Pooling> {
    let mut pooling = Pooling { pooling_type: 1, normalize: false };
    let Some(modules) = folder::read_json(path, "modules.json")? else { return Ok(pooling) };
    let file = path.join("modules.json").display().to_string();
    for module in modules.as_array().into_iter().flatten() {
        let type_name = module["type"].as_str().unwrap_or("");
        match type_name.rsplit('.').next() {
            Some("Transformer") => {}
            Some("Normalize") => pooling.normalize = true,
            Some("Pooling") => {
                let folder_name = module["path"].as_str().unwrap_or("1_Pooling");
                // The path may be anybody's: only a plain name stays in the folder.
                let is_plain = Path::new(folder_name).file_name().is_some_and(|name| name == folder_name);
                let config = if is_plain { folder::read_json(&path.join(folder_name), "config.json")? } else { None };
                pooling.pooling_type = pooling_type(&file, &config.unwrap_or(Json::Null))?;
            }
            _ => return Err(Error::input(file, "type", format!("{type_name:?} is not supported"))),
        }
    }
    Ok(pooling)
}

fn pooling_type(file: &str, config: &Json) -> Result<u64> {
    let modes = config.as_object().into_iter().flatten();
    let on: Vec<&str> = modes
        .filter(|(key, on)| key.starts_with("pooling_mode_") && on.as_bool() == Some(true))
        .map(|(key, _)| key.as_str())
        .collect();
    match on[..] {
        ["pooling_mode_mean_tokens"] => Ok(1),
        ["pooling_mode_cls_token"] => Ok(2),
        _ => Err(Error::input(file, "Pooling", format!("{on:?} found, one of mean and CLS expected"))),
    }
}

/// Keys under the architecture's name.
struct Keys {
    architecture: &'static str,
    metadata: Metadata,
}

impl Keys {
    fn set(&mut self, key: &str, value: Value) {
        self.metadata.insert(format!("{}.{key}", self.architecture), value);
    }
}

struct Config<'a> {
    file: &'a str,
    json: &'a Json,
}

impl Config<'_> {
    /// A positive whole number that fits 32 bits.
    fn size(&self, key: &str) -> Result<u64> {
        let found = self.json[key].as_u64().filter(|n| (1..=u32::MAX.into()).contains(n));
        found.ok_or_else(|| self.bad(key, &format!("{} found, a positive whole number expected", self.json[key])))
    }

    fn only(&self, key: &str, allowed: &[Json]) -> Result<()> {
        if allowed.contains(&self.json[key]) {
            return Ok(());
        }
        Err(self.bad(key, &format!("{} is not supported", self.json[key])))
    }

    fn bad(&self, key: &str, problem: &str) -> Error {
        Error::input(self.file, key, problem)
    }
}
