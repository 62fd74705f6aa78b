//! "Weigh it otherwise": δ and the weights of what is already written, and where another answer would come out.

use leptos::prelude::*;
use selfrag::self_rag::{
    Mode, Settings,
    rerank::{self, turning_points},
    settings::Number,
};

use super::controls::{disclosure, slider};
use crate::{client::Client, run::Run};

/// The sliders, once there is an answer.
#[component]
pub(crate) fn Weigh(client: Client) -> impl IntoView {
    let open = RwSignal::new(false);
    let run = client.run;
    let is_answered = Memo::new(move |_| run.is_answered());
    view! {
        <Show when=move || is_answered.get()>
            {disclosure("weigh", || "Weigh it otherwise".into(), open, move || sliders(client))}
            // Outside of what is closed: also the sliders of the settings weigh anew.
            <p class="weighed" role="status" data-testid="weighed">{move || outcome(run)}</p>
            <Show when=move || rewrites(run)>
                <button type="button" class="link" data-testid="ask-again" on:click=move |_| client.ask_again()>
                    "Ask again with these settings"
                </button>
            </Show>
        </Show>
    }
}

fn sliders(client: Client) -> impl IntoView {
    let (settings, run) = (client.settings, client.run);
    let on = Signal::stored(false);
    let not_adaptive = Signal::derive(move || run.asked.with(|asked| asked.settings.mode != Mode::Adaptive));
    let one = move |number: &'static Number, testid, label: &'static str, off| {
        // Looked for when nothing else is to do: a slider that is dragged must not wait for it.
        let hint = Memo::new(move |_| hint(run, number));
        view! {
            <div>
                {slider(settings, number, testid, move || label, off)}
                <p class="facts" data-testid=format!("{testid}-turns")>{hint}</p>
            </div>
        }
    };
    let reset = move |_| {
        let asked = run.asked.with_untracked(|asked| asked.settings);
        settings.update(|settings| *settings = settings.weighed(&asked));
    };
    view! {
        <div class="settings-body">
            {one(&Number::W_REL, "weigh-rel", "Relevant, w_rel", on)}
            {one(&Number::W_SUP, "weigh-sup", "Supported, w_sup", on)}
            {one(&Number::W_USE, "weigh-use", "Useful, w_use", on)}
            {one(&Number::DELTA, "weigh-delta", "Threshold δ", not_adaptive)}
            <button
                type="button" data-testid="weigh-reset" on:click=reset
                disabled=move || run.asked.with(|asked| asked.settings == run.weighed.get())
            >"As it was asked"</button>
        </div>
    }
}

/// What comes out under `settings`, in numbers.
fn numbers(run: Run, settings: &Settings) -> Vec<usize> {
    if let Some(answer) = run.written.get() {
        return rerank::short_outcome(&answer, &settings.short());
    }
    let config = run.asked.with(|asked| settings.long(&asked.forced));
    run.written_long.get().map_or(Vec::new(), |answer| rerank::long_outcome(&answer, &config))
}

/// Where another answer would come out.
fn hint(run: Run, number: &Number) -> String {
    let [below, above] = turning_points(number, &run.weighed.get(), &|settings| numbers(run, settings));
    let what = if number.name == Number::DELTA.name { "decided otherwise" } else { "another answer" };
    match (below, above) {
        (None, None) => format!("nowhere {what}"),
        (Some(below), None) => format!("{what} at {below:.2} and below"),
        (None, Some(above)) => format!("{what} from {above:.2}"),
        (Some(below), Some(above)) => format!("{what} at {below:.2} and below, and from {above:.2}"),
    }
}

/// Whether the settings of now would have had other text written.
fn rewrites(run: Run) -> bool {
    let short = run.ranking.with(|ranking| ranking.as_ref().is_some_and(|r| r.decision_changes == Some(true)));
    let unknown = |ranking: &rerank::LongRanking| !ranking.unwritten.is_empty() || !ranking.decisions.is_empty();
    // Only what is changed now: a question without passages has decisions of its own.
    let is_other = run.asked.with(|asked| asked.settings != run.weighed.get());
    is_other && (short || run.long_ranking.with(|ranking| ranking.as_ref().is_some_and(|r| unknown(r))))
}

/// How the answer differs from the one that was asked for.
fn outcome(run: Run) -> String {
    if run.asked.with(|asked| asked.settings == run.weighed.get()) {
        return String::new();
    }
    let mut said = Vec::new();
    if let (Some(ranking), Some(answer)) = (run.ranking.get(), run.written.get()) {
        said.push(match ranking.best.filter(|_| ranking.changed) {
            Some(best) => format!("Weighed so, passage {} answers instead of passage {}.", best + 1, answer.best + 1),
            None => "Weighed so, the answer stays the same.".into(),
        });
        match (ranking.decision_changes, answer.retrieved) {
            (Some(true), true) => said.push("With this threshold no passages would have been retrieved.".into()),
            (Some(true), false) => said.push("With this threshold passages would have been retrieved.".into()),
            _ => {}
        }
    }
    if let (Some(ranking), Some(answer)) = (run.long_ranking.get(), run.written_long.get()) {
        let other = ranking.path.iter().filter(|node| !answer.path.contains(node)).count();
        said.push(match (ranking.changed, other) {
            (false, _) => "Weighed so, the answer stays the same.".into(),
            (true, 0) => "Weighed so, the answer is shorter.".into(),
            (true, n) => format!("Weighed so, {n} of {} segments are others; they are marked.", ranking.path.len()),
        });
        let on_path = |node: &usize| ranking.path.contains(node);
        if ranking.unwritten.iter().any(on_path) {
            said.push("It would have gone on, but nothing was written there.".into());
        }
        let places: Vec<String> = ranking
            .decisions
            .iter()
            .filter(|node| on_path(node))
            .map(|&node| answer.tree.nodes[node].depth.to_string())
            .collect();
        if !places.is_empty() {
            let places = places.join(", ");
            said.push(format!("With this threshold Retrieve would be decided otherwise before segment {places}."));
        }
    }
    said.join(" ")
}
