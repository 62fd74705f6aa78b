//! BERT's layers on the GPU.

use super::{BATCH_TOKENS, EncoderConfig};
use crate::{
    Error, Result,
    gpu::{Buffer, Gpu, Recording, Tensor},
    ops::{self, Epilogue, Matrix, Span, Tiles, Tokens, self_test},
    weights::{DType, Weights, read_values},
};

/// Rows of a tile.
const TILE: usize = 16;
/// [`BATCH_TOKENS`] on cooperative matrices: 128 tokens a workgroup fill such a device later.
const COOP_BATCH_TOKENS: usize = 2 * BATCH_TOKENS;

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

impl Layer {
    fn matrices(&self) -> [&Matrix; 4] {
        [&self.qkv, &self.output, &self.up, &self.down]
    }
}

/// Activations of a batch.
struct Scratch {
    tokens: usize,
    x: Tensor,      // (tokens, hidden)
    h: Tensor,      // (tokens, hidden)
    middle: Tensor, // (tokens, hidden)
    inner: Inner,
}

/// What lies between the products.
enum Inner {
    Floats {
        qkv: Tensor,   // (tokens, 3 · hidden)
        inner: Tensor, // (tokens, feed_forward)
    },
    Tiles(TileScratch),
}

/// The same as f16 in tiles.
struct TileScratch {
    h: Tiles,        // (tokens, hidden)
    qkv: Tiles,      // (tokens, 3 · hidden)
    attended: Tiles, // (tokens, hidden)
    inner: Tiles,    // (tokens, feed_forward)
}

/// A model on the GPU, from token ids to embeddings.
pub struct Bert {
    gpu: Gpu,
    config: EncoderConfig,
    words: Matrix,     // (vocabulary, hidden)
    positions: Matrix, // (max_tokens, hidden): position and type 0 added
    norm: Norm,
    layers: Vec<Layer>,
    is_cooperative: bool,
    scratch: Option<Scratch>,
}

/// Where the rows of a batch are.
struct Places<'a> {
    rows: usize,
    blocks: (&'a Buffer, usize),
}

impl std::fmt::Debug for Bert {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Bert({:?})", self.config)
    }
}

impl Bert {
    /// Streams the weights to the GPU; `progress` hears the bytes of each piece.
    pub async fn load(gpu: &Gpu, weights: &dyn Weights, progress: &mut dyn FnMut(u64)) -> Result<Self> {
        let config = EncoderConfig::read(weights)?;
        let loader = Loader { gpu, weights };
        let words = Matrix::load(gpu, weights, &["token_embd.weight".into()], progress).await?;
        let positions = loader.positions(&config).await?;
        let mut layers = Vec::new();
        for i in 0..config.layers {
            layers.push(loader.layer(i, progress).await?);
        }
        gpu.flush().await?;
        let norm = loader.norm("token_embd_norm").await?;
        let is_cooperative = ops::can_coop_bidirectional(gpu, config.head_shape().1)
            && layers.iter().flat_map(Layer::matrices).all(|matrix| ops::can_coop(gpu, matrix));
        if is_cooperative {
            let formats = DType::distinct(layers.iter().flat_map(Layer::matrices).flat_map(Matrix::formats));
            self_test::quick_encoder(gpu, &formats).await?;
        }
        Ok(Self { gpu: gpu.clone(), config, words, positions, norm, layers, is_cooperative, scratch: None })
    }

    /// The hyperparameters.
    pub fn config(&self) -> &EncoderConfig {
        &self.config
    }

    /// The embeddings of texts given as token ids, each within the vocabulary and [`EncoderConfig::max_tokens`].
    pub async fn embed(&mut self, texts: &[Vec<u32>]) -> Result<Vec<Vec<f32>>> {
        let mut embeddings = Vec::with_capacity(texts.len());
        let (most, multiple) = self.batch();
        let mut rest = texts;
        while !rest.is_empty() {
            let mut sum = 0;
            let fits = rest.iter().take_while(|text| {
                sum += text.len().next_multiple_of(multiple);
                sum <= most
            });
            // One text always fits: its length is at most the model's positions, and those at most a batch.
            let (batch, later) = rest.split_at(fits.count().max(1));
            embeddings.extend(self.forward(batch).await?);
            rest = later;
        }
        Ok(embeddings)
    }

    /// Most tokens of a launch, and the multiple that a text begins at.
    fn batch(&self) -> (usize, usize) {
        if self.is_cooperative { (COOP_BATCH_TOKENS, TILE) } else { (BATCH_TOKENS, 1) }
    }

