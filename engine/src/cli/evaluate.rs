//! `selfrag evaluate --questions FILE.jsonl[.gz] [--modes adaptive,never,gold] [--instructions FILE]`
//!
//! | number | what |
//! | --- | --- |
//! | R@n | the gold passage is among the first n that the retriever finds (its text begins the same, white space aside) |
//! | retrieved | share of questions for which the model decides to retrieve |
//! | match | a gold answer is in the answer's text, as it is (specification, §3.3) |
//! | normalised | the same without case, punctuation and articles (SQuAD's normalisation) |

use std::path::PathBuf;

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::{
    load::{self, ModelArgs},
    questions::{self, Labelled},
    settings::Settings,
};
use crate::{
    engine::Engine,
    event::Event,
    platform::{block_on, now_ms},
    self_rag::{Answer, Config, Mode, Question, Stop},
};

/// Measures retrieval, decisions and answers on labelled questions.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// JSON lines with `question`, `answers` and `ctxs` (the first is the gold passage).
    #[arg(long, value_name = "FILE")]
    questions: PathBuf,
    /// Plain instructions, one on a line: how often does the model want to retrieve for those?
    #[arg(long, value_name = "FILE")]
    instructions: Option<PathBuf>,
    /// What to measure.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "adaptive,never,gold")]
    modes: Vec<Source>,
    /// Use the first N questions only.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Questions in a batch; each has --n-docs candidates in the KV cache.
    #[arg(long, default_value_t = 4)]
    batch: usize,
    /// Write the numbers and every answer as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    settings: Settings,
}

/// Where passages come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
enum Source {
    /// The retriever, when the model asks.
    Adaptive,
    /// The retriever, for every question.
    Always,
    /// Nowhere.
    Never,
    /// The question's gold passage, for every question.
    Gold,
}

/// A row of the table.
#[derive(Debug, Serialize)]
struct Row {
    source: Source,
    n_questions: usize,
    retrieved: f64,
    matched: f64,
    normalised: f64,
    secs: f64,
    tokens_per_sec: f64,
}

