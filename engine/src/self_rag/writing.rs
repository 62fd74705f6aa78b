//! One candidate while it is written: tokens, text and critique so far.

use super::{Candidate, Config};
use crate::{
    Result,
    critique::{Evidence, GroupLogprobs, Scores},
    event::Event,
    generator::{
        SeqId, StepOutput,
        prompt::{self, PassageTokens},
    },
    retriever::{Hit, Passage},
    tokenizer::{DecodeStream, ReflectionTokens, Tokenizer},
};

/// What ends a candidate beside the model's own end and the token limit.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Ends {
    /// Nothing.
    Never,
    /// `[Retrieval]`, which is counted as the candidate's last token (short form).
    Request,
    /// The beginning of the next segment, which is not counted (long form).
    Segment,
}

/// What reading a step needs to know.
#[derive(Clone, Copy)]
pub(super) struct Rules<'a> {
    pub(super) tokenizer: &'a Tokenizer,
    pub(super) reflection: &'a ReflectionTokens,
    pub(super) config: &'a Config,
    pub(super) ends: Ends,
}

impl Rules<'_> {
    /// A passage's tokens where the context has `left` tokens and the text should get `wanted` of them: the passage is cut so that it
    /// fits, but never to less than half of what is left.
    pub(super) fn passage(&self, passage: &Passage, left: usize, wanted: usize) -> Result<PassageTokens> {
        let max_tokens = left.saturating_sub(wanted).max(left / 2);
        prompt::passage(self.tokenizer, self.reflection, passage, self.config.segment_prefix, max_tokens)
    }
}

/// A candidate under way.
pub(super) struct Writing {
    /// Which of the questions.
    pub(super) question: usize,
    /// Which of the question's candidates.
    pub(super) index: usize,
    pub(super) seq: SeqId,
    /// Tokens it may still have.
    pub(super) room: usize,
    /// What the model is given next.
    pub(super) input: Vec<u32>,
    pub(super) finished: bool,
    /// The token that began the next segment, with the log-probabilities of the retrieval group there.
    pub(super) boundary: Option<(u32, [f32; 3])>,
    /// The retrieval group's log-probabilities at each of the group's tokens in the text, by position.
    pub(super) retrievals: Vec<(usize, [f32; 3])>,
    hit: Option<Hit>,
    tokens: Vec<u32>,
    stream: DecodeStream,
    text: String,
    evidence: Evidence,
    truncated: bool,
    /// Whether the model ended it with an end-of-text token.
    pub(super) ended: bool,
}

impl Writing {
    pub(super) fn new(
        question: usize,
        index: usize,
        seq: SeqId,
        hit: Option<Hit>,
        input: Vec<u32>,
        room: usize,
    ) -> Self {
        Self {
            question,
            index,
            seq,
            room,
            input,
            finished: false,
            boundary: None,
            retrievals: Vec::new(),
            hit,
            tokens: Vec::new(),
            stream: DecodeStream::default(),
            text: String::new(),
            evidence: Evidence::default(),
            truncated: false,
            ended: false,
        }
    }

    /// Takes the next token in and says what became known.
    pub(super) fn read(&mut self, step: &StepOutput, rules: &Rules<'_>, emit: &mut dyn FnMut(Event)) {
        let Rules { tokenizer, reflection, config, ends } = *rules;
        let candidate = self.index;
        if ends == Ends::Segment && (reflection.is_retrieval(step.token) || step.token == reflection.paragraph_open) {
            self.boundary = Some((step.token, GroupLogprobs::read(&step.watched).retrieval));
            return self.finish(config, emit);
        }
        let learned = self.read_groups(step, reflection);
        self.tokens.push(step.token);
        self.evidence.add_token(step.logprob);
        let is_end = tokenizer.stop_tokens().contains(&step.token);
        let is_request = ends == Ends::Request && step.token == reflection.retrieval;
        self.room -= 1;
        self.truncated = !is_end && !is_request && self.room == 0;
        self.ended |= is_end;
        let text = self.stream.push(tokenizer, step.token);
        self.append(text, emit);
        self.input = vec![step.token];
        if is_end || is_request || self.truncated {
            self.finish(config, emit);
        } else if learned {
            emit(Event::Scores { candidate, scores: self.scores(config) });
        }
    }

    fn append(&mut self, text: String, emit: &mut dyn FnMut(Event)) {
        if !text.is_empty() {
            self.text.push_str(&text);
            emit(Event::Text { candidate: self.index, text });
        }
    }

    /// Nothing more will come.
    pub(super) fn finish(&mut self, config: &Config, emit: &mut dyn FnMut(Event)) {
        let candidate = self.index;
        self.finished = true;
        let text = self.stream.finish();
        self.append(text, emit);
        emit(Event::Scores { candidate, scores: self.scores(config) });
        emit(Event::Finished { candidate });
    }

    /// Keeps each group's log-probabilities where the specification reads them; whether that was now.
    ///
    /// ISREL is read at the first position whatever is written there: after a passage the format has no other place for it.
    fn read_groups(&mut self, step: &StepOutput, reflection: &ReflectionTokens) -> bool {
        let groups = GroupLogprobs::read(&step.watched);
        let before = self.evidence;
        if self.tokens.is_empty() && self.hit.is_some() {
            self.evidence.relevance = Some(groups.relevance);
        }
        if reflection.is_retrieval(step.token) {
            self.retrievals.push((self.tokens.len(), groups.retrieval));
        }
        if reflection.is_support(step.token) {
            self.evidence.support.get_or_insert(groups.support);
        }
        if reflection.is_utility(step.token) {
            self.evidence.utility.get_or_insert(groups.utility);
        }
        self.evidence != before
    }

    /// The critique so far. The segment score is only given at the end: a sum with terms missing would mislead.
    fn scores(&self, config: &Config) -> Scores {
        let scores = self.evidence.scores(config);
        if self.finished { scores } else { Scores { segment: None, ..scores } }
    }

    pub(super) fn into_candidate(self, config: &Config) -> Candidate {
        Candidate {
            scores: self.evidence.scores(config),
            hit: self.hit,
            text: self.text,
            tokens: self.tokens,
            evidence: self.evidence,
            truncated: self.truncated,
        }
    }
}
