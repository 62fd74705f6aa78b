//! All candidates of a long answer, each under the one it continues: who won, by which scores, what else was written and what became
//! of it.

use leptos::prelude::*;
use selfrag::{
    retriever::Hit,
    self_rag::long::{Fate, Retrieve, SegmentEnd},
};

use super::{controls::disclosure, passages::Critique};
use crate::{
    format,
    run::{CandidateState, Run},
};

/// The tree, closed at first; it grows while the answer is written.
#[component]
pub(crate) fn Tree(run: Run) -> impl IntoView {
    let open = RwSignal::new(false);
    let any = Memo::new(move |_| run.is_long() && run.candidates.with(|all| !all.is_empty()));
    let summary = move || format!("All candidates: {}", run.candidates.with(Vec::len));
    view! {
        <Show when=move || any.get()>
            {disclosure("tree", summary, open, move || branch(run, None))}
        </Show>
    }
}

/// The candidates that continue `parent`.
fn branch(run: Run, parent: Option<usize>) -> AnyView {
    let children =
        move || run.candidates.with(|all| all.iter().filter(|c| c.parent == parent).cloned().collect::<Vec<_>>());
    let any = Memo::new(move |_| run.candidates.with(|all| all.iter().any(|c| c.parent == parent)));
    (move || {
        any.get().then(|| {
            view! {
                <ul class="branch">
                    <For each=children key=|c| c.number let:candidate>{leaf(run, candidate)}</For>
                </ul>
            }
        })
    })
    .into_any()
}

fn leaf(run: Run, candidate: CandidateState) -> AnyView {
    let number = candidate.number;
    let fate = Memo::new(move |_| run.fates.with(|fates| fates.get(number).copied().unwrap_or(Fate::Open)));
    let open = RwSignal::new(false);
    let text = candidate.text.clone();
    let score = move || {
        let score = run.long_ranking.with(|ranking| ranking.as_ref()?.path_scores.get(number).copied());
        score.map_or_else(String::new, |score| format!(" · {}", format::score(score)))
    };
    let source = match (&candidate.hit, candidate.decision.0) {
        (Some(hit), _) => hit.passage.title.clone(),
        (None, Retrieve::Continue) => "the passage before".into(),
        (None, _) => "no passage".into(),
    };
    let summary = move || {
        let shown = text.get();
        let shown = if shown.trim().is_empty() { "…" } else { shown.trim() };
        format!("{}{} · {source}: {shown}", fate_name(fate.get()), score())
    };
    let details = move || leaf_details(run, &candidate);
    view! {
        <li class:in-answer=move || fate.get() == Fate::Answer>
            {disclosure("leaf", summary, open, details)}
            {branch(run, Some(number))}
        </li>
    }
    .into_any()
}

fn leaf_details(run: Run, candidate: &CandidateState) -> AnyView {
    let number = candidate.number;
    let asked = match candidate.decision {
        (Retrieve::Yes, None) => "As set: retrieved.".to_owned(),
        (_, None) => "As set: not retrieved.".to_owned(),
        (Retrieve::Continue, Some(p)) => format!("p(Retrieve) {p:.3}; the model goes on with the passage it has."),
        (Retrieve::Yes, Some(p)) => format!("p(Retrieve) {p:.3}: retrieved."),
        (Retrieve::No, Some(p)) => format!("p(Retrieve) {p:.3}: not retrieved."),
    };
    let end = move || {
        let answer = run.written_long.get()?;
        let gone_on = run.long_ranking.with(|ranking| ranking.as_ref().is_some_and(|r| r.unwritten.contains(&number)));
        Some(match answer.tree.nodes.get(number)?.end {
            SegmentEnd::Next if gone_on => "The model asked for another segment, which was not written.",
            SegmentEnd::Next => "The model asked for another segment.",
            SegmentEnd::Answer => "The model ended its answer here.",
            SegmentEnd::Limit => "Over the limit: the tokens or the context ended it.",
        })
    };
    let passage = candidate.hit.clone().map(|Hit { passage, .. }| {
        view! { <blockquote class="passage open">{passage.text}</blockquote> }
    });
    view! {
        <div class="leaf-details">
            <p class="facts">{asked}" "{end}</p>
            {passage}
            <Critique scores=candidate.scores.clone()/>
        </div>
    }
    .into_any()
}

fn fate_name(fate: Fate) -> &'static str {
    match fate {
        Fate::Open => "Not ranked yet",
        Fate::Answer => "In the answer",
        Fate::Kept => "Kept in the beam",
        Fate::Overtaken => "Kept, then overtaken",
        Fate::Dropped => "Dropped",
        Fate::Excluded => "Excluded",
    }
}
