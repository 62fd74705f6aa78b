//! The `selfrag` command.

use clap::Parser;

fn main() -> anyhow::Result<()> {
    selfrag::cli::run(selfrag::cli::Cli::parse())
}
