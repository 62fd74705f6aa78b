//! The worker that owns the engine: takes requests one after another, and a stop at any time.

mod adapter;
mod corpus;
mod host;
mod library;
mod measure;
mod protocol;
mod session;
mod shelf;
mod speed;

use std::{cell::RefCell, rc::Rc};

use futures_channel::mpsc;
use futures_util::future::AbortHandle;
use js_sys::Array;
use wasm_bindgen::{JsCast, JsValue, prelude::Closure};
use web_sys::{DedicatedWorkerGlobalScope, File, MessageEvent};

use protocol::{Failure, FailureKind, Reply, Request};

/// A request with the files that came beside it.
type Job = (Request, Vec<File>);

fn main() {
    std::panic::set_hook(Box::new(|info| {
        console_error_panic_hook::hook(info);
        // Nothing runs after a panic: the page must know why it gets no more answers.
        post(&Reply::Failed(Failure { kind: FailureKind::Worker, message: info.to_string() }));
    }));
    let (jobs, queue) = mpsc::unbounded::<Job>();
    let stop = Stop::default();
    let on_message = {
        let stop = stop.clone();
        Closure::<dyn FnMut(MessageEvent)>::new(move |event: MessageEvent| match read(&event.data()) {
            Ok((Request::Stop, _)) => stop.now(),
            // The receiver lives as long as the worker.
            Ok(job) => drop(jobs.unbounded_send(job)),
            Err(message) => post(&Reply::Failed(Failure { kind: FailureKind::Worker, message })),
        })
    };
    scope().set_onmessage(Some(on_message.as_ref().unchecked_ref()));
    on_message.forget();
    wasm_bindgen_futures::spawn_local(host::serve(queue, stop));
    post(&Reply::Hello);
}

/// Ends what is under way.
#[derive(Clone, Default)]
struct Stop {
    /// Ends a load or a benchmark at its next await.
    load: Rc<RefCell<Option<AbortHandle>>>,
    /// Read by the answer under way between two steps, so that it can give its memory back.
    answer: Rc<RefCell<selfrag::self_rag::Stop>>,
}

impl Stop {
    fn now(&self) {
        self.answer.borrow().stop();
        if let Some(load) = self.load.take() {
            load.abort();
        }
    }
}

/// Tells the page.
fn post(reply: &Reply) {
    let json = serde_json::to_string(reply).expect("replies are plain data");
    // A string can always be posted.
    let _ = scope().post_message(&JsValue::from(json));
}

fn scope() -> DedicatedWorkerGlobalScope {
    js_sys::global().unchecked_into()
}

/// `[JSON, file, file, …]`
fn read(message: &JsValue) -> Result<Job, String> {
    let mut parts = message.dyn_ref::<Array>().ok_or("a message is a list")?.iter();
    let json = parts.next().and_then(|json| json.as_string()).ok_or("a message begins with a string")?;
    let request = serde_json::from_str(&json).map_err(|e| format!("a message this worker does not understand: {e}"))?;
    Ok((request, parts.filter_map(|part| part.dyn_into().ok()).collect()))
}
