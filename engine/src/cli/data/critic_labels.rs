//! `selfrag data critic-labels ask FILE… --job JOB… --server URL --model NAME --output LABELS`,
//! `selfrag data critic-labels combine LABELS… --output FILE [--dev FILE]`

use std::{
    io::{IsTerminal, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};

use super::{refuse, tell, write_rows};
use crate::{
    cli::{files::check_outputs, terminal},
    data::{
        labels::{
            ask::{Labels, Options, Outcome, aside},
            combine,
            estimate::Estimate,
            item::{Job, questions},
        },
        notes::Notes,
        write_whole,
    },
    generator::server::{Server, ServerOptions},
};

/// Has a large language model label what a critic is trained on, and makes the critic's training file of its labels.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Ask(Ask),
    Combine(Combine),
}

/// Asks an OpenAI-compatible server for labels. A run that was stopped goes on: the same command asks only what is missing.
#[derive(Debug, clap::Args)]
struct Ask {
    /// Rows with `q_id`, `sent_idx`, `p_idx`, `instruction`, `preceding_sentences`, `evidence`, `target_output`, `output`, as far as the
    /// jobs need them: a JSON list or JSON lines; .gz is unpacked.
    #[arg(required = true, value_name = "FILE")]
    inputs: Vec<PathBuf>,
    /// What each row is asked for.
    #[arg(long, required = true, num_args = 1.., value_enum, value_name = "JOB")]
    job: Vec<Job>,
    /// The file of answers, one a line, that is written and taken up; beside it lies FILE.aside with what got no label.
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// The server's address without /v1/…; $OPENAI_API_KEY is sent to it. Plain HTTP: a local proxy can speak https for it.
    #[arg(long, value_name = "URL")]
    server: String,
    #[command(flatten)]
    options: Options,
    /// Ask N rows of each job only, drawn by --seed; a larger N adds to them.
    #[arg(long, alias = "n", value_name = "N")]
    sample: Option<usize>,
    /// Start of that draw.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// How often a question is asked again whose answer is malformed, before it is set aside.
    #[arg(long, value_name = "N", default_value_t = 2)]
    reasks: u32,
    /// Requests under way at once.
    #[arg(long, value_name = "N", default_value_t = 8)]
    concurrency: usize,
    /// Most requests a minute.
    #[arg(long, value_name = "N")]
    requests_per_minute: Option<u32>,
    /// How often a request is sent again that failed (429, 5xx, no answer); waits double, or are what the server says.
    #[arg(long, value_name = "N", default_value_t = 6)]
    retries: u32,
    /// Longest wait for an answer, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    timeout: u64,
    /// Price of a million tokens in, for the estimate.
    #[arg(long, value_name = "PRICE", requires = "price_output")]
    price_input: Option<f64>,
    /// Price of a million tokens out.
    #[arg(long, value_name = "PRICE", requires = "price_input")]
    price_output: Option<f64>,
    /// Say what it will cost, and end.
    #[arg(long)]
    estimate_only: bool,
    /// Begin without asking whether the estimate is all right.
    #[arg(long)]
    yes: bool,
    /// Begin the file anew.
    #[arg(long)]
    overwrite: bool,
    /// Refuse rows that have problems, instead of leaving them out.
    #[arg(long)]
    strict: bool,
}

/// Makes the critic's training file of files of labels.
#[derive(Debug, clap::Args)]
struct Combine {
    /// Files that `ask` wrote.
    #[arg(required = true, value_name = "LABELS")]
    labels: Vec<PathBuf>,
    /// The critic's training file to write: a JSON list, or JSON lines where the name ends in .jsonl.
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Hold rows out into this file.
    #[arg(long, value_name = "FILE")]
    dev: Option<PathBuf>,
    /// Write settings, counts and problems as JSON.
    #[arg(long, value_name = "FILE")]
    summary: Option<PathBuf>,
    #[command(flatten)]
    settings: combine::Settings,
}

/// Runs the command.
pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    match &args.command {
        Command::Ask(args) => ask(args),
        Command::Combine(args) => combine_labels(args),
    }
}

