//! Long form: an answer of several segments, each with its own passage, found by a beam over candidates (paper, §3.3, Algorithm 1).
//!
//! ```text
//! prompt ── one pass ──→ Retrieve? ──┐
//! for each segment:                  │
//!   yes:      search with question and previous segment → a candidate per passage
//!   continue: one candidate, with the passage it has         no: one candidate, without
//!   all candidates of all paths of all questions: one batch, a step at a time, until each asks for the next segment or ends
//!   keep the best `beam_width` paths; what each says about Retrieve at its end decides its next segment
//! ```
//!
//! The tree is stored as forks of one KV cache: a beam of 2 with 5 passages is one batch of 10 over shared prefixes, and what falls
//! out of the beam is freed at once. Cost: the passes of the longest candidate of each level. Every candidate stays in the
//! [`Tree`], so that [`crate::self_rag::rerank`] can weigh them anew without generating.
//!
//! [`LongConfig`] has the released code's departures as switches; [`compat`] is the text handling that they need.

pub mod beam;
pub mod compat;
mod config;
mod grow;
mod read_out;
pub mod tree;

use self::grow::{Asked, Path};
pub use self::{
    config::{HardControl, LongConfig, PROBE_TOKENS, PathScore},
    read_out::{chosen as read_out_path, released_text, segments, text_of},
    tree::{Fate, LongAnswer, Node, Retrieve, Segment, SegmentEnd, Tree, Wish, fates, path_of},
};
use super::{
    Mode, Question, Stop,
    sequences::Sequences,
    writing::{Ends, Rules, Writing},
};
use crate::{
    Error, Result,
    critique::GroupLogprobs,
    event::Event,
    generator::{Generator, SeqId, StepOutput, prompt, sampler::Sampling},
    retriever::Retriever,
    tokenizer::{ReflectionTokens, Tokenizer},
};

/// The long form over any generator and retriever.
pub struct LongForm<'a> {
    /// The model.
    pub generator: &'a mut dyn Generator,
    /// None: only given passages are used.
    pub retriever: Option<&'a mut dyn Retriever>,
    /// The model's vocabulary.
    pub tokenizer: &'a Tokenizer,
    /// Its reflection tokens.
    pub reflection: &'a ReflectionTokens,
    /// Every number that changes the answer.
    pub config: &'a LongConfig,
    /// Looked at before every pass.
    pub stop: &'a Stop,
}

impl LongForm<'_> {
    /// Answers the questions as one batch. `on_event` gets the question's index with each event.
    ///
    /// The sequences are freed however this ends: answered, failed, stopped or dropped.
    pub async fn answer_batch(
        self,
        questions: &[Question],
        on_event: &mut dyn FnMut(usize, Event),
    ) -> Result<Vec<LongAnswer>> {
        self.config.check()?;
        let Self { generator, retriever, tokenizer, reflection, config, stop } = self;
        let scoring = config.scoring();
        let ends = if config.stop_at_segment { Ends::Segment } else { Ends::Never };
        let rules = Rules { tokenizer, reflection, config: &scoring, ends };
        generator.watch(&reflection.watched());
        // Decisions are the model's most likely word; candidates may be sampled.
        generator.set_sampling(Sampling::GREEDY)?;
        let sequences = Sequences::new(generator);
        let mut batch = Batch { sequences, retriever, rules, config, stop, on_event };
        batch.run(questions).await
    }
}

/// A batch of questions under way.
struct Batch<'a, 'b> {
    sequences: Sequences<'a>,
    retriever: Option<&'a mut dyn Retriever>,
    /// Its config is [`LongConfig::scoring`].
    rules: Rules<'b>,
    config: &'a LongConfig,
    stop: &'a Stop,
    on_event: &'b mut dyn FnMut(usize, Event),
}

impl Batch<'_, '_> {
    async fn run(&mut self, questions: &[Question]) -> Result<Vec<LongAnswer>> {
        if questions.is_empty() {
            return Ok(Vec::new());
        }
        let mut asked = self.prefill_prompts(questions).await?;
        self.sequences.generator.set_sampling(self.config.base.sampling)?;
        for level in 1..=self.config.levels() {
            if asked.iter().all(|asked| asked.open.is_empty()) {
                break;
            }
            self.grow(&mut asked, level).await?;
        }
        let answers: Vec<LongAnswer> = asked.into_iter().map(|asked| read_out::answer(self.config, asked)).collect();
        for (index, answer) in answers.iter().enumerate() {
            (self.on_event)(index, Event::LongAnswer { answer: Box::new(answer.clone()) });
        }
        Ok(answers)
    }

