//! The answer with its citation, and how the candidates ranked.

use std::cmp::Ordering;

use leptos::prelude::*;
use selfrag::self_rag::{Answer, Candidate, Relevance};

use super::{export::ExportLinks, segments, tree::Tree, weigh::Weigh};
use crate::{
    client::Client,
    format,
    run::{Phase, Run},
};

/// What there is to be seen.
#[derive(Clone, PartialEq)]
enum Part {
    Long,
    /// The candidate and its text.
    Answered(usize, String),
    Writing,
    Nothing,
}

/// The answer, or what is known of it while candidates are written.
#[component]
pub(crate) fn AnswerCard(client: Client) -> impl IntoView {
    let run = client.run;
    // One memo for all of it: what is said aloud is made again only where it changes, and a slider moves scores more often than answers.
    let part = Memo::new(move |_| {
        let chosen = run.answer.with(|answer| answer.as_ref().map(|answer| (answer.best, answer.text.clone())));
        match (chosen, run.phase.get()) {
            _ if run.is_long() => Part::Long,
            (Some((best, text)), _) => Part::Answered(best, text),
            (None, Phase::Running) => Part::Writing,
            _ => Part::Nothing,
        }
    });
    let body = move || match part.get() {
        Part::Long => view! { <segments::LongText run/> }.into_any(),
        Part::Answered(..) => {
            untrack(move || run.answer.get().map(|answer| view! { <Answered run answer/> })).into_any()
        }
        Part::Writing => view! { <Writing run/> }.into_any(),
        Part::Nothing => ().into_any(),
    };
    let doubt = Memo::new(move |_| run.answer.with(|answer| answer.as_ref().and_then(relevance_notice)));
    let ranked = Memo::new(move |_| run.answer.with(|a| a.as_ref().is_some_and(|a| a.candidates.len() > 1)));
    view! {
        <Show when=move || matches!(run.phase.get(), Phase::Running | Phase::Done | Phase::Stopped)>
            <article class="answer" class:pending=move || !run.is_answered()>
                <p class="asked">{move || run.question.get()}</p>
                // There before it has something to say, or screen readers would miss it.
                <div class="judged" role="status" data-testid="relevance">{move || doubt.get().map(notice)}</div>
                // Read aloud when it is complete, not token by token.
                <div aria-live="polite" data-testid="answer">{body}</div>
                {move || run.stats.with(|stats| stats.as_ref().and_then(|stats| stats.searched.clone())).map(|searched| view! {
                    <p class="facts" data-testid="searched">{searched}</p>
                })}
                <Show when=move || ranked.get()><Ranking run/></Show>
                <segments::Decisions client/>
                <Tree run/>
                <Weigh client/>
                <ExportLinks client/>
            </article>
        </Show>
    }
}

/// What to know before trusting the citation: title and text, where the model judged the cited passage irrelevant.
fn relevance_notice(answer: &Answer) -> Option<(&'static str, &'static str)> {
    match answer.relevance()? {
        Relevance::Cited => None,
        Relevance::Others => Some((
            "The passage of this answer was judged irrelevant",
            "Another passage was judged relevant, but its answer scored lower. Both are below.",
        )),
        Relevance::NoPassage if answer.candidates.len() == 1 => {
            Some(("The passage was judged irrelevant", "The answer may have nothing to do with the question."))
        }
        Relevance::NoPassage => Some((
            "None of the passages was judged relevant",
            "The answer follows the best of them all the same, and may have nothing to do with the question.",
        )),
    }
}

fn notice((title, text): (&'static str, &'static str)) -> impl IntoView {
    view! { <div class="notice warning"><h3>{title}</h3><p>{text}</p></div> }
}

/// While there is no answer yet.
#[component]
fn Writing(run: Run) -> impl IntoView {
    let what = move || {
        let candidates = run.candidates.get();
        let finished = candidates.iter().filter(|c| c.finished.get()).count();
        match (run.decision.get(), &candidates[..]) {
            (None, _) => "Deciding whether passages are needed…".to_owned(),
            (Some(decision), []) if decision.retrieve => "Looking for passages…".to_owned(),
            (Some(_), []) => "Writing…".to_owned(),
            // The only candidate is the answer: it may be read as it is written.
            (_, [only]) if only.hit.is_none() => only.text.get(),
            (_, many) => format!("Writing {} candidates in parallel, {finished} finished…", many.len()),
        }
    };
    view! { <p class="writing">{what}</p> }
}

/// The finished answer.
#[component]
fn Answered(run: Run, answer: Answer) -> impl IntoView {
    let best = answer.candidates.get(answer.best);
    let cited = best.and_then(|candidate| candidate.hit.as_ref()).map(|hit| hit.passage.title.clone());
    let text = if answer.text.trim().is_empty() { "The model wrote nothing.".to_owned() } else { answer.text.clone() };
    let truncated = best.is_some_and(|candidate| candidate.truncated);
    let best = answer.best;
    view! {
        <p class="answer-text">
            <span data-testid="answer-text">{text}</span>
            {truncated.then_some("…")}
            {cited.map(|title| view! { " " <Citation run number=best title/> })}
        </p>
    }
}

/// A link to the passage that supports the answer; following it opens the passage.
#[component]
fn Citation(run: Run, number: usize, title: String) -> impl IntoView {
    view! {
        <a
            class="citation" data-testid="citation" href=format!("#passage-{}", number + 1)
            on:click=move |_| run.opened.set(Some(number))
        >
            <span class="visually-hidden">"Source: "</span>
            <b>{number + 1}</b>
            {title}
        </a>
    }
}

/// All candidates by segment score.
#[component]
fn Ranking(run: Run) -> impl IntoView {
    let order = move || {
        let candidates = run.answer.get().map_or(Vec::new(), |answer| answer.candidates);
        let mut order: Vec<(usize, Candidate)> = candidates.into_iter().enumerate().collect();
        let segment = |candidate: &Candidate| candidate.scores.segment.unwrap_or(f32::NEG_INFINITY);
        order.sort_by(|(_, a), (_, b)| segment(b).partial_cmp(&segment(a)).unwrap_or(Ordering::Equal));
        order
    };
    let row = move |(number, candidate): (usize, Candidate)| {
        view! {
            <li class:best=move || run.best() == Some(number)>
                <a class="number" href=format!("#passage-{}", number + 1) aria-label=format!("Passage {}", number + 1)
                    on:click=move |_| run.opened.set(Some(number))>{number + 1}</a>
                <span class="ranked-text">{candidate.text}</span>
                <span class="ranked-score" title="Segment score: sequence + w_rel · relevance + w_sup · support + w_use · usefulness">
                    {candidate.scores.segment.map_or_else(|| "–".to_owned(), format::score)}
                </span>
            </li>
        }
    };
    view! {
        <details class="ranking">
            <summary>"How the candidates ranked"</summary>
            <ol data-testid="ranking">{move || order().into_iter().map(row).collect_view()}</ol>
        </details>
    }
}
