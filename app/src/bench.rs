//! A benchmark as the page sees it: what to run, how far it is, what came out.

use leptos::prelude::*;
use selfrag::bench::{Geometry, Order, Progress, Report};

use crate::protocol::{BenchReply, Failure};

/// Where a benchmark is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum State {
    /// Nothing was asked yet.
    Idle,
    /// The address asked for it; it begins when a GPU is found.
    Waiting,
    /// Under way.
    Running(Progress),
    /// Everything was measured.
    Done,
    /// Stopped by the user.
    Stopped,
    /// Something was missing.
    Failed(Failure),
}

impl State {
    /// For scripts: `data-state` and the title.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Waiting | Self::Running(_) => "running",
            Self::Done => "done",
            Self::Stopped => "stopped",
            Self::Failed(_) => "failed",
        }
    }
}

/// The benchmark, as signals.
#[derive(Clone, Copy)]
pub(crate) struct Bench {
    pub(crate) order: RwSignal<Order>,
    pub(crate) state: RwSignal<State>,
    /// One a weight format.
    pub(crate) reports: RwSignal<Vec<Report>>,
}

impl Bench {
    /// Reads what the address asks for.
    pub(crate) fn new(query: &str) -> Self {
        // What every GPU has room for; a 7B is for those who ask for it.
        let base = Order { geometry: Geometry::SMOLLM2_135M.name.into(), ..Order::default() };
        let (order, state) = match base.clone().with_query(query) {
            Ok(order) if Order::starts_at_once(query) => (order, State::Waiting),
            Ok(order) => (order, State::Idle),
            Err(error) => (base, State::Failed(Failure::from(&error))),
        };
        Self { order: RwSignal::new(order), state: RwSignal::new(state), reports: RwSignal::new(Vec::new()) }
    }

    pub(crate) fn begin(&self) {
        self.reports.set(Vec::new());
        self.state.set(State::Running(Progress { what: "starting".into(), share: None }));
    }

    pub(crate) fn is_running(&self) -> bool {
        self.state.with_untracked(|state| matches!(state, State::Running(_)))
    }

    /// Applies one reply of the worker.
    pub(crate) fn receive(&self, reply: BenchReply) {
        match reply {
            BenchReply::Progress(progress) => self.state.set(State::Running(progress)),
            BenchReply::Report(report) => self.reports.update(|all| all.push(*report)),
            BenchReply::Done => self.state.set(State::Done),
            BenchReply::Stopped => self.state.set(State::Stopped),
            BenchReply::Failed(failure) => self.state.set(State::Failed(failure)),
        }
    }

    /// All reports as `selfrag bench --json` writes them.
    pub(crate) fn json(&self) -> String {
        self.reports.with(|reports| serde_json::to_string_pretty(reports).expect("reports are plain data"))
    }
}
