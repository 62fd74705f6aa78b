//! What is seen. Components take the [`Client`] and read its signals; they hold no state but what only the eye needs.

// `#[component]` makes a `pub` struct beside each function, whatever the function's own visibility.
#![allow(unreachable_pub)]

mod answer;
mod ask;
mod bench;
mod controls;
mod decision;
mod documents;
mod export;
mod footer;
mod meter;
mod model;
mod model_sources;
mod notices;
mod passages;
mod segments;
mod settings;
mod tree;
mod weigh;

use leptos::prelude::*;

use crate::{
    client::{Client, Gpu},
    route::{self, Route},
};

/// The view that the address asks for.
pub(crate) fn view(client: Client) -> impl IntoView {
    let route = route::follow();
    // The address always says what is set, and every score what is weighed.
    Effect::new(move || client.settings.with(route::remember));
    Effect::new(move || client.run.weigh());
    move || match route.get() {
        Route::Page => page(client).into_any(),
        Route::Bench => view! { <bench::BenchView client/> }.into_any(),
    }
}

/// Questions and answers.
fn page(client: Client) -> impl IntoView {
    let absent = move || match client.gpu.get() {
        Gpu::Absent(failure) => Some(failure),
        _ => None,
    };
    view! {
        <a class="skip" href="#question">"Skip to the question"</a>
        <Header client/>
        <main>
            {move || absent().map(|failure| view! { <notices::NoGpu failure/> })}
            <ask::Ask client/>
            <notices::Notices client/>
            <model::ModelPanel client/>
            <documents::DocumentsPanel client/>
            <section class="results" aria-label="Answer">
                <decision::DecisionLine run=client.run/>
                <answer::AnswerCard client/>
                <passages::Passages run=client.run/>
                <segments::Sources run=client.run/>
            </section>
        </main>
        <footer::Footer client/>
    }
}

/// The name, what it is, and the state of the GPU.
#[component]
fn Header(client: Client) -> impl IntoView {
    let (label, class) = (move || gpu_label(&client.gpu.get()), move || gpu_class(&client.gpu.get()));
    view! {
        <header class="top">
            <h1>
                <span class="mark" aria-hidden="true"><i></i><i></i><i></i></span>
                "Self-RAG"
            </h1>
            <p class="tagline">"Retrieves, writes and criticises itself, on your own GPU."</p>
            <p class=move || format!("pill {}", class()) data-testid="gpu-state" role="status">{label}</p>
        </header>
    }
}

fn gpu_label(gpu: &Gpu) -> String {
    match gpu {
        Gpu::Unknown => "Looking for a GPU…".into(),
        Gpu::Found(facts) if facts.software => "Software GPU".into(),
        Gpu::Found(_) => "GPU ready".into(),
        Gpu::Absent(_) => "No GPU".into(),
        Gpu::Lost(_) => "GPU lost, starting again…".into(),
    }
}

fn gpu_class(gpu: &Gpu) -> &'static str {
    match gpu {
        Gpu::Unknown => "quiet",
        Gpu::Found(facts) if facts.software => "warn",
        Gpu::Found(_) => "good",
        Gpu::Absent(_) => "bad",
        Gpu::Lost(_) => "warn",
    }
}
