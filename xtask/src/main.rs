//! `cargo xtask …`: the project's chores. Only the standard library, so that it is there in seconds on a fresh machine.
//!
//! | command | what it does |
//! | --- | --- |
//! | `setup` | installs what the other commands need and this machine lacks |
//! | `demo` | set-up, models, one question in the terminal, the page on localhost |
//! | `test` | everything the project promises; `.ci/run` calls it |
//! | `bench` | the same question several times: how fast this machine answers; `--peers`: beside PyTorch and llama.cpp |
//! | `offline-files` | Trunk's hook: names the built page's files for its service worker |
//!
//! Every step says what it does before it does it, is skipped when its outputs are newer than its inputs, and writes to a
//! temporary name first, so that an interrupted run is continued by running the command again.

mod bench;
mod demo;
mod gate;
mod json;
mod models;
mod offline;
mod peers;
mod run;
mod stamp;
mod tally;
mod tools;

use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask COMMAND

  setup                                     install what is missing: wasm target, wasm-bindgen, Trunk, Vulkan driver, browser, milvus-lite
  demo [--prepare-only] [--no-serve] [--port 8080]
                                            set up, fetch and convert the models, answer one question, serve the page
  test [--quick | --long]                   everything; --quick: format, lints and native unit tests; --long, beside it: Milvus 2.3.5
  bench                                     time the demo's answers on this machine
  bench --peers [--python python3] [--types q4_0,q4_k,f16] [--tiny] [--from FOLDER]
                                            selfrag bench beside PyTorch, transformers and llama.cpp, as far as that Python has
                                            them; --tiny: try it without a GPU; --from: an earlier run's files
  offline-files                             list the built page's files for its service worker; Trunk runs it";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let outcome = match args.as_slice() {
        ["setup"] => demo::set_up(),
        ["demo", options @ ..] => demo::Options::parse(options).and_then(|options| demo::demo(&options)),
        ["test"] => gate::test(false),
        ["test", "--quick"] => gate::test(true),
        ["test", "--long"] => gate::long(),
        ["bench"] => bench::bench(),
        ["bench", "--peers", options @ ..] => peers::Options::parse(options).and_then(|options| peers::bench(&options)),
        ["offline-files"] => offline::write_list(),
        ["help" | "--help" | "-h"] => {
            println!("{USAGE}");
            Ok(())
        }
        _ => Err(run::Failure::new("unknown command or option", USAGE)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("\nxtask: {failure}");
            ExitCode::FAILURE
        }
    }
}
