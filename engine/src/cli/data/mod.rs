//! `selfrag data from-qa FILE… --output FILE`, `selfrag data report FILE…`

mod from_qa;
mod report;

/// Training data: makes it from annotated questions, and says what a file holds.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    FromQa(Box<from_qa::Args>),
    Report(report::Args),
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<()> {
    match args.command {
        Command::FromQa(args) => from_qa::run(&args),
        Command::Report(args) => report::run(&args),
    }
}
