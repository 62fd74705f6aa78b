//! `selfrag eval retriever --questions FILE.jsonl[.gz] [--instructions FILE]`
//!
//! | number | what |
//! | --- | --- |
//! | R@n | the gold passage is among the first n that the retriever finds (its text begins the same, white space aside) |
//! | wanted | share of plain instructions for which the model wants to retrieve |

use std::path::PathBuf;

use indicatif::{ProgressBar, ProgressStyle};

use crate::{
    cli::{
        load::{self, ModelArgs},
        questions::{self, Labelled},
    },
    engine::Engine,
    event::Event,
    platform::block_on,
    retriever::Hit,
    self_rag::{Config, Question, Stop},
};

/// Measures how often the gold passage is found, and how often the model asks for passages without need.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// JSON lines with `question` and `ctxs` (the first is the gold passage).
    #[arg(long, value_name = "FILE")]
    questions: PathBuf,
    /// Plain instructions, one on a line: how often does the model want to retrieve for those?
    #[arg(long, value_name = "FILE")]
    instructions: Option<PathBuf>,
    /// Use the first N questions only.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Passages for a question.
    #[arg(long, alias = "n-docs", value_name = "N", default_value_t = Config::paper().n_docs)]
    ndocs: usize,
    /// Instructions in a batch.
    #[arg(long, default_value_t = 4)]
    batch: usize,
    #[command(flatten)]
    model: ModelArgs,
}

/// Runs the command.
pub(super) fn run(args: Args) -> anyhow::Result<()> {
    let mut labelled = questions::labelled(&args.questions)?;
    labelled.truncate(args.limit.unwrap_or(usize::MAX));
    anyhow::ensure!(!labelled.is_empty(), "{}: no questions", args.questions.display());
    anyhow::ensure!(args.ndocs > 0, "--ndocs: at least 1 expected");
    let instructions = args.instructions.as_deref().map(questions::plain).transpose()?;
    let mut engine = load::engine(&args.model, true, false)?;
    let found = recall(&mut engine, &labelled, args.ndocs)?;
    println!("R@{}: {:.1} % of {} questions", args.ndocs, found * 100.0, labelled.len());
    if let Some(instructions) = instructions {
        let wanted = decision_rate(&mut engine, &instructions, args.batch.max(1))?;
        println!("Retrieval wanted for {:.1} % of {} plain instructions", wanted * 100.0, instructions.len());
    }
    Ok(())
}

/// Share of questions whose gold passage is among the first `n_docs` found.
fn recall(engine: &mut Engine, labelled: &[Labelled], n_docs: usize) -> anyhow::Result<f64> {
    let Some(retriever) = engine.retriever() else { anyhow::bail!("R@{n_docs} needs a retriever") };
    let bar = ProgressBar::new(labelled.len() as u64);
    bar.set_style(ProgressStyle::with_template("{spinner} searching {bar:30} {pos}/{len} {eta}")?);
    let mut found = 0;
    for batch in labelled.chunks(32) {
        let texts: Vec<&str> = batch.iter().map(|labelled| labelled.question.as_str()).collect();
        let hits = block_on(retriever.search(&texts, n_docs))?;
        let is_found = |(labelled, hits): &(&Labelled, Vec<Hit>)| {
            let gold = labelled.ctxs.first().map(|context| squeeze(&context.text));
            // Question files often hold the first words of a passage only.
            gold.is_some_and(|gold| hits.iter().any(|hit| squeeze(&hit.passage.text).starts_with(&gold)))
        };
        found += batch.iter().zip(hits).filter(is_found).count();
        bar.inc(batch.len() as u64);
    }
    bar.finish_and_clear();
    Ok(found as f64 / labelled.len() as f64)
}

/// Share of instructions for which the model wants to retrieve; one token each is enough to know.
fn decision_rate(engine: &mut Engine, instructions: &[String], batch: usize) -> anyhow::Result<f64> {
    let config = Config { max_new_tokens: 1, ..Config::paper() };
    let mut wanted = 0;
    for batch in instructions.chunks(batch) {
        let questions: Vec<Question> = batch.iter().map(|text| Question::with_passages(text, Vec::new())).collect();
        block_on(engine.ask_batch(&questions, &config, &Stop::default(), &mut |_, event| {
            wanted += usize::from(matches!(event, Event::Decision { retrieve: true, .. }));
        }))?;
    }
    Ok(wanted as f64 / instructions.len().max(1) as f64)
}

/// White space does not count.
fn squeeze(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
