//! The page's side of the worker: requests go out, replies become signals.

use std::collections::VecDeque;

use leptos::{prelude::*, task::spawn_local};
use selfrag::{
    platform::opfs,
    retriever::manifest::MANIFEST,
    self_rag::{Form, Settings},
    weights::fetch::{FetchEvent, Progress},
};
use web_sys::File;

use crate::{
    bench::{Bench, State},
    extract,
    link::Link,
    protocol::{
        CORPUS, DocumentsReply, Failure, FailureKind, GpuFacts, KeptDocument, ModelFacts, Reply, Request, StorageFacts,
    },
    route,
    run::{Asked, Phase, Run},
};

/// The demo's manifest, relative to the page.
const DEMO: &str = "models/manifest.json";

/// What is known about the GPU.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Gpu {
    /// Not asked yet.
    Unknown,
    /// Found.
    Found(GpuFacts),
    /// None that can be used.
    Absent(Failure),
    /// Gone; being replaced.
    Lost(String),
}

/// What is known about the model.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Model {
    /// None chosen.
    None,
    /// Asked for, nothing heard yet, or between two steps; what is being done.
    Preparing(String),
    /// Files are on their way.
    Fetching(Progress),
    /// Weights go to the GPU.
    Uploading { bytes: u64, total: u64 },
    /// Questions can be asked.
    Ready(ModelFacts),
}

impl Model {
    pub(crate) fn is_loading(&self) -> bool {
        matches!(self, Self::Preparing(_) | Self::Fetching(_) | Self::Uploading { .. })
    }
}

/// The visitor's own documents.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shelf {
    pub(crate) kept: Vec<KeptDocument>,
    /// The one that is being read or embedded.
    pub(crate) adding: Option<Adding>,
    /// Files after it.
    pub(crate) waiting: usize,
    /// Files so far.
    count: usize,
}

/// A document on its way.
#[derive(Debug, Clone)]
pub(crate) struct Adding {
    number: usize,
    pub(crate) name: String,
    /// Passages embedded.
    pub(crate) done: usize,
    /// Passages in all; 0 while its text is read.
    pub(crate) of: usize,
}

/// A message that stays until it is dismissed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Notice {
    pub(crate) id: usize,
    pub(crate) content: NoticeContent,
}

/// What a notice says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum NoticeContent {
    /// It goes on, but the user should know.
    Warning(String),
    /// It went well after a trouble.
    Good(String),
    /// It did not go on.
    Failure(Failure),
}

/// All state of the page.
#[derive(Clone, Copy)]
pub(crate) struct Client {
    pub(crate) gpu: RwSignal<Gpu>,
    pub(crate) model: RwSignal<Model>,
    pub(crate) storage: RwSignal<StorageFacts>,
    pub(crate) settings: RwSignal<Settings>,
    pub(crate) notices: RwSignal<Vec<Notice>>,
    pub(crate) run: Run,
    pub(crate) bench: Bench,
    pub(crate) shelf: RwSignal<Shelf>,
    /// The folder or manifest of the passages in use, or to be used; empty: the page's own.
    pub(crate) corpus: RwSignal<String>,
    /// Documents to be read; they and answers wait for each other.
    documents: StoredValue<VecDeque<File>, LocalStorage>,
    link: StoredValue<Option<Link>, LocalStorage>,
}

impl Client {
    pub(crate) fn new() -> Self {
        let query = route::query();
        let (settings, notices) = match Settings::default().with_query(&query) {
            Ok(settings) => (settings, Vec::new()),
            Err(error) => {
                let message = format!("The settings in this page's address are not used. {error}");
                (Settings::default(), vec![Notice { id: 0, content: NoticeContent::Warning(message) }])
            }
        };
        let settings = RwSignal::new(settings);
        Self {
            gpu: RwSignal::new(Gpu::Unknown),
            model: RwSignal::new(Model::None),
            storage: RwSignal::new(StorageFacts::default()),
            settings,
            notices: RwSignal::new(notices),
            run: Run::new(settings),
            bench: Bench::new(&query),
            shelf: RwSignal::new(Shelf::default()),
            corpus: RwSignal::new(route::corpus()),
            documents: StoredValue::new_local(VecDeque::new()),
            link: StoredValue::new_local(None),
        }
    }

