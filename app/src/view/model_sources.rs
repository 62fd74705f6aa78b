//! Where a model can come from: the demo, browser storage, a file, an address.

use leptos::prelude::*;
use web_sys::{DragEvent, File, FileList, HtmlInputElement};

use crate::{
    client::Client,
    format,
    protocol::{KeptModel, StorageFacts},
};

/// All of them.
#[component]
pub(crate) fn Sources(client: Client) -> impl IntoView {
    view! {
        <div class="sources">
            <Demo client/>
            <Own client/>
        </div>
        <Kept client/>
    }
}

/// One button for everything.
#[component]
fn Demo(client: Client) -> impl IntoView {
    view! {
        <div class="source">
            <h2>"Demo model"</h2>
            <p>
                "A small model that was taught to retrieve and to criticise itself, with passages from Wikipedia. About 200 MB, \
                fetched once and kept in this browser."
            </p>
            <button type="button" class="primary" data-testid="load-demo" on:click=move |_| client.load_demo()>
                "Load the demo model"
            </button>
        </div>
    }
}

/// A GGUF file from disk or from the web.
#[component]
fn Own(client: Client) -> impl IntoView {
    let keep = RwSignal::new(true);
    let over = RwSignal::new(false);
    let url = RwSignal::new(String::new());
    let load = move |files: Option<FileList>| client.load_files(files_of(files), keep.get_untracked());
    let on_pick = move |event: leptos::ev::Event| {
        let input: HtmlInputElement = event_target(&event);
        load(input.files());
        // So that picking the same file again is a change again.
        input.set_value("");
    };
    let on_drop = move |event: DragEvent| {
        event.prevent_default();
        over.set(false);
        load(event.data_transfer().and_then(|data| data.files()));
    };
    view! {
        <div
            class="source drop" class:over=over data-testid="drop" on:drop=on_drop
            on:dragover=move |event: DragEvent| { event.prevent_default(); over.set(true); }
            on:dragleave=move |_| over.set(false)
        >
            <h2>"Your own model"</h2>
            <p>"A Self-RAG model as GGUF: drop the file here (all parts of a split one), pick it, or give its address."</p>
            <div class="pick">
                <label class="button">
                    "Pick files"
                    <input type="file" accept=".gguf" multiple=true class="visually-hidden" data-testid="pick" on:change=on_pick/>
                </label>
                <label class="check">
                    <input
                        type="checkbox" data-testid="keep" prop:checked=keep
                        on:change=move |event| keep.set(event_target_checked(&event))
                    />
                    "Keep a copy in this browser"
                </label>
            </div>
            <form class="url" on:submit=move |event| { event.prevent_default(); client.load_urls(&url.get_untracked()); }>
                <label class="visually-hidden" for="url">"Address of a GGUF file; several for a split one"</label>
                <input
                    id="url" data-testid="url" type="text" inputmode="url" autocomplete="off" spellcheck="false"
                    placeholder="https://…/model.gguf" prop:value=url
                    on:input=move |event| url.set(event_target_value(&event))
                />
                <button type="submit" data-testid="load-url" disabled=move || url.with(|u| u.trim().is_empty())>"Load"</button>
            </form>
        </div>
    }
}

/// What browser storage holds.
#[component]
fn Kept(client: Client) -> impl IntoView {
    let models = move || client.storage.with(|storage| storage.models.clone());
    view! {
        <Show when=move || client.storage.with(|s| !s.models.is_empty() || s.refused.is_some())>
            <div class="kept" data-testid="kept">
                <h2>"Kept in this browser"</h2>
                <ul>
                    <For each=models key=|model| (model.folder.clone(), model.bytes, model.complete) let:model>
                        <KeptRow client model/>
                    </For>
                </ul>
                <p class="facts">{move || client.storage.with(space)}</p>
            </div>
        </Show>
    }
}

#[component]
fn KeptRow(client: Client, model: KeptModel) -> impl IntoView {
    let size = if model.complete {
        format::bytes(model.bytes)
    } else {
        format!("{} of {}, to be continued", format::bytes(model.bytes), format::bytes(model.total_bytes))
    };
    let (load, forget) = (model.folder.clone(), model.folder);
    let action = if model.complete { "Load" } else { "Continue" };
    let name = model.name;
    view! {
        <li data-testid="kept-model">
            <span class="kept-name"><b>{name.clone()}</b><span class="facts">{size}</span></span>
            <button type="button" data-testid="load-kept" aria-label=format!("{action} {name}")
                on:click=move |_| client.load_kept(load.clone())>{action}</button>
            <button type="button" class="quiet" data-testid="forget" aria-label=format!("Remove {name}")
                on:click=move |_| client.forget(forget.clone(), false)>"Remove"</button>
        </li>
    }
}

fn space(storage: &StorageFacts) -> String {
    match (&storage.refused, storage.usage, storage.quota) {
        (Some(reason), ..) => {
            format!("This browser refuses to store files ({reason}): models are read from the network.")
        }
        (None, Some(usage), Some(quota)) => format!("{} of {} used", format::bytes(usage), format::bytes(quota)),
        _ => String::new(),
    }
}

/// A list of picked or dropped files.
pub(super) fn files_of(list: Option<FileList>) -> Vec<File> {
    let Some(list) = list else { return Vec::new() };
    (0..list.length()).filter_map(|i| list.get(i)).collect()
}
