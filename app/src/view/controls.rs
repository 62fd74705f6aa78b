//! Controls that several parts of the page have.

use leptos::prelude::*;
use selfrag::self_rag::{Settings, settings::Number};

/// A slider for one number of the settings.
pub(crate) fn slider(
    settings: RwSignal<Settings>,
    number: &'static Number,
    testid: &'static str,
    label: impl Fn() -> &'static str + Send + 'static,
    off: Signal<bool>,
) -> AnyView {
    let value = move || (number.get)(&settings.get());
    let shown = move || if number.step < 1.0 { format!("{:.2}", value()) } else { value().to_string() };
    view! {
        <label class="slider" class:off=off>
            <span>{label}" "<b>{shown}</b></span>
            <input
                type="range" min=number.least.to_string() max=number.most.to_string() step=number.step.to_string()
                data-testid=testid disabled=off prop:value=move || value().to_string()
                on:input=move |event| if let Some(value) = number.parse(&event_target_value(&event)) {
                    settings.update(|settings| (number.set)(settings, value));
                }
            />
        </label>
    }
    .into_any()
}

/// One of a group of choices.
pub(crate) fn choice(
    name: &'static str,
    value: &'static str,
    label: &'static str,
    chosen: Signal<bool>,
    choose: impl Fn() + 'static,
) -> AnyView {
    view! {
        <label class="segment">
            <input
                type="radio" name=name value=value data-testid=format!("{name}-{value}") prop:checked=chosen
                on:change=move |_| choose()
            />
            <span>{label}</span>
        </label>
    }
    .into_any()
}

/// A part that is opened and closed; what is in it is only made once it is open.
pub(crate) fn disclosure<V: IntoView + 'static>(
    testid: &'static str,
    summary: impl Fn() -> String + Send + 'static,
    open: RwSignal<bool>,
    content: impl Fn() -> V + Send + Sync + 'static,
) -> AnyView {
    let toggled = move |event: web_sys::Event| {
        let now = event_target::<web_sys::Element>(&event).has_attribute("open");
        // Said again, the content would be made again.
        if open.get_untracked() != now {
            open.set(now);
        }
    };
    view! {
        <details class=testid data-testid=testid open=move || open.get() on:toggle=toggled>
            <summary>{summary}</summary>
            {move || open.get().then(&content)}
        </details>
    }
    .into_any()
}
