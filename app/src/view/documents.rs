//! The visitor's own documents: added, watched while they are embedded, listed, removed, and asked beside the passages or instead.

use leptos::prelude::*;
use selfrag::retriever::documents::Scope;
use web_sys::{DragEvent, HtmlInputElement};

use super::{controls::choice, meter::ProgressBar, model_sources::files_of};
use crate::{
    client::{Adding, Client, Gpu, Model},
    format,
    protocol::KeptDocument,
};

/// All of it.
#[component]
pub(crate) fn DocumentsPanel(client: Client) -> impl IntoView {
    let over = RwSignal::new(false);
    let on_pick = move |event: leptos::ev::Event| {
        let input: HtmlInputElement = event_target(&event);
        client.add_documents(files_of(input.files()));
        input.set_value("");
    };
    let on_drop = move |event: DragEvent| {
        event.prevent_default();
        over.set(false);
        client.add_documents(files_of(event.data_transfer().and_then(|data| data.files())));
    };
    let adding = move || client.shelf.with(|shelf| shelf.adding.clone());
    let share = Signal::derive(move || {
        let adding = adding()?;
        (adding.of > 0).then(|| adding.done as f64 / adding.of as f64)
    });
    let under_way = Memo::new(move |_| adding().is_some());
    view! {
        <Show when=move || !matches!(client.gpu.get(), Gpu::Absent(_))>
            <section
                class="model drop" class:over=over aria-label="Your documents" data-testid="documents" on:drop=on_drop
                on:dragover=move |event: DragEvent| { event.prevent_default(); over.set(true); }
                on:dragleave=move |_| over.set(false)
            >
                <div class="source">
                    <h2>"Your documents"</h2>
                    <p>
                        "Text, Markdown, HTML or PDF: drop files here or pick them. They are read, searched and kept in this browser, and \
                        nothing of them leaves it."
                    </p>
                    <div class="pick">
                        <label class="button">
                            "Add documents"
                            <input
                                type="file" multiple=true class="visually-hidden" data-testid="add-documents" on:change=on_pick
                                accept=".txt,.text,.md,.markdown,.html,.htm,.xhtml,.pdf,text/*,application/pdf"
                            />
                        </label>
                        <span class="facts" data-testid="documents-waiting">{move || waiting(client)}</span>
                    </div>
                    <Show when=move || has_choice(client)>{move || scopes(client)}</Show>
                </div>
                <Show when=move || under_way.get()>
                    <div class="loading documents-loading" data-testid="adding">
                        <div class="loading-head">
                            <b role="status">{move || adding().map(|adding| what(&adding))}</b>
                            <button type="button" data-testid="cancel-adding" on:click=move |_| client.cancel_documents()>
                                "Cancel"
                            </button>
                        </div>
                        <ProgressBar label="Reading the document" share/>
                    </div>
                </Show>
                <Show when=move || client.shelf.with(|shelf| !shelf.kept.is_empty())>
                    <ul class="kept">
                        <For
                            each=move || client.shelf.with(|shelf| shelf.kept.clone())
                            key=|kept| (kept.file.clone(), kept.passages, kept.problem.clone())
                            let:kept
                        >
                            {row(client, kept)}
                        </For>
                    </ul>
                </Show>
            </section>
        </Show>
    }
}

/// With documents; without, as long as there is something to set back.
fn has_choice(client: Client) -> bool {
    client.shelf.with(|shelf| !shelf.kept.is_empty()) || client.settings.with(|settings| settings.scope != Scope::Both)
}

/// Corpus, documents or both.
fn scopes(client: Client) -> AnyView {
    let scope = move |scope: Scope, value, label| {
        let chosen = Signal::derive(move || client.settings.get().scope == scope);
        choice("scope", value, label, chosen, move || client.settings.update(|s| s.scope = scope))
    };
    view! {
        <fieldset>
            <legend>"Answer from"</legend>
            <div class="segments">
                {scope(Scope::Both, "both", "Passages and documents")}
                {scope(Scope::Documents, "only", "My documents only")}
                {scope(Scope::Corpus, "none", "Passages only")}
            </div>
        </fieldset>
    }
    .into_any()
}

fn row(client: Client, kept: KeptDocument) -> AnyView {
    let KeptDocument { file, name, passages, problem } = kept;
    let unit = if passages == 1 { "passage" } else { "passages" };
    let facts = (passages > 0).then(|| format!("{} {unit}", format::count(passages)));
    view! {
        <li data-testid="document">
            <span class="kept-name">
                <b>{name.clone()}</b>
                <span class="facts">{facts}</span>
                {problem.map(|problem| view! { <span class="facts problem" data-testid="document-problem">{problem}</span> })}
            </span>
            <button type="button" class="quiet" data-testid="remove-document" aria-label=format!("Remove {name}")
                on:click=move |_| client.remove_document(file.clone())>"Remove"</button>
        </li>
    }
    .into_any()
}

fn what(adding: &Adding) -> String {
    match adding {
        Adding { name, of: 0, .. } => format!("Reading {name}"),
        Adding { name, done, of, .. } => format!("{name}: {done} of {of} passages"),
    }
}

/// Files that cannot be read yet.
fn waiting(client: Client) -> String {
    let n = client.shelf.with(|shelf| shelf.waiting);
    match client.model.with(|model| matches!(model, Model::Ready(_))) {
        _ if n == 0 => String::new(),
        true => format!("{n} more waiting"),
        false => format!("{n} waiting for a model to be loaded"),
    }
}
