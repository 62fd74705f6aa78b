//! Short form: one decision, one candidate per passage, the best one answers (released code, `run_short_form.py`; paper, §3.3).
//!
//! ```text
//! prompts of all questions ── one pass ──→ p(`[Retrieval]`) at the first position → decide
//!   no:  prompt + `[No Retrieval]`                                     one candidate
//!   yes: search → prompt forked for each passage + passage           n_docs candidates
//! all candidates of all questions ── one pass ──→ first tokens, ISREL
//! then one pass a step for all that are unfinished, until they end or the token limit does
//! ```
//!
//! Cost: with N candidates of T tokens, T + 2 passes of the model whatever N is; the prompt's keys and values are stored once.

use super::{
    Answer, Config, Stop,
    decide::{Decision, decide},
    rank,
    sequences::Sequences,
    writing::{Ends, Rules, Writing},
};
use crate::{
    Error, Result,
    critique::GroupLogprobs,
    event::Event,
    generator::{Generator, SeqId, StepOutput, prompt, sampler::Sampling},
    retriever::{Hit, Passage, Retriever},
    tokenizer::{ReflectionTokens, Tokenizer},
};

/// Where a question's passages come from.
#[derive(Debug, Clone, PartialEq)]
pub enum Passages {
    /// The retriever, if the decision is to retrieve.
    Retrieved,
    /// The user: used if the decision is to retrieve, in place of the retriever's.
    Given(Vec<Passage>),
}

/// A question with the source of its passages.
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    /// The question or instruction.
    pub text: String,
    /// What the retriever is asked, where that is not the text itself: an instruction around a question finds the instruction.
    pub query: Option<String>,
    /// Where its passages come from.
    pub passages: Passages,
}

impl Question {
    /// A question to be answered with the retriever's help.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), query: None, passages: Passages::Retrieved }
    }

    /// A question with the user's own passages.
    pub fn with_passages(text: impl Into<String>, passages: Vec<Passage>) -> Self {
        Self { text: text.into(), query: None, passages: Passages::Given(passages) }
    }

    /// What is searched for.
    pub fn query(&self) -> &str {
        self.query.as_deref().unwrap_or(&self.text)
    }
}

/// The short form over any generator and retriever.
pub struct ShortForm<'a> {
    /// The model.
    pub generator: &'a mut dyn Generator,
    /// None: only given passages are used.
    pub retriever: Option<&'a mut dyn Retriever>,
    /// The model's vocabulary.
    pub tokenizer: &'a Tokenizer,
    /// Its reflection tokens.
    pub reflection: &'a ReflectionTokens,
    /// Every number that changes the answer.
    pub config: &'a Config,
    /// Looked at before every pass.
    pub stop: &'a Stop,
}

impl ShortForm<'_> {
    /// Answers the questions as one batch. `on_event` gets the question's index with each event.
    ///
    /// The sequences are freed however this ends: answered, failed, stopped or dropped.
    pub async fn answer_batch(
        self,
        questions: &[Question],
        on_event: &mut dyn FnMut(usize, Event),
    ) -> Result<Vec<Answer>> {
        self.config.check()?;
        let Self { generator, retriever, tokenizer, reflection, config, stop } = self;
        let ends = if config.stop_at_retrieval { Ends::Request } else { Ends::Never };
        let rules = Rules { tokenizer, reflection, config, ends };
        generator.watch(&reflection.watched());
        // The decision is the model's most likely word; candidates may be sampled.
        generator.set_sampling(Sampling::GREEDY)?;
        let sequences = Sequences::new(generator);
        let mut batch = Batch { sequences, retriever, rules, questions, stop, on_event };
        batch.run().await
    }
}

/// A question's prompt in the cache.
struct Prompt {
    seq: SeqId,
    n_tokens: usize,
}

struct Batch<'a, 'b> {
    sequences: Sequences<'a>,
    retriever: Option<&'a mut dyn Retriever>,
    rules: Rules<'a>,
    questions: &'b [Question],
    stop: &'a Stop,
    on_event: &'b mut dyn FnMut(usize, Event),
}

impl Batch<'_, '_> {
    async fn run(&mut self) -> Result<Vec<Answer>> {
        if self.questions.is_empty() {
            return Ok(Vec::new());
        }
        let (prompts, first_steps) = self.prefill_prompts().await?;
        let mut decisions: Vec<Decision> = first_steps.iter().map(|step| self.decide(step)).collect();
        for (index, &Decision { probability, threshold, retrieve }) in decisions.iter().enumerate() {
            (self.on_event)(index, Event::Decision { probability, threshold, retrieve });
        }
        let hits = self.passages(&decisions).await?;
        for (decision, hits) in decisions.iter_mut().zip(&hits) {
            decision.retrieve &= !hits.is_empty();
        }
        let mut writings = self.start_candidates(&prompts, hits)?;
        self.sequences.generator.set_sampling(self.rules.config.sampling)?;
        while writings.iter().any(|writing| !writing.finished) {
            self.step(&mut writings).await?;
        }
        Ok(self.rank(&decisions, writings))
    }

