//! Serves the page's requests: load → ready → ask, and everything that may go wrong between.

use std::{rc::Rc, time::Duration};

use futures_channel::mpsc::UnboundedReceiver;
use futures_util::{
    StreamExt,
    future::{AbortHandle, Abortable, Either, select},
};
use selfrag::{
    Error, Result,
    bench::Order,
    error::GpuError,
    gpu::{Gpu, Options},
    platform::{BlobSource, ByteSource, HttpTransport, Store, Transport, get_small, sleep},
    self_rag::{self, Settings},
    weights::{
        fetch::{FetchEvent, LocalFiles, Patience, RemoteModel, fetch_model},
        kept::OpenFiles,
        manifest::{MAX_MANIFEST_BYTES, Manifest, Role, harmless_name},
    },
};
use web_sys::File;

use crate::{
    Job, Stop, adapter,
    library::Library,
    measure::measure,
    post,
    protocol::{BenchReply, CORPUS, DocumentsReply, Failure, GpuFacts, Origin, Reply, Request},
    session::{Session, not_used},
    shelf::{self, Shelf},
};

/// The demo's manifest, beside the page: it also names the encoder that other models retrieve with.
const DEMO: &str = "models/manifest.json";
/// How often a resting device is checked for loss.
const CHECK: Duration = Duration::from_secs(1);
/// Attempts to get a lost device back.
const REVIVALS: u32 = 3;

/// Takes requests until the worker ends.
pub(crate) async fn serve(mut queue: UnboundedReceiver<Job>, stop: Stop) {
    let (library, shelf) = (Library::open().await, Shelf::open().await);
    let mut host = Host { library, shelf, stop, gpu: None, session: None, source: None, corpus: CORPUS.into() };
    loop {
        match select(queue.next(), Box::pin(sleep(CHECK))).await {
            Either::Left((Some((request, files)), _)) => host.serve(request, files).await,
            Either::Left((None, _)) => return,
            Either::Right(_) => host.check_device().await,
        }
    }
}

/// Where a model comes from.
#[derive(Clone)]
enum Source {
    Manifest(String),
    Urls(Vec<String>),
    Files { files: Vec<File>, keep: bool },
    Kept(String),
}

/// A model's files with what the page shows of them.
struct Found {
    name: String,
    files: OpenFiles,
    origin: Origin,
}

struct Host {
    library: Library,
    shelf: Shelf,
    stop: Stop,
    gpu: Option<Gpu>,
    session: Option<Session>,
    /// What is loaded, to be loaded again when the device is lost.
    source: Option<Source>,
    /// The address of the passages' manifest.
    corpus: String,
}

impl Host {
    async fn serve(&mut self, request: Request, files: Vec<File>) {
        // A stop that came too late for the last answer must not end this one.
        *self.stop.answer.borrow_mut() = self_rag::Stop::default();
        let result = match request {
            Request::Inspect => self.inspect().await,
            Request::LoadManifest { url } => self.load(Source::Manifest(url)).await,
            Request::LoadUrls { urls } => self.load(Source::Urls(urls)).await,
            Request::LoadFiles { keep } => self.load(Source::Files { files, keep }).await,
            Request::LoadKept { folder } => self.load(Source::Kept(folder)).await,
            Request::Ask { question, settings, forced } => self.ask(&question, &settings, &forced).await,
            Request::Bench(order) => {
                self.bench(&order).await;
                Ok(())
            }
            Request::Forget { folder, corpus } => self.forget(&folder, corpus).await,
            Request::Corpus { url } => self.use_corpus(url).await,
            Request::AddDocument { name, text } => {
                self.add_document(&name, &text).await;
                Ok(())
            }
            Request::RemoveDocument { file } => {
                let own = self.session.as_ref().map(Session::own);
                self.shelf.remove(&file, own.as_deref()).await
            }
            // Handled on arrival.
            Request::Stop => Ok(()),
        };
        if let Err(error) = result {
            post(&Reply::Failed(Failure::from(&error)));
        }
    }

