//! The `selfrag` command.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match selfrag::cli::run(selfrag::cli::Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Messages can quote a file's bytes.
            eprintln!("error: {}", selfrag::cli::terminal::safe(&format!("{error:#}")));
            ExitCode::FAILURE
        }
    }
}
