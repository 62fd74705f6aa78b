//! The question box.

use leptos::{ev::KeyboardEvent, prelude::*};

use super::settings::{FormChoice, SettingsPanel};
use crate::{
    client::{Client, Gpu},
    run::Phase,
};

/// Questions that the demo's passages answer, and one that needs none.
const EXAMPLES: [&str; 4] = [
    "How many species of trees can be found in the Amazon rainforest?",
    "When does overfitting occur?",
    "What has allowed savanna regions to expand into the tropics?",
    "Write a short thank-you note to a colleague.",
];

/// Question, examples, settings, ask and stop.
#[component]
pub(crate) fn Ask(client: Client) -> impl IntoView {
    let text = RwSignal::new(String::new());
    let run = client.run;
    let blocked = move || run.is_active() || matches!(client.gpu.get(), Gpu::Absent(_));
    let ask = move || client.ask(&text.get_untracked());
    let on_key = move |event: KeyboardEvent| {
        // Enter asks; Shift+Enter, and Enter that picks a suggestion of an input method, stay with the text.
        if event.key() == "Enter" && !event.shift_key() && !event.is_composing() {
            event.prevent_default();
            if !blocked() {
                ask();
            }
        } else if event.key() == "Escape" && run.is_active() {
            client.stop();
        }
    };
    view! {
        <form class="ask" on:submit=move |event| { event.prevent_default(); if !blocked() { ask(); } }>
            <label for="question">"Ask a question"</label>
            <textarea
                id="question" data-testid="question" rows="2" maxlength="2000" autocomplete="off"
                placeholder="What would you like to know?" prop:value=text
                on:input=move |event| text.set(event_target_value(&event)) on:keydown=on_key
            ></textarea>
            <div class="ask-row">
                <FormChoice settings=client.settings/>
                <SettingsPanel client/>
                <span class="hint" aria-live="polite" data-testid="phase">{move || phase_hint(run.phase.get())}</span>
                <Show
                    when=move || run.is_active()
                    fallback=move || view! {
                        <button
                            type="submit" class="primary" data-testid="ask"
                            disabled=move || blocked() || text.with(|t| t.trim().is_empty())
                        >"Ask"</button>
                    }
                >
                    <button type="button" class="stop" data-testid="stop" on:click=move |_| client.stop()>"Stop"</button>
                </Show>
            </div>
            <ul class="examples" aria-label="Example questions">
                {EXAMPLES.map(|example| view! {
                    <li><button type="button" class="chip" data-testid="example" on:click=move |_| {
                        text.set(example.to_owned());
                        if !blocked() { ask(); }
                    }>{example}</button></li>
                }).collect_view()}
            </ul>
        </form>
    }
}

fn phase_hint(phase: Phase) -> &'static str {
    match phase {
        Phase::Idle | Phase::Done => "",
        Phase::Waiting => "Asked as soon as the model is loaded",
        Phase::Running => "Working…",
        Phase::Stopped => "Stopped",
    }
}
