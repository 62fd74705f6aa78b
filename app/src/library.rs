//! The models in browser storage, and what is kept of passages: one folder each, with a note of what it is.

use selfrag::{
    Result,
    order::sort_by,
    platform::{
        Store,
        opfs::{self, Directory},
    },
    retriever::clusters::kept::size_of,
    weights::{
        kept::{Kept, OpenFiles},
        manifest::harmless_name,
    },
};

use crate::{
    corpus::CORPORA,
    protocol::{KeptModel, StorageFacts},
};

/// Browser storage, or why there is none.
pub(crate) struct Library {
    models: Result<Directory>,
    corpora: Result<Directory>,
}

impl Library {
    /// Opens it; a refusal is kept to be told.
    pub(crate) async fn open() -> Self {
        Self { models: open("models").await, corpora: open(CORPORA).await }
    }

    /// The folder of the model that comes from `source`; none when storage is refused.
    pub(crate) async fn folder(&self, source: &str) -> Option<Directory> {
        self.models.as_ref().ok()?.folder(&harmless_name(source)).await.ok()
    }

    /// A kept model by its folder's name, with its files when it is complete.
    pub(crate) async fn kept(&self, folder: &str) -> Option<(Kept, Option<OpenFiles>)> {
        let models = self.models.as_ref().ok()?;
        // The name comes from the page; asking for a folder that is not there would make it.
        if !models.list().await.ok()?.iter().any(|name| name == folder) {
            return None;
        }
        let folder = models.folder(folder).await.ok()?;
        let kept = Kept::read(&folder).await?;
        let files = kept.open(&folder).await.ok()?;
        Some((kept, files))
    }

    /// Deletes a model, or what is kept of a corpus.
    pub(crate) async fn forget(&self, folder: &str, corpus: bool) -> Result<()> {
        match if corpus { &self.corpora } else { &self.models } {
            Ok(all) => all.remove(folder).await,
            Err(_) => Ok(()),
        }
    }

    /// What is there, for the page.
    pub(crate) async fn facts(&self) -> StorageFacts {
        let estimate = opfs::estimate().await;
        let (usage, quota) = (estimate.map(|e| e.usage), estimate.map(|e| e.quota));
        match (&self.models, &self.corpora) {
            (Ok(models), Ok(corpora)) => {
                let (models, corpora) = (list(models).await, list(corpora).await);
                StorageFacts { models, corpora, usage, quota, refused: None }
            }
            (Err(error), _) | (_, Err(error)) => {
                StorageFacts { refused: Some(error.to_string()), ..StorageFacts::default() }
            }
        }
    }
}

async fn open(folder: &str) -> Result<Directory> {
    Directory::root().await?.folder(folder).await
}

async fn list(all: &Directory) -> Vec<KeptModel> {
    let mut found = Vec::new();
    for folder in all.list().await.unwrap_or_default() {
        let Ok(directory) = all.folder(&folder).await else { continue };
        let kept = Kept::read(&directory).await.unwrap_or_default();
        let mut bytes = 0;
        for file in directory.list().await.unwrap_or_default() {
            bytes += match size_of(&file) {
                // There may be thousands of these.
                Some(bytes) => bytes,
                None => directory.size(&file).await.ok().flatten().unwrap_or(0),
            };
        }
        if bytes == 0 {
            // Made by a download that never began.
            continue;
        }
        let name = if kept.name.is_empty() { folder.clone() } else { kept.name.clone() };
        let complete = kept.is_complete();
        let total_bytes = kept.total_bytes.max(bytes);
        found.push(KeptModel { folder, name, bytes, total_bytes, complete, source: kept.source });
    }
    sort_by(&mut found, |a, b| a.name.cmp(&b.name));
    found
}
