//! One question under way, as signals: each event of the engine changes just what it is about.

use leptos::prelude::*;
use selfrag::{critique::Scores, event::Event, retriever::Hit, self_rag::Answer};

use crate::protocol::Stats;

/// Where a question is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nothing was asked yet.
    Idle,
    /// Asked before a model was loaded.
    Waiting,
    /// Under way.
    Running,
    /// Answered.
    Done,
    /// Stopped by the user, or failed.
    Stopped,
}

/// Whether passages are retrieved, and why.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Decision {
    pub(crate) probability: Option<f32>,
    pub(crate) threshold: Option<f32>,
    pub(crate) retrieve: bool,
}

/// What is written for one passage, or for none.
#[derive(Debug, Clone)]
pub(crate) struct CandidateState {
    /// From 0, in retrieval order.
    pub(crate) number: usize,
    pub(crate) hit: Option<Hit>,
    pub(crate) text: ArcRwSignal<String>,
    pub(crate) scores: ArcRwSignal<Scores>,
    pub(crate) finished: ArcRwSignal<bool>,
}

impl CandidateState {
    fn new(number: usize, hit: Option<Hit>) -> Self {
        Self {
            number,
            hit,
            text: ArcRwSignal::new(String::new()),
            scores: ArcRwSignal::new(Scores::default()),
            finished: ArcRwSignal::new(false),
        }
    }
}

/// The question and all that is known about its answer.
#[derive(Clone, Copy)]
pub(crate) struct Run {
    pub(crate) question: RwSignal<String>,
    pub(crate) phase: RwSignal<Phase>,
    pub(crate) decision: RwSignal<Option<Decision>>,
    pub(crate) candidates: RwSignal<Vec<CandidateState>>,
    pub(crate) answer: RwSignal<Option<Answer>>,
    pub(crate) stats: RwSignal<Option<Stats>>,
    /// The passage that a citation opened.
    pub(crate) opened: RwSignal<Option<usize>>,
}

impl Run {
    pub(crate) fn new() -> Self {
        Self {
            question: RwSignal::new(String::new()),
            phase: RwSignal::new(Phase::Idle),
            decision: RwSignal::new(None),
            candidates: RwSignal::new(Vec::new()),
            answer: RwSignal::new(None),
            stats: RwSignal::new(None),
            opened: RwSignal::new(None),
        }
    }

    /// Begins a question.
    pub(crate) fn start(&self, question: &str, phase: Phase) {
        self.question.set(question.to_owned());
        self.decision.set(None);
        self.candidates.set(Vec::new());
        self.answer.set(None);
        self.stats.set(None);
        self.opened.set(None);
        self.phase.set(phase);
    }

    pub(crate) fn is_active(&self) -> bool {
        matches!(self.phase.get(), Phase::Running | Phase::Waiting)
    }

    /// The chosen candidate, once there is an answer.
    pub(crate) fn best(&self) -> Option<usize> {
        self.answer.with(|answer| answer.as_ref().map(|answer| answer.best))
    }

    /// Applies one event of the engine.
    pub(crate) fn apply(&self, event: Event) {
        match event {
            Event::Decision { probability, threshold, retrieve } => {
                self.decision.set(Some(Decision { probability, threshold, retrieve }));
            }
            Event::Passages { hits } => {
                let candidates = hits.into_iter().enumerate().map(|(i, hit)| CandidateState::new(i, Some(hit)));
                self.candidates.set(candidates.collect());
            }
            Event::Text { candidate, text } => {
                self.with_candidate(candidate, |c| c.text.update(|all| all.push_str(&text)));
            }
            Event::Scores { candidate, scores } => self.with_candidate(candidate, |c| c.scores.set(scores)),
            Event::Finished { candidate } => self.with_candidate(candidate, |c| c.finished.set(true)),
            // The answer goes on; the worker shows warnings among the notices.
            Event::Warning { .. } => {}
            // The page asks for short answers only.
            Event::Segments { .. } | Event::Beam { .. } | Event::LongAnswer { .. } => {}
            Event::Answer { answer } => {
                // The final values replace whatever was shown on the way.
                for (i, done) in answer.candidates.iter().enumerate() {
                    self.with_candidate(i, |c| {
                        c.text.set(done.text.clone());
                        c.scores.set(done.scores);
                        c.finished.set(true);
                    });
                }
                self.answer.set(Some(answer));
            }
        }
    }

    fn with_candidate(&self, number: usize, change: impl FnOnce(&CandidateState)) {
        // Without retrieval there is one candidate and no event that announces it.
        if number == 0 && self.candidates.with_untracked(Vec::is_empty) {
            self.candidates.set(vec![CandidateState::new(0, None)]);
        }
        let found = self.candidates.with_untracked(|all| all.get(number).cloned());
        if let Some(candidate) = found {
            change(&candidate);
        }
    }
}
