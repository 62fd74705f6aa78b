//! The workloads `encode-128` and `encode-512`: passages of so many tokens to embeddings, by a BERT with random weights.

use serde::{Deserialize, Serialize};

use super::{Clocks, Geometry, KernelRow, Report, Spec, WARM_UP_MS, known, percent, timed};
use crate::{
    Result,
    gpu::{Gpu, Grain},
    ops::self_test::Random,
    platform::{LocalFuture, now_ms},
    retriever::encoder::Bert,
    weights::{DType, Metadata, TensorInfo, Value, Weights},
};

/// Passages at a time, what `selfrag index build` hands over; the encoder makes its batches of them.
const PASSAGES: usize = 128;
/// Tokens at a time on a software device.
const FEW_TOKENS: usize = 1 << 10;

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct EncodeRow {
    /// The workload's name.
    pub workload: String,
    /// The encoder's sizes and format.
    pub model: String,
    /// Passages embedded.
    pub passages: usize,
    /// Tokens of each.
    pub length: usize,
    /// Seconds for all, embeddings on the host; the best of several.
    pub secs: f64,
    /// GPU time of the same passages, where the device can tell.
    pub gpu_secs: Option<f64>,
    /// Passages a second.
    pub passages_per_sec: f64,
    /// Tokens a second.
    pub tokens_per_sec: f64,
    /// Floating-point operations of the matrix products and attention a second, in 10¹².
    pub tflops: f64,
}

/// Adds a row for each of `workloads`, which name encoders' workloads, to the report, and their kernels' if these are wanted.
pub(super) async fn encode(
    gpu: &Gpu,
    spec: &Spec,
    workloads: &[&String],
    report: &mut Report,
    tell: &mut dyn FnMut(&str, Option<f64>),
) -> Result<()> {
    // Encoders are shipped in floats; formats of blocks are for generators.
    let dtype = if spec.dtype.block_len() == 1 { spec.dtype } else { DType::F16 };
    let sizes = if spec.geometry.name == Geometry::TINY.name { BertGeometry::TINY } else { BertGeometry::BASE };
    let weights = RandomBert::new(sizes, dtype);
    let loading = format!("loading {}", weights.name());
    tell(&loading, None);
    let mut bert = Bert::load(gpu, &weights, &mut |_| {}).await?;
    for workload in workloads {
        tell(workload, None);
        let length = if workload.ends_with("512") { 512 } else { 128 };
        let software = gpu.facts().software;
        let passages = if software { FEW_TOKENS / length } else { PASSAGES };
        let mut random = Random::new(1);
        let texts: Vec<Vec<u32>> = (0..passages)
            .map(|_| (0..length).map(|_| random.pick(0..=sizes.vocabulary - 1) as u32).collect())
            .collect();
        let start = now_ms();
        loop {
            bert.embed(&texts).await?;
            if software || now_ms() - start > WARM_UP_MS {
                break;
            }
        }
        let mut best = Clocks { secs: f64::INFINITY, gpu_secs: None };
        for _ in 0..if software { 1 } else { 5 } {
            let (_, clocks) = timed(gpu, async || bert.embed(&texts).await).await?;
            if clocks.secs < best.secs {
                best = clocks;
            }
        }
        let Clocks { secs, gpu_secs } = best;
        report.encodes.push(EncodeRow {
            workload: (*workload).clone(),
            model: weights.name.clone(),
            passages,
            length,
            secs,
            gpu_secs,
            passages_per_sec: passages as f64 / secs,
            tokens_per_sec: (passages * length) as f64 / secs,
            tflops: sizes.operations(length) * passages as f64 / secs / 1e12,
        });
        if let Some(timer) = gpu.start_timing(Grain::Kernel).filter(|_| spec.kernels) {
            bert.embed(&texts).await?;
            report.kernels.extend(KernelRow::list(workload, 1, timer.kernels().await?));
        }
    }
    Ok(())
}

impl EncodeRow {
    /// What [`EncodeRow::cells`] holds.
    pub const COLUMNS: [&str; 9] = [
        "workload",
        "encoder",
        "passages",
        "passages/s",
        "tok/s",
        "ms a passage",
        "GPU ms a passage",
        "GPU of wall",
        "TFLOP/s",
    ];

