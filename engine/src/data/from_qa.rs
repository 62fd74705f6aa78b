//! Annotated questions → training rows, without any language model.
//!
//! ```text
//! sets → question, passage, answers → the sentence that answers ┐
//!        lexical search or an index → passages without an answer├→ samples (labels from the annotations) → generator's rows, critic's rows
//!        the same sets → wrong and partial sentences            ┘
//! ```
//!
//! | row | passage | text | trained | labels |
//! | --- | --- | --- | --- | --- |
//! | gold | the annotated one | its sentence with the answer | yes | Relevant, Fully, 5 |
//! | hard and random negative | one without an answer | a sentence of it, or the right one | no | Irrelevant, 1 or 5 |
//! | unanswerable | the annotated one | a sentence of it, or the plausible answer | no | Irrelevant, 1; or Relevant, No support, 1 |
//! | wrong | the annotated one | a sentence of another article | no | Relevant, No support, 1 |
//! | swapped | the annotated one | the right sentence, another answer in it | no | Relevant, No support, 1 |
//! | off point | the annotated one | its sentence without an answer | no | Relevant, Fully, 2 |
//! | partial | the annotated one | the right sentence and a foreign one | no | Relevant, Partially, 3 |
//! | two questions, two passages, follow-on | the annotated ones | both sentences | yes | Relevant, Fully, 5 |
//! | instruction | none | the answer, if known | yes | No Retrieval, 5 |
//!
//! Two labels rest on more than the annotation: a passage that has none of the answers' words is taken to be irrelevant, and a sentence
//! of another article to be unsupported. Both are checked by words, so that a passage that answers in other words may slip through.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    ops::Range,
};

use super::{
    critic::unique,
    draws::Draws,
    instructions::Instruction,
    lexical::{Lexical, words},
    notes::Notes,
    rows::TrainingRow,
    sample::{Kind, Retrieve, Sample, Segment, Support},
    sets::{Corpus, Question, Text, contains, plain},
    settings::{Settings, Unanswerable},
};
use crate::{Error, Result, sentences::sentences};

/// What is asked for a second sentence.
const TWO_SENTENCES: &str = "Answer in two sentences.";
/// Most words of an answer that is put in another's place.
const MAX_SWAPPED_WORDS: usize = 6;
/// How often a draw that finds nothing fitting is repeated.
const TRIES: usize = 40;

/// The sentence that answers a question.
#[derive(Debug, Clone)]
struct Found {
    /// In the passage.
    range: Range<usize>,
    /// The annotated answer in it that most annotators gave.
    answer: String,
    /// Its white space made plain.
    sentence: String,
}

/// All rows of all questions and instructions, in their order.
pub fn samples(corpus: &Corpus, instructions: &[Instruction], settings: &Settings, notes: &mut Notes) -> Vec<Sample> {
    let builder = Builder::new(corpus, settings, notes);
    let mut samples = Vec::new();
    for at in 0..corpus.questions.len() {
        builder.question(at, notes, &mut samples);
    }
    for (at, plain) in instructions.iter().enumerate() {
        let id = format!("instruction_{}", at + 1);
        for copy in 0..Draws::new(settings.seed, &id, "instruction").count(settings.instruction_copies) {
            let segment = Segment {
                retrieve: Retrieve::No,
                relevant: false,
                text: plain.output.clone(),
                train: true,
                support: None,
            };
            samples.push(Sample {
                kind: Kind::Instruction,
                id: if copy == 0 { id.clone() } else { format!("{id}_{}", copy + 1) },
                set: "instructions".into(),
                instruction: plain.instruction.clone(),
                input: plain.input.clone(),
                segments: vec![segment],
                utility: 5,
            });
        }
    }
    if settings.shuffle {
        Draws::new(settings.seed, "", "shuffle").shuffle(&mut samples);
    }
    samples
}

/// The critic's rows of the samples: a judgement that several rows share is written once, one that they contradict not at all.
pub fn judgements(corpus: &Corpus, samples: &[Sample], settings: &Settings, notes: &mut Notes) -> Vec<TrainingRow> {
    let chosen = samples.iter().filter(|s| Draws::new(settings.seed, &s.id, "critic").chance(settings.critic_share));
    let all: Vec<TrainingRow> = chosen.flat_map(|sample| sample.judgements(&corpus.passages)).collect();
    let mut rows = unique(all, notes);
    if settings.shuffle {
        Draws::new(settings.seed, "", "shuffle critic").shuffle(&mut rows);
    }
    rows
}

