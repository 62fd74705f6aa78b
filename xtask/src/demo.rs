//! `cargo xtask demo`: from a fresh machine to an answered question and a page on localhost.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    process::{Child, Command},
    time::{Duration, Instant},
};

use crate::{
    models,
    run::{Failure, Result, command, line_of, output_of, run},
    tools::{self, note},
};

/// The question that the demo asks.
pub(crate) const QUESTION: &str = "How many species of trees can be found in the Amazon rainforest?";
/// The demo's passages with their vectors.
const CORPUS: &str = "public/corpus";
/// Trunk compiles the page before it listens.
const SERVE_SECS: u64 = 30 * 60;

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    prepare_only: bool,
    serve: bool,
    port: u16,
}

impl Options {
    pub(crate) fn parse(args: &[&str]) -> Result<Self> {
        let mut options = Self { prepare_only: false, serve: true, port: 8080 };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            match *arg {
                "--prepare-only" => options.prepare_only = true,
                "--no-serve" => options.serve = false,
                "--port" => {
                    let port = args.next().and_then(|port| port.parse().ok()).filter(|port| *port > 0);
                    options.port = port.ok_or_else(|| Failure::new("--port needs a number from 1 to 65535", ""))?;
                }
                other => return Err(Failure::new(format!("demo knows no option {other}"), crate::USAGE)),
            }
        }
        Ok(options)
    }
}

/// `[3/9] title`, then how it went.
struct Progress {
    at: usize,
    of: usize,
}

impl Progress {
    /// `work` tells whether there was anything to do.
    fn step(&mut self, title: &str, work: impl FnOnce() -> Result<bool>) -> Result<()> {
        self.at += 1;
        println!("[{}/{}] {title}", self.at, self.of);
        let start = Instant::now();
        let worked = work()?;
        note(&if worked {
            format!("done in {:.0} s", start.elapsed().as_secs_f32())
        } else {
            "already there".to_owned()
        });
        Ok(())
    }
}

/// A step's work: whether there was anything to do.
type Work = fn() -> Result<bool>;

/// What the page and the command need, apart from models.
const TOOLS: [(&str, Work); 5] = [
    ("Rust's standard library for the browser", tools::wasm_target),
    ("wasm-bindgen", tools::wasm_bindgen),
    ("Trunk", tools::trunk),
    ("wasm-opt and the page's other packages", tools::page_packages),
    ("a Vulkan driver", tools::vulkan),
];

/// `cargo xtask setup`: everything the other commands would install.
pub(crate) fn set_up() -> Result<()> {
    let more: [(&str, Work); 5] = [
        ("rustfmt and clippy", tools::rust_components),
        ("software Vulkan for tests", tools::software_vulkan),
        ("Chromium", tools::browser),
        ("pip", tools::pip),
        ("milvus-lite for tests", tools::milvus_lite),
    ];
    let mut progress = Progress { at: 0, of: TOOLS.len() + more.len() };
    TOOLS.iter().chain(&more).try_for_each(|(title, work)| progress.step(title, work))
}

pub(crate) fn demo(options: &Options) -> Result<()> {
    let asks = !options.prepare_only;
    let serves = asks && options.serve;
    if serves {
        check_port(options.port)?; // before minutes of work, not after
    }
    let mut progress = Progress { at: 0, of: TOOLS.len() + 5 + usize::from(asks) + 1 };
    TOOLS.iter().try_for_each(|(title, work)| progress.step(title, work))?;
    progress.step("models: SmolLM2-135M-Instruct and all-MiniLM-L6-v2 (180 MB)", models::fetch)?;
    progress.step("the selfrag command (a few minutes the first time)", || models::build_command().map(|()| true))?;
    progress.step("the demo generator: adapter merged, converted to GGUF", models::convert)?;
    progress.step("the page's copy, in parts", models::page_copy)?;
    progress.step("the demo's passages", || {
        let remedy = "the files under public/corpus are part of the repository: git checkout public/corpus";
        run(&mut command(&models::selfrag(), &["index", "verify", CORPUS]), remedy).map(|()| true)
    })?;
    if asks {
        progress.step(&format!("a question: {QUESTION}"), || ask().map(|()| true))?;
    }
    if serves {
        return serve(options.port, &mut progress);
    }
    progress.step("the page (a few minutes the first time)", || {
        run(&mut trunk(&["build"]), "look at the message above").map(|()| true)
    })?;
    println!("\nReady. The page is in dist/; `cargo xtask demo` serves it.");
    Ok(())
}

