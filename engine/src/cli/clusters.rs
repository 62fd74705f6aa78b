//! `selfrag index cluster | recall`: clustered stores, and what they find at what cost.

use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};

use super::{index::open_encoder, questions};
use crate::{
    Error, Result,
    gpu::{Gpu, Options as GpuOptions},
    retriever::{
        Embedder,
        clusters::{
            build::{Options, Progress, build},
            format::{Manifest, Measured, Sample},
            measure::{Truth, usual_probes},
            search::{Clusters, Limits},
        },
        files,
        store::Store,
    },
};

/// `selfrag index cluster`.
#[derive(Debug, clap::Args)]
pub(super) struct Cluster {
    /// The flat store to cluster.
    #[arg(long, value_name = "DIR")]
    index: PathBuf,
    /// The clustered store's folder; a clustered store there is replaced when the new one is complete.
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Number of clusters [default: 4 times the root of the number of passages].
    #[arg(long, value_name = "N")]
    clusters: Option<usize>,
    /// Bits of a value in the codes that are read first, 1 to 4.
    #[arg(long, default_value_t = Options::default().bits, value_name = "N")]
    bits: usize,
    /// Clusters that a question probes [default: the fewest that reach --recall].
    #[arg(long, value_name = "N")]
    probes: Option<usize>,
    /// The recall@10 that is wanted.
    #[arg(long, default_value_t = 0.95, value_name = "0..1")]
    recall: f32,
    /// Megabytes of a file. Hosts without range requests need files of 16 MB at most.
    #[arg(long, default_value_t = 64, value_name = "MB")]
    part_mb: u64,
    /// Decides sample, first centroids and rotation.
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
    /// Also builds an HNSW graph of the centroids, for searching without a GPU [default: from 100,000 clusters on].
    #[arg(long)]
    centroid_graph: bool,
    #[command(flatten)]
    sample: SampleArgs,
    /// Prints the recall table as JSON.
    #[arg(long)]
    json: bool,
}

/// `selfrag index recall`.
#[derive(Debug, clap::Args)]
pub(super) struct Recall {
    /// The clustered store: a folder or the http:// address of one.
    store: PathBuf,
    /// The flat store it was made from, searched exactly.
    #[arg(long, value_name = "DIR")]
    index: PathBuf,
    /// Numbers of probes to measure.
    #[arg(long, value_delimiter = ',', value_name = "N,…")]
    probes: Vec<usize>,
    /// Most requests of a question.
    #[arg(long, default_value_t = Limits::default().requests, value_name = "N")]
    requests: usize,
    /// Most kilobytes of a question.
    #[arg(long, default_value_t = Limits::default().bytes / 1000, value_name = "KB")]
    kilobytes: u64,
    /// Most requests of the first round.
    #[arg(long, default_value_t = Limits::default().block_requests, value_name = "N")]
    block_requests: usize,
    /// Most kilobytes of the first round.
    #[arg(long, default_value_t = Limits::default().block_bytes / 1000, value_name = "KB")]
    block_kilobytes: u64,
    /// Reads all codes before the first question, which they are not counted for.
    #[arg(long)]
    preload: bool,
    #[command(flatten)]
    sample: SampleArgs,
    /// Prints the table as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct SampleArgs {
    /// Questions to measure recall with: texts as `ask` takes them, for --encoder, or embedded ones, raw f32 in a file .f32
    /// [default: rows of the store].
    #[arg(long, value_name = "FILE")]
    questions: Option<PathBuf>,
    /// The encoder of questions that are texts.
    #[arg(long, value_name = "MODEL")]
    encoder: Option<PathBuf>,
    /// Questions taken at most.
    #[arg(long, default_value_t = 1000, value_name = "N")]
    most_questions: usize,
}

impl SampleArgs {
    async fn vectors(&self, store: &Store) -> Result<Option<Vec<Vec<f32>>>> {
        let Some(path) = &self.questions else { return Ok(None) };
        let (manifest, name) = (store.manifest(), path.display().to_string());
        let vectors = match &self.encoder {
            None => raw(path, manifest.dim, self.most_questions)?,
            Some(encoder) => {
                let gpu = Gpu::open(GpuOptions::default()).await?;
                let mut encoder = open_encoder(&gpu, encoder).await?;
                let made_with = &manifest.encoder;
                let texts = questions::plain(path)?.into_iter().take(self.most_questions);
                let texts: Vec<String> = texts
                    .map(|question| made_with.query_prefix.clone() + &made_with.text.question(&question))
                    .collect();
                let mut vectors = Vec::new();
                for texts in texts.chunks(128) {
                    vectors.extend(encoder.embed(texts).await?);
                }
                vectors
            }
        };
        match vectors.first() {
            None => Err(Error::input(name, "content", "no questions")),
            Some(first) if first.len() != manifest.dim => {
                Err(Error::config("encoder", format!("{} dimensions, the store has {}", first.len(), manifest.dim)))
            }
            Some(_) => Ok(Some(vectors)),
        }
    }
}

/// Rows of little-endian f32.
fn raw(path: &Path, dim: usize, most: usize) -> Result<Vec<Vec<f32>>> {
    let name = path.display().to_string();
    if path.extension().is_none_or(|extension| extension != "f32") {
        return Err(Error::config("questions", format!("{name}: texts need --encoder; embedded ones are a file .f32")));
    }
    let bytes = std::fs::read(path).map_err(|e| Error::io(&name, e))?;
    if !bytes.len().is_multiple_of(4 * dim) {
        return Err(Error::input(name, "size", format!("{} bytes, rows of {dim} f32 expected", bytes.len())));
    }
    let values: Vec<f32> = bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    if let Some(at) = values.iter().position(|x| !x.is_finite()) {
        return Err(Error::input(name, format!("row {}", at / dim), "a value that is infinite or not a number"));
    }
    Ok(values.chunks(dim).take(most).map(<[f32]>::to_vec).collect())
}