/// What is asked, its segments, the utility.
type Content = (String, Vec<Segment>, u8);

struct Builder<'a> {
    corpus: &'a Corpus,
    settings: &'a Settings,
    lexical: Lexical,
    /// Sentences of each passage.
    sentences: Vec<Vec<Range<usize>>>,
    /// Words of each passage, for [`Builder::has`].
    words: Vec<String>,
    /// Article of each passage.
    articles_of: Vec<String>,
    /// The sentence that answers each question.
    found: Vec<Option<Found>>,
    /// Answerable questions of each passage.
    asked: Vec<Vec<usize>>,
    /// Answerable questions of each article.
    articles: BTreeMap<String, Vec<usize>>,
    /// Answerable questions by the shape of their answer.
    shapes: HashMap<String, Vec<usize>>,
}

impl<'a> Builder<'a> {
    fn new(corpus: &'a Corpus, settings: &'a Settings, notes: &mut Notes) -> Self {
        let passages = &corpus.passages;
        let lexical = Lexical::new(passages.iter().map(|passage| passage.text.as_str()));
        let sentences = passages.iter().map(|passage| sentences(&passage.text)).collect();
        let mut builder = Self {
            corpus,
            settings,
            lexical,
            sentences,
            words: passages.iter().map(|passage| format!(" {} ", plain(&passage.text))).collect(),
            articles_of: passages.iter().enumerate().map(article).collect(),
            found: Vec::with_capacity(corpus.questions.len()),
            asked: vec![Vec::new(); passages.len()],
            articles: BTreeMap::new(),
            shapes: HashMap::new(),
        };
        for (at, question) in corpus.questions.iter().enumerate() {
            let found = builder.find(question, notes);
            if let Some(found) = &found {
                builder.asked[question.gold].push(at);
                builder.articles.entry(builder.articles_of[question.gold].clone()).or_default().push(at);
                builder.shapes.entry(shape(&found.answer)).or_default().push(at);
            }
            builder.found.push(found);
        }
        builder
    }

    /// What tells the passage's article from others.
    fn article(&self, passage: usize) -> &str {
        &self.articles_of[passage]
    }

    /// Whether a passage has a text's words in their order.
    fn has(&self, passage: usize, text: &str) -> bool {
        let text = plain(text);
        !text.is_empty() && self.words[passage].contains(&format!(" {text} "))
    }

    fn text(&self, passage: usize, range: &Range<usize>) -> String {
        self.corpus.passages[passage].text[range.clone()].split_whitespace().collect::<Vec<_>>().join(" ")
    }

    fn fits(&self, text: &str) -> bool {
        (self.settings.min_sentence_words..=self.settings.max_sentence_words).contains(&text.split_whitespace().count())
    }

