//! What is trained: low-rank additions to the seven projections, and the rows of the new tokens.
//!
//! LoRA (arXiv 2106.09685) is computed beside the frozen product, x·Wᵀ + s·(drop(x)·Aᵀ)·Bᵀ with s = alpha / rank, as PEFT does: adding B·A to
//! W first could not drop values of x, would cost a dense gradient of W, and would round small updates away.

use burn::Tensor;
use serde::{Deserialize, Serialize};

use super::{
    place::Place,
    random::Key,
    whole::{Ends, OF_BLOCK},
};
use crate::{Error, Result, generator::llama::LlamaConfig};

/// A projection that LoRA can be added to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Projection {
    QProj,
    KProj,
    VProj,
    OProj,
    GateProj,
    UpProj,
    DownProj,
}

/// Where a projection is in Hugging Face's and in GGUF's names.
const PLACES: [(Projection, &str, &str); 7] = [
    (Projection::QProj, "self_attn.q_proj", "attn_q"),
    (Projection::KProj, "self_attn.k_proj", "attn_k"),
    (Projection::VProj, "self_attn.v_proj", "attn_v"),
    (Projection::OProj, "self_attn.o_proj", "attn_output"),
    (Projection::GateProj, "mlp.gate_proj", "ffn_gate"),
    (Projection::UpProj, "mlp.up_proj", "ffn_up"),
    (Projection::DownProj, "mlp.down_proj", "ffn_down"),
];

impl Projection {
    /// All, in the order in which a block has them.
    pub const ALL: [Self; 7] =
        [Self::QProj, Self::KProj, Self::VProj, Self::OProj, Self::GateProj, Self::UpProj, Self::DownProj];

    /// The module's path in a block, e.g. `self_attn.q_proj`.
    pub fn module(self) -> &'static str {
        PLACES[self as usize].1
    }

    /// The last part of that, as PEFT's `target_modules` has it.
    pub fn name(self) -> &'static str {
        self.module().split_once('.').expect("every path has two parts").1
    }

    /// The name of its matrix in a block, in GGUF's words.
    pub(super) fn gguf_name(self) -> &'static str {
        PLACES[self as usize].2
    }

    /// Rows (outputs) and columns (inputs) of its matrix.
    pub(super) fn shape(self, config: &LlamaConfig) -> (usize, usize) {
        let kv = config.heads.kv_heads * config.heads.head_dim;
        match self {
            Self::QProj => (config.q(), config.hidden),
            Self::KProj | Self::VProj => (kv, config.hidden),
            Self::OProj => (config.hidden, config.q()),
            Self::GateProj | Self::UpProj => (config.feed_forward, config.hidden),
            Self::DownProj => (config.hidden, config.feed_forward),
        }
    }
}

/// How the rows of new tokens begin.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NewRows {
    /// As the mean of the base's rows (the critic's script, and transformers' newer `resize_token_embeddings`).
    #[default]
    Mean,
    /// Normal with a standard deviation of 0.02 (the generator's released script).
    Normal,
}

/// LoRA's settings, in PEFT's words.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LoraConfig {
    /// Rows of A. The original's default is 64; the post that trains Self-RAG by LoRA has 8.
    pub rank: usize,
    /// The addition is scaled by alpha / rank.
    pub alpha: f64,
    /// Probability with which a value of the projection's input is dropped.
    pub dropout: f64,
    /// The projections, all seven by default; the original has PEFT's default, q_proj and v_proj.
    pub targets: Vec<Projection>,
}

impl Default for LoraConfig {
    fn default() -> Self {
        Self { rank: 16, alpha: 32.0, dropout: 0.05, targets: Projection::ALL.to_vec() }
    }
}

impl LoraConfig {
    /// Refuses what cannot be meant.
    pub fn check(&self) -> Result<()> {
        if !(1..=4096).contains(&self.rank) {
            return Err(Error::config("lora.rank", format!("{}, expected 1 to 4096", self.rank)));
        }
        if !(self.alpha.is_finite() && self.alpha > 0.0) {
            return Err(Error::config("lora.alpha", format!("{}, expected a positive number", self.alpha)));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(Error::config("lora.dropout", format!("{}, expected 0 up to, not including, 1", self.dropout)));
        }
        let mut targets = self.targets.clone();
        targets.sort_unstable();
        targets.dedup();
        if targets.len() != self.targets.len() {
            return Err(Error::config("lora.targets", "a projection is named twice"));
        }
        Ok(())
    }

    pub(super) fn scale(&self) -> f64 {
        self.alpha / self.rank as f64
    }
}

/// One trained matrix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// Its name in a PEFT adapter, or in a model's folder.
    pub name: String,
    /// Rows and columns; a vector is one row.
    pub shape: [usize; 2],
}

impl Slot {
    /// The shape that a file has: norms are vectors there.
    pub(super) fn stored_shape(&self) -> Vec<usize> {
        if self.name.ends_with("norm.weight") { vec![self.shape[1]] } else { self.shape.to_vec() }
    }
}

