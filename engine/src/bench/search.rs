//! The workloads `search-int8`, `search-f16` and `search-f32`: exact search over random rows, for one question and for eight at once.
//! Natively, rows that the GPU has no room for are streamed from host memory, and 64 questions are measured too.

use serde::{Deserialize, Serialize};

use super::{Clocks, Geometry, KernelRow, Report, Spec, WARM_UP_MS, known, percent, significant, timed};
use crate::{
    Result,
    gpu::{Gpu, Grain},
    ops::{MOST_QUESTIONS, self_test::Random},
    platform::now_ms,
    retriever::vectors::{Precision, Vectors},
};
#[cfg(not(feature = "cli"))]
use crate::{error::GpuError, retriever::flat_gpu::FlatGpu as Searched};
#[cfg(feature = "cli")]
use crate::{
    platform::available_memory,
    retriever::flat_stream::{FlatStream as Searched, MOST_AT_ONCE},
};

/// Values of a row, Contriever's.
const DIM: usize = 768;
/// Results a question.
const BEST: usize = 100;
/// English Wikipedia in passages of a hundred words.
const ROWS: usize = 21_000_000;
/// For software devices and tabs.
const FEW_ROWS: usize = 20_000;
/// With the geometry `tiny`.
const TINY_ROWS: usize = 2000;
/// Bytes of the random rows that are made; the GPU repeats them.
const PIECE: usize = 16 << 20;

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SearchRow {
    /// The workload's name.
    pub workload: String,
    /// Rows searched: what was asked for, or what the device has memory for.
    pub rows: usize,
    /// Rows asked for.
    pub wanted_rows: usize,
    /// Values of a row.
    pub dim: usize,
    /// Bytes of the rows, scales included.
    pub bytes: u64,
    /// Bytes of those that are streamed from host memory in each search.
    pub streamed_bytes: u64,
    /// These a second, of the whole search's time.
    pub streamed_gb_per_sec: f64,
    /// Questions at once.
    pub questions: usize,
    /// Results a question.
    pub best: usize,
    /// Seconds for all questions, results on the host; the best of several.
    pub secs: f64,
    /// GPU time of the same search, where the device can tell.
    pub gpu_secs: Option<f64>,
    /// Launches of a search.
    pub launches: f64,
    /// Rows scored a second, for all questions.
    pub rows_per_sec: f64,
    /// Bytes of the rows a second, read once for all questions.
    pub gb_per_sec: f64,
    /// The same as a share of the copy bandwidth.
    pub of_copy: f64,
}

/// Adds both rows of a workload to the report, and their kernels' if these are wanted.
pub(super) async fn search(gpu: &Gpu, spec: &Spec, workload: &str, report: &mut Report) -> Result<()> {
    let precision = Precision::ALL.into_iter().find(|p| workload.ends_with(p.name())).unwrap_or(Precision::Int8);
    let wanted = spec.rows.unwrap_or_else(|| default_rows(gpu, spec.geometry));
    let mut flat = room(gpu, spec, precision, wanted).await?;
    let mut random = Random::new(1);
    let mut piece = Vectors::new(precision, DIM);
    let row_bytes = precision.file_bytes(1, DIM as u64).expect("a row is small") as usize;
    let made = (PIECE / row_bytes).min(wanted).next_multiple_of(64);
    (0..made).for_each(|_| piece.push(&random.values(DIM)));
    flat.fill(&piece).await?;
    let (streamed_bytes, counts) = streamed(&flat);
    let questions: Vec<Vec<f32>> = (0..counts[counts.len() - 1]).map(|_| random.values(DIM)).collect();
    for count in counts.iter().copied() {
        let questions = &questions[..count];
        let (start, software) = (now_ms(), gpu.facts().software);
        loop {
            flat.search(questions, BEST).await?;
            if software || now_ms() - start > WARM_UP_MS {
                break;
            }
        }
        let mut best = Clocks { secs: f64::INFINITY, gpu_secs: None };
        let tries = match (software, streamed_bytes) {
            (true, _) => 2,
            (_, 0) => 20,
            _ => 5,
        };
        let launches = gpu.launches();
        for _ in 0..tries {
            let (_, clocks) = timed(gpu, async || flat.search(questions, BEST).await).await?;
            if clocks.secs < best.secs {
                best = clocks;
            }
        }
        let Clocks { secs, gpu_secs } = best;
        let (bytes, scored) = (flat.bytes(), flat.rows() * count);
        report.searches.push(SearchRow {
            workload: workload.into(),
            rows: flat.rows(),
            wanted_rows: wanted,
            dim: DIM,
            bytes,
            streamed_bytes,
            streamed_gb_per_sec: streamed_bytes as f64 / secs / 1e9,
            questions: count,
            best: BEST.min(flat.rows()),
            secs,
            gpu_secs,
            launches: (gpu.launches() - launches) as f64 / f64::from(tries),
            rows_per_sec: scored as f64 / secs,
            gb_per_sec: bytes as f64 / secs / 1e9,
            of_copy: bytes as f64 / secs / 1e9 / report.copy_gb_per_sec,
        });
        if let Some(timer) = gpu.start_timing(Grain::Kernel).filter(|_| spec.kernels) {
            flat.search(questions, BEST).await?;
            let name = format!("{workload}, {count} at once");
            report.kernels.extend(KernelRow::list(&name, 1, timer.kernels().await?));
        }
    }
    Ok(())
}

