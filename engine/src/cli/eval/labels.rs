//! `selfrag eval labels --data FILE [--critic] --model GGUF`

use std::path::PathBuf;

use indicatif::{ProgressBar, ProgressStyle};

use crate::{
    Error,
    cli::{
        files::check_outputs,
        load::{self, ModelArgs},
        terminal,
    },
    data::rows::TrainingFile,
    eval::labels::{Batch, of_critic, of_generator},
    platform::block_on,
};

/// Measures how often a generator's reflection tokens, or a critic's labels, are those of a labelled file.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Rows in a training file's format that the model was not trained on; .gz is unpacked.
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// The rows and the model are a critic's.
    #[arg(long)]
    critic: bool,
    /// Use the first N rows only.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Rows in a batch.
    #[arg(long, default_value_t = 8)]
    batch: usize,
    /// Write every label as JSON too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    model: ModelArgs,
}

/// Runs the command.
pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    check_outputs(&[&args.data], &args.json.iter().collect::<Vec<_>>())?;
    let file = TrainingFile::open(&args.data)?;
    if let Some(error) = file.broken() {
        return Err(error.into());
    }
    let rows = file.iter().take(args.limit.unwrap_or(usize::MAX)).collect::<Result<Vec<_>, Error>>()?;
    anyhow::ensure!(!rows.is_empty(), "{}: no rows", args.data.display());
    let (mut llama, tokenizer) = load::model(&args.model)?;
    let bar = ProgressBar::new(rows.len() as u64);
    bar.set_style(ProgressStyle::with_template("{spinner} {bar:30} {pos}/{len} rows {eta}")?);
    let batch = Batch { rows: args.batch, tokens: llama.free_tokens() };
    let mut on_row = |n: usize| bar.inc(n as u64);
    let labels = match args.critic {
        true => block_on(of_critic(&mut llama, &tokenizer, &rows, batch, &mut on_row))?,
        false => block_on(of_generator(&mut llama, &tokenizer, &rows, batch, &mut on_row))?,
    };
    bar.finish_and_clear();
    if let Some(path) = &args.json {
        let text = terminal::json_line(&labels)?;
        std::fs::write(path, text + "\n").map_err(|e| Error::io(path.display().to_string(), e))?;
    }
    print!("{}", labels.table().lines().map(|line| terminal::safe(line) + "\n").collect::<String>());
    Ok(())
}
