//! The table.

use std::{collections::BTreeMap, fmt::Write};

use serde::{Deserialize, Serialize};

use super::{EncodeRow, LoadRow, SearchRow, Spec};
use crate::{
    gpu::{Facts, Gpu, KernelTime},
    order::sort_by,
};

/// A workload's result.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Its name.
    pub workload: String,
    /// Tokens read or written.
    pub tokens: usize,
    /// Times the weights were needed.
    pub passes: usize,
    /// Wall time.
    pub secs: f64,
    /// GPU time of the same passes, gaps between kernels included, transfers not; where the device can tell.
    pub gpu_secs: Option<f64>,
    /// Launches a pass.
    pub launches: f64,
    /// Tokens a second.
    pub tokens_per_sec: f64,
    /// Weight bytes a second, for workloads that are bound by them.
    pub gb_per_sec: Option<f64>,
    /// The same as a share of the copy bandwidth.
    pub of_copy: Option<f64>,
    /// Launches a token.
    pub launches_per_token: f64,
    /// Milliseconds of GPU time a token.
    pub gpu_ms_per_token: Option<f64>,
    /// GPU time as a share of wall time.
    pub gpu_of_wall: Option<f64>,
}

/// A kernel's share of a workload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KernelRow {
    /// The workload.
    pub workload: String,
    /// The shader.
    pub kernel: String,
    /// Launches a pass.
    pub launches: f64,
    /// Microseconds of GPU time a pass.
    pub micros: f64,
}

impl KernelRow {
    /// Rows of one measurement over `passes` passes, longest first.
    pub(super) fn list(workload: &str, passes: usize, times: BTreeMap<String, KernelTime>) -> Vec<Self> {
        let mut rows: Vec<Self> = times
            .into_iter()
            .map(|(kernel, time)| Self {
                workload: workload.into(),
                kernel,
                launches: f64::from(time.launches) / passes as f64,
                micros: time.nanos / 1e3 / passes as f64,
            })
            .collect();
        sort_by(&mut rows, |a, b| b.micros.total_cmp(&a.micros));
        rows
    }
}

/// GPU memory of a loaded model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Weights in GPU layout.
    pub weight_bytes: u64,
    /// Keys and values.
    pub cache_bytes: u64,
    /// Activations and small tables.
    pub other_bytes: u64,
}

/// Everything measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The device.
    pub device: Facts,
    /// Geometry and format.
    pub model: String,
    /// Bytes of the model's tensors in a GGUF file.
    pub tensor_bytes: u64,
    /// GPU memory of the loaded model: weights, KV cache, activations.
    pub model_bytes: u64,
    /// What it is for.
    pub memory: Memory,
    /// The same after all workloads.
    pub bytes_after: u64,
    /// What the driver was asked for by then, staging and gaps included; browsers do not tell.
    pub reserved_bytes: Option<u64>,
    /// Making the weights and moving them to the GPU.
    pub load_secs: f64,
    /// A large copy by a kernel: bytes read plus written a second.
    pub copy_gb_per_sec: f64,
    /// The workload `load`.
    pub load: Option<LoadRow>,
    /// The workloads `search-…`, two rows each.
    pub searches: Vec<SearchRow>,
    /// The workloads `encode-…`.
    pub encodes: Vec<EncodeRow>,
    /// A row for each other workload.
    pub rows: Vec<Row>,
    /// A row a kernel.
    pub kernels: Vec<KernelRow>,
}

impl Report {
    pub(super) fn new(gpu: &Gpu, spec: &Spec) -> Self {
        Self {
            device: gpu.facts().clone(),
            model: format!("{} {}", spec.geometry.name, spec.dtype.name()),
            tensor_bytes: 0,
            model_bytes: 0,
            memory: Memory::default(),
            bytes_after: 0,
            reserved_bytes: None,
            load_secs: 0.0,
            copy_gb_per_sec: 0.0,
            load: None,
            searches: Vec::new(),
            encodes: Vec::new(),
            rows: Vec::new(),
            kernels: Vec::new(),
        }
    }

