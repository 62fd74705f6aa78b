//! The settings that change an answer.

use leptos::prelude::*;
use selfrag::self_rag::{Form, Mode, Settings, settings::Number};

use super::controls::{choice, slider};
use crate::client::Client;

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

/// Where the passages are: the page's own, or a store on any static host.
fn corpus(client: Client) -> AnyView {
    let place = RwSignal::new(client.corpus.get_untracked());
    // No form of its own: it stands in the question's.
    let on_key = move |event: leptos::ev::KeyboardEvent| {
        if event.key() == "Enter" {
            event.prevent_default();
            client.use_corpus(&place.get_untracked());
        }
    };
    view! {
        <div class="slider">
            <label for="corpus"><span>"Passages from (folder of a corpus; empty: the demo's)"</span></label>
            <div class="url">
                <input
                    id="corpus" data-testid="corpus" type="text" inputmode="url" autocomplete="off" spellcheck="false"
                    placeholder="https://…/corpus/" prop:value=place
                    on:input=move |event| place.set(event_target_value(&event)) on:keydown=on_key
                />
                <button
                    type="button" data-testid="use-corpus" on:click=move |_| client.use_corpus(&place.get_untracked())
                    disabled=move || client.is_busy() || place.with(|place| place.trim() == client.corpus.get())
                >"Use"</button>
            </div>
        </div>
    }
    .into_any()
}
