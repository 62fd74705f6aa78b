//! Where downloads come from and where they are kept: small traits between the download logic (`weights::fetch`) and the
//! browser, so that the logic is tested natively against fakes.

use super::{ByteSource, LocalFuture};
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
