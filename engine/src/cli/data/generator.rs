//! `selfrag data generator SOURCE… --work DIR --critic GGUF --index DIR --output FILE`

use std::{path::PathBuf, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};

use super::{refuse, tell};
use crate::{
    Error,
    cli::{
        files::{check_outputs, check_outside},
        load,
        search::SearchArgs,
    },
    data::{
        from_qa::json_lines,
        generator::{
            critic::{Choices, Critic, RemoteCritic},
            engine_critic::EngineCritic,
            settings::{Behaviour, Settings},
            sources::{self, SourceFile},
            steps::Steps,
            work::Work,
        },
        lexical::LexicalRetriever,
        notes::Notes,
        write_whole,
    },
    generator::server::ServerOptions,
    retriever::{Retriever, passages::PassageFiles},
};

/// Makes a generator's training file of instructions with answers, by a critic and a retriever. A run that was stopped goes on where it
/// was: each step has its file in the work folder.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Instructions with answers: `instruction`, `output`, and optionally `input`, `id` and `dataset_name`; a JSON list or JSON lines;
    /// .gz is unpacked. NAME says the set's name: nq, wow and fever are then in DPR's format, asqa, arc_easy and obqa in their own, and
    /// others may have Open-Instruct's `messages`.
    #[arg(required = true, value_name = "[NAME=]FILE")]
    sources: Vec<SourceFile>,
    /// The folder of the steps' files; it is made.
    #[arg(long, value_name = "DIR")]
    work: PathBuf,
    /// The training file to write: JSON lines.
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    by: By,
    #[command(flatten)]
    passages: Passages,
    /// Whose behaviour the settings have that are not changed.
    #[arg(long, value_enum, default_value = "paper")]
    config: Behaviour,
    /// Another value for a setting, a number, text or JSON: `--set keep_no_retrieval=0.4`; a wrong name lists them all.
    #[arg(long, value_name = "NAME=VALUE")]
    set: Vec<String>,
    /// Start of all draws: `--set seed=N`.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Begin every step anew.
    #[arg(long)]
    overwrite: bool,
    /// Write settings, counts and every problem as JSON.
    #[arg(long, value_name = "FILE")]
    summary: Option<PathBuf>,
    /// Refuse data that has problems, instead of leaving it out.
    #[arg(long)]
    strict: bool,
}

/// Who judges.
#[derive(Debug, clap::Args)]
struct By {
    /// The critic: a GGUF file or a Hugging Face folder.
    #[arg(long, value_name = "GGUF|DIR", required_unless_present = "critic_server", conflicts_with = "critic_server")]
    critic: Option<PathBuf>,
    /// A PEFT adapter's folder to merge into the critic.
    #[arg(long, value_name = "DIR", requires = "critic")]
    critic_adapter: Option<PathBuf>,
    /// Tokens that fit the critic's KV cache, a batch together [default: 256 MB worth].
    #[arg(long, value_name = "N", requires = "critic")]
    kv_tokens: Option<usize>,
    /// An OpenAI-compatible completions server that judges; $OPENAI_API_KEY is sent to it.
    #[arg(long, value_name = "URL", requires = "critic_model")]
    critic_server: Option<String>,
    /// The critic's name there.
    #[arg(long, value_name = "NAME", requires = "critic_server")]
    critic_model: Option<String>,
    /// How the server is told to write labels only.
    #[arg(long, value_enum, default_value = "none", requires = "critic_server")]
    critic_choices: Choices,
    /// Requests under way at once.
    #[arg(long, value_name = "N", default_value_t = 16, requires = "critic_server")]
    concurrency: usize,
    /// Most requests a minute.
    #[arg(long, value_name = "N", requires = "critic_server")]
    requests_per_minute: Option<u32>,
    /// How often a request that failed is sent again.
    #[arg(long, value_name = "N", default_value_t = 5, requires = "critic_server")]
    retries: u32,
    /// Judgements asked for, and written, at once [default: 4, at a server 256].
    #[arg(long, value_name = "N")]
    batch: Option<usize>,
}

/// Where passages are found.
#[derive(Debug, clap::Args)]
struct Passages {
    #[command(flatten)]
    search: SearchArgs,
    /// The encoder that made the index [default: models/encoder.gguf].
    #[arg(long, value_name = "GGUF|DIR", requires = "index")]
    encoder: Option<PathBuf>,
    /// Passages to search by their words instead, for sets that fit memory: JSON lines, or TSV as DPR has it.
    #[arg(long, num_args = 1.., value_name = "FILE", required_unless_present = "index", conflicts_with = "index")]
    passages: Vec<PathBuf>,
}

