//! Running programs: where the project is, what a failure says, output shown or kept.

use std::{
    fmt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// What went wrong and what the reader can do about it.
#[derive(Debug)]
pub(crate) struct Failure {
    what: String,
    remedy: String,
}

impl Failure {
    pub(crate) fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what: what.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.what)?;
        if self.remedy.is_empty() { Ok(()) } else { write!(f, "\n{}", self.remedy) }
    }
}

pub(crate) type Result<T> = std::result::Result<T, Failure>;

/// The repository's root: every path here is relative to it, wherever the command was typed.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace").to_owned()
}

/// Where this program keeps stamps and unfinished files.
pub(crate) fn scratch() -> PathBuf {
    root().join("target/xtask")
}

/// Folder of `cargo install`: on PATH or not, the tools are found there.
pub(crate) fn cargo_bin() -> PathBuf {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")));
    home.unwrap_or_else(|| PathBuf::from(".cargo")).join("bin")
}

/// A command in the repository's root, with cargo's and npm's tools on PATH and nothing to read from.
pub(crate) fn command(program: &str, args: &[&str]) -> Command {
    let program =
        if program == "cargo" { std::env::var("CARGO").unwrap_or("cargo".into()) } else { program.to_owned() };
    let mut path = vec![cargo_bin(), root().join("tests/page/node_modules/.bin")];
    path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    let mut command = Command::new(program);
    command.args(args).current_dir(root()).stdin(Stdio::null());
    if let Ok(path) = std::env::join_paths(path) {
        command.env("PATH", path);
    }
    command
}

/// Runs it with its output shown; `remedy` is told when it fails.
pub(crate) fn run(command: &mut Command, remedy: &str) -> Result<()> {
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Failure::new(format!("{} failed ({status})", line_of(command)), remedy)),
        Err(e) => Err(Failure::new(format!("{} could not be started: {e}", line_of(command)), remedy)),
    }
}

/// What it printed, when it ran and succeeded.
pub(crate) fn output_of(command: &mut Command) -> Option<String> {
    let output = command.stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether `program --version` works.
pub(crate) fn is_there(program: &str) -> bool {
    output_of(&mut command(program, &["--version"])).is_some()
}

/// The command as one would type it.
pub(crate) fn line_of(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

/// A file-system operation's error with the path in it.
pub(crate) fn at<T>(path: &Path, result: std::io::Result<T>) -> Result<T> {
    result.map_err(|e| {
        Failure::new(format!("{}: {e}", path.display()), "check the disk's free space and the folder's permissions")
    })
}

/// Moves a finished file or folder to its place; what was there before goes.
pub(crate) fn put(from: &Path, to: &Path) -> Result<()> {
    if to.is_dir() {
        at(to, std::fs::remove_dir_all(to))?;
    }
    if let Some(folder) = to.parent() {
        at(folder, std::fs::create_dir_all(folder))?;
    }
    at(to, std::fs::rename(from, to))
}