/// Trunk with the page's profile: small rather than quick to build.
pub(crate) fn trunk(args: &[&str]) -> Command {
    let mut trunk = command("trunk", args);
    trunk.args(["--release", "--cargo-profile", "web"]);
    // Trunk refuses `NO_COLOR=1`, which many environments set: it wants true or false.
    trunk.env_remove("NO_COLOR");
    trunk
}

/// Answers the question in the terminal.
fn ask() -> Result<()> {
    let mut ask = command(&models::selfrag(), &["ask", QUESTION]);
    if !tools::has_gpu() {
        note("no GPU: two passages and 40 tokens at most, about a minute; five passages take several");
        ask.args(["--n-docs", "2", "--max-new-tokens", "40"]);
    }
    ask.envs(tools::vulkan_environment());
    note(&line_of(&ask));
    run(
        &mut ask,
        "look at the message above; `vulkaninfo --summary` (package vulkan-tools) shows the GPUs that Vulkan sees",
    )
}

fn check_port(port: u16) -> Result<()> {
    let taken =
        |e| Failure::new(format!("port {port} on localhost: {e}"), "name another one: cargo xtask demo --port 8081");
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map(drop).map_err(taken)
}

/// Builds and serves the page until the user stops it.
fn serve(port: u16, progress: &mut Progress) -> Result<()> {
    let port_text = port.to_string();
    let mut trunk = trunk(&["serve", "--port", &port_text, "--address", "127.0.0.1"]);
    let remedy = "look at the message above";
    let mut server =
        trunk.spawn().map_err(|e| Failure::new(format!("{} could not be started: {e}", line_of(&trunk)), remedy))?;
    let built =
        progress.step("the page (a few minutes the first time)", || until_it_listens(&mut server, port).map(|()| true));
    if built.is_err() {
        let _ = server.kill();
        return built;
    }
    println!("\nThe page: http://localhost:{port}/   (Ctrl-C stops it)");
    match server.wait() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Failure::new(format!("trunk serve ended ({status})"), remedy)),
        Err(e) => Err(Failure::new(format!("trunk serve: {e}"), remedy)),
    }
}

fn until_it_listens(server: &mut Child, port: u16) -> Result<()> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let start = Instant::now();
    while TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_err() {
        if let Ok(Some(status)) = server.try_wait() {
            return Err(Failure::new(format!("trunk serve ended ({status})"), "look at the message above"));
        }
        if start.elapsed().as_secs() > SERVE_SECS {
            return Err(Failure::new(
                format!("no page after {SERVE_SECS} s"),
                "run it again: what was compiled is kept",
            ));
        }
        std::thread::sleep(Duration::from_millis(300));
    }
    Ok(())
}

/// What `selfrag ask --json` printed for the demo's question.
pub(crate) fn ask_json() -> Option<String> {
    output_of(command(&models::selfrag(), &["ask", QUESTION, "--json"]).envs(tools::vulkan_environment()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_and_wrong_ones_refused() {
        let expected = Options { prepare_only: true, serve: false, port: 9000 };
        assert_eq!(Options::parse(&["--prepare-only", "--port", "9000", "--no-serve"]).unwrap(), expected);
        assert_eq!(Options::parse(&[]).unwrap().port, 8080);
        for wrong in [&["--port"][..], &["--port", "x"], &["--port", "0"], &["--port", "70000"], &["--prot", "1"]] {
            assert!(Options::parse(wrong).is_err(), "{wrong:?} was accepted");
        }
    }
}
