//! The workload `load`: a model from its file to the GPU, twice. The second time the file is in memory, as far as memory goes.

use serde::{Deserialize, Serialize};

use super::{RandomLlama, Spec};
use crate::{
    Result,
    generator::llama::{Llama, LlamaOptions, LoadProgress, Loaded},
    gpu::Gpu,
    platform::{ByteSource, Temporary, forget_peak_memory, open_source, peak_memory},
    weights::{Gguf, Weights, gguf::encode_header},
};

/// What came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoadRow {
    /// The file, or the first of several.
    pub model: String,
    /// Bytes of the tensors in the file.
    pub file_bytes: u64,
    /// Bytes of the same weights on the GPU.
    pub gpu_bytes: u64,
    /// Seconds the first time.
    pub first_secs: f64,
    /// Seconds the second time.
    pub secs: f64,
    /// Megabytes of the file a second, the second time.
    pub mb_per_sec: f64,
    /// Host memory at its most during the second load, above what was held before it; where the system tells. A software
    /// device's memory is the host's.
    pub host_peak_bytes: Option<u64>,
}

/// Bytes written at a time.
const PIECE: usize = 16 << 20;

/// Loads the model that `spec` names, or one of its geometry that is written for this.
pub(super) async fn load(gpu: &Gpu, spec: &Spec, tell: &mut dyn FnMut(&str, Option<f64>)) -> Result<LoadRow> {
    let (_file, places) = match spec.model.is_empty() {
        true => {
            tell("writing a model", None);
            let file = write(&RandomLlama::new(spec.geometry, spec.dtype), tell).await?;
            let places = vec![file.place()];
            (Some(file), places)
        }
        false => (None, spec.model.clone()),
    };
    let first = once(gpu, &places, tell).await?;
    forget_peak_memory();
    let before = peak_memory();
    let second = once(gpu, &places, tell).await?;
    let Loaded { file_bytes, gpu_bytes, secs } = second;
    Ok(LoadRow {
        model: places[0].clone(),
        file_bytes,
        gpu_bytes,
        first_secs: first.secs,
        secs,
        mb_per_sec: file_bytes as f64 / secs.max(1e-6) / 1e6,
        host_peak_bytes: peak_memory().zip(before).map(|(peak, before)| peak.saturating_sub(before)),
    })
}

async fn once(gpu: &Gpu, places: &[String], tell: &mut dyn FnMut(&str, Option<f64>)) -> Result<Loaded> {
    let mut files: Vec<Box<dyn ByteSource>> = Vec::new();
    for place in places {
        files.push(open_source(place).await?);
    }
    let weights = Gguf::open(files).await?;
    // Hardly anything beside the weights.
    let options = LlamaOptions { kv_tokens: Some(256), max_rows: Some(32), ..LlamaOptions::default() };
    tell("load", None);
    let mut on_load = |LoadProgress { bytes, total }| tell("load", Some(bytes as f64 / total.max(1) as f64));
    Ok(Llama::load(gpu, &weights, options, &mut on_load).await?.loaded())
}

/// A GGUF file of these weights.
async fn write(weights: &dyn Weights, tell: &mut dyn FnMut(&str, Option<f64>)) -> Result<Temporary> {
    let (header, offsets) = encode_header(weights.metadata(), weights.tensors())?;
    let mut file = Temporary::create("bench.gguf")?;
    file.append(&header)?;
    let mut written = 0;
    for (i, (tensor, offset)) in weights.tensors().iter().zip(offsets).enumerate() {
        // A tensor begins at a multiple of the alignment.
        file.append(&vec![0; (offset - written) as usize])?;
        written = offset;
        let rows = tensor.matrix().0;
        let step = (PIECE / tensor.row_bytes().max(1)).max(1);
        for first in (0..rows).step_by(step) {
            let bytes = weights.read_rows(tensor, first, step.min(rows - first)).await?;
            file.append(&bytes)?;
            written += bytes.len() as u64;
        }
        tell("writing a model", Some((i + 1) as f64 / weights.tensors().len() as f64));
    }
    Ok(file)
}

impl LoadRow {
    /// What [`LoadRow::cells`] holds.
    pub const COLUMNS: [&str; 7] =
        ["model", "GB", "on the GPU", "s", "s again", "MB/s again", "host memory at most above before"];

    /// The row as people read it.
    pub fn cells(&self) -> [String; 7] {
        [
            self.model.clone(),
            format!("{:.3}", self.file_bytes as f64 / 1e9),
            format!("{:.3} ×", self.gpu_bytes as f64 / self.file_bytes.max(1) as f64),
            format!("{:.2}", self.first_secs),
            format!("{:.2}", self.secs),
            format!("{:.0}", self.mb_per_sec),
            self.host_peak_bytes.map_or_else(|| "–".into(), |bytes| format!("{:.0} MB", bytes as f64 / 1e6)),
        ]
    }
}
