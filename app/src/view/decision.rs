//! The decision to retrieve: its probability against the threshold.

use leptos::prelude::*;

use crate::{
    format,
    run::{Decision, Run},
};

/// One line, once the decision is known.
#[component]
pub(crate) fn DecisionLine(run: Run) -> impl IntoView {
    move || {
        run.decision.get().map(|decision| view! {
        <div class="decision" data-testid="decision" class:yes=decision.retrieve>
            <h2>"Retrieve?"</h2>
            {decision.probability.map(|probability| view! { <ProbabilityBar probability threshold=decision.threshold/> })}
            <p>{outcome(&decision)}</p>
        </div>
    })
    }
}

/// The probability as a bar, the threshold as a mark on it.
#[component]
fn ProbabilityBar(probability: f32, threshold: Option<f32>) -> impl IntoView {
    let place = |value: f32| format!("{:.1}%", value.clamp(0.0, 1.0) * 100.0);
    let text = match threshold {
        Some(threshold) => format!("probability {probability:.2}, threshold {threshold:.2}"),
        None => format!("probability {probability:.2}"),
    };
    view! {
        <span class="track" role="img" aria-label=text data-testid="decision-bar">
            <span class="fill" style:width=place(probability)></span>
            {threshold.map(|threshold| view! { <span class="threshold" style:left=place(threshold)></span> })}
        </span>
    }
}

fn outcome(decision: &Decision) -> String {
    let verdict = if decision.retrieve { "passages are retrieved" } else { "answered without passages" };
    match (decision.probability, decision.threshold) {
        (Some(p), Some(threshold)) => {
            let sign = if decision.retrieve { ">" } else { "≤" };
            format!("p(Retrieve) {p:.3} {sign} threshold {}: {verdict}", format::score(threshold))
        }
        (Some(p), None) => format!("p(Retrieve) {p:.3}: {verdict}"),
        (None, _) => format!("As set: {verdict}"),
    }
}
