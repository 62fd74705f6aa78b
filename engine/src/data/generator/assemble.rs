//! Labels → rows (`postprocess_data.py`, paper §3.2.2): a token for each sentence, a passage where the token asks for one, the
//! utility at the end.
//!
//! ```text
//! [Retrieval]<paragraph>TITLE\nTEXT</paragraph>[Relevant]SENTENCE[Fully supported]    a passage that helps
//! [Retrieval]<paragraph>TITLE\nTEXT</paragraph>[Irrelevant]SENTENCE                   one that does not
//! [Continue to Use Evidence]SENTENCE    [No Retrieval]SENTENCE    SENTENCE            without one; too short for a token
//! ```
//!
//! Pure: labels and settings in, rows out. Labels are places in [`NAMES`].

use super::{
    settings::{Selection, Settings},
    sources::Source,
};
use crate::{
    data::{
        draws::Draws,
        notes::Notes,
        parts::{
            self, CLOSE, CONTINUE, FULLY, IRRELEVANT, NO_RETRIEVAL, NO_SUPPORT, OPEN, PARTIALLY, RELEVANT, RETRIEVAL,
            UTILITY,
        },
        rows::TrainingRow,
    },
    tokenizer::reflection::NAMES,
};

/// A passage of a sentence with what the critic says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// Title, new line, text.
    pub passage: String,
    /// `[Relevant]`, `[Irrelevant]`; none: no valid label.
    pub relevance: Option<usize>,
    /// Whether it supports the sentence; none: no valid label, or not asked.
    pub support: Option<usize>,
}

/// A sentence of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sentence {
    /// Its text.
    pub text: String,
    /// Too short for a token.
    pub skipped: bool,
    /// Its retrieval token; none: no valid label. Of no meaning where it is skipped.
    pub retrieve: Option<usize>,
    /// Its passages, best first.
    pub passages: Vec<Judged>,
}

/// An answer with all that was judged of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer<'a> {
    /// Instruction and answer.
    pub source: &'a Source,
    /// Whether the instruction needs passages: `[Retrieval]` or another retrieval token; none: no valid label.
    pub need: Option<usize>,
    /// `[Utility:1]` to `[Utility:5]`; none: no valid label.
    pub utility: Option<usize>,
    /// Its sentences, where passages are needed.
    pub sentences: Vec<Sentence>,
}

/// Why an answer gives no row.
type Dropped = &'static str;

/// Sets from which negative samples are made (`--negative_samples`).
const NEGATIVE_SETS: [&str; 6] = ["nq", "asqa", "fever", "wow", "arc_easy", "obqa"];

/// The rows of all answers, in their order; what gives none is counted by its reason.
pub fn assemble(answers: &[Answer<'_>], settings: &Settings, notes: &mut Notes) -> Vec<TrainingRow> {
    let mut rows = Vec::new();
    for answer in answers {
        match (Row { answer, settings, notes: &mut *notes }).output() {
            Ok(output) => rows.push(answer.source.row(output)),
            Err(reason) => notes.left_out(reason),
        }
    }
    rows
}

struct Row<'a> {
    answer: &'a Answer<'a>,
    settings: &'a Settings,
    notes: &'a mut Notes,
}

