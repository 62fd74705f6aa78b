//! `cargo xtask offline-files`: names the page's own files for its service worker. Trunk runs it after every build.

use std::{
    fmt::Write,
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
};

use crate::run::{Failure, Result, at, root};

/// What the service worker (`app/service_worker.js`) reads.
const LIST: &str = "offline_files.js";
/// The service worker itself is the browser's to keep.
const SERVICE_WORKER: &str = "service_worker.js";
/// What a page is made of. Models, passages and notes have other endings, and lie in folders of their own.
const ENDINGS: [&str; 6] = ["css", "html", "js", "mjs", "svg", "wasm"];
/// wasm-bindgen's folder for the scripts of crates, and that of the libraries that read documents; every other folder holds data.
const FOLDERS: [&str; 2] = ["snippets", "libraries"];

/// Writes the list into the folder that Trunk is about to publish.
pub(crate) fn write_list() -> Result<()> {
    let folder = std::env::var_os("TRUNK_STAGING_DIR").map_or_else(|| root().join("dist"), PathBuf::from);
    let list = list(&folder)?;
    let path = folder.join(LIST);
    at(&path, std::fs::write(&path, list))
}

/// `self.OFFLINE = { build: "…", files: ["…", …] };`
fn list(folder: &Path) -> Result<String> {
    let mut files = files_in(folder, "")?;
    for name in FOLDERS {
        let below = folder.join(name);
        if below.exists() {
            files.extend(files_below(&below, name)?);
        }
    }
    files.sort();
    if !files.iter().any(|file| file == "index.html") {
        return Err(Failure::new(
            format!("{}: no index.html, so this is no built page", folder.display()),
            "trunk build --release --cargo-profile web",
        ));
    }
    let mut build = DefaultHasher::new();
    // A new service worker counts as a new build: two of them must not share a cache.
    for file in files.iter().map(String::as_str).chain([SERVICE_WORKER]) {
        let path = folder.join(file);
        (file, at(&path, std::fs::read(&path))?).hash(&mut build);
    }
    let mut list = format!("self.OFFLINE = {{ build: \"{:016x}\", files: [\n", build.finish());
    files.iter().for_each(|file| writeln!(list, "  {file:?},").expect("writing to a string"));
    list += "] };\n";
    Ok(list)
}

/// The page's files directly in `folder`, with `prefix` before their names.
fn files_in(folder: &Path, prefix: &str) -> Result<Vec<String>> {
    let mut files = Vec::new();
    for entry in at(folder, std::fs::read_dir(folder))? {
        let path = at(folder, entry)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let ending = path.extension().unwrap_or_default().to_string_lossy();
        let own = path.is_file() && ENDINGS.contains(&&*ending) && name != LIST && name != SERVICE_WORKER;
        files.extend(own.then(|| format!("{prefix}{name}")));
    }
    Ok(files)
}

/// The same for all folders below.
fn files_below(folder: &Path, name: &str) -> Result<Vec<String>> {
    let mut files = files_in(folder, &format!("{name}/"))?;
    for entry in at(folder, std::fs::read_dir(folder))? {
        let path = at(folder, entry)?.path();
        if path.is_dir() {
            let below = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            files.extend(files_below(&path, &format!("{name}/{below}"))?);
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::scratch;

    #[test]
    fn the_pages_own_files_are_listed_and_no_data() {
        let folder = scratch().join("offline-test");
        let _ = std::fs::remove_dir_all(&folder);
        let write = |name: &str, content: &str| {
            let path = folder.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        };
        write("worker.js", "1");
        write(SERVICE_WORKER, "1");
        assert!(list(&folder).is_err(), "no page without index.html");
        let data = [
            "models/a.gguf",
            "models/manifest.json",
            "corpus/x.js",
            "adapter/y.js",
            "notes.txt",
            "libraries/cmaps/b.bcmap",
            LIST,
        ];
        let own = ["index.html", "libraries/pdf.mjs", "snippets/crate-0/src/a.js"];
        own.iter().chain(&data).for_each(|name| write(name, "1"));
        let first = list(&folder).unwrap();
        let names: Vec<&str> =
            first.lines().filter_map(|line| line.strip_prefix("  \"")?.strip_suffix("\",")).collect();
        assert_eq!(names, ["index.html", "libraries/pdf.mjs", "snippets/crate-0/src/a.js", "worker.js"]);
        data.iter().for_each(|name| write(name, "2"));
        assert_eq!(list(&folder).unwrap(), first, "new data is no new page");
        for name in ["worker.js", SERVICE_WORKER] {
            let before = list(&folder).unwrap();
            write(name, "2");
            assert_ne!(list(&folder).unwrap(), before, "{name} has no hash in its name, and its change is a new build");
        }
    }
}
