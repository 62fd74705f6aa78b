//! The settings that change an answer.

use leptos::prelude::*;
use selfrag::self_rag::{Form, Mode, Settings, settings::Number};

use super::controls::{choice, slider};

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
pub(crate) fn SettingsPanel(settings: RwSignal<Settings>) -> impl IntoView {
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
            </div>
        </details>
    }
}