/// Which matrices are trained, in a fixed order: for each block and target A and B, then the rows of the embedding, then those of an own head.
#[derive(Debug, Clone, PartialEq)]
pub struct Layout {
    /// The matrices.
    pub slots: Vec<Slot>,
    /// Ids of the trained rows, ascending.
    pub rows: Vec<u32>,
    targets: Vec<Projection>,
    blocks: usize,
    tied: bool,
    whole: bool,
}

impl Layout {
    /// Of full fine-tuning (see `Layout::whole`).
    pub(super) fn of_whole(slots: Vec<Slot>, blocks: usize, tied: bool) -> Self {
        Self { slots, rows: Vec::new(), targets: Vec::new(), blocks, tied, whole: true }
    }

    /// The slots outside of blocks, when every weight is trained.
    pub(super) fn ends(&self) -> Option<Ends> {
        let embedding = self.blocks * OF_BLOCK;
        let head = if self.tied { embedding } else { embedding + 2 };
        self.whole.then_some(Ends { embedding, norm: embedding + 1, head })
    }

    /// The layout of a model. `rows`: ids of the tokens whose rows are trained, ascending.
    pub fn new(config: &LlamaConfig, lora: &LoraConfig, rows: Vec<u32>, tied: bool) -> Self {
        let mut targets = lora.targets.clone();
        targets.sort_unstable();
        let mut slots = Vec::new();
        for block in 0..config.layers {
            for target in &targets {
                let (outputs, inputs) = target.shape(config);
                let path = format!("base_model.model.model.layers.{block}.{}", target.module());
                slots.push(Slot { name: format!("{path}.lora_A.weight"), shape: [lora.rank, inputs] });
                slots.push(Slot { name: format!("{path}.lora_B.weight"), shape: [outputs, lora.rank] });
            }
        }
        let tables: &[&str] = if tied { &["model.embed_tokens"] } else { &["model.embed_tokens", "lm_head"] };
        for table in tables.iter().filter(|_| !rows.is_empty()) {
            let name = format!("base_model.model.{table}.token_adapter.trainable_tokens_delta");
            slots.push(Slot { name, shape: [rows.len(), config.hidden] });
        }
        Self { slots, rows, targets, blocks: config.layers, tied, whole: false }
    }

    /// A block's slots.
    pub(super) fn block(&self, block: usize) -> std::ops::Range<usize> {
        let each = if self.whole { OF_BLOCK } else { 2 * self.targets.len() };
        block * each..(block + 1) * each
    }

    /// The slot of the embedding's rows.
    pub(super) fn embedding_rows(&self) -> Option<usize> {
        (!self.rows.is_empty()).then_some(2 * self.targets.len() * self.blocks)
    }

    /// The slot of the head's rows: with a tied head the embedding's.
    pub(super) fn head_rows(&self) -> Option<usize> {
        self.embedding_rows().map(|slot| if self.tied { slot } else { slot + 1 })
    }

    /// Place of a projection among a block's targets.
    pub(super) fn target(&self, projection: Projection) -> Option<usize> {
        self.targets.iter().position(|&target| target == projection)
    }

    /// The projections.
    pub fn targets(&self) -> &[Projection] {
        &self.targets
    }

    /// Values of A and B of all blocks.
    pub(super) fn n_additions(&self) -> usize {
        let slots = &self.slots[..2 * self.targets.len() * self.blocks];
        slots.iter().map(|slot| slot.shape[0] * slot.shape[1]).sum()
    }

    /// Values to train.
    pub fn n_values(&self) -> usize {
        self.slots.iter().map(|slot| slot.shape[0] * slot.shape[1]).sum()
    }

    /// The start: A uniform within ±1/√inputs (PEFT's, that is Kaiming's with a = √5), B zero; rows as given, (embedding, head).
    pub(super) fn start(&self, place: &Place, seed: u64, rows: [&[f32]; 2]) -> Vec<Tensor<2>> {
        let first_table = self.embedding_rows().unwrap_or(self.slots.len());
        let value = |(index, slot): (usize, &Slot)| {
            let n = slot.shape[0] * slot.shape[1];
            if index >= first_table {
                return place.tensor(rows[index - first_table].to_vec(), slot.shape);
            }
            if index % 2 == 1 {
                return place.zeros(slot.shape);
            }
            let bound = 1.0 / (slot.shape[1] as f64).sqrt();
            let key = Key::new(&[seed, START, index as u64]);
            let values = (0..n as u64).map(|i| ((2.0 * key.uniform(i) - 1.0) * bound) as f32).collect();
            place.tensor(values, slot.shape)
        };
        self.slots.iter().enumerate().map(value).collect()
    }
}

/// The streams of random numbers, apart from each other.
pub(super) const START: u64 = 1;
pub(super) const ROWS: u64 = 2;
pub(super) const DROPOUT: u64 = 3;
pub(super) const ORDER: u64 = 4;
