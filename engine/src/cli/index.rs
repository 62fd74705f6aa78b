//! `selfrag index build | info | verify`: passage stores.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};
use sha2::{Digest, Sha256};

use super::{clusters, embed::TextArgs, embeddings::Files, push};
use crate::{
    Error,
    gpu::{Gpu, Options as GpuOptions},
    platform::block_on,
    retriever::{
        Embedder,
        build::{Options, Progress, build},
        clusters::search::{Clusters, Limits},
        encoder::Encoder,
        files,
        manifest::Manifest,
        milvus::{self, Address, Settings},
        open::clustered,
        passages::PassageFiles,
        store::Store,
        vectors::Precision,
        verify,
    },
    tokenizer::Tokenizer,
    weights::folder::weight_files,
};

/// Most passages times questions that `verify` compares by itself, in each precision: some minutes.
const MOST_COMPARED: u64 = 500_000_000;

/// Passage stores: what the retriever searches.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Embeds passages, or takes files of embeddings, and writes a store. An interrupted build goes on where it stopped.
    Build(Build),
    /// Makes a clustered store from a flat one: questions read a few ranges of its files instead of loading it.
    Cluster(clusters::Cluster),
    /// Measures what a clustered store finds against exact search, in how many bytes and requests.
    Recall(clusters::Recall),
    /// Shows what a store or a collection holds.
    Info {
        /// The store: a folder, the http:// address of one, or a collection's milvus://….
        store: PathBuf,
    },
    /// Reads every file of a store and checks hashes, ids, passages and graph; measures recall@10 of its vectors and graph.
    Verify(Verify),
    /// Pushes a store to a collection on a Milvus server. An interrupted push goes on where it stopped.
    Push(push::Push),
}

#[derive(Debug, clap::Args)]
struct Verify {
    /// The store: a folder or the http:// address of one.
    store: PathBuf,
    /// Also hold the store against the files of passages that it was made of.
    #[arg(long, num_args = 1.., value_name = "FILE")]
    passages: Vec<PathBuf>,
    /// Questions that recall is measured with; 0 for none [default: 200, of more than 2.5 million passages fewer].
    #[arg(long, value_name = "N")]
    sample: Option<usize>,
}

