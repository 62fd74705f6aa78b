//! BERT with mean pooling: Contriever, all-MiniLM and their kin, from GGUF or a Hugging Face folder.
//!
//! ```text
//! h = LN(word[token] + position[p] + type[0])
//! each layer: h = LN(h + Wo·attention(Wq·h, Wk·h, Wv·h)),  h = LN(h + Wdown·gelu(Wup·h))       with biases
//! embedding = mean over all tokens, `[CLS]` and `[SEP]` included; divided by its length where the model says so
//! ```
//!
//! Texts lie one after the other without padding, so a batch costs what its tokens cost. Texts are cut at
//! `selfrag.embedding.max_length` tokens (256 for MiniLM, as sentence-transformers does), else at the model's positions.

use crate::{
    Error, Result,
    gpu::{Buffer, Gpu, Recording, Tensor},
    ops::{self, Epilogue, Matrix, Span, Tokens},
    platform::LocalFuture,
    tokenizer::{EncodeOptions, Tokenizer},
    weights::{DType, MetadataExt, Weights, read_values},
};

use super::{Embedder, manifest::EncoderInfo};

/// Most tokens of a launch: about 60 MB of activations at hidden size 384, and within the dispatch limits.
const BATCH_TOKENS: usize = 4096;

/// Hyperparameters, from `bert.*`.
#[derive(Debug, Clone, PartialEq)]
pub struct EncoderConfig {
    /// Values of an embedding.
    pub hidden: usize,
    /// Attention heads.
    pub heads: usize,
    /// Inner size of the feed-forward part.
    pub feed_forward: usize,
    /// Layers.
    pub layers: usize,
    /// Vocabulary size.
    pub vocabulary: usize,
    /// Tokens a text is cut at.
    pub max_tokens: usize,
    /// Added to variances.
    pub eps: f32,
    /// Whether embeddings get length 1.
    pub normalise: bool,
}

struct Norm {
    weight: Buffer,
    bias: Buffer,
}

struct Layer {
    qkv: Matrix,      // (3 · hidden, hidden)
    qkv_bias: Buffer, // (3 · hidden)
    output: Matrix,   // (hidden, hidden)
    output_bias: Buffer,
    attention_norm: Norm,
    up: Matrix, // (feed_forward, hidden)
    up_bias: Buffer,
    down: Matrix, // (hidden, feed_forward)
    down_bias: Buffer,
    output_norm: Norm,
}

/// Activations of a batch.
struct Scratch {
    tokens: usize,
    x: Tensor,      // (tokens, hidden)
    h: Tensor,      // (tokens, hidden)
    middle: Tensor, // (tokens, hidden)
    qkv: Tensor,    // (tokens, 3 · hidden)
    inner: Tensor,  // (tokens, feed_forward)
}

/// An encoder on the GPU.
pub struct Encoder {
    gpu: Gpu,
    tokenizer: Tokenizer,
    config: EncoderConfig,
    info: EncoderInfo,
    words: Matrix,     // (vocabulary, hidden)
    positions: Matrix, // (max_tokens, hidden): position and type 0 added
    norm: Norm,
    layers: Vec<Layer>,
    scratch: Option<Scratch>,
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Encoder({:?}, {:?})", self.info.name, self.config)
    }
}

