//! `selfrag data report FILE… [--tokenizer tokenizer.json] [--json] [--html FILE] [--strict]`

use std::{
    io::{self, Write},
    path::PathBuf,
};

use crate::{
    Error,
    cli::{load, terminal},
    data::{
        report::{self, Measure},
        rows::{Span, TrainingFile},
    },
    tokenizer::EncodeOptions,
};

/// Says what training files hold: labels, lengths, and which rows are broken.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A generator's or a critic's training files: a JSON list or JSON lines; .gz is unpacked.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The vocabulary to count tokens with: tokenizer.json, tokenizer.model or a GGUF file; without it words are counted.
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<PathBuf>,
    /// Tokens above which a row is cut in training.
    #[arg(long, alias = "max_seq_length", value_name = "N", default_value_t = 2048)]
    max_length: usize,
    /// Combinations of tokens and places of faults that are shown.
    #[arg(long, value_name = "N", default_value_t = 20)]
    show: usize,
    /// Write everything as JSON, every fault included.
    #[arg(long)]
    json: bool,
    /// Write a page too: one file, nothing loaded.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Fail if any row has a fault.
    #[arg(long)]
    strict: bool,
}

/// Runs the command.
pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let tokenizer = args.tokenizer.as_deref().map(load::training_vocabulary).transpose()?;
    let count = tokenizer.as_ref().map(|tokenizer| {
        move |span: &Span, first: bool| {
            let options = if first { EncodeOptions::START } else { EncodeOptions::CONTINUE };
            let options = EncodeOptions { special: span.special, ..options };
            tokenizer.encode(&span.text, options).map(|ids| ids.len())
        }
    });
    let mut reports = Vec::new();
    for path in &args.files {
        let file = TrainingFile::open(path)?;
        reports.push(report::report(&file, count.as_ref().map(|count| count as Measure<'_>), args.max_length)?);
    }
    if args.json {
        print(&terminal::json_line(&reports)?)?;
    } else {
        for report in &reports {
            print(&report.table(args.show).lines().map(terminal::safe).collect::<Vec<_>>().join("\n"))?;
        }
    }
    if let Some(path) = &args.html {
        std::fs::write(path, report::page(&reports)).map_err(|e| Error::io(path.display().to_string(), e))?;
    }
    let faulty: usize = reports.iter().map(|report| report.faulty).sum();
    anyhow::ensure!(!args.strict || faulty == 0, "{faulty} rows have faults, none expected with --strict");
    Ok(())
}

/// A line to standard output. A reader that has seen enough, such as `head`, is no error.
fn print(text: &str) -> io::Result<()> {
    match writeln!(io::stdout().lock(), "{text}") {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}