    /// The sentence, or the neighbouring ones, in which most annotators' answers stand. Where a set does not say where answers stand and
    /// they stand in several sentences, the one that shares most words with the question; none where no sentence shares any.
    fn find(&self, question: &Question, notes: &mut Notes) -> Option<Found> {
        let passage = &self.corpus.passages[question.gold];
        if question.answers.is_empty() {
            return None;
        }
        if passage.text.split_whitespace().count() > self.settings.max_passage_words {
            notes.left_out("questions: passage too long");
            return None;
        }
        let sentences = &self.sentences[question.gold];
        // Votes by first and last sentence, each answer voting once for each place that it has.
        let mut votes: BTreeMap<(usize, usize), usize> = BTreeMap::new();
        let mut texts: BTreeMap<(usize, usize), BTreeMap<&str, usize>> = BTreeMap::new();
        for answer in &question.answers {
            // Passages of equal words are one, in which an answer may stand elsewhere than its own file says.
            let stands = |start: &usize| passage.text.get(*start..).is_some_and(|rest| rest.starts_with(&answer.text));
            let starts = match answer.start.filter(stands) {
                Some(start) => vec![start],
                None => mentions(&passage.text, &answer.text),
            };
            let places: HashSet<(usize, usize)> = starts
                .into_iter()
                .filter_map(|start| {
                    let end = start + answer.text.len();
                    let first = sentences.iter().position(|range| start < range.end)?;
                    let last = sentences.iter().rposition(|range| range.start < end)?;
                    (first <= last).then_some((first, last))
                })
                .collect();
            for place in places {
                *votes.entry(place).or_default() += 1;
                *texts.entry(place).or_default().entry(&answer.text).or_default() += 1;
            }
        }
        let Some(most) = votes.values().copied().max() else {
            notes.left_out("questions: answer not found word for word");
            return None;
        };
        let best: Vec<(usize, usize)> = votes.iter().filter(|(_, count)| **count == most).map(|(at, _)| *at).collect();
        let range = |&(first, last): &(usize, usize)| sentences[first].start..sentences[last].end;
        let overlap = |at: &(usize, usize)| self.lexical.overlap(&question.text, &passage.text[range(at)]);
        // The first of equal ones.
        let place = best.iter().rev().max_by(|a, b| overlap(a).total_cmp(&overlap(b)))?;
        if best.len() > 1 && overlap(place) <= 0.0 {
            notes.left_out("questions: answer in several sentences, none near the question");
            return None;
        }
        let range = range(place);
        let sentence = self.text(question.gold, &range);
        if !self.fits(&sentence) {
            notes.left_out("questions: sentence too short or too long");
            return None;
        }
        if !begins(&sentence) {
            notes.left_out("questions: sentence begins in the middle");
            return None;
        }
        // Of the answers that most gave, the shortest.
        let answer = texts[place].iter().max_by_key(|(text, count)| (**count, std::cmp::Reverse(text.len())))?.0;
        Some(Found { range, answer: (*answer).to_owned(), sentence })
    }

    fn question(&self, at: usize, notes: &mut Notes, samples: &mut Vec<Sample>) {
        let (question, settings) = (&self.corpus.questions[at], self.settings);
        if question.answers.is_empty() {
            return self.unanswerable(question, notes, samples);
        }
        let Some(found) = &self.found[at] else { return };
        let gold = question.gold;
        let mut rows = |kind: Kind, rows: f64, make: &mut dyn FnMut(&mut Draws) -> Option<Content>| {
            let mut draws = Draws::new(settings.seed, &question.id, kind.name());
            for copy in 0..draws.count(rows) {
                match make(&mut draws) {
                    Some((instruction, segments, utility)) => {
                        samples.push(sample(question, kind, copy, instruction, segments, utility));
                    }
                    None => notes.left_out(nothing_for(kind)),
                }
            }
        };
        let asked = || question.text.clone();
        let right = |at: usize| segment(Retrieve::Passage(at), &found.sentence, true, Some(Support::Fully));
        let judged = |text: &str, support: Support| vec![segment(Retrieve::Passage(gold), text, false, Some(support))];

        rows(Kind::Gold, settings.gold, &mut |_| Some((asked(), vec![right(gold)], 5)));
        let mut hard = self.hard_negatives(question);
        let nearest = hard.clone();
        rows(Kind::HardNegative, settings.hard_negatives, &mut |draws| {
            let passage = draws.below(hard.len().max(1));
            let passage = (passage < hard.len()).then(|| hard.remove(passage))?;
            self.negative(question, found, passage, draws)
        });
        rows(Kind::RandomNegative, settings.random_negatives, &mut |draws| {
            let passage = self.random_passage(question, draws)?;
            self.negative(question, found, passage, draws)
        });
        rows(Kind::Wrong, settings.wrong, &mut |draws| {
            let near = draws.chance(settings.wrong_near).then(|| self.near_sentences(question, &nearest));
            let near = near.and_then(|near| draws.of(&near).cloned());
            let text = near.or_else(|| self.foreign_sentence(question, draws))?;
            Some((asked(), judged(&text, Support::No), 1))
        });
        rows(Kind::Swapped, settings.swapped, &mut |draws| {
            let text = self.swapped(question, found, draws)?;
            Some((asked(), judged(&text, Support::No), 1))
        });
        rows(Kind::OffPoint, settings.off_point, &mut |draws| {
            let text = self.off_point(question, found, draws)?;
            Some((asked(), judged(&text, Support::Fully), 2))
        });
        rows(Kind::Partial, settings.partial, &mut |draws| {
            let foreign = self.foreign_sentence(question, draws)?;
            let pair = if draws.chance(0.5) { [&found.sentence, &foreign] } else { [&foreign, &found.sentence] };
            Some((asked(), judged(&format!("{} {}", pair[0], pair[1]), Support::Partially), 3))
        });
        rows(Kind::TwoQuestions, settings.two_questions, &mut |draws| {
            let apart = |other: &Found| other.range.end <= found.range.start || found.range.end <= other.range.start;
            let others = self.asked[gold].iter().filter(|other| self.found[**other].as_ref().is_some_and(apart));
            let others: Vec<usize> = others.copied().collect();
            let other = *draws.of(&others)?;
            let second = segment(Retrieve::Continue, &self.found[other].as_ref()?.sentence, true, self.continued());
            Some((self.both(question, other), vec![right(gold), second], 5))
        });
        rows(Kind::TwoPassages, settings.two_passages, &mut |draws| {
            let same_article = self.articles.get(self.article(gold))?;
            let elsewhere = |other: &&usize| self.corpus.questions[**other].gold != gold;
            let others: Vec<usize> = same_article.iter().filter(elsewhere).copied().collect();
            let other = *draws.of(&others)?;
            let passage = Retrieve::Passage(self.corpus.questions[other].gold);
            let second = segment(passage, &self.found[other].as_ref()?.sentence, true, Some(Support::Fully));
            Some((self.both(question, other), vec![right(gold), second], 5))
        });
        rows(Kind::FollowOn, settings.follow_on, &mut |_| {
            let next = self.sentences[gold].iter().find(|range| range.start >= found.range.end)?;
            let next = Some(self.text(gold, next)).filter(|text| self.fits(text))?;
            let second = segment(Retrieve::Continue, &next, true, self.continued());
            Some((format!("{} {TWO_SENTENCES}", question.text), vec![right(gold), second], 5))
        });
    }

