//! The worker as the page sees it: a place to send requests, and a callback for replies.

use std::{cell::RefCell, rc::Rc};

use js_sys::{Array, Reflect};
use wasm_bindgen::{JsCast, JsValue, prelude::Closure};
use web_sys::{ErrorEvent, File, MessageEvent, Worker, WorkerOptions, WorkerType};

use crate::protocol::{Failure, FailureKind, Reply, Request};

/// The module that starts the worker's wasm, relative to the page.
const BOOT: &str = "worker_boot.js";

/// A running worker.
pub(crate) struct Link {
    worker: Worker,
    /// Messages from before the worker's [`Reply::Hello`]; none afterwards. A module worker loses what comes too early.
    early: Rc<RefCell<Option<Vec<JsValue>>>>,
    _on_message: Closure<dyn FnMut(MessageEvent)>,
    _on_error: Closure<dyn FnMut(ErrorEvent)>,
}

impl Link {
    /// Starts the worker.
    pub(crate) fn open(receive: impl Fn(Reply) + 'static) -> Result<Self, String> {
        let options = WorkerOptions::new();
        options.set_type(WorkerType::Module);
        options.set_name("engine");
        let worker = Worker::new_with_options(BOOT, &options).map_err(|e| format!("{e:?}"))?;
        let early = Rc::new(RefCell::new(Some(Vec::new())));
        let receive = Rc::new(receive);

        let on_message = {
            let (early, worker, receive) = (early.clone(), worker.clone(), receive.clone());
            Closure::<dyn FnMut(MessageEvent)>::new(move |event: MessageEvent| {
                let text = event.data().as_string().unwrap_or_default();
                let reply = match serde_json::from_str(&text) {
                    Ok(reply) => reply,
                    Err(e) => broken(format!("the worker sent what this page does not understand: {e}")),
                };
                if matches!(reply, Reply::Hello) {
                    for message in early.take().into_iter().flatten() {
                        let _ = worker.post_message(&message);
                    }
                }
                receive(reply);
            })
        };
        worker.set_onmessage(Some(on_message.as_ref().unchecked_ref()));

        let on_error = Closure::<dyn FnMut(ErrorEvent)>::new(move |event: ErrorEvent| {
            // An event without a message means that the script itself could not be loaded.
            let message = Reflect::get(&event, &"message".into()).ok().and_then(|m| m.as_string());
            receive(broken(message.unwrap_or_else(|| format!("{BOOT} could not be loaded"))));
        });
        worker.set_onerror(Some(on_error.as_ref().unchecked_ref()));
        Ok(Self { worker, early, _on_message: on_message, _on_error: on_error })
    }

    /// Sends a request, with picked files beside it.
    pub(crate) fn send(&self, request: &Request, files: &[File]) {
        let json = serde_json::to_string(request).expect("requests are plain data");
        let message: JsValue =
            std::iter::once(JsValue::from(json)).chain(files.iter().map(JsValue::from)).collect::<Array>().into();
        match &mut *self.early.borrow_mut() {
            Some(early) => early.push(message),
            // Strings and files can always be cloned.
            None => drop(self.worker.post_message(&message)),
        }
    }
}

fn broken(message: String) -> Reply {
    Reply::Failed(Failure { kind: FailureKind::Worker, message })
}

/// Why this page can have no WebGPU, if that is so; the adapter is the worker's business.
pub(crate) fn webgpu_missing() -> Option<Failure> {
    let window = web_sys::window()?;
    let gpu = Reflect::get(&window.navigator(), &"gpu".into()).unwrap_or(JsValue::UNDEFINED);
    if gpu.is_truthy() {
        return None;
    }
    let secure = Reflect::get(&window, &"isSecureContext".into()).is_ok_and(|secure| secure.is_truthy());
    let message = if secure {
        "navigator.gpu is missing."
    } else {
        "Browsers offer WebGPU only on https:// and on localhost, and this page came another way."
    };
    Some(Failure { kind: FailureKind::NoWebGpu, message: message.into() })
}
