//! Llama on WGSL: any batch of sequences, prefill and decode alike, in one forward pass.
//!
//! A batch is a flat list of rows (token, position, sequence, cache slot). Every matrix is read once for all rows; attention looks
//! each row's past up through its sequence's page table, so N passages over one shared prompt are N sequences that share pages
//! and decode together. `decode` has the step in which each sequence goes on by one token: six launches a layer. Any other batch
//! takes nine: norm, qkv, rope + cache write, attention, output (+ residual), norm, gate + up, SwiGLU, down (+ residual).

mod config;
mod decode;
mod forward;
mod model;
mod sampling;
mod tune;

use std::{
    collections::{HashMap, HashSet},
    rc::Rc,
};

pub use config::LlamaConfig;
#[cfg(feature = "training")]
pub(crate) use model::check_shapes;
pub use model::{LoadProgress, Loaded};
pub use tune::{StepPlan, Tuned, Tunings};

use super::{
    Generator, SeqId, StepOutput,
    kv_cache::{PAGE, PageTable},
    sampler::{Sampler, Sampling},
};
use crate::{
    Error, Result,
    gpu::{Buffer, Gpu, Recording, Tensor},
    ops::{self, Integers, MAX_VEC_TOKENS, Squares, Tiles, self_test},
    platform::LocalFuture,
    weights::{DType, Weights},
};
use decode::{Step, StepKey};
use model::Model;

/// What to reserve beside the weights.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LlamaOptions {
    /// Tokens that fit the KV cache, all sequences together; none: 256 MB worth, 2,048 to 16,384 tokens.
    pub kv_tokens: Option<usize>,
    /// Rows a pass takes at a time; longer batches are cut. Bounds the memory for activations. None: 256, or 1,536 where cooperative
    /// matrices make more of them.
    pub max_rows: Option<usize>,
    /// Keep keys and values as f32 instead of f16: twice the memory, for comparisons with f32 references.
    pub kv_f32: bool,
    /// How a decoding step is computed. None: [`StepPlan::usual`]; [`Llama::tune`] measures which is quickest.
    pub plan: Option<StepPlan>,
    /// Queue the next step before the last is read, in the belief that the most likely tokens are taken. None: on a GPU, and not on a
    /// software device, which would compute in vain where the belief is wrong.
    pub look_ahead: Option<bool>,
}

/// A Llama with its KV cache.
#[derive(Debug)]
pub struct Llama {
    gpu: Gpu,
    config: LlamaConfig,
    model: Model,
    table: PageTable,
    cache: Vec<(Buffer, Buffer)>, // per layer keys and values: (slots, kv_heads · head_dim) in f16 or f32
    kv_f32: bool,
    plan: StepPlan,
    scratch: Scratch,
    /// What a decoding step launches.
    decode: HashMap<StepKey, Rc<Recording>>,
    /// The step after the last, started in the belief that the caller goes on with the most likely tokens.
    ahead: Option<Step>,
    looks_ahead: bool,
    /// The sequences that went on in the last step.
    streak: Vec<SeqId>,
    watch: Vec<u32>,
    sampler: Option<Sampler>, // none: greedy
    context_length: usize,
}

/// Activations; `rows` is [`LlamaOptions::max_rows`], or what it stands for.
#[derive(Debug)]
struct Scratch {
    rows: usize,
    x: Tensor,        // (rows, hidden): the residual stream
    normed: Tensor,   // (rows, or few where there are tiles; hidden)
    qkv: Tensor,      // (rows, qkv)
    q: Tensor,        // (rows, q)
    attended: Tensor, // (rows, q)
    gate_up: Tensor,  // (rows, or few where nothing else takes it; 2 · feed_forward)
    gated: Tensor,    // (rows, or few where there are tiles; feed_forward)
    // What products of block formats take, (rows ≤ MAX_VEC_TOKENS, …).
    x_int: Integers,        // hidden
    attended_int: Integers, // q
    gated_int: Integers,    // feed_forward
    /// Where the device has cooperative matrices: products of more than a few rows go there.
    tiles: Option<TileScratch>,
    last: Tensor,     // (OUT_ROWS, hidden)
    logits: Tensor,   // (OUT_ROWS, vocabulary)
    partials: Buffer, // (OUT_ROWS, chunks)
    out: Tensor,      // (OUT_ROWS, 2 + watched)
    watch: Buffer,    // (watched)
    picks: Buffer,    // (OUT_ROWS)
    row_info: Buffer, // (rows)
    pieces: Buffer,   // (rows ≤ MAX_VEC_TOKENS, heads, splits): attention in pieces
    pages: Buffer,    // (sequences ≤ rows, max_pages)
    max_pages: usize,
}