    fn unanswerable(&self, question: &Question, notes: &mut Notes, samples: &mut Vec<Sample>) {
        let mut draws = Draws::new(self.settings.seed, &question.id, Kind::Unanswerable.name());
        let gold = Retrieve::Passage(question.gold);
        for copy in 0..draws.count(self.settings.unanswerable) {
            let plausible = draws.of(&question.plausible).map(|answer| answer.text.clone());
            let relevant = match self.settings.unanswerable_as {
                Unanswerable::ByAnnotation => plausible.is_some(),
                Unanswerable::Relevant => true,
                Unanswerable::Irrelevant => false,
            };
            let segment = if relevant {
                let text = plausible.or_else(|| self.foreign_sentence(question, &mut draws));
                text.map(|text| segment(gold, &text, false, Some(Support::No)))
            } else {
                self.nearest_sentence(question, question.gold).map(|text| irrelevant(question.gold, &text))
            };
            match segment {
                Some(segment) => {
                    let asked = question.text.clone();
                    samples.push(sample(question, Kind::Unanswerable, copy, asked, vec![segment], 1));
                }
                None => notes.left_out(nothing_for(Kind::Unanswerable)),
            }
        }
    }

    fn continued(&self) -> Option<Support> {
        self.settings.continue_support.then_some(Support::Fully)
    }

    fn both(&self, question: &Question, other: usize) -> String {
        format!("{} {}", question.text, self.corpus.questions[other].text)
    }

    /// Whether a passage can be said not to answer: another one, with none of the answers' words.
    fn answers_not(&self, question: &Question, passage: usize) -> bool {
        passage != question.gold && !question.answers.iter().any(|answer| self.has(passage, &answer.text))
    }

    /// The first passages without an answer of those that the set or a retriever found, or of those that share the question's words.
    fn hard_negatives(&self, question: &Question) -> Vec<usize> {
        let given = question.negatives.iter().copied();
        let mut seen = HashSet::new();
        let mut keep = |passage: &usize| self.answers_not(question, *passage) && seen.insert(*passage);
        let mut hard: Vec<usize> = given.filter(&mut keep).take(self.settings.hard_pool).collect();
        if hard.is_empty() {
            let found = self.lexical.search(&question.text, self.settings.hard_pool * 4);
            hard = found.into_iter().filter(&mut keep).take(self.settings.hard_pool).collect();
        }
        hard
    }

    /// A random passage of another article, without an answer.
    fn random_passage(&self, question: &Question, draws: &mut Draws) -> Option<usize> {
        let article = self.article(question.gold);
        let fits = |passage: &usize| self.article(*passage) != article && self.answers_not(question, *passage);
        (0..TRIES).map(|_| draws.below(self.corpus.passages.len())).find(fits)
    }

