//! The loop: batches in, optimizer steps, checkpoints and a log out.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use burn::Tensor;
use serde::{Deserialize, Serialize};

use super::{
    checkpoint::{self, Adapter, Checkpoints, State},
    config::{LossMean, Settings, TrainConfig},
    examples::{Census, NewTokens},
    flops::Flops,
    gradients::{Gradients, Pieces, Trainee},
    log::{Clock, Log, Pace},
    lora::DROPOUT,
    model::Batch,
    optimizer::{AdamW, clip_factor, joined, norm, scaled},
    order,
    place::{Place, Precision, device_error, values},
    random::Key,
    ranks::Ranks,
    schedule::Schedule,
    whole::{Method, prepare},
};
use crate::{
    Error, Result,
    data::encode::{Encoding, Example},
    tokenizer::{Tokenizer, tokenizer_json},
    weights::{
        self, DType, MetadataExt,
        hf::{config_json, tokenizer_config},
    },
};

/// Of the files' layout.
const VERSION: u32 = 1;

/// The loss's scale at the start in f16, as PyTorch's GradScaler has it, and after how many good steps it doubles.
const FIRST_SCALE: f64 = 65536.0;
const SCALE_GROWS_AFTER: u64 = 2000;

/// What an optimizer step did: a line of the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Counted from 1.
    pub step: u64,
    /// Epochs done, with their fraction.
    pub epoch: f64,
    /// Mean loss per counted token, in nats.
    pub loss: f64,
    /// Learning rate of this step.
    pub lr: f64,
    /// Norm of the gradients before clipping.
    pub grad_norm: f64,
    /// Tokens, padding left out.
    pub tokens: u64,
    /// Tokens that counted in the loss.
    pub trained_tokens: u64,
    /// Floating-point operations that the step needed (see [`Flops`]).
    pub flops: f64,
}