/// What products on cooperative matrices take, (rows, …).
#[derive(Debug)]
struct TileScratch {
    x: Tiles,         // hidden
    attended: Tiles,  // q
    gated: Tiles,     // feed_forward
    runs: Buffer,     // rows in runs, for attention
    squares: Squares, // of x, of few rows
}

/// Rows that are turned into logits at a time: a row of logits is as long as the vocabulary.
const OUT_ROWS: usize = 32;

impl Llama {
    /// Streams a model to the GPU; nothing of its size passes through host memory at once.
    pub async fn load(
        gpu: &Gpu,
        weights: &dyn Weights,
        options: LlamaOptions,
        on_progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Self> {
        let config = LlamaConfig::read(weights)?;
        // A GPU that computes wrongly is refused before a byte of the model is read.
        let formats = DType::distinct(weights.tensors().iter().map(|tensor| tensor.dtype));
        self_test::quick(gpu, &formats).await?;
        let per_token = config.kv_bytes_per_token();
        let kv_tokens = options.kv_tokens.unwrap_or_else(|| ((256 << 20) / per_token).clamp(2048, 16_384) as usize);
        let kv_tokens = kv_tokens.max(PAGE).next_multiple_of(PAGE);
        let context_length = config.context_length.min(kv_tokens);
        let model = Model::load(gpu, weights, &config, context_length, on_progress).await?;
        let kv_bytes = config.heads.kv_heads * config.heads.head_dim * if options.kv_f32 { 4 } else { 2 };
        let layer = || -> Result<(Buffer, Buffer)> {
            let bytes = (kv_tokens * kv_bytes) as u64;
            Ok((gpu.buffer("key cache", bytes)?, gpu.buffer("value cache", bytes)?))
        };
        let cache = (0..config.layers).map(|_| layer()).collect::<Result<_>>()?;
        // Products on cooperative matrices write whole tiles of rows.
        let max_rows = options.max_rows.unwrap_or(if gpu.is_cooperative() { 1536 } else { 256 }).max(1);
        let coop = model.can_coop(gpu) && max_rows >= 128;
        let max_rows = if coop { max_rows / 128 * 128 } else { max_rows };
        let gated_at_once = coop && model.layers.iter().all(|layer| layer.gate_up.is_whole());
        let scratch = Scratch::new(gpu, &config, max_rows, context_length, (coop, gated_at_once))?;
        let table = PageTable::new(kv_tokens / PAGE, context_length);
        let kv_f32 = options.kv_f32;
        Ok(Self {
            gpu: gpu.clone(),
            config,
            model,
            table,
            cache,
            kv_f32,
            plan: options.plan.unwrap_or_else(|| StepPlan::usual(gpu.facts())),
            scratch,
            decode: HashMap::new(),
            ahead: None,
            looks_ahead: options.look_ahead.unwrap_or(!gpu.facts().software),
            streak: Vec::new(),
            watch: Vec::new(),
            sampler: None,
            context_length,
        })
    }

    /// The device it is on.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// The model's sizes.
    pub fn config(&self) -> &LlamaConfig {
        &self.config
    }

    /// What was read of the model, and in how long.
    pub fn loaded(&self) -> Loaded {
        self.model.loaded
    }

    /// Bytes of the KV cache.
    pub fn cache_bytes(&self) -> u64 {
        self.cache.iter().map(|(keys, values)| keys.bytes() + values.bytes()).sum()
    }

    /// Free places in the KV cache, in tokens.
    pub fn free_tokens(&self) -> usize {
        self.table.free_pages() * PAGE
    }

    fn check(&self, batch: &[(SeqId, Vec<u32>)]) -> Result<()> {
        let mut seen = HashSet::new();
        for (seq, tokens) in batch {
            assert!(seen.insert(seq), "a sequence may be extended once a batch");
            assert!(!tokens.is_empty(), "each sequence of a batch gets at least one token");
            if let Some(token) = tokens.iter().find(|t| **t as usize >= self.config.vocabulary) {
                let problem = format!("id {token}, but the model's vocabulary has {} tokens", self.config.vocabulary);
                return Err(Error::input("prompt", "token", problem));
            }
        }
        Ok(())
    }
}

impl Scratch {
    /// `coop`: products of many rows take tiles; `gated_at_once`: that of gate and up gives their SwiGLU, and nothing between.
    fn new(
        gpu: &Gpu,
        config: &LlamaConfig,
        rows: usize,
        context_length: usize,
        (coop, gated_at_once): (bool, bool),
    ) -> Result<Self> {
        let max_pages = context_length.div_ceil(PAGE);
        let out_rows = rows.min(OUT_ROWS);
        let few = rows.min(MAX_VEC_TOKENS);
        // Where products of many rows take tiles, only those of few rows take these.
        let plain_rows = if coop { few.max(out_rows) } else { rows };
        let pieces = ops::pieces_bytes(config.heads, few, ops::splits(context_length));
        Ok(Self {
            rows,
            x: gpu.tensor("x", rows, config.hidden)?,
            normed: gpu.tensor("normed", plain_rows, config.hidden)?,
            qkv: gpu.tensor("qkv", rows, config.qkv())?,
            q: gpu.tensor("q", rows, config.q())?,
            attended: gpu.tensor("attended", rows, config.q())?,
            gate_up: gpu.tensor("gate_up", if gated_at_once { plain_rows } else { rows }, 2 * config.feed_forward)?,
            gated: gpu.tensor("gated", plain_rows, config.feed_forward)?,
            x_int: Integers::new(gpu, "x", few, config.hidden)?,
            attended_int: Integers::new(gpu, "attended", few, config.q())?,
            gated_int: Integers::new(gpu, "gated", few, config.feed_forward)?,
            tiles: match coop {
                true => Some(TileScratch {
                    x: Tiles::new(gpu, "x", rows, config.hidden)?,
                    attended: Tiles::new(gpu, "attended", rows, config.q())?,
                    gated: Tiles::new(gpu, "gated", rows, config.feed_forward)?,
                    runs: gpu.buffer("runs", (rows * size_of::<ops::Run>()) as u64)?,
                    squares: Squares::new(gpu, config.hidden)?,
                }),
                false => None,
            },
            last: gpu.tensor("last", out_rows, config.hidden)?,
            logits: gpu.tensor("logits", out_rows, config.vocabulary)?,
            partials: gpu.buffer("partials", crate::ops::partials_bytes(config.vocabulary, out_rows))?,
            out: gpu.tensor("out", out_rows, 2)?,
            watch: gpu.upload_words("watch", &[0])?,
            picks: gpu.upload_words("picks", &vec![0; out_rows])?,
            pieces: gpu.buffer("pieces", pieces)?,
            row_info: gpu.buffer("rows", (rows * 16) as u64)?,
            pages: gpu.buffer("pages", (rows * max_pages * 4) as u64)?,
            max_pages,
        })
    }
}

impl Generator for Llama {
    fn context_length(&self) -> usize {
        self.context_length
    }

