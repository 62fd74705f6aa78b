//! A loaded model with its retriever: the only place of the app that builds parts of the engine.

use selfrag::{Error, Result, gpu::Gpu, platform::ByteSource};

use crate::protocol::Settings;

/// Everything that an answer needs, on the GPU.
pub(crate) struct Session {}

impl Session {
    /// Reads the weights' headers, moves the weights to the GPU, opens the passages.
    pub(crate) async fn open(
        _gpu: &Gpu,
        _generator: Vec<Box<dyn ByteSource>>,
        _encoder: Vec<Box<dyn ByteSource>>,
    ) -> Result<Self> {
        Err(Error::config("engine", "this build has no generator yet"))
    }

    /// What the page shows of the model.
    pub(crate) fn details(&self) -> Vec<String> {
        Vec::new()
    }

    /// Passages that can be retrieved.
    pub(crate) fn n_passages(&self) -> usize {
        0
    }

    /// Answers, posting each event as it happens.
    pub(crate) async fn ask(
        &mut self,
        _question: &str,
        _settings: &Settings,
        _stopped: &dyn Fn() -> bool,
    ) -> Result<()> {
        Err(Error::config("engine", "this build has no generator yet"))
    }
}
