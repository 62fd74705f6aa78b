//! A run's settings: TOML or JSON, every name checked. The defaults are those of the original's command where it has one.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{
    lora::{LoraConfig, NewRows},
    optimizer::AdamWConfig,
    order::Fill,
    place::{Backend, Precision},
    schedule::Schedule,
    whole::Method,
};
use crate::{
    Error, Result,
    data::rows::{Masking, Template},
    tokenizer::SegmentPrefix,
};

/// Settings by name, before they are checked.
pub type Settings = serde_json::Map<String, serde_json::Value>;

/// What the loss of a step is the mean of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossMean {
    /// The mean of its micro-batches' means: what accelerate and older transformers do. Short micro-batches' tokens weigh more.
    #[default]
    MicroBatch,
    /// The mean over all its counted tokens: what newer transformers do (`num_items_in_batch`).
    Tokens,
}

/// A run's settings. Relative paths are seen from the working directory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// The base: a GGUF file, or a Hugging Face folder (safetensors or torch).
    pub model: PathBuf,
    /// A PEFT adapter that LoRA begins with, instead of zeros beside the base: peft's own, or a checkpoint without its optimizer. Rank, alpha, targets
    /// and new token rows must be those of this run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter: Option<PathBuf>,
    /// Rows to train on (see `data::rows`).
    pub data: PathBuf,
    /// Where checkpoints and the log go.
    pub output: PathBuf,
    /// What computes.
    #[serde(default)]
    pub backend: Backend,
    /// Which of several GPUs; none: the one of this process's local rank, or the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<usize>,
    /// The type of products with frozen matrices.
    #[serde(default)]
    pub precision: Precision,
    /// What is trained: additions (LoRA) or every weight.
    #[serde(default, skip_serializing_if = "Method::is_lora")]
    pub method: Method,
    /// LoRA's settings.
    #[serde(default)]
    pub lora: LoraConfig,
    /// How rows of new tokens begin.
    #[serde(default)]
    pub new_rows: NewRows,
    /// Whose templates; set by the command.
    #[serde(default)]
    pub template: Template,
    /// What is left out of the loss.
    #[serde(default)]
    pub masking: Masking,
    /// The space after special tokens (SentencePiece).
    #[serde(default)]
    pub segment_prefix: SegmentPrefix,
    /// Text of the token that ends an answer; none: the vocabulary's end token.
    #[serde(default)]
    pub end_token: Option<String>,
    /// Longest row in tokens.
    #[serde(default = "default::max_length")]
    pub max_length: usize,
    /// Rows that are computed at a time.
    #[serde(default = "default::micro_batch")]
    pub micro_batch: usize,
    /// Tokens, padding included, that are computed at a time; instead of `micro_batch`, so that short rows come many at a time and long ones few.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_tokens: Option<usize>,
    /// Micro-batches of an optimizer step, of each process.
    #[serde(default = "default::accumulation")]
    pub accumulation: usize,
    /// Lengths are padded to multiples of this: few different shapes for a GPU's tuner.
    #[serde(default = "default::pad_multiple")]
    pub pad_multiple: usize,
    /// What the loss is the mean of.
    #[serde(default)]
    pub loss_mean: LossMean,
    /// Times that every row is seen.
    #[serde(default = "default::epochs")]
    pub epochs: f64,
    /// Optimizer steps in all; instead of `epochs`.
    #[serde(default)]
    pub max_steps: Option<u64>,
    /// Highest learning rate.
    #[serde(default = "default::learning_rate")]
    pub learning_rate: f64,
    /// How it falls.
    #[serde(default)]
    pub schedule: Schedule,
    /// Part of all steps in which it rises.
    #[serde(default = "default::warmup_ratio")]
    pub warmup_ratio: f64,
    /// AdamW's constants.
    #[serde(default)]
    pub optimizer: AdamWConfig,
    /// Largest norm of a step's gradients.
    #[serde(default = "default::clip")]
    pub clip: f64,
    /// Where all randomness comes from.
    #[serde(default = "default::seed")]
    pub seed: u64,
    /// Blocks on the tape at a time; 0: all, so that nothing is computed twice.
    #[serde(default = "default::segment")]
    pub segment: usize,
    /// Tokens whose logits exist at a time.
    #[serde(default = "default::loss_chunk")]
    pub loss_chunk: usize,
    /// Optimizer steps between checkpoints; the last step always has one.
    #[serde(default = "default::save_every")]
    pub save_every: u64,
    /// Checkpoints that are kept; 0: all.
    #[serde(default = "default::keep")]
    pub keep: usize,
    /// Seconds that a process of several waits for another, at the start and in a step.
    #[serde(default = "default::rank_timeout")]
    pub rank_timeout: u64,
    /// What a device can do at most in this precision, in 10¹² operations a second, by its maker's word: then the log has MFU.
    #[serde(default)]
    pub peak_tflops: Option<f64>,
}

