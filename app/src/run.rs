//! One question under way, as signals: each event of the engine changes just what it is about. What is seen of an answer is its
//! ranking under the settings as they are now, so that a slider weighs anew what was written.

use std::sync::Arc;

use leptos::prelude::*;
use selfrag::{
    critique::Scores,
    event::{Event, Planned},
    retriever::Hit,
    self_rag::{
        Answer, Form, LongAnswer, Settings,
        long::{Fate, Retrieve, Segment, fates, path_of},
        rerank::{self, LongRanking, ShortRanking},
    },
};

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

/// What a question was asked with.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Asked {
    pub(crate) settings: Settings,
    /// Decided in the model's place, a segment each.
    pub(crate) forced: Vec<Option<bool>>,
}

/// What is written for one passage, or for none.
#[derive(Debug, Clone)]
pub(crate) struct CandidateState {
    /// From 0, in retrieval order; of a long answer, the place in its tree.
    pub(crate) number: usize,
    /// Long answers: the segment it continues.
    pub(crate) parent: Option<usize>,
    /// Long answers: which segment it is of, counted from 1.
    pub(crate) depth: usize,
    /// Long answers: what was decided before it, and the ratio that decided.
    pub(crate) decision: (Retrieve, Option<f32>),
    pub(crate) hit: Option<Hit>,
    pub(crate) text: ArcRwSignal<String>,
    pub(crate) scores: ArcRwSignal<Scores>,
    pub(crate) finished: ArcRwSignal<bool>,
}

impl CandidateState {
    fn new(number: usize, hit: Option<Hit>) -> Self {
        let decision = (if hit.is_some() { Retrieve::Yes } else { Retrieve::No }, None);
        Self {
            number,
            parent: None,
            depth: 1,
            decision,
            hit,
            text: ArcRwSignal::new(String::new()),
            scores: ArcRwSignal::new(Scores::default()),
            finished: ArcRwSignal::new(false),
        }
    }

    fn planned(depth: usize, planned: Planned) -> Self {
        let Planned { node, parent, retrieve, probability, hit } = planned;
        Self { parent, depth, decision: (retrieve, probability), ..Self::new(node, hit) }
    }
}

/// A long answer as it is seen: finished, or as far as it is written.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Shown {
    pub(crate) segments: Vec<Segment>,
    pub(crate) passages: Vec<Hit>,
    /// All nodes of the path.
    pub(crate) path: Vec<usize>,
}

/// The question and all that is known about its answer.
#[derive(Clone, Copy)]
pub(crate) struct Run {
    pub(crate) question: RwSignal<String>,
    pub(crate) phase: RwSignal<Phase>,
    pub(crate) asked: RwSignal<Asked>,
    /// What the user wants decided otherwise; asked with the next time.
    pub(crate) forced: RwSignal<Vec<Option<bool>>>,
    pub(crate) decision: RwSignal<Option<Decision>>,
    pub(crate) candidates: RwSignal<Vec<CandidateState>>,
    /// Long answers: the paths kept so far.
    beams: RwSignal<Vec<Vec<usize>>>,
    /// The answers as they were written.
    pub(crate) written: RwSignal<Option<Arc<Answer>>>,
    pub(crate) written_long: RwSignal<Option<Arc<LongAnswer>>>,
    /// The settings that it was asked with, and the δ and weights of now.
    pub(crate) weighed: Memo<Settings>,
    /// The answers as they are weighed now.
    pub(crate) ranking: Memo<Option<Arc<ShortRanking>>>,
    pub(crate) long_ranking: Memo<Option<Arc<LongRanking>>>,
    /// A short answer as it is weighed now.
    pub(crate) answer: Memo<Option<Answer>>,
    /// A long answer as it is weighed now, or as far as it is written.
    pub(crate) shown: Memo<Shown>,
    pub(crate) fates: Memo<Vec<Fate>>,
    pub(crate) stats: RwSignal<Option<Stats>>,
    /// The passage that a citation opened.
    pub(crate) opened: RwSignal<Option<usize>>,
}

impl Run {
    /// Weighed by the δ and the weights of `settings`.
    pub(crate) fn new(settings: RwSignal<Settings>) -> Self {
        let asked = RwSignal::new(Asked::default());
        let candidates = RwSignal::new(Vec::<CandidateState>::new());
        let beams = RwSignal::new(Vec::<Vec<usize>>::new());
        let written = RwSignal::new(None::<Arc<Answer>>);
        let written_long = RwSignal::new(None::<Arc<LongAnswer>>);
        let weighed = Memo::new(move |_| asked.with(|asked| asked.settings.weighed(&settings.get())));
        let ranking = Memo::new(move |_| Some(Arc::new(rerank::short(&*written.get()?, &weighed.get().short()))));
        let long_ranking = Memo::new(move |_| {
            let config = asked.with(|asked| weighed.get().long(&asked.forced));
            Some(Arc::new(rerank::long(&*written_long.get()?, &config)))
        });
        let answer = Memo::new(move |_| {
            let (mut answer, ranking) = (Answer::clone(&*written.get()?), ranking.get()?);
            answer.best = ranking.best.unwrap_or(answer.best);
            answer.text.clone_from(&ranking.text);
            for (candidate, scores) in answer.candidates.iter_mut().zip(&ranking.scores) {
                candidate.scores = *scores;
            }
            Some(answer)
        });
        let shown = Memo::new(move |_| match long_ranking.get() {
            Some(ranking) => Shown {
                segments: ranking.segments.clone(),
                passages: ranking.passages.clone(),
                path: ranking.path.clone(),
            },
            None => beams.with(|beams| candidates.with_untracked(|all| so_far(all, beams))),
        });
        let fates = Memo::new(move |_| match (written_long.get(), long_ranking.get()) {
            (Some(answer), Some(ranking)) => answer.tree.fates(&ranking.beams, &ranking.path),
            _ => {
                let parents: Vec<Option<usize>> = candidates.with(|all| all.iter().map(|c| c.parent).collect());
                beams.with(|beams| shown.with(|shown| fates(&parents, beams, &shown.path)))
            }
        });
        Self {
            question: RwSignal::new(String::new()),
            phase: RwSignal::new(Phase::Idle),
            asked,
            forced: RwSignal::new(Vec::new()),
            decision: RwSignal::new(None),
            candidates,
            beams,
            written,
            written_long,
            weighed,
            ranking,
            long_ranking,
            answer,
            shown,
            fates,
            stats: RwSignal::new(None),
            opened: RwSignal::new(None),
        }
    }

