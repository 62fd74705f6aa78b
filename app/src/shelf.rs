//! A visitor's own documents in browser storage: a file each, opened with a model by the encoder that reads questions.

use selfrag::{
    Error, Result,
    platform::{Store as _, opfs::Directory, read_small, write_small},
    retriever::{
        Embedder,
        beside::Own,
        documents::{Document, MAX_FILE_BYTES},
        manifest::EncoderInfo,
    },
    weights::manifest::harmless_name,
};

use crate::{
    post,
    protocol::{DocumentsReply, KeptDocument, Reply},
};

/// Passages of all documents together: what a tab's memory has room for beside a model.
const MAX_PASSAGES: usize = 200_000;

/// What is kept.
pub(crate) struct Shelf {
    /// None where the browser refuses storage: documents then stay as long as the model.
    folder: Option<Directory>,
    kept: Vec<KeptDocument>,
}

impl Shelf {
    /// Lists the files; they are opened with a model.
    pub(crate) async fn open() -> Self {
        let folder = match Directory::root().await {
            Ok(root) => root.folder("documents").await.ok(),
            Err(_) => None,
        };
        let mut files = match &folder {
            Some(folder) => folder.list().await.unwrap_or_default(),
            None => Vec::new(),
        };
        files.sort();
        let kept = |file: String| KeptDocument { name: file.clone(), file, passages: 0, problem: None };
        Self { folder, kept: files.into_iter().map(kept).collect() }
    }

    /// Tells the page.
    pub(crate) fn tell(&self) {
        post(&Reply::Documents(DocumentsReply::Kept(self.kept.clone())));
    }

    /// Opens every file for the session that `own` belongs to. One that cannot be used says why, and stands in nobody's way.
    pub(crate) async fn fill(&mut self, own: &Own, encoder: &EncoderInfo, dim: usize) {
        let Some(folder) = &self.folder else {
            self.kept.clear();
            return;
        };
        for kept in &mut self.kept {
            match open(folder, &kept.file, own, encoder, dim).await {
                Ok(document) => {
                    (kept.name, kept.passages) = (document.name().to_owned(), document.passages().len());
                    kept.problem = None;
                    own.documents.borrow_mut().add(document);
                }
                Err(error) => kept.problem = Some(error.to_string()),
            }
        }
    }

    /// Embeds a text, keeps it, and has it searched from now on. Dropping the future leaves everything as it was.
    pub(crate) async fn add(
        &mut self,
        (name, text): (&str, &str),
        own: &Own,
        (embedder, encoder): (&mut dyn Embedder, EncoderInfo),
    ) -> Result<()> {
        room(own, 0)?;
        let mut progress = |done, of| post(&Reply::Documents(DocumentsReply::Progress { done, of }));
        let document = Document::embed(name, text, embedder, &encoder, &mut progress).await?;
        room(own, document.passages().len())?;
        let (file, passages) = (harmless_name(name), document.passages().len());
        let problem = match &self.folder {
            Some(folder) => keep(folder, &file, &document.to_bytes(&encoder)).await.err(),
            None => Some(Error::io(&file, "this browser refuses to store files")),
        };
        // Without a copy it is searched all the same.
        let problem = problem.map(|error| format!("Not kept, so gone with this tab. {error}"));
        own.documents.borrow_mut().add(document);
        self.kept.retain(|kept| kept.file != file);
        self.kept.push(KeptDocument { file, name: name.to_owned(), passages, problem });
        self.tell();
        Ok(())
    }

    /// Removes a document, whether it could be opened or not.
    pub(crate) async fn remove(&mut self, file: &str, own: Option<&Own>) -> Result<()> {
        let Some(place) = self.kept.iter().position(|kept| kept.file == file) else { return Ok(()) };
        if let Some(folder) = &self.folder {
            folder.remove(file).await?;
        }
        let kept = self.kept.remove(place);
        if let Some(own) = own {
            own.documents.borrow_mut().remove(&kept.name);
        }
        self.tell();
        Ok(())
    }
}

async fn open(folder: &Directory, file: &str, own: &Own, encoder: &EncoderInfo, dim: usize) -> Result<Document> {
    // One byte more than is allowed is enough to see that it is too long.
    let document = Document::from_bytes(file, &read_small(folder, file, MAX_FILE_BYTES + 1).await?, encoder, dim)?;
    if harmless_name(document.name()) != file {
        return Err(Error::input(file, "name", format!("{:?} is kept under another", document.name())));
    }
    room(own, document.passages().len())?;
    Ok(document)
}

/// Whether so many passages more can be searched.
fn room(own: &Own, more: usize) -> Result<()> {
    let n = own.documents.borrow().n_passages() + more;
    if n < MAX_PASSAGES {
        return Ok(());
    }
    Err(Error::input("your documents", "passages", format!("{n} together, at most {MAX_PASSAGES}: remove some first")))
}

/// A file that is cut short here has no right hash, which `open` then tells.
async fn keep(folder: &Directory, file: &str, bytes: &[u8]) -> Result<()> {
    let written = write_small(folder, file, bytes).await;
    if written.is_err() {
        // Half a file helps nobody.
        let _ = folder.remove(file).await;
    }
    written
}
