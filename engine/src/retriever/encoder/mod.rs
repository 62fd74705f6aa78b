//! BERT with mean pooling: Contriever, all-MiniLM and their kin, from GGUF or a Hugging Face folder.
//!
//! ```text
//! h = LN(word[token] + position[p] + type[0])
//! each layer: h = LN(h + Wo·attention(Wq·h, Wk·h, Wv·h)),  h = LN(h + Wdown·gelu(Wup·h))       with biases
//! embedding = mean over all tokens, `[CLS]` and `[SEP]` included; divided by its length where the model says so
//! ```
//!
//! Texts lie one after the other without padding, so a batch costs what its tokens cost; on cooperative matrices each begins at a
//! whole tile of 16 tokens. Texts are cut at
//! `selfrag.embedding.max_length` tokens (256 for MiniLM, as sentence-transformers does), else at the model's positions.

mod bert;
mod config;

pub use bert::Bert;
pub use config::EncoderConfig;

use super::{Embedder, manifest::EncoderInfo, text::TextOptions};
use crate::{
    Error, Result,
    gpu::Gpu,
    platform::LocalFuture,
    tokenizer::{EncodeOptions, Tokenizer},
    weights::{MetadataExt, Weights},
};

/// Most tokens of a launch: about 60 MB of activations at hidden size 384, and within the dispatch limits.
const BATCH_TOKENS: usize = 4096;

/// An encoder on the GPU.
pub struct Encoder {
    bert: Bert,
    tokenizer: Tokenizer,
    info: EncoderInfo,
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Encoder({:?}, {:?})", self.info.name, self.config())
    }
}

impl Encoder {
    /// Streams the weights to the GPU. `sha256` is the weight file's, for the manifests of stores; `progress` hears the bytes of
    /// each piece.
    pub async fn load(
        gpu: &Gpu,
        weights: &dyn Weights,
        tokenizer: Tokenizer,
        sha256: String,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Self> {
        let config = EncoderConfig::read(weights)?;
        if tokenizer.vocab_size() > config.vocabulary {
            let problem = format!("{} tokens, the embedding has {} rows", tokenizer.vocab_size(), config.vocabulary);
            return Err(Error::input(weights.name(), "tokenizer", problem));
        }
        let file = weights.name();
        let name = weights.metadata().get_text(file, "general.name")?.unwrap_or(file).to_string();
        let info = EncoderInfo {
            name,
            sha256,
            normalised: config.normalise,
            max_tokens: config.max_tokens,
            query_prefix: String::new(),
            passage_prefix: String::new(),
            text: TextOptions::default(),
        };
        Ok(Self { bert: Bert::load(gpu, weights, progress).await?, tokenizer, info })
    }

    /// The hyperparameters.
    pub fn config(&self) -> &EncoderConfig {
        self.bert.config()
    }

    /// A text's ids: `[CLS]` … `[SEP]`, cut in front of the `[SEP]`.
    pub fn tokens(&self, text: &str) -> Result<Vec<u32>> {
        let config = self.config();
        let mut tokens = self.tokenizer.encode(text, EncodeOptions::WHOLE)?;
        if tokens.len() > self.info.max_tokens {
            let last = tokens.last().copied();
            tokens.truncate(self.info.max_tokens - 1);
            tokens.extend(last);
        }
        match tokens.iter().find(|token| **token as usize >= config.vocabulary) {
            Some(token) => Err(Error::input(&self.info.name, "tokenizer", format!("token {token} has no embedding"))),
            None if tokens.is_empty() => Err(Error::input(&self.info.name, "tokenizer", "a text gave no token")),
            None => Ok(tokens),
        }
    }

    async fn embed_all(&mut self, texts: &[String]) -> Result<Vec<Vec<f32>>> {
        let tokens: Vec<Vec<u32>> = texts.iter().map(|text| self.tokens(text)).collect::<Result<_>>()?;
        self.bert.embed(&tokens).await
    }
}

impl Embedder for Encoder {
    fn dim(&self) -> usize {
        self.config().hidden
    }

    fn info(&self) -> EncoderInfo {
        self.info.clone()
    }

    fn limit_tokens(&mut self, most: usize) {
        self.info.max_tokens = most.clamp(2, self.config().max_tokens);
    }

    fn embed<'a>(&'a mut self, texts: &'a [String]) -> LocalFuture<'a, Result<Vec<Vec<f32>>>> {
        Box::pin(self.embed_all(texts))
    }
}
