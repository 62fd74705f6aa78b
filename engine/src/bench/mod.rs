//! Named workloads with one table of results, the same natively and in the page: tokens a second, bytes a second, how near that is
//! to the copy bandwidth measured on the same device in the same run, launches, and GPU time beside wall time.

mod model;
mod report;

pub use model::{Geometry, RandomLlama};
pub use report::{KernelRow, Report, Row};

use crate::{
    Result,
    generator::{
        Generator, SeqId,
        llama::{Llama, LlamaOptions},
    },
    gpu::Gpu,
    platform::now_ms,
    weights::DType,
};

/// What to run.
#[derive(Debug, Clone)]
pub struct Spec {
    /// The model's sizes.
    pub geometry: Geometry,
    /// Its weights' format.
    pub dtype: DType,
    /// Which of [`WORKLOADS`].
    pub workloads: Vec<String>,
    /// Tokens a decode workload writes.
    pub steps: usize,
    /// Measure each kernel too.
    pub kernels: bool,
}

/// Names of the workloads and what they do.
pub const WORKLOADS: [(&str, &str); 5] = [
    ("decode", "one sequence, from 256 tokens of context on"),
    ("decode-10", "ten sequences over one shared prefix of 256 tokens, in sum"),
    ("decode-2048", "one sequence, from 2,048 tokens of context on"),
    ("prefill", "ten sequences of 256 tokens, their last logits read"),
    ("short-form", "ten passages of 150 tokens after a prompt of 50, 100 new tokens each: one question, seconds"),
];

/// Tokens of an answer that warm everything up: a GPU that was idle takes tenths of a second to raise its clock.
pub(crate) const WARM_UP: usize = 4;
/// Milliseconds that a workload is at it before it is measured, on a GPU.
const WARM_UP_MS: f64 = 400.0;

/// Runs the workloads of `spec`; `progress` hears what is going on.
pub async fn run(gpu: &Gpu, spec: &Spec, progress: &mut dyn FnMut(&str)) -> Result<Report> {
    let mut report = Report::new(gpu, spec);
    progress("copy bandwidth");
    report.copy_gb_per_sec = copy_bandwidth(gpu).await?;
    let weights = RandomLlama::new(spec.geometry, spec.dtype);
    report.tensor_bytes = weights.bytes();
    progress(&format!("loading {} ({:.1} GB)", crate::weights::Weights::name(&weights), weights.bytes() as f64 / 1e9));
    let before = gpu.allocated_bytes();
    let start = now_ms();
    let context = if spec.workloads.iter().any(|w| w == "decode-2048") { 2048 + spec.steps + 640 } else { 0 };
    let kv_tokens = Some((10 * 256 + 10 * (spec.steps + 16)).max(256 + 10 * spec.steps + 512).max(context).max(2700));
    let options = LlamaOptions { kv_tokens, ..LlamaOptions::default() };
    let mut llama = Llama::load(gpu, &weights, options, &mut |_| {}).await?;
    report.load_secs = (now_ms() - start) / 1e3;
    report.model_bytes = gpu.allocated_bytes() - before;
    llama.watch(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14]);
    for workload in &spec.workloads {
        progress(workload);
        let row = match workload.as_str() {
            "decode" => decode(&mut llama, spec, workload, 1, 256).await?,
            "decode-10" => decode(&mut llama, spec, workload, 10, 256).await?,
            "decode-2048" => decode(&mut llama, spec, workload, 1, 2048).await?,
            "prefill" => prefill(&mut llama, workload).await?,
            "short-form" => short_form(&mut llama, workload).await?,
            other => return Err(crate::Error::config("workload", format!("{other:?} is none of {WORKLOADS:?}"))),
        };
        let per_pass = if workload == "prefill" { 0 } else { weights.bytes_per_token() };
        report.push(row, per_pass);
    }
    if spec.kernels {
        progress("kernels");
        report.kernels = kernels(gpu, &mut llama, spec).await?;
    }
    report.bytes_after = gpu.allocated_bytes() - before;
    Ok(report)
}

/// Bytes read plus bytes written a second by a large copy between buffers, best of several.
async fn copy_bandwidth(gpu: &Gpu) -> Result<f64> {
    let bytes = (1u64 << 30).min(gpu.facts().max_binding_bytes / 4 * 4).min(gpu.facts().max_buffer_bytes / 4 * 4);
    let bytes = if gpu.facts().software { bytes.min(64 << 20) } else { bytes };
    let (from, to) = (gpu.buffer("copy from", bytes)?, gpu.buffer("copy to", bytes)?);
    const COPIES: u32 = 8;
    let mut best = 0.0f64;
    for _ in 0..4 {
        gpu.flush().await?;
        let start = now_ms();
        gpu.copy(&from, &to, COPIES);
        gpu.flush().await?;
        best = best.max(2.0 * f64::from(COPIES) * bytes as f64 / ((now_ms() - start) / 1e3) / 1e9);
    }
    Ok(best)
}

fn tokens(count: usize, seed: usize) -> Vec<u32> {
    (0..count).map(|i| ((i * 37 + seed * 101) % 30_000 + 100) as u32).collect()
}