/// Clusters a flat store.
pub(super) async fn cluster(args: Cluster) -> anyhow::Result<()> {
    let store = Store::open(files::at(&args.index)).await?;
    let options = Options {
        clusters: args.clusters,
        bits: args.bits,
        seed: args.seed,
        part_bytes: args.part_mb.saturating_mul(1_000_000),
        probes: args.probes,
        recall: args.recall,
        questions: args.sample.vectors(&store).await?,
        graph: args.centroid_graph.then_some(true),
    };
    let template = "{spinner} {msg} {bar:30} {pos}/{len} {eta}";
    let bar = ProgressBar::new(0).with_style(ProgressStyle::with_template(template)?);
    let mut progress = |event: Progress| {
        let (message, at, of) = match event {
            Progress::Trained(at, of) => ("k-means", at, of),
            Progress::Assigned(at, of) => ("shards clustered", at, of),
            Progress::Written(at, of) => ("shards written", at, of),
            Progress::Measuring => ("measuring recall", 0, 1),
        };
        bar.set_message(message);
        bar.set_length(of as u64);
        bar.set_position(at as u64);
    };
    let manifest = build(&store, &args.output, &options, &mut progress).await?;
    bar.finish_and_clear();
    if args.json {
        println!("{}", serde_json::to_string_pretty(&manifest.measured)?);
    } else {
        println!("{}", args.output.display());
        eprintln!(
            "{} passages in {} clusters, {} probes a question",
            manifest.count, manifest.clusters, manifest.probes
        );
        table(&manifest.measured);
    }
    Ok(())
}

/// Measures recall and cost of a clustered store.
pub(super) async fn recall(args: Recall) -> anyhow::Result<()> {
    let store = Store::open(files::at(&args.index)).await?;
    let truth = Truth::new(&store, args.sample.vectors(&store).await?).await?;
    let limits = Limits {
        requests: args.requests,
        block_requests: args.block_requests,
        bytes: args.kilobytes.saturating_mul(1000),
        block_bytes: args.block_kilobytes.saturating_mul(1000),
        preload: if args.preload { u64::MAX } else { 0 },
        block_cache: if args.preload { usize::MAX } else { 0 },
        record_cache: 0,
        probes: None,
    };
    let open = |probes| Clusters::open(files::at(&args.store), Limits { probes, ..limits.clone() });
    let manifest = open(None).await?.manifest().clone();
    if (manifest.count, manifest.dim) != (store.manifest().count, store.manifest().dim) {
        let problem = format!("{} passages of {} values", store.manifest().count, store.manifest().dim);
        let problem = format!("{problem}, the clustered store has {} of {}", manifest.count, manifest.dim);
        return Err(Error::config("index", problem).into());
    }
    let probes = if args.preload {
        vec![usize::try_from(manifest.clusters).unwrap_or(usize::MAX)]
    } else if args.probes.is_empty() {
        usual_probes(manifest.clusters)
    } else {
        args.probes
    };
    let mut measured = Vec::new();
    for probes in probes {
        let clusters = open(Some(probes)).await?;
        if args.preload {
            let (bytes, requests) = clusters.opened();
            eprintln!("opened by {:.1} MB in {requests} requests", bytes as f64 / 1e6);
        }
        measured.push(truth.measure(&clusters).await?);
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&measured)?);
    } else {
        table(&measured);
    }
    Ok(())
}

/// Prints what was measured.
fn table(measured: &[Measured]) {
    let Some(first) = measured.first() else { return };
    let sample = match first.sample {
        Sample::Questions => "questions",
        Sample::Rows => "rows of the store as questions; real ones lie elsewhere",
    };
    println!("{} {sample}; \"all\": every code in memory, else nothing before any", first.questions);
    println!("probes  searched  recall@10  kB mean   most  requests mean  most");
    for m in measured {
        println!(
            "{:>6} {:>9.1} {:>10.4} {:>8.0} {:>6.0} {:>14.1} {:>5}",
            if m.preloaded { "all".to_owned() } else { m.probes.to_string() },
            m.clusters,
            m.recall_at_10,
            m.bytes / 1e3,
            m.most_bytes as f64 / 1e3,
            m.requests,
            m.most_requests
        );
    }
}

/// Shows what a clustered store holds.
pub(super) fn info(manifest: &Manifest) {
    let bytes = |pick: fn(&crate::retriever::clusters::format::Part) -> u64| -> f64 {
        manifest.parts.iter().map(pick).sum::<u64>() as f64 / 1e6
    };
    println!("passages    {}", manifest.count);
    println!("dimensions  {}", manifest.dim);
    let encoder = &manifest.encoder;
    println!("encoder     {} ({} tokens at most, sha256 {})", encoder.name, encoder.max_tokens, encoder.sha256);
    println!("normalised  {}", encoder.normalised);
    println!("clusters    {}, {} probes a question", manifest.clusters, manifest.probes);
    println!("centroids   {:.1} MB, read when the store is opened", manifest.table.bytes as f64 / 1e6);
    println!("codes       {:.1} MB, {} bits a value", bytes(|part| part.codes.bytes), manifest.bits);
    println!("records     {:.1} MB in {} files", bytes(|part| part.records.bytes), manifest.parts.len());
    table(&manifest.measured);
}
