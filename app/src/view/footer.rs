//! Speed, the GPU's facts, and where the texts come from.

use leptos::prelude::*;

use crate::{
    client::{Client, Gpu},
    format,
    protocol::{GpuFacts, Stats},
};

/// The page's last lines.
#[component]
pub(crate) fn Footer(client: Client) -> impl IntoView {
    let facts = move || match client.gpu.get() {
        Gpu::Found(facts) => Some(facts),
        _ => None,
    };
    view! {
        <footer>
            <p class="speed" data-testid="stats">{move || client.run.stats.get().map(speed)}</p>
            {move || facts().map(|facts| view! { <GpuDetails facts/> })}
            <p>
                "Everything runs in this tab: questions and models stay on this computer. Passages: Wikipedia, CC BY-SA. \
                After Asai et al., “Self-RAG: Learning to Retrieve, Generate, and Critique through Self-Reflection”, 2023."
            </p>
            <p><a href="#/bench" data-testid="to-bench">"How fast is this GPU?"</a></p>
        </footer>
    }
}

/// Name, features and limits.
#[component]
fn GpuDetails(facts: GpuFacts) -> impl IntoView {
    view! {
        <details class="gpu" data-testid="gpu-facts">
            <summary>{facts.name}</summary>
            <p>{facts.features.join(" · ")}</p>
            <dl>
                {facts.limits.into_iter().map(|(name, value)| view! {
                    <div><dt>{name}</dt><dd>{value}</dd></div>
                }).collect_view()}
            </dl>
        </details>
    }
}

fn speed(stats: Stats) -> String {
    let Stats { n_tokens, seconds, tokens_per_second, .. } = stats;
    format!("{tokens_per_second:.1} tokens/s · {} tokens in {}", format::count(n_tokens), format::duration(seconds))
}
