//! What went wrong, in plain words, with what to do about it.

use leptos::prelude::*;

use crate::{
    client::{Client, Notice, NoticeContent},
    protocol::{Failure, FailureKind},
};

/// Title and advice of a failure.
pub(super) fn explain(kind: FailureKind) -> (&'static str, &'static str) {
    match kind {
        FailureKind::NoWebGpu => (
            "This browser has no WebGPU",
            "The model runs on your GPU through WebGPU. Chrome and Edge from 113, Safari from 26 and Firefox from 141 have it; on \
             Linux it may have to be switched on in the browser's flags.",
        ),
        FailureKind::NoAdapter => (
            "No GPU was found",
            "The browser has WebGPU but offers no GPU. Update the graphics driver, switch on hardware acceleration in the browser's \
             settings, or try another browser.",
        ),
        FailureKind::GpuTooSmall => {
            ("This GPU is too small for the model", "Load a smaller model, or one that is quantised further.")
        }
        FailureKind::GpuMemory => (
            "The GPU's memory is full",
            "Close other tabs that use the GPU, ask for fewer passages, or load a smaller model.",
        ),
        FailureKind::GpuLost => ("The GPU was lost", "Load the model again; what was downloaded is still there."),
        FailureKind::GpuWrong => (
            "This GPU cannot run the model",
            "The browser or its graphics driver failed a check. Update both, or try another browser.",
        ),
        FailureKind::Network => {
            ("The download broke off", "Check the connection and load again: it continues where it stopped.")
        }
        FailureKind::Input => {
            ("A file is not what it should be", "Load again; if it stays so, the file itself is damaged.")
        }
        FailureKind::Storage => (
            "The browser's storage refused",
            "Free some space or leave the private window. What could be read is still usable.",
        ),
        FailureKind::Question => {
            ("The question could not be answered", "Shorten the question, or ask for fewer or shorter passages.")
        }
        FailureKind::Stopped => ("Stopped", ""),
        FailureKind::Worker => {
            ("The engine stopped", "Reload the page. If it happens again, this is a mistake of ours.")
        }
    }
}

/// The page's first words when there is nothing to run on.
#[component]
pub(crate) fn NoGpu(failure: Failure) -> impl IntoView {
    let (title, advice) = explain(failure.kind);
    view! {
        <section class="notice failure no-gpu" role="alert" data-testid="no-gpu">
            <h2>{title}</h2>
            <p>{advice}</p>
            <p class="detail">{failure.message}</p>
        </section>
    }
}

/// Everything that was not dismissed.
#[component]
pub(crate) fn Notices(client: Client) -> impl IntoView {
    view! {
        <For each=move || client.notices.get() key=|notice| notice.id let:notice>
            <NoticeView client notice/>
        </For>
    }
}

#[component]
fn NoticeView(client: Client, notice: Notice) -> impl IntoView {
    let id = notice.id;
    let (class, title, text, detail) = match notice.content {
        NoticeContent::Warning(message) => ("warning", None, message, None),
        NoticeContent::Good(message) => ("good", None, message, None),
        NoticeContent::Failure(failure) => {
            let (title, advice) = explain(failure.kind);
            ("failure", Some(title), advice.to_owned(), Some(failure.message))
        }
    };
    view! {
        <section class=format!("notice {class}") role="alert" data-testid=format!("notice-{class}")>
            {title.map(|title| view! { <h2>{title}</h2> })}
            <p>{text}</p>
            {detail.map(|detail| view! { <p class="detail">{detail}</p> })}
            <button type="button" class="dismiss" aria-label="Dismiss" on:click=move |_| client.dismiss(id)>"×"</button>
        </section>
    }
}