mod default {
    pub(super) fn max_length() -> usize {
        2048
    }
    pub(super) fn micro_batch() -> usize {
        1
    }
    pub(super) fn accumulation() -> usize {
        32
    }
    pub(super) fn pad_multiple() -> usize {
        64
    }
    pub(super) fn epochs() -> f64 {
        3.0
    }
    pub(super) fn learning_rate() -> f64 {
        2e-5
    }
    pub(super) fn warmup_ratio() -> f64 {
        0.03
    }
    pub(super) fn clip() -> f64 {
        1.0
    }
    pub(super) fn seed() -> u64 {
        42
    }
    pub(super) fn segment() -> usize {
        1
    }
    pub(super) fn loss_chunk() -> usize {
        1024
    }
    pub(super) fn save_every() -> u64 {
        300
    }
    pub(super) fn rank_timeout() -> u64 {
        600
    }
    pub(super) fn keep() -> usize {
        2
    }
}

/// The original scripts' and transformers' names for these settings; a file may use them too. A dot goes into a table.
pub const ALIASES: [(&str, &str); 27] = [
    ("model_name_or_path", "model"),
    ("train_file", "data"),
    ("data_path", "data"),
    ("output_dir", "output"),
    ("lora_rank", "lora.rank"),
    ("lora_alpha", "lora.alpha"),
    ("lora_dropout", "lora.dropout"),
    ("max_seq_length", "max_length"),
    ("model_max_length", "max_length"),
    ("per_device_train_batch_size", "micro_batch"),
    ("gradient_accumulation_steps", "accumulation"),
    ("num_train_epochs", "epochs"),
    ("max_train_steps", "max_steps"),
    ("lr_scheduler_type", "schedule"),
    ("weight_decay", "optimizer.weight_decay"),
    ("adam_beta1", "optimizer.beta1"),
    ("adam_beta2", "optimizer.beta2"),
    ("adam_epsilon", "optimizer.eps"),
    ("max_grad_norm", "clip"),
    ("checkpointing_steps", "save_every"),
    ("save_steps", "save_every"),
    ("save_total_limit", "keep"),
    ("lora_r", "lora.rank"),
    ("target_modules", "lora.targets"),
    ("lora_target_modules", "lora.targets"),
    ("rank", "lora.rank"),
    ("targets", "lora.targets"),
];

/// Settings that a resumed run may change: they do not touch its numbers, or only how far it goes on a device.
const FREE: [&str; 11] = [
    "output",
    "save_every",
    "keep",
    "model",
    "adapter",
    "data",
    "segment",
    "backend",
    "device",
    "peak_tflops",
    "rank_timeout",
];

impl TrainConfig {
    /// Settings from a file (TOML; JSON where its name ends so), laid over `defaults`, with `over` laid over both: how the command's options
    /// win.
    pub fn read(path: Option<&Path>, defaults: &Settings, over: &Settings) -> Result<Self> {
        let name = path.map_or("the command line".to_owned(), |path| path.display().to_string());
        let bad = |problem: String| Error::input(&name, "settings", problem);
        let settings = match path {
            None => Settings::new(),
            Some(path) => {
                let text = std::fs::read_to_string(path).map_err(|e| Error::io(&name, e))?;
                let json = path.extension().is_some_and(|extension| extension == "json");
                let value: serde_json::Value = match json {
                    true => serde_json::from_str(&text).map_err(|e| bad(e.to_string()))?,
                    false => toml::from_str(&text).map_err(|e| bad(e.to_string()))?,
                };
                match value {
                    serde_json::Value::Object(settings) => settings,
                    _ => return Err(bad("a table of settings expected".into())),
                }
            }
        };
        let mut all = own_names(defaults.clone());
        lay_over(&mut all, &own_names(settings));
        lay_over(&mut all, &own_names(over.clone()));
        let config: Self = serde_json::from_value(all.into()).map_err(|e| bad(e.to_string()))?;
        config.check()?;
        Ok(config)
    }

    /// Refuses what cannot be meant.
    pub fn check(&self) -> Result<()> {
        self.lora.check()?;
        if self.adapter.is_some() && self.method == Method::Full {
            return Err(Error::config("adapter", "LoRA begins with one; for `full`, merge it into the base first"));
        }
        self.optimizer.check()?;
        let at_least_one = [
            ("micro_batch", self.micro_batch),
            ("batch_tokens", self.batch_tokens.unwrap_or(1)),
            ("accumulation", self.accumulation),
            ("pad_multiple", self.pad_multiple),
            ("loss_chunk", self.loss_chunk),
            ("save_every", self.save_every as usize),
            ("rank_timeout", self.rank_timeout as usize),
        ];
        if let Some((name, _)) = at_least_one.into_iter().find(|(_, value)| *value == 0) {
            return Err(Error::config(name, "0, expected at least 1"));
        }
        if !(2..=1 << 20).contains(&self.max_length) {
            return Err(Error::config("max_length", format!("{}, expected 2 to {}", self.max_length, 1 << 20)));
        }
        let most = [
            ("micro_batch", self.micro_batch),
            ("batch_tokens", self.batch_tokens.unwrap_or(1)),
            ("accumulation", self.accumulation),
            ("pad_multiple", self.pad_multiple),
        ];
        if let Some((name, value)) = most.into_iter().find(|(_, value)| *value > 1 << 20) {
            return Err(Error::config(name, format!("{value}, expected at most {}", 1 << 20)));
        }
        let positive = [
            ("learning_rate", self.learning_rate),
            ("clip", self.clip),
            ("epochs", self.epochs),
            ("peak_tflops", self.peak_tflops.unwrap_or(1.0)),
        ];
        if let Some((name, value)) = positive.into_iter().find(|(_, value)| !(value.is_finite() && *value > 0.0)) {
            return Err(Error::config(name, format!("{value}, expected a positive number")));
        }
        if !(0.0..=1.0).contains(&self.warmup_ratio) {
            return Err(Error::config("warmup_ratio", format!("{}, expected 0 to 1", self.warmup_ratio)));
        }
        if self.max_steps == Some(0) {
            return Err(Error::config("max_steps", "0, expected at least 1"));
        }
        Ok(())
    }

