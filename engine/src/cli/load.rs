//! Where the model, the encoder and the passages are, and the engine made of them.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use indicatif::{ProgressBar, ProgressStyle};
use sha2::{Digest, Sha256};

use super::{
    index::open_encoder,
    search::{self, SearchArgs},
};
use crate::{
    Error, Result,
    engine::Engine,
    generator::{
        llama::{Llama, LlamaOptions, Tunings},
        remote::{Remote, RemoteOptions},
    },
    gpu::{Gpu, Options},
    platform::block_on,
    retriever::{
        Retriever, files,
        milvus::{self, Address},
        open::open,
    },
    tokenizer::{ReflectionTokens, Tokenizer},
    weights::{self, Weights},
};

/// The generator that the demo makes.
const MODEL: &str = "demo.gguf";
/// The passages that come with the page.
pub(super) const INDEX: &str = "../public/corpus";
/// How steps are computed on the devices that were measured.
const TUNINGS: &str = "tunings.json";

fn home() -> PathBuf {
    std::env::var_os("SELFRAG_HOME").map_or_else(|| PathBuf::from("models"), PathBuf::from)
}

/// Options that say what to load. The defaults are where `cargo xtask demo` puts things: `./models`, or `$SELFRAG_HOME`.
#[derive(Debug, clap::Args)]
pub struct ModelArgs {
    /// The generator: a GGUF file (the first of split ones) or a Hugging Face folder [default: models/demo.gguf].
    #[arg(long, alias = "model_name", value_name = "GGUF|DIR")]
    model: Option<PathBuf>,
    /// A PEFT adapter's folder to merge into the generator.
    #[arg(long, value_name = "DIR")]
    adapter: Option<PathBuf>,
    #[command(flatten)]
    search: SearchArgs,
    /// The retriever's encoder [default: models/encoder.gguf].
    #[arg(long, value_name = "GGUF|DIR")]
    encoder: Option<PathBuf>,
    /// Tokens that fit the KV cache, all candidates together [default: 256 MB worth].
    #[arg(long, value_name = "N")]
    kv_tokens: Option<usize>,
}

impl ModelArgs {
    /// Whether passages to search are named.
    pub(super) fn names_index(&self) -> bool {
        self.search.index.is_some()
    }

    /// The passages' folder, by its name, or collection with how it is searched.
    pub(super) fn index_name(&self) -> Result<String> {
        if let Some(address) = self.search.collection()? {
            return Ok(format!("{address}, nprobe {:?}", self.search.milvus.settings().nprobe));
        }
        let index = self.search.index.clone().unwrap_or_else(|| home().join(INDEX));
        Ok(index.canonicalize().unwrap_or(index).file_name().unwrap_or_default().to_string_lossy().into_owned())
    }

    /// What `--model` says where a server generates.
    pub(super) fn served_name(&self) -> Option<&str> {
        self.model.as_deref().and_then(Path::to_str)
    }

    /// The generator by its file's name and size, and its adapter's: what tells two models apart without reading them.
    pub(super) fn generator(&self) -> Result<String> {
        let model = located(self.model.as_deref(), MODEL, "model")?;
        let mut name = describe(&model)?;
        if let Some(adapter) = &self.adapter {
            name += &format!(" with {}", describe(adapter)?);
        }
        Ok(name)
    }
}

/// A file or folder by its name and size.
pub(super) fn describe(path: &Path) -> Result<String> {
    let io = |e: std::io::Error| Error::io(path.display().to_string(), e);
    let bytes = match path.is_dir() {
        false => path.metadata().map_err(io)?.len(),
        true => {
            let sizes = path.read_dir().map_err(io)?.flatten().filter_map(|entry| Some(entry.metadata().ok()?.len()));
            sizes.sum()
        }
    };
    Ok(format!("{} ({bytes} bytes)", path.file_name().unwrap_or_default().to_string_lossy()))
}

/// The same with a fingerprint of what is in it, which tells a model that was trained again from what it was: of each file its length and
/// 64 blocks, or all of a small one.
pub(super) fn identify(path: &Path) -> Result<String> {
    let mut hash = Sha256::new();
    sample(path, &mut hash).map_err(|e| Error::io(path.display().to_string(), e))?;
    let hash: String = hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("{}, sampled {hash}", describe(path)?))
}

