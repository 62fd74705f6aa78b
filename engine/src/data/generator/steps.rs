//! The steps in their order.

use std::{collections::HashMap, ops::Range};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    assemble::{Answer, Judged, Sentence, assemble},
    critic::{Critic, Verdict, label, problem},
    settings::Settings,
    sources::Source,
    work::{Pass, Work},
};
use crate::{
    Result,
    data::{
        critic::Judgement,
        notes::Notes,
        parts::{NO_RETRIEVAL, RELEVANT, RETRIEVAL, spells_token},
        rows::TrainingRow,
    },
    platform::block_on,
    retriever::{Hit, Passage, Retriever},
};

/// Questions that are searched for at once.
const SEARCHES: usize = 64;

/// Told how far a pass is: its name, items done, items.
pub type Progress<'a> = dyn FnMut(&'static str, usize, usize) + 'a;

/// Whom the steps ask, and how.
pub struct Steps<'a> {
    /// Where the steps leave what they made.
    pub work: &'a Work,
    /// Every number.
    pub settings: &'a Settings,
    /// Judges.
    pub critic: &'a mut dyn Critic,
    /// Finds passages.
    pub retriever: &'a mut dyn Retriever,
    /// What tells the retriever's hits from another's: index and encoder.
    pub retriever_name: String,
    /// Judgements asked for at once.
    pub batch: usize,
    /// Told how far it is.
    pub progress: &'a mut Progress<'a>,
}

/// A sentence with what is needed to judge it; a line of `sentences.jsonl`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Input {
    /// `SOURCE#SENTENCE`
    id: String,
    /// The source's place, and the sentence's in it.
    #[serde(skip)]
    place: (usize, usize),
    sent_idx: usize,
    instruction: String,
    target_output: String,
    preceding_sentences: String,
    /// The first passage found for the whole answer; may be empty.
    evidence: String,
    skipped: bool,
    /// What passages are searched by.
    question: String,
}

/// A sentence with one of its passages; a line of `pairs.jsonl`, which `critic-labels` reads too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Pair {
    /// `SOURCE#SENTENCE#PASSAGE`
    id: String,
    #[serde(skip)]
    input: usize,
    q_id: String,
    sent_idx: usize,
    p_idx: usize,
    instruction: String,
    target_output: String,
    preceding_sentences: String,
    evidence: String,
}

/// What a retrieval pass records.
#[derive(Debug, Serialize, Deserialize)]
struct Found {
    hits: Vec<Hit>,
}

