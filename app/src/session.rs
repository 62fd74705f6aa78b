//! A loaded model with its retriever: the only place of the app that builds parts of the engine.

use std::{cell::RefCell, rc::Rc};

use selfrag::{
    Error, Result,
    engine::Engine,
    event::Event,
    generator::llama::{Llama, LlamaOptions, LoadProgress, Loaded, Tunings},
    gpu::Gpu,
    platform::{ByteSource, LocalFuture, now_ms, opfs::Directory, read_small, write_small},
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
        store::Store,
    },
    self_rag::{Form, Question, Settings, Stop},
    tokenizer::Tokenizer,
    weights::{Gguf, Weights, fetch::FetchEvent},
};

use crate::{
    corpus::CorpusFiles,
    post,
    protocol::{CORPUS, ModelFacts, Origin, Reply, Stats},
    speed::{Counted, Tally},
};

/// How often the speed is told.
const STATS_MS: f64 = 250.0;

/// Everything that an answer needs, on the GPU.
pub(crate) struct Session {
    gpu: Gpu,
    engine: Engine,
    encoder: Shared,
    tally: Tally,
    facts: ModelFacts,
    own: Rc<Own>,
}

/// The encoder of the passages that there are, and of others that may be opened beside them.
#[derive(Clone)]
struct Shared(Rc<RefCell<Encoder>>);

impl Embedder for Shared {
    fn dim(&self) -> usize {
        self.0.borrow().dim()
    }

    fn info(&self) -> EncoderInfo {
        self.0.borrow().info()
    }

    fn limit_tokens(&mut self, most: usize) {
        self.0.borrow_mut().limit_tokens(most);
    }

    #[expect(clippy::await_holding_refcell_ref, reason = "the worker does one thing after another")]
    fn embed<'a>(&'a mut self, texts: &'a [String]) -> LocalFuture<'a, Result<Vec<Vec<f32>>>> {
        Box::pin(async move { self.0.borrow_mut().embed(texts).await })
    }
}

impl Session {
    /// Reads the weights' headers, moves the weights to the GPU, opens the passages at `corpus`; the page's own where these fail, which is
    /// told.
    pub(crate) async fn open(
        gpu: &Gpu,
        (name, from): (String, Origin),
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
        let encoder = open_encoder(gpu, encoder).await?;
        let tally = Tally::default();
        let generator = Box::new(Counted { inner: generator, tally: tally.clone() });
        let engine = Engine::from_metadata(weights.name(), weights.metadata(), generator, None)?;
        let facts = ModelFacts { name, details, n_passages: 0, corpus: String::new(), from };
        let mut session = Self { gpu: gpu.clone(), engine, encoder, tally, facts, own: Rc::default() };
        let mut corpus = corpus;
        while let Err(error) = session.use_corpus(corpus).await {
            if corpus == CORPUS {
                return Err(error);
            }
            not_used(&error);
            corpus = CORPUS;
        }
        Ok(session)
    }

    /// Other passages, without documents beside them yet. Those before stay where these fail.
    pub(crate) async fn use_corpus(&mut self, url: &str) -> Result<()> {
        let (corpus, n_passages) = open_corpus(&self.gpu, self.encoder.clone(), url).await?;
        self.own = Rc::default();
        self.engine.set_retriever(Some(Box::new(Beside::new(corpus, self.own.clone()))));
        (self.facts.n_passages, self.facts.corpus) = (n_passages, url.to_owned());
        Ok(())
    }

    /// The visitor's documents, as they are searched.
    pub(crate) fn own(&self) -> Rc<Own> {
        self.own.clone()
    }

    /// What reads questions, and documents.
    pub(crate) fn encoder(&mut self) -> (&mut dyn Embedder, EncoderInfo) {
        self.engine.retriever().and_then(|retriever| retriever.encoder()).expect("opened with one")
    }

    /// What the page shows of it.
    pub(crate) fn facts(&self) -> &ModelFacts {
        &self.facts
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
        self.own.told.take();
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

/// Tells that other passages stay.
pub(crate) fn not_used(error: &Error) {
    let message = format!("These passages cannot be used, and others stay in their place. {error}");
    post(&Reply::Fetch(FetchEvent::Warning(message)));
}

async fn open_encoder(gpu: &Gpu, files: Vec<Box<dyn ByteSource>>) -> Result<Shared> {
    let weights = Gguf::open(files).await?;
    let tokenizer = Tokenizer::from_metadata(weights.name(), weights.metadata())?;
    // The hash is for building stores; whether this encoder made the vectors is checked by embedding a passage again.
    let encoder = Encoder::load(gpu, &weights, tokenizer, String::new(), &mut |_| {}).await?;
    Ok(Shared(Rc::new(RefCell::new(encoder))))
}

/// The passages and how many they are.
async fn open_corpus(gpu: &Gpu, encoder: Shared, url: &str) -> Result<(Box<dyn Corpus>, usize)> {
    let files = CorpusFiles::open(url).await?;
    let (remember, encoder) = (files.remember(), Box::new(encoder));
    let (corpus, count): (Box<dyn Corpus>, u64) = match files.is_clustered() {
        true => {
            let mut clusters = Clusters::open(Box::new(files), Limits::default()).await?;
            clusters.centroids_on(gpu).await?;
            let count = clusters.manifest().count;
            (Box::new(ClusterIndex::open(clusters, encoder).await?), count)
        }
        false => {
            let store = Store::open(Box::new(files)).await?;
            let count = store.manifest().count;
            (Box::new(Index::open(store, encoder, Method::ExactGpu(gpu.clone()), &mut |_| {}).await?), count)
        }
    };
    remember.write(count).await;
    Ok((corpus, count as usize))
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
