//! How fast is this GPU? What to measure, how far it is, and the table.

use leptos::prelude::*;
use selfrag::{
    bench::{Geometry, KernelRow, LoadRow, Order, Report, Row, WORKLOADS},
    ops::self_test::FORMATS,
};

use super::{Header, meter::ProgressBar, notices};
use crate::{
    bench::{Bench, State},
    client::{Client, Gpu},
    protocol::{Failure, FailureKind},
};

/// The page's title while another view is shown.
const TITLE: &str = "Self-RAG in a tab";

/// The whole view.
#[component]
pub(crate) fn BenchView(client: Client) -> impl IntoView {
    let bench = client.bench;
    let absent = move || match client.gpu.get() {
        Gpu::Absent(failure) => Some(failure),
        _ => None,
    };
    // A start that the address asked for waits for the GPU.
    Effect::new(move || {
        if bench.state.with(|state| *state == State::Waiting) {
            match client.gpu.get() {
                Gpu::Found(_) => client.measure(),
                Gpu::Absent(failure) => bench.state.set(State::Failed(failure)),
                Gpu::Unknown | Gpu::Lost(_) => {}
            }
        }
    });
    // Scripts and people with many tabs look at the title.
    Effect::new(move || document().set_title(&format!("Self-RAG bench: {}", bench.state.with(State::word))));
    on_cleanup(move || {
        document().set_title(TITLE);
        client.stop_measuring();
    });
    view! {
        <Header client/>
        <main class="bench" id="bench" data-testid="bench" data-state=move || bench.state.with(State::word)>
            <p>
                "How fast is this GPU in this browser? Random weights of a model's real size, since speed does not depend on their values. "
                <a href="#/" data-testid="to-page">"Back to the questions"</a>
            </p>
            {move || absent().map(|failure| view! { <notices::NoGpu failure/> })}
            <Form client/>
            <Outcome bench/>
            <Reports bench/>
        </main>
    }
}

/// What to measure.
#[component]
fn Form(client: Client) -> impl IntoView {
    let order = client.bench.order;
    let bench = client.bench;
    let running = move || matches!(bench.state.get(), State::Running(_) | State::Waiting);
    // One device for everything: an answer under way would be measured too.
    let blocked = move || !matches!(client.gpu.get(), Gpu::Found(_)) || client.is_busy();
    view! {
        <form class="bench-form" novalidate on:submit=move |event| { event.prevent_default(); if !blocked() { client.measure(); } }>
            <fieldset disabled=running>
                <legend>"Model"</legend>
                <div class="bench-row">
                    <label>"Size "
                        <select
                            data-testid="bench-geometry" prop:value=move || order.with(|o| o.geometry.clone())
                            on:change=move |event| order.update(|o| o.geometry = event_target_value(&event))
                        >
                            {Geometry::ALL.map(|geometry| view! {
                                <option
                                    value=geometry.name selected=move || order.with(|o| o.geometry == geometry.name)
                                >{geometry.name}</option>
                            }).collect_view()}
                        </select>
                    </label>
                    <label>"Layers "
                        <input
                            type="number" min="1" max="256" placeholder="all" data-testid="bench-layers"
                            prop:value=move || order.with(|o| o.layers.map_or_else(String::new, |n| n.to_string()))
                            on:change=move |event| order.update(|o| o.layers = layers(&event_target_value(&event)))
                        />
                    </label>
                    <label>"Tokens to write "
                        <input
                            type="number" min="1" data-testid="bench-steps"
                            prop:value=move || order.with(|o| o.steps.to_string())
                            on:change=move |event| order.update(|o| o.steps = event_target_value(&event).parse().unwrap_or(0))
                        />
                    </label>
                </div>
            </fieldset>
            <fieldset disabled=running>
                <legend>"Weight formats, a table each"</legend>
                <div class="bench-row">
                    {FORMATS.map(|dtype| choice("type", dtype.name(), dtype.name().into(), order, |o| &o.types, set_types)).collect_view()}
                </div>
            </fieldset>
            <fieldset disabled=running>
                <legend>"Workloads"</legend>
                <div class="bench-list">
                    {WORKLOADS.map(|(name, what)| {
                        choice("workload", name, format!("{name}: {what}"), order, |o| &o.workloads, set_workloads)
                    }).collect_view()}
                    <label>"File for load: a GGUF's address, splits with commas between "
                        <input
                            type="text" inputmode="url" data-testid="bench-model"
                            prop:value=move || order.with(|o| o.model.join(","))
                            on:change=move |event| order.update(|o| o.model = addresses(&event_target_value(&event)))
                        />
                    </label>
                    <label class="check">
                        <input
                            type="checkbox" data-testid="bench-kernels" prop:checked=move || order.with(|o| o.kernels)
                            on:change=move |event| order.update(|o| o.kernels = event_target_checked(&event))
                        />
                        "GPU time of each kernel too"
                    </label>
                </div>
            </fieldset>
            <div class="ask-row">
                <Show
                    when=running
                    fallback=move || view! {
                        <button type="submit" class="primary" data-testid="bench-run" disabled=blocked>"Measure"</button>
                    }
                >
                    <button type="button" class="stop" data-testid="bench-stop" on:click=move |_| client.stop_measuring()>"Stop"</button>
                </Show>
            </div>
        </form>
    }
}

/// Keeps, of all names that a list of the order may hold, those that pass, in their own order.
type Keep = fn(&mut Order, &dyn Fn(&str) -> bool);