    /// A row with a passage that does not answer.
    fn negative(&self, question: &Question, found: &Found, passage: usize, draws: &mut Draws) -> Option<Content> {
        let (text, utility) = if draws.chance(self.settings.irrelevant_with_gold) {
            (found.sentence.clone(), 5)
        } else {
            (self.nearest_sentence(question, passage)?, 1)
        };
        Some((question.text.clone(), vec![irrelevant(passage, &text)], utility))
    }

    /// The passage's sentence that shares most words with the question.
    fn nearest_sentence(&self, question: &Question, passage: usize) -> Option<String> {
        let texts =
            self.sentences[passage].iter().map(|range| self.text(passage, range)).filter(|text| self.fits(text));
        let texts: Vec<String> = texts.collect();
        let overlap = |text: &String| self.lexical.overlap(&question.text, text);
        texts.into_iter().rev().max_by(|a, b| overlap(a).total_cmp(&overlap(b)))
    }

    /// Of each passage of another article, the sentence nearest to the question, unless the gold passage has it.
    fn near_sentences(&self, question: &Question, passages: &[usize]) -> Vec<String> {
        let foreign = passages.iter().filter(|passage| self.article(**passage) != self.article(question.gold));
        let texts = foreign.filter_map(|passage| self.nearest_sentence(question, *passage));
        texts.filter(|text| begins(text) && !self.has(question.gold, text)).collect()
    }

    /// A sentence of another article, which neither stands in the passage nor has an answer.
    fn foreign_sentence(&self, question: &Question, draws: &mut Draws) -> Option<String> {
        let article = self.article(question.gold);
        for _ in 0..TRIES {
            let passage = draws.below(self.corpus.passages.len());
            let Some(range) = draws.of(&self.sentences[passage]) else { continue };
            let text = self.text(passage, range);
            let answers = question.answers.iter().any(|answer| contains(&text, &answer.text));
            if self.article(passage) != article
                && begins(&text)
                && self.fits(&text)
                && !answers
                && !self.has(question.gold, &text)
            {
                return Some(text);
            }
        }
        None
    }

    /// A sentence of the passage in which no answer stands.
    fn off_point(&self, question: &Question, found: &Found, draws: &mut Draws) -> Option<String> {
        let apart = |range: &&Range<usize>| range.end <= found.range.start || found.range.end <= range.start;
        let texts = self.sentences[question.gold].iter().filter(apart).map(|range| self.text(question.gold, range));
        let silent = |text: &String| !question.answers.iter().any(|answer| contains(text, &answer.text));
        let texts: Vec<String> = texts.filter(|text| self.fits(text) && silent(text) && begins(text)).collect();
        draws.of(&texts).cloned()
    }

    /// The sentence that answers, with an answer of the same shape in the place of its own: one that stands elsewhere in the passage, or
    /// one that the passage does not have. Numbers that have no like become another number.
    fn swapped(&self, question: &Question, found: &Found, draws: &mut Draws) -> Option<String> {
        let places = occurrences(&found.sentence, &found.answer);
        let [place] = places.as_slice() else { return None };
        let kind = shape(&found.answer);
        if found.answer.split_whitespace().count() > MAX_SWAPPED_WORDS || kind.is_empty() {
            return None;
        }
        let within = draws.chance(self.settings.swapped_within);
        let differs = |other: &str| {
            let own = question.answers.iter();
            let mut own = own.map(|answer| answer.text.as_str()).chain([found.answer.as_str()]);
            !own.any(|own| contains(own, other) || contains(other, own))
        };
        let answer_of = |at: &usize| self.found[*at].as_ref().map(|found| found.answer.as_str());
        let fits = |other: &&str| {
            shape(other) == kind && differs(other) && !contains(&found.sentence, other) && !plain(other).is_empty()
        };
        let from = |list: &[usize], draws: &mut Draws, in_passage: bool| -> Option<String> {
            let texts = list.iter().filter_map(answer_of).filter(fits);
            let texts: Vec<&str> = texts.filter(|other| self.has(question.gold, other) == in_passage).collect();
            draws.of(&texts).map(|text| (*text).to_owned())
        };
        let other = if within { from(&self.asked[question.gold], draws, true) } else { None };
        let other = other.or_else(|| from(self.articles.get(self.article(question.gold))?, draws, false));
        let other = other.or_else(|| {
            let like = self.shapes.get(&kind)?;
            let drawn: Vec<usize> = (0..TRIES).filter_map(|_| draws.of(like).copied()).collect();
            from(&drawn, draws, false)
        });
        let other = other.or_else(|| another_number(&found.answer, draws).filter(|other| fits(&other.as_str())))?;
        let mut sentence = found.sentence.clone();
        sentence.replace_range(*place..*place + found.answer.len(), &other);
        let mut first = sentence.chars();
        let sentence = match first.next() {
            Some(char) if *place == 0 => char.to_uppercase().chain(first).collect(),
            _ => sentence,
        };
        (!self.has(question.gold, &sentence)).then_some(sentence)
    }
}