/// A run under way.
pub struct Trainer {
    config: TrainConfig,
    trainee: Trainee,
    ranks: Ranks,
    flops: Flops,
    parameters: Vec<Tensor<2>>,
    optimizer: AdamW,
    examples: Vec<Example>,
    census: Census,
    new_tokens: NewTokens,
    tokenizer_json: Option<String>,
    /// What a model's folder has beside weights and tokenizer.json, in full fine-tuning.
    model_files: Option<[(&'static str, serde_json::Value); 2]>,
    base_name: String,
    state: State,
    /// The epoch whose order this is.
    order: (u64, Vec<Vec<usize>>),
    steps_per_epoch: u64,
    total_steps: u64,
}

impl Trainer {
    /// Reads model and data; with `checkpoint`, goes on where that stands.
    pub fn new(config: TrainConfig, checkpoint: Option<&Path>) -> Result<Self> {
        Self::among(config, checkpoint, Ranks::alone())
    }

    /// The same as one process of several.
    pub fn among(config: TrainConfig, checkpoint: Option<&Path>, ranks: Ranks) -> Result<Self> {
        guarded(|| Self::new_unguarded(config, checkpoint, ranks))
    }

    fn new_unguarded(config: TrainConfig, checkpoint: Option<&Path>, ranks: Ranks) -> Result<Self> {
        config.check()?;
        let place = Place::open(config.backend, config.precision, config.device.or(ranks.local()))?;
        let weights = weights::open(&config.model, None)?;
        let (file, metadata) = (weights.name().to_owned(), weights.metadata());
        let mut tokenizer = Tokenizer::from_metadata(&file, metadata)?;
        let new_tokens = NewTokens::add(&mut tokenizer, config.template);
        let encoding = Encoding {
            template: config.template,
            masking: config.masking,
            segment_prefix: config.segment_prefix,
            end: end_token(&file, &config, &tokenizer)?,
            max_length: config.max_length,
        };
        let (examples, census, data) = encoding.encode_file(&tokenizer, &config.data)?;
        let state = State {
            version: VERSION,
            step: 0,
            tokens: 0,
            scale: if config.precision == Precision::F16 { FIRST_SCALE } else { 1.0 },
            scale_age: 0,
            base: checkpoint::fingerprint(weights.as_ref())?,
            tokenizer: checkpoint::vocabulary_fingerprint(&tokenizer),
            data,
            settings: settings(&config, &ranks),
        };
        let (trainee, parameters) = prepare(&config, &place, weights.as_ref(), new_tokens.rows())?;
        let context = trainee.base.config.context_length;
        if context < config.max_length {
            let problem = format!("{}, but {file} was made for {context} tokens", config.max_length);
            return Err(Error::config("max_length", problem));
        }
        let mut tokenizer_text = metadata.get_text(&file, "tokenizer.huggingface.json")?.map(str::to_owned);
        let mut model_files = None;
        if config.method == Method::Full {
            tokenizer_text = Some(tokenizer_json(&file, metadata)?.to_string());
            let mut model = config_json(weights.as_ref(), DType::F32)?;
            model["vocab_size"] = trainee.base.columns.len().into();
            model_files = Some([("tokenizer_config.json", tokenizer_config(&file, metadata)?), ("config.json", model)]);
        }
        let lengths: Vec<usize> = examples.iter().map(|example| example.ids.len()).collect();
        let micro_batches = order::epoch(&lengths, config.fill(), config.seed, 0).len() as u64;
        let steps_per_epoch = micro_batches.div_ceil((config.accumulation * ranks.ranks()) as u64);
        let total_steps = config.max_steps.unwrap_or((config.epochs * steps_per_epoch as f64).ceil() as u64);
        let mut trainer = Self {
            flops: trainee.flops(),
            optimizer: AdamW::new(config.optimizer, &parameters),
            trainee,
            ranks,
            model_files,
            base_name: file,
            order: (u64::MAX, Vec::new()),
            config,
            parameters,
            examples,
            census,
            new_tokens,
            tokenizer_json: tokenizer_text,
            state,
            steps_per_epoch,
            total_steps,
        };
        // Of the parameters that an adapter gives: all processes must begin with the same.
        let mut start = String::new();
        if let (Some(folder), None) = (&trainer.config.adapter, checkpoint) {
            trainer.parameters = checkpoint::read_adapter(folder, &trainer.trainee, &trainer.new_tokens, &place)?;
            if trainer.ranks.ranks() > 1 {
                start = checkpoint::digest(&trainer.parameters)?;
            }
        }
        if let Some(path) = checkpoint {
            // Before its tensors, whose shapes may be what other settings change.
            checkpoint::read_state(path)?.check_same(&path.display().to_string(), &trainer.state)?;
            let (state, parameters, moments) = checkpoint::read(path, &trainer.trainee.layout, &place)?;
            trainer.optimizer.resume(state.step, moments);
            (trainer.state, trainer.parameters) = (state, parameters);
        }
        let State { step, base, tokenizer, data, settings, .. } = &trainer.state;
        trainer.ranks.agree(&[
            ("step", step.to_string()),
            ("base", base.clone()),
            ("tokenizer", tokenizer.clone()),
            ("data", data.clone()),
            ("adapter", start),
            ("settings", serde_json::Value::Object(settings.clone()).to_string()),
        ])?;
        Ok(trainer)
    }

    /// What became of the data's rows.
    pub fn census(&self) -> &Census {
        &self.census
    }

    /// Values that are trained.
    pub fn n_trained(&self) -> usize {
        self.trainee.layout.n_values()
    }

    /// Whether this process writes log and checkpoints: of several the first.
    pub fn leads(&self) -> bool {
        self.ranks.rank() == 0
    }

    /// Optimizer steps done.
    pub fn steps_done(&self) -> u64 {
        self.state.step
    }

    /// Optimizer steps of the whole run.
    pub fn total_steps(&self) -> u64 {
        self.total_steps
    }

    /// The parameters' values by slot, for tests and reports.
    pub fn parameters(&self) -> Result<Vec<Vec<f32>>> {
        self.parameters.iter().map(values).collect()
    }

    /// One optimizer step. What a back end panics about (memory, most often) becomes an error; the trainer is then good for nothing more.
    pub fn step(&mut self) -> Result<Step> {
        guarded(|| self.step_unguarded())
    }

    fn step_unguarded(&mut self) -> Result<Step> {
        let rows = self.rows();
        let tokens = rows.iter().flatten().map(|&row| self.examples[row].ids.len() as u64).sum();
        let batches: Vec<Batch> = rows.iter().map(|rows| self.batch(rows)).collect();
        let counts: Vec<usize> = batches.iter().map(|batch| batch.trained.iter().filter(|&&t| t).count()).collect();
        let all: usize = counts.iter().sum();
        let segment = self.config.blocks_at_a_time(self.trainee.base.config.layers);
        let pieces = Pieces { segment, loss_chunk: self.config.loss_chunk };
        let weights: Vec<f64> = match self.config.loss_mean {
            LossMean::MicroBatch => counts.iter().map(|&n| 1.0 / (n * batches.len()) as f64).collect(),
            LossMean::Tokens => counts.iter().map(|_| 1.0 / all as f64).collect(),
        };
        let (loss, gradients, grad_norm) = loop {
            let (loss, gradients) = self.gradients(&batches, &weights, pieces)?;
            let grad_norm = self.ranks.from_first(norm(&gradients)?)? / self.state.scale;
            if grad_norm.is_finite() || self.state.scale <= 1.0 || !loss.is_finite() {
                break (loss, gradients, grad_norm);
            }
            // Too large for f16: the same step again, nothing is skipped.
            (self.state.scale, self.state.scale_age) = (self.state.scale / 2.0, 0);
        };
        let step = self.state.step + 1;
        if !(loss.is_finite() && grad_norm.is_finite()) {
            let problem = format!(
                "step {step} has loss {loss} and gradient norm {grad_norm}; try a lower rate or a longer warm-up"
            );
            return Err(Error::config("learning_rate", problem));
        }
        let warmup = Schedule::warmup_steps(self.total_steps, self.config.warmup_ratio);
        let lr = self.config.learning_rate * self.config.schedule.factor(self.state.step, warmup, self.total_steps);
        let factor = clip_factor(grad_norm, self.config.clip) / self.state.scale;
        let gradients = scaled(gradients, factor);
        self.optimizer.step(&mut self.parameters, gradients, lr);
        self.state.scale_age += 1;
        if self.config.precision == Precision::F16 && self.state.scale_age >= SCALE_GROWS_AFTER {
            (self.state.scale, self.state.scale_age) = (self.state.scale * 2.0, 0);
        }
        self.state.step = step;
        self.state.tokens += tokens;
        let epoch = step as f64 / self.steps_per_epoch as f64;
        let flops = self.flops.of(rows.iter().flatten().map(|&row| self.examples[row].ids.len()), all);
        Ok(Step { step, epoch, loss, lr, grad_norm, tokens, trained_tokens: all as u64, flops })
    }

    /// Loss and joined gradients of a step; the latter times the state's scale. Each process computes its own micro-batches; all get the sums.
    fn gradients(&mut self, batches: &[Batch], weights: &[f64], pieces: Pieces) -> Result<(f64, Vec<Tensor<2>>)> {
        let (mut sums, mut losses) = (Gradients::new(&self.trainee.layout), Vec::new());
        let mine = self.ranks.rank() * self.config.accumulation;
        for micro in (mine..batches.len()).take(self.config.accumulation) {
            let key = Key::new(&[self.config.seed, DROPOUT, self.state.step, micro as u64]);
            let dropout = (self.trainee.lora.dropout > 0.0).then_some(key);
            let (batch, factor) = (&batches[micro], weights[micro] * self.state.scale);
            losses.push(self.trainee.add_gradients(&self.parameters, batch, factor, dropout, pieces, &mut sums));
        }
        // A process may be left without rows by an epoch's last step.
        let losses = if losses.is_empty() { Vec::new() } else { values(&Tensor::cat(losses, 0))? };
        let mut loss =
            losses.iter().zip(&weights[mine.min(weights.len())..]).map(|(&sum, weight)| f64::from(sum) * weight).sum();
        let mut gradients = joined(sums.into_tensors(&self.parameters));
        if self.ranks.ranks() > 1 {
            for gradient in &mut gradients {
                let mut summed = values(gradient)?;
                self.ranks.sum(&mut summed)?;
                *gradient = self.trainee.base.place.tensor(summed, gradient.dims());
            }
            let mut summed = [loss as f32];
            self.ranks.sum(&mut summed)?;
            loss = summed[0].into();
        }
        Ok((loss, gradients))
    }

    /// The rows of the next step, by micro-batch.
    fn rows(&mut self) -> Vec<Vec<usize>> {
        let epoch = self.state.step / self.steps_per_epoch;
        if self.order.0 != epoch {
            let lengths: Vec<usize> = self.examples.iter().map(|example| example.ids.len()).collect();
            self.order = (epoch, order::epoch(&lengths, self.config.fill(), self.config.seed, epoch));
        }
        let each = self.config.accumulation * self.ranks.ranks();
        let first = (self.state.step % self.steps_per_epoch) as usize * each;
        self.order.1.iter().skip(first).take(each).cloned().collect()
    }

    /// Rows side by side, padded to a multiple that the longest fits.
    fn batch(&self, rows: &[usize]) -> Batch {
        let example = |&row: &usize| (&self.examples[row].ids[..], &self.examples[row].trained[..]);
        let examples: Vec<(&[u32], &[bool])> = rows.iter().map(example).collect();
        let longest = examples.iter().map(|(ids, _)| ids.len()).max().unwrap_or(0);
        let length = longest.next_multiple_of(self.config.pad_multiple).min(self.config.max_length);
        Batch::new(&examples, self.new_tokens.pad, length)
    }

    /// Writes a checkpoint.
    pub fn save(&self) -> Result<PathBuf> {
        let adapter = Adapter {
            base_name: &self.base_name,
            layout: &self.trainee.layout,
            lora: &self.config.lora,
            tied: self.trainee.base.tied,
            new_tokens: &self.new_tokens,
            tokenizer_json: self.tokenizer_json.as_deref(),
            model_files: self.model_files.as_ref().map(<[_; 2]>::as_slice),
        };
        let [means, squares] = self.optimizer.moments();
        Checkpoints::open(&self.config.output)?.write(
            &self.state,
            &adapter,
            &self.parameters,
            [&means, &squares],
            self.config.keep,
        )
    }
}

/// What a back end panics about (no device, no memory) as an error.
pub(super) fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("the back end failed");
        Err(device_error(text))
    })
}

