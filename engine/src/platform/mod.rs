//! Where native and browser differ: two files with the same names and signatures, chosen here once.

use std::{future::Future, pin::Pin};

use crate::Result;

#[cfg(not(target_family = "wasm"))]
mod native;
mod store;
#[cfg(target_family = "wasm")]
mod web;
#[cfg(not(target_family = "wasm"))]
pub use native::*;
pub use store::{Answered, Appender, Body, MemoryStore, Refusal, Store, Transport, read_small, write_small};
#[cfg(target_family = "wasm")]
pub use web::*;

/// A future that stays on its thread: the browser's GPU objects cannot leave theirs.
pub type LocalFuture<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// Random access to bytes that may be far away: a file, a URL, a file in the browser's private store, a picked file.
pub trait ByteSource {
    /// File name or URL, for messages.
    fn name(&self) -> &str;
    /// Length in bytes.
    fn size(&self) -> u64;
    /// Exactly `len` bytes from `offset`, or an error that says how far it got.
    fn read(&self, offset: u64, len: usize) -> LocalFuture<'_, Result<Vec<u8>>>;

    /// The same into memory that is there already: a load reads gigabytes, and fresh memory costs about as much as the copy.
    fn read_into<'a>(&'a self, offset: u64, out: &'a mut [u8]) -> LocalFuture<'a, Result<()>> {
        Box::pin(async move {
            out.copy_from_slice(&self.read(offset, out.len()).await?);
            Ok(())
        })
    }
}

impl ByteSource for std::rc::Rc<dyn ByteSource> {
    fn name(&self) -> &str {
        (**self).name()
    }

    fn size(&self) -> u64 {
        (**self).size()
    }

    fn read(&self, offset: u64, len: usize) -> LocalFuture<'_, Result<Vec<u8>>> {
        (**self).read(offset, len)
    }

    fn read_into<'a>(&'a self, offset: u64, out: &'a mut [u8]) -> LocalFuture<'a, Result<()>> {
        (**self).read_into(offset, out)
    }
}

/// Bytes in memory, for tests and small files.
#[derive(Debug, Clone)]
pub struct MemorySource {
    name: String,
    bytes: Vec<u8>,
}

impl MemorySource {
    /// `name` appears in error messages.
    pub fn new(name: impl Into<String>, bytes: Vec<u8>) -> Self {
        Self { name: name.into(), bytes }
    }
}

impl ByteSource for MemorySource {
    fn name(&self) -> &str {
        &self.name
    }

    fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read(&self, offset: u64, len: usize) -> LocalFuture<'_, Result<Vec<u8>>> {
        let range = usize::try_from(offset).ok().and_then(|start| Some(start..start.checked_add(len)?));
        let bytes = range.and_then(|range| self.bytes.get(range)).map(<[u8]>::to_vec);
        let result = bytes.ok_or_else(|| short_read(&self.name, offset, len, self.size()));
        Box::pin(std::future::ready(result))
    }
}

/// The error of a read past the end.
pub(crate) fn short_read(name: &str, offset: u64, len: usize, size: u64) -> crate::Error {
    crate::Error::input(
        name,
        format!("byte {offset}"),
        format!("{len} bytes expected, but the file ends at byte {size}"),
    )
}
