//! Named workloads with one table of results, the same natively and in the page: tokens a second, bytes a second, how near that is
//! to the copy bandwidth measured on the same device in the same run, launches, and GPU time beside wall time.

mod encode;
mod load;
mod model;
mod report;
mod search;
mod spec;

pub use encode::EncodeRow;
pub use load::LoadRow;
pub use model::{Geometry, RandomLlama};
pub use report::{KernelRow, Memory, Report, Row};
pub use search::SearchRow;
pub use spec::{Order, Spec, format_named};

use serde::{Deserialize, Serialize};

use report::{known, percent, significant};

use crate::{
    Error, Result,
    generator::{
        Generator, SeqId,
        llama::{Llama, LlamaOptions, LoadProgress},
    },
    gpu::{Facts, Gpu, Grain, Recording},
    ops::{self, MAX_VEC_TOKENS},
    platform::now_ms,
    weights::Weights,
};

/// Names of the workloads and what they do.
pub const WORKLOADS: [(&str, &str); 12] = [
    (TUNE, "one step of one sequence by each plan; the quickest is in use for what comes after"),
    ("decode", "one sequence, from 256 tokens of context on"),
    ("decode-10", "ten sequences over one shared prefix of 256 tokens, in sum"),
    ("decode-2048", "one sequence, from 2,048 tokens of context on"),
    ("prefill", "ten sequences of 256 tokens, their last logits read"),
    ("short-form", "ten passages of 150 tokens after a prompt of 50, 100 new tokens each: one question, seconds"),
    (LOAD, "a GGUF file to the GPU, twice; it has a table of its own"),
    (
        "search-int8",
        "exact search over random rows of 768, for one question and for eight at once; a table of their own",
    ),
    ("search-f16", "the same in half floats"),
    ("search-f32", "the same in floats; natively, rows that the GPU has no room for are streamed from host memory"),
    ("encode-128", "passages of 128 tokens, embedded by an encoder of BERT-base's size; a table of their own"),
    ("encode-512", "the same with 512 tokens"),
];

/// The workload that chooses how steps are computed.
const TUNE: &str = "tune";
/// The workload that loads a file.
pub(crate) const LOAD: &str = "load";
/// How the names of the others begin that need no Llama.
const SEARCH: &str = "search-";
const ENCODE: &str = "encode-";

/// Tokens of an answer that compile what a workload needs.
pub(crate) const WARM_UP: usize = 6;
/// Milliseconds that a workload is at it before it is measured, on a GPU: one that was idle takes tenths of a second to raise its clock.
const WARM_UP_MS: f64 = 400.0;

/// What is going on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// In words.
    pub what: String,
    /// How much of it is done, 0 to 1, while that is known; the first word on something knows nothing.
    pub share: Option<f64>,
}

