//! The origin-private file system: files that belong to this site and stay when the tab is closed.
//!
//! Appending needs a dedicated worker (synchronous access handles exist only there); reading falls back to a `File` snapshot
//! where a handle is refused, in a window for example or when another tab writes.

use js_sys::{Array, Reflect, Uint8Array};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{
    FileSystemDirectoryHandle, FileSystemFileHandle, FileSystemGetDirectoryOptions, FileSystemGetFileOptions,
    FileSystemReadWriteOptions, FileSystemRemoveOptions, FileSystemSyncAccessHandle, FileSystemWritableFileStream,
    StorageEstimate, StorageManager,
};

use super::{BlobSource, thrown};
use crate::{
    Error, Result,
    platform::{Appender, ByteSource, LocalFuture, Store, short_read, write_small},
};

/// Bytes used and allowed for this site.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Estimate {
    /// In use.
    pub usage: u64,
    /// The browser's limit.
    pub quota: u64,
}

/// What [`StorageManager`] tells about space; none where it does not.
pub async fn estimate() -> Option<Estimate> {
    let promise = storage().ok()?.estimate().ok()?;
    let estimate: StorageEstimate = JsFuture::from(promise).await.ok()?.unchecked_into();
    Some(Estimate { usage: estimate.get_usage()? as u64, quota: estimate.get_quota()? as u64 })
}

/// Asks the browser not to clear this site's files when space runs short; true when it agreed.
pub async fn persist() -> bool {
    let Ok(Ok(promise)) = storage().map(|s| s.persist()) else { return false };
    JsFuture::from(promise).await.is_ok_and(|answer| answer.is_truthy())
}

/// A folder of the origin-private file system.
#[derive(Debug, Clone)]
pub struct Directory {
    path: String,
    handle: FileSystemDirectoryHandle,
}

impl Directory {
    /// The top folder. Refused in some private windows and on insecure pages.
    pub async fn root() -> Result<Self> {
        let path = "browser storage".to_owned();
        let handle = JsFuture::from(storage()?.get_directory()).await.map_err(|e| Error::io(&path, thrown(&e)))?;
        Ok(Self { path, handle: handle.unchecked_into() })
    }

    /// A folder within, made when missing.
    pub async fn folder(&self, name: &str) -> Result<Self> {
        let options = FileSystemGetDirectoryOptions::new();
        options.set_create(true);
        let path = format!("{}/{name}", self.path);
        let promise = self.handle.get_directory_handle_with_options(name, &options);
        let handle = JsFuture::from(promise).await.map_err(|e| Error::io(&path, thrown(&e)))?;
        Ok(Self { path, handle: handle.unchecked_into() })
    }

    /// Names of files and folders.
    pub async fn names(&self) -> Result<Vec<String>> {
        let fail = |e: JsValue| Error::io(&self.path, thrown(&e));
        let names = self.handle.keys();
        let mut found = Vec::new();
        loop {
            let step = JsFuture::from(names.next().map_err(fail)?).await.map_err(fail)?;
            if Reflect::get(&step, &"done".into()).map_err(fail)?.is_truthy() {
                break;
            }
            found.extend(Reflect::get(&step, &"value".into()).map_err(fail)?.as_string());
        }
        Ok(found)
    }

    /// Deletes a file, or a folder with everything in it; a missing one is no error.
    pub async fn delete(&self, name: &str) -> Result<()> {
        let options = FileSystemRemoveOptions::new();
        options.set_recursive(true);
        match JsFuture::from(self.handle.remove_entry_with_options(name, &options)).await {
            Err(e) if !is_not_found(&e) => Err(Error::io(self.path_of(name), thrown(&e))),
            _ => Ok(()),
        }
    }

    async fn stream(&self, handle: &FileSystemFileHandle, bytes: &[u8]) -> Result<(), JsValue> {
        let stream: FileSystemWritableFileStream = JsFuture::from(handle.create_writable()).await?.unchecked_into();
        // A copy: this memory may move while the browser writes.
        if let Err(error) = JsFuture::from(stream.write_with_buffer_source(&Uint8Array::from(bytes))?).await {
            let _ = JsFuture::from(stream.abort()).await;
            return Err(error);
        }
        JsFuture::from(stream.close()).await.map(drop)
    }

