//! The table.

use std::{collections::BTreeMap, fmt::Write};

use serde::Serialize;

use super::Spec;
use crate::gpu::{Facts, Gpu, KernelTime};

/// A workload's result.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Row {
    /// Its name.
    pub workload: String,
    /// Tokens read or written.
    pub tokens: usize,
    /// Times the weights were needed.
    pub passes: usize,
    /// Wall time.
    pub secs: f64,
    /// Launches a pass.
    pub launches: f64,
    /// Tokens a second.
    pub tokens_per_sec: f64,
    /// Weight bytes a second, for workloads that are bound by them.
    pub gb_per_sec: Option<f64>,
    /// The same as a share of the copy bandwidth.
    pub of_copy: Option<f64>,
}

/// A kernel's share of a workload.
#[derive(Debug, Clone, PartialEq, Serialize)]
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
        rows.sort_by(|a, b| b.micros.total_cmp(&a.micros));
        rows
    }
}

/// Everything measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The device.
    pub device: Facts,
    /// Geometry and format.
    pub model: String,
    /// Bytes of the model's tensors in a GGUF file.
    pub tensor_bytes: u64,
    /// GPU memory of the loaded model: weights, KV cache, activations.
    pub model_bytes: u64,
    /// The same after all workloads.
    pub bytes_after: u64,
    /// Making the weights and moving them to the GPU.
    pub load_secs: f64,
    /// A large copy: bytes read plus written.
    pub copy_gb_per_sec: f64,
    /// A row a workload.
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
            bytes_after: 0,
            load_secs: 0.0,
            copy_gb_per_sec: 0.0,
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
        self.rows.push(row);
    }

    /// As Markdown.
    pub fn markdown(&self) -> String {
        let gb = |bytes: u64| bytes as f64 / 1e9;
        let mut out = format!(
            "{} on {} ({}{}{}{}); copy {:.0} GB/s; tensors {:.2} GB, on the GPU {:.2} GB ({:.2} after), load {:.1} s\n\n",
            self.model,
            if self.device.name.is_empty() { "an unnamed device" } else { &self.device.name },
            self.device.backend,
            if self.device.subgroups { ", subgroups" } else { "" },
            if self.device.f16 { ", f16" } else { "" },
            if self.device.cooperative { ", cooperative matrices" } else { "" },
            self.copy_gb_per_sec,
            gb(self.tensor_bytes),
            gb(self.model_bytes),
            gb(self.bytes_after),
            self.load_secs
        );
        out += "| workload | tok/s | ms a pass | GB/s | of copy | launches a pass |\n| --- | --- | --- | --- | --- | --- |\n";
        for row in &self.rows {
            let rate = row.gb_per_sec.map_or_else(|| "–".into(), |rate| format!("{rate:.0}"));
            let share = row.of_copy.map_or_else(|| "–".into(), |share| format!("{:.0} %", share * 100.0));
            let _ = writeln!(
                out,
                "| {} | {:.1} | {:.2} | {rate} | {share} | {:.0} |",
                row.workload,
                row.tokens_per_sec,
                row.secs * 1e3 / row.passes as f64,
                row.launches / if row.workload == "short-form" { row.passes as f64 } else { 1.0 }
            );
        }
        if !self.kernels.is_empty() {
            out += "\n| workload | kernel | launches a pass | µs a pass | µs a launch |\n| --- | --- | --- | --- | --- |\n";
            for row in &self.kernels {
                let _ = writeln!(
                    out,
                    "| {} | {} | {:.0} | {:.0} | {:.1} |",
                    row.workload,
                    row.kernel,
                    row.launches,
                    row.micros,
                    row.micros / row.launches
                );
            }
        }
        out
    }
}
