//! How passages are searched, as options.

use std::{path::PathBuf, time::Duration};

use crate::{
    Error, Result,
    gpu::Gpu,
    retriever::{
        Retriever,
        index::Method,
        milvus::{self, Address},
    },
};

/// Options of every command that searches an index.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct SearchArgs {
    /// The passages: a folder made by `selfrag index build` or `cluster`, the http:// address of one, or a collection,
    /// milvus://[user:password@]host:port/[database/]collection.
    #[arg(long, alias = "retriever", value_name = "DIR|URL")]
    pub(super) index: Option<PathBuf>,
    /// Search the index's HNSW graph on the CPU instead of all vectors on the GPU; of a clustered index, its graph of centroids.
    #[arg(long)]
    pub(super) hnsw: bool,
    /// GPU memory for the index's vectors, in bytes or as 500M or 8G (10⁹): the others stay in host memory and are streamed for each
    /// search [default: what the GPU gives].
    #[arg(long, value_name = "BYTES", value_parser = bytes, conflicts_with = "hnsw")]
    pub(super) gpu_memory: Option<u64>,
    #[command(flatten)]
    pub(super) milvus: MilvusArgs,
}

/// How a collection on a Milvus server is asked.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct MilvusArgs {
    /// Seconds that a request to a Milvus server may take, new connections included.
    #[arg(long, value_name = "SECS", default_value_t = 30.0, value_parser = seconds)]
    pub(super) milvus_timeout: f64,
    /// Of a collection with an IVF index: clusters that a question searches [default: an eighth of them, at least 8].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), conflicts_with_all = ["hnsw", "gpu_memory"])]
    pub(super) nprobe: Option<u32>,
}

impl MilvusArgs {
    /// As the retriever takes them.
    pub(super) fn settings(&self) -> milvus::Settings {
        milvus::Settings { timeout: Duration::from_secs_f64(self.milvus_timeout), nprobe: self.nprobe }
    }
}

impl SearchArgs {
    /// Where an index is only one way: options about one without it are an error.
    pub(super) fn check_named(&self) -> Result<()> {
        for (option, given) in [("hnsw", self.hnsw), ("gpu-memory", self.gpu_memory.is_some())] {
            if given && self.index.is_none() {
                return Err(Error::config(option, "--index expected"));
            }
        }
        self.collection().map(drop)
    }

    /// The collection on a Milvus server that the index is, if it is one. An option for vectors that are searched here is an error then.
    pub(super) fn collection(&self) -> Result<Option<Address>> {
        let Some(place) =
            self.index.as_deref().and_then(|index| index.to_str()).filter(|index| milvus::is_milvus(index))
        else {
            return match self.milvus.nprobe {
                Some(_) => Err(Error::config("nprobe", "for a collection, --index milvus://…")),
                None => Ok(None),
            };
        };
        let address = Address::parse(place)?;
        for (option, given) in [("hnsw", self.hnsw), ("gpu-memory", self.gpu_memory.is_some())] {
            if given {
                return Err(Error::config(option, format!("{address} is searched by its server")));
            }
        }
        Ok(Some(address))
    }

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

/// A time in seconds, not longer than a day.
pub(super) fn seconds(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|seconds| (0.001..=86_400.0).contains(seconds));
    number.ok_or_else(|| format!("{text:?}: seconds expected, 0.001 to 86400"))
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