    /// Adds a row; `pass_bytes` are the weights a pass reads, 0 where the work is not bound by them.
    pub(super) fn push(&mut self, mut row: Row, pass_bytes: u64) {
        row.tokens_per_sec = row.tokens as f64 / row.secs;
        if pass_bytes > 0 {
            let rate = pass_bytes as f64 * row.passes as f64 / row.secs / 1e9;
            row.gb_per_sec = Some(rate);
            row.of_copy = Some(rate / self.copy_gb_per_sec);
        }
        row.launches_per_token = row.launches * row.passes as f64 / row.tokens as f64;
        row.gpu_ms_per_token = row.gpu_secs.map(|secs| secs * 1e3 / row.tokens as f64);
        row.gpu_of_wall = row.gpu_secs.map(|secs| secs / row.secs);
        self.rows.push(row);
    }

    /// Device, copy bandwidth, memory and load time in a line; the last two where a model was loaded to be run.
    pub fn summary(&self) -> String {
        let mut line = format!(
            "{} on {} ({}{}{}{}); copy {} GB/s",
            self.model,
            if self.device.name.is_empty() { "an unnamed device" } else { &self.device.name },
            self.device.backend,
            if self.device.subgroups { ", subgroups" } else { "" },
            if self.device.f16 { ", f16" } else { "" },
            if self.device.cooperative { ", cooperative matrices" } else { "" },
            significant(self.copy_gb_per_sec),
        );
        if self.model_bytes > 0 {
            let gb = |bytes: u64| bytes as f64 / 1e9;
            let Memory { weight_bytes, cache_bytes, other_bytes } = self.memory;
            let _ = write!(
                line,
                "; tensors {:.2} GB, on the GPU {:.2} GB ({:.2} after): weights {:.3} ×, KV cache {:.2} GB, the rest {:.3} GB",
                gb(self.tensor_bytes),
                gb(self.model_bytes),
                gb(self.bytes_after),
                weight_bytes as f64 / self.tensor_bytes as f64,
                gb(cache_bytes),
                gb(other_bytes),
            );
            if let Some(reserved) = self.reserved_bytes {
                let _ = write!(line, ", reserved {:.2} GB", gb(reserved));
            }
            let _ = write!(line, "; load {:.1} s", self.load_secs);
        }
        line
    }

    /// As Markdown.
    pub fn markdown(&self) -> String {
        let mut out = format!("{}\n\n", self.summary());
        if let Some(load) = &self.load {
            table(&mut out, &LoadRow::COLUMNS, std::iter::once(load.cells()));
            out.push('\n');
        }
        if !self.searches.is_empty() {
            table(&mut out, &SearchRow::COLUMNS, self.searches.iter().map(SearchRow::cells));
            out.push('\n');
        }
        if !self.encodes.is_empty() {
            table(&mut out, &EncodeRow::COLUMNS, self.encodes.iter().map(EncodeRow::cells));
            out.push('\n');
        }
        if !self.rows.is_empty() {
            table(&mut out, &Row::COLUMNS, self.rows.iter().map(Row::cells));
        }
        if !self.kernels.is_empty() {
            out.push('\n');
            table(&mut out, &KernelRow::COLUMNS, self.kernels.iter().map(KernelRow::cells));
        }
        out
    }
}

fn table<const N: usize>(out: &mut String, columns: &[&str; N], rows: impl Iterator<Item = [String; N]>) {
    let _ = writeln!(out, "| {} |\n|{}", columns.join(" | "), " --- |".repeat(N));
    for row in rows {
        let _ = writeln!(out, "| {} |", row.join(" | "));
    }
}

impl Row {
    /// What [`Row::cells`] holds.
    pub const COLUMNS: [&str; 10] = [
        "workload",
        "tok/s",
        "GB/s",
        "of copy",
        "launches a token",
        "GPU ms a token",
        "launches a pass",
        "ms a pass",
        "GPU ms a pass",
        "GPU of wall",
    ];

    /// The row as people read it.
    pub fn cells(&self) -> [String; 10] {
        let passes = self.passes as f64;
        [
            self.workload.clone(),
            format!("{:.1}", self.tokens_per_sec),
            known(self.gb_per_sec, significant),
            known(self.of_copy, percent),
            format!("{:.1}", self.launches_per_token),
            known(self.gpu_ms_per_token, |ms| format!("{ms:.3}")),
            format!("{:.0}", self.launches),
            format!("{:.2}", self.secs * 1e3 / passes),
            known(self.gpu_secs, |secs| format!("{:.2}", secs * 1e3 / passes)),
            known(self.gpu_of_wall, percent),
        ]
    }
}

impl KernelRow {
    /// What [`KernelRow::cells`] holds.
    pub const COLUMNS: [&str; 5] = ["workload", "kernel", "launches a pass", "µs a pass", "µs a launch"];