fn default_rows(gpu: &Gpu, geometry: Geometry) -> usize {
    let facts = gpu.facts();
    match geometry.name == Geometry::TINY.name {
        true => TINY_ROWS,
        false if facts.software || facts.backend == "BrowserWebGpu" => FEW_ROWS,
        false => ROWS,
    }
}

/// Memory for so many rows and a search, on GPU and host.
#[cfg(feature = "cli")]
async fn room(gpu: &Gpu, spec: &Spec, precision: Precision, wanted: usize) -> Result<Searched> {
    // A tenth is left to others.
    let host = available_memory().map_or(u64::MAX, |bytes| bytes / 10 * 9);
    Searched::with_rows(gpu, (precision, DIM, wanted), spec.gpu_memory, host).await
}

/// Bytes that are streamed, and the numbers of questions to measure.
#[cfg(feature = "cli")]
fn streamed(flat: &Searched) -> (u64, &'static [usize]) {
    match flat.streaming() {
        Some(streaming) => (streaming.streamed_bytes, &[1, MOST_QUESTIONS, MOST_AT_ONCE]),
        None => (0, &[1, MOST_QUESTIONS]),
    }
}

#[cfg(not(feature = "cli"))]
fn streamed(_: &Searched) -> (u64, &'static [usize]) {
    (0, &[1, MOST_QUESTIONS])
}

/// Memory for so many rows and a search, or for a half, a quarter, …
#[cfg(not(feature = "cli"))]
async fn room(gpu: &Gpu, _: &Spec, precision: Precision, wanted: usize) -> Result<Searched> {
    let mut rows = wanted;
    while rows > 0 {
        let made = gpu.if_room(|| {
            let mut flat = Searched::with_rows(gpu, precision, DIM, rows)?;
            flat.prepare(MOST_QUESTIONS, BEST)?;
            Ok(flat)
        });
        if let Some(flat) = made.await? {
            return Ok(flat);
        }
        // What was taken before the last refusal is free when the device has heard of it.
        gpu.flush().await?;
        rows /= 2;
    }
    Err(GpuError::OutOfMemory("not even a row of a search fits".into()).into())
}

impl SearchRow {
    /// What [`SearchRow::cells`] holds.
    pub const COLUMNS: [&str; 10] = [
        "workload",
        "rows",
        "GB",
        "questions at once",
        "ms a question",
        "GPU ms a question",
        "launches",
        "million rows/s",
        "GB/s",
        "of copy",
    ];

    /// Gigabytes, and what of them is streamed at which rate.
    fn size(&self) -> String {
        let gb = format!("{:.3}", self.bytes as f64 / 1e9);
        if self.streamed_bytes == 0 {
            return gb;
        }
        let share = percent(self.streamed_bytes as f64 / self.bytes as f64);
        let (streamed, rate) = (self.streamed_bytes as f64 / 1e9, significant(self.streamed_gb_per_sec));
        format!("{gb}, {share} ({streamed:.3}) streamed at {rate} GB/s")
    }

    /// The row as people read it.
    pub fn cells(&self) -> [String; 10] {
        let questions = self.questions as f64;
        let less = if self.rows < self.wanted_rows {
            format!(" of {}, what memory allows", self.wanted_rows)
        } else {
            String::new()
        };
        [
            self.workload.clone(),
            format!("{} × {}{less}", self.rows, self.dim),
            self.size(),
            format!("{}, the best {}", self.questions, self.best),
            format!("{:.3}", self.secs * 1e3 / questions),
            known(self.gpu_secs, |secs| format!("{:.3}", secs * 1e3 / questions)),
            format!("{:.0}", self.launches),
            significant(self.rows_per_sec / 1e6),
            significant(self.gb_per_sec),
            percent(self.of_copy),
        ]
    }
}