fn sample(path: &Path, hash: &mut Sha256) -> std::io::Result<()> {
    const BLOCKS: u64 = 64;
    const BLOCK: u64 = 16 << 10;
    if path.is_dir() {
        let mut entries: Vec<PathBuf> =
            path.read_dir()?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
        entries.sort();
        for entry in entries {
            let name = entry.file_name().unwrap_or_default().to_string_lossy();
            hash.update(format!("{}\0{name}", name.len()));
            sample(&entry, hash)?;
        }
        return Ok(());
    }
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    hash.update(length.to_le_bytes());
    if length <= BLOCKS * BLOCK {
        hash.update(std::fs::read(path)?);
        return Ok(());
    }
    let mut block = vec![0; BLOCK as usize];
    for at in 0..BLOCKS {
        let start = u128::from(length - BLOCK) * u128::from(at) / u128::from(BLOCKS - 1);
        file.seek(SeekFrom::Start(start as u64))?;
        file.read_exact(&mut block)?;
        hash.update(&block);
    }
    Ok(())
}

/// The engine over a completions server; the retriever, if it is needed, is loaded here.
pub(super) fn remote_engine(
    args: &ModelArgs,
    options: RemoteOptions,
    tokenizer: &Path,
    with_retriever: bool,
) -> Result<Engine> {
    let (tokenizer, reflection) = vocabulary(tokenizer)?;
    let remote = Remote::connect(options, &tokenizer, &reflection)?;
    let retriever = match with_retriever {
        true => {
            let place = Place::of(&args.search)?;
            let encoder = located(args.encoder.as_deref(), "encoder.gguf", "encoder")?;
            Some(retriever(&block_on(Gpu::open(Options::default()))?, &place, &encoder, &args.search)?)
        }
        false => None,
    };
    Engine::new(Box::new(remote), tokenizer, retriever)
}

/// A vocabulary from a file of its own. SentencePiece's has no reflection tokens: they are added after it, as in the released models.
fn vocabulary(path: &Path) -> Result<(Tokenizer, ReflectionTokens)> {
    let name = path.display().to_string();
    let read = || std::fs::read(path).map_err(|e| Error::io(&name, e));
    let tokenizer = match path.extension().and_then(|extension| extension.to_str()) {
        Some("json") => Tokenizer::from_json(&name, &read()?)?,
        Some("model") => {
            let mut tokenizer = Tokenizer::from_sentencepiece(&name, &read()?)?;
            let reflection = ReflectionTokens::add(&mut tokenizer);
            return Ok((tokenizer, reflection));
        }
        _ => Tokenizer::from_metadata(&name, weights::open(path, None)?.metadata())?,
    };
    let reflection = ReflectionTokens::find(&tokenizer)?;
    Ok((tokenizer, reflection))
}

/// A vocabulary for training, with the reflection tokens: those that it lacks are added.
pub(super) fn training_vocabulary(path: &Path) -> Result<Tokenizer> {
    let name = path.display().to_string();
    if path.extension().is_none_or(|extension| extension != "json") {
        return Ok(vocabulary(path)?.0);
    }
    let mut tokenizer = Tokenizer::from_json(&name, &std::fs::read(path).map_err(|e| Error::io(&name, e))?)?;
    ReflectionTokens::add(&mut tokenizer);
    Ok(tokenizer)
}

/// A retriever alone.
pub(super) fn open_retriever(encoder: Option<&Path>, search: &SearchArgs) -> Result<Box<dyn Retriever>> {
    let place = Place::of(search)?;
    let encoder = located(encoder, "encoder.gguf", "encoder")?;
    retriever(&block_on(Gpu::open(Options::default()))?, &place, &encoder, search)
}

/// Where passages are.
#[derive(Debug)]
enum Place {
    /// A folder, or the address of one.
    Files(PathBuf),
    /// A collection on a Milvus server.
    Collection(Address),
}

impl Place {
    /// What is named, or the passages that come with the page; a folder must exist.
    fn of(search: &SearchArgs) -> Result<Self> {
        Ok(match search.collection()? {
            Some(address) => Self::Collection(address),
            None => Self::Files(located(search.index.as_deref(), INDEX, "index")?),
        })
    }
}

/// Loads the generator, and the retriever if it is needed. `tune`: steps are computed in the way that is quickest here, which is measured
/// once and kept; without it in the usual way, so that a run that is resumed elsewhere rounds as it did.
pub fn engine(args: &ModelArgs, with_retriever: bool, tune: bool) -> Result<Engine> {
    let model = located(args.model.as_deref(), MODEL, "model")?;
    // Found before the weights are read: a missing index should not cost a load.
    let (index, encoder) = if with_retriever {
        (Some(Place::of(&args.search)?), Some(located(args.encoder.as_deref(), "encoder.gguf", "encoder")?))
    } else {
        (None, None)
    };
    let weights = weights::open(&model, args.adapter.as_deref())?;
    let gpu = block_on(Gpu::open(Options::default()))?;
    let mut llama = llama(&gpu, weights.as_ref(), args.kv_tokens)?;
    // A software device is not measured: it would compile for longer than it can win (EXPERIMENTS.md).
    if tune && !gpu.facts().software {
        tuned(&mut llama)?;
    }
    let retriever = match (index, encoder) {
        (Some(index), Some(encoder)) => Some(retriever(&gpu, &index, &encoder, &args.search)?),
        _ => None,
    };
    Engine::from_metadata(weights.name(), weights.metadata(), Box::new(llama), retriever)
}