    /// How many rows a micro-batch has.
    pub(super) fn fill(&self) -> Fill {
        match self.batch_tokens {
            None => Fill::Rows(self.micro_batch),
            Some(budget) => Fill::Tokens { budget, multiple: self.pad_multiple, longest: self.max_length },
        }
    }

    /// Blocks of a segment.
    pub(super) fn blocks_at_a_time(&self, all: usize) -> usize {
        if self.segment == 0 { all } else { self.segment }
    }

    /// The settings that a checkpoint's continuation must share, by name.
    pub fn fixed(&self) -> Settings {
        let value = serde_json::to_value(self).expect("settings are plain data");
        let serde_json::Value::Object(mut settings) = value else { unreachable!("a struct is an object") };
        FREE.iter().for_each(|name| drop(settings.remove(*name)));
        settings
    }
}

/// Settings by our names, tables where a dot stands.
fn own_names(settings: Settings) -> Settings {
    let mut own = Settings::new();
    for (name, value) in settings {
        let name = ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, own)| (*own).to_owned());
        let entry = match name.split_once('.') {
            Some((table, name)) => [(table.to_owned(), serde_json::json!({ name: value }))].into_iter().collect(),
            None => [(name, value)].into_iter().collect(),
        };
        lay_over(&mut own, &entry);
    }
    own
}

fn lay_over(settings: &mut Settings, over: &Settings) {
    for (name, value) in over {
        match (settings.get_mut(name), value) {
            (Some(serde_json::Value::Object(inner)), serde_json::Value::Object(over)) => lay_over(inner, over),
            _ => drop(settings.insert(name.clone(), value.clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, text: &str, over: serde_json::Value) -> Result<TrainConfig> {
        let path = std::env::temp_dir().join(format!("selfrag-settings-{}-{name}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        let serde_json::Value::Object(over) = over else { unreachable!() };
        let config = TrainConfig::read(Some(&path), &Settings::new(), &over);
        std::fs::remove_file(path).ok();
        config
    }

    #[test]
    fn files_options_and_the_originals_names_say_the_same() {
        let ours = "model = 'm'\ndata = 'd'\noutput = 'o'\nmax_length = 512\n[lora]\nrank = 8\nalpha = 16.0\n[optimizer]\nweight_decay = 0.01\n";
        let theirs = r#"{"model_name_or_path": "m", "train_file": "d", "output_dir": "x", "max_seq_length": 512, "lora_rank": 8, "lora_alpha": 16, "weight_decay": 0.01}"#;
        let ours = read("a.toml", ours, serde_json::json!({})).unwrap();
        let theirs = read("a.json", theirs, serde_json::json!({"output": "o"})).unwrap();
        assert_eq!(ours, theirs);
        assert_eq!((ours.lora.rank, ours.optimizer.weight_decay, ours.accumulation), (8, 0.01, 32));
    }

    #[test]
    fn bad_settings_are_named() {
        let base = "model = 'm'\ndata = 'd'\noutput = 'o'\n";
        for (line, problem) in [
            ("micro_batch = 0", "setting micro_batch: 0"),
            ("batch_tokens = 0", "setting batch_tokens: 0"),
            ("micro_batches = 3", "unknown field `micro_batches`"),
            ("learning_rate = -1", "setting learning_rate: -1"),
            ("schedule = 'steep'", "unknown variant `steep`"),
            ("lora = { dropout = 1.0 }", "setting lora.dropout: 1"),
            ("lora = { rank = 0 }", "setting lora.rank: 0"),
            ("max_length = 1", "setting max_length: 1"),
            ("seed = 'x'", "invalid type"),
            ("][", "settings.toml: settings"),
        ] {
            let error =
                read("settings.toml", &format!("{base}{line}\n"), serde_json::json!({})).unwrap_err().to_string();
            assert!(error.contains(problem), "{line}: {error}");
        }
        assert!(read("b.json", "[1]", serde_json::json!({})).is_err());
    }
}