    async fn inspect(&mut self) -> Result<()> {
        post(&Reply::Storage(self.library.facts().await));
        self.shelf.tell();
        self.gpu().await.map(drop)
    }

    /// Other passages: those that a loaded model has stay until these are open.
    async fn use_corpus(&mut self, url: String) -> Result<()> {
        let Some(session) = &mut self.session else {
            self.corpus = url;
            return Ok(());
        };
        let (handle, registration) = AbortHandle::new_pair();
        *self.stop.load.borrow_mut() = Some(handle);
        let used = Abortable::new(session.use_corpus(&url), registration).await.unwrap_or(Err(Error::Stopped));
        self.stop.load.take();
        match &used {
            Ok(()) => self.fill().await,
            Err(Error::Stopped) => {}
            Err(error) => not_used(error),
        }
        self.ready().await;
        Ok(())
    }

    /// Opens the visitor's documents beside the passages.
    async fn fill(&mut self) {
        let Some(session) = &mut self.session else { return };
        let own = session.own();
        let (embedder, encoder) = session.encoder();
        let dim = embedder.dim();
        self.shelf.fill(&own, &encoder, dim).await;
        self.shelf.tell();
    }

    /// Tells what is loaded.
    async fn ready(&mut self) {
        post(&Reply::Storage(self.library.facts().await));
        if let Some(session) = &self.session {
            self.corpus = session.facts().corpus.clone();
            post(&Reply::Ready(session.facts().clone()));
        }
    }

    async fn add_document(&mut self, name: &str, text: &str) {
        let mut added = self.embed_and_keep(name, text).await;
        if let Err(Error::Gpu(GpuError::Lost(message))) = added {
            // Those that wait behind it need the device too.
            added = match self.revive(message).await {
                Ok(()) => self.embed_and_keep(name, text).await,
                Err(error) => {
                    // The page waits for a model since `Lost`.
                    post(&Reply::Failed(Failure::from(&error)));
                    Err(error)
                }
            };
        }
        post(&Reply::Documents(DocumentsReply::Ended(added.err().as_ref().map(Failure::from))));
    }

    async fn embed_and_keep(&mut self, name: &str, text: &str) -> Result<()> {
        let Some(session) = &mut self.session else {
            return Err(Error::config("model", "load one before adding documents"));
        };
        let (handle, registration) = AbortHandle::new_pair();
        *self.stop.load.borrow_mut() = Some(handle);
        let own = session.own();
        let embedded = Abortable::new(shelf::embed((name, text), &own, session.encoder()), registration).await;
        self.stop.load.take();
        // Keeping it is not cut short any more: half a file would be all that is left.
        let (document, encoder) = embedded.unwrap_or(Err(Error::Stopped))?;
        self.shelf.add(document, &own, &encoder).await;
        Ok(())
    }

    async fn forget(&mut self, folder: &str, corpus: bool) -> Result<()> {
        let result = self.library.forget(folder, corpus).await;
        post(&Reply::Storage(self.library.facts().await));
        result
    }

    /// The device, opened when there is none.
    async fn gpu(&mut self) -> Result<Gpu> {
        if let Some(gpu) = self.gpu.as_ref().filter(|gpu| gpu.check().is_ok()) {
            return Ok(gpu.clone());
        }
        let gpu = Gpu::open(Options::default()).await?;
        post(&Reply::Gpu(gpu_facts(&gpu).await));
        self.gpu = Some(gpu.clone());
        Ok(gpu)
    }

