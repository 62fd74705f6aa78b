//! Development only (feature `replay`): shows recorded replies, to look at the design without a model.
//!
//! `?replay=FILE` names JSON lines `{"ms": 120, "reply": …}`, relative to the page.

use std::time::Duration;

use leptos::{prelude::*, task::spawn_local};
use serde::Deserialize;
use wasm_bindgen::JsCast;
use wasm_bindgen_futures::JsFuture;

use crate::{client::Client, protocol::Reply};

#[derive(Deserialize)]
struct Line {
    ms: u64,
    #[serde(default)]
    ask: Option<String>,
    #[serde(default)]
    reply: Option<Reply>,
}

/// Whether the page's address asks for a replay.
pub(crate) fn start(client: Client) -> bool {
    let search = window().location().search().unwrap_or_default();
    let Some(url) = search.strip_prefix("?replay=").map(str::to_owned) else { return false };
    spawn_local(async move {
        let response = JsFuture::from(window().fetch_with_str(&url)).await.expect("the recording is served");
        let text = response.unchecked_into::<web_sys::Response>().text().expect("a response has text");
        let text = JsFuture::from(text).await.expect("the recording is read").as_string().unwrap_or_default();
        for line in text.lines() {
            let Line { ms, ask, reply } = serde_json::from_str(line).expect("a recorded line");
            selfrag::platform::sleep(Duration::from_millis(ms)).await;
            if let Some(question) = ask {
                client.ask(&question);
            }
            if let Some(reply) = reply {
                client.receive(reply);
            }
        }
    });
    true
}
