//! The answer to be taken away, as JSON and as Markdown.

use leptos::prelude::*;
use selfrag::self_rag::export::{Export, Written};
use wasm_bindgen::JsValue;
use web_sys::{Blob, Url};

use crate::client::{Client, Model};

/// Two links, once there is an answer.
#[component]
pub(crate) fn ExportLinks(client: Client) -> impl IntoView {
    let is_answered = Memo::new(move |_| client.run.is_answered());
    view! {
        <Show when=move || is_answered.get()>
            <p class="export">
                "Take it away: "
                {link(client, "selfrag-answer.json", "export-json", "JSON", |export| export.json())}
                " · "
                {link(client, "selfrag-answer.md", "export-markdown", "Markdown", |export| export.markdown())}
            </p>
        </Show>
    }
}

/// A link whose file is made when it is followed: an answer may have a megabyte, and changes with every slider.
fn link(
    client: Client,
    file: &'static str,
    testid: &'static str,
    label: &'static str,
    write: fn(&Export<'_>) -> String,
) -> AnyView {
    let address = StoredValue::new(None::<String>);
    let forget = move || {
        if let Some(old) = address.get_value() {
            let _ = Url::revoke_object_url(&old);
        }
    };
    on_cleanup(forget);
    let make = move |event: web_sys::MouseEvent| {
        let made = text(client, write).and_then(|text| {
            let blob = Blob::new_with_str_sequence(&js_sys::Array::of1(&JsValue::from(text))).ok()?;
            Url::create_object_url_with_blob(&blob).ok()
        });
        match made {
            Some(made) => {
                let _ = event_target::<web_sys::Element>(&event).set_attribute("href", &made);
                forget();
                address.set_value(Some(made));
            }
            None => event.prevent_default(),
        }
    };
    view! { <a href="#" download=file data-testid=testid on:click=make>{label}</a> }.into_any()
}

/// The answer as it is seen.
fn text(client: Client, write: fn(&Export<'_>) -> String) -> Option<String> {
    let run = client.run;
    let (asked, weighed) = (run.asked.get_untracked(), run.weighed.get_untracked());
    let model = client.model.with_untracked(|model| match model {
        Model::Ready(facts) => facts.name.clone(),
        _ => String::new(),
    });
    let export = |written| write(&Export::new(&model, (&asked.settings, &asked.forced), &weighed, written));
    if let (Some(answer), Some(ranking)) = (run.written.get_untracked(), run.ranking.get_untracked()) {
        return Some(export(Written::Short { answer: &answer, ranking: &ranking }));
    }
    let (answer, ranking) = (run.written_long.get_untracked()?, run.long_ranking.get_untracked()?);
    Some(export(Written::Long { answer: &answer, ranking: &ranking }))
}