    /// Begins a question.
    pub(crate) fn start(&self, question: &str, phase: Phase, asked: Asked) {
        self.question.set(question.to_owned());
        self.decision.set(None);
        self.written.set(None);
        self.written_long.set(None);
        self.beams.set(Vec::new());
        self.candidates.set(Vec::new());
        self.forced.set(asked.forced.clone());
        self.asked.set(asked);
        self.stats.set(None);
        self.opened.set(None);
        self.phase.set(phase);
    }

    pub(crate) fn is_active(&self) -> bool {
        matches!(self.phase.get(), Phase::Running | Phase::Waiting)
    }

    /// Whether the answer is a long one.
    pub(crate) fn is_long(&self) -> bool {
        self.asked.with(|asked| asked.settings.form == Form::Long)
    }

    /// Whether there is an answer.
    pub(crate) fn is_answered(&self) -> bool {
        self.written.with(Option::is_some) || self.written_long.with(Option::is_some)
    }

    /// The chosen candidate, once there is a short answer.
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
            Event::Segments { depth, segments } => self.candidates.update(|all| {
                // Numbered by their place; what is not in its place could not be found again.
                for planned in segments.into_iter().filter(|planned| planned.parent < Some(planned.node)) {
                    if planned.node == all.len() {
                        all.push(CandidateState::planned(depth, planned));
                    }
                }
            }),
            Event::Beam { nodes, .. } => self.beams.update(|beams| beams.push(nodes)),
            Event::Text { candidate, text } => {
                self.with_candidate(candidate, |c| c.text.update(|all| all.push_str(&text)));
            }
            Event::Scores { candidate, scores } => self.with_candidate(candidate, |c| c.scores.set(scores)),
            Event::Finished { candidate } => self.with_candidate(candidate, |c| c.finished.set(true)),
            // The answer goes on; the worker shows warnings among the notices.
            Event::Warning { .. } => {}
            // The final values replace whatever was shown on the way; the scores follow with the ranking.
            Event::Answer { answer } => {
                answer.candidates.iter().enumerate().for_each(|(i, done)| self.settle(i, &done.text));
                self.written.set(Some(Arc::new(answer)));
            }
            Event::LongAnswer { answer } => {
                answer.tree.nodes.iter().enumerate().for_each(|(i, done)| self.settle(i, &done.text));
                self.written_long.set(Some(answer.into()));
            }
        }
    }

    /// Shows every candidate's scores as they are weighed now.
    pub(crate) fn weigh(&self) {
        let show = |scores: &[Scores]| {
            self.candidates.with_untracked(|all| {
                for (candidate, scores) in all.iter().zip(scores) {
                    if candidate.scores.with_untracked(|known| known != scores) {
                        candidate.scores.set(*scores);
                    }
                }
            });
        };
        if let Some(ranking) = self.ranking.get() {
            show(&ranking.scores);
        }
        if let Some(ranking) = self.long_ranking.get() {
            show(&ranking.scores);
        }
    }

    fn settle(&self, number: usize, text: &str) {
        self.with_candidate(number, |c| {
            c.text.set(text.to_owned());
            c.finished.set(true);
        });
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

/// The best path so far, with its citations: what is known of a long answer while it is written.
fn so_far(all: &[CandidateState], beams: &[Vec<usize>]) -> Shown {
    let best = beams.last().and_then(|beam| beam.first()).filter(|&&node| node < all.len());
    let parent = |at: usize| all.get(at).and_then(|candidate| candidate.parent);
    let path = best.map_or(Vec::new(), |&node| path_of(parent, node));
    let (mut segments, mut passages) = (Vec::new(), Vec::<Hit>::new());
    let mut held: Option<Hit> = None;
    for candidate in path.iter().filter_map(|&node| all.get(node)) {
        // A segment that continues has its parent's passage.
        if candidate.decision.0 != Retrieve::Continue {
            held.clone_from(&candidate.hit);
        }
        let citation = held.as_ref().map(|hit| {
            passages.iter().position(|known| known.passage == hit.passage).unwrap_or_else(|| {
                passages.push(hit.clone());
                passages.len() - 1
            })
        });
        let text = candidate.text.with_untracked(|text| text.trim().to_owned());
        if !text.is_empty() {
            segments.push(Segment { node: candidate.number, text, citation });
        }
    }
    Shown { segments, passages, path }
}
