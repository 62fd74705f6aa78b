//! `cargo xtask test`: everything the project promises, each step timed, all tests counted.
//!
//! A step that fails does not stop the others: one run tells everything that is wrong. The last line is
//! `N passed, N failed`, where a step without tests of its own (formatting, lints, size) counts as one.

use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use crate::{
    demo, models,
    run::{Failure, Result, at, command, line_of, output_of, root},
    tally::Tally,
    tools,
};

/// Page and worker together, gzipped.
const WASM_BUDGET_BYTES: u64 = 1_500_000;
const WASM: &str = "wasm32-unknown-unknown";

/// The steps so far.
#[derive(Default)]
struct Gate {
    rows: Vec<(String, f32, Tally)>,
    /// Seconds to add to the steps' sum: negative where two ran beside each other.
    waited: f32,
}

pub(crate) fn test(quick: bool) -> Result<()> {
    let mut gate = Gate::default();
    gate.step("tools", || {
        tools::rust_components()?;
        if !quick {
            [
                tools::wasm_target,
                tools::wasm_bindgen,
                tools::trunk,
                tools::software_vulkan,
                tools::browser,
                tools::page_packages,
            ]
            .iter()
            .try_for_each(|tool| tool().map(drop))?;
            models::fetch()?;
        }
        Ok(Tally::default())
    });
    // Half a gigabyte of Python packages, of which most is waiting for the network: meanwhile the compiler has the cores.
    let milvus = (!quick).then(|| std::thread::spawn(|| (Instant::now(), tools::milvus_lite(), Instant::now())));
    gate.cargo("format", &["fmt", "--all", "--check"]);
    const NATIVE: [&str; 3] = ["--workspace", "--exclude", "app"];
    if quick {
        let lints = [&["clippy"], &NATIVE[..], &["--all-targets", "--", "-D", "warnings"]].concat();
        gate.cargo("lints, native", &lints);
        gate.cargo_tests("unit tests", &[&["test"], &NATIVE[..], &["--lib", "--bins"]].concat());
        return gate.finish();
    }
    // With training and the Milvus client, so that all is compiled once; the command and the page below are built without. burn on the CPU
    // alone: its Vulkan back end would be another hundred crates.
    const FEATURES: &str = "selfrag/training,selfrag/milvus";
    let native = |verb| [&[verb], &NATIVE[..], &["--features", FEATURES]].concat();
    gate.cargo("lints, native", &[native("clippy"), vec!["--all-targets", "--", "-D", "warnings"]].concat());
    gate.cargo(
        "lints, browser: engine",
        &[
            "clippy",
            "--target",
            WASM,
            "-p",
            "selfrag",
            "--no-default-features",
            "--features",
            "measure",
            "--tests",
            "--",
            "-D",
            "warnings",
        ],
    );
    gate.cargo(
        "lints, browser: app",
        &["clippy", "--target", WASM, "-p", "app", "--all-targets", "--", "-D", "warnings"],
    );
    if let Some(milvus) = milvus {
        let waiting = Instant::now();
        let (start, installed, end) = milvus.join().expect("a step's failure is a result");
        let seconds = (end - start).as_secs_f32();
        gate.waited += waiting.elapsed().as_secs_f32() - seconds;
        gate.step("milvus-lite (meanwhile)", || installed.map(|_| Tally::default()));
        gate.rows.last_mut().expect("the step above").1 = seconds;
    }
    gate.cargo_tests("tests, native", &[native("test"), vec!["--no-fail-fast"]].concat());
    // The page is linked by one thread and the browser's tests wait a lot: beside each other they keep both cores busy. Cargo locks per profile,
    // and the two have different ones.
    let page = std::thread::spawn(|| {
        let (start, mut output) = (Instant::now(), Vec::new());
        // Its messages too come after the tests', not among them.
        let mut build = command("sh", &["-c", "exec \"$@\" 2>&1", "sh"]);
        let trunk = demo::trunk(&["build"]);
        build.arg(trunk.get_program()).args(trunk.get_args()).env_remove("NO_COLOR");
        let tally = counted_into(&mut build, &mut output);
        (start.elapsed().as_secs_f32(), tally, output)
    });
    gate.step("tests, browser", browser_tests);
    gate.cargo("documentation", &["doc", "--no-deps", "--workspace", "--exclude", "app", "--features", FEATURES]);
    let waiting = Instant::now();
    let (seconds, tally, output) = page.join().expect("a step's failure is a result");
    gate.waited += waiting.elapsed().as_secs_f32() - seconds;
    gate.step("page: build (meanwhile)", || {
        let _ = std::io::stdout().write_all(&output);
        tally
    });
    gate.rows.last_mut().expect("the step above").1 = seconds;
    gate.step("page: wasm size", wasm_size);
    gate.step("page: models", || {
        models::command_of_tests()?;
        models::convert()?;
        models::page_copy()?;
        Ok(Tally::default())
    });
    gate.step("page: end to end", page_tests);
    gate.finish()
}