    async fn file(&self, name: &str, create: bool) -> Result<Option<FileSystemFileHandle>> {
        let options = FileSystemGetFileOptions::new();
        options.set_create(create);
        match JsFuture::from(self.handle.get_file_handle_with_options(name, &options)).await {
            Ok(handle) => Ok(Some(handle.unchecked_into())),
            Err(e) if is_not_found(&e) && !create => Ok(None),
            Err(e) => Err(Error::io(self.path_of(name), thrown(&e))),
        }
    }

    async fn snapshot(&self, name: &str, file: &FileSystemFileHandle) -> Result<web_sys::File> {
        let snapshot = JsFuture::from(file.get_file()).await.map_err(|e| Error::io(self.path_of(name), thrown(&e)))?;
        Ok(snapshot.unchecked_into())
    }

    fn path_of(&self, name: &str) -> String {
        format!("{}/{name}", self.path)
    }
}

impl Store for Directory {
    fn size<'a>(&'a self, file: &'a str) -> LocalFuture<'a, Result<Option<u64>>> {
        Box::pin(async move {
            let Some(handle) = self.file(file, false).await? else { return Ok(None) };
            Ok(Some(self.snapshot(file, &handle).await?.size() as u64))
        })
    }

    fn open<'a>(&'a self, file: &'a str) -> LocalFuture<'a, Result<Box<dyn ByteSource>>> {
        Box::pin(async move {
            let path = self.path_of(file);
            let Some(handle) = self.file(file, false).await? else { return Err(Error::io(path, "no such file")) };
            if let Ok(access) = lock(&handle, Some("read-only")).await {
                return Ok(Box::new(OpfsSource::new(path, access)?) as Box<dyn ByteSource>);
            }
            Ok(Box::new(BlobSource::new(path, self.snapshot(file, &handle).await?.into())) as Box<dyn ByteSource>)
        })
    }

    /// By a stream, where the browser has them: what it wrote takes the file's place when it is closed.
    fn replace<'a>(&'a self, file: &'a str, bytes: &'a [u8]) -> LocalFuture<'a, Result<()>> {
        Box::pin(async move {
            let Some(handle) = self.file(file, true).await? else { return Err(Error::io(file, "could not be made")) };
            if !Reflect::has(&handle, &"createWritable".into()).unwrap_or(false) {
                return write_small(self, file, bytes).await;
            }
            let Err(error) = self.stream(&handle, bytes).await else { return Ok(()) };
            if matches!(self.size(file).await, Ok(Some(0))) {
                // It was not there before.
                let _ = self.remove(file).await;
            }
            Err(Error::io(self.path_of(file), thrown(&error)))
        })
    }

    fn append<'a>(&'a self, file: &'a str) -> LocalFuture<'a, Result<Box<dyn Appender>>> {
        Box::pin(async move {
            let path = self.path_of(file);
            let Some(handle) = self.file(file, true).await? else { return Err(Error::io(path, "could not be made")) };
            let access = lock(&handle, None).await.map_err(|e| Error::io(&path, thrown(&e)))?;
            let size = access.get_size().map_err(|e| Error::io(&path, thrown(&e)))? as u64;
            Ok(Box::new(OpfsAppender { path, access, size }) as Box<dyn Appender>)
        })
    }

    fn remove<'a>(&'a self, file: &'a str) -> LocalFuture<'a, Result<()>> {
        Box::pin(self.delete(file))
    }

    fn list(&self) -> LocalFuture<'_, Result<Vec<String>>> {
        Box::pin(self.names())
    }

    fn free_bytes(&self) -> LocalFuture<'_, Option<u64>> {
        Box::pin(async { estimate().await.map(|e| e.quota.saturating_sub(e.usage)) })
    }
}

/// A kept file, read synchronously in a worker: no copy through a `Blob`.
#[derive(Debug)]
pub struct OpfsSource {
    path: String,
    access: FileSystemSyncAccessHandle,
    size: u64,
}

impl OpfsSource {
    fn new(path: String, access: FileSystemSyncAccessHandle) -> Result<Self> {
        let size = access.get_size().map_err(|e| Error::io(&path, thrown(&e)))? as u64;
        Ok(Self { path, access, size })
    }

