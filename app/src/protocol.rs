//! What page and worker say to each other, as JSON strings; picked files travel beside the string, as the browser's own objects.
//!
//! The page asks with [`Request`]; the worker tells with [`Reply`], many to one request. Both start up on their own: the
//! worker says [`Reply::Hello`] when it listens, and the page keeps its requests until then.

use selfrag::{
    Error,
    bench::{Order, Progress, Report},
    error::GpuError,
    event::Event,
    self_rag::Settings,
    weights::fetch::FetchEvent,
};
use serde::{Deserialize, Serialize};

/// The manifest of the page's own passages, relative to the page.
pub(crate) const CORPUS: &str = "corpus/manifest.json";

/// Page → worker.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Find a GPU, and tell what browser storage holds.
    Inspect,
    /// Load the model that a `manifest.json` names; its address is relative to the page.
    LoadManifest { url: String },
    /// Load a GGUF file from the web; splits in order.
    LoadUrls { urls: Vec<String> },
    /// Load the GGUF files that come with this message, and copy them to browser storage if `keep`.
    LoadFiles { keep: bool },
    /// Load a model from browser storage.
    LoadKept { folder: String },
    /// Answer a question. `forced`: what is decided beforehand, a segment each (`LongConfig::forced`).
    Ask { question: String, settings: Settings, forced: Vec<Option<bool>> },
    /// Measure speed.
    Bench(Order),
    /// Stop what is under way: a download, an answer or a benchmark.
    Stop,
    /// Delete a model from browser storage, or what is kept of a corpus.
    Forget { folder: String, corpus: bool },
    /// Take passages from the store at this address, relative to the page, from now on.
    Corpus { url: String },
    /// Embed a document of the visitor's and keep it.
    AddDocument { name: String, text: String },
    /// Delete one, by its file in browser storage.
    RemoveDocument { file: String },
}

/// Worker → page.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// The worker listens.
    Hello,
    /// The GPU that will be used.
    Gpu(GpuFacts),
    /// What browser storage holds.
    Storage(StorageFacts),
    /// A download or copy goes on.
    Fetch(FetchEvent),
    /// Weights go to the GPU: (bytes there, of all).
    Uploading { bytes: u64, total: u64 },
    /// Something is being prepared; its name.
    Preparing(String),
    /// Questions can be asked.
    Ready(ModelFacts),
    /// A step of the answer.
    Engine(Event),
    /// The speed so far.
    Stats(Stats),
    /// The answer is complete.
    Done,
    /// A benchmark goes on or ends.
    Bench(BenchReply),
    /// The visitor's own documents.
    Documents(DocumentsReply),
    /// What was asked for failed.
    Failed(Failure),
    /// The GPU device was lost; the worker builds everything anew.
    Lost(String),
    /// Everything is there again after a loss.
    Recovered,
}

/// What is told of a benchmark.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum BenchReply {
    /// Something else is being measured, or more of the same.
    Progress(Progress),
    /// A weight format is measured.
    Report(Box<Report>),
    /// All are.
    Done,
    /// Stopped by the page.
    Stopped,
    /// It cannot go on.
    Failed(Failure),
}

/// What is told of own documents.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum DocumentsReply {
    /// All that there are now.
    Kept(Vec<KeptDocument>),
    /// Passages embedded of the one under way.
    Progress { done: usize, of: usize },
    /// The one under way is added; if not, why.
    Ended(Option<Failure>),
}

/// A document in browser storage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct KeptDocument {
    pub(crate) file: String,
    pub(crate) name: String,
    /// 0 while there is no model to open it with.
    pub(crate) passages: usize,
    /// Why it is not searched, or not kept.
    pub(crate) problem: Option<String>,
}

/// The adapter, in its own words.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct GpuFacts {
    pub(crate) name: String,
    /// Such as "subgroups 32".
    pub(crate) features: Vec<String>,
    /// Name and value.
    pub(crate) limits: Vec<(String, String)>,
    /// A software adapter: everything works, slowly.
    pub(crate) software: bool,
}

/// The loaded model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ModelFacts {
    pub(crate) name: String,
    /// Such as "30 layers", "vocabulary 49,168".
    pub(crate) details: Vec<String>,
    /// Passages that can be retrieved.
    pub(crate) n_passages: usize,
    /// The address of their manifest, relative to the page.
    pub(crate) corpus: String,
    /// Where the weights were read from.
    pub(crate) from: Origin,
}

/// Where weights come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Origin {
    /// Browser storage: works offline.
    Storage,
    /// The network, or a picked file that was not kept.
    Elsewhere,
}

/// A model in browser storage; or what is kept of a corpus, whose name says how many passages it has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct KeptModel {
    pub(crate) folder: String,
    pub(crate) name: String,
    pub(crate) bytes: u64,
    pub(crate) total_bytes: u64,
    pub(crate) complete: bool,
    /// The manifest or file it came from, to continue a download.
    pub(crate) source: String,
}

/// Browser storage.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct StorageFacts {
    pub(crate) models: Vec<KeptModel>,
    pub(crate) corpora: Vec<KeptModel>,
    pub(crate) usage: Option<u64>,
    pub(crate) quota: Option<u64>,
    /// Why there is none.
    pub(crate) refused: Option<String>,
}

/// How fast the answer is written.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Stats {
    /// Tokens written, all candidates together.
    pub(crate) n_tokens: usize,
    pub(crate) seconds: f64,
    pub(crate) tokens_per_second: f64,
    /// What the search took and how exact it is, where passages are read by ranges.
    pub(crate) searched: Option<String>,
}

/// What failed, for the page to explain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failure {
    pub(crate) kind: FailureKind,
    pub(crate) message: String,
}

/// Kinds of failure with a different advice each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FailureKind {
    NoWebGpu,
    NoAdapter,
    GpuTooSmall,
    GpuMemory,
    GpuLost,
    GpuWrong,
    Network,
    Input,
    Storage,
    Question,
    Stopped,
    Worker,
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        let kind = match error {
            Error::Input { .. } => FailureKind::Input,
            Error::Io { .. } => FailureKind::Storage,
            Error::Network { .. } => FailureKind::Network,
            Error::Gpu(gpu) => match gpu {
                GpuError::NoWebGpu => FailureKind::NoWebGpu,
                GpuError::NoAdapter(_) => FailureKind::NoAdapter,
                GpuError::Limit { .. } => FailureKind::GpuTooSmall,
                GpuError::OutOfMemory(_) => FailureKind::GpuMemory,
                GpuError::Lost(_) => FailureKind::GpuLost,
                _ => FailureKind::GpuWrong,
            },
            Error::ContextFull { .. } | Error::Config { .. } => FailureKind::Question,
            Error::Stopped => FailureKind::Stopped,
            _ => FailureKind::Worker,
        };
        Self { kind, message: error.to_string() }
    }
}