/// `count` forks of a prefix.
async fn forks(llama: &mut Llama, count: usize, prefix: usize) -> Result<(SeqId, Vec<SeqId>)> {
    let root = llama.start()?;
    llama.forward(&[(root, tokens(prefix, 0))]).await?;
    let forks = (0..count).map(|_| llama.fork(root)).collect::<Result<_>>()?;
    Ok((root, forks))
}

/// Greedy steps of a batch, each fed with the step before.
async fn steps(llama: &mut Llama, seqs: &[SeqId], mut next: Vec<u32>, count: usize) -> Result<Vec<u32>> {
    for _ in 0..count {
        let batch: Vec<_> = seqs.iter().zip(&next).map(|(seq, token)| (*seq, vec![*token])).collect();
        next = llama.forward(&batch).await?.into_iter().map(|output| output.token).collect();
    }
    Ok(next)
}

/// Steps of other sequences of the same number, until the clock is up.
async fn warm_up(llama: &mut Llama, count: usize) -> Result<()> {
    let start = now_ms();
    while now_ms() - start < WARM_UP_MS {
        let (root, seqs) = forks(llama, count, 16).await?;
        steps(llama, &seqs, tokens(count, 1), 32).await?;
        seqs.iter().chain([&root]).for_each(|seq| llama.free(*seq));
    }
    Ok(())
}

async fn decode(llama: &mut Llama, spec: &Spec, name: &str, count: usize, context: usize) -> Result<Row> {
    let (root, seqs) = forks(llama, count, context).await?;
    let mut next = steps(llama, &seqs, tokens(count, 1), WARM_UP).await?;
    if !llama.gpu().facts().software {
        warm_up(llama, count).await?;
        next = steps(llama, &seqs, next, 2).await?;
    }
    let launches = llama.gpu().launches();
    let start = now_ms();
    steps(llama, &seqs, next, spec.steps).await?;
    let secs = (now_ms() - start) / 1e3;
    let launches = (llama.gpu().launches() - launches) as f64 / spec.steps as f64;
    seqs.iter().chain([&root]).for_each(|seq| llama.free(*seq));
    Ok(Row { workload: name.into(), tokens: count * spec.steps, passes: spec.steps, secs, launches, ..Row::default() })
}

async fn prefill(llama: &mut Llama, name: &str) -> Result<Row> {
    let mut best = Row { secs: f64::INFINITY, ..Row::default() };
    for _ in 0..5 {
        let seqs: Vec<SeqId> = (0..10).map(|_| llama.start()).collect::<Result<_>>()?;
        let batch: Vec<_> = seqs.iter().enumerate().map(|(i, seq)| (*seq, tokens(256, i))).collect();
        let launches = llama.gpu().launches();
        let start = now_ms();
        llama.forward(&batch).await?;
        let secs = (now_ms() - start) / 1e3;
        let launches = (llama.gpu().launches() - launches) as f64;
        seqs.iter().for_each(|seq| llama.free(*seq));
        if secs < best.secs {
            best = Row { workload: name.into(), tokens: 2560, passes: 1, secs, launches, ..Row::default() };
        }
    }
    Ok(best)
}

async fn short_form(llama: &mut Llama, name: &str) -> Result<Row> {
    const NEW: usize = 100;
    if !llama.gpu().facts().software {
        warm_up(llama, 10).await?;
    }
    let launches = llama.gpu().launches();
    let start = now_ms();
    let (root, seqs) = forks(llama, 10, 50).await?;
    let batch: Vec<_> = seqs.iter().enumerate().map(|(i, seq)| (*seq, tokens(150, i))).collect();
    let first = llama.forward(&batch).await?.into_iter().map(|output| output.token).collect();
    steps(llama, &seqs, first, NEW - 1).await?;
    let secs = (now_ms() - start) / 1e3;
    let launches = (llama.gpu().launches() - launches) as f64;
    seqs.iter().chain([&root]).for_each(|seq| llama.free(*seq));
    Ok(Row { workload: name.into(), tokens: 10 * NEW, passes: NEW, secs, launches, ..Row::default() })
}

/// GPU time of each kernel in a few steps of decoding and in one prefill.
async fn kernels(gpu: &Gpu, llama: &mut Llama, spec: &Spec) -> Result<Vec<KernelRow>> {
    let mut rows = Vec::new();
    for (name, count) in [("decode", 1), ("decode-10", 10)] {
        if !spec.workloads.iter().any(|w| w == name) {
            continue;
        }
        const STEPS: usize = 4;
        let (root, seqs) = forks(llama, count, 256).await?;
        if !gpu.start_timing() {
            return Ok(Vec::new());
        }
        steps(llama, &seqs, tokens(count, 1), STEPS).await?;
        rows.extend(KernelRow::list(name, STEPS, gpu.stop_timing().await?));
        seqs.iter().chain([&root]).for_each(|seq| llama.free(*seq));
    }
    if spec.workloads.iter().any(|w| w == "prefill") {
        let seq = llama.start()?;
        gpu.start_timing();
        llama.forward(&[(seq, tokens(1024, 0))]).await?;
        rows.extend(KernelRow::list("prefill", 1, gpu.stop_timing().await?));
        llama.free(seq);
    }
    Ok(rows)
}