    /// The row as people read it.
    pub fn cells(&self) -> [String; 5] {
        [
            self.workload.clone(),
            self.kernel.clone(),
            format!("{:.0}", self.launches),
            format!("{:.0}", self.micros),
            format!("{:.1}", self.micros / self.launches),
        ]
    }
}

/// Hundreds of GB/s need no fraction, and a software device's few have nothing else.
pub(super) fn significant(rate: f64) -> String {
    if rate < 10.0 { format!("{rate:.2}") } else { format!("{rate:.0}") }
}

/// A share.
pub(super) fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// A value that a device may not tell.
pub(super) fn known(value: Option<f64>, show: impl FnOnce(f64) -> String) -> String {
    value.map_or_else(|| "–".into(), show)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report {
            device: Facts {
                name: "a card".into(),
                backend: "Vulkan".into(),
                software: false,
                subgroups: true,
                f16: false,
                cooperative: false,
                max_binding_bytes: 1 << 30,
                max_buffer_bytes: 1 << 30,
                max_invocations: 256,
            },
            model: "tiny q4_0".into(),
            tensor_bytes: 9_000_000,
            model_bytes: 20_000_000,
            memory: Memory { weight_bytes: 9_090_000, cache_bytes: 8_000_000, other_bytes: 2_910_000 },
            bytes_after: 20_000_000,
            reserved_bytes: Some(64_000_000),
            load_secs: 0.5,
            copy_gb_per_sec: 100.0,
            load: None,
            searches: Vec::new(),
            encodes: Vec::new(),
            rows: Vec::new(),
            kernels: Vec::new(),
        }
    }

    #[test]
    fn a_row_is_completed_from_what_was_measured() {
        let mut report = report();
        let row =
            Row { workload: "decode-10".into(), tokens: 80, passes: 8, secs: 0.4, launches: 30.0, ..Row::default() };
        report.push(Row { gpu_secs: Some(0.2), ..row.clone() }, 1_000_000_000);
        report.push(row, 0);
        let [bound, free] = &report.rows[..] else { panic!("two rows") };
        assert_eq!((bound.tokens_per_sec, bound.gb_per_sec, bound.of_copy), (200.0, Some(20.0), Some(0.2)));
        assert_eq!((bound.launches_per_token, bound.gpu_ms_per_token, bound.gpu_of_wall), (3.0, Some(2.5), Some(0.5)));
        assert_eq!((free.gb_per_sec, free.of_copy, free.gpu_ms_per_token, free.gpu_of_wall), (None, None, None, None));
        let markdown = report.markdown();
        let lines: Vec<&str> = markdown.lines().filter(|line| line.starts_with("| decode-10")).collect();
        assert_eq!(lines[0], "| decode-10 | 200.0 | 20 | 20 % | 3.0 | 2.500 | 30 | 50.00 | 25.00 | 50 % |");
        assert_eq!(lines[1], "| decode-10 | 200.0 | – | – | 3.0 | – | 30 | 50.00 | – | – |");
    }

    #[test]
    fn the_summary_says_where_memory_goes() {
        let mut report = report();
        let memory =
            "on the GPU 0.02 GB (0.02 after): weights 1.010 ×, KV cache 0.01 GB, the rest 0.003 GB, reserved 0.06 GB";
        assert!(report.summary().contains(memory), "{}", report.summary());
        // Where nothing but loading was measured there is no model to speak of.
        (report.model_bytes, report.load) = (0, Some(load()));
        assert!(report.summary().ends_with("copy 100 GB/s"), "{}", report.summary());
        let line = "| a.gguf | 4.000 | 1.005 × | 3.00 | 2.00 | 2000 | 64 MB |";
        assert!(report.markdown().trim_end().ends_with(line), "{}", report.markdown());
    }

    fn load() -> LoadRow {
        LoadRow {
            model: "a.gguf".into(),
            file_bytes: 4_000_000_000,
            gpu_bytes: 4_020_000_000,
            first_secs: 3.0,
            secs: 2.0,
            mb_per_sec: 2000.0,
            host_peak_bytes: Some(64_000_000),
        }
    }

    #[test]
    fn a_report_survives_its_json() {
        let mut report = Report { load: Some(load()), ..report() };
        report.push(Row { workload: "prefill".into(), tokens: 10, passes: 1, secs: 1.0, ..Row::default() }, 0);
        let json = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
    }
}
