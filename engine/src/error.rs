//! The one error type: what went wrong, where, and what was expected.

/// Every fallible function of the engine returns this.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong because of the outside world. Our own mistakes are assertions, not variants.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file, download or message that is not what its format says.
    #[error("{file}: {place}: {problem}")]
    Input {
        /// File name or URL.
        file: String,
        /// Where in the file: a byte offset, line, tensor or field.
        place: String,
        /// What was found and what was expected.
        problem: String,
    },
    /// The operating system or the browser's file store refused.
    #[error("{path}: {problem}")]
    Io {
        /// The file or directory.
        path: String,
        /// The system's own message.
        problem: String,
    },
    /// A request failed or the answer was not usable.
    #[error("{url}: {problem}")]
    Network {
        /// The address asked.
        url: String,
        /// Status or cause.
        problem: String,
    },
    /// A host that answers a range request with the whole file.
    #[error("{url}: the server ignored the range request (status {status}, 206 expected)")]
    NoRanges {
        /// The address asked.
        url: String,
        /// The answer's status.
        status: u16,
    },
    /// The GPU is missing, too small, wrong or lost.
    #[error(transparent)]
    Gpu(#[from] GpuError),
    /// A sequence does not fit the model's context or the KV cache.
    #[error("context full: {needed} tokens needed, {available} available")]
    ContextFull {
        /// Tokens asked for.
        needed: usize,
        /// Tokens that fit.
        available: usize,
    },
    /// A search graph that finds too little to be shipped.
    #[error(
        "the graph's recall@10 is {found:.3}, {needed} needed: these vectors are not fit for HNSW, use exact search"
    )]
    Recall {
        /// Recall against exact search on a sample.
        found: f32,
        /// Least recall accepted.
        needed: f32,
    },
    /// A setting that makes no sense.
    #[error("setting {name}: {problem}")]
    Config {
        /// The setting's name as the user writes it.
        name: String,
        /// What was expected.
        problem: String,
    },
    /// The caller asked to stop.
    #[error("stopped")]
    Stopped,
}

/// What can be wrong with a GPU.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum GpuError {
    /// The browser has no `navigator.gpu`.
    #[error("this browser has no WebGPU")]
    NoWebGpu,
    /// No adapter answered, retries included.
    #[error("no GPU adapter found: {0}")]
    NoAdapter(String),
    /// The adapter's limit is under what the model needs.
    #[error("the GPU's {limit} is {available}, {needed} needed for {what}")]
    Limit {
        /// WebGPU's name of the limit.
        limit: &'static str,
        /// What needs it.
        what: String,
        /// Needed value.
        needed: u64,
        /// The adapter's value.
        available: u64,
    },
    /// Not enough GPU memory.
    #[error("out of GPU memory: {0}")]
    OutOfMemory(String),
    /// The device is gone; a new one must be made and the weights loaded again.
    #[error("the GPU device was lost: {0}")]
    Lost(String),
    /// The driver or browser refused a shader or a call.
    #[error("the GPU refused: {0}")]
    Refused(String),
    /// A kernel gave a wrong result in the start-up self-test.
    #[error("this GPU computes {kernel} wrongly: {detail}")]
    SelfTest {
        /// The shader's name.
        kernel: String,
        /// Index, found and expected.
        detail: String,
    },
}

impl Error {
    /// Malformed input: `file` at `place`, with what was found and expected.
    pub fn input(file: impl Into<String>, place: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Input { file: file.into(), place: place.into(), problem: problem.into() }
    }

    /// An operating-system error about `path`.
    pub fn io(path: impl Into<String>, source: impl std::fmt::Display) -> Self {
        Self::Io { path: path.into(), problem: source.to_string() }
    }

    /// A setting out of range.
    pub fn config(name: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Config { name: name.into(), problem: problem.into() }
    }
}
