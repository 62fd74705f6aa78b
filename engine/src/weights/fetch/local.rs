//! Picked files as a [`Transport`], so that keeping a local model is the same code as downloading one.

use std::rc::Rc;

use super::{RemoteFile, RemoteModel};
use crate::{
    Error, Result,
    platform::{Answered, Body, ByteSource, LocalFuture, Refusal, Transport},
    weights::manifest::{Role, harmless_name},
};

/// Bytes copied at a time.
const PIECE: u64 = 4 << 20;

/// Files that the user picked; their "URLs" are their names.
pub struct LocalFiles {
    identity: String,
    files: Vec<Rc<dyn ByteSource>>,
}

impl LocalFiles {
    /// `files` in the order of their splits. `identity` tells them from other files of the same names (size and time of the
    /// last change, say): a copy that broke off is only continued when it is equal.
    pub fn new(identity: impl Into<String>, files: Vec<Rc<dyn ByteSource>>) -> Self {
        Self { identity: identity.into(), files }
    }

    /// What to fetch in order to keep them.
    pub fn model(&self) -> Result<RemoteModel> {
        let first = self.files.first().ok_or_else(|| Error::config("file", "a GGUF file expected"))?;
        let file = |file: &Rc<dyn ByteSource>| RemoteFile {
            name: harmless_name(file.name()),
            url: file.name().to_owned(),
            bytes: file.size(),
            sha256: None,
            role: Role::Generator,
        };
        let files = self.files.iter().map(file).collect();
        Ok(RemoteModel { name: first.name().to_owned(), source: self.identity.clone(), licence: String::new(), files })
    }

    fn find(&self, url: &str) -> Answered<Rc<dyn ByteSource>> {
        let found = self.files.iter().find(|file| file.name() == url);
        found.cloned().ok_or_else(|| Refusal::new(url, false, "no file of that name was picked"))
    }
}

impl Transport for LocalFiles {
    fn get<'a>(&'a self, url: &'a str, from: u64) -> LocalFuture<'a, Answered<Box<dyn Body>>> {
        let body = self.find(url).map(|file| Box::new(Reading { file, start: from, position: from }) as Box<dyn Body>);
        Box::pin(std::future::ready(body))
    }

    fn source<'a>(&'a self, url: &'a str, _size: Option<u64>) -> LocalFuture<'a, Result<Box<dyn ByteSource>>> {
        let source = self.find(url).map(|file| Box::new(file) as Box<dyn ByteSource>);
        Box::pin(std::future::ready(source.map_err(Error::from)))
    }
}

/// A file being copied.
struct Reading {
    file: Rc<dyn ByteSource>,
    start: u64,
    position: u64,
}

impl Body for Reading {
    fn start(&self) -> u64 {
        self.start
    }

    fn total(&self) -> Option<u64> {
        Some(self.file.size())
    }

    fn next(&mut self) -> LocalFuture<'_, Answered<Option<Vec<u8>>>> {
        Box::pin(async {
            let n = PIECE.min(self.file.size().saturating_sub(self.position));
            if n == 0 {
                return Ok(None);
            }
            let bytes = self.file.read(self.position, n as usize).await;
            let bytes = bytes.map_err(|error| Refusal { error, transient: false })?;
            self.position += n;
            Ok(Some(bytes))
        })
    }
}