impl EncoderConfig {
    /// Reads and checks the hyperparameters.
    pub fn read(weights: &dyn Weights) -> Result<Self> {
        let (file, metadata) = (weights.name(), weights.metadata());
        let architecture = metadata.need_text(file, "general.architecture")?;
        if architecture != "bert" {
            let problem = format!("{architecture:?}; encoders have \"bert\"");
            return Err(Error::input(file, "general.architecture", problem));
        }
        let pooling = metadata.get_u64(file, "bert.pooling_type")?.unwrap_or(1);
        if pooling != 1 {
            return Err(Error::input(file, "bert.pooling_type", format!("{pooling}, 1 (mean) expected")));
        }
        let size = |key: &str, most: u64| -> Result<usize> {
            let key = format!("bert.{key}");
            match metadata.need_u64(file, &key)? {
                value if (1..=most).contains(&value) => Ok(value as usize),
                value => Err(Error::input(file, key, format!("{value}, 1 to {most} expected"))),
            }
        };
        let context = size("context_length", BATCH_TOKENS as u64)?;
        let cut = metadata.get_u64(file, "selfrag.embedding.max_length")?.unwrap_or(context as u64);
        let word_table = weights.tensor("token_embd.weight");
        let word_table = word_table.ok_or_else(|| Error::input(file, "token_embd.weight", "missing"))?;
        let config = Self {
            hidden: size("embedding_length", 1 << 14)?,
            heads: size("attention.head_count", 1 << 10)?,
            feed_forward: size("feed_forward_length", 1 << 16)?,
            layers: size("block_count", 1 << 10)?,
            vocabulary: word_table.matrix().0,
            max_tokens: (cut as usize).clamp(2, context.max(2)),
            eps: metadata.get_f64(file, "bert.attention.layer_norm_epsilon")?.unwrap_or(1e-12) as f32,
            normalise: matches!(metadata.get("selfrag.embedding.normalize"), Some(crate::weights::Value::Bool(true))),
        };
        let head_dim = config.hidden / config.heads;
        if !config.hidden.is_multiple_of(config.heads) || !head_dim.is_multiple_of(4) || head_dim > 128 {
            let problem = format!(
                "{} heads of {}; sizes that are multiples of 4 up to 128 expected",
                config.heads, config.hidden
            );
            return Err(Error::input(file, "bert.attention.head_count", problem));
        }
        config.check_shapes(weights, context)?;
        Ok(config)
    }

