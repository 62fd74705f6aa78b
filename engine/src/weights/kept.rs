//! What browser storage holds of a model: a note beside the files, naming each one whose hash was checked.
//!
//! A file in the note is complete and right; a file without an entry is a broken-off download, to be continued. A note that
//! cannot be read counts as empty: the files are then hashed again, not fetched again.

use serde::{Deserialize, Serialize};

use super::manifest::{MAX_MANIFEST_BYTES, Role, is_harmless_name};
use crate::{
    Result,
    platform::{ByteSource, Store, read_small},
};

/// The note's file name.
pub const NOTE: &str = "kept.json";

/// A model's files by what they are for.
pub type OpenFiles = Vec<(Role, Box<dyn ByteSource>)>;

/// A verified file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptFile {
    /// Name in the model's folder.
    pub name: String,
    /// Size when it was verified.
    pub bytes: u64,
    /// Its hash: the manifest's, or the one computed where there was none to compare with.
    pub sha256: String,
    /// What it is for.
    pub role: Role,
}

/// A model in browser storage.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Shown to the user.
    pub name: String,
    /// Where it came from: see [`RemoteModel`](super::fetch::RemoteModel).
    pub source: String,
    /// Licence of the weights, where known.
    #[serde(default)]
    pub licence: String,
    /// Size of all files, kept or still missing.
    pub total_bytes: u64,
    /// How many files the model has.
    pub n_files: usize,
    /// Those that are complete and verified.
    pub files: Vec<KeptFile>,
}

impl Kept {
    /// Reads a model's note.
    pub async fn read(store: &dyn Store) -> Option<Self> {
        // A longer one is cut off, and then is no JSON.
        let bytes = read_small(store, NOTE, MAX_MANIFEST_BYTES as u64).await.ok()?;
        let kept: Self = serde_json::from_slice(&bytes).ok()?;
        kept.files.iter().all(|file| is_harmless_name(&file.name)).then_some(kept)
    }

    /// Replaces a model's note.
    pub async fn write(&self, store: &dyn Store) -> Result<()> {
        let json = serde_json::to_vec(self).expect("a note has only strings and numbers");
        store.replace(NOTE, &json).await
    }

    /// Whether nothing has to be fetched any more.
    pub fn is_complete(&self) -> bool {
        self.n_files > 0 && self.files.len() == self.n_files
    }

    /// Bytes of the verified files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).fold(0, u64::saturating_add)
    }

    /// The entry of a file that is as expected; without an expected hash the size decides.
    pub(super) fn verified(&self, name: &str, bytes: u64, sha256: Option<&str>) -> bool {
        let as_expected = |file: &&KeptFile| file.bytes == bytes && sha256.is_none_or(|hash| file.sha256 == hash);
        self.files.iter().find(|file| file.name == name).filter(as_expected).is_some()
    }

    /// Opens a complete model without touching the network; none when something is missing or was changed in size.
    pub async fn open(&self, store: &dyn Store) -> Result<Option<OpenFiles>> {
        if !self.is_complete() {
            return Ok(None);
        }
        let mut open = OpenFiles::new();
        for file in &self.files {
            if store.size(&file.name).await? != Some(file.bytes) {
                return Ok(None);
            }
            open.push((file.role, store.open(&file.name).await?));
        }
        Ok(Some(open))
    }
}
