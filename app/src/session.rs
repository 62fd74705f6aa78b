//! A loaded model with its retriever: the only place of the app that builds parts of the engine.

use std::rc::Rc;

use selfrag::{
    Result,
    engine::Engine,
    event::Event,
    generator::llama::{Llama, LlamaOptions, LoadProgress, Loaded, Tunings},
    gpu::Gpu,
    platform::{ByteSource, Store as _, now_ms, opfs::Directory},
    retriever::{
        Corpus, Embedder,
        beside::{Beside, Own},
        clusters::{
            index::ClusterIndex,
            search::{Clusters, Limits},
        },
        encoder::Encoder,
        index::{Index, Method},
        manifest::EncoderInfo,
        open::clustered,
        store::Store,
    },
    self_rag::{Form, Question, Settings, Stop},
    tokenizer::Tokenizer,
    weights::{Gguf, Weights},
};

use crate::{
    corpus::CorpusFiles,
    post,
    protocol::{Reply, Stats},
    speed::{Counted, Tally},
};

/// How often the speed is told.
const STATS_MS: f64 = 250.0;

/// Everything that an answer needs, on the GPU.
pub(crate) struct Session {
    engine: Engine,
    tally: Tally,
    details: Vec<String>,
    n_passages: usize,
    own: Rc<Own>,
}

impl Session {
    /// Reads the weights' headers, moves the weights to the GPU, opens the passages at `corpus`.
    pub(crate) async fn open(
        gpu: &Gpu,
        generator: Vec<Box<dyn ByteSource>>,
        encoder: Vec<Box<dyn ByteSource>>,
        corpus: &str,
    ) -> Result<Self> {
        let weights = Gguf::open(generator).await?;
        let mut report = |LoadProgress { bytes, total }| post(&Reply::Uploading { bytes, total });
        let mut generator = Llama::load(gpu, &weights, LlamaOptions::default(), &mut report).await?;
        // A software device is not measured: it would compile for longer than it can win.
        if !gpu.facts().software {
            post(&Reply::Preparing("Measuring this GPU".into()));
            tune(&mut generator).await?;
        }
        let details = details(&generator, &weights);
        post(&Reply::Preparing("Opening the passages".into()));
        let (corpus, n_passages) = open_corpus(gpu, encoder, corpus).await?;
        let own = Rc::new(Own::default());
        let retriever = Box::new(Beside::new(corpus, own.clone()));
        let tally = Tally::default();
        let generator = Box::new(Counted { inner: generator, tally: tally.clone() });
        let engine = Engine::from_metadata(weights.name(), weights.metadata(), generator, Some(retriever))?;
        Ok(Self { engine, tally, details, n_passages, own })
    }

    /// The visitor's documents, as they are searched.
    pub(crate) fn own(&self) -> Rc<Own> {
        self.own.clone()
    }

    /// What reads questions, and documents.
    pub(crate) fn encoder(&mut self) -> (&mut dyn Embedder, EncoderInfo) {
        self.engine.retriever().and_then(|retriever| retriever.encoder()).expect("opened with one")
    }

    /// What the page shows of the model.
    pub(crate) fn details(&self) -> Vec<String> {
        self.details.clone()
    }

    /// Passages that can be retrieved.
    pub(crate) fn n_passages(&self) -> usize {
        self.n_passages
    }

    /// Answers, posting each event as it happens.
    pub(crate) async fn ask(
        &mut self,
        question: &str,
        settings: &Settings,
        forced: &[Option<bool>],
        stop: &Stop,
    ) -> Result<()> {
        let tally = self.tally.clone();
        tally.reset();
        self.own.scope.set(settings.scope);
        let mut told = now_ms();
        let mut on_event = |event: Event| {
            post(&Reply::Engine(event));
            if now_ms() - told > STATS_MS {
                told = now_ms();
                post(&Reply::Stats(tally.stats()));
            }
        };
        let questions = [Question::new(question)];
        let mut on_event = |_: usize, event: Event| on_event(event);
        match settings.form {
            Form::Short => {
                self.engine.ask_batch(&questions, &settings.short(), stop, &mut on_event).await?;
            }
            Form::Long => {
                self.engine.ask_long_batch(&questions, &settings.long(forced), stop, &mut on_event).await?;
            }
        }
        post(&Reply::Stats(Stats { searched: self.own.told.take(), ..self.tally.stats() }));
        Ok(())
    }
}