    /// Loads a model; a stop ends it at its next await.
    async fn load(&mut self, source: Source) -> Result<()> {
        // Before anything is fetched: a page without a usable GPU needs no download.
        let gpu = self.gpu().await?;
        // The old model's memory is needed for the new one.
        self.session = None;
        self.source = None;
        let (handle, registration) = AbortHandle::new_pair();
        *self.stop.load.borrow_mut() = Some(handle);
        let loaded = Abortable::new(self.open(&gpu, &source), registration).await;
        self.stop.load.take();
        let loaded = loaded.unwrap_or(Err(Error::Stopped)).map(|session| self.session = Some(session));
        if loaded.is_ok() {
            self.source = Some(source);
            self.fill().await;
        }
        self.ready().await;
        loaded
    }

    async fn open(&self, gpu: &Gpu, source: &Source) -> Result<Session> {
        let Found { name, files, origin } = self.find(source).await?;
        let mut generator = Vec::new();
        let mut encoder = Vec::new();
        let extra = match files.iter().any(|(role, _)| *role == Role::Encoder) {
            true => OpenFiles::new(),
            // The demo's encoder belongs to the passages, whatever the generator.
            false => self.manifest(DEMO, Role::Encoder).await?.files,
        };
        for (role, file) in files.into_iter().chain(extra) {
            match role {
                Role::Generator => generator.push(file),
                Role::Encoder => encoder.push(file),
            }
        }
        Session::open(gpu, (name, origin), generator, encoder, &self.corpus).await
    }

    async fn find(&self, source: &Source) -> Result<Found> {
        match source {
            Source::Manifest(url) => self.manifest(url, Role::Generator).await,
            Source::Urls(urls) => {
                let model = RemoteModel::from_urls(&HttpTransport, urls).await?;
                self.fetch(&model, &HttpTransport, true).await
            }
            Source::Files { files, keep } => self.picked(files, *keep).await,
            Source::Kept(folder) => match self.library.kept(folder).await {
                Some((kept, Some(files))) => Ok(Found { name: kept.name, files, origin: Origin::Storage }),
                // A download that broke off is continued from where it came.
                Some((kept, None)) if kept.source.ends_with(".json") => {
                    self.manifest(&kept.source, Role::Generator).await
                }
                Some((kept, None)) if kept.source.starts_with("http") => {
                    let urls: Vec<String> = kept.source.split(' ').map(str::to_owned).collect();
                    let model = RemoteModel::from_urls(&HttpTransport, &urls).await?;
                    self.fetch(&model, &HttpTransport, true).await
                }
                _ => Err(Error::io(folder, "incomplete, and where it came from is not known: pick or fetch it again")),
            },
        }
    }

    /// A manifest's files of one role; from storage alone when the manifest cannot be had.
    async fn manifest(&self, url: &str, role: Role) -> Result<Found> {
        let json = match get_small(url, MAX_MANIFEST_BYTES).await {
            Ok(json) => json,
            Err(error) => {
                let folder = harmless_name(&RemoteModel::manifest_source(url, role));
                return match self.library.kept(&folder).await {
                    Some((kept, Some(files))) => Ok(Found { name: kept.name, files, origin: Origin::Storage }),
                    _ => Err(error),
                };
            }
        };
        let model = RemoteModel::from_manifest(url, &Manifest::parse(url, &json)?, role);
        if model.files.is_empty() {
            return Err(Error::input(url, "files", format!("none has the role {role:?}")));
        }
        self.fetch(&model, &HttpTransport, true).await
    }

    async fn picked(&self, files: &[File], keep: bool) -> Result<Found> {
        let mut identity = String::new();
        let mut sources: Vec<Rc<dyn ByteSource>> = Vec::new();
        for file in files {
            identity += &format!("{} {} {} ", file.name(), file.size(), file.last_modified());
            sources.push(Rc::new(BlobSource::new(file.name(), file.clone().into())));
        }
        let local = LocalFiles::new(identity, sources);
        self.fetch(&local.model()?, &local, keep).await
    }