/// Runs the command.
pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let seed = args.seed.map(|seed| format!("seed={seed}"));
    let changes: Vec<String> = args.set.iter().cloned().chain(seed).collect();
    let settings = Settings::of(args.config, &changes)?;
    let read = args.sources.iter().map(|source| &source.path);
    let read: Vec<&PathBuf> = read.chain(&args.passages.passages).collect();
    let written: Vec<&PathBuf> = [Some(&args.output), args.summary.as_ref()].into_iter().flatten().collect();
    check_outputs(&read, &written)?;
    check_outside(&args.work, "--work", &[read, written].concat())?;
    anyhow::ensure!(args.by.batch != Some(0), "--batch: at least 1 expected");
    let mut notes = Notes::default();
    let sources = sources::read(&args.sources, &mut notes)?;
    std::fs::create_dir_all(&args.work).map_err(|e| Error::io(args.work.display().to_string(), e))?;
    let work = Work { folder: args.work.clone(), overwrite: args.overwrite };
    let (mut retriever, retriever_name) = args.passages.open()?;
    let (mut critic, batch) = args.by.open(&settings)?;
    let bar = ProgressBar::new(0);
    bar.set_style(ProgressStyle::with_template("{spinner} {msg} {bar:30} {pos}/{len} {eta}")?);
    let mut progress = |step: &'static str, done: usize, items: usize| {
        if bar.message() != step {
            bar.reset();
            bar.set_message(step);
            bar.set_length(items as u64);
        }
        bar.set_position(done as u64);
    };
    let mut steps = Steps {
        work: &work,
        settings: &settings,
        critic: critic.as_mut(),
        retriever: retriever.as_mut(),
        retriever_name,
        batch: args.by.batch.unwrap_or(batch),
        progress: &mut progress,
    };
    let made = steps.run(&sources, &mut notes);
    bar.finish_and_clear();
    let rows = made?;
    tell(&notes);
    refuse(&notes, args.strict)?;
    anyhow::ensure!(!rows.is_empty(), "no rows: {} sources, none of which gives one", sources.len());
    if let Some(path) = &args.summary {
        let summary =
            serde_json::json!({"settings": settings, "sources": sources.len(), "rows": rows.len(), "notes": notes});
        write_whole(path, format!("{}\n", serde_json::to_string_pretty(&summary)?).as_bytes())?;
    }
    eprintln!("{} rows of {} sources", rows.len(), sources.len());
    write_whole(&args.output, json_lines(rows)?.as_bytes())?;
    println!("{}", args.output.display());
    Ok(())
}

impl By {
    /// The critic, and how many judgements it is asked for at once.
    fn open(&self, settings: &Settings) -> anyhow::Result<(Box<dyn Critic>, usize)> {
        if let (Some(address), Some(model)) = (&self.critic_server, &self.critic_model) {
            let options = ServerOptions {
                address: address.clone(),
                api_key: std::env::var("OPENAI_API_KEY").ok().filter(|key| !key.is_empty()),
                concurrency: self.concurrency,
                retries: self.retries,
                timeout: Duration::from_secs(600),
                per_minute: self.requests_per_minute,
            };
            return Ok((Box::new(RemoteCritic::new(options, model.clone(), self.critic_choices, settings)?), 256));
        }
        let Some(path) = &self.critic else { anyhow::bail!("--critic or --critic-server expected") };
        let (llama, tokenizer, name) = load::critic(path, self.critic_adapter.as_deref(), self.kv_tokens)?;
        Ok((Box::new(EngineCritic::new(Box::new(llama), tokenizer, name, settings)), 4))
    }
}

impl Passages {
    /// The retriever, and what tells it from others.
    fn open(&self) -> anyhow::Result<(Box<dyn Retriever>, String)> {
        self.search.check_named()?;
        if let Some(index) = &self.search.index {
            let retriever = load::open_retriever(self.encoder.as_deref(), &self.search)?;
            let name = match retriever.identity() {
                Some(collection) => format!("{collection}, Milvus, nprobe {:?}", self.search.milvus.settings().nprobe),
                None => load::identify(index)? + if self.search.hnsw { ", HNSW" } else { "" },
            };
            return Ok((retriever, name));
        }
        let mut passages = Vec::new();
        for row in PassageFiles::new(self.passages.clone()) {
            passages.push(row?);
        }
        anyhow::ensure!(!passages.is_empty(), "--passages: no passage in them");
        let names = self.passages.iter().map(|path| load::identify(path)).collect::<Result<Vec<_>, _>>()?;
        Ok((Box::new(LexicalRetriever::new(passages)), format!("by words, {}", names.join(", "))))
    }
}