/// The passages and how many they are.
async fn open_corpus(gpu: &Gpu, encoder: Vec<Box<dyn ByteSource>>, url: &str) -> Result<(Box<dyn Corpus>, usize)> {
    let files = Box::new(CorpusFiles::open(url).await?);
    let weights = Gguf::open(encoder).await?;
    let tokenizer = Tokenizer::from_metadata(weights.name(), weights.metadata())?;
    // The hash is for building stores; whether this encoder made the vectors is checked by embedding a passage again.
    let encoder = Encoder::load(gpu, &weights, tokenizer, String::new(), &mut |_| {}).await?;
    if clustered(files.as_ref()).await? {
        let mut clusters = Clusters::open(files, Limits::default()).await?;
        clusters.centroids_on(gpu).await?;
        let n_passages = clusters.manifest().count as usize;
        return Ok((Box::new(ClusterIndex::open(clusters, Box::new(encoder)).await?), n_passages));
    }
    let store = Store::open(files).await?;
    let n_passages = store.manifest().count as usize;
    let index = Index::open(store, Box::new(encoder), Method::ExactGpu(gpu.clone()), &mut |_| {}).await?;
    Ok((Box::new(index), n_passages))
}

/// Chooses how steps are computed: as kept in browser storage, or by measuring, once for a device and model.
async fn tune(llama: &mut Llama) -> Result<()> {
    const FILE: &str = "tunings.json";
    let folder = Directory::root().await.ok();
    let kept = match &folder {
        Some(folder) => read_small(folder, FILE, 1 << 20).await.unwrap_or_default(),
        None => Vec::new(),
    };
    let (mut tunings, key) = (Tunings::parse(&kept), llama.tuning_key());
    if let Some(plan) = tunings.get(&key) {
        return llama.use_plan(plan).await;
    }
    tunings.insert(key, llama.tune().await?.plan);
    if let Some(folder) = &folder {
        // Where it can not be kept it is measured again.
        let _ = write_small(folder, FILE, tunings.to_json().as_bytes()).await;
    }
    Ok(())
}

/// A file's first `most` bytes.
pub(crate) async fn read_small(folder: &Directory, file: &str, most: u64) -> Result<Vec<u8>> {
    let size = folder.size(file).await?.unwrap_or(0).min(most);
    folder.open(file).await?.read(0, size as usize).await
}

/// A file anew.
pub(crate) async fn write_small(folder: &Directory, file: &str, bytes: &[u8]) -> Result<()> {
    folder.remove(file).await?;
    let mut file = folder.append(file).await?;
    file.append(bytes)?;
    file.flush()
}

fn details(generator: &Llama, weights: &Gguf) -> Vec<String> {
    let config = generator.config();
    let n_weights: usize = weights.tensors().iter().map(|tensor| tensor.shape.iter().product::<usize>()).sum();
    let millions = match n_weights as f64 / 1e6 {
        m if m < 1000.0 => format!("{m:.0} million weights"),
        m => format!("{:.1} billion weights", m / 1e3),
    };
    // The format of the layers' matrices; embeddings and norms often differ.
    let stored = weights.tensor("blk.0.ffn_down.weight").map(|tensor| tensor.dtype.name().to_string());
    let sizes = [millions, format!("{} layers", config.layers), format!("vocabulary {}", config.vocabulary)];
    let Loaded { file_bytes, secs, .. } = generator.loaded();
    let speed = format!("{:.0} MB/s to the GPU", file_bytes as f64 / 1e6 / secs.max(1e-3));
    sizes.into_iter().chain(stored).chain([speed]).collect()
}
