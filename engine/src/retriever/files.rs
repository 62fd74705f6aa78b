//! Where a passage store's files are: a folder, a URL, memory.

use std::collections::BTreeMap;

use crate::{
    Error, Result,
    platform::{ByteSource, LocalFuture, MemorySource},
};

/// A set of files that are opened by name.
pub trait Files {
    /// Folder or URL, for messages.
    fn name(&self) -> &str;
    /// Opens a file. `bytes` is its expected size where it is known, which spares a web server the question; readers check
    /// the size that the source tells either way.
    fn open<'a>(&'a self, file: &'a str, bytes: Option<u64>) -> LocalFuture<'a, Result<Box<dyn ByteSource>>>;
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
