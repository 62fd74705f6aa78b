//! The `selfrag` command.

use clap::Parser;

#[derive(Parser)]
enum Cli {
    Convert(selfrag::cli::convert::Args),
    Index(selfrag::cli::index::Args),
}

fn main() -> anyhow::Result<()> {
    match Cli::parse() {
        Cli::Convert(args) => selfrag::cli::convert::run(args),
        Cli::Index(args) => selfrag::cli::index::run(args),
    }
}
