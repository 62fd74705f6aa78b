//! `selfrag bench [--geometry llama2-7b] [--type f16,q4_0] [--workloads decode,prefill] [--kernels] [--json FILE]`

use std::path::PathBuf;

use super::search::bytes;
use crate::{
    bench::{self, Geometry, Spec},
    gpu::{Gpu, Options},
    platform::block_on,
    weights::DType,
};

/// Measures speed on this machine with random weights of a real model's size.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The model's sizes: llama2-7b, tinyllama-1.1b, smollm2-135m or tiny.
    #[arg(long, default_value = "llama2-7b", value_parser = geometry)]
    geometry: Geometry,
    /// Layers, if not the geometry's own: less memory and time.
    #[arg(long)]
    layers: Option<usize>,
    /// Weight formats, one table each.
    #[arg(long = "type", value_delimiter = ',', default_value = "q4_0", value_parser = dtype)]
    types: Vec<DType>,
    /// tune, decode, decode-10, decode-2048, prefill, short-form, load, search-int8, search-f16, search-f32, encode-128, encode-512.
    #[arg(long, value_delimiter = ',', default_value = "decode,decode-10,prefill")]
    workloads: Vec<String>,
    /// Tokens that a decode workload writes.
    #[arg(long, default_value_t = 100)]
    steps: usize,
    /// The GGUF file that `load` loads, splits in order; without it one of the geometry is written to the temporary folder.
    #[arg(long, value_name = "FILE", value_delimiter = ',')]
    model: Vec<String>,
    /// Rows of 768 that search-… searches: 21 million on a GPU, or what GPU and host have memory for; fewer on a software device.
    #[arg(long, value_name = "N")]
    rows: Option<usize>,
    /// GPU memory for these rows, in bytes or as 500M or 8G (10⁹): the others are streamed from host memory [default: what the GPU gives].
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    gpu_memory: Option<u64>,
    /// GPU time of each kernel too.
    #[arg(long)]
    kernels: bool,
    /// Do without subgroup operations.
    #[arg(long)]
    no_subgroups: bool,
    /// Do without shader-f16.
    #[arg(long)]
    no_f16: bool,
    /// Do without cooperative matrices.
    #[arg(long)]
    no_cooperative: bool,
    /// Write the numbers as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn geometry(name: &str) -> Result<Geometry, String> {
    Geometry::named(name).map_err(|error| error.to_string())
}

fn dtype(name: &str) -> Result<DType, String> {
    bench::format_named(name).map_err(|error| error.to_string())
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<()> {
    let geometry = Geometry { layers: args.layers.unwrap_or(args.geometry.layers), ..args.geometry };
    let Args { workloads, steps, kernels, model, rows, gpu_memory, .. } = args;
    let spec = |dtype| {
        let (workloads, model) = (workloads.clone(), model.clone());
        Spec { geometry, dtype, workloads, steps, kernels, model, rows, gpu_memory }
    };
    let specs: Vec<Spec> = args.types.into_iter().map(spec).collect();
    specs.iter().try_for_each(Spec::check)?;
    let mut reports = Vec::new();
    for spec in &specs {
        let gpu = block_on(Gpu::open(Options {
            subgroups: !args.no_subgroups,
            f16: !args.no_f16,
            cooperative: !args.no_cooperative,
        }))?;
        // A line a thing, not a line a percent.
        let mut tell = |progress: bench::Progress| {
            if progress.share.is_none() {
                eprintln!("{} …", progress.what);
            }
        };
        let report = block_on(bench::run(&gpu, spec, &mut tell))?;
        println!("{}", report.markdown());
        reports.push(report);
    }
    if let Some(path) = &args.json {
        std::fs::write(path, serde_json::to_vec_pretty(&reports)?)?;
    }
    Ok(())
}