    fn check(&self, offset: u64, len: usize) -> Result<()> {
        let is_inside = offset.checked_add(len as u64).is_some_and(|end| end <= self.size);
        if is_inside { Ok(()) } else { Err(short_read(&self.path, offset, len, self.size)) }
    }

    fn fill(&self, offset: u64, bytes: &mut [u8]) -> Result<()> {
        let len = bytes.len();
        let mut filled = 0;
        while filled < len {
            let rest = &mut bytes[filled..];
            let n = self.access.read_with_u8_array_and_options(rest, &at(offset + filled as u64));
            let n = n.map_err(|e| Error::io(&self.path, thrown(&e)))? as usize;
            if n == 0 {
                return Err(short_read(&self.path, offset, len, offset + filled as u64));
            }
            filled += n;
        }
        Ok(())
    }
}

impl Drop for OpfsSource {
    fn drop(&mut self) {
        self.access.close();
    }
}

impl ByteSource for OpfsSource {
    fn name(&self) -> &str {
        &self.path
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn read(&self, offset: u64, len: usize) -> LocalFuture<'_, Result<Vec<u8>>> {
        // The length is checked before the allocation: a lying header must not make us reserve gigabytes.
        let result = self.check(offset, len).and_then(|()| {
            let mut bytes = vec![0; len];
            self.fill(offset, &mut bytes)?;
            Ok(bytes)
        });
        Box::pin(std::future::ready(result))
    }

    fn read_into<'a>(&'a self, offset: u64, out: &'a mut [u8]) -> LocalFuture<'a, Result<()>> {
        let result = self.check(offset, out.len()).and_then(|()| self.fill(offset, out));
        Box::pin(std::future::ready(result))
    }
}

struct OpfsAppender {
    path: String,
    access: FileSystemSyncAccessHandle,
    size: u64,
}

impl Appender for OpfsAppender {
    fn size(&self) -> u64 {
        self.size
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        // A full disk shows as QuotaExceededError, or as fewer bytes written than given.
        let n = self.access.write_with_u8_array_and_options(bytes, &at(self.size));
        let n = n.map_err(|e| Error::io(&self.path, thrown(&e)))? as usize;
        self.size += n as u64;
        if n < bytes.len() {
            return Err(Error::io(&self.path, format!("{n} of {} bytes written: storage full?", bytes.len())));
        }
        Ok(())
    }

    fn clear(&mut self) -> Result<()> {
        self.access.truncate_with_u32(0).map_err(|e| Error::io(&self.path, thrown(&e)))?;
        self.size = 0;
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.access.flush().map_err(|e| Error::io(&self.path, thrown(&e)))
    }
}

impl Drop for OpfsAppender {
    fn drop(&mut self) {
        self.access.close();
    }
}

/// `navigator.storage` of a window or a worker.
fn storage() -> Result<StorageManager> {
    let get = |object: &JsValue, name: &str| Reflect::get(object, &name.into()).unwrap_or(JsValue::UNDEFINED);
    let storage = get(&get(&js_sys::global(), "navigator"), "storage");
    // Undefined on insecure pages (http:// that is not localhost).
    storage.dyn_into().map_err(|_| Error::io("browser storage", "not available on this page"))
}

/// A synchronous access handle. `mode` is passed by hand because only newer browsers know it; older ones ignore it.
async fn lock(file: &FileSystemFileHandle, mode: Option<&str>) -> Result<FileSystemSyncAccessHandle, JsValue> {
    let method: js_sys::Function = Reflect::get(file, &"createSyncAccessHandle".into())?.dyn_into()?;
    let arguments = Array::new();
    if let Some(mode) = mode {
        let options = js_sys::Object::new();
        Reflect::set(&options, &"mode".into(), &mode.into())?;
        arguments.push(&options);
    }
    let promise: js_sys::Promise = method.apply(file, &arguments)?.dyn_into()?;
    Ok(JsFuture::from(promise).await?.unchecked_into())
}

fn at(offset: u64) -> FileSystemReadWriteOptions {
    let options = FileSystemReadWriteOptions::new();
    // f64 holds every offset under 8 PiB.
    options.set_at_f64(offset as f64);
    options
}

fn is_not_found(e: &JsValue) -> bool {
    e.dyn_ref::<web_sys::DomException>().is_some_and(|e| e.name() == "NotFoundError")
}
