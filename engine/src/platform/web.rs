//! The browser: fetch, picked files, the origin-private file system, the clock. Works in a window and in a worker.

mod blob;
mod http;
pub mod opfs;

use std::time::Duration;

use js_sys::{Error as JsError, Promise};
use wasm_bindgen::{JsCast, JsValue, prelude::wasm_bindgen};
use wasm_bindgen_futures::JsFuture;

use super::ByteSource;
use crate::{Error, Result};
pub use blob::BlobSource;
pub use http::{HttpSource, HttpTransport, get_small, open_url};
pub use opfs::OpfsSource;

#[wasm_bindgen]
extern "C" {
    // Global in windows and workers alike, so neither has to be told apart.
    #[wasm_bindgen(js_name = setTimeout)]
    fn set_timeout(callback: &JsValue, ms: f64);

    #[wasm_bindgen(js_namespace = performance, js_name = now)]
    fn performance_now() -> f64;

    #[wasm_bindgen(js_name = fetch)]
    fn fetch(request: &web_sys::Request) -> Promise;
}

/// Waits.
pub async fn sleep(duration: Duration) {
    let timer = Promise::new(&mut |resolve, _reject| set_timeout(&resolve, duration.as_secs_f64() * 1e3));
    // A promise that only resolves cannot fail.
    let _ = JsFuture::from(timer).await;
}

/// Milliseconds from some fixed point, for measuring.
pub fn now_ms() -> f64 {
    performance_now()
}

/// Bytes that a load reads, repacks and uploads at a time. While this thread repacks a piece it takes nothing from the network,
/// which goes on as far as its buffers hold: a few megabytes.
pub const LOAD_PIECE: usize = 4 << 20;

/// Does `work` for each job; a tab's worker has one thread.
pub fn in_parallel<J>(jobs: impl ExactSizeIterator<Item = J>, work: impl Fn(J)) {
    jobs.for_each(work);
}

/// Opens a file by its URL.
pub async fn open_source(place: &str) -> Result<Box<dyn ByteSource>> {
    Ok(Box::new(HttpSource::open(place).await?))
}

/// A file that is gone when this is dropped: a tab has none, so there is never one.
#[derive(Debug)]
pub enum Temporary {}

impl Temporary {
    /// Whether this platform has such files.
    pub const POSSIBLE: bool = false;

    /// Refused.
    pub fn create(name: &str) -> Result<Self> {
        Err(Error::io(name, "a tab has no temporary files"))
    }

    /// Writes at the end.
    pub fn append(&mut self, _bytes: &[u8]) -> Result<()> {
        match *self {}
    }

    /// Its path.
    pub fn place(&self) -> String {
        match *self {}
    }
}

/// Bytes of this thread's WebAssembly memory, which never shrinks: weights must not pass through it whole.
pub fn peak_memory() -> Option<u64> {
    const PAGE: u64 = 64 << 10;
    Some(core::arch::wasm32::memory_size::<0>() as u64 * PAGE)
}

/// Memory that is held stays held.
pub fn forget_peak_memory() {}

/// A thrown value as text: "QuotaExceededError: …".
fn thrown(value: &JsValue) -> String {
    match value.dyn_ref::<JsError>() {
        Some(error) => format!("{}: {}", String::from(error.name()), String::from(error.message())),
        // DOMException is no Error in every browser's prototype chain.
        None => match value.dyn_ref::<web_sys::DomException>() {
            Some(error) => format!("{}: {}", error.name(), error.message()),
            None => format!("{value:?}"),
        },
    }
}
