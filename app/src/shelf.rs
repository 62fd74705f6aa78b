//! A visitor's own documents in browser storage: a file each, opened with a model by the encoder that reads questions.

use selfrag::{
    Error, Result,
    order::sort_by,
    platform::{Store as _, opfs::Directory, read_small},
    retriever::{
        Embedder,
        beside::Own,
        documents::{Document, MAX_FILE_BYTES, split},
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
        sort_by(&mut files, String::cmp);
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
                Err(error) => (kept.passages, kept.problem) = (0, Some(error.to_string())),
            }
        }
    }

    /// Keeps a document, in the place of one of its name, and has it searched from now on.
    pub(crate) async fn add(&mut self, document: Document, own: &Own, encoder: &EncoderInfo) {
        let (name, passages) = (document.name().to_owned(), document.passages().len());
        let file = harmless_name(&name);
        let problem = match &self.folder {
            Some(folder) => keep(folder, &file, &document.to_bytes(encoder)).await.err(),
            None => Some(Error::io(&file, "this browser refuses to store files")),
        };
        // Without a copy it is searched all the same.
        let what = match self.kept.iter().any(|kept| kept.file == file && kept.problem.is_none()) {
            true => "Not kept: after a reload it is the one before again.",
            false => "Not kept, so gone with this tab.",
        };
        let problem = problem.map(|error| format!("{what} {error}"));
        own.documents.borrow_mut().add(document);
        self.kept.retain(|kept| kept.file != file);
        self.kept.push(KeptDocument { file, name, passages, problem });
        self.tell();
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

/// Embeds a text. Dropping the future leaves everything as it was.
pub(crate) async fn embed(
    (name, text): (&str, &str),
    own: &Own,
    (embedder, encoder): (&mut dyn Embedder, EncoderInfo),
) -> Result<(Document, EncoderInfo)> {
    // Before minutes of work.
    room(own, name, split(name, text)?.len())?;
    let mut progress = |done, of| post(&Reply::Documents(DocumentsReply::Progress { done, of }));
    Ok((Document::embed(name, text, embedder, &encoder, &mut progress).await?, encoder))
}

async fn open(folder: &Directory, file: &str, own: &Own, encoder: &EncoderInfo, dim: usize) -> Result<Document> {
    // One byte more than is allowed is enough to see that it is too long.
    let document = Document::from_bytes(file, &read_small(folder, file, MAX_FILE_BYTES + 1).await?, encoder, dim)?;
    if harmless_name(document.name()) != file {
        return Err(Error::input(file, "name", format!("{:?} is kept under another", document.name())));
    }
    room(own, document.name(), document.passages().len())?;
    Ok(document)
}

/// Whether so many passages can be searched, in the place of those of a document of this name.
fn room(own: &Own, name: &str, more: usize) -> Result<()> {
    let documents = own.documents.borrow();
    let others = documents.iter().filter(|document| document.name() != name);
    let n = more + others.map(|document| document.passages().len()).sum::<usize>();
    if n <= MAX_PASSAGES {
        return Ok(());
    }
    Err(Error::input("your documents", "passages", format!("{n} together, at most {MAX_PASSAGES}: remove some first")))
}

/// The old file stays until the new one is whole, where the browser has streams.
async fn keep(folder: &Directory, file: &str, bytes: &[u8]) -> Result<()> {
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(Error::input(file, "size", format!("{} bytes, at most {MAX_FILE_BYTES}", bytes.len())));
    }
    folder.replace(file, bytes).await
}
