//! Passages as cards: text, the candidate written for it, and its critique.

use leptos::prelude::*;
use selfrag::{critique::Scores, retriever::Passage};

use super::meter::ScoreBar;
use crate::{
    format,
    run::{CandidateState, Run},
};

/// A grid of cards in retrieval order.
#[component]
pub(crate) fn Passages(run: Run) -> impl IntoView {
    // Those of a long answer are in its tree, and its sources below.
    let candidates = move || if run.is_long() { Vec::new() } else { run.candidates.get() };
    let any = move || !run.is_long() && run.candidates.with(|all| all.iter().any(|c| c.hit.is_some()));
    view! {
        <Show when=any>
            <h2 class="section">"Passages"</h2>
        </Show>
        <div class="grid" data-testid="passages">
            <For each=candidates key=move |c| (run.question.get_untracked(), c.number) let:candidate>
                <Card run candidate/>
            </For>
        </div>
    }
}

/// One candidate; without a passage only the critique is shown, the text being the answer above.
#[component]
fn Card(run: Run, candidate: CandidateState) -> impl IntoView {
    let CandidateState { number, hit, text, scores, finished, .. } = candidate;
    let best = move || run.best() == Some(number);
    let heading = hit.as_ref().map_or("Without passages".to_owned(), |hit| match hit.passage.title.as_str() {
        "" => format!("Passage {}", number + 1),
        title => title.to_owned(),
    });
    let retriever = hit.as_ref().and_then(|hit| hit.score);
    let writing = {
        let finished = finished.clone();
        move || !finished.get() && run.is_active()
    };
    view! {
        <article class="card" class:best=best id=format!("passage-{}", number + 1) tabindex="-1" data-testid="passage">
            <header>
                <span class="number" aria-hidden="true">{number + 1}</span>
                <h3>{heading}</h3>
                <Show when=best><span class="badge">"Best"</span></Show>
                {retriever.map(|score| view! {
                    <span class="similarity" title="Inner product of question and passage embeddings">{format::score(score)}</span>
                })}
            </header>
            {hit.map(|hit| view! { <PassageText run number passage=hit.passage/> })}
            <p class="candidate" class:writing=writing data-testid="candidate">{move || text.get()}</p>
            <Critique scores/>
        </article>
    }
}

/// The passage: its first lines, or all of it when opened.
#[component]
pub(crate) fn PassageText(run: Run, number: usize, passage: Passage) -> impl IntoView {
    let open = RwSignal::new(false);
    // A citation opens the passage; the button opens and closes it.
    Effect::new(move || {
        if run.opened.get() == Some(number) {
            open.set(true)
        }
    });
    let id = format!("passage-text-{}", number + 1);
    // What four lines can show needs no button.
    let long = passage.text.len() > 120;
    view! {
        <blockquote id=id.clone() class="passage" class:open=open data-testid="passage-text">{passage.text}</blockquote>
        {long.then(|| view! {
            <button
                type="button" class="link" aria-controls=id aria-expanded=move || open.get().to_string()
                on:click=move |_| open.update(|open| *open = !*open)
            >{move || if open.get() { "Less" } else { "Whole passage" }}</button>
        })}
    }
}

/// The four parts of the segment score, and their sum.
#[component]
pub(crate) fn Critique(scores: ArcRwSignal<Scores>) -> impl IntoView {
    let part = |get: fn(&Scores) -> Option<f32>| {
        let scores = scores.clone();
        Signal::derive(move || scores.with(get))
    };
    let (is_rel, is_sup) = (part(|s| s.is_rel), part(|s| s.is_sup));
    let (is_use, sequence, segment) = (part(|s| s.is_use), part(|s| s.sequence), part(|s| s.segment));
    view! {
        <div class="critique" data-testid="critique">
            <ScoreBar label="Relevant" meaning="the passage is about the question (ISREL, 0 to 1)" value=is_rel/>
            <ScoreBar label="Supported" meaning="the passage supports the text (ISSUP, 0 to 1)" value=is_sup/>
            <ScoreBar label="Useful" meaning="the text answers the question (ISUSE, −1 to 1)" value=is_use min=-1.0/>
            <ScoreBar label="Fluent" meaning="how likely the model finds its own text (sequence score, 0 to 1)" value=sequence/>
            <p class="total" class:known=move || segment.get().is_some()>
                <span>"Segment score"</span>
                <b data-testid="segment">{move || segment.get().map_or_else(|| "–".to_owned(), format::score)}</b>
            </p>
        </div>
    }
}