/// What is too long, or needs too much, for every change: the tests of the Milvus back end against Milvus 2.3.5 itself. It listens on all
/// interfaces, on seven ports, so it runs where there is none but loopback.
pub(crate) fn long() -> Result<()> {
    let mut gate = Gate::default();
    gate.step("tools", || tools::milvus_lite().and(tools::milvus_standalone()).map(|_| Tally::default()));
    const TESTS: &str = "test --offline -p selfrag --features milvus --test milvus";
    // Fetched and compiled where there is a network.
    gate.cargo(
        "tests: build",
        &[&TESTS.replace("--offline ", "").split(' ').collect::<Vec<_>>()[..], &["--no-run"]].concat(),
    );
    gate.step("tests, Milvus 2.3.5", || {
        let root_user = output_of(&mut command("id", &["-u"])).is_some_and(|id| id.trim() == "0");
        let inside = format!("ip link set lo up && exec \"$0\" {TESTS} -- --test-threads 1");
        let unshare = if root_user { ["-n", "--"] } else { ["-rn", "--"] };
        let cargo = command("cargo", &[]);
        let cargo = cargo.get_program().to_string_lossy().into_owned();
        let mut tests = command("unshare", &[&unshare[..], &["sh", "-c", &inside, &cargo]].concat());
        counted_tests(tests.env("SELFRAG_MILVUS", "standalone").envs(tools::vulkan_environment()))
    });
    gate.finish()
}

impl Gate {
    fn step(&mut self, name: &str, work: impl FnOnce() -> Result<Tally>) {
        println!("\n── {name}");
        let start = Instant::now();
        let tally = work().unwrap_or_else(|failure| {
            println!("{failure}");
            Tally { passed: 0, failed: 1 }
        });
        let own = if tally == Tally::default() { Tally { passed: 1, failed: 0 } } else { tally };
        self.rows.push((name.to_owned(), start.elapsed().as_secs_f32(), own));
    }

    fn cargo(&mut self, name: &str, args: &[&str]) {
        self.step(name, || counted(command("cargo", args).env("RUSTDOCFLAGS", "-D warnings")));
    }

    fn cargo_tests(&mut self, name: &str, args: &[&str]) {
        self.step(name, || counted_tests(command("cargo", args).envs(tools::vulkan_environment())));
    }

    fn finish(self) -> Result<()> {
        println!("\n{:<28}{:>8}{:>9}{:>9}", "step", "seconds", "passed", "failed");
        let (mut total, mut seconds) = (Tally::default(), 0.0);
        for (name, time, tally) in &self.rows {
            println!("{name:<28}{time:>8.1}{:>9}{:>9}", tally.passed, tally.failed);
            total += *tally;
            seconds += time;
        }
        println!("{:<28}{:>8.1}", "all", seconds + self.waited);
        println!("{} passed, {} failed", total.passed, total.failed);
        if total.failed == 0 {
            Ok(())
        } else {
            Err(Failure::new("not everything passed", "the steps' output above tells what"))
        }
    }
}

/// Runs a command, shows what it prints, and counts the tests in it. A failure that reported none counts as one.
fn counted(command: &mut Command) -> Result<Tally> {
    counted_into(command, &mut std::io::stdout())
}

fn counted_into(command: &mut Command, output: &mut dyn Write) -> Result<Tally> {
    let line = line_of(command);
    let _ = writeln!(output, "$ {line}");
    let remedy = "cargo xtask setup installs what is missing";
    let failed = |e| Failure::new(format!("{line} could not be started: {e}"), remedy);
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(failed)?;
    let mut tally = Tally::default();
    let mut lines = BufReader::new(child.stdout.take().expect("its output is piped"));
    let mut text = Vec::new();
    while lines.read_until(b'\n', &mut text).is_ok_and(|n| n > 0) {
        let _ = output.write_all(&text);
        tally.read(String::from_utf8_lossy(&text).trim_end());
        text.clear();
    }
    let status = child.wait().map_err(|e| Failure::new(format!("{line}: {e}"), ""))?;
    if !status.success() && tally.failed == 0 {
        let _ = writeln!(output, "{line} failed ({status})");
        tally.failed = 1;
    }
    Ok(tally)
}