fn ask(args: &Ask) -> anyhow::Result<()> {
    args.options.check()?;
    check_outputs(&args.inputs.iter().collect::<Vec<_>>(), &[&args.output, &aside(&args.output)])?;
    let prices = args.price_input.zip(args.price_output).map(|(input, output)| [input, output]);
    let fits = |price: &f64| price.is_finite() && *price >= 0.0;
    anyhow::ensure!(prices.iter().flatten().all(fits), "--price-input, --price-output: numbers from 0 expected");
    let server = Server::new(
        ServerOptions {
            address: args.server.clone(),
            api_key: std::env::var("OPENAI_API_KEY").ok().filter(|key| !key.is_empty()),
            concurrency: args.concurrency,
            retries: args.retries,
            timeout: Duration::from_secs(args.timeout),
            per_minute: args.requests_per_minute,
        },
        "server",
    )?;
    let (mut notes, mut jobs) = (Notes::default(), args.job.clone());
    jobs.sort();
    jobs.dedup();
    let questions = questions(&args.inputs, &jobs, args.sample, args.seed, &mut notes)?;
    tell(&notes);
    refuse(&notes, args.strict)?;
    anyhow::ensure!(!questions.is_empty(), "nothing to ask: no row has the fields of its job");
    // An estimate leaves no file behind, and nothing is thrown away before it is agreed to.
    let taken_up = args.output.exists() && !args.overwrite;
    let labels = taken_up.then(|| Labels::open(&args.output, &args.options, false)).transpose()?;
    let wanted = |question: &&_| labels.as_ref().is_none_or(|labels| labels.missing(question, args.reasks));
    let estimate = Estimate::new(questions.iter().filter(wanted), &args.options, prices);
    eprintln!("{estimate}");
    if args.estimate_only || !(estimate.is_empty() || args.yes || confirmed()?) {
        return Ok(());
    }
    let mut labels = match labels {
        Some(labels) => labels,
        None => Labels::open(&args.output, &args.options, args.overwrite)?,
    };
    let bar = ProgressBar::new(estimate.len() as u64);
    bar.set_style(ProgressStyle::with_template("{spinner} asking {bar:30} {pos}/{len} {eta}")?);
    let asked = labels.ask(&server, &questions, &args.options, args.reasks, &mut || bar.inc(1));
    bar.finish_and_clear();
    if asked.is_err() {
        eprintln!("stopped: what was answered is kept, the same command goes on");
    }
    let outcome = asked?;
    say(&outcome, &args.output, questions.len());
    let failed: usize = outcome.failed.values().sum();
    anyhow::ensure!(failed == 0, "{failed} questions have no answer: the same command asks them again");
    println!("{}", args.output.display());
    Ok(())
}

/// Whether whoever sits at the terminal agrees.
fn confirmed() -> anyhow::Result<bool> {
    anyhow::ensure!(std::io::stdin().is_terminal(), "--yes expected: nobody is there to agree to the estimate");
    eprint!("Ask? [y/N] ");
    std::io::stderr().flush()?;
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    Ok(matches!(line.trim(), "y" | "Y" | "yes"))
}

fn say(outcome: &Outcome, output: &Path, questions: usize) {
    let Outcome { labelled, set_aside, answers, malformed, tokens, .. } = outcome;
    eprintln!("{labelled} of {questions} questions have a label, {set_aside} are set aside");
    eprintln!("{answers} answers, {malformed} of them malformed; {} tokens in, {} out", tokens[0], tokens[1]);
    if *set_aside > 0 {
        eprintln!("set aside: {}", aside(output).display());
    }
    for (problem, n) in &outcome.refused {
        eprintln!("refused: {n} × {}", terminal::safe(problem));
    }
    for (problem, n) in &outcome.failed {
        eprintln!("given up: {n} × {}", terminal::safe(problem));
    }
}

fn combine_labels(args: &Combine) -> anyhow::Result<()> {
    args.settings.check()?;
    let written = [Some(&args.output), args.dev.as_ref(), args.summary.as_ref()];
    let written: Vec<&PathBuf> = written.into_iter().flatten().collect();
    check_outputs(&args.labels.iter().collect::<Vec<_>>(), &written)?;
    let mut notes = Notes::default();
    let records = combine::read(&args.labels, &mut notes)?;
    let (train, dev) = combine::rows(&records, &args.settings, args.dev.is_some(), &mut notes);
    tell(&notes);
    anyhow::ensure!(!train.is_empty(), "no rows to train on: {} labels, {} of them held out", records.len(), dev.len());
    write_rows(&args.output, &train)?;
    if let Some(path) = &args.dev {
        write_rows(path, &dev)?;
    }
    let mut counts = std::collections::BTreeMap::<&str, std::collections::BTreeMap<&str, usize>>::new();
    for row in train.iter().chain(&dev) {
        *counts.entry(row.task.as_deref().unwrap_or_default()).or_default().entry(&row.output).or_default() += 1;
    }
    for (task, labels) in &counts {
        let labels: Vec<String> = labels.iter().map(|(label, n)| format!("{label} {n}")).collect();
        eprintln!("{task}: {}", labels.join(", "));
    }
    if let Some(path) = &args.summary {
        let summary = serde_json::json!({"settings": args.settings, "train": train.len(), "dev": dev.len(), "labels": counts,
            "notes": notes});
        write_whole(path, format!("{}\n", serde_json::to_string_pretty(&summary)?).as_bytes())?;
    }
    eprintln!("{} rows, {} held out", train.len(), dev.len());
    println!("{}", args.output.display());
    Ok(())
}
