//! The browser: fetch, picked files, the origin-private file system, the clock. Works in a window and in a worker.

mod blob;
mod http;
pub mod opfs;

use std::time::Duration;

use js_sys::{Error as JsError, Promise};
use wasm_bindgen::{JsCast, JsValue, prelude::wasm_bindgen};
use wasm_bindgen_futures::JsFuture;

pub use blob::BlobSource;
pub use http::{HttpSource, HttpTransport, get_small};
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
