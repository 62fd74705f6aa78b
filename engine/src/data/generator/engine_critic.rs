//! A critic in the engine: the log-probabilities of a task's labels after the prompt.
//!
//! ```text
//! prompt ── `[` ─┬─ `Re` … `]`        log p([Relevant])   = Σ log p(token | prompt, tokens before)
//!                └─ `Ir` … `]`        log p([Irrelevant])
//! ```
//!
//! Labels are ordinary text to a critic, several tokens each. The prompt is read once; what labels share is read once too, as forks of
//! one sequence, and all prompts of a batch go a token deeper together.

use std::collections::BTreeMap;

use super::{
    critic::{Critic, MAX_NEW_TOKENS, Verdict, prediction, prompt},
    settings::{CriticTemplate, Reading, Settings},
};
use crate::{
    Error, Result,
    data::critic::Judgement,
    generator::{Generator, SeqId},
    platform::block_on,
    tokenizer::{EncodeOptions, Tokenizer, reflection::NAMES},
};

/// A critic and its vocabulary.
pub struct EngineCritic {
    generator: Box<dyn Generator>,
    tokenizer: Tokenizer,
    name: String,
    template: CriticTemplate,
    reading: Reading,
}

/// A judgement under way.
struct Asked {
    /// Which of those that were asked.
    at: usize,
    prompt: Vec<u32>,
    /// Each label's tokens.
    labels: Vec<Vec<u32>>,
    /// Sum of the log-probabilities so far.
    sums: Vec<f32>,
    /// What the prompt is continued with, where that is read.
    text: String,
    /// Why neither is there.
    problem: Option<String>,
}

impl EngineCritic {
    /// `name` tells the model from others in the files of a run.
    pub fn new(generator: Box<dyn Generator>, tokenizer: Tokenizer, name: String, settings: &Settings) -> Self {
        let (template, reading) = (settings.critic_template, settings.critic_reading);
        Self { generator, tokenizer, name, template, reading }
    }

    /// Reads as many judgements at once as fit the KV cache: a batch that does not is halved. Those that do not fit alone have a problem.
    fn read(&mut self, asked: &mut [Asked]) -> Result<()> {
        let mut live = Vec::new();
        let read = match self.reading {
            Reading::Logprob => self.score(asked, &mut live),
            Reading::Greedy => self.write(asked, &mut live),
        };
        live.into_iter().for_each(|seq| self.generator.free(seq));
        match (read, asked) {
            (Err(Error::ContextFull { needed, available }), [asked]) => {
                asked.problem = Some(format!("{needed} tokens with the labels, at most {available} fit"));
                Ok(())
            }
            (Err(Error::ContextFull { .. }), asked) => {
                let (first, second) = asked.split_at_mut(asked.len() / 2);
                self.read(first)?;
                self.read(second)
            }
            (read, _) => read,
        }
    }

    /// The log-probabilities of each judgement's labels. `live`: the sequences that are to be freed.
    fn score(&mut self, asked: &mut [Asked], live: &mut Vec<SeqId>) -> Result<()> {
        let mut watched: Vec<u32> = asked.iter().flat_map(|asked| asked.labels.iter().flatten().copied()).collect();
        watched.sort();
        watched.dedup();
        self.generator.watch(&watched);
        let place = |token: u32| watched.binary_search(&token).expect("every label's tokens are watched");
        let mut batch = Vec::new();
        for asked in asked.iter_mut() {
            asked.sums.fill(0.0);
            live.push(self.generator.start()?);
            batch.push((live[live.len() - 1], asked.prompt.clone()));
        }
        // Sequences that end in a given beginning of labels, by judgement.
        let mut held: BTreeMap<(usize, Vec<u32>), SeqId> =
            batch.iter().enumerate().map(|(index, (seq, _))| ((index, Vec::new()), *seq)).collect();
        let mut nodes: Vec<(usize, Vec<u32>)> = held.keys().cloned().collect();
        for depth in 0.. {
            let outputs = block_on(self.generator.forward(&batch))?;
            let mut deeper = BTreeMap::new();
            for ((index, begin), output) in nodes.iter().zip(outputs) {
                let Asked { labels, sums, .. } = &mut asked[*index];
                for (label, sum) in labels.iter().zip(sums) {
                    if label.len() > depth && label[..depth] == *begin {
                        *sum += output.watched[place(label[depth])];
                        if label.len() > depth + 1 {
                            deeper.insert((*index, label[..=depth].to_vec()), held[&(*index, begin.clone())]);
                        }
                    }
                }
            }
            batch.clear();
            nodes = deeper.keys().cloned().collect();
            let mut next = BTreeMap::new();
            for ((index, begin), parent) in deeper {
                let seq = self.generator.fork(parent)?;
                live.push(seq);
                batch.push((seq, vec![begin[depth]]));
                next.insert((index, begin), seq);
            }
            for seq in std::mem::replace(&mut held, next).into_values() {
                self.generator.free(seq);
                live.retain(|live| *live != seq);
            }
            if batch.is_empty() {
                break;
            }
        }
        Ok(())
    }