impl Steps<'_> {
    /// All steps; the rows, and in `notes` what gives none.
    pub fn run(&mut self, sources: &[Source], notes: &mut Notes) -> Result<Vec<TrainingRow>> {
        let settings = self.settings;
        self.work.write("sources", sources)?;
        let asked: Vec<String> = sources.iter().map(Source::asked).collect();

        let ids: Vec<String> = sources.iter().map(|source| source.id.clone()).collect();
        let need = |at: usize| Judgement::Retrieval { instruction: &asked[at] };
        let need = self.judge("need_retrieval", &ids, &need, notes)?;
        let utility = |at: usize| Judgement::Utility { instruction: &asked[at], output: &sources[at].output };
        let utility = self.judge("utility", &ids, &utility, notes)?;

        // The others' answers are done: the released code goes on with them, and uses none of it.
        let wanted: Vec<usize> =
            (0..sources.len()).filter(|at| need[*at].is_some_and(|need| need != NO_RETRIEVAL)).collect();
        let queries: Vec<(String, String)> =
            wanted.iter().map(|at| (ids[*at].clone(), format!("{} {}", asked[*at], sources[*at].output))).collect();
        let initial = self.search("initial_passages", &queries, 1, notes)?;
        let inputs = self.inputs(sources, &asked, &wanted, &initial);
        self.work.write("sentences", &inputs)?;

        let first = |at: usize| {
            let (source, sentence) = inputs[at].place;
            sentence == 0
                || settings.first_kept
                    && inputs[..at].iter().rev().take_while(|input| input.place.0 == source).all(|input| input.skipped)
        };
        let later: Vec<usize> = (0..inputs.len()).filter(|at| !inputs[*at].skipped && !first(*at)).collect();
        let later_ids: Vec<String> = later.iter().map(|at| inputs[*at].id.clone()).collect();
        let shown =
            |text: &'_ str| if text.is_empty() && settings.show_none { "None".to_owned() } else { text.to_owned() };
        let texts: Vec<[String; 2]> =
            inputs.iter().map(|input| [shown(&input.preceding_sentences), shown(&input.evidence)]).collect();
        let next = |at: usize| {
            let input = &inputs[later[at]];
            let [preceding, evidence] = &texts[later[at]];
            Judgement::NextRetrieval {
                instruction: &input.instruction,
                preceding,
                evidence,
                output: &input.target_output,
                three_way: settings.three_way,
            }
        };
        let judged = self.judge("sentence_retrieval", &later_ids, &next, notes)?;
        let mut retrieve: Vec<Option<usize>> = inputs.iter().map(|input| need[input.place.0]).collect();
        later.iter().zip(judged).for_each(|(at, label)| retrieve[*at] = label);

        let searched: Vec<usize> =
            (0..inputs.len()).filter(|at| !inputs[*at].skipped && retrieve[*at] == Some(RETRIEVAL)).collect();
        let queries: Vec<(String, String)> =
            searched.iter().map(|at| (inputs[*at].id.clone(), inputs[*at].question.clone())).collect();
        let found = self.search("passages", &queries, settings.n_docs, notes)?;
        let pairs = self.pairs(&inputs, &searched, &found, notes);
        self.work.write("pairs", &pairs)?;

        let answers = self.judged(sources, &need, &utility, &inputs, &retrieve, &pairs, notes)?;
        Ok(assemble(&answers, settings, notes))
    }

    /// A critic's pass: a label or none for each item. Predictions that are no label are counted.
    fn judge<'j>(
        &mut self,
        step: &'static str,
        ids: &[String],
        judgement: &dyn Fn(usize) -> Judgement<'j>,
        notes: &mut Notes,
    ) -> Result<Vec<Option<usize>>> {
        let settings = self.settings;
        let asked = |at: usize| {
            let (_, instruction, input) = judgement(at).asked();
            format!("{instruction}\0{input}")
        };
        let by = json!({"critic": self.critic.name(), "template": settings.critic_template,
            "reading": settings.critic_reading});
        let pass = Pass { step, by, ids, asked: &asked, batch: self.batch };
        let mut run = |range: Range<usize>| {
            let asked: Vec<Judgement<'_>> = range.map(judgement).collect();
            self.critic.judge(&asked)
        };
        let verdicts: Vec<Verdict> = self.work.pass(&pass, &mut run, self.progress)?;
        let lost = verdicts.len().checked_rem(settings.lost_batch).unwrap_or(0);
        let kept = verdicts.len() - lost;
        let mut labels = Vec::new();
        for (at, verdict) in verdicts.iter().enumerate() {
            if at >= kept {
                notes.left_out("labels: lost with the last batch, as released");
                labels.push(None);
                continue;
            }
            let found = label(judgement(at), &verdict.pred, settings.lenient_labels);
            match (found, problem(verdict)) {
                (_, Some(error)) => notes.problems.push(("not judged", error)),
                (None, None) => notes.left_out("labels: the critic wrote something else"),
                (Some(_), None) => {}
            }
            labels.push(found.filter(|_| verdict.problem.is_none()));
        }
        Ok(labels)
    }

    /// A retriever's pass: passages for each query, best first. Passages that spell a reflection token are left out.
    fn search(
        &mut self,
        step: &'static str,
        queries: &[(String, String)],
        n_docs: usize,
        notes: &mut Notes,
    ) -> Result<Vec<Vec<Passage>>> {
        let by: Value = json!({"retriever": self.retriever_name, "n_docs": n_docs});
        let ids: Vec<String> = queries.iter().map(|(id, _)| id.clone()).collect();
        let asked = |at: usize| queries[at].1.clone();
        let pass = Pass { step, by, ids: &ids, asked: &asked, batch: SEARCHES };
        let mut run = |range: Range<usize>| {
            let texts: Vec<&str> = queries[range].iter().map(|(_, query)| query.as_str()).collect();
            let found = block_on(self.retriever.search(&texts, n_docs))?;
            Ok(found.into_iter().map(|hits| Found { hits }).collect())
        };
        let found: Vec<Found> = self.work.pass(&pass, &mut run, self.progress)?;
        let mut kept = Vec::new();
        for Found { hits } in found {
            let mut passages = Vec::new();
            for passage in hits.into_iter().map(|hit| hit.passage).take(n_docs) {
                let spells = spells_token(&passage.title).or_else(|| spells_token(&passage.text)).is_some();
                match spells {
                    true => notes.left_out("passages: a reflection token in them"),
                    false => passages.push(passage),
                }
            }
            kept.push(passages);
        }
        Ok(kept)
    }

    /// The sentences of the answers that need passages.
    fn inputs(&self, sources: &[Source], asked: &[String], wanted: &[usize], initial: &[Vec<Passage>]) -> Vec<Input> {
        let mut inputs = Vec::new();
        for (&source, initial) in wanted.iter().zip(initial) {
            let (query, output) = (sources[source].query(), &sources[source].output);
            let mut preceding = String::new();
            for (sentence, (text, skipped)) in self.settings.split(output).into_iter().enumerate() {
                inputs.push(Input {
                    id: format!("{}#{sentence}", sources[source].id),
                    place: (source, sentence),
                    sent_idx: sentence,
                    instruction: asked[source].clone(),
                    target_output: text.to_owned(),
                    preceding_sentences: preceding.clone(),
                    evidence: initial.first().map(evidence).unwrap_or_default(),
                    skipped,
                    question: format!("{query} {text}"),
                });
                if !preceding.is_empty() {
                    preceding.push(' ');
                }
                preceding += text;
            }
        }
        inputs
    }

    fn pairs(&self, inputs: &[Input], searched: &[usize], found: &[Vec<Passage>], notes: &mut Notes) -> Vec<Pair> {
        let mut pairs = Vec::new();
        for (&at, passages) in searched.iter().zip(found) {
            let input = &inputs[at];
            for (p_idx, passage) in passages.iter().take(self.settings.top_n).enumerate() {
                let (q_id, _) = input.id.rsplit_once('#').unwrap_or((&input.id, ""));
                pairs.push(Pair {
                    id: format!("{}#{p_idx}", input.id),
                    input: at,
                    q_id: q_id.to_owned(),
                    sent_idx: input.sent_idx,
                    p_idx,
                    instruction: input.instruction.clone(),
                    target_output: input.target_output.clone(),
                    preceding_sentences: input.preceding_sentences.clone(),
                    evidence: evidence(passage),
                });
            }
        }
        for _ in 0..pairs.len().checked_rem(self.settings.lost_jobs).unwrap_or(0) {
            pairs.pop();
            notes.left_out("pairs: lost between jobs, as released");
        }
        pairs
    }

    /// Relevance and support, and everything put together.
    #[expect(clippy::too_many_arguments, reason = "what all steps before it made")]
    fn judged<'s>(
        &mut self,
        sources: &'s [Source],
        need: &[Option<usize>],
        utility: &[Option<usize>],
        inputs: &[Input],
        retrieve: &[Option<usize>],
        pairs: &[Pair],
        notes: &mut Notes,
    ) -> Result<Vec<Answer<'s>>> {
        let settings = self.settings;
        let ids: Vec<String> = pairs.iter().map(|pair| pair.id.clone()).collect();
        let relevance =
            |at: usize| Judgement::Relevance { instruction: &pairs[at].instruction, evidence: &pairs[at].evidence };
        let relevance = self.judge("relevance", &ids, &relevance, notes)?;
        let asked: Vec<usize> =
            (0..pairs.len()).filter(|at| settings.support_of_irrelevant || relevance[*at] == Some(RELEVANT)).collect();
        let ids: Vec<String> = asked.iter().map(|at| ids[*at].clone()).collect();
        let support = |at: usize| {
            let pair = &pairs[asked[at]];
            let none = pair.preceding_sentences.is_empty() && settings.show_none;
            let preceding = if none { "None" } else { &pair.preceding_sentences };
            Judgement::Support {
                instruction: &pair.instruction,
                preceding,
                evidence: &pair.evidence,
                output: &pair.target_output,
            }
        };
        let judged = self.judge("support", &ids, &support, notes)?;
        let mut support = vec![None; pairs.len()];
        asked.iter().zip(judged).for_each(|(at, label)| support[*at] = label);

        let mut passages: HashMap<usize, Vec<Judged>> = HashMap::new();
        for (at, pair) in pairs.iter().enumerate() {
            let judged = Judged { passage: pair.evidence.clone(), relevance: relevance[at], support: support[at] };
            passages.entry(pair.input).or_default().push(judged);
        }
        let mut answers: Vec<Answer<'s>> = sources
            .iter()
            .enumerate()
            .map(|(at, source)| Answer { source, need: need[at], utility: utility[at], sentences: Vec::new() })
            .collect();
        for (at, input) in inputs.iter().enumerate() {
            answers[input.place.0].sentences.push(Sentence {
                text: input.target_output.clone(),
                skipped: input.skipped,
                retrieve: retrieve[at],
                passages: passages.remove(&at).unwrap_or_default(),
            });
        }
        Ok(answers)
    }
}

/// A passage as it stands in prompts: title, new line, text.
fn evidence(passage: &Passage) -> String {
    format!("{}\n{}", passage.title, passage.text)
}