    /// All prompts as one pass, and the first decision of each question.
    async fn prefill_prompts<'q>(&mut self, questions: &'q [Question]) -> Result<Vec<Asked<'q>>> {
        let (mut batch, mut lengths) = (Vec::new(), Vec::new());
        for question in questions {
            let tokens = prompt::prompt(self.rules.tokenizer, &question.text)?;
            // Room for [No Retrieval] and one token of answer.
            let (needed, available) = (tokens.len() + 2, self.sequences.generator.context_length());
            if needed > available {
                return Err(Error::ContextFull { needed, available });
            }
            lengths.push(tokens.len());
            batch.push((self.sequences.start()?, tokens));
        }
        let steps = self.sequences.forward(&batch, self.stop).await?;
        let prompts: Vec<SeqId> = batch.iter().map(|(seq, _)| *seq).collect();
        let asks = match self.config.probe_decision && self.config.base.mode == Mode::Adaptive {
            true => self.probe(&prompts, &lengths, &steps).await?,
            false => vec![true; questions.len()],
        };
        let mut asked = Vec::new();
        for (index, question) in questions.iter().enumerate() {
            let wish = self.wish(&steps[index], false);
            let config = &self.config.base;
            let (mut retrieve, probability) = self.config.decide(1, &wish);
            // The released code retrieves only if its probe asks in words, and never without a threshold.
            let probed = self.config.probe_decision && probability.is_some();
            if probed && (!asks[index] || config.threshold.is_none()) {
                retrieve = Retrieve::No;
            }
            let threshold = probability.and(config.threshold);
            (self.on_event)(index, Event::Decision { probability, threshold, retrieve: retrieve == Retrieve::Yes });
            let root = Path::root(lengths[index], retrieve, wish);
            asked.push(Asked::new(question, prompts[index], lengths[index], root, probability));
        }
        Ok(asked)
    }

    /// Whether `[Retrieval]` is in the text of the next 25 tokens, up to an empty line (released code). Its text has no reflection
    /// tokens unless the switch says so, and then there is nothing to be found.
    async fn probe(&mut self, prompts: &[SeqId], lengths: &[usize], steps: &[StepOutput]) -> Result<Vec<bool>> {
        let rules = Rules { ends: Ends::Never, ..self.rules };
        if !self.config.special_tokens_in_text {
            return Ok(vec![false; prompts.len()]);
        }
        let mut probes = Vec::new();
        for (index, step) in steps.iter().enumerate() {
            let room = (self.sequences.generator.context_length() - lengths[index]).min(PROBE_TOKENS);
            let seq = self.sequences.fork(prompts[index])?;
            let mut probe = Writing::new(index, 0, seq, None, Vec::new(), room);
            probe.read(step, &rules, &mut |_| {});
            probes.push(probe);
        }
        let mut silent = |_: usize, _: Event| {};
        while self.sequences.step(&mut probes, &rules, self.stop, &mut silent).await? {}
        let asks = |probe: Writing| {
            self.sequences.free(probe.seq);
            let tokens = probe.into_candidate(rules.config).tokens;
            let text = compat::spelled(rules.tokenizer, rules.reflection, &tokens);
            text.split("\n\n").next().is_some_and(|text| text.contains(crate::tokenizer::reflection::NAMES[1]))
        };
        Ok(probes.into_iter().map(asks).collect())
    }

    /// What a step says about retrieving.
    fn wish(&self, step: &StepOutput, has_passage: bool) -> Wish {
        let said = said(self.rules.reflection, step.token);
        Wish { logprobs: GroupLogprobs::read(&step.watched).retrieval, said, has_passage }
    }
}

/// What a token says about retrieving. A model that opens a passage of its own wants one.
fn said(reflection: &ReflectionTokens, token: u32) -> Option<Retrieve> {
    match token {
        _ if token == reflection.retrieval || token == reflection.paragraph_open => Some(Retrieve::Yes),
        _ if token == reflection.no_retrieval => Some(Retrieve::No),
        _ if token == reflection.continue_ => Some(Retrieve::Continue),
        _ => None,
    }
}
