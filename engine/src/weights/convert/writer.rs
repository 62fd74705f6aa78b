//! A file that gets its name only when it is complete.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

use crate::{Error, Result};

/// A file under way, beside its final path. Dropped unfinished, it disappears.
pub(in crate::weights) struct PendingFile {
    path: PathBuf,
    temporary: PathBuf,
    file: Option<BufWriter<File>>,
    written: u64,
}

impl PendingFile {
    pub(in crate::weights) fn create(path: &Path) -> Result<Self> {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".part{}", std::process::id()));
        let temporary = PathBuf::from(name);
        let file = File::create(&temporary).map_err(|e| Error::io(temporary.display().to_string(), e))?;
        Ok(Self { path: path.to_owned(), temporary, file: Some(BufWriter::with_capacity(1 << 20, file)), written: 0 })
    }

    pub(in crate::weights) fn written(&self) -> u64 {
        self.written
    }

    pub(in crate::weights) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let file = self.file.as_mut().expect("present until the end");
        file.write_all(bytes).map_err(|e| Error::io(self.temporary.display().to_string(), e))?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Zeros up to a position at or after the current one.
    pub(in crate::weights) fn pad_to(&mut self, position: u64) -> Result<()> {
        let gap = position.checked_sub(self.written).expect("tensors are written in order of offset");
        self.write(&vec![0; gap as usize])
    }

    /// Everything on disk, then the name.
    pub(in crate::weights) fn finish(mut self) -> Result<()> {
        let file = self.file.take().expect("present until the end");
        let done = file.into_inner().map_err(|e| e.into_error()).and_then(|file| file.sync_all());
        done.and_then(|()| std::fs::rename(&self.temporary, &self.path)).map_err(|e| {
            std::fs::remove_file(&self.temporary).ok();
            Error::io(self.path.display().to_string(), e)
        })
    }
}

impl Drop for PendingFile {
    fn drop(&mut self) {
        if self.file.is_some() {
            std::fs::remove_file(&self.temporary).ok();
        }
    }
}
