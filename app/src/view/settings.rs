//! The settings that change an answer.

use leptos::prelude::*;

use crate::protocol::{Mode, Settings};

/// Mode, threshold, number of passages, length.
#[component]
pub(crate) fn SettingsPanel(settings: RwSignal<Settings>) -> impl IntoView {
    let mode = move |mode: Mode, value: &'static str, label: &'static str| {
        view! {
            <label class="segment">
                <input
                    type="radio" name="mode" value=value data-testid=format!("mode-{value}")
                    prop:checked=move || settings.get().mode == mode
                    on:change=move |_| settings.update(|s| s.mode = mode)
                />
                <span>{label}</span>
            </label>
        }
    };
    let adaptive = move || settings.get().mode == Mode::Adaptive;
    let never = move || settings.get().mode == Mode::Never;
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
                <label class="slider" class:off=move || !adaptive()>
                    <span>"Threshold " <b>{move || format!("{:.2}", settings.get().threshold)}</b></span>
                    <input
                        type="range" min="0" max="1" step="0.01" data-testid="threshold" disabled=move || !adaptive()
                        prop:value=move || settings.get().threshold.to_string()
                        on:input=move |event| if let Ok(value) = event_target_value(&event).parse() {
                            settings.update(|s| s.threshold = value)
                        }
                    />
                </label>
                <label class="slider" class:off=never>
                    <span>"Passages " <b>{move || settings.get().n_docs}</b></span>
                    <input
                        type="range" min="1" max="10" step="1" data-testid="n-docs" disabled=never
                        prop:value=move || settings.get().n_docs.to_string()
                        on:input=move |event| if let Ok(value) = event_target_value(&event).parse() {
                            settings.update(|s| s.n_docs = value)
                        }
                    />
                </label>
                <label class="slider">
                    <span>"Longest answer " <b>{move || settings.get().max_new_tokens}</b> " tokens"</span>
                    <input
                        type="range" min="20" max="300" step="10" data-testid="max-tokens"
                        prop:value=move || settings.get().max_new_tokens.to_string()
                        on:input=move |event| if let Ok(value) = event_target_value(&event).parse() {
                            settings.update(|s| s.max_new_tokens = value)
                        }
                    />
                </label>
            </div>
        </details>
    }
}
