//! Bars: a critique score, and progress.

use leptos::prelude::*;

use crate::format;

/// A critique score as a bar that fills when the value is known.
#[component]
pub(crate) fn ScoreBar(
    /// Its name.
    label: &'static str,
    /// What it means, shown on hover and read aloud.
    meaning: &'static str,
    /// The value, once known.
    #[prop(into)]
    value: Signal<Option<f32>>,
    /// The lowest value; the highest is 1.
    #[prop(default = 0.0)]
    min: f32,
) -> impl IntoView {
    // The bar's width: the value's place between `min` and 1.
    let share = move || value.get().map_or(0.0, |v| ((v - min) / (1.0 - min)).clamp(0.0, 1.0) * 100.0);
    let text = move || value.get().map_or_else(|| "–".to_owned(), format::score);
    view! {
        <div class="score" class:known=move || value.get().is_some() title=meaning>
            <span class="score-label">{label}</span>
            <span
                class="track" role="meter" aria-label=format!("{label}: {meaning}") aria-valuemin=min aria-valuemax="1"
                aria-valuenow=move || value.get().unwrap_or(min) aria-valuetext=text
            >
                <span class="fill" style:width=move || format!("{:.1}%", share())></span>
            </span>
            <span class="score-value">{text}</span>
        </div>
    }
}

/// Progress from 0 to 1; none while it is unknown.
#[component]
pub(crate) fn ProgressBar(
    /// What progresses.
    label: &'static str,
    /// How far.
    #[prop(into)]
    share: Signal<Option<f64>>,
) -> impl IntoView {
    let percent = move || share.get().map(|share| (share * 100.0).clamp(0.0, 100.0));
    view! {
        <div
            class="progress" class:unknown=move || share.get().is_none() role="progressbar" aria-label=label
            aria-valuemin="0" aria-valuemax="100" aria-valuenow=move || percent().map(|p| format!("{p:.0}"))
        >
            <span class="fill" style:width=move || format!("{:.2}%", percent().unwrap_or(35.0))></span>
        </div>
    }
}
