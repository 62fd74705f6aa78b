//! Lets the browser keep the page's own files, so that the page opens without the network (`app/service_worker.js`).

use js_sys::{Function, Object, Promise, Reflect};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;

/// The script beside the page; the folder it lies in is what it may serve.
const SERVICE_WORKER: &str = "service_worker.js";

/// Asks for it. A refusal (private window, plain http, file://) changes nothing: the page then needs the network to open.
///
/// Through `Reflect`, because browsers that refuse have no `navigator.serviceWorker`, or one that throws.
pub(crate) async fn keep_page() {
    let Some(registration) = register() else { return };
    let _ = JsFuture::from(registration).await;
}

fn register() -> Option<Promise> {
    let get = |object: &JsValue, name: &str| Reflect::get(object, &name.into()).ok().filter(JsValue::is_truthy);
    let container = get(&get(&js_sys::global(), "navigator")?, "serviceWorker")?;
    let register: Function = get(&container, "register")?.dyn_into().ok()?;
    // The list that it imports is what changes with a build, so the HTTP cache must not answer for it.
    let options = Object::new();
    Reflect::set(&options, &"updateViaCache".into(), &"none".into()).ok()?;
    register.call2(&container, &SERVICE_WORKER.into(), &options).ok()?.dyn_into().ok()
}
