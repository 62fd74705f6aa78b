//! The loop: batches in, optimizer steps, checkpoints and a log out.

use std::{
    io::Write,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use burn::Tensor;
use serde::{Deserialize, Serialize};

use super::{
    checkpoint::{self, Adapter, Checkpoints, State},
    config::{LossMean, TrainConfig},
    examples::{Census, NewTokens},
    gradients::{Gradients, Pieces, Trainee},
    lora::{DROPOUT, Layout},
    model::{Base, Batch},
    optimizer::{AdamW, clip_factor, joined, norm, scaled},
    order,
    place::{Place, Precision, device_error, values},
    random::Key,
    schedule::Schedule,
};
use crate::{
    Error, Result,
    data::encode::{Encoding, Example},
    platform::now_ms,
    tokenizer::Tokenizer,
    weights::{self, MetadataExt},
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
}

/// A run under way.
pub struct Trainer {
    config: TrainConfig,
    trainee: Trainee,
    parameters: Vec<Tensor<2>>,
    optimizer: AdamW,
    examples: Vec<Example>,
    census: Census,
    new_tokens: NewTokens,
    tokenizer_json: Option<String>,
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
        guarded(|| Self::new_unguarded(config, checkpoint))
    }

    fn new_unguarded(config: TrainConfig, checkpoint: Option<&Path>) -> Result<Self> {
        config.check()?;
        let place = Place::open(config.backend, config.precision)?;
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
            settings: config.fixed(),
        };
        let base = Base::load(&place, weights.as_ref(), &new_tokens.rows(), config.new_rows, config.seed)?;
        if base.config.context_length < config.max_length {
            let problem =
                format!("{}, but {file} was made for {} tokens", config.max_length, base.config.context_length);
            return Err(Error::config("max_length", problem));
        }
        let layout = Layout::new(&base.config, &config.lora, new_tokens.rows(), base.tied);
        let tokenizer_json = metadata.get_text(&file, "tokenizer.huggingface.json")?.map(str::to_owned);
        let lengths: Vec<usize> = examples.iter().map(|example| example.ids.len()).collect();
        let micro_batches = order::epoch(&lengths, config.fill(), config.seed, 0).len() as u64;
        let steps_per_epoch = micro_batches.div_ceil(config.accumulation as u64);
        let total_steps = config.max_steps.unwrap_or((config.epochs * steps_per_epoch as f64).ceil() as u64);
        let parameters = base.start(&layout, config.seed);
        let mut trainer = Self {
            optimizer: AdamW::new(config.optimizer, &parameters),
            trainee: Trainee { base, lora: config.lora.clone(), layout },
            base_name: file,
            order: (u64::MAX, Vec::new()),
            config,
            parameters,
            examples,
            census,
            new_tokens,
            tokenizer_json,
            state,
            steps_per_epoch,
            total_steps,
        };
        if let Some(path) = checkpoint {
            // Before its tensors, whose shapes may be what other settings change.
            checkpoint::read_state(path)?.check_same(&path.display().to_string(), &trainer.state)?;
            let (state, parameters, moments) = checkpoint::read(path, &trainer.trainee.layout, &place)?;
            trainer.optimizer.resume(state.step, moments);
            (trainer.state, trainer.parameters) = (state, parameters);
        }
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
            let grad_norm = norm(&gradients)? / self.state.scale;
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
        Ok(Step { step, epoch, loss, lr, grad_norm, tokens, trained_tokens: all as u64 })
    }

    /// Loss and joined gradients of a step; the latter times the state's scale.
    fn gradients(&self, batches: &[Batch], weights: &[f64], pieces: Pieces) -> Result<(f64, Vec<Tensor<2>>)> {
        let (mut sums, mut losses) = (Gradients::new(&self.trainee.layout), Vec::new());
        for (micro, (batch, &weight)) in batches.iter().zip(weights).enumerate() {
            let key = Key::new(&[self.config.seed, DROPOUT, self.state.step, micro as u64]);
            let dropout = (self.config.lora.dropout > 0.0).then_some(key);
            let factor = weight * self.state.scale;
            losses.push(self.trainee.add_gradients(&self.parameters, batch, factor, dropout, pieces, &mut sums));
        }
        let losses = values(&Tensor::cat(losses, 0))?;
        let loss = losses.iter().zip(weights).map(|(&sum, weight)| f64::from(sum) * weight).sum();
        Ok((loss, joined(sums.into_tensors(&self.parameters))))
    }

    /// The rows of the next step, by micro-batch.
    fn rows(&mut self) -> Vec<Vec<usize>> {
        let epoch = self.state.step / self.steps_per_epoch;
        if self.order.0 != epoch {
            let lengths: Vec<usize> = self.examples.iter().map(|example| example.ids.len()).collect();
            self.order = (epoch, order::epoch(&lengths, self.config.fill(), self.config.seed, epoch));
        }
        let first = (self.state.step % self.steps_per_epoch) as usize * self.config.accumulation;
        self.order.1.iter().skip(first).take(self.config.accumulation).cloned().collect()
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

/// How fast a run is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    /// Tokens a second, padding left out, over the last steps.
    pub tokens_per_second: f64,
    /// Until the last step.
    pub eta_seconds: f64,
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

/// Trains to the end: a line in log.jsonl for each step, a checkpoint every `save_every` and at the end. Returns the last one.
pub fn run(trainer: &mut Trainer, on_step: &mut dyn FnMut(&Step, Pace)) -> Result<PathBuf> {
    Checkpoints::open(&trainer.config.output)?;
    let mut log = Log::open(&trainer.config.output, trainer.state.step)?;
    // The first steps of a GPU compile and tune kernels: the pace is that of the last sixteen.
    let mut times = std::collections::VecDeque::from([(now_ms(), 0u64)]);
    let mut tokens = 0;
    let mut saved = None;
    while trainer.state.step < trainer.total_steps {
        let step = trainer.step()?;
        tokens += step.tokens;
        let (then, tokens_then) = times[0];
        let now = now_ms();
        let seconds = (now - then).max(1e-3) / 1e3;
        let left = (trainer.total_steps - step.step) as f64;
        let pace = Pace {
            tokens_per_second: (tokens - tokens_then) as f64 / seconds,
            eta_seconds: left * seconds / times.len() as f64,
        };
        times.push_back((now, tokens));
        if times.len() > 16 {
            times.pop_front();
        }
        log.write(&step, pace)?;
        on_step(&step, pace);
        saved = None;
        if step.step.is_multiple_of(trainer.config.save_every) || step.step == trainer.total_steps {
            saved = Some(trainer.save()?);
        }
    }
    // A run that had ended has its last checkpoint already.
    match saved.or(Checkpoints::open(&trainer.config.output)?.list()?.remove(&trainer.state.step)) {
        Some(path) => Ok(path),
        None => trainer.save(),
    }
}

/// log.jsonl: a line a step.
struct Log {
    file: std::fs::File,
    name: String,
}

impl Log {
    /// Keeps the lines up to `step`: those after it will be written again.
    fn open(folder: &Path, step: u64) -> Result<Self> {
        let path = folder.join("log.jsonl");
        let name = path.display().to_string();
        let io = |e: std::io::Error| Error::io(&name, e);
        let text = if path.exists() { std::fs::read_to_string(&path).map_err(io)? } else { String::new() };
        let done = |line: &&str| {
            let line: Option<serde_json::Value> = serde_json::from_str(line).ok();
            line.and_then(|line| line["step"].as_u64()).is_some_and(|number| number <= step)
        };
        let kept: String = text.lines().filter(done).flat_map(|line| [line, "\n"]).collect();
        let part = folder.join(".log.jsonl.part");
        std::fs::write(&part, kept).and_then(|()| std::fs::rename(&part, &path)).map_err(io)?;
        let file = std::fs::OpenOptions::new().append(true).open(&path).map_err(io)?;
        Ok(Self { file, name })
    }

    fn write(&mut self, step: &Step, pace: Pace) -> Result<()> {
        let mut line = serde_json::to_value(step).expect("plain data");
        line["tokens_per_second"] = pace.tokens_per_second.into();
        line["eta_seconds"] = pace.eta_seconds.into();
        self.file.write_all(format!("{line}\n").as_bytes()).map_err(|e| Error::io(&self.name, e))
    }
}