/// A critic and its vocabulary, which need not have the reflection tokens, and what tells it from others.
pub(super) fn critic(
    model: &Path,
    adapter: Option<&Path>,
    kv_tokens: Option<usize>,
) -> Result<(Llama, Tokenizer, String)> {
    let model = located(Some(model), "", "critic")?;
    let mut name = identify(&model)?;
    if let Some(adapter) = adapter {
        name += &format!(" with {}", identify(adapter)?);
    }
    let weights = weights::open(&model, adapter)?;
    let tokenizer = Tokenizer::from_metadata(weights.name(), weights.metadata())?;
    let gpu = block_on(Gpu::open(Options::default()))?;
    Ok((llama(&gpu, weights.as_ref(), kv_tokens)?, tokenizer, name))
}

/// A model alone, a generator or a critic, with its vocabulary.
pub(super) fn model(args: &ModelArgs) -> Result<(Llama, Tokenizer)> {
    let model = located(args.model.as_deref(), MODEL, "model")?;
    let (llama, tokenizer, _) = critic(&model, args.adapter.as_deref(), args.kv_tokens)?;
    Ok((llama, tokenizer))
}

/// A model in GPU memory.
fn llama(gpu: &Gpu, weights: &dyn Weights, kv_tokens: Option<usize>) -> Result<Llama> {
    let bar = ProgressBar::new(0).with_message(format!("loading {}", weights.name()));
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {bar:30} {bytes}/{total_bytes} {bytes_per_sec}") {
        bar.set_style(style);
    }
    let options = LlamaOptions { kv_tokens, ..LlamaOptions::default() };
    let llama = block_on(Llama::load(gpu, weights, options, &mut |progress| {
        bar.set_length(progress.total);
        bar.set_position(progress.bytes);
    }))?;
    bar.finish_and_clear();
    Ok(llama)
}

/// The passages' index with the encoder that made it, searched exactly on the GPU unless it is clustered or its graph is asked for.
fn retriever(gpu: &Gpu, place: &Place, encoder: &Path, search: &SearchArgs) -> Result<Box<dyn Retriever>> {
    block_on(async {
        let encoder = Box::new(open_encoder(gpu, encoder).await?);
        match place {
            Place::Collection(address) => milvus::open(address, encoder, search.milvus.settings()).await,
            Place::Files(index) => {
                let retriever = open(files::at(index), encoder, search.method(gpu)).await?;
                search::tell(&index.display().to_string(), retriever.as_ref());
                Ok(retriever)
            }
        }
    })
}

/// Chooses how steps are computed: as kept, or by measuring.
fn tuned(llama: &mut Llama) -> Result<()> {
    let (path, key) = (home().join(TUNINGS), llama.tuning_key());
    let mut tunings = Tunings::parse(&std::fs::read(&path).unwrap_or_default());
    match tunings.get(&key) {
        Some(plan) => block_on(llama.use_plan(plan))?,
        None => {
            tunings.insert(key, block_on(llama.tune())?.plan);
            // Where it can not be kept it is measured again.
            let _ = std::fs::write(&path, tunings.to_json());
        }
    }
    Ok(())
}

/// A path as given, or the default; it must exist.
pub(super) fn located(given: Option<&Path>, default: &str, option: &str) -> Result<PathBuf> {
    let path = given.map_or_else(|| home().join(default), Path::to_path_buf);
    if path.exists() || (option == "index" && path.to_str().is_some_and(files::is_url)) {
        return Ok(path);
    }
    let hint = if given.is_some() {
        String::new()
    } else {
        format!("; `cargo xtask demo` makes it, --{option} names another")
    };
    Err(Error::io(path.display().to_string(), format!("no such file{hint}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_that_was_trained_again_is_another() {
        let folder = std::env::temp_dir().join(format!("selfrag-load-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("critic.gguf");
        for length in [5, 3 << 20] {
            let mut bytes = vec![7; length];
            std::fs::write(&file, &bytes).unwrap();
            let (before, of_folder) = (identify(&file).unwrap(), identify(&folder).unwrap());
            assert_eq!(before, identify(&file).unwrap());
            assert!(before.starts_with(&describe(&file).unwrap()));
            *bytes.last_mut().unwrap() = 8;
            std::fs::write(&file, &bytes).unwrap();
            assert!(identify(&file).unwrap() != before && identify(&folder).unwrap() != of_folder);
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