impl Row<'_> {
    fn is_of(&self, sets: &[String]) -> bool {
        sets.contains(&self.answer.source.set)
    }

    /// The draws of this answer for one purpose, at one sentence.
    fn draws(&self, purpose: &str, sentence: usize) -> Draws {
        Draws::new(self.settings.seed, &self.answer.source.id, &format!("{purpose} {sentence}"))
    }

    fn output(&mut self) -> Result<String, Dropped> {
        let Answer { source, need, utility, sentences } = self.answer;
        let settings = self.settings;
        let need = need.ok_or("answers: no label of the instruction's retrieval")?;
        let mut utility = utility.ok_or("answers: no label of the utility")?;
        if settings.closed_utility && utility == UTILITY && matches!(source.output.as_str(), "true" | "false") {
            utility = UTILITY + 4;
        }
        let mut output = Output { text: String::new(), ends_in_text: false, space: settings.space_between };
        if need == NO_RETRIEVAL {
            if !self.draws("no retrieval", 0).chance(settings.keep_no_retrieval) {
                return Err("answers: [No Retrieval], not drawn");
            }
            output.token(NO_RETRIEVAL);
            output.text(&source.output);
        } else {
            let first = match settings.first_kept {
                true => sentences.iter().position(|sentence| !sentence.skipped),
                false => Some(0),
            };
            for (at, sentence) in sentences.iter().enumerate() {
                let token = if Some(at) == first { Some(need) } else { sentence.retrieve };
                self.sentence(at, sentence, token, &mut output)?;
            }
        }
        output.token(utility);
        self.finished(output.text)
    }

    fn sentence(
        &mut self,
        at: usize,
        sentence: &Sentence,
        token: Option<usize>,
        output: &mut Output,
    ) -> Result<(), Dropped> {
        if sentence.skipped {
            output.text(&sentence.text);
            return Ok(());
        }
        let token = token.ok_or("answers: no label of a sentence's retrieval")?;
        if token != RETRIEVAL {
            output.token(token);
            output.text(&sentence.text);
            return Ok(());
        }
        let chosen = match self.settings.selection {
            Selection::Supported => Some(self.supported(at, &sentence.passages)?),
            Selection::Released => self.released(at, &sentence.passages)?,
        };
        let Some(chosen) = chosen else {
            self.notes.left_out("sentences: no passage of a kind that was drawn");
            return Ok(());
        };
        let judged = &sentence.passages[chosen];
        let support = judged.support.filter(|_| judged.relevance == Some(RELEVANT));
        let demoted = self.settings.negative_samples || self.is_of(&self.settings.unsupported_is_irrelevant);
        let support = support.filter(|support| !(demoted && *support == NO_SUPPORT));
        output.token(RETRIEVAL);
        output.token(OPEN);
        output.text += &judged.passage;
        output.token(CLOSE);
        output.token(if support.is_some() { RELEVANT } else { IRRELEVANT });
        output.text(&sentence.text);
        if let Some(support) = support {
            output.token(support);
        }
        Ok(())
    }

    /// The passage of the highest rank that is relevant and supports at least partially, else any that has its labels.
    fn supported(&self, at: usize, passages: &[Judged]) -> Result<usize, Dropped> {
        let good =
            |judged: &Judged| judged.relevance == Some(RELEVANT) && matches!(judged.support, Some(FULLY | PARTIALLY));
        if let Some(best) = passages.iter().position(good) {
            return Ok(best);
        }
        let labelled = |place: &usize| match passages[*place].relevance {
            Some(RELEVANT) => passages[*place].support.is_some(),
            relevance => relevance.is_some(),
        };
        let any: Vec<usize> = (0..passages.len()).filter(labelled).collect();
        self.draws("passage", at).of(&any).copied().ok_or("answers: a sentence without a judged passage")
    }

    /// The released rule; none: the sentence is dropped.
    fn released(&self, at: usize, passages: &[Judged]) -> Result<Option<usize>, Dropped> {
        let settings = self.settings;
        let valid = |place: &usize| passages[*place].relevance.is_some() && passages[*place].support.is_some();
        let all: Vec<usize> = (0..passages.len()).filter(valid).collect();
        let first = |support: usize| {
            let fits = |place: &&usize| {
                passages[**place].relevance == Some(RELEVANT) && passages[**place].support == Some(support)
            };
            all.iter().find(fits).copied()
        };
        let irrelevant: Vec<usize> =
            all.iter().filter(|place| passages[**place].relevance == Some(IRRELEVANT)).copied().collect();
        let random = || -> Result<Option<usize>, Dropped> {
            if irrelevant.is_empty() {
                return Ok(None);
            }
            let drawn = self.draws("irrelevant", at).below(irrelevant.len());
            // The slip: a place in the list, taken for a place among the passages.
            let place = if settings.list_index { drawn } else { irrelevant[drawn] };
            match valid(&place) {
                true => Ok(Some(place)),
                false => Err("answers: a passage without labels, drawn by its place in a list"),
            }
        };
        let chance = |purpose: &str, share: f64| self.draws(purpose, at).chance(share);
        let is_nq = self.answer.source.set == "nq";
        let (full, partial) = (first(FULLY), first(PARTIALLY));
        let chosen = if let Some(full) = full {
            match is_nq && !irrelevant.is_empty() && chance("irrelevant for nq", settings.irrelevant_for_nq) {
                true => random()?,
                false => Some(full),
            }
        } else if let Some(partial) = partial {
            if chance("partially", settings.keep_partially_supported) { Some(partial) } else { random()? }
        } else {
            match first(NO_SUPPORT).filter(|_| chance("no support", settings.keep_no_support)) {
                Some(unsupported) => Some(unsupported),
                None => random()?,
            }
        };
        let overridden = settings.negative_samples || self.is_of(&settings.irrelevant_sets);
        if overridden && !irrelevant.is_empty() { random() } else { Ok(chosen) }
    }

    /// What is looked at in the whole output.
    fn finished(&self, output: String) -> Result<String, Dropped> {
        let settings = self.settings;
        let set = self.answer.source.set.as_str();
        let without = output.contains(NAMES[NO_RETRIEVAL]);
        if settings.negative_samples {
            if without || !output.contains(NAMES[IRRELEVANT]) || !NEGATIVE_SETS.contains(&set) {
                return Err("answers: no negative sample");
            }
        } else if set == "nq" && without && self.draws("drop nq", 0).chance(settings.drop_nq_no_retrieval) {
            return Err("answers: nq with [No Retrieval], not drawn");
        }
        if output.starts_with(NAMES[CONTINUE]) {
            return Err("answers: [Continue to Use Evidence] at the start");
        }
        // What nobody can learn from, whatever the labels said: no answer, or labels that contradict each other.
        let faults = parts::faults(&output, false);
        let mut faults = faults.iter().map(|(fault, _)| *fault);
        match settings.selection {
            Selection::Supported => match faults.next() {
                Some(parts::Fault::NoAnswer) => Err("answers: empty but for tokens"),
                Some(parts::Fault::Order) => Err("answers: labels in impossible order"),
                Some(fault) => Err(fault.name()),
                None => Ok(output),
            },
            // The released code looks at this alone.
            Selection::Released if faults.any(|fault| fault == parts::Fault::NoAnswer) => {
                Err("answers: empty but for tokens")
            }
            Selection::Released => Ok(output.replace("REFUTES", "false").replace("SUPPORTS", "true")),
        }
    }
}

/// An output under way.
struct Output {
    text: String,
    ends_in_text: bool,
    space: bool,
}

impl Output {
    fn token(&mut self, token: usize) {
        self.text += NAMES[token];
        self.ends_in_text = false;
    }

    fn text(&mut self, text: &str) {
        if self.ends_in_text && self.space && !text.is_empty() {
            self.text.push(' ');
        }
        self.text += text;
        self.ends_in_text |= !text.is_empty();
    }
}
