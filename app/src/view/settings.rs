//! The settings that change an answer.

use leptos::prelude::*;
use selfrag::self_rag::{Form, Mode, Settings, settings::Number};

use super::controls::{choice, slider};
use crate::{
    client::{Client, Model, corpus_place},
    format,
    protocol::KeptModel,
};

/// Short or long: beside the question, as it changes what an answer looks like.
#[component]
pub(crate) fn FormChoice(settings: RwSignal<Settings>) -> impl IntoView {
    let form = move |form: Form, value, label| {
        let chosen = Signal::derive(move || settings.get().form == form);
        choice("form", value, label, chosen, move || settings.update(|s| s.form = form))
    };
    view! {
        <fieldset class="form-choice">
            <legend class="visually-hidden">"Length of the answer"</legend>
            <div class="segments">
                {form(Form::Short, "short", "Short answer")}
                {form(Form::Long, "long", "Long answer")}
            </div>
        </fieldset>
    }
}

/// Mode, threshold, number of passages, length.
#[component]
pub(crate) fn SettingsPanel(client: Client) -> impl IntoView {
    let settings = client.settings;
    let mode = move |mode: Mode, value, label| {
        let chosen = Signal::derive(move || settings.get().mode == mode);
        choice("mode", value, label, chosen, move || settings.update(|s| s.mode = mode))
    };
    let not_adaptive = Signal::derive(move || settings.get().mode != Mode::Adaptive);
    let never = Signal::derive(move || settings.get().mode == Mode::Never);
    let is_long = Memo::new(move |_| settings.get().form == Form::Long);
    let on = Signal::stored(false);
    let length = move || if is_long.get() { "Tokens of a segment" } else { "Longest answer, in tokens" };
    view! {
        <details class="settings">
            <summary data-testid="settings">"Settings"</summary>
            <div class="settings-body">
                <fieldset>
                    <legend>"Retrieve passages"</legend>
                    <div class="segments">
                        {mode(Mode::Adaptive, "adaptive", "If needed")}
                        {mode(Mode::Always, "always", "Always")}
                        {mode(Mode::Never, "never", "Never")}
                    </div>
                </fieldset>
                {slider(settings, &Number::DELTA, "threshold", || "Threshold", not_adaptive)}
                {slider(settings, &Number::PASSAGES, "n-docs", || "Passages", never)}
                {slider(settings, &Number::TOKENS, "max-tokens", length, on)}
                <Show when=move || is_long.get()>
                    {slider(settings, &Number::SEGMENTS, "segments-limit", || "Most segments", on)}
                    {slider(settings, &Number::BEAM, "beam", || "Paths kept (beam)", on)}
                </Show>
                {corpus(client)}
            </div>
        </details>
    }
}

/// The value of the choice that is none yet.
const ANOTHER: &str = "another";

/// Where the passages are: the page's own, a store that was used before, or another on any static host.
fn corpus(client: Client) -> AnyView {
    let place = RwSignal::new(String::new());
    let another = RwSignal::new(false);
    // Whatever is in use now is shown, after a choice that failed too.
    Effect::new(move || {
        place.set(client.corpus.get());
        another.set(false);
    });
    let choose = move |event| {
        let value = event_target_value(&event);
        another.set(value == ANOTHER);
        place.set(if value == ANOTHER { String::new() } else { value });
    };
    let option = move |value: String, label: String| {
        let chosen = {
            let value = value.clone();
            move || if another.get() { value == ANOTHER } else { place.with(|place| *place == value) }
        };
        view! { <option value=value prop:selected=chosen>{label}</option> }.into_any()
    };
    let options = move || {
        let mut places = vec![(String::new(), "The page's own".to_owned())];
        // A folder whose note cannot be read gets another when its passages are opened again.
        let corpora = client.storage.with(|storage| storage.corpora.clone());
        for kept in corpora.into_iter().filter(|kept| !kept.source.is_empty()) {
            let place = corpus_place(&kept.source).to_owned();
            let facts = format!("{}, {} kept", kept.name, format::bytes(kept.bytes));
            match place.is_empty() {
                true => places[0].1 += &format!(" ({facts})"),
                false => places.push((place.clone(), format!("{place} ({facts})"))),
            }
        }
        let used = client.corpus.get();
        if places.iter().all(|(place, _)| *place != used) {
            places.push((used.clone(), used));
        }
        places.push((ANOTHER.to_owned(), "Another address…".to_owned()));
        places.into_iter().map(|(value, label)| option(value, label)).collect::<Vec<_>>()
    };
    // What is kept of the chosen ones, unless they are being used.
    let kept = move || {
        let is_used = matches!(client.model.get(), Model::Ready(_)) && place.get() == client.corpus.get();
        let is_it = |kept: &&KeptModel| {
            !another.get() && !is_used && !kept.source.is_empty() && corpus_place(&kept.source) == place.get()
        };
        client.storage.with(|storage| storage.corpora.iter().find(is_it).map(|kept| kept.folder.clone()))
    };
    let use_it = move || client.use_corpus(&place.get_untracked());
    // No form of its own: it stands in the question's.
    let on_key = move |event: leptos::ev::KeyboardEvent| {
        if event.key() == "Enter" {
            event.prevent_default();
            use_it();
        }
    };
    view! {
        <div class="slider">
            <label for="corpora"><span>"Passages from"</span></label>
            <div class="url">
                <select id="corpora" data-testid="corpora" on:change=choose>{options}</select>
                <button
                    type="button" data-testid="use-corpus" on:click=move |_| use_it()
                    disabled=move || client.is_busy() || place.with(|place| place.trim() == client.corpus.get())
                >"Use"</button>
                <button
                    type="button" class="quiet" data-testid="remove-corpus" aria-label="Remove what is kept of these passages"
                    disabled=move || client.is_busy() || kept().is_none()
                    on:click=move |_| if let Some(folder) = kept() { client.forget(folder, true) }
                >"Remove"</button>
            </div>
            <input
                data-testid="corpus" type="text" inputmode="url" autocomplete="off" spellcheck="false"
                aria-label="Folder of passages" placeholder="https://…/corpus/" hidden=move || !another.get() prop:value=place
                on:input=move |event| place.set(event_target_value(&event)) on:keydown=on_key
            />
        </div>
    }
    .into_any()
}