    async fn fetch(&self, model: &RemoteModel, transport: &dyn Transport, keep: bool) -> Result<Found> {
        if !keep {
            let mut files = OpenFiles::new();
            for file in &model.files {
                files.push((file.role, transport.source(&file.url, Some(file.bytes)).await?));
            }
            return Ok(Found { name: model.name.clone(), files, origin: Origin::Elsewhere });
        }
        let folder = self.library.folder(&model.source).await;
        let store = folder.as_ref().map(|folder| folder as &dyn Store);
        let mut stored = store.is_some();
        let mut report = |event| {
            stored &= !matches!(event, FetchEvent::NotKept(_));
            post(&Reply::Fetch(event));
        };
        let files = fetch_model(model, transport, store, &Patience::default(), &mut report).await?;
        let origin = if stored { Origin::Storage } else { Origin::Elsewhere };
        Ok(Found { name: model.name.clone(), files, origin })
    }

    /// Measures; a stop ends it at its next await.
    async fn bench(&self, order: &Order) {
        let (handle, registration) = AbortHandle::new_pair();
        *self.stop.load.borrow_mut() = Some(handle);
        let measured = Abortable::new(measure(order), registration).await;
        self.stop.load.take();
        post(&Reply::Bench(match measured {
            Ok(Ok(())) => BenchReply::Done,
            Ok(Err(error)) => BenchReply::Failed(Failure::from(&error)),
            Err(_) => BenchReply::Stopped,
        }));
    }

    async fn ask(&mut self, question: &str, settings: &Settings, forced: &[Option<bool>]) -> Result<()> {
        let Some(session) = &mut self.session else {
            return Err(Error::config("model", "load one before asking"));
        };
        let stop = self.stop.answer.borrow().clone();
        match session.ask(question, settings, forced, &stop).await {
            Ok(()) => {
                post(&Reply::Done);
                Ok(())
            }
            // Told by `Lost`; the page asks again when everything is back.
            Err(Error::Gpu(GpuError::Lost(message))) => self.revive(message).await,
            Err(error) => Err(error),
        }
    }

    /// Notices a device that was lost while nothing happened.
    async fn check_device(&mut self) {
        let Some(Err(Error::Gpu(GpuError::Lost(message)))) = self.gpu.as_ref().map(Gpu::check) else { return };
        if let Err(error) = self.revive(message).await {
            post(&Reply::Failed(Failure::from(&error)));
        }
    }

    /// Opens a new device and loads the model again.
    async fn revive(&mut self, message: String) -> Result<()> {
        post(&Reply::Lost(message.clone()));
        (self.gpu, self.session) = (None, None);
        let source = self.source.take();
        let mut error = Error::Gpu(GpuError::Lost(message));
        for attempt in 0..REVIVALS {
            sleep(Duration::from_millis(500 * u64::from(attempt))).await;
            let result = match &source {
                Some(source) => self.load(source.clone()).await,
                None => self.gpu().await.map(drop),
            };
            match result {
                Ok(()) => {
                    post(&Reply::Recovered);
                    return Ok(());
                }
                Err(Error::Stopped) => return Err(Error::Stopped),
                Err(e) => error = e,
            }
        }
        Err(error)
    }
}

async fn gpu_facts(gpu: &Gpu) -> GpuFacts {
    let facts = gpu.facts();
    let name = match facts.name.as_str() {
        "" => adapter::name().await.unwrap_or_else(|| "GPU".into()),
        name => name.to_owned(),
    };
    let with = |has: bool, name: &str| if has { name.to_owned() } else { format!("no {name}") };
    let gigabytes = |bytes: u64| format!("{:.2} GB", bytes as f64 / 1e9);
    GpuFacts {
        name,
        software: facts.software,
        features: vec![facts.backend.clone(), with(facts.subgroups, "subgroups"), with(facts.f16, "shader-f16")],
        limits: vec![
            ("Largest binding".into(), gigabytes(facts.max_binding_bytes)),
            ("Largest buffer".into(), gigabytes(facts.max_buffer_bytes)),
        ],
    }
}