/// Runs the workloads of `spec`; `progress` hears what is going on. In a browser the future may be dropped at any time, and what it
/// held on the GPU goes with it.
pub async fn run(gpu: &Gpu, spec: &Spec, progress: &mut dyn FnMut(Progress)) -> Result<Report> {
    spec.check()?;
    let mut tell = |what: &str, share| progress(Progress { what: what.to_owned(), share });
    let mut report = Report::new(gpu, spec);
    tell("copy bandwidth", None);
    report.copy_gb_per_sec = copy_bandwidth(gpu).await?;
    if spec.workloads.iter().any(|w| w == LOAD) {
        report.load = Some(load::load(gpu, spec, &mut tell).await?);
    }
    for workload in spec.workloads.iter().filter(|w| w.starts_with(SEARCH)) {
        tell(workload, None);
        search::search(gpu, spec, workload, &mut report).await?;
    }
    let encoders: Vec<&String> = spec.workloads.iter().filter(|w| w.starts_with(ENCODE)).collect();
    if !encoders.is_empty() {
        encode::encode(gpu, spec, &encoders, &mut report, &mut tell).await?;
    }
    let is_llama = |w: &str| w != LOAD && !w.starts_with(SEARCH) && !w.starts_with(ENCODE);
    let workloads: Vec<&String> = spec.workloads.iter().filter(|w| is_llama(w)).collect();
    if workloads.is_empty() {
        return Ok(report);
    }
    let weights = RandomLlama::new(spec.geometry, spec.dtype);
    report.tensor_bytes = weights.bytes();
    let loading = format!("loading {} ({:.1} GB)", weights.name(), weights.bytes() as f64 / 1e9);
    tell(&loading, None);
    let before = gpu.allocated_bytes();
    let start = now_ms();
    let context = if spec.workloads.iter().any(|w| w == "decode-2048") { 2048 + spec.steps + 640 } else { 0 };
    let kv_tokens = Some((10 * 256 + 10 * (spec.steps + 16)).max(256 + 10 * spec.steps + 512).max(context).max(2700));
    let options = LlamaOptions { kv_tokens, ..LlamaOptions::default() };
    let mut on_load = |LoadProgress { bytes, total }| tell(&loading, Some(bytes as f64 / total.max(1) as f64));
    let mut llama = Llama::load(gpu, &weights, options, &mut on_load).await?;
    report.load_secs = (now_ms() - start) / 1e3;
    report.model_bytes = gpu.allocated_bytes() - before;
    let (weight_bytes, cache_bytes) = (llama.loaded().gpu_bytes, llama.cache_bytes());
    report.memory = Memory { weight_bytes, cache_bytes, other_bytes: report.model_bytes - weight_bytes - cache_bytes };
    llama.watch(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14]);
    for workload in workloads {
        tell(workload, None);
        let row = match workload.as_str() {
            TUNE => {
                tune(&mut llama, &mut report, weights.bytes_per_token()).await?;
                continue;
            }
            "decode" => decode(&mut llama, spec, workload, 1, 256).await?,
            "decode-10" => decode(&mut llama, spec, workload, 10, 256).await?,
            "decode-2048" => decode(&mut llama, spec, workload, 1, 2048).await?,
            "prefill" => prefill(&mut llama, workload).await?,
            "short-form" => short_form(&mut llama, workload).await?,
            other => return Err(Error::config("workloads", format!("{other:?} is none of {WORKLOADS:?}"))),
        };
        let per_pass = if workload == "prefill" { 0 } else { weights.bytes_per_token() };
        report.push(row, per_pass);
    }
    if spec.kernels {
        tell("kernels", None);
        report.kernels.extend(kernels(gpu, &mut llama, spec).await?);
    }
    report.bytes_after = gpu.allocated_bytes() - before;
    report.reserved_bytes = gpu.reserved_bytes();
    Ok(report)
}

/// Bytes of the copy: far more than caches hold, as far as the device allows; a software device has no time for so many.
fn copy_bytes(facts: &Facts) -> u64 {
    let most = if facts.software { 64 << 20 } else { 1 << 30 };
    most.min(facts.max_binding_bytes).min(facts.max_buffer_bytes) / 16 * 16
}

/// Bytes read plus bytes written a second by a large copy between buffers, best of several: GPU time where it can be measured.
async fn copy_bandwidth(gpu: &Gpu) -> Result<f64> {
    const COPIES: u32 = 8;
    let bytes = copy_bytes(gpu.facts());
    let (from, to) = (gpu.buffer("copy from", bytes)?, gpu.buffer("copy to", bytes)?);
    // One pass, so that a browser's rounded timestamps fall on the sum.
    let mut recording = Recording::new();
    (0..COPIES).for_each(|_| ops::copy(gpu, &mut recording, &from, &to, bytes));
    let mut best = 0.0f64;
    // A software device takes seconds for one, and has no clock speed to wait for.
    for _ in 0..if gpu.facts().software { 1 } else { 4 } {
        gpu.flush().await?;
        let ((), Clocks { secs, gpu_secs }) = timed(gpu, async || {
            recording.submit(gpu);
            gpu.flush().await
        })
        .await?;
        best = best.max(2.0 * f64::from(COPIES) * bytes as f64 / gpu_secs.unwrap_or(secs) / 1e9);
    }
    Ok(best)
}

