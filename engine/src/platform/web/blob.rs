//! A file that the user picked or dropped, read by position; the browser reads only the ranges asked for.

use js_sys::{ArrayBuffer, Uint8Array};
use wasm_bindgen::JsCast;
use wasm_bindgen_futures::JsFuture;
use web_sys::Blob;

use super::thrown;
use crate::{
    Error, Result,
    platform::{ByteSource, LocalFuture, short_read},
};

/// A picked [`web_sys::File`] or any other blob.
#[derive(Debug, Clone)]
pub struct BlobSource {
    name: String,
    blob: Blob,
    size: u64,
}

impl BlobSource {
    /// `name` appears in error messages.
    pub fn new(name: impl Into<String>, blob: Blob) -> Self {
        Self { name: name.into(), size: blob.size() as u64, blob }
    }

    async fn read_range(&self, offset: u64, len: usize) -> Result<Vec<u8>> {
        let end = offset.checked_add(len as u64).filter(|end| *end <= self.size);
        let end = end.ok_or_else(|| short_read(&self.name, offset, len, self.size))?;
        let fail = |e| Error::io(&self.name, thrown(&e));
        let part = self.blob.slice_with_f64_and_f64(offset as f64, end as f64).map_err(fail)?;
        // Fails with NotReadableError when the file was changed or removed since it was picked.
        let buffer = JsFuture::from(part.array_buffer()).await.map_err(fail)?;
        let bytes = Uint8Array::new(buffer.unchecked_ref::<ArrayBuffer>()).to_vec();
        if bytes.len() != len {
            return Err(short_read(&self.name, offset, len, offset + bytes.len() as u64));
        }
        Ok(bytes)
    }
}

impl ByteSource for BlobSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn read(&self, offset: u64, len: usize) -> LocalFuture<'_, Result<Vec<u8>>> {
        Box::pin(self.read_range(offset, len))
    }
}