/// What a continuation must share: how many processes there are decides which rows a step has.
fn settings(config: &TrainConfig, ranks: &Ranks) -> Settings {
    let mut settings = config.fixed();
    if config.batch_tokens.is_some() {
        // Of the rows' order (see `order::epoch`), which was another before the shortest fifth was taken together.
        settings.insert("order".into(), 2.into());
    }
    if ranks.ranks() > 1 {
        settings.insert("ranks".into(), ranks.ranks().into());
    }
    settings
}

/// What ends an answer.
fn end_token(file: &str, config: &TrainConfig, tokenizer: &Tokenizer) -> Result<u32> {
    match &config.end_token {
        Some(text) => {
            tokenizer.id(text).ok_or_else(|| Error::config("end_token", format!("{text:?} is no token of {file}")))
        }
        None => tokenizer
            .eos()
            .ok_or_else(|| Error::config("end_token", format!("{file} names none; say which token ends an answer"))),
    }
}

/// Where a run begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begin {
    /// Anew; checkpoints in the output folder are an error.
    New,
    /// Where the newest checkpoint of the output folder stands; none: anew.
    Newest,
    /// Where this checkpoint stands.
    At(PathBuf),
}

/// The checkpoint to begin with.
pub fn checkpoint_of(config: &TrainConfig, begin: &Begin) -> Result<Option<PathBuf>> {
    let newest = Checkpoints::open(&config.output)?.list()?.pop_last().map(|(_, path)| path);
    match (begin, newest) {
        (Begin::At(path), _) => Ok(Some(path.clone())),
        (Begin::Newest, newest) => Ok(newest),
        (Begin::New, None) => Ok(None),
        (Begin::New, Some(path)) => {
            let problem =
                format!("{} is there already; --resume goes on with it, another folder begins anew", path.display());
            Err(Error::config("output", problem))
        }
    }
}

