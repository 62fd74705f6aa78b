//! Where downloads come from and where they are kept: small traits between the download logic (`weights::fetch`) and the
//! browser, so that the logic is tested natively against fakes.

use std::{cell::RefCell, collections::BTreeMap, future::ready, rc::Rc};

use super::{ByteSource, LocalFuture, MemorySource};
use crate::{Error, Result};

/// A request that failed, and whether asking again may help.
#[derive(Debug)]
pub struct Refusal {
    /// What went wrong.
    pub error: Error,
    /// True for broken connections and busy servers, false for "not found" and the like.
    pub transient: bool,
}

impl Refusal {
    /// A network failure of `url`.
    pub fn new(url: &str, transient: bool, problem: impl Into<String>) -> Self {
        Self { error: Error::Network { url: url.to_owned(), problem: problem.into() }, transient }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        refusal.error
    }
}

/// A result that knows whether to try again.
pub type Answered<T> = std::result::Result<T, Refusal>;

/// Fetches URLs.
pub trait Transport {
    /// Starts reading `url` from byte `from`. A server that ignores ranges answers from byte 0: see [`Body::start`].
    fn get<'a>(&'a self, url: &'a str, from: u64) -> LocalFuture<'a, Answered<Box<dyn Body>>>;
    /// Random access to `url`, whose size is found out when it is not given.
    fn source<'a>(&'a self, url: &'a str, size: Option<u64>) -> LocalFuture<'a, Result<Box<dyn ByteSource>>>;
}

/// An answer's bytes as they arrive. Dropping it ends the request.
pub trait Body {
    /// The position of the first byte: the one asked for, or 0.
    fn start(&self) -> u64;
    /// Size of the whole file, where the server tells.
    fn total(&self) -> Option<u64>;
    /// The next bytes; none at the end.
    fn next(&mut self) -> LocalFuture<'_, Answered<Option<Vec<u8>>>>;
}

/// A folder of files that outlives the page.
pub trait Store {
    /// Size of a file, or none when there is no such file.
    fn size<'a>(&'a self, file: &'a str) -> LocalFuture<'a, Result<Option<u64>>>;
    /// Opens a file for reading.
    fn open<'a>(&'a self, file: &'a str) -> LocalFuture<'a, Result<Box<dyn ByteSource>>>;
    /// Opens a file, made when missing, for writing at its end.
    fn append<'a>(&'a self, file: &'a str) -> LocalFuture<'a, Result<Box<dyn Appender>>>;
    /// Deletes a file; a missing one is no error.
    fn remove<'a>(&'a self, file: &'a str) -> LocalFuture<'a, Result<()>>;
    /// Writes a small file anew. Where the system can, the old one stays until the new one is whole.
    fn replace<'a>(&'a self, file: &'a str, bytes: &'a [u8]) -> LocalFuture<'a, Result<()>> {
        Box::pin(write(self, file, bytes))
    }
    /// Names of all files.
    fn list(&self) -> LocalFuture<'_, Result<Vec<String>>>;
    /// Bytes that may still be written, where the system tells.
    fn free_bytes(&self) -> LocalFuture<'_, Option<u64>>;
}

/// A file being written. Dropping it closes it; what was appended stays.
pub trait Appender {
    /// Bytes in the file.
    fn size(&self) -> u64;
    /// Writes at the end.
    fn append(&mut self, bytes: &[u8]) -> Result<()>;
    /// Empties the file.
    fn clear(&mut self) -> Result<()>;
    /// Makes sure that everything is on disk.
    fn flush(&mut self) -> Result<()>;
}

/// A file's first `most` bytes; none where there is no such file.
pub fn read_small<'a>(store: &'a dyn Store, file: &'a str, most: u64) -> LocalFuture<'a, Result<Vec<u8>>> {
    Box::pin(async move {
        let Some(size) = store.size(file).await? else { return Ok(Vec::new()) };
        store.open(file).await?.read(0, size.min(most) as usize).await
    })
}

/// Writes a file anew; a process that ends meanwhile leaves less than the whole, which [`Store::replace`] does not where the system can.
pub fn write_small<'a>(store: &'a dyn Store, file: &'a str, bytes: &'a [u8]) -> LocalFuture<'a, Result<()>> {
    Box::pin(write(store, file, bytes))
}

async fn write<S: Store + ?Sized>(store: &S, file: &str, bytes: &[u8]) -> Result<()> {
    store.remove(file).await?;
    let mut file = store.append(file).await?;
    file.append(bytes)?;
    file.flush()
}

/// A folder in memory, for tests. Clones are the same folder.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore {
    /// Contents by name.
    pub files: Rc<RefCell<BTreeMap<String, Vec<u8>>>>,
    /// What [`Store::free_bytes`] tells.
    pub free: Option<u64>,
    /// Appending beyond this size of a file fails, as a full disk does.
    pub full_at: Option<usize>,
}

struct MemoryFile {
    store: MemoryStore,
    name: String,
}

impl Store for MemoryStore {
    fn size<'a>(&'a self, file: &'a str) -> LocalFuture<'a, Result<Option<u64>>> {
        let size = self.files.borrow().get(file).map(|bytes| bytes.len() as u64);
        Box::pin(ready(Ok(size)))
    }

    fn open<'a>(&'a self, file: &'a str) -> LocalFuture<'a, Result<Box<dyn ByteSource>>> {
        Box::pin(ready(match self.files.borrow().get(file) {
            Some(bytes) => Ok(Box::new(MemorySource::new(file, bytes.clone())) as Box<dyn ByteSource>),
            None => Err(Error::io(file, "no such file")),
        }))
    }

    fn append<'a>(&'a self, file: &'a str) -> LocalFuture<'a, Result<Box<dyn Appender>>> {
        self.files.borrow_mut().entry(file.to_owned()).or_default();
        let file = MemoryFile { store: self.clone(), name: file.to_owned() };
        Box::pin(ready(Ok(Box::new(file) as Box<dyn Appender>)))
    }

    fn remove<'a>(&'a self, file: &'a str) -> LocalFuture<'a, Result<()>> {
        self.files.borrow_mut().remove(file);
        Box::pin(ready(Ok(())))
    }

    fn list(&self) -> LocalFuture<'_, Result<Vec<String>>> {
        Box::pin(ready(Ok(self.files.borrow().keys().cloned().collect())))
    }

    fn free_bytes(&self) -> LocalFuture<'_, Option<u64>> {
        Box::pin(ready(self.free))
    }
}

impl Appender for MemoryFile {
    fn size(&self) -> u64 {
        self.store.files.borrow().get(&self.name).map_or(0, |bytes| bytes.len() as u64)
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let mut files = self.store.files.borrow_mut();
        let file = files.entry(self.name.clone()).or_default();
        if self.store.full_at.is_some_and(|limit| file.len() + bytes.len() > limit) {
            return Err(Error::io(&self.name, "QuotaExceededError"));
        }
        file.extend_from_slice(bytes);
        Ok(())
    }

    fn clear(&mut self) -> Result<()> {
        self.store.files.borrow_mut().insert(self.name.clone(), Vec::new());
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}
