//! `selfrag convert IN OUT.gguf --type q8_0 [--adapter DIR] [--split-max-size 32M]`

use std::path::{Path, PathBuf};

use clap::builder::PossibleValuesParser;
use indicatif::{ProgressBar, ProgressStyle};

use crate::weights::{
    Weights,
    convert::{FileType, convert},
};

/// Converts a model to GGUF, which llama.cpp and the page open.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A GGUF file (the first of split ones), or a Hugging Face folder.
    input: PathBuf,
    /// The GGUF file to write.
    output: PathBuf,
    /// Format of the matrices.
    #[arg(long = "type", value_name = "TYPE", default_value = "q8_0", value_parser = PossibleValuesParser::new(FileType::names()))]
    file_type: String,
    /// A PEFT adapter's folder to merge in.
    #[arg(long, value_name = "DIR")]
    adapter: Option<PathBuf>,
    /// Write several files of at most this size each, e.g. 32M or 2G.
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    split_max_size: Option<u64>,
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<()> {
    let file_type = FileType::from_name(&args.file_type).expect("clap lets only known names pass");
    let model = crate::weights::open(&args.input, args.adapter.as_deref())?;
    let files = to_gguf(model.as_ref(), &args.output, file_type, args.split_max_size)?;
    files.iter().for_each(|file| println!("{}", file.display()));
    Ok(())
}

/// Writes a model as GGUF, with a bar and notes on standard error; its files.
pub(super) fn to_gguf(
    model: &dyn Weights,
    output: &Path,
    file_type: FileType,
    split_max_size: Option<u64>,
) -> anyhow::Result<Vec<PathBuf>> {
    let bar = bar(format!("{} as {}", output.display(), file_type.dtype.name()))?;
    let report = convert(model, output, file_type, split_max_size, &mut |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    })?;
    bar.finish_and_clear();
    for note in &report.notes {
        eprintln!("note: {note}");
    }
    eprintln!("{} tensors, {:.1} MB", model.tensors().len(), report.n_bytes as f64 / 1e6);
    Ok(report.files)
}

/// A bar of bytes.
pub(super) fn bar(message: String) -> anyhow::Result<ProgressBar> {
    let template = "{spinner} {msg} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
    Ok(ProgressBar::new(0).with_style(ProgressStyle::with_template(template)?).with_message(message))
}

/// `32M`, `2G`, `500K` (powers of 1000, as llama.cpp's gguf-split has them), or plain bytes.
pub(super) fn parse_size(text: &str) -> Result<u64, String> {
    let (digits, unit) = match text.char_indices().last() {
        Some((at, 'k' | 'K')) => (&text[..at], 1_000),
        Some((at, 'm' | 'M')) => (&text[..at], 1_000_000),
        Some((at, 'g' | 'G')) => (&text[..at], 1_000_000_000),
        _ => (text, 1),
    };
    let number: u64 = digits.parse().map_err(|_| format!("{text:?}: a size such as 32M expected"))?;
    number.checked_mul(unit).filter(|&n| n > 0).ok_or_else(|| format!("{text:?} is no usable size"))
}