#[derive(Debug, clap::Args)]
struct Build {
    /// Files of passages: .jsonl with id, title and text, or DPR's TSV (id, text, title); may be gzipped.
    #[arg(long, required = true, num_args = 1.., value_name = "FILE")]
    passages: Vec<PathBuf>,
    /// The encoder: a GGUF file or a Hugging Face folder (Contriever, MiniLM or another BERT with mean pooling).
    #[arg(long, value_name = "MODEL")]
    encoder: PathBuf,
    /// Files of embeddings (`selfrag embed`, or the original's) by name or pattern: then nothing is embedded but the first passage, to see
    /// that the encoder is theirs.
    #[arg(long, aliases = ["passages_embeddings", "passages-embeddings"], num_args = 1.., value_name = "GLOB")]
    embeddings: Vec<String>,
    /// With --embeddings: leave out passages without an embedding and embeddings without a passage instead of refusing them.
    #[arg(long)]
    allow_missing: bool,
    #[command(flatten)]
    text: TextArgs,
    /// Tokens that a text is cut at, if the model does not cut it earlier.
    #[arg(long, alias = "passage_maxlength", default_value_t = 512, value_name = "N")]
    passage_maxlength: usize,
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
    /// Vectors to write: some of f32, f16 and int8.
    #[arg(long, default_values = ["f16", "int8"], value_delimiter = ',', value_parser = ["f32", "f16", "int8"])]
    vectors: Vec<String>,
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<()> {
    match args.command {
        Command::Build(args) => block_on(run_build(args)),
        Command::Cluster(args) => block_on(clusters::cluster(args)),
        Command::Recall(args) => block_on(clusters::recall(args)),
        Command::Info { store } => block_on(info(&store)),
        Command::Verify(args) => block_on(verify(&args)),
        Command::Push(args) => block_on(push::push(&args)),
    }
}

async fn run_build(args: Build) -> anyhow::Result<()> {
    for (name, value) in [("shard-rows", args.shard_rows), ("batch", args.batch)] {
        if value == 0 {
            return Err(Error::config(name, "a positive number expected").into());
        }
    }
    let precisions = Precision::ALL.into_iter();
    let precisions = precisions.filter(|p| args.vectors.iter().any(|name| name == p.name())).collect();
    let (shard_rows, batch, text) = (args.shard_rows, args.batch, args.text.options());
    let options = Options { shard_rows, batch, precisions, graph: args.hnsw, text };
    let gpu = Gpu::open(GpuOptions::default()).await?;
    let mut encoder = open_encoder(&gpu, &args.encoder).await?;
    encoder.limit_tokens(args.passage_maxlength);
    if !args.embeddings.is_empty() {
        return build_from_embeddings(&args, &options, &mut encoder).await;
    }
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
    built(&args.output, &manifest);
    Ok(())
}

fn built(output: &Path, manifest: &Manifest) {
    println!("{}", output.display());
    eprintln!("{} passages in {} shards", manifest.count, manifest.shards.len());
    if let Some(graph) = &manifest.graph {
        eprintln!("graph with recall@10 {:.3}", graph.recall_at_10);
    }
}

async fn build_from_embeddings(args: &Build, options: &Options, encoder: &mut Encoder) -> anyhow::Result<()> {
    let files = Files { passages: &args.passages, embeddings: &args.embeddings, allow_missing: args.allow_missing };
    let matched = files.open(&files.find()?, encoder, options).await?;
    let manifest = files.build(&matched, &args.output, options).await?;
    built(&args.output, &manifest);
    Ok(())
}

/// An encoder from a file or folder, with the hash that stores record.
pub async fn open_encoder(gpu: &Gpu, path: &Path) -> crate::Result<Encoder> {
    let weights = crate::weights::open(path, None)?;
    let tokenizer = Tokenizer::from_metadata(weights.name(), weights.metadata())?;
    Encoder::load(gpu, weights.as_ref(), tokenizer, weights_sha256(path)?, &mut |_| {}).await
}

/// Of a model's weight file; of several, one after the other.
fn weights_sha256(model: &Path) -> crate::Result<String> {
    let files = match model.is_dir() {
        true => weight_files(model, "model", "pytorch_model")?.0,
        false => vec![model.to_path_buf()],
    };
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
    for path in files {
        let failed = |e| Error::io(path.display().to_string(), e);
        let mut file = File::open(&path).map_err(failed)?;
        loop {
            let n = file.read(&mut buffer).map_err(failed)?;
            if n == 0 {
                break;
            }
            hash.update(&buffer[..n]);
        }
    }
    Ok(hash.finalize().iter().map(|b| format!("{b:02x}")).collect())
}

async fn info(path: &Path) -> anyhow::Result<()> {
    if let Some(place) = path.to_str().filter(|place| milvus::is_milvus(place)) {
        println!("{}", milvus::told(&Address::parse(place)?, Settings::default()).await?);
        return Ok(());
    }
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

async fn verify(args: &Verify) -> anyhow::Result<()> {
    let path = &args.store;
    let mut bytes = 0;
    if clustered(files::at(path).as_ref()).await? {
        let store = Clusters::open(files::at(path), Limits::default()).await?;
        store.verify(&mut |n| bytes += n).await?;
        let count = store.manifest().count;
        println!("{}: {count} passages, {:.1} MB, hashes and passages are good", path.display(), bytes as f64 / 1e6);
        println!("what it finds, in how many bytes: `selfrag index recall`");
        return Ok(());
    }
    let store = Store::open(files::at(path)).await?;
    store.verify(&mut |n| bytes += n).await?;
    let count = store.manifest().count;
    println!("{}: {count} passages, {:.1} MB, hashes, ids and passages are good", path.display(), bytes as f64 / 1e6);
    if !args.passages.is_empty() {
        let found = verify::compare(&store, PassageFiles::new(args.passages.clone())).await?;
        println!("{found}");
        anyhow::ensure!(found.is_same(), "{}: not the passages that were named", path.display());
    }
    let sample = args.sample.unwrap_or((MOST_COMPARED / count.max(1)).clamp(1, 200) as usize);
    let bar = ProgressBar::new_spinner().with_message(format!("measuring recall with {sample} questions"));
    bar.enable_steady_tick(Duration::from_millis(200));
    let measured = if sample > 0 { verify::recall(&store, sample).await? } else { None };
    bar.finish_and_clear();
    if let Some(recall) = measured {
        println!("recall@10 of {} questions, against exact search in {}:", recall.questions, recall.exact.name());
        for (precision, share) in &recall.precisions {
            println!("{:<11} {share:.4}", precision.name());
        }
        match recall.graph {
            Some(share) => println!("{:<11} {share:.4}", "graph"),
            None => println!("graph       none"),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retriever::manifest::sha256_hex;

    #[test]
    fn weights_of_any_kind_are_hashed() {
        let folder = std::env::temp_dir().join(format!("selfrag-index-weights-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
        assert!(weights_sha256(&folder).unwrap_err().to_string().contains("model.safetensors or pytorch_model.bin"));
        let map = r#"{"weight_map": {"a": "1.bin", "b": "2.bin", "c": "1.bin"}}"#;
        for (name, text, hashed) in [
            ("2.bin", "second", None),
            ("1.bin", "first", None),
            ("pytorch_model.bin.index.json", map, Some("firstsecond")),
            ("pytorch_model.bin", "torch", Some("torch")),
            ("model.safetensors", "safe", Some("safe")),
        ] {
            write(name, text);
            if let Some(hashed) = hashed {
                assert_eq!(weights_sha256(&folder).unwrap(), sha256_hex(hashed.as_bytes()), "{name}");
            }
        }
        assert_eq!(weights_sha256(&folder.join("1.bin")).unwrap(), sha256_hex(b"first"));
        std::fs::remove_dir_all(folder).unwrap();
    }
}
