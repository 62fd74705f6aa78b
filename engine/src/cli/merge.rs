//! `selfrag merge BASE ADAPTER --folder OUT [--type f16] [--gguf OUT.gguf --gguf-type q8_0] [--adapter-folder OUT] [--verify]`

use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::builder::PossibleValuesParser;

use super::convert::{bar, parse_size, to_gguf};
use crate::{
    platform::block_on,
    tokenizer::{Tokenizer, reflection::NAMES, tokenizer_json},
    weights::{self, DType, Weights, convert::FileType, hf, peft, quant, read_values},
};

/// Merges a PEFT adapter into its base: a Hugging Face folder, a GGUF file, or both, with the enlarged vocabulary.
///
/// Computed in f32 and rounded once. What was written is opened again: every special token must be there, and the rows of the reflection tokens be the
/// merged ones; otherwise the command fails and says which. Without an adapter (a checkpoint of full fine-tuning) the model is written in another type.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A GGUF file (the first of split ones), or a Hugging Face folder.
    base: PathBuf,
    /// The adapter's folder: a checkpoint of `selfrag train`, or PEFT's.
    adapter: Option<PathBuf>,
    /// The Hugging Face folder to write (config.json, tokenizer.json, model.safetensors): new or empty.
    #[arg(long, value_name = "DIR", required_unless_present_any = ["gguf", "adapter_folder"])]
    folder: Option<PathBuf>,
    /// The adapter alone, its tensors in --type: a checkpoint's are f32, twice what ships. New or empty.
    #[arg(long, value_name = "DIR", requires = "adapter")]
    adapter_folder: Option<PathBuf>,
    /// Type of the folders' weights.
    #[arg(long = "type", value_name = "TYPE", default_value = "f16", value_parser = PossibleValuesParser::new(hf::TYPES.map(DType::name)))]
    dtype: String,
    /// The GGUF file to write.
    #[arg(long, value_name = "FILE")]
    gguf: Option<PathBuf>,
    /// Format of its matrices.
    #[arg(long, value_name = "TYPE", default_value = "q8_0", value_parser = PossibleValuesParser::new(FileType::names()))]
    gguf_type: String,
    /// Write several GGUF files of at most this size each, e.g. 32M or 2G.
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    split_max_size: Option<u64>,
    /// Compare logits of fixed prompts, on the CPU in f32: of base and adapter apart, and of what was written. Needs a build with `--features training`,
    /// and memory for all weights in f32.
    #[arg(long)]
    verify: bool,
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<()> {
    if args.verify && cfg!(not(feature = "training")) {
        bail!("--verify computes with the forward pass of training: build with `--features training`");
    }
    if let Some(file) = &args.gguf {
        // Split files get names of their own; both are looked at before anything is written.
        anyhow::ensure!(
            file.extension().is_some_and(|e| e == "gguf"),
            "{}: a name ending in .gguf expected",
            file.display()
        );
        anyhow::ensure!(!file.exists(), "{}: is there already; nothing is overwritten", file.display());
    }
    if args.verify && args.folder.is_none() && args.gguf.is_none() {
        bail!("--verify compares a merged model: name --folder or --gguf");
    }
    let model = weights::open(&args.base, args.adapter.as_deref())?;
    if let (Some(from), Some(to)) = (&args.adapter, &args.adapter_folder) {
        let dtype = FileType::from_name(&args.dtype).expect("clap lets only known names pass").dtype;
        let n_bytes = peft::export(from, to, dtype)?;
        weights::open(&args.base, Some(to))?;
        eprintln!("{}: {:.1} MB of {}", to.display(), n_bytes as f64 / 1e6, dtype.name());
        println!("{}", to.display());
    }
    let mut outputs = Vec::new();
    if let Some(folder) = &args.folder {
        let dtype = FileType::from_name(&args.dtype).expect("clap lets only known names pass").dtype;
        to_folder(model.as_ref(), folder, dtype)?;
        outputs.push(folder.clone());
    }
    if let Some(file) = &args.gguf {
        let file_type = FileType::from_name(&args.gguf_type).expect("clap lets only known names pass");
        outputs.extend(to_gguf(model.as_ref(), file, file_type, args.split_max_size)?.into_iter().next());
    }
    for output in &outputs {
        check(model.as_ref(), output)?;
        #[cfg(feature = "training")]
        if args.verify {
            let found = crate::train::verify(&args.base, args.adapter.as_deref(), output)?;
            eprintln!(
                "{}: logits of {} positions differ by at most {:.1e} of the largest; the likeliest token is another at {}",
                output.display(),
                found.positions,
                found.largest,
                found.other_choice
            );
        }
        println!("{}", output.display());
    }
    Ok(())
}

fn to_folder(model: &dyn Weights, folder: &Path, dtype: DType) -> anyhow::Result<()> {
    let (file, metadata) = (model.name(), model.metadata());
    let mut files = Vec::new();
    if metadata.contains_key("tokenizer.ggml.tokens") {
        files.push(("tokenizer.json", tokenizer_json(file, metadata)?));
        files.push(("tokenizer_config.json", hf::tokenizer_config(file, metadata)?));
    }
    let bar = bar(format!("{} as {}", folder.display(), dtype.name()))?;
    let n_bytes = hf::export(model, folder, dtype, &files, &mut |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    })?;
    bar.finish_and_clear();
    eprintln!("{} tensors, {:.1} MB", model.tensors().len(), n_bytes as f64 / 1e6);
    Ok(())
}

/// Opens what was written: its vocabulary must be the model's, and the reflection tokens' rows the merged ones in its type.
fn check(model: &dyn Weights, output: &Path) -> anyhow::Result<()> {
    let written = weights::open(output, None)?;
    if !model.metadata().contains_key("tokenizer.ggml.tokens") {
        return Ok(());
    }
    let expected = Tokenizer::from_metadata(model.name(), model.metadata())?;
    let found = Tokenizer::from_metadata(written.name(), written.metadata())?;
    for id in (0..expected.vocab_size() as u32).filter(|&id| expected.is_special(id)) {
        if expected.token(id) != found.token(id) {
            bail!("{}: token {id} is {:?}, {:?} expected", written.name(), found.token(id), expected.token(id));
        }
    }
    let reflection: Vec<u32> = NAMES.iter().filter_map(|name| expected.id(name)).collect();
    for name in ["token_embd.weight", "output.weight"] {
        let (Some(from), Some(to)) = (model.tensor(name), written.tensor(name)) else { continue };
        for &id in &reflection {
            let values = block_on(read_values(model, from, id as usize, 1))?;
            let mut row = vec![0; to.row_bytes()];
            quant::quantize(to.dtype, &values, &mut row);
            if block_on(written.read_rows(to, id as usize, 1))? != row {
                bail!("{}: {name}: the row of {:?} is not the merged one", written.name(), expected.token(id));
            }
        }
    }
    Ok(())
}