/// A box to tick.
fn choice(
    kind: &'static str,
    name: &'static str,
    label: String,
    order: RwSignal<Order>,
    of: fn(&Order) -> &Vec<String>,
    set: Keep,
) -> impl IntoView {
    let ticked = move || order.with(|o| of(o).iter().any(|other| other == name));
    view! {
        <label class="check">
            <input
                type="checkbox" data-testid=format!("{kind}-{name}") prop:checked=ticked
                on:change=move |event| {
                    let (wanted, before) = (event_target_checked(&event), order.with_untracked(|o| of(o).clone()));
                    let stays = |other: &str| if other == name { wanted } else { before.iter().any(|b| b == other) };
                    order.update(|o| set(o, &stays));
                }
            />
            {label}
        </label>
    }
}

fn set_types(order: &mut Order, stays: &dyn Fn(&str) -> bool) {
    order.types = FORMATS.iter().map(|dtype| dtype.name()).filter(|name| stays(name)).map(str::to_owned).collect();
}

fn set_workloads(order: &mut Order, stays: &dyn Fn(&str) -> bool) {
    order.workloads = WORKLOADS.iter().map(|(name, _)| *name).filter(|name| stays(name)).map(str::to_owned).collect();
}

/// Empty: all. What is no number becomes one that is refused by name.
fn layers(text: &str) -> Option<usize> {
    (!text.trim().is_empty()).then(|| text.trim().parse().unwrap_or(0))
}

fn addresses(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|address| !address.is_empty()).map(str::to_owned).collect()
}

/// What is running, or how it ended.
#[component]
fn Outcome(bench: Bench) -> impl IntoView {
    let what = move || match bench.state.get() {
        State::Running(progress) => format!("Measuring: {}", progress.what),
        State::Waiting => "Waiting for the GPU".into(),
        State::Done => "Done".into(),
        State::Stopped => "Stopped".into(),
        State::Idle | State::Failed(_) => String::new(),
    };
    let share = Signal::derive(move || match bench.state.get() {
        State::Running(progress) => progress.share,
        _ => None,
    });
    let is_running = Memo::new(move |_| matches!(bench.state.get(), State::Running(_) | State::Waiting));
    view! {
        <p role="status" data-testid="bench-status">{what}</p>
        <Show when=move || is_running.get()><ProgressBar label="Measuring" share/></Show>
        {move || match bench.state.get() {
            State::Failed(failure) => Some(view! { <Failed failure/> }),
            _ => None,
        }}
    }
}

#[component]
fn Failed(failure: Failure) -> impl IntoView {
    let (title, advice) = match failure.kind {
        FailureKind::GpuTooSmall | FailureKind::GpuMemory => (
            "This does not fit the GPU",
            "Choose a smaller size, fewer layers or a smaller weight format, and close other tabs that use the GPU. A model that is \
             loaded in this page takes memory too: reload the page to measure without it.",
        ),
        FailureKind::GpuLost => (
            "The GPU was lost",
            "Most often it had too little memory, or a kernel took too long. Choose a smaller size or fewer layers.",
        ),
        FailureKind::Question => ("This cannot be measured", ""),
        kind => notices::explain(kind),
    };
    view! {
        <section class="notice failure" role="alert" data-testid="bench-failure">
            <h2>{title}</h2>
            <p>{advice}</p>
            <p class="detail">{failure.message}</p>
        </section>
    }
}

/// A table a report as it arrives, and all of it as JSON at the end.
#[component]
fn Reports(bench: Bench) -> impl IntoView {
    let json = move || {
        let settled = bench.state.with(|state| *state == State::Done);
        settled.then(|| {
            let json = bench.json();
            let address = format!("data:application/json,{}", js_sys::encode_uri_component(&json));
            view! {
                <p><a href=address download="selfrag-bench.json" data-testid="bench-download">"Download as JSON"</a></p>
                <details>
                    <summary>"JSON"</summary>
                    <pre id="bench-json" data-testid="bench-json">{json}</pre>
                </details>
            }
        })
    };
    view! {
        {move || bench.reports.get().into_iter().map(|report| view! { <ReportTables report/> }).collect_view()}
        {json}
    }
}

#[component]
fn ReportTables(report: Report) -> impl IntoView {
    let loads: Vec<Vec<String>> = report.load.iter().map(|row| row.cells().to_vec()).collect();
    let rows: Vec<Vec<String>> = report.rows.iter().map(|row| row.cells().to_vec()).collect();
    let kernels: Vec<Vec<String>> = report.kernels.iter().map(|row| row.cells().to_vec()).collect();
    view! {
        <section class="report" data-testid="bench-report">
            <h2>{report.model.clone()}</h2>
            <p class="facts">{report.summary()}</p>
            {(!loads.is_empty()).then(|| view! {
                <Table columns=LoadRow::COLUMNS.to_vec() rows=loads testid="bench-load-table"/>
            })}
            {(!rows.is_empty()).then(|| view! { <Table columns=Row::COLUMNS.to_vec() rows testid="bench-table"/> })}
            {(!kernels.is_empty()).then(|| view! {
                <Table columns=KernelRow::COLUMNS.to_vec() rows=kernels testid="bench-kernels-table"/>
            })}
        </section>
    }
}

#[component]
fn Table(columns: Vec<&'static str>, rows: Vec<Vec<String>>, testid: &'static str) -> impl IntoView {
    let cells = |row: Vec<String>| row.into_iter().map(|cell| view! { <td>{cell}</td> }).collect_view();
    view! {
        // Wider than a phone: it scrolls by itself, also with the keyboard.
        <div class="table" tabindex="0" role="region" aria-label="Results">
            <table data-testid=testid>
                <thead><tr>{columns.into_iter().map(|name| view! { <th scope="col">{name}</th> }).collect_view()}</tr></thead>
                <tbody>{rows.into_iter().map(|row| view! { <tr>{cells(row)}</tr> }).collect_view()}</tbody>
            </table>
        </div>
    }
}
