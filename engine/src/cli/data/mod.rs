//! `selfrag data from-qa FILE… --output FILE`, `selfrag data critic-labels ask|combine`, `selfrag data generator SOURCE…`,
//! `selfrag data report FILE…`

mod critic_labels;
mod from_qa;
mod generator;
mod report;

use std::path::Path;

use super::terminal;
use crate::data::{from_qa as from_qa_rows, notes::Notes, rows::TrainingRow, write_whole};

/// Training data: makes it from annotated questions or by a large model's labels, and says what a file holds.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    CriticLabels(critic_labels::Args),
    FromQa(Box<from_qa::Args>),
    Generator(Box<generator::Args>),
    Report(report::Args),
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<()> {
    match args.command {
        Command::CriticLabels(args) => critic_labels::run(&args),
        Command::FromQa(args) => from_qa::run(&args),
        Command::Generator(args) => generator::run(&args),
        Command::Report(args) => report::run(&args),
    }
}

/// What was wrong and what was left out.
fn tell(notes: &Notes) {
    /// Problems that are shown one by one.
    const SHOWN: usize = 20;
    for (_, error) in notes.problems.iter().take(SHOWN) {
        eprintln!("{}", terminal::safe(&error.to_string()));
    }
    for (reason, n) in notes.counts() {
        eprintln!("problem: {n} × {reason}");
    }
    for (reason, n) in &notes.left_out {
        eprintln!("left out: {n} × {reason}");
    }
}

/// Refuses problems where `--strict` is given.
fn refuse(notes: &Notes, strict: bool) -> anyhow::Result<()> {
    let problems = notes.problems.len();
    anyhow::ensure!(!strict || problems == 0, "{problems} problems, none expected with --strict");
    Ok(())
}

/// A training file: JSON lines where the name ends in .jsonl, otherwise a JSON list, as the released critic's training reads it.
fn write_rows(path: &Path, rows: &[TrainingRow]) -> anyhow::Result<()> {
    let lines = path.extension().is_some_and(|extension| extension == "jsonl");
    let text = if lines { from_qa_rows::json_lines(rows.iter().cloned())? } else { from_qa_rows::json_list(rows)? };
    Ok(write_whole(path, text.as_bytes())?)
}
