//! A long answer: its segments with their citations, also while they are written; their sources; and what was decided before each.

use leptos::prelude::*;
use selfrag::self_rag::long::{Retrieve, Segment};

use super::{controls::disclosure, passages::PassageText};
use crate::{
    client::Client,
    format,
    run::{Phase, Run},
};

/// The text, segment by segment.
#[component]
pub(crate) fn LongText(run: Run) -> impl IntoView {
    let changed = move |node: usize| {
        run.written_long.with(|answer| answer.as_ref().is_some_and(|answer| !answer.path.contains(&node)))
    };
    let pieces = move || {
        let segments = run.shown.with(|shown| shown.segments.clone());
        segments.into_iter().map(|segment| (changed(segment.node), segment)).collect::<Vec<_>>()
    };
    // Each once: what is read aloud is what is new.
    let key = |(changed, segment): &(bool, Segment)| (*changed, segment.node, segment.citation);
    let testid = move || if run.written_long.with(Option::is_some) { "answer-text" } else { "answer-so-far" };
    let truncated =
        move || run.written_long.with(|answer| answer.as_ref().is_some_and(|answer| answer.truncated)).then_some("…");
    let nothing = move || {
        let empty = run.shown.with(|shown| shown.segments.is_empty());
        (empty && run.written_long.with(Option::is_some)).then_some("The model wrote nothing.")
    };
    view! {
        <p class="answer-text" data-testid=testid>
            <For each=pieces key=key let:piece>{segment(run, piece)}</For>
            {nothing}
            {truncated}
        </p>
        <p class="writing" data-testid="writing">{move || progress(run)}</p>
    }
}

fn segment(run: Run, (changed, segment): (bool, Segment)) -> AnyView {
    let citation = segment.citation.map(|number| {
        let title = run.shown.with_untracked(|shown| shown.passages.get(number).map(|hit| hit.passage.title.clone()));
        let hover = title.clone();
        view! {
            " "
            <a class="citation" data-testid="citation" href=format!("#passage-{}", number + 1) title=hover
                on:click=move |_| run.opened.set(Some(number))>
                <span class="visually-hidden">"Source: "{title}" "</span>
                <b>{number + 1}</b>
            </a>
        }
    });
    view! {
        <span class="piece" class:changed=changed data-testid="segment-text">
            {changed.then(|| view! { <span class="visually-hidden">"Another segment: "</span> })}
            {segment.text}
        </span>
        {citation}
        " "
    }
    .into_any()
}

/// What is being done.
fn progress(run: Run) -> Option<String> {
    if run.phase.get() != Phase::Running || run.written_long.with(Option::is_some) {
        return None;
    }
    let Some(decision) = run.decision.get() else { return Some("Deciding whether passages are needed…".into()) };
    let candidates = run.candidates.get();
    Some(match candidates.last() {
        None if decision.retrieve => "Looking for passages…".into(),
        None => "Writing…".into(),
        Some(last) => {
            let level: Vec<_> = candidates.iter().filter(|c| c.depth == last.depth).collect();
            let finished = level.iter().filter(|c| c.finished.get()).count();
            format!("Segment {}: writing {} candidates in parallel, {finished} finished…", last.depth, level.len())
        }
    })
}

/// The passages that the answer cites.
#[component]
pub(crate) fn Sources(run: Run) -> impl IntoView {
    let sources = move || run.shown.with(|shown| shown.passages.clone()).into_iter().enumerate().collect::<Vec<_>>();
    let any = Memo::new(move |_| run.is_long() && run.shown.with(|shown| !shown.passages.is_empty()));
    view! {
        <Show when=move || any.get()>
            <h2 class="section">"Sources"</h2>
            <div class="grid" data-testid="sources">
                <For
                    each=sources key=move |(number, hit)| (run.question.get_untracked(), *number, hit.passage.id.clone())
                    let:source
                >{
                    let (number, hit) = source;
                    view! {
                        <article class="card" id=format!("passage-{}", number + 1) tabindex="-1" data-testid="source">
                            <header>
                                <span class="number" aria-hidden="true">{number + 1}</span>
                                <h3>{hit.passage.title.clone()}</h3>
                                {hit.score.map(|score| view! { <span class="similarity">{format::score(score)}</span> })}
                            </header>
                            <PassageText run number passage=hit.passage/>
                        </article>
                    }
                }</For>
            </div>
        </Show>
    }
}

/// What was decided before each segment, and how it shall be decided the next time.
#[component]
pub(crate) fn Decisions(client: Client) -> impl IntoView {
    let run = client.run;
    let open = RwSignal::new(false);
    let is_answered = Memo::new(move |_| run.written_long.with(Option::is_some));
    let rows = move || {
        let path = run.shown.with(|shown| shown.path.clone());
        path.into_iter().enumerate().map(|(index, node)| row(run, index, node)).collect_view()
    };
    let unchanged = move || run.asked.with(|asked| run.forced.with(|forced| *forced == asked.forced));
    let content = move || {
        view! {
            <ol class="decisions">{rows}</ol>
            <button
                type="button" data-testid="ask-forced" disabled=move || unchanged() || run.is_active()
                on:click=move |_| client.ask_again()
            >"Ask again with these decisions"</button>
        }
    };
    view! {
        <Show when=move || is_answered.get()>
            {disclosure("decisions", || "Retrieve? Before each segment".into(), open, content)}
        </Show>
    }
}

fn row(run: Run, index: usize, node: usize) -> AnyView {
    let decision = run.candidates.with_untracked(|all| all.get(node).map(|candidate| candidate.decision));
    let was = match decision {
        Some((retrieve, probability)) => {
            let outcome = match retrieve {
                Retrieve::Yes => "retrieved",
                Retrieve::No => "not retrieved",
                Retrieve::Continue => "goes on with its passage",
            };
            probability.map_or_else(|| format!("as set: {outcome}"), |p| format!("p(Retrieve) {p:.3}: {outcome}"))
        }
        None => String::new(),
    };
    let otherwise = move || {
        let changes = run.long_ranking.with(|ranking| ranking.as_ref().is_some_and(|r| r.decisions.contains(&node)));
        changes.then_some("; with the threshold of now: otherwise")
    };
    let force = move |event: web_sys::Event| {
        let wanted = match event_target_value(&event).as_str() {
            "yes" => Some(true),
            "no" => Some(false),
            _ => None,
        };
        run.forced.update(|forced| {
            if forced.len() <= index {
                forced.resize(index + 1, None);
            }
            forced[index] = wanted;
            // The model decides where nothing is said.
            while forced.last() == Some(&None) {
                forced.pop();
            }
        });
    };
    let now = run.forced.with_untracked(|forced| forced.get(index).copied().flatten());
    let options = [
        ("adaptive", "The model decides", None),
        ("yes", "Retrieve", Some(true)),
        ("no", "Do not retrieve", Some(false)),
    ];
    view! {
        <li>
            <span class="number" aria-hidden="true">{index + 1}</span>
            <span class="facts">{was}{otherwise}</span>
            <select aria-label=format!("Retrieve before segment {}?", index + 1) data-testid="force" on:change=force>
                {options.map(|(value, label, choice)| view! { <option value=value selected=now == choice>{label}</option> })}
            </select>
        </li>
    }
    .into_any()
}
