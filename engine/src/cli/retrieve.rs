//! `selfrag retrieve --data FILE --output FILE | --query TEXT`: passages for questions, without a generator.

mod batch;
mod kept;
mod options;

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    io::{BufRead, IsTerminal, Write},
    path::PathBuf,
};

use kept::MadeOf;
pub use options::Args;

use super::{embeddings::Files, index::open_encoder, load, search, terminal};
use crate::{
    Error,
    gpu::{Gpu, Options as GpuOptions},
    platform::block_on,
    retriever::{
        Embedder, Hit, Retriever,
        build::Options as BuildOptions,
        embeddings::matched::Matched,
        encoder::Encoder,
        files,
        index::{Index, Method},
        manifest::{MANIFEST, sha256_hex},
        milvus,
        open::{clustered, open_clusters},
        store::Store,
        vectors::Precision,
    },
};

/// Characters of a passage that are shown.
const SHOWN: usize = 400;

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<()> {
    args.check()?;
    let outputs = args.outputs()?;
    let mut index = block_on(open(&args))?;
    if !outputs.is_empty() {
        for (data, output) in &outputs {
            batch::run(&mut index, &args, data, output)?;
        }
    } else if let Some(query) = &args.query {
        answer(&mut index, &args, query)?;
    } else {
        interactive(&mut index, &args)?;
    }
    // Beside what was told at first, by one question's search: what all of them took.
    if let Some(streaming) = index.retriever.streaming() {
        eprintln!("{} searches: {streaming}", streaming.passes);
    }
    Ok(())
}

/// Questions from standard input, one a line, until it ends.
fn interactive(index: &mut Opened, args: &Args) -> anyhow::Result<()> {
    let input = std::io::stdin();
    let prompt = || {
        if input.is_terminal() {
            eprint!("question> ");
            let _ = std::io::stderr().flush();
        }
    };
    prompt();
    for line in input.lock().lines() {
        let line = line?;
        if !line.trim().is_empty() {
            answer(index, args, line.trim())?;
        }
        prompt();
    }
    Ok(())
}

fn answer(index: &mut Opened, args: &Args, query: &str) -> anyhow::Result<()> {
    let hits = block_on(index.retriever.search(&[query], args.n_docs))?.remove(0);
    if let Some(told) = index.retriever.told() {
        eprintln!("{told}");
    }
    if args.json {
        println!("{}", terminal::json_line(&serde_json::json!({"question": query, "ctxs": batch::contexts(&hits)}))?);
        return Ok(());
    }
    for (rank, hit) in hits.iter().enumerate() {
        println!("{}", shown(rank + 1, hit));
    }
    Ok(())
}

/// Rank, score, title, id; the text below.
fn shown(rank: usize, hit: &Hit) -> String {
    let Hit { passage, score } = hit;
    let title = terminal::safe_line(terminal::name(passage), 80);
    let (id, text) = (terminal::safe_line(&passage.id, 40), terminal::safe_line(&passage.text, SHOWN));
    format!("{rank:>3}  {:>9.4}  {title}  [{id}]\n     {text}", score.unwrap_or_default())
}

/// An index and what it is known by.
struct Opened {
    retriever: Box<dyn Retriever>,
    identity: String,
    /// Of the vectors that are searched.
    precision: Precision,
    /// How they are searched.
    search: String,
    /// A store that is made for this run only.
    _temporary: Option<TemporaryFolder>,
}

struct TemporaryFolder(PathBuf);