    /// Starts the worker, unless there is nothing it could do.
    pub(crate) fn connect(self) {
        if let Some(failure) = crate::link::webgpu_missing() {
            self.gpu.set(Gpu::Absent(failure));
            return;
        }
        match Link::open(move |reply| self.receive(reply)) {
            Ok(link) => {
                self.link.set_value(Some(link));
                self.send(Request::Inspect, &[]);
                if self.corpus.with_untracked(|corpus| !corpus.is_empty()) {
                    self.send_corpus();
                }
            }
            Err(message) => self.fail(Failure { kind: FailureKind::Worker, message }),
        }
    }

    pub(crate) fn load_demo(self) {
        self.load(Request::LoadManifest { url: DEMO.into() }, &[]);
    }

    /// Continues or opens a kept model.
    pub(crate) fn load_kept(self, folder: String) {
        self.load(Request::LoadKept { folder }, &[]);
    }

    /// Addresses separated by white space, splits in order.
    pub(crate) fn load_urls(self, text: &str) {
        let urls: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        let request = match &urls[..] {
            [] => return,
            [url] if url.ends_with(".json") => Request::LoadManifest { url: url.clone() },
            _ => Request::LoadUrls { urls },
        };
        self.load(request, &[]);
    }

    pub(crate) fn load_files(self, mut files: Vec<File>, keep: bool) {
        if files.is_empty() {
            return;
        }
        // The names of splits (-00001-of-0000N) sort in order.
        files.sort_by_key(|file| file.name());
        self.load(Request::LoadFiles { keep }, &files);
    }

    pub(crate) fn forget(self, folder: String, corpus: bool) {
        self.send(Request::Forget { folder, corpus }, &[]);
    }

    /// Asks now, or as soon as a model is there: then the demo is loaded if nothing is.
    pub(crate) fn ask(self, question: &str) {
        self.ask_with(question.trim(), Vec::new());
    }

    /// Asks the same again, with what is set now and what the user decided in the model's place. Greedy decoding writes the same
    /// segments up to the first that is decided otherwise.
    pub(crate) fn ask_again(self) {
        self.ask_with(&self.run.question.get_untracked(), self.run.forced.get_untracked());
    }

    fn ask_with(self, question: &str, forced: Vec<Option<bool>>) {
        if question.is_empty() || self.run.phase.get_untracked() == Phase::Running {
            return;
        }
        // A short answer has one decision, which is the mode's or the model's.
        let is_long = self.settings.with_untracked(|settings| settings.form == Form::Long);
        let forced = if is_long { forced } else { Vec::new() };
        let model = self.model.get_untracked();
        let is_ready = matches!(model, Model::Ready(_));
        if is_ready && !self.is_adding() {
            self.ask_now(question, forced);
            return;
        }
        // A model or a document is on its way: then with it.
        self.wait(question, forced);
        if !is_ready && !model.is_loading() {
            self.load_demo();
        }
    }

    pub(crate) fn stop(self) {
        if !self.is_adding() {
            self.send(Request::Stop, &[]);
        }
        if self.run.phase.get_untracked() == Phase::Waiting {
            self.run.phase.set(Phase::Stopped);
        }
    }

    /// Whether the GPU has an answer or a model to work on.
    pub(crate) fn is_busy(self) -> bool {
        self.model.with(Model::is_loading) || self.run.is_active() || self.shelf.with(|shelf| shelf.adding.is_some())
    }

    /// Takes passages from another store, at the address of its folder or manifest; empty: the page's own.
    pub(crate) fn use_corpus(self, place: &str) {
        if self.is_adding() || self.run.is_active() {
            return;
        }
        self.show_corpus(&corpus_url(place.trim()));
        if matches!(self.model.get_untracked(), Model::Ready(_)) {
            self.model.set(Model::Preparing("Opening the passages".into()));
        }
        self.send_corpus();
    }

    fn send_corpus(self) {
        self.send(Request::Corpus { url: corpus_url(&self.corpus.get_untracked()) }, &[]);
    }

    /// Sets passages as the ones in use, in the address too.
    fn show_corpus(self, url: &str) {
        let place = corpus_place(url);
        route::remember_corpus(place);
        self.corpus.set(place.to_owned());
    }

    /// Reads, embeds and keeps files, one after another, as soon as there is a model.
    pub(crate) fn add_documents(self, files: Vec<File>) {
        self.documents.update_value(|waiting| waiting.extend(files));
        self.next_document();
    }

    /// Ends the document under way, and forgets those that wait.
    pub(crate) fn cancel_documents(self) {
        self.documents.update_value(VecDeque::clear);
        let is_embedding = self.shelf.with_untracked(|shelf| shelf.adding.as_ref().is_some_and(|adding| adding.of > 0));
        self.shelf.update(|shelf| shelf.waiting = 0);
        if is_embedding {
            // `Ended` comes back.
            self.send(Request::Stop, &[]);
        } else {
            extract::stop_reading();
            self.shelf.update(|shelf| shelf.adding = None);
            self.next_document();
        }
    }