/// Everything measured.
#[derive(Debug, Default, Serialize)]
struct Report {
    n_docs: usize,
    recall: Option<f64>,
    rows: Vec<Row>,
    /// Share of plain instructions for which the model wants to retrieve.
    instructions_retrieved: Option<f64>,
    n_instructions: usize,
    answers: Vec<(Source, Vec<Answer>)>,
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<()> {
    let config = args.settings.config()?;
    let mut labelled = questions::labelled(&args.questions)?;
    labelled.truncate(args.limit.unwrap_or(usize::MAX));
    anyhow::ensure!(!labelled.is_empty(), "{}: no questions", args.questions.display());
    let instructions = args.instructions.as_deref().map(questions::plain).transpose()?;
    let retrieves = args.modes.iter().any(|source| matches!(source, Source::Adaptive | Source::Always));
    let mut engine = load::engine(&args.model, retrieves)?;
    let mut report = Report { n_docs: config.n_docs, ..Report::default() };
    if retrieves {
        report.recall = Some(recall(&mut engine, &labelled, config.n_docs)?);
    }
    for &source in &args.modes {
        let (row, answers) = measure(&mut engine, &labelled, &config, source, args.batch.max(1))?;
        report.rows.push(row);
        report.answers.push((source, answers));
    }
    if let Some(instructions) = instructions {
        report.n_instructions = instructions.len();
        report.instructions_retrieved = Some(decision_rate(&mut engine, &instructions, &config, args.batch.max(1))?);
    }
    print!("{}", markdown(&report));
    if let Some(path) = &args.json {
        std::fs::write(path, serde_json::to_vec(&report)?)?;
    }
    Ok(())
}

fn progress(label: String, total: usize) -> anyhow::Result<ProgressBar> {
    let style = ProgressStyle::with_template("{spinner} {msg} {bar:30} {pos}/{len} {eta}")?;
    Ok(ProgressBar::new(total as u64).with_style(style).with_message(label))
}

/// Share of questions whose gold passage is among the first `n_docs` found.
fn recall(engine: &mut Engine, labelled: &[Labelled], n_docs: usize) -> anyhow::Result<f64> {
    let Some(retriever) = engine.retriever() else { anyhow::bail!("R@{n_docs} needs a retriever") };
    let bar = progress("searching".into(), labelled.len())?;
    let mut found = 0;
    for batch in labelled.chunks(32) {
        let texts: Vec<&str> = batch.iter().map(|labelled| labelled.question.as_str()).collect();
        let hits = block_on(retriever.search(&texts, n_docs))?;
        let is_found = |(labelled, hits): &(&Labelled, Vec<crate::retriever::Hit>)| {
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

fn measure(
    engine: &mut Engine,
    labelled: &[Labelled],
    config: &Config,
    source: Source,
    batch: usize,
) -> anyhow::Result<(Row, Vec<Answer>)> {
    let mode = match source {
        Source::Adaptive => Mode::Adaptive,
        Source::Never => Mode::Never,
        Source::Always | Source::Gold => Mode::Always,
    };
    let config = Config { mode, ..config.clone() };
    let to_question = |labelled: &Labelled| match (source, labelled.ctxs.first()) {
        (Source::Gold, Some(gold)) => {
            Question::with_passages(&labelled.question, vec![questions::given("gold", &gold.title, &gold.text)])
        }
        _ => Question::new(&labelled.question),
    };
    let bar = progress(format!("{source:?}").to_lowercase(), labelled.len())?;
    let start = now_ms();
    let mut answers: Vec<Answer> = Vec::new();
    for batch in labelled.chunks(batch) {
        let questions: Vec<Question> = batch.iter().map(to_question).collect();
        answers.extend(block_on(engine.ask_batch(&questions, &config, &Stop::default(), &mut |_, _| {}))?);
        bar.inc(batch.len() as u64);
    }
    bar.finish_and_clear();
    let secs = (now_ms() - start) / 1e3;
    let share = |is: &dyn Fn(&Labelled, &Answer) -> bool| {
        labelled.iter().zip(&answers).filter(|(labelled, answer)| is(labelled, answer)).count() as f64
            / labelled.len() as f64
    };
    let n_tokens: usize =
        answers.iter().flat_map(|answer| &answer.candidates).map(|candidate| candidate.tokens.len()).sum();
    let row = Row {
        source,
        n_questions: labelled.len(),
        retrieved: share(&|_, answer| answer.retrieved),
        matched: share(&|labelled, answer| matches(&labelled.answers, &answer.text)),
        normalised: share(&|labelled, answer| matches_normalised(&labelled.answers, &answer.text)),
        secs,
        tokens_per_sec: n_tokens as f64 / secs,
    };
    Ok((row, answers))
}

/// Share of instructions for which the model wants to retrieve; one token each is enough to know.
fn decision_rate(engine: &mut Engine, instructions: &[String], config: &Config, batch: usize) -> anyhow::Result<f64> {
    let config = Config { mode: Mode::Adaptive, max_new_tokens: 1, ..config.clone() };
    let mut wanted = 0;
    for batch in instructions.chunks(batch) {
        let questions: Vec<Question> = batch.iter().map(|text| Question::with_passages(text, Vec::new())).collect();
        block_on(engine.ask_batch(&questions, &config, &Stop::default(), &mut |_, event| {
            wanted += usize::from(matches!(event, Event::Decision { retrieve: true, .. }));
        }))?;
    }
    Ok(wanted as f64 / instructions.len().max(1) as f64)
}

fn markdown(report: &Report) -> String {
    let percent = |share: f64| format!("{:.1} %", share * 100.0);
    let mut out = String::from(
        "| passages | questions | retrieved | match | normalised match | seconds | tokens/s |\n| --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for row in &report.rows {
        out += &format!(
            "| {} | {} | {} | {} | {} | {:.0} | {:.0} |\n",
            format!("{:?}", row.source).to_lowercase(),
            row.n_questions,
            percent(row.retrieved),
            percent(row.matched),
            percent(row.normalised),
            row.secs,
            row.tokens_per_sec
        );
    }
    if let Some(recall) = report.recall {
        out += &format!("\nR@{}: {}\n", report.n_docs, percent(recall));
    }
    if let Some(rate) = report.instructions_retrieved {
        out += &format!("\nRetrieval wanted for {} of {} plain instructions\n", percent(rate), report.n_instructions);
    }
    out
}

/// A gold answer is in the text, as it is.
fn matches(answers: &[String], text: &str) -> bool {
    answers.iter().any(|answer| text.contains(answer.as_str()))
}

/// The same without case, punctuation and articles, by whole words.
fn matches_normalised(answers: &[String], text: &str) -> bool {
    let text = format!(" {} ", normalise(text));
    let is_in = |answer: &String| {
        let answer = normalise(answer);
        !answer.is_empty() && text.contains(&format!(" {answer} "))
    };
    answers.iter().any(is_in)
}

/// SQuAD's normalisation.
fn normalise(text: &str) -> String {
    let plain: String = text.to_lowercase().chars().filter(|c| !c.is_ascii_punctuation()).collect();
    plain.split_whitespace().filter(|word| !matches!(*word, "a" | "an" | "the")).collect::<Vec<_>>().join(" ")
}

fn squeeze(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matching() {
        let gold = vec!["The Amazon".to_owned(), "nine".to_owned()];
        assert!(matches(&gold, "It is nine."));
        assert!(!matches(&gold, "It is Nine."), "as it is");
        assert!(matches_normalised(&gold, "It is Nine."));
        assert!(matches_normalised(&gold, "an amazon, in short"));
        assert!(!matches_normalised(&gold, "ninety"), "whole words");
        assert!(!matches_normalised(&["the".to_owned()], "anything"), "an answer of articles only is no match");
        assert_eq!(squeeze(" a\n b "), "a b");
    }
}