    /// All prompts as one pass; the output is what the decision is read from.
    async fn prefill_prompts(&mut self) -> Result<(Vec<Prompt>, Vec<StepOutput>)> {
        let mut prompts = Vec::new();
        let mut batch = Vec::new();
        for question in self.questions {
            let tokens = prompt::prompt(self.rules.tokenizer, &question.text)?;
            // Room for [No Retrieval] and one token of answer.
            let (needed, available) = (tokens.len() + 2, self.sequences.generator.context_length());
            if needed > available {
                return Err(Error::ContextFull { needed, available });
            }
            let seq = self.sequences.start()?;
            prompts.push(Prompt { seq, n_tokens: tokens.len() });
            batch.push((seq, tokens));
        }
        let steps = self.sequences.forward(&batch, self.stop).await?;
        Ok((prompts, steps))
    }

    fn decide(&self, step: &StepOutput) -> Decision {
        let groups = GroupLogprobs::read(&step.watched);
        decide(self.rules.config, groups.retrieval, step.token == self.rules.reflection.retrieval)
    }

    /// The passages of each question; none for those that do not retrieve. One search for all that do.
    async fn passages(&mut self, decisions: &[Decision]) -> Result<Vec<Vec<Hit>>> {
        let mut hits: Vec<Vec<Hit>> = vec![Vec::new(); self.questions.len()];
        let mut searched = Vec::new();
        for (index, question) in self.questions.iter().enumerate().filter(|&(index, _)| decisions[index].retrieve) {
            match &question.passages {
                Passages::Retrieved => searched.push(index),
                Passages::Given(passages) => {
                    let given = passages.iter().take(self.rules.config.n_docs);
                    hits[index] = given.map(|passage| Hit { passage: passage.clone(), score: None }).collect();
                }
            }
        }
        if let Some(retriever) = self.retriever.as_mut().filter(|_| !searched.is_empty()) {
            self.stop.check()?;
            let texts: Vec<&str> = searched.iter().map(|&index| self.questions[index].query()).collect();
            let found = retriever.search(&texts, self.rules.config.n_docs).await?;
            assert_eq!(found.len(), searched.len(), "the retriever gives one list for each question");
            for (index, mut found) in searched.into_iter().zip(found) {
                found.truncate(self.rules.config.n_docs);
                hits[index] = found;
            }
        }
        for index in (0..hits.len()).filter(|&index| decisions[index].retrieve) {
            if hits[index].is_empty() {
                let message = "no passage found: answering without".to_owned();
                (self.on_event)(index, Event::Warning { message });
            } else {
                (self.on_event)(index, Event::Passages { hits: hits[index].clone() });
            }
        }
        Ok(hits)
    }

    /// One candidate for each passage, or one without.
    fn start_candidates(&mut self, prompts: &[Prompt], hits: Vec<Vec<Hit>>) -> Result<Vec<Writing>> {
        let mut writings = Vec::new();
        for (question, (prompt, hits)) in prompts.iter().zip(hits).enumerate() {
            if hits.is_empty() {
                let input = vec![self.rules.reflection.no_retrieval];
                let room = self.room(prompt.n_tokens + 1);
                writings.push(Writing::new(question, 0, prompt.seq, None, input, room));
            }
            for (index, hit) in hits.into_iter().enumerate() {
                let input = self.passage_tokens(question, prompt, &hit.passage)?;
                let room = self.room(prompt.n_tokens + input.len());
                let seq = self.sequences.fork(prompt.seq)?;
                writings.push(Writing::new(question, index, seq, Some(hit), input, room));
            }
        }
        Ok(writings)
    }

    /// Tokens that a candidate may have after `used` tokens of the context.
    fn room(&self, used: usize) -> usize {
        self.rules.config.max_new_tokens.min(self.sequences.generator.context_length() - used)
    }

    /// The passage, cut where it does not fit.
    fn passage_tokens(&mut self, question: usize, prompt: &Prompt, passage: &Passage) -> Result<Vec<u32>> {
        let left = self.sequences.generator.context_length() - prompt.n_tokens;
        let made = self.rules.passage(passage, left, self.rules.config.max_new_tokens)?;
        if made.cut > 0 {
            let message = prompt::cut_message(passage, made.cut);
            (self.on_event)(question, Event::Warning { message });
        }
        Ok(made.tokens)
    }

    /// One pass for all unfinished candidates; those that are then finished leave the cache.
    async fn step(&mut self, writings: &mut [Writing]) -> Result<()> {
        let open: Vec<usize> = (0..writings.len()).filter(|&index| !writings[index].finished).collect();
        self.sequences.step(writings, &self.rules, self.stop, self.on_event).await?;
        for index in open.into_iter().filter(|&index| writings[index].finished) {
            self.sequences.free(writings[index].seq);
        }
        Ok(())
    }

    fn rank(&mut self, decisions: &[Decision], writings: Vec<Writing>) -> Vec<Answer> {
        let config = self.rules.config;
        let mut candidates = vec![Vec::new(); self.questions.len()];
        for writing in writings {
            candidates[writing.question].push(writing.into_candidate(config));
        }
        let mut answers = Vec::new();
        for (index, candidates) in candidates.into_iter().enumerate() {
            let texts: Vec<&str> = candidates.iter().map(|candidate| candidate.text.as_str()).collect();
            let scores: Vec<f32> = candidates.iter().filter_map(|candidate| candidate.scores.segment).collect();
            let best = rank::best(config, &texts, &scores).expect("every question has a candidate");
            let answer = Answer {
                question: self.questions[index].text.clone(),
                text: rank::clean(texts[best], config.trim_answer),
                probability: decisions[index].probability,
                retrieved: decisions[index].retrieve,
                candidates,
                best,
            };
            (self.on_event)(index, Event::Answer { answer: answer.clone() });
            answers.push(answer);
        }
        answers
    }
}