    /// Every tensor is there with the shape that the hyperparameters say.
    fn check_shapes(&self, weights: &dyn Weights, context: usize) -> Result<()> {
        let (hidden, ff) = (self.hidden, self.feed_forward);
        let mut wanted: Vec<(String, (usize, usize))> = [
            ("token_embd.weight", (self.vocabulary, hidden)),
            ("position_embd.weight", (context, hidden)),
            ("token_embd_norm.weight", (1, hidden)),
            ("token_embd_norm.bias", (1, hidden)),
        ]
        .map(|(name, shape)| (name.to_string(), shape))
        .into();
        for i in 0..self.layers {
            for (part, rows, cols) in [
                ("attn_q", hidden, hidden),
                ("attn_k", hidden, hidden),
                ("attn_v", hidden, hidden),
                ("attn_output", hidden, hidden),
                ("ffn_up", ff, hidden),
                ("ffn_down", hidden, ff),
            ] {
                wanted.push((format!("blk.{i}.{part}.weight"), (rows, cols)));
                wanted.push((format!("blk.{i}.{part}.bias"), (1, rows)));
            }
            for part in ["attn_output_norm", "layer_output_norm"] {
                wanted.push((format!("blk.{i}.{part}.weight"), (1, hidden)));
                wanted.push((format!("blk.{i}.{part}.bias"), (1, hidden)));
            }
        }
        for (name, shape) in wanted {
            let found = weights.tensor(&name).map(|tensor| tensor.matrix());
            if found != Some(shape) {
                return Err(Error::input(weights.name(), name, format!("{found:?}, {shape:?} expected")));
            }
        }
        Ok(())
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
        };
        let loader = Loader { gpu, weights };
        let words = Matrix::load(gpu, weights, &["token_embd.weight".into()], progress).await?;
        let positions = loader.positions(&config).await?;
        let mut layers = Vec::new();
        for i in 0..config.layers {
            layers.push(loader.layer(i, progress).await?);
        }
        gpu.flush().await?;
        let norm = loader.norm("token_embd_norm").await?;
        Ok(Self { gpu: gpu.clone(), tokenizer, config, info, words, positions, norm, layers, scratch: None })
    }

    /// The hyperparameters.
    pub fn config(&self) -> &EncoderConfig {
        &self.config
    }

    /// A text's ids: `[CLS]` … `[SEP]`, cut in front of the `[SEP]`.
    pub fn tokens(&self, text: &str) -> Result<Vec<u32>> {
        let mut tokens = self.tokenizer.encode(text, EncodeOptions::WHOLE)?;
        if tokens.len() > self.config.max_tokens {
            let last = tokens.last().copied();
            tokens.truncate(self.config.max_tokens - 1);
            tokens.extend(last);
        }
        match tokens.iter().find(|token| **token as usize >= self.config.vocabulary) {
            Some(token) => Err(Error::input(&self.info.name, "tokenizer", format!("token {token} has no embedding"))),
            None if tokens.is_empty() => Err(Error::input(&self.info.name, "tokenizer", "a text gave no token")),
            None => Ok(tokens),
        }
    }

    async fn embed_all(&mut self, texts: &[String]) -> Result<Vec<Vec<f32>>> {
        let tokens: Vec<Vec<u32>> = texts.iter().map(|text| self.tokens(text)).collect::<Result<_>>()?;
        let mut embeddings = Vec::with_capacity(texts.len());
        let mut rest = tokens.as_slice();
        while !rest.is_empty() {
            let mut sum = 0;
            let fits = rest.iter().take_while(|text| {
                sum += text.len();
                sum <= BATCH_TOKENS
            });
            // One text always fits: its length is at most the model's positions, and those at most a batch.
            let (batch, later) = rest.split_at(fits.count().max(1));
            embeddings.extend(self.forward(batch).await?);
            rest = later;
        }
        Ok(embeddings)
    }

    /// One launch.
    async fn forward(&mut self, texts: &[Vec<u32>]) -> Result<Vec<Vec<f32>>> {
        let (gpu, config) = (self.gpu.clone(), &self.config);
        let mut spans: Vec<Span> = Vec::new();
        for text in texts {
            let first = spans.last().map_or(0, |(first, count)| first + count);
            spans.push((first, text.len() as u32));
        }
        let ids = texts.concat();
        let places: Vec<u32> = texts.iter().flat_map(|text| 0..text.len() as u32).collect();
        let blocks = ops::attention_blocks(&spans);
        let span_words: Vec<u32> = spans.iter().flat_map(|span| [span.0, span.1]).collect();
        let n = ids.len();
        let scratch = match self.scratch.take() {
            Some(scratch) if scratch.tokens >= n => scratch,
            _ => Scratch::new(&gpu, config, n.next_power_of_two().min(BATCH_TOKENS))?,
        };
        let Scratch { x, h, middle, qkv, inner, .. } = &scratch;
        let ids = gpu.upload_words("tokens", &ids)?;
        let places = gpu.upload_words("positions", &places)?;
        let blocks = (&gpu.upload_words("blocks", &blocks)?, blocks.len() / 4);
        let spans = (&gpu.upload_words("spans", &span_words)?, spans.len());
        let pooled = gpu.tensor("embeddings", texts.len(), config.hidden)?;

        let mut recording = Recording::new();
        let r = &mut recording;
        let bias = |bias| Epilogue { add: false, bias: Some(bias) };
        ops::embed(&gpu, r, &self.words, Tokens { buffer: &ids, stride: 1, count: n, drawn: false }, x);
        ops::embed(&gpu, r, &self.positions, Tokens { buffer: &places, stride: 1, count: n, drawn: false }, middle);
        ops::layer_norm(&gpu, r, x, Some(middle), self.norm.args(config), h, n);
        for layer in &self.layers {
            ops::matmul(&gpu, r, &layer.qkv, h, qkv, n, bias(&layer.qkv_bias));
            ops::attention_bidirectional(&gpu, r, (config.heads, config.hidden / config.heads), blocks, qkv, middle);
            ops::matmul(&gpu, r, &layer.output, middle, x, n, bias(&layer.output_bias));
            ops::layer_norm(&gpu, r, x, Some(h), layer.attention_norm.args(config), middle, n);
            ops::matmul(&gpu, r, &layer.up, middle, inner, n, bias(&layer.up_bias));
            ops::gelu(&gpu, r, inner, n);
            ops::matmul(&gpu, r, &layer.down, inner, x, n, bias(&layer.down_bias));
            ops::layer_norm(&gpu, r, x, Some(middle), layer.output_norm.args(config), h, n);
        }
        ops::mean_pool(&gpu, r, spans, h, config.normalise, &pooled);
        recording.submit(&gpu);
        let values = gpu.download(&pooled, texts.len()).await?;
        let hidden = config.hidden;
        self.scratch = Some(scratch);
        Ok(values.chunks(hidden).map(<[f32]>::to_vec).collect())
    }
}

impl Embedder for Encoder {
    fn dim(&self) -> usize {
        self.config.hidden
    }

