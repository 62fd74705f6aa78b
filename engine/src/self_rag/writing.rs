//! One candidate while it is written: tokens, text and critique so far.

use super::{Candidate, Config};
use crate::{
    critique::{Evidence, GroupLogprobs, Scores},
    event::Event,
    generator::{SeqId, StepOutput},
    retriever::Hit,
    tokenizer::{DecodeStream, ReflectionTokens, Tokenizer},
};

/// What reading a step needs to know.
pub(super) struct Rules<'a> {
    pub(super) tokenizer: &'a Tokenizer,
    pub(super) reflection: &'a ReflectionTokens,
    pub(super) config: &'a Config,
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
    hit: Option<Hit>,
    tokens: Vec<u32>,
    stream: DecodeStream,
    text: String,
    evidence: Evidence,
    truncated: bool,
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
            hit,
            tokens: Vec::new(),
            stream: DecodeStream::default(),
            text: String::new(),
            evidence: Evidence::default(),
            truncated: false,
        }
    }

    /// Takes the next token in and says what became known.
    pub(super) fn read(&mut self, step: &StepOutput, rules: &Rules<'_>, emit: &mut dyn FnMut(Event)) {
        let Rules { tokenizer, reflection, config } = *rules;
        let candidate = self.index;
        let learned = self.read_groups(step, reflection);
        self.tokens.push(step.token);
        self.evidence.add_token(step.logprob);
        let is_end = tokenizer.stop_tokens().contains(&step.token);
        let is_request = config.stop_at_retrieval && step.token == reflection.retrieval;
        self.room -= 1;
        self.truncated = !is_end && !is_request && self.room == 0;
        self.finished = is_end || is_request || self.truncated;
        let mut text = self.stream.push(tokenizer, step.token);
        if self.finished {
            text.push_str(&self.stream.finish());
        }
        if !text.is_empty() {
            self.text.push_str(&text);
            emit(Event::Text { candidate, text });
        }
        if learned || self.finished {
            emit(Event::Scores { candidate, scores: self.scores(config) });
        }
        if self.finished {
            emit(Event::Finished { candidate });
        }
        self.input = vec![step.token];
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
