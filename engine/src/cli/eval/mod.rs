//! `selfrag eval short|long --task TASK --input FILE --output FILE`, `eval merge`, `eval report`, `eval retriever`, `eval labels`
//!
//! Beside the output lies `FILE.records.jsonl`: a line for each question as soon as it is answered, with everything that led to the
//! answer. A run that was stopped, however, goes on from there; `merge` and `report` read it.

mod answer;
mod labels;
mod options;
mod progress;
mod retriever;

use std::path::{Path, PathBuf};

use super::load::ModelArgs;
use crate::eval::{journal, metrics, output, report};

/// The paper's evaluation.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Short(options::ShortArgs),
    Long(options::LongArgs),
    Merge(MergeArgs),
    Report(ReportArgs),
    Retriever(retriever::Args),
    Labels(labels::Args),
}

/// Puts the shards of a run together.
#[derive(Debug, clap::Args)]
struct MergeArgs {
    /// The shards' outputs, or their `.records.jsonl`, in any order.
    #[arg(required = true, value_name = "FILE")]
    shards: Vec<PathBuf>,
    /// The file to write, as one run would have written it.
    #[arg(long, alias = "output_file", value_name = "FILE")]
    output: PathBuf,
}

/// Writes one HTML page about runs: scores, a threshold sweep, distributions, every question.
#[derive(Debug, clap::Args)]
struct ReportArgs {
    /// Outputs of `eval short` and `eval long`, or their `.records.jsonl`.
    #[arg(required = true, value_name = "FILE")]
    runs: Vec<PathBuf>,
    /// The page to write.
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<()> {
    match args.command {
        Command::Short(args) => answer::run(&args.common, args.method()?),
        Command::Long(args) => answer::run(&args.common, args.method()?),
        Command::Merge(args) => merge(&args),
        Command::Report(args) => {
            let runs: Vec<PathBuf> = args.runs.iter().map(|path| records_of(path)).collect();
            Ok(report::write(&runs, &args.output)?)
        }
        Command::Retriever(args) => retriever::run(args),
        Command::Labels(args) => labels::run(&args),
    }
}

fn merge(args: &MergeArgs) -> anyhow::Result<()> {
    let shards: Vec<PathBuf> = args.shards.iter().map(|path| records_of(path)).collect();
    let records = records_of(&args.output);
    anyhow::ensure!(!shards.contains(&records), "{}: a shard's file can not be the output", args.output.display());
    let header = journal::merge(&shards, &records)?;
    output::write(&records, &args.output, metrics::headline(header.task))?;
    print!("{}", answer::summary(&records)?);
    Ok(())
}

/// Where a run's records are: beside its output.
fn records_of(output: &Path) -> PathBuf {
    const END: &str = ".records.jsonl";
    let name = output.as_os_str().to_string_lossy();
    if name.ends_with(END) {
        return output.to_owned();
    }
    let mut name = output.as_os_str().to_owned();
    name.push(END);
    name.into()
}
