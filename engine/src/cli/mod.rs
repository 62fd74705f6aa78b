//! The `selfrag` command, one file per subcommand.

pub mod ask;
pub mod bench;
mod clusters;
pub mod convert;
pub mod data;
pub mod embed;
mod embeddings;
pub mod eval;
mod files;
pub mod index;
pub mod load;
pub mod merge;
mod push;
pub mod questions;
pub mod retrieve;
mod search;
pub mod settings;
pub mod terminal;
#[cfg(feature = "training")]
pub mod train;

/// Self-RAG: retrieve, generate and critique with one engine.
#[derive(Debug, clap::Parser)]
#[command(version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Ask(ask::Args),
    Bench(bench::Args),
    Convert(convert::Args),
    Data(data::Args),
    Embed(embed::Args),
    Eval(eval::Args),
    Index(index::Args),
    Merge(merge::Args),
    Retrieve(retrieve::Args),
    #[cfg(feature = "training")]
    Train(train::Args),
}

/// Runs the command line.
pub fn run(cli: Cli) -> anyhow::Result<()> {
    match cli.command {
        Command::Ask(args) => ask::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Convert(args) => convert::run(args),
        Command::Data(args) => data::run(args),
        Command::Embed(args) => embed::run(args),
        Command::Eval(args) => eval::run(args),
        Command::Index(args) => index::run(args),
        Command::Merge(args) => merge::run(args),
        Command::Retrieve(args) => retrieve::run(args),
        #[cfg(feature = "training")]
        Command::Train(args) => train::run(args),
    }
}