/// The title, or, without one, the passage.
fn article((at, passage): (usize, &Text)) -> String {
    match passage.title.as_str() {
        "" => format!("\0{at}"),
        title => plain(title),
    }
}

fn segment(retrieve: Retrieve, text: &str, train: bool, support: Option<Support>) -> Segment {
    Segment { retrieve, relevant: true, text: text.to_owned(), train, support }
}

fn irrelevant(passage: usize, text: &str) -> Segment {
    let retrieve = Retrieve::Passage(passage);
    Segment { retrieve, relevant: false, text: text.to_owned(), train: false, support: None }
}

fn sample(
    question: &Question,
    kind: Kind,
    copy: usize,
    instruction: String,
    segments: Vec<Segment>,
    utility: u8,
) -> Sample {
    let number = if copy == 0 { String::new() } else { format!("_{}", copy + 1) };
    let id = format!("{}_{}{number}", question.id, kind.name());
    Sample { kind, id, set: question.set.clone(), instruction, input: String::new(), segments, utility }
}

/// Whether a text begins as sentences do.
fn begins(text: &str) -> bool {
    text.chars().find(|char| char.is_alphanumeric()).is_some_and(|char| !char.is_lowercase())
}

const fn nothing_for(kind: Kind) -> &'static str {
    match kind {
        Kind::HardNegative => "rows: no hard negative",
        Kind::RandomNegative => "rows: no random negative",
        Kind::Wrong | Kind::Partial => "rows: no sentence of another article",
        Kind::Swapped => "rows: no answer of the same shape",
        Kind::OffPoint => "rows: no other sentence in the passage",
        Kind::TwoQuestions => "rows: no second question about the passage",
        Kind::TwoPassages => "rows: no second passage with a question",
        Kind::FollowOn => "rows: no sentence that follows",
        Kind::Unanswerable => "rows: no text for an unanswerable question",
        Kind::Gold | Kind::Instruction => "rows: others",
    }
}

/// Where a text stands as whole words; where it nowhere does, all places.
fn mentions(text: &str, part: &str) -> Vec<usize> {
    let exact = occurrences(text, part);
    // ASCII alone: other letters may have other lengths in the other case.
    if exact.is_empty() { occurrences(&text.to_ascii_lowercase(), &part.to_ascii_lowercase()) } else { exact }
}

/// Where a text stands, letter for letter, between words if possible.
fn occurrences(text: &str, part: &str) -> Vec<usize> {
    let all: Vec<usize> = text.match_indices(part).map(|(at, _)| at).collect();
    let alone = |at: &usize| {
        let before = text[..*at].chars().next_back().is_some_and(char::is_alphanumeric);
        let after = text[at + part.len()..].chars().next().is_some_and(char::is_alphanumeric);
        let (first, last) = (part.chars().next(), part.chars().next_back());
        !(before && first.is_some_and(char::is_alphanumeric) || after && last.is_some_and(char::is_alphanumeric))
    };
    let whole: Vec<usize> = all.iter().copied().filter(alone).collect();
    if whole.is_empty() { all } else { whole }
}

