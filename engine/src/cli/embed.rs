//! `selfrag embed --passages psgs_w100.tsv --model ENCODER --output-dir DIR --shard-id 0 --num-shards 4`: passages to files of embeddings.

use std::{
    io::IsTerminal,
    path::PathBuf,
    time::{Duration, Instant},
};

use indicatif::{HumanDuration, ProgressBar, ProgressStyle};

use super::{index::open_encoder, load};
use crate::{
    gpu::{Gpu, Options as GpuOptions},
    platform::block_on,
    retriever::{
        Embedder,
        embeddings::shard::{Options, Progress, embed},
        text::TextOptions,
    },
};

/// Time between two lines where there is no terminal.
const PAUSE: Duration = Duration::from_secs(10);

/// Embeds passages into the original's files: a pickle of ids and a NumPy array. A run that was killed goes on where it stopped;
/// a file that is there with the same settings is left as it is.
///
/// Options have the names of `generate_passage_embeddings.py` too.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Files of passages: .jsonl with id, title and text, or DPR's TSV (id, text, title); may be gzipped.
    #[arg(long, required = true, num_args = 1.., value_name = "FILE")]
    passages: Vec<PathBuf>,
    /// The encoder: a GGUF file or a Hugging Face folder [default: models/encoder.gguf].
    #[arg(long, visible_alias = "model_name_or_path", aliases = ["model-name-or-path", "encoder"], value_name = "MODEL")]
    model: Option<PathBuf>,
    /// The folder of the files.
    #[arg(long, alias = "output_dir", default_value = "wikipedia_embeddings", value_name = "DIR")]
    output_dir: PathBuf,
    /// A file is named PREFIX_SHARD, with two digits.
    #[arg(long, default_value = "passages")]
    prefix: String,
    /// Which shard to embed, from 0.
    #[arg(long, alias = "shard_id", default_value_t = 0, value_name = "I")]
    shard_id: usize,
    /// Shards of the corpus: each has ⌊passages / shards⌋, the last the rest as well.
    #[arg(long, alias = "num_shards", default_value_t = 1, value_name = "N")]
    num_shards: usize,
    /// Passages embedded at a time; what a kill costs at most.
    #[arg(long, aliases = ["per_gpu_batch_size", "batch"], default_value_t = 512, value_name = "N")]
    per_gpu_batch_size: usize,
    /// Tokens that a text is cut at, if the model does not cut it earlier.
    #[arg(long, alias = "passage_maxlength", default_value_t = 512, value_name = "N")]
    passage_maxlength: usize,
    /// Write f32 instead of f16.
    #[arg(long, alias = "no_fp16")]
    no_fp16: bool,
    /// Embed anew what is there, finished or not.
    #[arg(long)]
    overwrite: bool,
    #[command(flatten)]
    text: TextArgs,
}

/// How texts are prepared.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(super) struct TextArgs {
    /// Embed passages without their titles.
    #[arg(long, alias = "no_title")]
    no_title: bool,
    /// Lower-case texts first.
    #[arg(long)]
    lowercase: bool,
    /// Make hyphens, quotes and spaces plain first (Contriever's normalize_text.py).
    #[arg(long, alias = "normalize_text")]
    normalize_text: bool,
}

impl TextArgs {
    pub(super) fn options(self) -> TextOptions {
        TextOptions { no_title: self.no_title, lowercase: self.lowercase, normalize_text: self.normalize_text }
    }
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<()> {
    let model = load::located(args.model.as_deref(), "encoder.gguf", "model")?;
    let options = Options {
        passages: args.passages,
        shard: args.shard_id,
        shards: args.num_shards,
        piece: args.per_gpu_batch_size,
        is_f32: args.no_fp16,
        text: args.text.options(),
        overwrite: args.overwrite,
    };
    let output = args.output_dir.join(format!("{}_{:02}", args.prefix, args.shard_id));
    std::fs::create_dir_all(&args.output_dir)
        .map_err(|e| crate::Error::io(args.output_dir.display().to_string(), e))?;
    block_on(async {
        let gpu = Gpu::open(GpuOptions::default()).await?;
        let mut encoder = open_encoder(&gpu, &model).await?;
        encoder.limit_tokens(args.passage_maxlength);
        let mut bar = Bar::new(&gpu.facts().name)?;
        embed(&options, &mut encoder, &output, &mut |event| bar.tell(event)).await?;
        bar.bar.finish_and_clear();
        println!("{}", output.display());
        anyhow::Ok(())
    })
}

/// On a terminal a bar, elsewhere a line now and then; always on standard error.
struct Bar {
    bar: ProgressBar,
    start: Instant,
    told: Instant,
    done: u64,
    left: u64,
}

impl Bar {
    fn new(device: &str) -> anyhow::Result<Self> {
        let template = "{spinner} {msg} {bar:30} {pos}/{len} {per_sec} {eta}";
        let bar = ProgressBar::new(0).with_style(ProgressStyle::with_template(template)?);
        bar.set_message(format!("embedding on {device}"));
        let now = Instant::now();
        Ok(Self { bar, start: now, told: now, done: 0, left: 0 })
    }

    fn tell(&mut self, event: Progress) {
        match event {
            Progress::Rows(range, count) => {
                self.left = range.end - range.start;
                // Without a terminal the bar shows nothing, its println neither.
                self.bar.suspend(|| eprintln!("passages {} to {} of {count}", range.start, range.end));
                self.bar.set_length(self.left);
            }
            Progress::Finished => {
                self.bar.suspend(|| eprintln!("embedded before with the same settings; --overwrite does it again"));
            }
            Progress::Resumed(rows) => {
                self.left -= rows;
                self.start = Instant::now();
                self.bar.set_position(rows);
                self.bar.reset_eta();
                if rows > 0 {
                    eprintln!("going on after {rows} passages");
                }
            }
            Progress::Embedded(rows) => {
                (self.done, self.left) = (self.done + rows, self.left - rows);
                self.bar.inc(rows);
                if !std::io::stderr().is_terminal() && self.told.elapsed() >= PAUSE {
                    let secs = self.start.elapsed().as_secs_f64();
                    let to_go = Duration::from_secs_f64(secs / self.done as f64 * self.left as f64);
                    let (at, all) = (self.bar.position(), self.bar.length().unwrap_or_default());
                    let rate = self.done as f64 / secs;
                    eprintln!("{at}/{all} passages, {rate:.1} a second, {} to go", HumanDuration(to_go));
                    self.told = Instant::now();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn the_originals_options_are_understood() {
        let all = "embed --passages p.tsv --output_dir o --prefix x --shard_id 3 --num_shards 4 --per_gpu_batch_size 64 \
            --passage_maxlength 200 --model_name_or_path m --no_fp16 --no_title --lowercase --normalize_text";
        let args = Line::try_parse_from(all.split_whitespace()).unwrap().args;
        assert_eq!((args.shard_id, args.num_shards, args.per_gpu_batch_size, args.passage_maxlength), (3, 4, 64, 200));
        assert!(args.no_fp16 && args.output_dir.ends_with("o") && args.prefix == "x");
        assert_eq!(args.text.options(), TextOptions { no_title: true, lowercase: true, normalize_text: true });
    }
}
