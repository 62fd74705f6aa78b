//! Native: files, the clock, threads.

use std::{fs::File, future::Future, os::unix::fs::FileExt, path::Path, time::Duration};

use super::{ByteSource, LocalFuture, short_read};
use crate::{Error, Result};

/// Runs a future to its end on this thread.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    pollster::block_on(future)
}

/// Waits.
pub async fn sleep(duration: Duration) {
    std::thread::sleep(duration);
}

/// Milliseconds from some fixed point, for measuring.
pub fn now_ms() -> f64 {
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    START.get_or_init(std::time::Instant::now).elapsed().as_secs_f64() * 1e3
}

/// A file on disk, read by position.
#[derive(Debug)]
pub struct FileSource {
    name: String,
    file: File,
    size: u64,
}

impl FileSource {
    /// Opens a file for reading.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let name = path.as_ref().display().to_string();
        let file = File::open(path).map_err(|e| Error::io(&name, e))?;
        let size = file.metadata().map_err(|e| Error::io(&name, e))?.len();
        Ok(Self { name, file, size })
    }
}

impl ByteSource for FileSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn read(&self, offset: u64, len: usize) -> LocalFuture<'_, Result<Vec<u8>>> {
        let result = (|| {
            // The length is checked before the allocation: a lying header must not make us reserve gigabytes.
            if offset.checked_add(len as u64).is_none_or(|end| end > self.size) {
                return Err(short_read(&self.name, offset, len, self.size));
            }
            let mut bytes = vec![0; len];
            self.file.read_exact_at(&mut bytes, offset).map_err(|e| Error::io(&self.name, e))?;
            Ok(bytes)
        })();
        Box::pin(std::future::ready(result))
    }
}