    pub(crate) fn remove_document(self, file: String) {
        self.send(Request::RemoveDocument { file }, &[]);
    }

    fn is_adding(self) -> bool {
        self.shelf.with_untracked(|shelf| shelf.adding.is_some())
    }

    /// What waited goes on: the next document, else the question.
    fn next_document(self) {
        let is_ready = self.model.with_untracked(|model| matches!(model, Model::Ready(_)));
        let phase = self.run.phase.get_untracked();
        let is_free = is_ready && !self.is_adding() && phase != Phase::Running;
        let file = is_free.then(|| self.documents.try_update_value(VecDeque::pop_front)).flatten().flatten();
        let waiting = self.documents.with_value(VecDeque::len);
        self.shelf.update(|shelf| shelf.waiting = waiting);
        let Some(file) = file else {
            if is_free && phase == Phase::Waiting {
                self.ask_now(&self.run.question.get_untracked(), self.asked_with());
            }
            return;
        };
        let name = file.name();
        let number = self.shelf.with_untracked(|shelf| shelf.count) + 1;
        self.shelf.update(|shelf| {
            shelf.count = number;
            shelf.adding = Some(Adding { number, name: name.clone(), done: 0, of: 0 });
        });
        spawn_local(async move {
            let text = extract::text(&file).await;
            // Another one, or none: this one was cancelled.
            let is_wanted = |shelf: &Shelf| shelf.adding.as_ref().is_some_and(|adding| adding.number == number);
            if !self.shelf.with_untracked(is_wanted) {
                return;
            }
            match text {
                Ok(text) => {
                    // From now on the worker has it, and ends it.
                    self.shelf
                        .update(|shelf| shelf.adding = Some(Adding { number, name: name.clone(), done: 0, of: 1 }));
                    self.send(Request::AddDocument { name, text }, &[]);
                }
                Err(problem) => self.document_ended(Some(problem)),
            }
        });
    }

    fn document_ended(self, problem: Option<String>) {
        let name = self.shelf.with_untracked(|shelf| shelf.adding.as_ref().map(|adding| adding.name.clone()));
        self.shelf.update(|shelf| shelf.adding = None);
        if let (Some(problem), Some(name)) = (problem, name) {
            self.notify(NoticeContent::Warning(format!("{name} is not added: {problem}")));
        }
        self.next_document();
    }

    fn receive_documents(self, reply: DocumentsReply) {
        match reply {
            DocumentsReply::Kept(kept) => self.shelf.update(|shelf| shelf.kept = kept),
            DocumentsReply::Progress { done, of } => self.shelf.update(|shelf| {
                if let Some(adding) = &mut shelf.adding {
                    (adding.done, adding.of) = (done, of);
                }
            }),
            DocumentsReply::Ended(failure) => {
                let told = failure.filter(|failure| failure.kind != FailureKind::Stopped);
                self.document_ended(told.map(|failure| failure.message));
            }
        }
    }

    /// Starts the benchmark that is set.
    pub(crate) fn measure(self) {
        let order = self.bench.order.get_untracked();
        match order.specs() {
            Ok(_) => {
                self.bench.begin();
                self.send(Request::Bench(order), &[]);
            }
            Err(error) => self.bench.state.set(State::Failed(Failure::from(&error))),
        }
    }

    /// Ends the benchmark, if there is one.
    pub(crate) fn stop_measuring(self) {
        if self.bench.is_running() {
            self.send(Request::Stop, &[]);
        } else if self.bench.state.with_untracked(|state| *state == State::Waiting) {
            self.bench.state.set(State::Stopped);
        }
    }

    pub(crate) fn dismiss(self, id: usize) {
        self.notices.update(|all| all.retain(|notice| notice.id != id));
    }

    /// Keeps a question until it can be asked.
    fn wait(self, question: &str, forced: Vec<Option<bool>>) {
        let settings = self.settings.get_untracked();
        self.run.start(question, Phase::Waiting, Asked { settings, forced });
    }

    fn ask_now(self, question: &str, forced: Vec<Option<bool>>) {
        self.notices.update(|all| all.retain(|n| !matches!(n.content, NoticeContent::Failure(_))));
        let settings = self.settings.get_untracked();
        self.run.start(question, Phase::Running, Asked { settings, forced: forced.clone() });
        self.send(Request::Ask { question: question.to_owned(), settings, forced }, &[]);
    }

