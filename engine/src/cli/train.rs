//! `selfrag train`: a generator or a critic, by LoRA or whole.

use std::{path::PathBuf, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, Value, json};

use crate::{
    bench::Geometry,
    data::rows::Template,
    train::{Begin, RankPlan, Ranks, TrainConfig, Trainer, bench, checkpoint_of, run as train},
};

/// Fine-tunes a Llama into a generator or a critic, by LoRA or (`--method full`) whole.
///
/// Settings come from a file (TOML or JSON; the names are in `selfrag::train::TrainConfig`, the original's are understood) and from options, which
/// win. The output folder gets a PEFT adapter every `save_every` steps, which `selfrag convert --adapter` merges, log.jsonl, and TensorBoard's
/// event files.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What is trained: it decides templates, new tokens and what of a row is learned.
    #[arg(value_enum)]
    what: What,
    /// Settings, TOML or JSON.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Go on with the newest checkpoint of the output folder, or with this one.
    #[arg(long, alias = "resume_from_checkpoint", value_name = "CHECKPOINT", num_args = 0..=1)]
    resume: Option<Option<PathBuf>>,
    #[command(flatten)]
    over: Over,
    /// Any other setting as NAME=VALUE, a dot for tables: `--set optimizer.beta2=0.95`.
    #[arg(long, value_name = "NAME=VALUE")]
    set: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum What {
    Generator,
    Critic,
    /// Nothing: measures speed on random weights; --model names llama2-7b, tinyllama-1.1b, smollm2-135m or tiny, --max-steps the steps.
    Bench,
}

/// Options that stand for settings.
#[derive(Debug, clap::Args)]
struct Over {
    /// The base: a GGUF file or a Hugging Face folder.
    #[arg(long, alias = "model_name_or_path", value_name = "GGUF|DIR")]
    model: Option<PathBuf>,
    /// The PEFT adapter to begin with.
    #[arg(long, value_name = "DIR")]
    adapter: Option<PathBuf>,
    /// Rows to train on, JSON lines or a JSON list, may be gzipped.
    #[arg(long, alias = "train_file", alias = "data_path", value_name = "FILE")]
    data: Option<PathBuf>,
    /// Where checkpoints and the log go.
    #[arg(long, alias = "output_dir", value_name = "DIR")]
    output: Option<PathBuf>,
    /// `cpu`, `vulkan` or `cuda`.
    #[arg(long)]
    backend: Option<String>,
    /// Which of several GPUs [default: the launcher's local rank].
    #[arg(long, value_name = "N")]
    device: Option<u64>,
    /// `lora`, or `full`: every weight; a checkpoint is then a model's folder [default: lora].
    #[arg(long)]
    method: Option<String>,
    /// Longest row in tokens [default: 2048].
    #[arg(long, alias = "max_seq_length", alias = "model_max_length", value_name = "N")]
    max_length: Option<u64>,
    /// Rows computed at a time [default: 1].
    #[arg(long, alias = "per_device_train_batch_size", value_name = "N")]
    micro_batch: Option<u64>,
    /// Micro-batches of an optimizer step [default: 32].
    #[arg(long, alias = "gradient_accumulation_steps", value_name = "N")]
    accumulation: Option<u64>,
    /// Highest learning rate [default: 2e-5].
    #[arg(long, alias = "learning_rate", value_name = "RATE")]
    learning_rate: Option<f64>,
    /// `linear`, `cosine` or `constant` [default: linear, critic: cosine].
    #[arg(long, alias = "lr_scheduler_type")]
    schedule: Option<String>,
    /// Part of the steps in which the rate rises [default: 0.03, critic: 0.01].
    #[arg(long, alias = "warmup_ratio", value_name = "PART")]
    warmup_ratio: Option<f64>,
    /// AdamW's weight decay [default: 0].
    #[arg(long, alias = "weight_decay")]
    weight_decay: Option<f64>,
    /// Times that every row is seen [default: 3].
    #[arg(long, alias = "num_train_epochs", value_name = "N")]
    epochs: Option<f64>,
    /// Optimizer steps in all, instead of epochs.
    #[arg(long, alias = "max_train_steps", value_name = "N")]
    max_steps: Option<u64>,
    /// LoRA's rank [default: 16].
    #[arg(long, alias = "lora_rank", value_name = "R")]
    lora_rank: Option<u64>,
    /// LoRA's alpha [default: 32].
    #[arg(long, alias = "lora_alpha")]
    lora_alpha: Option<f64>,
    /// LoRA's dropout [default: 0.05].
    #[arg(long, alias = "lora_dropout")]
    lora_dropout: Option<f64>,
    /// Where all randomness comes from [default: 42].
    #[arg(long)]
    seed: Option<u64>,
    /// Steps between checkpoints [default: 300].
    #[arg(long, alias = "checkpointing_steps", alias = "save_steps", value_name = "N")]
    save_every: Option<u64>,
}