    /// The row as people read it.
    pub fn cells(&self) -> [String; 9] {
        let passages = self.passages as f64;
        [
            self.workload.clone(),
            self.model.clone(),
            format!("{} of {} tokens", self.passages, self.length),
            format!("{:.1}", self.passages_per_sec),
            format!("{:.0}", self.tokens_per_sec),
            format!("{:.3}", self.secs * 1e3 / passages),
            known(self.gpu_secs, |secs| format!("{:.3}", secs * 1e3 / passages)),
            known(self.gpu_secs, |secs| percent(secs / self.secs)),
            format!("{:.3}", self.tflops),
        ]
    }
}

/// Sizes of a BERT.
#[derive(Debug, Clone, Copy)]
struct BertGeometry {
    name: &'static str,
    layers: usize,
    hidden: usize,
    feed_forward: usize,
    heads: usize,
    vocabulary: usize,
    positions: usize,
}

impl BertGeometry {
    /// Contriever and its kin.
    const BASE: Self = Self {
        name: "bert-base",
        layers: 12,
        hidden: 768,
        feed_forward: 3072,
        heads: 12,
        vocabulary: 30_522,
        positions: 512,
    };
    /// For slow devices and tests.
    const TINY: Self = Self {
        name: "tiny bert",
        layers: 2,
        hidden: 64,
        feed_forward: 128,
        heads: 2,
        vocabulary: 1000,
        positions: 512,
    };

    /// Floating-point operations of a passage of `length` tokens, two a multiply-add: products with weights, and attention's two.
    fn operations(&self, length: usize) -> f64 {
        let Self { layers, hidden, feed_forward, .. } = *self;
        let weights = layers * (4 * hidden * hidden + 2 * hidden * feed_forward);
        let attention = layers * 2 * length * hidden;
        2.0 * length as f64 * (weights + attention) as f64
    }
}

/// Random weights of such a model; vectors are f32.
#[derive(Debug)]
struct RandomBert {
    name: String,
    metadata: Metadata,
    tensors: Vec<TensorInfo>,
}

impl RandomBert {
    /// Describes the model; values are made when they are read.
    fn new(geometry: BertGeometry, dtype: DType) -> Self {
        let BertGeometry { layers, hidden, feed_forward, heads, vocabulary, positions, .. } = geometry;
        let number = |key: &str, value: usize| (format!("bert.{key}"), Value::U64(value as u64));
        let mut metadata: Metadata = [
            number("embedding_length", hidden),
            number("feed_forward_length", feed_forward),
            number("block_count", layers),
            number("attention.head_count", heads),
            number("context_length", positions),
        ]
        .into();
        metadata.insert("general.architecture".into(), Value::Text("bert".into()));
        let mut tensors = Vec::new();
        let mut tensor = |name: String, dtype, shape: &[usize]| {
            tensors.push(TensorInfo { name, dtype, shape: shape.to_vec() });
        };
        tensor("token_embd.weight".into(), dtype, &[vocabulary, hidden]);
        tensor("position_embd.weight".into(), dtype, &[positions, hidden]);
        for kind in ["weight", "bias"] {
            tensor(format!("token_embd_norm.{kind}"), DType::F32, &[hidden]);
        }
        for layer in 0..layers {
            for (part, rows, cols) in [
                ("attn_q", hidden, hidden),
                ("attn_k", hidden, hidden),
                ("attn_v", hidden, hidden),
                ("attn_output", hidden, hidden),
                ("ffn_up", feed_forward, hidden),
                ("ffn_down", hidden, feed_forward),
            ] {
                tensor(format!("blk.{layer}.{part}.weight"), dtype, &[rows, cols]);
                tensor(format!("blk.{layer}.{part}.bias"), DType::F32, &[rows]);
            }
            for part in ["attn_output_norm", "layer_output_norm"] {
                for kind in ["weight", "bias"] {
                    tensor(format!("blk.{layer}.{part}.{kind}"), DType::F32, &[hidden]);
                }
            }
        }
        Self { name: format!("{} in random {}", geometry.name, dtype.name()), metadata, tensors }
    }
}

impl Weights for RandomBert {
    fn name(&self) -> &str {
        &self.name
    }

    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    fn read_rows<'a>(&'a self, tensor: &'a TensorInfo, first: usize, count: usize) -> LocalFuture<'a, Result<Vec<u8>>> {
        Box::pin(std::future::ready(Ok(super::model::random_rows(tensor, first, count))))
    }
}