/// As [`counted`]; to have found no test is a failure too.
fn counted_tests(command: &mut Command) -> Result<Tally> {
    match counted(command)? {
        none if none == Tally::default() => Err(Failure::new(format!("{} reported no test", line_of(command)), "")),
        tally => Ok(tally),
    }
}

/// The tests that are configured for the browser, in headless Chromium, page and worker.
fn browser_tests() -> Result<Tally> {
    let tests = browser_test_names()?;
    let mut args = vec!["test", "--target", WASM, "-p", "selfrag", "--no-default-features", "--no-fail-fast"];
    tests.iter().for_each(|name| args.extend(["--test", name]));
    if tests.is_empty() {
        return Err(Failure::new(
            "no browser test is declared in engine/Cargo.toml",
            "each has `wasm_bindgen_test_configure!`",
        ));
    }
    let driver = ["/usr/bin/chromedriver"].into_iter().find(|path| Path::new(path).exists()).unwrap_or("chromedriver");
    let mut cargo = command("cargo", &args);
    cargo
        .env("CHROMEDRIVER", std::env::var("CHROMEDRIVER").unwrap_or(driver.into()))
        .env("WASM_BINDGEN_TEST_TIMEOUT", "1200");
    counted_tests(&mut cargo)
}

/// `[[test]]` entries of the engine whose source says that it runs in a browser.
fn browser_test_names() -> Result<Vec<String>> {
    let engine = root().join("engine");
    let manifest = std::fs::read_to_string(engine.join("Cargo.toml")).unwrap_or_default();
    let value = |entry: &str, key: &str| {
        let line = entry.lines().find_map(|line| line.trim().strip_prefix(key)?.trim_start().strip_prefix('='))?;
        Some(line.trim().trim_matches('"').to_owned())
    };
    let entries = manifest.split("[[test]]").skip(1).map(|entry| entry.split("\n[").next().unwrap_or(entry));
    let entries = entries.filter(|entry| value(entry, "required-features").is_none());
    let tests = entries.filter_map(|entry| Some((value(entry, "name")?, engine.join(value(entry, "path")?))));
    let in_browser =
        |path: &PathBuf| std::fs::read_to_string(path).is_ok_and(|text| text.contains("wasm_bindgen_test_configure!"));
    Ok(tests.filter(|(_, path)| in_browser(path)).map(|(name, _)| name).collect())
}

/// The page's tests in headless Chromium, one file after another: `--test-concurrency` is unknown to Debian 12's Node 18.
fn page_tests() -> Result<Tally> {
    let folder = root().join("tests/page");
    let names = at(&folder, std::fs::read_dir(&folder))?
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut files: Vec<String> = names.filter(|name| name.ends_with(".test.mjs")).collect();
    files.sort();
    let mut tally = Tally::default();
    for file in &files {
        tally +=
            counted_tests(command("node", &["--test", file]).current_dir(&folder).env("SELFRAG", models::selfrag()))?;
    }
    Ok(tally)
}

/// Page and worker, gzipped, against the budget.
fn wasm_size() -> Result<Tally> {
    let dist = root().join("dist");
    let files = std::fs::read_dir(&dist).into_iter().flatten().flatten().map(|entry| entry.path());
    let modules: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|ext| ext == "wasm")).collect();
    let mut total = 0;
    for path in &modules {
        let name = path.to_string_lossy();
        // Counted by gzip itself: no compressor in the standard library.
        let size = output_of(&mut command("sh", &["-c", "gzip -9 -c \"$0\" | wc -c", &name]));
        let size = size.and_then(|size| size.trim().parse::<u64>().ok());
        let size = size.ok_or_else(|| Failure::new(format!("{name}: gzip gave no size"), "is gzip installed?"))?;
        println!("{size:>9} bytes gzipped  {}", path.file_name().unwrap_or_default().to_string_lossy());
        total += size;
    }
    println!("{total:>9} bytes of {WASM_BUDGET_BYTES}");
    match (modules.len(), total <= WASM_BUDGET_BYTES) {
        (0, _) => Err(Failure::new("dist/ holds no wasm", "the page's build failed above")),
        (_, true) => Ok(Tally { passed: 1, failed: 0 }),
        (_, false) => Err(Failure::new(
            format!("{total} bytes are over the budget"),
            "what grew? `trunk build --release`, then twiggy or wasm-objdump",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browser_tests_are_found_by_what_their_source_says() {
        let names = browser_test_names().unwrap();
        assert!(
            names.iter().any(|name| name == "kernels") && names.iter().any(|name| name == "kernels_worker"),
            "{names:?}"
        );
        assert!(!names.iter().any(|name| name == "llama"), "{names:?}");
    }
}
