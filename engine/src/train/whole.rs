//! Full fine-tuning: every weight is trained, as f32 masters that products round to the matrices' type as they read them.
//!
//! Slots by block: the seven projections, the norm before attention and the one before the feed-forward layers; then the embedding (with the
//! rows of new tokens), the last norm, and an own head. Names, shapes and row order are Hugging Face's, so that a checkpoint is a model's
//! folder. The optimizer steps after the whole backward pass, not block by block within it: clipping needs the norm of all gradients first.

use burn::Tensor;
use serde::{Deserialize, Serialize};

use super::{
    config::TrainConfig,
    flops::Flops,
    gradients::Trainee,
    lora::{Layout, LoraConfig, NewRows, Projection, Slot},
    model::{Base, Batch},
    place::Place,
};
use crate::{Result, generator::llama::LlamaConfig, weights::Weights};

/// What is trained.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Low-rank additions and the rows of new tokens.
    #[default]
    Lora,
    /// Every weight.
    Full,
}

impl Method {
    pub(super) fn is_lora(&self) -> bool {
        *self == Self::Lora
    }
}

/// Slots that belong to no block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ends {
    pub(super) embedding: usize,
    pub(super) norm: usize,
    /// The embedding's where they are tied.
    pub(super) head: usize,
}

/// A block's trained tensors among its slots.
pub(super) const ATTENTION_NORM: usize = Projection::ALL.len();
pub(super) const FEED_FORWARD_NORM: usize = ATTENTION_NORM + 1;
pub(super) const OF_BLOCK: usize = FEED_FORWARD_NORM + 1;

impl Layout {
    /// The layout of full fine-tuning, for a vocabulary of so many tokens.
    pub fn whole(config: &LlamaConfig, vocabulary: usize, tied: bool) -> Self {
        let mut slots = Vec::new();
        let mut slot = |name: String, rows: usize, cols: usize| {
            slots.push(Slot { name: format!("{name}.weight"), shape: [rows, cols] });
        };
        for block in 0..config.layers {
            for projection in Projection::ALL {
                let (outputs, inputs) = projection.shape(config);
                slot(format!("model.layers.{block}.{}", projection.module()), outputs, inputs);
            }
            for norm in ["input_layernorm", "post_attention_layernorm"] {
                slot(format!("model.layers.{block}.{norm}"), 1, config.hidden);
            }
        }
        slot("model.embed_tokens".into(), vocabulary, config.hidden);
        slot("model.norm".into(), 1, config.hidden);
        if !tied {
            slot("lm_head".into(), vocabulary, config.hidden);
        }
        Self::of_whole(slots, config.layers, tied)
    }
}

impl Base {
    /// Reads a model for full fine-tuning: its weights become the parameters, the base keeps its sizes only. `rows` are the ids of the added
    /// vocabulary; those that the base's tables lack are appended.
    pub fn load_whole(
        place: &Place,
        weights: &dyn Weights,
        rows: &[u32],
        new_rows: NewRows,
        seed: u64,
    ) -> Result<(Self, Vec<Tensor<2>>)> {
        let vocabulary = LlamaConfig::read(weights)?.vocabulary;
        let new: Vec<u32> = rows.iter().copied().filter(|&row| row as usize >= vocabulary).collect();
        let mut base = Self::load(&place.of_masters(), weights, &new, new_rows, seed)?;
        base.place = place.clone();
        let mut parameters = Vec::new();
        for block in std::mem::take(&mut base.blocks) {
            parameters.extend(block.projections);
            parameters.extend([block.attention_norm, block.feed_forward_norm].map(Tensor::unsqueeze::<2>));
        }
        let hidden = base.config.hidden;
        let nothing = || place.zeros([1, 1]);
        let [first_embedding, first_head] = std::mem::take(&mut base.first_rows);
        let whole = |table: Tensor<2>, first: Vec<f32>| match first.len() / hidden {
            0 => table,
            n => Tensor::cat(vec![table, place.tensor(first, [n, hidden])], 0),
        };
        parameters.push(whole(std::mem::replace(&mut base.embedding, nothing()), first_embedding));
        parameters.push(base.norm.clone().unsqueeze());
        if let Some(head) = base.head.take() {
            parameters.push(whole(head, first_head));
        }
        Ok((base, parameters))
    }

    /// Tokens of the vocabulary, the added ones among them.
    pub fn columns(&self) -> usize {
        self.columns.len()
    }

    /// Rows of a trained embedding.
    pub(super) fn look_up(&self, embedding: &Tensor<2>, batch: &Batch) -> Tensor<2> {
        embedding.clone().select(0, self.ids(batch))
    }

    pub(super) fn ids(&self, batch: &Batch) -> Tensor<1, burn::kind::Int> {
        self.place.indices(batch.ids.iter().map(|&id| id as i32).collect(), [batch.ids.len()])
    }
}

/// A model to train as the settings say, with its parameters at the start. `rows`: ids of the added vocabulary, ascending.
pub(super) fn prepare(
    config: &TrainConfig,
    place: &Place,
    weights: &dyn Weights,
    rows: Vec<u32>,
) -> Result<(Trainee, Vec<Tensor<2>>)> {
    match config.method {
        Method::Lora => {
            let base = Base::load(place, weights, &rows, config.new_rows, config.seed)?;
            let layout = Layout::new(&base.config, &config.lora, rows, base.tied);
            let parameters = base.start(&layout, config.seed);
            Ok((Trainee { base, lora: config.lora.clone(), layout }, parameters))
        }
        Method::Full => {
            let (base, parameters) = Base::load_whole(place, weights, &rows, config.new_rows, config.seed)?;
            let layout = Layout::whole(&base.config, base.columns(), base.tied);
            // No additions: its settings are unused.
            let lora = LoraConfig { targets: Vec::new(), dropout: 0.0, ..config.lora.clone() };
            Ok((Trainee { base, lora, layout }, parameters))
        }
    }
}

impl Trainee {
    /// The operations of its steps.
    pub(super) fn flops(&self) -> Flops {
        match self.layout.ends() {
            None => Flops::of_lora(&self.base.config, &self.layout),
            Some(_) => Flops::of_whole(&self.base.config, self.base.columns()),
        }
    }
}