/// What can stand in an answer's place: a number with the same words around it, a year, a name of about as many words. Empty: other
/// texts, in whose place another would often be no sentence.
fn shape(answer: &str) -> String {
    if answer.len() == 4 && answer.chars().all(|char| char.is_ascii_digit()) {
        return "year".into();
    }
    if answer.chars().any(|char| char.is_ascii_digit()) {
        let mut shape = String::from("number ");
        for char in answer.to_lowercase().chars().filter(|char| ![',', '.'].contains(char)) {
            if !char.is_ascii_digit() {
                shape.push(char);
            } else if !shape.ends_with('0') {
                shape.push('0');
            }
        }
        return shape;
    }
    let names =
        answer.split_whitespace().filter(|word| word.chars().count() > 3 || word.starts_with(char::is_uppercase));
    let mut names = names.peekable();
    if names.peek().is_some() && names.all(|word| word.starts_with(char::is_uppercase)) {
        let article = if answer.to_lowercase().starts_with("the ") { "the " } else { "" };
        return format!("name {article}{}", words(answer).count().min(3));
    }
    String::new()
}

/// A number with a digit changed: the first one of the last group, so that 1,905 becomes 1,405.
fn another_number(answer: &str, draws: &mut Draws) -> Option<String> {
    let last = answer.rfind(|char: char| char.is_ascii_digit())?;
    let first = answer[..last]
        .rfind(|char: char| !char.is_ascii_digit())
        .map_or(0, |at| at + answer[at..].chars().next().map_or(1, char::len_utf8));
    // Of a year, the third digit: a century off is too easy to see.
    let at = if last - first == 3 { first + 2 } else { first };
    let digit = answer.as_bytes()[at] - b'0';
    // One to nine, and never a leading zero that was none.
    let other = (1..=9).map(|step| (digit + step) % 10).filter(|digit| *digit > 0 || at > first).collect::<Vec<u8>>();
    let other = *draws.of(&other)?;
    let mut changed = answer.to_owned();
    changed.replace_range(at..=at, &char::from(b'0' + other).to_string());
    Some(changed)
}

/// How many samples there are of each kind.
pub fn counts(samples: &[Sample]) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    samples.iter().for_each(|sample| *counts.entry(sample.kind.name()).or_default() += 1);
    counts
}

/// Rows as JSON lines.
pub fn json_lines(rows: impl IntoIterator<Item = TrainingRow>) -> Result<String> {
    let mut text = String::new();
    for row in rows {
        text += &line(&row)?;
        text.push('\n');
    }
    Ok(text)
}

/// Rows as a JSON list, a row on a line: the released critic's training reads a list.
pub fn json_list(rows: &[TrainingRow]) -> Result<String> {
    let lines: Vec<String> = rows.iter().map(line).collect::<Result<_>>()?;
    Ok(format!("[\n{}\n]\n", lines.join(",\n")))
}

fn line(row: &TrainingRow) -> Result<String> {
    serde_json::to_string(row).map_err(|e| Error::input("rows", row.id.clone().unwrap_or_default(), e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_tell_what_can_stand_for_what() {
        assert_eq!(shape("1905"), shape("2001"));
        assert_eq!((shape("$12"), shape("1,200 percent")), ("number $0".into(), "number 0 percent".into()));
        assert_eq!(shape("John Smith"), shape("Ada Lovelace"));
        assert_ne!(shape("the Rhine"), shape("Rhine"));
        assert_eq!((shape("because of rain").as_str(), shape("a")), ("", String::new()));
    }

    #[test]
    fn answers_stand_in_the_text_whatever_their_case() {
        let text = "The US and us: Sinclair Lewis, SINCLAIR Lewis.";
        assert_eq!(mentions(text, "Sinclair Lewis"), [15], "as it is written, where it is so");
        assert_eq!(mentions(text, "sinclair lewis"), [15, 31]);
        assert!(mentions(text, "Dreiser").is_empty());
    }

    #[test]
    fn another_number_is_another() {
        let mut draws = Draws::new(1, "x", "y");
        for answer in ["5", "1905", "$1,200", "12 percent", "é9", "0"] {
            for _ in 0..50 {
                let other = another_number(answer, &mut draws).unwrap();
                assert_ne!(other, answer);
                assert_eq!((shape(&other), other.len()), (shape(answer), answer.len()), "{other}");
            }
        }
        assert_eq!(another_number("none", &mut draws), None);
    }

    #[test]
    fn places_are_whole_words() {
        assert_eq!(occurrences("In 1905 and 905", "905"), [12]);
        assert_eq!(occurrences("In 1905", "905"), [4]);
        assert_eq!(occurrences("$5 or 5$", "5$"), [6]);
        assert!(occurrences("x", "y").is_empty());
    }
}