/// Trains to the end: a line in log.jsonl and TensorBoard's scalars for each step, a checkpoint every `save_every` and at the end. Returns the
/// last one. Of several processes only the first writes.
pub fn run(trainer: &mut Trainer, on_step: &mut dyn FnMut(&Step, Pace)) -> Result<PathBuf> {
    let checkpoints = Checkpoints::open(&trainer.config.output)?;
    let leads = trainer.leads();
    if leads {
        // A run that goes on from an earlier checkpoint leaves the later ones behind; the newest must be its own.
        checkpoints.set_aside_after(trainer.state.step)?;
    }
    let mut log = leads.then(|| Log::open(&trainer.config.output, trainer.state.step)).transpose()?;
    let peak = trainer.config.peak_tflops.map(|peak| peak * trainer.ranks.ranks() as f64);
    let mut clock = Clock::start(trainer.total_steps, peak);
    let mut saved = None;
    while trainer.state.step < trainer.total_steps {
        let step = trainer.step()?;
        let pace = clock.after(&step);
        if let Some(log) = &mut log {
            log.write(&step, pace)?;
        }
        on_step(&step, pace);
        saved = None;
        if leads && (step.step.is_multiple_of(trainer.config.save_every) || step.step == trainer.total_steps) {
            saved = Some(trainer.save()?);
        }
    }
    // A run that had ended has its last checkpoint already.
    match saved.or(checkpoints.list()?.remove(&trainer.state.step)) {
        Some(path) => Ok(path),
        None if leads => trainer.save(),
        None => Ok(checkpoints.path(trainer.state.step)),
    }
}