    /// One batch.
    async fn forward(&mut self, texts: &[Vec<u32>]) -> Result<Vec<Vec<f32>>> {
        let (gpu, config) = (self.gpu.clone(), &self.config);
        let (most, multiple) = self.batch();
        let (mut spans, mut ids, mut places): (Vec<Span>, Vec<u32>, Vec<u32>) = Default::default();
        for text in texts {
            spans.push((ids.len() as u32, text.len() as u32));
            ids.extend(text);
            places.extend(0..text.len() as u32);
            // A tile belongs to one text. What fills it up is computed and never looked at.
            ids.resize(ids.len().next_multiple_of(multiple), 0);
            places.resize(ids.len(), 0);
        }
        let blocks = ops::attention_blocks(&spans);
        let span_words: Vec<u32> = spans.iter().flat_map(|span| [span.0, span.1]).collect();
        let n = ids.len();
        let scratch = match self.scratch.take() {
            Some(scratch) if scratch.tokens >= n => scratch,
            _ => Scratch::new(&gpu, config, n.next_power_of_two().clamp(128, most), self.is_cooperative)?,
        };
        let Scratch { x, h, middle, .. } = &scratch;
        let ids = gpu.upload_words("tokens", &ids)?;
        let places = gpu.upload_words("positions", &places)?;
        let spans = (&gpu.upload_words("spans", &span_words)?, spans.len());
        let pooled = gpu.tensor("embeddings", texts.len(), config.hidden)?;

        let mut recording = Recording::new();
        let r = &mut recording;
        ops::embed(&gpu, r, &self.words, Tokens { buffer: &ids, stride: 1, count: n, drawn: false }, x);
        ops::embed(&gpu, r, &self.positions, Tokens { buffer: &places, stride: 1, count: n, drawn: false }, middle);
        let places = Places { rows: n, blocks: (&gpu.upload_words("blocks", &blocks)?, blocks.len() / 4) };
        match &scratch.inner {
            Inner::Floats { qkv, inner } => {
                ops::layer_norm(&gpu, r, x, Some(middle), self.norm.args(config), h, n);
                for layer in &self.layers {
                    self.layer(r, layer, &scratch, (qkv, inner), &places);
                }
            }
            Inner::Tiles(tiles) => {
                ops::layer_norm_tiles(&gpu, r, x, Some(middle), self.norm.args(config), h, &tiles.h, n);
                for layer in &self.layers {
                    self.layer_of_tiles(r, layer, &scratch, tiles, &places);
                }
            }
        }
        ops::mean_pool(&gpu, r, spans, h, config.normalise, &pooled);
        recording.submit(&gpu);
        let values = gpu.download(&pooled, texts.len()).await?;
        let hidden = config.hidden;
        self.scratch = Some(scratch);
        Ok(values.chunks(hidden).map(<[f32]>::to_vec).collect())
    }

    /// h → h, in f32.
    fn layer(
        &self,
        r: &mut Recording,
        layer: &Layer,
        s: &Scratch,
        (qkv, inner): (&Tensor, &Tensor),
        places: &Places<'_>,
    ) {
        let (gpu, config, n) = (&self.gpu, &self.config, places.rows);
        let Scratch { x, h, middle, .. } = s;
        let bias = |bias| Epilogue { add: false, bias: Some(bias) };
        ops::matmul(gpu, r, &layer.qkv, h, qkv, n, bias(&layer.qkv_bias));
        ops::attention_bidirectional(gpu, r, config.head_shape(), places.blocks, qkv, middle);
        ops::matmul(gpu, r, &layer.output, middle, x, n, bias(&layer.output_bias));
        ops::layer_norm(gpu, r, x, Some(h), layer.attention_norm.args(config), middle, n);
        ops::matmul(gpu, r, &layer.up, middle, inner, n, bias(&layer.up_bias));
        ops::gelu(gpu, r, inner, n);
        ops::matmul(gpu, r, &layer.down, inner, x, n, bias(&layer.down_bias));
        ops::layer_norm(gpu, r, x, Some(middle), layer.output_norm.args(config), h, n);
    }

    /// The same on cooperative matrices: what products take is f16 in tiles, the residual stream stays f32.
    fn layer_of_tiles(&self, r: &mut Recording, layer: &Layer, s: &Scratch, t: &TileScratch, places: &Places<'_>) {
        let (gpu, config, n) = (&self.gpu, &self.config, places.rows);
        let Scratch { x, h, middle, .. } = s;
        let bias = |bias| Epilogue { add: false, bias: Some(bias) };
        ops::matmul_coop_tiles(gpu, r, &layer.qkv, &t.h, &t.qkv, n, &layer.qkv_bias, false);
        ops::attention_bidirectional_coop(gpu, r, config.head_shape(), places.blocks, &t.qkv, &t.attended);
        ops::matmul_coop(gpu, r, &layer.output, &t.attended, x, n, bias(&layer.output_bias));
        ops::layer_norm_tiles(gpu, r, x, Some(h), layer.attention_norm.args(config), middle, &t.h, n);
        ops::matmul_coop_tiles(gpu, r, &layer.up, &t.h, &t.inner, n, &layer.up_bias, true);
        ops::matmul_coop(gpu, r, &layer.down, &t.inner, x, n, bias(&layer.down_bias));
        ops::layer_norm_tiles(gpu, r, x, Some(middle), layer.output_norm.args(config), h, &t.h, n);
    }
}

impl Norm {
    fn args(&self, config: &EncoderConfig) -> (&Buffer, &Buffer, f32) {
        (&self.weight, &self.bias, config.eps)
    }
}

impl Scratch {
    fn new(gpu: &Gpu, config: &EncoderConfig, tokens: usize, cooperative: bool) -> Result<Self> {
        let (hidden, ff) = (config.hidden, config.feed_forward);
        let inner = if cooperative {
            Inner::Tiles(TileScratch {
                h: Tiles::new(gpu, "h", tokens, hidden)?,
                qkv: Tiles::new(gpu, "qkv", tokens, 3 * hidden)?,
                attended: Tiles::new(gpu, "attended", tokens, hidden)?,
                inner: Tiles::new(gpu, "inner", tokens, ff)?,
            })
        } else {
            Inner::Floats { qkv: gpu.tensor("qkv", tokens, 3 * hidden)?, inner: gpu.tensor("inner", tokens, ff)? }
        };
        Ok(Self {
            tokens,
            x: gpu.tensor("x", tokens, hidden)?,
            h: gpu.tensor("h", tokens, hidden)?,
            middle: gpu.tensor("middle", tokens, hidden)?,
            inner,
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
