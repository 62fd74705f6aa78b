//! How passages are searched, as options.

use crate::{
    gpu::Gpu,
    retriever::{Retriever, index::Method},
};

/// Options of every command that searches an index.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct SearchArgs {
    /// Search the index's HNSW graph on the CPU instead of all vectors on the GPU; of a clustered index, its graph of centroids.
    #[arg(long)]
    pub(super) hnsw: bool,
    /// GPU memory for the index's vectors, in bytes or as 500M or 8G (10⁹): the others stay in host memory and are streamed for each
    /// search [default: what the GPU gives].
    #[arg(long, value_name = "BYTES", value_parser = bytes, conflicts_with = "hnsw")]
    pub(super) gpu_memory: Option<u64>,
}

impl SearchArgs {
    /// The way to search.
    pub(super) fn method(&self, gpu: &Gpu) -> Method {
        if self.hnsw { Method::Hnsw } else { Method::ExactGpuWithin(gpu.clone(), self.gpu_memory) }
    }
}

/// Says what of an index is streamed, and what a search costs, where something is.
pub(super) fn tell(index: &str, retriever: &dyn Retriever) {
    if let Some(streaming) = retriever.streaming() {
        eprintln!("{index}: {streaming}");
    }
}

/// A number of bytes, with K, M, G or T for thousands, millions, …
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    let expected = || format!("{text:?}: bytes expected, as 8000000, 500M or 8G");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text[digits.len()..].to_ascii_uppercase().trim_end_matches('B') {
        "" => 1,
        "K" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "T" => 1_000_000_000_000u64,
        _ => return Err(expected()),
    };
    let number: f64 = digits.parse().map_err(|_| expected())?;
    // Further than any memory; a NaN is not in the range either.
    if (0.0..1e18).contains(&(number * unit as f64)) { Ok((number * unit as f64) as u64) } else { Err(expected()) }
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn bytes_have_units() {
        for (text, expected) in [
            ("0", 0),
            ("123", 123),
            ("8G", 8_000_000_000),
            ("1.5m", 1_500_000),
            ("2TB", 2_000_000_000_000),
            ("7kb", 7000),
        ] {
            assert_eq!(bytes(text), Ok(expected), "{text}");
        }
        for text in ["", "G", "-1", "nan", "inf", "1e30", "8Gi", "8 apples", "8µ", "١G", "99999999T"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }
}
