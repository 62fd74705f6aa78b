//! What several tests share: the GPU, goldens, and how values are compared.

#![allow(dead_code, reason = "each test uses its part")]

mod fake;
mod scratch;

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
};

use selfrag::{
    gpu::{Gpu, Options},
    platform::block_on,
};
use sha2::{Digest, Sha256};
#[allow(unused_imports, reason = "each test uses its part")]
pub(crate) use {fake::Fake, scratch::Scratch};

/// The device; the tests need one, a software one will do.
pub(crate) fn gpu() -> Gpu {
    block_on(Gpu::open(Options::default())).expect("the tests need a GPU; a software one (lavapipe) will do")
}

/// A model that the set-up fetched or made.
pub(crate) fn model(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models").join(name);
    assert!(path.exists(), "{} is missing: run `cargo xtask setup`", path.display());
    path
}

/// A file's SHA-256 in hexadecimal, read a megabyte at a time.
pub(crate) fn sha256(path: &Path) -> String {
    let mut file = fs::File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let (mut hasher, mut piece) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut piece).expect("a file that was just written can be read") {
            0 => return hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect(),
            n => hasher.update(&piece[..n]),
        }
    }
}

/// Largest difference over the largest expected size.
pub(crate) fn relative_error(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len(), "as many values as expected");
    let size = expected.iter().fold(1e-6f32, |m, v| m.max(v.abs()));
    // f32::max ignores NaN, so count it as infinitely wrong.
    found
        .iter()
        .zip(expected)
        .map(|(f, e)| if f.is_nan() { f32::INFINITY } else { (f - e).abs() / size })
        .fold(0.0, f32::max)
}

/// A golden of tests/golden.
pub(crate) struct Golden {
    pub(crate) folder: PathBuf,
    pub(crate) tokens: Vec<u32>,
    pub(crate) greedy: Vec<u32>,
    pub(crate) json: serde_json::Value,
}

impl Golden {
    /// Reads `name` (a .json file, or a folder with golden.json).
    pub(crate) fn read(name: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden").join(name);
        let file = if path.is_dir() { path.join("golden.json") } else { path.clone() };
        let text = fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let json: serde_json::Value = serde_json::from_str(&text).expect("goldens are JSON");
        Self::of(path, json)
    }

    fn of(folder: PathBuf, json: serde_json::Value) -> Self {
        let ids = |key: &str| integers(&json[key]);
        Self { folder, tokens: ids("tokens"), greedy: ids("greedy"), json: json.clone() }
    }

    /// The logits file, checked against the number of columns.
    pub(crate) fn logits(&self, cols: usize) -> Vec<f32> {
        assert_eq!(self.json["logits_shape"][1].as_u64(), Some(cols as u64), "vocabulary");
        let bytes = fs::read(self.folder.join("logits.f32")).expect("logits beside the golden");
        bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
    }

    /// The part of a golden under `key`; what the part lacks is the whole's.
    pub(crate) fn part(&self, key: &str) -> Self {
        let mut json = self.json.clone();
        let part = json[key].as_object().unwrap_or_else(|| panic!("{}: no {key}", self.folder.display())).clone();
        json.as_object_mut().expect("goldens are objects").extend(part);
        Self::of(self.folder.clone(), json)
    }

    /// The best and some random logits, and the log-sum-exp; returns the largest relative error.
    pub(crate) fn check_sampled_logits(&self, logits: &[f32], tolerance: f32) -> f32 {
        let mut largest = 0f32;
        for (ids, values) in [("top_ids", "top_logits"), ("sample_ids", "sample_logits")] {
            let found: Vec<f32> = integers(&self.json[ids]).iter().map(|i| logits[*i as usize]).collect();
            let error = relative_error(&found, &floats(&self.json[values]));
            assert!(error < tolerance, "{values} are off by {error}");
            largest = largest.max(error);
        }
        let highest = logits.iter().copied().fold(f32::MIN, f32::max);
        let sum: f64 = logits.iter().map(|v| f64::from(v - highest).exp()).sum();
        let found = f64::from(highest) + sum.ln();
        let expected = self.json["logsumexp"].as_f64().expect("a number");
        assert!(
            (found - expected).abs() < f64::from(tolerance) * expected.abs(),
            "log-sum-exp {found}, expected {expected}"
        );
        largest
    }
}

pub(crate) fn integers(value: &serde_json::Value) -> Vec<u32> {
    value.as_array().into_iter().flatten().map(|v| v.as_u64().expect("an id") as u32).collect()
}

pub(crate) fn floats(value: &serde_json::Value) -> Vec<f32> {
    value.as_array().into_iter().flatten().map(|v| v.as_f64().expect("a number") as f32).collect()
}