/// A piece of work by both clocks.
#[derive(Debug, Clone, Copy)]
struct Clocks {
    secs: f64,
    gpu_secs: Option<f64>,
}

/// Does `work`, which must end with everything it submitted.
async fn timed<T>(gpu: &Gpu, work: impl AsyncFnOnce() -> Result<T>) -> Result<(T, Clocks)> {
    let timer = gpu.start_timing(Grain::Recording);
    let start = now_ms();
    let done = work().await?;
    // A browser's clock may stand still for as long as a tiny pass takes.
    let secs = ((now_ms() - start) / 1e3).max(1e-6);
    let gpu_secs = match timer {
        Some(timer) => timer.seconds().await?,
        None => None,
    };
    Ok((done, Clocks { secs, gpu_secs }))
}

/// Tokens that are not special, of as many kinds as the vocabulary has.
fn tokens(llama: &Llama, count: usize, seed: usize) -> Vec<u32> {
    let kinds = (llama.config().vocabulary - 100).min(30_000);
    (0..count).map(|i| ((i * 37 + seed * 101) % kinds + 100) as u32).collect()
}

/// `count` forks of a prefix.
async fn forks(llama: &mut Llama, count: usize, prefix: usize) -> Result<(SeqId, Vec<SeqId>)> {
    let root = llama.start()?;
    let prompt = tokens(llama, prefix, 0);
    llama.forward(&[(root, prompt)]).await?;
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

/// Steps of other sequences of the same number, until the clock is up. A software device has none to raise.
async fn warm_up(llama: &mut Llama, count: usize) -> Result<()> {
    let start = now_ms();
    while now_ms() - start < WARM_UP_MS && !llama.gpu().facts().software {
        let (root, seqs) = forks(llama, count, 16).await?;
        let first = tokens(llama, count, 1);
        steps(llama, &seqs, first, 32).await?;
        seqs.iter().chain([&root]).for_each(|seq| llama.free(*seq));
    }
    Ok(())
}

/// A row of what `work` does in `passes` passes over the weights.
async fn measured(
    llama: &mut Llama,
    (name, tokens, passes): (&str, usize, usize),
    work: impl AsyncFnOnce(&mut Llama) -> Result<()>,
) -> Result<Row> {
    let gpu = llama.gpu().clone();
    let launches = gpu.launches();
    let ((), Clocks { secs, gpu_secs }) = timed(&gpu, async || work(llama).await).await?;
    let launches = (gpu.launches() - launches) as f64 / passes as f64;
    Ok(Row { workload: name.into(), tokens, passes, secs, gpu_secs, launches, ..Row::default() })
}

/// A row for each plan that was tried.
async fn tune(llama: &mut Llama, report: &mut Report, bytes: u64) -> Result<()> {
    warm_up(llama, 1).await?;
    let tuned = llama.tune().await?;
    for (plan, ms) in tuned.tried {
        let chosen = if plan == tuned.plan { ", chosen" } else { "" };
        let row =
            Row { workload: format!("{TUNE}: {plan}{chosen}"), tokens: 1, passes: 1, secs: ms / 1e3, ..Row::default() };
        report.push(row, bytes);
    }
    Ok(())
}

async fn decode(llama: &mut Llama, spec: &Spec, name: &str, count: usize, context: usize) -> Result<Row> {
    let (root, seqs) = forks(llama, count, context).await?;
    let first = tokens(llama, count, 1);
    let next = steps(llama, &seqs, first, WARM_UP - 2).await?;
    warm_up(llama, count).await?;
    let next = steps(llama, &seqs, next, 2).await?;
    let row = measured(llama, (name, count * spec.steps, spec.steps), async |llama| {
        steps(llama, &seqs, next, spec.steps).await.map(drop)
    })
    .await?;
    seqs.iter().chain([&root]).for_each(|seq| llama.free(*seq));
    Ok(row)
}

async fn prefill(llama: &mut Llama, name: &str) -> Result<Row> {
    // Compiling the kernels is no part of it.
    let (seq, few) = (llama.start()?, tokens(llama, 2 * MAX_VEC_TOKENS, 0));
    llama.forward(&[(seq, few)]).await?;
    llama.free(seq);
    // A software device takes its time for one.
    let tries = if llama.gpu().facts().software { 1 } else { 5 };
    let mut best = Row { secs: f64::INFINITY, ..Row::default() };
    for _ in 0..tries {
        let seqs: Vec<SeqId> = (0..10).map(|_| llama.start()).collect::<Result<_>>()?;
        let batch: Vec<_> = seqs.iter().enumerate().map(|(i, seq)| (*seq, tokens(llama, 256, i))).collect();
        let row = measured(llama, (name, 2560, 1), async |llama| llama.forward(&batch).await.map(drop)).await?;
        seqs.iter().for_each(|seq| llama.free(*seq));
        if row.secs < best.secs {
            best = row;
        }
    }
    Ok(best)
}

async fn short_form(llama: &mut Llama, name: &str) -> Result<Row> {
    const NEW: usize = 100;
    warm_up(llama, 10).await?;
    // As for prefill.
    question(llama, WARM_UP).await?;
    measured(llama, (name, 10 * NEW, NEW), async |llama| question(llama, NEW).await).await
}

/// Ten passages after a prompt, `new` tokens each.
async fn question(llama: &mut Llama, new: usize) -> Result<()> {
    let (root, seqs) = forks(llama, 10, 50).await?;
    let batch: Vec<_> = seqs.iter().enumerate().map(|(i, seq)| (*seq, tokens(llama, 150, i))).collect();
    let first = llama.forward(&batch).await?.into_iter().map(|output| output.token).collect();
    steps(llama, &seqs, first, new - 1).await?;
    seqs.iter().chain([&root]).for_each(|seq| llama.free(*seq));
    Ok(())
}

/// GPU time of each kernel in a few steps of decoding and in one prefill; nothing where the device cannot tell.
async fn kernels(gpu: &Gpu, llama: &mut Llama, spec: &Spec) -> Result<Vec<KernelRow>> {
    let mut rows = Vec::new();
    for (name, count) in [("decode", 1), ("decode-10", 10)] {
        if !spec.workloads.iter().any(|w| w == name) {
            continue;
        }
        const STEPS: usize = 4;
        let (root, seqs) = forks(llama, count, 256).await?;
        let Some(timer) = gpu.start_timing(Grain::Kernel) else { return Ok(Vec::new()) };
        let first = tokens(llama, count, 1);
        steps(llama, &seqs, first, STEPS).await?;
        rows.extend(KernelRow::list(name, STEPS, timer.kernels().await?));
        seqs.iter().chain([&root]).for_each(|seq| llama.free(*seq));
    }
    if spec.workloads.iter().any(|w| w == "prefill") {
        let seq = llama.start()?;
        let Some(timer) = gpu.start_timing(Grain::Kernel) else { return Ok(Vec::new()) };
        let prompt = tokens(llama, 1024, 0);
        llama.forward(&[(seq, prompt)]).await?;
        rows.extend(KernelRow::list("prefill", 1, timer.kernels().await?));
        llama.free(seq);
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_large_where_the_device_allows_it() {
        let facts = Facts {
            name: String::new(),
            backend: String::new(),
            software: false,
            subgroups: false,
            f16: false,
            cooperative: false,
            max_binding_bytes: 1 << 32,
            max_buffer_bytes: 1 << 32,
            max_invocations: 256,
        };
        assert_eq!(copy_bytes(&facts), 1 << 30);
        assert_eq!(copy_bytes(&Facts { software: true, ..facts.clone() }), 64 << 20);
        assert_eq!(copy_bytes(&Facts { max_binding_bytes: (128 << 20) + 4, ..facts.clone() }), 128 << 20);
        assert_eq!(copy_bytes(&Facts { max_buffer_bytes: (1 << 28) - 1, ..facts }), (1 << 28) - 16);
    }
}