    fn watch(&mut self, tokens: &[u32]) {
        assert!(tokens.iter().all(|t| (*t as usize) < self.config.vocabulary), "watched tokens are in the vocabulary");
        // Asked for with every question, and mostly the same: what was recorded stays good.
        if tokens == self.watch {
            return;
        }
        self.forget_ahead();
        let watch = if tokens.is_empty() { &[0][..] } else { tokens };
        let sized = self.gpu.upload_words("watch", watch);
        let out = self.gpu.tensor("out", self.scratch.out.rows, 2 + tokens.len());
        // A few hundred bytes: if they do not fit, the old ones stay, and the next pass reports the device's error.
        if let (Ok(buffer), Ok(out)) = (sized, out) {
            self.scratch.watch = buffer;
            self.scratch.out = out;
            self.watch = tokens.to_vec();
            // They name the buffers that were.
            self.decode.clear();
        }
    }

    fn set_sampling(&mut self, sampling: Sampling) -> Result<()> {
        let sampler = Sampler::new(sampling)?;
        self.forget_ahead();
        self.sampler = Some(sampler).filter(|_| !sampling.is_greedy());
        Ok(())
    }

    fn start(&mut self) -> Result<SeqId> {
        self.forget_ahead();
        Ok(self.table.start())
    }

    fn fork(&mut self, seq: SeqId) -> Result<SeqId> {
        self.forget_ahead();
        Ok(self.table.fork(seq))
    }

    fn free(&mut self, seq: SeqId) {
        self.forget_ahead();
        self.table.free(seq);
        if let Some(sampler) = &mut self.sampler {
            sampler.forget(seq);
        }
    }

    fn forward<'a>(&'a mut self, batch: &'a [(SeqId, Vec<u32>)]) -> LocalFuture<'a, Result<Vec<StepOutput>>> {
        Box::pin(self.run(batch))
    }
}