impl TemporaryFolder {
    /// A new folder: one that is there already is somebody else's, and an error.
    fn new() -> crate::Result<Self> {
        let random = RandomState::new().build_hasher().finish();
        let path = std::env::temp_dir().join(format!("selfrag-index-{random:016x}"));
        std::fs::create_dir(&path).map_err(|e| Error::io(path.display().to_string(), e))?;
        Ok(Self(path))
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The store that is named, or one made of embeddings, with its encoder.
async fn open(args: &Args) -> anyhow::Result<Opened> {
    let collection = args.search.collection()?;
    let index = match args.embeddings.is_empty() && collection.is_none() {
        true => Some(load::located(args.search.index.as_deref(), load::INDEX, "index")?),
        false => None,
    };
    let encoder = load::located(args.model.as_deref(), "encoder.gguf", "model")?;
    let gpu = Gpu::open(GpuOptions::default()).await?;
    let mut encoder = open_encoder(&gpu, &encoder).await?;
    if let Some(address) = collection {
        encoder.limit_tokens(args.question_maxlength);
        let settings = args.search.milvus.settings();
        let retriever = milvus::open(&address, Box::new(encoder), settings).await?;
        let identity = retriever.identity().unwrap_or_default();
        let search = format!("milvus, nprobe {:?}", settings.nprobe);
        return Ok(Opened { retriever, identity, precision: Precision::F32, search, _temporary: None });
    }
    let (folder, temporary) = match index {
        Some(index) => (index, None),
        None => of_embeddings(args, &mut encoder).await?,
    };
    encoder.limit_tokens(args.question_maxlength);
    let method = if args.cpu { Method::Exact } else { args.search.method(&gpu) };
    let files = files::at(&folder);
    if clustered(files.as_ref()).await? {
        if let Some(precision) = args.precision().filter(|precision| *precision != Precision::Int8) {
            let problem = format!("{}, but {} is clustered and has int8 alone", precision.name(), files.name());
            return Err(Error::config("precision", problem).into());
        }
        let index = open_clusters(files, Box::new(encoder), &method).await?;
        let identity = sha256_hex(&index.clusters().manifest().to_json());
        let search = if args.search.hnsw { "clusters, hnsw" } else { "clusters" }.into();
        let retriever = Box::new(index);
        return Ok(Opened { retriever, identity, precision: Precision::Int8, search, _temporary: temporary });
    }
    let mut store = Store::open(files).await?;
    let most_exact = store.manifest().precisions().first().copied();
    if let Some(precision) = args.precision().or(most_exact) {
        store.prefer(precision)?;
    }
    let (identity, precision) = (sha256_hex(&store.manifest().to_json()), store.precision());
    let index = Index::open(store, Box::new(encoder), method, &mut |_| {}).await?;
    search::tell(&folder.display().to_string(), &index);
    let search = if args.search.hnsw {
        "hnsw"
    } else if args.cpu {
        "cpu"
    } else {
        "gpu"
    }
    .into();
    Ok(Opened { retriever: Box::new(index), identity, precision, search, _temporary: temporary })
}

/// A store made of the embeddings, in their own precision: kept beside them with --save_or_load_index, else for this run.
async fn of_embeddings(args: &Args, encoder: &mut Encoder) -> anyhow::Result<(PathBuf, Option<TemporaryFolder>)> {
    let files = Files { passages: &args.passages, embeddings: &args.embeddings, allow_missing: args.allow_missing };
    let paths = files.find()?;
    encoder.limit_tokens(args.passage_maxlength);
    let (text, max_tokens) = (args.text.options(), encoder.info().max_tokens);
    let mut options = BuildOptions { text, ..BuildOptions::default() };
    if args.save_or_load_index {
        let folder = paths[0].with_file_name("index.selfrag");
        let made_of = MadeOf::new(&args.passages, &paths, text, max_tokens, args.allow_missing)?;
        if folder.join(MANIFEST).exists() {
            if made_of.is_of(&folder) {
                eprintln!("{}: made of the same files before, taken as it is", folder.display());
                return Ok((folder, None));
            }
            eprintln!("{}: made of other files or with other options, made anew", folder.display());
        }
        MadeOf::forget(&folder)?;
        let matched = files.open(&paths, encoder, &options).await?;
        options.precisions = vec![own_precision(&matched)];
        files.build(&matched, &folder, &options).await?;
        made_of.write(&folder)?;
        return Ok((folder, None));
    }
    let matched = files.open(&paths, encoder, &options).await?;
    options.precisions = vec![own_precision(&matched)];
    let temporary = TemporaryFolder::new()?;
    let values = own_precision(&matched).file_bytes(matched.len() as u64, matched.dim() as u64).unwrap_or(u64::MAX);
    eprintln!(
        "making a store for this run in {} (TMPDIR names another place): {:.1} MB of vectors, and the passages; --save-or-load-index keeps it",
        temporary.0.display(),
        values as f64 / 1e6
    );
    // It lies in the folder, so that an unfinished one beside it goes too.
    let folder = temporary.0.join("store");
    files.build(&matched, &folder, &options).await?;
    Ok((folder, Some(temporary)))
}

fn own_precision(matched: &Matched) -> Precision {
    if matched.is_f32() { Precision::F32 } else { Precision::F16 }
}