impl Over {
    /// Given options by the settings' names.
    fn settings(&self) -> Map<String, Value> {
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| json!(path));
        let given = [
            ("model", path(&self.model)),
            ("adapter", path(&self.adapter)),
            ("data", path(&self.data)),
            ("output", path(&self.output)),
            ("backend", self.backend.as_ref().map(|v| json!(v))),
            ("device", self.device.map(|v| json!(v))),
            ("method", self.method.as_ref().map(|v| json!(v))),
            ("max_length", self.max_length.map(|v| json!(v))),
            ("micro_batch", self.micro_batch.map(|v| json!(v))),
            ("accumulation", self.accumulation.map(|v| json!(v))),
            ("learning_rate", self.learning_rate.map(|v| json!(v))),
            ("schedule", self.schedule.as_ref().map(|v| json!(v))),
            ("warmup_ratio", self.warmup_ratio.map(|v| json!(v))),
            ("optimizer.weight_decay", self.weight_decay.map(|v| json!(v))),
            ("epochs", self.epochs.map(|v| json!(v))),
            ("max_steps", self.max_steps.map(|v| json!(v))),
            ("lora.rank", self.lora_rank.map(|v| json!(v))),
            ("lora.alpha", self.lora_alpha.map(|v| json!(v))),
            ("lora.dropout", self.lora_dropout.map(|v| json!(v))),
            ("seed", self.seed.map(|v| json!(v))),
            ("save_every", self.save_every.map(|v| json!(v))),
        ];
        given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }
}

/// The settings of the command line: the critic's recipe is a default that file and options override.
fn settings(args: &Args) -> anyhow::Result<TrainConfig> {
    let mut over = args.over.settings();
    for entry in &args.set {
        let (name, value) =
            entry.split_once('=').ok_or_else(|| anyhow::anyhow!("--set {entry}: NAME=VALUE expected"))?;
        over.insert(name.to_owned(), serde_json::from_str(value).unwrap_or_else(|_| json!(value)));
    }
    let (template, defaults) = match args.what {
        What::Generator => (Template::Generator, Map::new()),
        What::Bench => {
            let nothing = ["data", "output"].map(|name| (name.to_owned(), json!("")));
            let few = [
                ("model", json!("smollm2-135m")),
                ("max_steps", json!(10)),
                ("max_length", json!(512)),
                ("micro_batch", json!(8)),
            ];
            let few = few.map(|(name, value)| (name.to_owned(), value));
            (Template::Generator, nothing.into_iter().chain(few).collect())
        }
        What::Critic => {
            let recipe = [
                ("schedule", json!("cosine")),
                ("warmup_ratio", json!(0.01)),
                ("accumulation", json!(8)),
                ("max_length", json!(512)),
            ];
            (Template::Critic, recipe.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
        }
    };
    over.insert("template".into(), serde_json::to_value(template)?);
    Ok(TrainConfig::read(args.config.as_deref(), &defaults, &over)?)
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<()> {
    let config = settings(&args)?;
    if args.what == What::Bench {
        let geometry = Geometry::named(&config.model.to_string_lossy())?;
        let speed = bench(&config, geometry, config.max_steps.unwrap_or(10) as usize)?;
        println!("{}", serde_json::to_string(&speed)?);
        return Ok(());
    }
    let begin = match args.resume {
        None => Begin::New,
        Some(None) => Begin::Newest,
        Some(Some(path)) => Begin::At(path),
    };
    let checkpoint = checkpoint_of(&config, &begin)?;
    let ranks = match RankPlan::from_env()? {
        None => Ranks::alone(),
        Some(plan) => Ranks::connect(&plan, Duration::from_secs(config.rank_timeout))?,
    };
    let n_ranks = ranks.ranks();
    let mut trainer = Trainer::among(config, checkpoint.as_deref(), ranks)?;
    if !trainer.leads() {
        train(&mut trainer, &mut |_, _| ())?;
        return Ok(());
    }
    if n_ranks > 1 {
        eprintln!("{n_ranks} processes");
    }
    let census = trainer.census();
    eprintln!(
        "{} rows, {} used ({} cut, {} without a trained token, {} broken); {} tokens, {} of them trained; {} values to train",
        census.rows,
        census.used,
        census.cut,
        census.untrained,
        census.broken,
        census.tokens,
        census.trained_tokens,
        trainer.n_trained(),
    );
    census.first_broken.iter().for_each(|problem| eprintln!("broken: {problem}"));
    if let Some(path) = &checkpoint {
        eprintln!("going on after {}", path.display());
    }
    let style = ProgressStyle::with_template("{spinner} {pos}/{len} {bar:30} {msg}")?;
    let bar = ProgressBar::new(trainer.total_steps()).with_style(style);
    bar.set_position(trainer.steps_done());
    let last = train(&mut trainer, &mut |step, pace| {
        bar.set_position(step.step);
        let eta = indicatif::HumanDuration(Duration::from_secs_f64(pace.eta_seconds));
        let (loss, lr, norm) = (step.loss, step.lr, step.grad_norm);
        let mfu = pace.mfu.map_or(String::new(), |mfu| format!(" MFU {:.1} %", 100.0 * mfu));
        bar.set_message(format!(
            "loss {loss:.4} lr {lr:.2e} norm {norm:.3} {:.0} tok/s{mfu}, {eta} left",
            pace.tokens_per_second
        ));
    })?;
    bar.finish();
    println!("{}", last.display());
    Ok(())
}
