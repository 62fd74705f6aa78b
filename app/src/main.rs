//! The page: a question box, the model, and an answer that shows how it came about. The engine runs in a worker.

mod bench;
mod client;
mod extract;
mod format;
mod link;
mod offline;
mod protocol;
#[cfg(feature = "replay")]
mod replay;
mod route;
mod run;
mod view;

use leptos::prelude::*;

fn main() {
    console_error_panic_hook::set_once();
    let client = client::Client::new();
    mount_to_body(move || view::view(client));
    #[cfg(feature = "replay")]
    if replay::start(client) {
        return;
    }
    // The page is painted and usable first; then the worker looks for a GPU.
    set_timeout(move || client.connect(), std::time::Duration::from_millis(30));
}
