//! Where a passage store's files are: a folder, a URL, memory.

use std::{collections::BTreeMap, rc::Rc};

use crate::{
    Error, Result,
    platform::{ByteSource, LocalFuture, MemorySource, Store},
    retriever::manifest::{MANIFEST, MAX_MANIFEST_BYTES},
};

/// A set of files that are opened by name.
pub trait Files {
    /// Folder or URL, for messages.
    fn name(&self) -> &str;
    /// Opens a file. `bytes` is its expected size where it is known, which spares a web server the question; readers check
    /// the size that the source tells either way.
    fn open<'a>(&'a self, file: &'a str, bytes: Option<u64>) -> LocalFuture<'a, Result<Box<dyn ByteSource>>>;

    /// A folder for what is read of a clustered store, so that it need not come from far away again; none where there is none.
    fn storage(&self) -> Option<Rc<dyn Store>> {
        None
    }
}

/// Files in memory, for tests.
#[derive(Debug, Clone, Default)]
pub struct MemoryFiles {
    /// Contents by name.
    pub files: BTreeMap<String, Vec<u8>>,
}

impl Files for MemoryFiles {
    fn name(&self) -> &str {
        "memory"
    }

    fn open<'a>(&'a self, file: &'a str, _bytes: Option<u64>) -> LocalFuture<'a, Result<Box<dyn ByteSource>>> {
        let source = match self.files.get(file) {
            Some(bytes) => Ok(Box::new(MemorySource::new(file, bytes.clone())) as Box<dyn ByteSource>),
            None => Err(Error::io(file, "no such file")),
        };
        Box::pin(std::future::ready(source))
    }
}

/// A folder on disk.
#[cfg(feature = "cli")]
#[derive(Debug, Clone)]
pub struct Folder {
    path: std::path::PathBuf,
    name: String,
}

#[cfg(feature = "cli")]
impl Folder {
    /// Nothing is opened yet.
    pub fn new(path: impl Into<std::path::PathBuf>) -> Self {
        let path = path.into();
        Self { name: path.display().to_string(), path }
    }
}

#[cfg(feature = "cli")]
impl Files for Folder {
    fn name(&self) -> &str {
        &self.name
    }

    fn open<'a>(&'a self, file: &'a str, _bytes: Option<u64>) -> LocalFuture<'a, Result<Box<dyn ByteSource>>> {
        let source = crate::platform::FileSource::open(self.path.join(file));
        Box::pin(std::future::ready(source.map(|source| Box::new(source) as Box<dyn ByteSource>)))
    }
}

/// A folder behind a URL, on any static host.
#[derive(Debug, Clone)]
pub struct Remote {
    url: String,
}

impl Remote {
    /// `url` is that of the folder, or of the manifest in it. Nothing is asked yet.
    pub fn new(url: &str) -> Self {
        let url = url.strip_suffix(MANIFEST).unwrap_or(url);
        Self { url: format!("{}/", url.trim_end_matches('/')) }
    }
}

impl Files for Remote {
    fn name(&self) -> &str {
        &self.url
    }

    fn open<'a>(&'a self, file: &'a str, bytes: Option<u64>) -> LocalFuture<'a, Result<Box<dyn ByteSource>>> {
        Box::pin(async move {
            let url = format!("{}{file}", self.url);
            match bytes {
                Some(bytes) => Ok(crate::platform::open_url(&url, bytes)),
                // The manifest, the one file whose size nothing tells.
                None => {
                    let content = crate::platform::get_small(&url, MAX_MANIFEST_BYTES as usize).await?;
                    Ok(Box::new(MemorySource::new(url, content)) as Box<dyn ByteSource>)
                }
            }
        })
    }
}

/// The files at a place as users write it: a URL or a folder.
#[cfg(feature = "cli")]
pub fn at(place: &std::path::Path) -> Box<dyn Files> {
    match place.to_str().filter(|place| is_url(place)) {
        Some(url) => Box::new(Remote::new(url)),
        None => Box::new(Folder::new(place)),
    }
}

/// Whether a place is a URL.
pub fn is_url(place: &str) -> bool {
    place.starts_with("http://") || place.starts_with("https://")
}
