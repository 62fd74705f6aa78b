//! `cargo xtask bench`: the demo's question, several times, wall time from start to answer.

use std::time::Instant;

use crate::{
    demo::{QUESTION, ask_json},
    models,
    run::{Failure, Result},
};

const RUNS: usize = 3;

/// Times whole runs of `selfrag ask`, model loading included: what a user of the terminal waits for.
pub(crate) fn bench() -> Result<()> {
    models::fetch()?;
    models::build_command()?;
    models::convert()?;
    println!("selfrag ask {QUESTION:?}, {RUNS} runs");
    for run in 1..=RUNS {
        let start = Instant::now();
        let answer = ask_json().ok_or_else(|| {
            Failure::new("selfrag ask failed", "run it by hand to see why: cargo run --release -p selfrag -- ask …")
        })?;
        println!("run {run}: {:.2} s, {} bytes of JSON", start.elapsed().as_secs_f32(), answer.len());
    }
    Ok(())
}
