//! `selfrag index build | info | verify`: passage stores.

use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};
use sha2::{Digest, Sha256};

use super::clusters;
use crate::{
    Error,
    gpu::{Gpu, Options as GpuOptions},
    platform::block_on,
    retriever::{
        build::{Options, Progress, build},
        clusters::search::{Clusters, Limits},
        encoder::Encoder,
        files,
        open::clustered,
        passages::PassageFiles,
        store::Store,
        vectors::Precision,
    },
    tokenizer::Tokenizer,
};

/// Passage stores: what the retriever searches.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Embeds passages and writes a store. An interrupted build goes on where it stopped.
    Build(Build),
    /// Makes a clustered store from a flat one: questions read a few ranges of its files instead of loading it.
    Cluster(clusters::Cluster),
    /// Measures what a clustered store finds against exact search, in how many bytes and requests.
    Recall(clusters::Recall),
    /// Shows what a store holds.
    Info {
        /// The store: a folder or the http:// address of one.
        store: PathBuf,
    },
    /// Reads every file of a store and checks hashes, passages and graph.
    Verify {
        /// The store: a folder or the http:// address of one.
        store: PathBuf,
    },
}

#[derive(Debug, clap::Args)]
struct Build {
    /// Files of passages: .jsonl with id, title and text, or DPR's TSV (id, text, title); may be gzipped.
    #[arg(long, required = true, num_args = 1.., value_name = "FILE")]
    passages: Vec<PathBuf>,
    /// The encoder: a GGUF file or a Hugging Face folder (Contriever, MiniLM or another BERT with mean pooling).
    #[arg(long, value_name = "MODEL")]
    encoder: PathBuf,
    /// The store's folder; an existing store is replaced when the new one is complete.
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Also builds the HNSW graph; refused when its recall@10 is under 0.95.
    #[arg(long)]
    hnsw: bool,
    /// Passages of a shard, the unit of download.
    #[arg(long, default_value_t = 2048, value_name = "N")]
    shard_rows: usize,
    /// Passages embedded at a time.
    #[arg(long, default_value_t = 128, value_name = "N")]
    batch: usize,
    /// Vectors to write: f16, int8 or both.
    #[arg(long, default_values = ["f16", "int8"], value_delimiter = ',', value_parser = ["f16", "int8"])]
    vectors: Vec<String>,
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<()> {
    match args.command {
        Command::Build(args) => block_on(run_build(args)),
        Command::Cluster(args) => block_on(clusters::cluster(args)),
        Command::Recall(args) => block_on(clusters::recall(args)),
        Command::Info { store } => block_on(info(&store)),
        Command::Verify { store } => block_on(verify(&store)),
    }
}

async fn run_build(args: Build) -> anyhow::Result<()> {
    for (name, value) in [("shard-rows", args.shard_rows), ("batch", args.batch)] {
        if value == 0 {
            return Err(Error::config(name, "a positive number expected").into());
        }
    }
    let precisions = [Precision::F16, Precision::Int8].into_iter();
    let precisions = precisions.filter(|p| args.vectors.iter().any(|name| name == p.name())).collect();
    let options = Options { shard_rows: args.shard_rows, batch: args.batch, precisions, graph: args.hnsw };
    let gpu = Gpu::open(GpuOptions::default()).await?;
    let mut encoder = open_encoder(&gpu, &args.encoder).await?;
    // Reading all passages first costs little beside embedding them, finds bad rows at once, and gives the number to expect.
    let mut count = 0;
    for passage in PassageFiles::new(args.passages.clone()) {
        passage?;
        count += 1;
    }
    let template = "{spinner} {msg} {bar:30} {pos}/{len} {per_sec} {eta}";
    let bar = ProgressBar::new(count).with_style(ProgressStyle::with_template(template)?);
    bar.set_message(format!("embedding on {}", gpu.facts().name));
    let mut progress = |event: Progress| match event {
        Progress::Embedded(n) => bar.inc(n as u64),
        Progress::Resumed(n) => bar.inc(n as u64),
        Progress::Graph => bar.set_message("building the graph"),
    };
    let passages = PassageFiles::new(args.passages);
    let manifest = build(passages, &mut encoder, &args.output, &options, &mut progress).await?;
    bar.finish_and_clear();
    println!("{}", args.output.display());
    eprintln!("{} passages in {} shards", manifest.count, manifest.shards.len());
    if let Some(graph) = &manifest.graph {
        eprintln!("graph with recall@10 {:.3}", graph.recall_at_10);
    }
    Ok(())
}

/// An encoder from a file or folder, with the hash that stores record.
pub async fn open_encoder(gpu: &Gpu, path: &Path) -> crate::Result<Encoder> {
    let weights = crate::weights::open(path, None)?;
    let tokenizer = Tokenizer::from_metadata(weights.name(), weights.metadata())?;
    let file = if path.is_dir() { path.join("model.safetensors") } else { path.to_path_buf() };
    Encoder::load(gpu, weights.as_ref(), tokenizer, sha256_of(&file)?, &mut |_| {}).await
}

fn sha256_of(path: &Path) -> crate::Result<String> {
    let failed = |e| Error::io(path.display().to_string(), e);
    let mut hash = Sha256::new();
    let mut file = std::fs::File::open(path).map_err(failed)?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        let n = std::io::Read::read(&mut file, &mut buffer).map_err(failed)?;
        if n == 0 {
            return Ok(hash.finalize().iter().map(|b| format!("{b:02x}")).collect());
        }
        hash.update(&buffer[..n]);
    }
}

async fn info(path: &Path) -> anyhow::Result<()> {
    if clustered(files::at(path).as_ref()).await? {
        clusters::info(Clusters::open(files::at(path), Limits::default()).await?.manifest());
        return Ok(());
    }
    let store = Store::open(files::at(path)).await?;
    let manifest = store.manifest();
    let encoder = &manifest.encoder;
    println!("passages    {}", manifest.count);
    println!("dimensions  {}", manifest.dim);
    println!("encoder     {} ({} tokens at most, sha256 {})", encoder.name, encoder.max_tokens, encoder.sha256);
    println!("normalised  {}", encoder.normalised);
    println!("shards      {}", manifest.shards.len());
    for precision in manifest.precisions() {
        let bytes: u64 = manifest.shards.iter().map(|shard| shard.vectors[&precision].bytes).sum();
        println!("{:<11} {:.1} MB", precision.name(), bytes as f64 / 1e6);
    }
    let bytes: u64 = manifest.shards.iter().map(|shard| shard.passages.bytes).sum();
    println!("text        {:.1} MB", bytes as f64 / 1e6);
    match &manifest.graph {
        Some(graph) => println!("graph       {:.1} MB, recall@10 {:.3}", graph.bytes as f64 / 1e6, graph.recall_at_10),
        None => println!("graph       none"),
    }
    Ok(())
}

async fn verify(path: &Path) -> anyhow::Result<()> {
    let mut bytes = 0;
    let mut progress = |n| bytes += n;
    let count = if clustered(files::at(path).as_ref()).await? {
        let store = Clusters::open(files::at(path), Limits::default()).await?;
        store.verify(&mut progress).await?;
        store.manifest().count
    } else {
        let store = Store::open(files::at(path)).await?;
        store.verify(&mut progress).await?;
        store.manifest().count
    };
    println!("{}: {count} passages, {:.1} MB, all good", path.display(), bytes as f64 / 1e6);
    Ok(())
}
