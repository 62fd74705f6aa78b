//! A loaded model with its retriever: the only place of the app that builds parts of the engine.

use selfrag::{
    Error, Result,
    generator::llama::{Llama, LlamaOptions, LoadProgress},
    gpu::Gpu,
    platform::ByteSource,
    weights::{Gguf, Weights},
};

use crate::{
    post,
    protocol::{Reply, Settings},
};

/// Everything that an answer needs, on the GPU.
pub(crate) struct Session {
    generator: Llama,
    details: Vec<String>,
}

impl Session {
    /// Reads the weights' headers, moves the weights to the GPU, opens the passages.
    pub(crate) async fn open(
        gpu: &Gpu,
        generator: Vec<Box<dyn ByteSource>>,
        _encoder: Vec<Box<dyn ByteSource>>,
    ) -> Result<Self> {
        let weights = Gguf::open(generator).await?;
        let mut report = |LoadProgress { bytes, total }| post(&Reply::Uploading { bytes, total });
        let generator = Llama::load(gpu, &weights, LlamaOptions::default(), &mut report).await?;
        let details = details(&generator, &weights);
        Ok(Self { generator, details })
    }

    /// What the page shows of the model.
    pub(crate) fn details(&self) -> Vec<String> {
        self.details.clone()
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

fn details(generator: &Llama, weights: &Gguf) -> Vec<String> {
    let config = generator.config();
    let n_weights: usize = weights.tensors().iter().map(|tensor| tensor.shape.iter().product::<usize>()).sum();
    let millions = match n_weights as f64 / 1e6 {
        m if m < 1000.0 => format!("{m:.0} million weights"),
        m => format!("{:.1} billion weights", m / 1e3),
    };
    // The format of the layers' matrices; embeddings and norms often differ.
    let format = weights.tensor("blk.0.ffn_down.weight").map(|tensor| tensor.dtype.name().to_string());
    let sizes = [millions, format!("{} layers", config.layers), format!("vocabulary {}", config.vocabulary)];
    sizes.into_iter().chain(format).collect()
}