    fn info(&self) -> EncoderInfo {
        self.info.clone()
    }

    fn embed<'a>(&'a mut self, texts: &'a [String]) -> LocalFuture<'a, Result<Vec<Vec<f32>>>> {
        Box::pin(self.embed_all(texts))
    }
}

impl Norm {
    fn args(&self, config: &EncoderConfig) -> (&Buffer, &Buffer, f32) {
        (&self.weight, &self.bias, config.eps)
    }
}

impl Scratch {
    fn new(gpu: &Gpu, config: &EncoderConfig, tokens: usize) -> Result<Self> {
        Ok(Self {
            tokens,
            x: gpu.tensor("x", tokens, config.hidden)?,
            h: gpu.tensor("h", tokens, config.hidden)?,
            middle: gpu.tensor("middle", tokens, config.hidden)?,
            qkv: gpu.tensor("qkv", tokens, 3 * config.hidden)?,
            inner: gpu.tensor("inner", tokens, config.feed_forward)?,
        })
    }
}

/// Reads tensors that [`EncoderConfig::check_shapes`] has seen.
struct Loader<'a> {
    gpu: &'a Gpu,
    weights: &'a dyn Weights,
}

impl Loader<'_> {
    async fn values(&self, name: &str, rows: usize) -> Result<Vec<f32>> {
        let tensor = self.weights.tensor(name).expect("checked before loading");
        read_values(self.weights, tensor, 0, rows).await
    }

    async fn vector(&self, names: &[String]) -> Result<Buffer> {
        let mut values = Vec::new();
        for name in names {
            values.extend(self.values(name, 1).await?);
        }
        Ok(self.gpu.upload(&names[0], &values, values.len())?.buffer)
    }

    async fn norm(&self, name: &str) -> Result<Norm> {
        let (weight, bias) = (format!("{name}.weight"), format!("{name}.bias"));
        Ok(Norm { weight: self.vector(&[weight]).await?, bias: self.vector(&[bias]).await? })
    }

    /// Position embeddings with the embedding of token type 0, the only one used, already added.
    async fn positions(&self, config: &EncoderConfig) -> Result<Matrix> {
        let mut positions = self.values("position_embd.weight", config.max_tokens).await?;
        if let Some(types) = self.weights.tensor("token_types.weight") {
            if types.matrix().1 != config.hidden || types.matrix().0 == 0 {
                let problem = format!("{:?}, {} columns expected", types.matrix(), config.hidden);
                return Err(Error::input(self.weights.name(), "token_types.weight", problem));
            }
            let first = self.values("token_types.weight", 1).await?;
            positions.iter_mut().zip(first.iter().cycle()).for_each(|(position, first)| *position += first);
        }
        Matrix::from_bytes(self.gpu, DType::F32, bytemuck::cast_slice(&positions), config.hidden)
    }

    async fn layer(&self, i: usize, progress: &mut dyn FnMut(u64)) -> Result<Layer> {
        let name = |part: &str, kind: &str| format!("blk.{i}.{part}.{kind}");
        let names = |parts: &[&str], kind: &str| -> Vec<String> { parts.iter().map(|part| name(part, kind)).collect() };
        let qkv = ["attn_q", "attn_k", "attn_v"];
        Ok(Layer {
            qkv: Matrix::load(self.gpu, self.weights, &names(&qkv, "weight"), progress).await?,
            qkv_bias: self.vector(&names(&qkv, "bias")).await?,
            output: Matrix::load(self.gpu, self.weights, &names(&["attn_output"], "weight"), progress).await?,
            output_bias: self.vector(&names(&["attn_output"], "bias")).await?,
            attention_norm: self.norm(&format!("blk.{i}.attn_output_norm")).await?,
            up: Matrix::load(self.gpu, self.weights, &names(&["ffn_up"], "weight"), progress).await?,
            up_bias: self.vector(&names(&["ffn_up"], "bias")).await?,
            down: Matrix::load(self.gpu, self.weights, &names(&["ffn_down"], "weight"), progress).await?,
            down_bias: self.vector(&names(&["ffn_down"], "bias")).await?,
            output_norm: self.norm(&format!("blk.{i}.layer_output_norm")).await?,
        })
    }
}
