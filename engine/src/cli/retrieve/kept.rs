//! The store that `--save-or-load-index` keeps beside the embeddings: whether it is made of the files and options of this run.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use serde::{Deserialize, Serialize};

use crate::{Error, Result, retriever::text::TextOptions};

/// In the store's folder.
const NAME: &str = "made_of.json";

/// What a store is made of.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct MadeOf {
    passages: Vec<Part>,
    embeddings: Vec<Part>,
    text: TextOptions,
    max_tokens: usize,
    allow_missing: bool,
}

/// A file as it was.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Part {
    name: String,
    bytes: u64,
    /// Seconds and nanoseconds since 1970.
    modified: Option<(u64, u32)>,
}

impl Part {
    fn of(path: &PathBuf) -> Result<Self> {
        let metadata = fs::metadata(path).map_err(|e| Error::io(path.display().to_string(), e))?;
        let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        Ok(Self {
            // Files may have moved.
            name: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            bytes: metadata.len(),
            modified: modified.map(|time| (time.as_secs(), time.subsec_nanos())),
        })
    }
}

impl MadeOf {
    pub(super) fn new(
        passages: &[PathBuf],
        embeddings: &[PathBuf],
        text: TextOptions,
        max_tokens: usize,
        allow_missing: bool,
    ) -> Result<Self> {
        let parts = |paths: &[PathBuf]| paths.iter().map(Part::of).collect::<Result<Vec<_>>>();
        let (passages, embeddings) = (parts(passages)?, parts(embeddings)?);
        Ok(Self { passages, embeddings, text, max_tokens, allow_missing })
    }

    /// Whether a store is made of this.
    pub(super) fn is_of(&self, store: &Path) -> bool {
        let found = fs::read(store.join(NAME)).ok().and_then(|json| serde_json::from_slice::<Self>(&json).ok());
        found.as_ref() == Some(self)
    }

    /// Says it of a store that was just made.
    pub(super) fn write(&self, store: &Path) -> Result<()> {
        let path = store.join(NAME);
        let json = serde_json::to_vec_pretty(self).expect("it has no map");
        fs::write(&path, json).map_err(|e| Error::io(path.display().to_string(), e))
    }

    /// Before a store is made anew: files that it does not know move along.
    pub(super) fn forget(store: &Path) -> Result<()> {
        let path = store.join(NAME);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io(path.display().to_string(), e)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_files_and_other_options_are_told() {
        let folder = std::env::temp_dir().join(format!("selfrag-kept-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let paths = ["p", "e0", "e1"].map(|name| folder.join(name));
        paths.iter().for_each(|path| fs::write(path, "1234").unwrap());
        let [p, e0, e1] = &paths;
        let usual = TextOptions::default();
        let of = |embeddings: &[&PathBuf], text, max_tokens, allow_missing| {
            let embeddings: Vec<PathBuf> = embeddings.iter().map(|path| (*path).clone()).collect();
            MadeOf::new(std::slice::from_ref(p), &embeddings, text, max_tokens, allow_missing).unwrap()
        };
        let all = || of(&[e0, e1], usual, 512, false);
        assert!(!all().is_of(&folder), "nothing is known yet");
        all().write(&folder).unwrap();
        assert!(all().is_of(&folder));
        let others = [
            of(&[e0], usual, 512, false),
            of(&[e0, e1], TextOptions { lowercase: true, ..usual }, 512, false),
            of(&[e0, e1], usual, 64, false),
            of(&[e0, e1], usual, 512, true),
        ];
        others.iter().for_each(|other| assert!(!other.is_of(&folder), "{other:?}"));
        // The same size.
        let file = fs::File::options().write(true).open(p).unwrap();
        file.set_modified(UNIX_EPOCH + std::time::Duration::from_secs(5)).unwrap();
        assert!(!all().is_of(&folder));
        all().write(&folder).unwrap();
        MadeOf::forget(&folder).unwrap();
        assert!(!all().is_of(&folder));
        MadeOf::forget(&folder).unwrap();
        fs::remove_dir_all(folder).unwrap();
    }
}
