//! `selfrag bench [--geometry llama2-7b] [--type f16,q4_0] [--workloads decode,prefill] [--kernels] [--json FILE]`

use std::path::PathBuf;

use crate::{
    bench::{self, Geometry, Spec, WORKLOADS},
    gpu::{Gpu, Options},
    ops::self_test::FORMATS,
    platform::block_on,
    weights::DType,
};

/// Measures speed on this machine with random weights of a real model's size.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The model's sizes: llama2-7b or smollm2-135m.
    #[arg(long, default_value = "llama2-7b", value_parser = geometry)]
    geometry: Geometry,
    /// Layers, if not the geometry's own: less memory and time.
    #[arg(long)]
    layers: Option<usize>,
    /// Weight formats, one table each.
    #[arg(long = "type", value_delimiter = ',', default_value = "q4_0", value_parser = dtype)]
    types: Vec<DType>,
    /// decode, decode-10, decode-2048, prefill, short-form.
    #[arg(long, value_delimiter = ',', default_value = "decode,decode-10,prefill")]
    workloads: Vec<String>,
    /// Tokens that a decode workload writes.
    #[arg(long, default_value_t = 100)]
    steps: usize,
    /// Time each kernel with timestamp queries too.
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
    let known: Vec<&str> = Geometry::ALL.iter().map(|geometry| geometry.name).collect();
    Geometry::ALL.into_iter().find(|geometry| geometry.name == name).ok_or_else(|| format!("one of {known:?}"))
}

fn dtype(name: &str) -> Result<DType, String> {
    let known: Vec<&str> = FORMATS.iter().map(|dtype| dtype.name()).collect();
    FORMATS.into_iter().find(|dtype| dtype.name() == name).ok_or_else(|| format!("one of {known:?}"))
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<()> {
    for workload in &args.workloads {
        let is_known = WORKLOADS.iter().any(|(name, _)| name == workload);
        anyhow::ensure!(is_known, "--workloads {workload}: one of {:?}", WORKLOADS.map(|(name, _)| name));
    }
    anyhow::ensure!(args.steps > 0, "--steps: at least 1");
    let geometry = Geometry { layers: args.layers.unwrap_or(args.geometry.layers), ..args.geometry };
    let deepest = 2048 + args.steps + bench::WARM_UP + 2;
    anyhow::ensure!(
        geometry.context_length >= deepest || !args.workloads.iter().any(|workload| workload == "decode-2048"),
        "--workloads decode-2048 needs {deepest} tokens of context; {} has {}",
        geometry.name,
        geometry.context_length
    );
    for dtype in &args.types {
        let (name, columns) = (geometry.name, [geometry.hidden, geometry.feed_forward]);
        anyhow::ensure!(
            geometry.fits(*dtype),
            "--type {}: the columns of {name}, {columns:?}, are not whole blocks of {}",
            dtype.name(),
            dtype.block_len()
        );
    }
    let mut reports = Vec::new();
    for dtype in args.types {
        let spec =
            Spec { geometry, dtype, workloads: args.workloads.clone(), steps: args.steps, kernels: args.kernels };
        let gpu = block_on(Gpu::open(Options {
            subgroups: !args.no_subgroups,
            f16: !args.no_f16,
            cooperative: !args.no_cooperative,
        }))?;
        let report = block_on(bench::run(&gpu, &spec, &mut |what| eprintln!("{what} …")))?;
        println!("{}", report.markdown());
        reports.push(report);
    }
    if let Some(path) = &args.json {
        std::fs::write(path, serde_json::to_vec_pretty(&reports)?)?;
    }
    Ok(())
}