    /// What was decided beforehand for the question under way.
    fn asked_with(self) -> Vec<Option<bool>> {
        self.run.asked.with_untracked(|asked| asked.forced.clone())
    }

    fn load(self, request: Request, files: &[File]) {
        let is_running = self.run.phase.get_untracked() == Phase::Running;
        if self.model.with_untracked(Model::is_loading) || is_running || self.is_adding() {
            return;
        }
        self.notices.set(Vec::new());
        self.model.set(Model::Preparing("Starting".into()));
        // Only a window may ask for it, and a refusal changes nothing.
        spawn_local(async {
            opfs::persist().await;
        });
        self.send(request, files);
    }

    fn send(self, request: Request, files: &[File]) {
        self.link.with_value(|link| {
            if let Some(link) = link {
                link.send(&request, files);
            }
        });
    }

    /// Applies one reply of the worker.
    pub(crate) fn receive(self, reply: Reply) {
        match reply {
            // Only now: keeping the page must not slow its start.
            Reply::Hello => spawn_local(crate::offline::keep_page()),
            Reply::Gpu(facts) => self.gpu.set(Gpu::Found(facts)),
            Reply::Storage(facts) => self.storage.set(facts),
            Reply::Fetch(FetchEvent::Progress(progress)) => self.model.set(Model::Fetching(progress)),
            Reply::Fetch(FetchEvent::Warning(message) | FetchEvent::NotKept(message)) => {
                self.notify(NoticeContent::Warning(message))
            }
            Reply::Uploading { bytes, total } => self.model.set(Model::Uploading { bytes, total }),
            Reply::Preparing(what) => self.model.set(Model::Preparing(what)),
            Reply::Ready(facts) => {
                // Others than were asked for where these cannot be used.
                self.show_corpus(&facts.corpus);
                self.model.set(Model::Ready(facts));
                self.next_document();
            }
            Reply::Engine(event) => self.run.apply(event),
            Reply::Stats(stats) => self.run.stats.set(Some(stats)),
            Reply::Done => {
                self.run.phase.set(Phase::Done);
                self.next_document();
            }
            Reply::Bench(reply) => self.bench.receive(reply),
            Reply::Documents(reply) => self.receive_documents(reply),
            Reply::Failed(failure) => self.fail(failure),
            Reply::Lost(message) => {
                self.gpu.set(Gpu::Lost(message));
                self.model.set(Model::Preparing("The GPU was lost; starting again".into()));
                if self.run.phase.get_untracked() == Phase::Running {
                    // Asked again by `Ready`.
                    self.wait(&self.run.question.get_untracked(), self.asked_with());
                }
            }
            Reply::Recovered => self.notify(NoticeContent::Good("The GPU is back; the model was loaded again.".into())),
        }
    }

    fn fail(self, failure: Failure) {
        // Its own failures come with `BenchReply`; this is the worker's end.
        if failure.kind == FailureKind::Worker && self.bench.is_running() {
            self.bench.state.set(State::Failed(failure.clone()));
        }
        if failure.kind == FailureKind::Worker {
            self.shelf.update(|shelf| shelf.adding = None);
        }
        if self.run.phase.get_untracked() != Phase::Idle && self.run.phase.get_untracked() != Phase::Done {
            self.run.phase.set(Phase::Stopped);
        }
        if self.model.with_untracked(Model::is_loading) {
            self.model.set(Model::None);
        }
        match failure.kind {
            FailureKind::Stopped => {}
            FailureKind::NoWebGpu | FailureKind::NoAdapter => self.gpu.set(Gpu::Absent(failure)),
            _ => self.notify(NoticeContent::Failure(failure)),
        }
        self.next_document();
    }

    fn notify(self, content: NoticeContent) {
        self.notices.update(|all| {
            let id = all.last().map_or(0, |last| last.id + 1);
            // The same trouble twice is one trouble.
            if all.iter().all(|notice| notice.content != content) {
                all.push(Notice { id, content });
            }
        });
    }
}

/// The manifest's address of passages by what a user writes: nothing, a folder or the manifest.
fn corpus_url(place: &str) -> String {
    match place {
        "" => CORPUS.into(),
        place if place.ends_with(".json") => place.into(),
        place => format!("{}/{MANIFEST}", place.trim_end_matches('/')),
    }
}

/// What a user writes for them, in short.
pub(crate) fn corpus_place(url: &str) -> &str {
    match url.strip_suffix(MANIFEST) {
        _ if url == CORPUS => "",
        Some(folder) if !folder.is_empty() => folder,
        _ => url,
    }
}
