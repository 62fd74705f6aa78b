//! The model: none, on its way, or ready.

use leptos::prelude::*;
use selfrag::weights::fetch::{Phase, Progress};

use super::{meter::ProgressBar, model_sources::Sources};
use crate::{
    client::{Client, Gpu, Model},
    format,
    protocol::{ModelFacts, Origin},
};

/// Where a model is loaded, watched on its way, and replaced.
#[component]
pub(crate) fn ModelPanel(client: Client) -> impl IntoView {
    let changing = RwSignal::new(false);
    // A model that starts to load answers the wish for another one.
    Effect::new(move || {
        if client.model.with(Model::is_loading) {
            changing.set(false)
        }
    });
    let body = move || match client.model.get() {
        Model::None => view! { <Sources client/> }.into_any(),
        Model::Ready(facts) => view! {
            <Ready facts changing/>
            <Show when=move || changing.get()><Sources client/></Show>
        }
        .into_any(),
        _ => view! { <Loading client/> }.into_any(),
    };
    let kind = Memo::new(move |_| client.model.with(|model| (model.is_loading(), model.clone_if_settled())));
    view! {
        <Show when=move || !matches!(client.gpu.get(), Gpu::Absent(_))>
            <section class="model" aria-label="Model" data-testid="model">
                // Rebuilt when the state changes, not with every byte.
                {move || { kind.get(); untrack(body) }}
            </section>
        </Show>
    }
}

impl Model {
    /// Itself unless it is loading: what the panel's shape depends on.
    fn clone_if_settled(&self) -> Option<Self> {
        (!self.is_loading()).then(|| self.clone())
    }
}

/// A loaded model in one line.
#[component]
fn Ready(facts: ModelFacts, changing: RwSignal<bool>) -> impl IntoView {
    let offline = facts.from == Origin::Storage;
    let passages = (facts.n_passages > 0).then(|| format!("{} passages", format::count(facts.n_passages)));
    view! {
        <div class="ready" data-testid="ready">
            <span class="tick" aria-hidden="true">"✓"</span>
            <div>
                <b>{facts.name}</b>
                <span class="facts">
                    {facts.details.into_iter().chain(passages).collect::<Vec<_>>().join(" · ")}
                    {offline.then_some(" · kept in this browser")}
                </span>
            </div>
            <button
                type="button" data-testid="change-model" aria-expanded=move || changing.get().to_string()
                on:click=move |_| changing.update(|c| *c = !*c)
            >{move || if changing.get() { "Close" } else { "Change" }}</button>
        </div>
    }
}

/// A model on its way.
#[component]
fn Loading(client: Client) -> impl IntoView {
    let share = Signal::derive(move || match client.model.get() {
        Model::Fetching(Progress { bytes, total, .. }) | Model::Uploading { bytes, total } if total > 0 => {
            Some(bytes as f64 / total as f64)
        }
        _ => None,
    });
    let (what, numbers) = (move || what(&client.model.get()), move || numbers(&client.model.get()));
    view! {
        <div class="loading" data-testid="loading">
            <div class="loading-head">
                <b role="status">{what}</b>
                <button type="button" data-testid="cancel" on:click=move |_| client.stop()>"Cancel"</button>
            </div>
            <ProgressBar label="Loading the model" share/>
            <p class="facts" data-testid="progress">{numbers}</p>
        </div>
    }
}

fn what(model: &Model) -> String {
    match model {
        Model::Fetching(progress) => match progress.phase {
            Phase::Checking => "Checking what is already here".into(),
            Phase::Downloading => "Fetching the model".into(),
            Phase::Retrying => "The connection broke, trying again".into(),
        },
        Model::Uploading { .. } => "Moving the weights to the GPU".into(),
        Model::Preparing(what) => what.clone(),
        Model::None | Model::Ready(_) => String::new(),
    }
}

fn numbers(model: &Model) -> String {
    match model {
        Model::Fetching(Progress { file, bytes, total, bytes_per_second, .. }) => {
            let mut text = format!("{} of {}", format::bytes(*bytes), format::bytes(*total));
            if *bytes_per_second > 0.0 {
                let left = (total - bytes) as f64 / bytes_per_second;
                let speed = format::bytes(*bytes_per_second as u64);
                text += &format!(" · {speed}/s · {} left", format::duration(left));
            }
            format!("{text} · {file}")
        }
        Model::Uploading { bytes, total } => format!("{} of {}", format::bytes(*bytes), format::bytes(*total)),
        // Keeps the line's height.
        _ => "\u{a0}".into(),
    }
}
