//! Which view the address asks for: `#/bench`, or `?bench` for what cannot have a fragment; everything else is the page.
//! Neither needs anything of the server, and the kept page answers both without a network.

use leptos::prelude::*;
use selfrag::self_rag::Settings;
use wasm_bindgen::JsValue;

/// What is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    /// Questions and answers.
    Page,
    /// How fast is this GPU?
    Bench,
}

/// The view, as it follows the address.
pub(crate) fn follow() -> RwSignal<Route> {
    let query = query();
    let asked = query.split('&').any(|part| part == "bench" || part.starts_with("bench="));
    let route = RwSignal::new(in_fragment().unwrap_or(if asked { Route::Bench } else { Route::Page }));
    let listener = window_event_listener(leptos::ev::hashchange, move |_| {
        // Other fragments are places within a view.
        if let Some(asked) = in_fragment() {
            route.set(asked);
        }
    });
    // The page listens as long as it lives.
    std::mem::forget(listener);
    route
}

fn in_fragment() -> Option<Route> {
    let fragment = window().location().hash().unwrap_or_default();
    match fragment.strip_prefix("#/")?.split('?').next() {
        Some("bench") => Some(Route::Bench),
        _ => Some(Route::Page),
    }
}

/// The address's query with that of its fragment, decoded: `geometry=tiny&steps=8`.
pub(crate) fn query() -> String {
    let location = window().location();
    let (search, fragment) = (location.search().unwrap_or_default(), location.hash().unwrap_or_default());
    let more = fragment.split_once('?').map_or("", |(_, query)| query);
    let both = format!("{}&{more}", search.trim_start_matches('?'));
    js_sys::decode_uri_component(&both).map_or(both, String::from)
}

/// Puts other settings into the address, so that it can be kept and shared; everything else in it stays, and nothing is loaded.
pub(crate) fn remember(settings: &Settings) {
    let location = window().location();
    let search = location.search().unwrap_or_default();
    let query = settings.in_query(&search);
    if query == search.trim_start_matches('?') {
        return;
    }
    show(&query);
}

/// The address of the passages that this page's address asks for; empty: none.
pub(crate) fn corpus() -> String {
    let search = window().location().search().unwrap_or_default();
    let mut parts = search.trim_start_matches('?').split('&');
    let said = parts.find_map(|part| part.strip_prefix("corpus=")).unwrap_or_default();
    js_sys::decode_uri_component(said).map_or(String::new(), String::from)
}

/// Puts it there, or takes it away.
pub(crate) fn remember_corpus(place: &str) {
    let search = window().location().search().unwrap_or_default();
    let is_other = |part: &&str| !part.is_empty() && !part.starts_with("corpus=");
    let mut parts: Vec<String> =
        search.trim_start_matches('?').split('&').filter(is_other).map(str::to_owned).collect();
    if !place.is_empty() {
        parts.push(format!("corpus={}", String::from(js_sys::encode_uri_component(place))));
    }
    show(&parts.join("&"));
}

/// Shows another query; nothing is loaded.
fn show(query: &str) {
    let location = window().location();
    let mark = if query.is_empty() { "" } else { "?" };
    let path = location.pathname().unwrap_or_default();
    let address = format!("{path}{mark}{query}{}", location.hash().unwrap_or_default());
    // A browser that refuses (it may, where this happens too often) has an older address, and nothing worse.
    let _ = window().history().and_then(|history| history.replace_state_with_url(&JsValue::NULL, "", Some(&address)));
}