    /// What each prompt is continued with, greedily.
    fn write(&mut self, asked: &mut [Asked], live: &mut Vec<SeqId>) -> Result<()> {
        self.generator.watch(&[]);
        let mut written: Vec<Vec<u32>> = vec![Vec::new(); asked.len()];
        let mut batch = Vec::new();
        for asked in asked.iter() {
            live.push(self.generator.start()?);
            batch.push((live[live.len() - 1], asked.prompt.clone()));
        }
        let mut open: Vec<usize> = (0..asked.len()).collect();
        while !open.is_empty() {
            let outputs = block_on(self.generator.forward(&batch))?;
            let mut going = Vec::new();
            batch.clear();
            for (index, output) in open.into_iter().zip(outputs) {
                if self.tokenizer.stop_tokens().contains(&output.token) {
                    continue;
                }
                written[index].push(output.token);
                let ends = self.tokenizer.decode(&written[index]).trim_start().contains("\n\n");
                if written[index].len() < MAX_NEW_TOKENS && !ends {
                    going.push(index);
                    batch.push((live[index], vec![output.token]));
                }
            }
            open = going;
        }
        for (asked, tokens) in asked.iter_mut().zip(&written) {
            asked.text = self.tokenizer.decode(tokens);
        }
        Ok(())
    }
}

impl Critic for EngineCritic {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn judge(&mut self, judgements: &[Judgement<'_>]) -> Result<Vec<Verdict>> {
        let mut verdicts = vec![Verdict::default(); judgements.len()];
        let mut asked = Vec::new();
        for (at, judgement) in judgements.iter().enumerate() {
            let text = prompt(*judgement, self.template);
            let tokens = self.tokenizer.encode(&text, EncodeOptions::START)?;
            let labels = NAMES[judgement.labels()].iter();
            let labels: Vec<Vec<u32>> =
                labels.map(|name| self.tokenizer.encode(name, EncodeOptions::CONTINUE)).collect::<Result<_>>()?;
            let longest = labels.iter().map(Vec::len).max().unwrap_or_default().max(MAX_NEW_TOKENS);
            let (needed, available) = (tokens.len() + longest, self.generator.context_length());
            if needed > available {
                verdicts[at].problem = Some(format!("{needed} tokens with the label, at most {available} fit"));
                continue;
            }
            let sums = vec![0.0; labels.len()];
            asked.push(Asked { at, prompt: tokens, labels, sums, text: String::new(), problem: None });
        }
        if asked.is_empty() {
            return Ok(verdicts);
        }
        self.read(&mut asked)?;
        for Asked { at, sums, text, problem, .. } in asked {
            verdicts[at].problem = problem;
            if verdicts[at].problem.is_some() {
                continue;
            }
            match self.reading {
                Reading::Logprob => {
                    // The first of equal ones.
                    let best = (0..sums.len()).rev().max_by(|a, b| sums[*a].total_cmp(&sums[*b])).unwrap_or_default();
                    verdicts[at].pred = NAMES[judgements[at].labels().start + best].to_owned();
                    verdicts[at].logprobs = Some(sums);
                }
                Reading::Greedy => verdicts[at].pred = prediction(&text),
            }
        }
        Ok(verdicts)
    }
}
