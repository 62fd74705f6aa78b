//! Annotated questions from files: SQuAD's format (1.1, 2.0, SQuADShifts) and DPR's.
//!
//! | format | file | fields |
//! | --- | --- | --- |
//! | SQuAD | `{"data": […]}` | `title`, `paragraphs[].context`, `qas[].{id, question, answers[], is_impossible, plausible_answers[]}` |
//! | DPR | a list, or JSON lines | `question`, `answers`, `positive_ctxs[].{title, text}`, `hard_negative_ctxs`, `negative_ctxs` |
//!
//! An answer is `{text, answer_start}` (in characters), or a text. A passage that several files have is one passage; a question that was
//! asked of the same passage before is left out. What is bad is told with its place, and the rest is read.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
};

use serde_json::{Map, Value};

use super::{lexical::words, notes::Notes, parts::spells_token};
use crate::{
    Error, Result,
    json_rows::{Rows, kind},
    retriever::Passage,
};

/// A passage of the sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// Title of its article, `_` as spaces; may be empty.
    pub title: String,
    /// The text, white space around it taken off.
    pub text: String,
}

/// An annotated answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// As annotated, white space around it taken off.
    pub text: String,
    /// The byte of the passage at which it stands, where the set says so.
    pub start: Option<usize>,
}

/// A question about a passage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// `SET_ID`
    pub id: String,
    /// The set's name.
    pub set: String,
    /// The question.
    pub text: String,
    /// The passage that it was annotated on, by its place in [`Corpus::passages`].
    pub gold: usize,
    /// Any of these is right, and stands in the passage; none: the passage has no answer.
    pub answers: Vec<Answer>,
    /// What looks like an answer to a question that has none (SQuAD 2.0, train).
    pub plausible: Vec<Answer>,
    /// Passages that the set or a retriever found for it, best first.
    pub negatives: Vec<usize>,
}

/// A file that was read.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Source {
    /// Its path.
    pub file: String,
    /// Of the unpacked bytes.
    pub sha256: String,
    /// Questions that were taken.
    pub questions: usize,
}

/// All passages and questions of some files.
#[derive(Debug, Default)]
pub struct Corpus {
    /// Every passage once.
    pub passages: Vec<Text>,
    /// The questions in the files' order.
    pub questions: Vec<Question>,
    /// The files.
    pub sources: Vec<Source>,
    by_text: HashMap<String, usize>,
    asked: HashSet<(String, usize)>,
}

/// What must not appear in training: articles by title, passages and questions by their words.
#[derive(Debug, Default)]
pub struct Exclusion {
    titles: HashMap<String, Filter>,
    passages: HashMap<String, Filter>,
    questions: HashMap<String, Filter>,
    matched: HashSet<Filter>,
    /// Everything else is excluded instead: held-out data.
    pub inverted: bool,
}

/// Which option excluded something, so that one that matches nothing can be named.
type Filter = String;

/// A title, passage or question as it is compared: words in lower case.
pub fn plain(text: &str) -> String {
    words(text).collect::<Vec<_>>().join(" ")
}

impl Exclusion {
    /// Excludes an article.
    pub fn title(&mut self, title: &str, filter: &str) {
        let words = plain(&self::title(title));
        // Without letters and digits it would match every passage that has no title; so it matches none, which is told.
        let key = if words.is_empty() { format!("\0{title}") } else { words };
        self.titles.insert(key, filter.to_owned());
    }

    /// Excludes titles, one a line of a file.
    pub fn titles_of(&mut self, path: &Path) -> Result<()> {
        let file = path.display().to_string();
        let text = std::fs::read(path).map_err(|e| Error::io(&file, e))?;
        for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
            let line = std::str::from_utf8(line);
            let line =
                line.map_err(|e| Error::input(&file, format!("line {}", index + 1), format!("no UTF-8: {e}")))?;
            if !line.trim().is_empty() {
                self.title(line.trim(), &format!("--exclude-titles {file}"));
            }
        }
        Ok(())
    }

    /// Excludes the questions of a file, their passages, and the articles of those: SQuAD's format, DPR's, or rows with `ctxs`. Held-out
    /// questions must be complete, so anything bad in it is an error.
    pub fn questions_of(&mut self, path: &Path) -> Result<()> {
        let filter = format!("--exclude-questions {}", path.display());
        let (mut held_out, mut notes) = (Corpus::default(), Notes::default());
        let rows = Rows::open(path)?;
        let (mut passages, mut questions) = (Vec::new(), Vec::new());
        match squad(&rows)? {
            Some(_) => {
                held_out.read(path, &mut Self::default(), &mut notes)?;
                if let Some((_, error)) = notes.problems.into_iter().next() {
                    return Err(error);
                }
                passages = held_out.passages;
                questions.extend(held_out.questions.into_iter().map(|question| question.text));
            }
            None => {
                for index in 0..rows.len() {
                    let item = rows.object(index)?;
                    let bad =
                        |problem: String| Error::input(rows.name(), format!("line {}", rows.line(index)), problem);
                    questions.push(text(&item, "question").map_err(bad)?);
                    for field in ["ctxs", "positive_ctxs"] {
                        passages.extend(texts(&item, field, usize::MAX).map_err(bad)?);
                    }
                }
                if let Some(error) = rows.broken() {
                    return Err(error);
                }
            }
        }
        for Text { title, text } in passages {
            if !title.is_empty() {
                self.title(&title, &filter);
            }
            self.passages.insert(plain(&text), filter.clone());
        }
        self.questions.extend(questions.iter().map(|question| (plain(question), filter.clone())));
        if self.questions.is_empty() {
            return Err(Error::input(path.display().to_string(), "the file", "no question in it"));
        }
        Ok(())
    }

    /// Whether a passage is of an excluded article, or is itself excluded.
    fn hits_passage(&mut self, passage: &Text) -> bool {
        let found = self.titles.get(&plain(&passage.title)).or_else(|| self.passages.get(&plain(&passage.text)));
        found.cloned().map(|filter| self.matched.insert(filter)).is_some() != self.inverted
    }

    fn hits_question(&mut self, question: &str) -> bool {
        let found = self.questions.get(&plain(question)).cloned().map(|filter| self.matched.insert(filter)).is_some();
        // Held-out articles have more questions than those that name them.
        found && !self.inverted
    }

    /// An option that matched nothing in what was read: a slip that would let held-out questions into training.
    pub fn check(&self) -> Result<()> {
        let filters = self.titles.values().chain(self.passages.values()).chain(self.questions.values());
        match filters.filter(|filter| !self.matched.contains(*filter)).min() {
            None => Ok(()),
            Some(filter) => Err(Error::config(filter, "matches no article, passage or question of the sets")),
        }
    }
}

impl Corpus {
    /// Reads a file, `.gz` unpacked, and adds what it holds.
    pub fn read(&mut self, path: &Path, exclusion: &mut Exclusion, notes: &mut Notes) -> Result<()> {
        self.add(&set_name(path), &Rows::open(path)?, exclusion, notes)
    }

    /// Adds what `rows` holds; `set` names it in ids.
    pub fn add(&mut self, set: &str, rows: &Rows, exclusion: &mut Exclusion, notes: &mut Notes) -> Result<()> {
        let before = self.questions.len();
        match squad(rows)? {
            Some(articles) => self.add_squad(set, rows.name(), &articles, exclusion, notes),
            None => self.add_dpr(set, rows, exclusion, notes),
        }
        let questions = self.questions.len() - before;
        self.sources.push(Source { file: rows.name().to_owned(), sha256: rows.sha256().to_owned(), questions });
        Ok(())
    }

    /// Adds what a retriever found for a question; excluded and hostile passages are left out.
    pub fn add_hits(&mut self, question: usize, hits: Vec<Passage>, exclusion: &mut Exclusion, notes: &mut Notes) {
        for hit in hits {
            let passage = Text { title: title(&hit.title), text: hit.text.trim().to_owned() };
            if let Some(name) = spells_token(&passage.title).or_else(|| spells_token(&passage.text)) {
                notes.problem("reflection token in a passage", "index", &hit.id, format!("{name} in a passage"));
            } else if exclusion.hits_passage(&passage) {
                notes.left_out("passages of the index: excluded");
            } else if !passage.text.is_empty() {
                let passage = self.intern(passage);
                self.questions[question].negatives.push(passage);
            }
        }
    }

    fn intern(&mut self, passage: Text) -> usize {
        *self.by_text.entry(plain(&passage.text)).or_insert_with(|| {
            self.passages.push(passage);
            self.passages.len() - 1
        })
    }

    fn add_squad(&mut self, set: &str, file: &str, articles: &[Value], exclusion: &mut Exclusion, notes: &mut Notes) {
        const SHAPE: &str = "not the format";
        for (a, article) in articles.iter().enumerate() {
            let place = format!("data[{a}]");
            let Some(paragraphs) = article.get("paragraphs").and_then(Value::as_array) else {
                notes.problem(SHAPE, file, &place, "no list `paragraphs`");
                continue;
            };
            let article_title = match article.get("title") {
                None | Some(Value::Null) => String::new(),
                Some(Value::String(text)) => title(text),
                Some(other) => {
                    notes.problem(SHAPE, file, &place, format!("title: {}, a text expected", kind(other)));
                    continue;
                }
            };
            for (p, paragraph) in paragraphs.iter().enumerate() {
                let place = format!("{place}.paragraphs[{p}]");
                let (Some(context), Some(qas)) =
                    (paragraph.get("context").and_then(Value::as_str), paragraph.get("qas").and_then(Value::as_array))
                else {
                    notes.problem(SHAPE, file, &place, "a text `context` and a list `qas` expected");
                    continue;
                };
                let passage = Text { title: article_title.clone(), text: context.trim().to_owned() };
                if passage.text.is_empty() {
                    notes.problem("empty passage", file, &format!("{place}.context"), "empty, a text expected");
                    continue;
                }
                if let Some(name) = spells_token(&passage.text).or_else(|| spells_token(&passage.title)) {
                    notes.problem("reflection token in a passage", file, &place, format!("{name} in a passage"));
                    continue;
                }
                if exclusion.hits_passage(&passage) {
                    notes.left_out("passages: excluded");
                    continue;
                }
                let gold = self.intern(passage);
                for (q, qa) in qas.iter().enumerate() {
                    let place = format!("{place}.qas[{q}]");
                    match squad_question(qa, context) {
                        Err(problem) => notes.problem("unusable question", file, &place, problem),
                        Ok((id, mut question, lost)) => {
                            for problem in lost {
                                notes.problem("answer not in its passage", file, &place, problem);
                            }
                            question.id = format!("{set}_{}", id.unwrap_or_else(|| format!("{a}.{p}.{q}")));
                            question.gold = gold;
                            self.push(set, question, exclusion, notes);
                        }
                    }
                }
            }
        }
    }

    fn push(&mut self, set: &str, mut question: Question, exclusion: &mut Exclusion, notes: &mut Notes) {
        if exclusion.hits_question(&question.text) {
            notes.left_out("questions: excluded");
        } else if !self.asked.insert((plain(&question.text), question.gold)) {
            notes.left_out("questions: asked before of the same passage");
        } else {
            set.clone_into(&mut question.set);
            self.questions.push(question);
        }
    }

    fn add_dpr(&mut self, set: &str, rows: &Rows, exclusion: &mut Exclusion, notes: &mut Notes) {
        if let Some(error) = rows.broken() {
            notes.problems.push(("not the format", error));
        }
        for index in 0..rows.len() {
            let place = format!("line {}", rows.line(index));
            let item = match rows.object(index) {
                Ok(item) => item,
                Err(error) => {
                    notes.problems.push(("not the format", error));
                    continue;
                }
            };
            let read = match dpr_question(&item) {
                Ok(read) => read,
                Err(problem) => {
                    notes.problem("unusable question", rows.name(), &place, problem);
                    continue;
                }
            };
            let (question, answers, positives, negatives) = read;
            // Found once more, in a passage that the retriever's author marked: an annotation by string, as DPR has it.
            let holds = |passage: &&Text| answers.iter().any(|answer| contains(&passage.text, answer));
            let Some(gold) = positives.iter().find(holds).cloned() else {
                let problem = "none of `positive_ctxs` contains one of `answers`";
                notes.problem("answer not in its passage", rows.name(), &place, problem);
                continue;
            };
            if positives.iter().any(|passage| exclusion.hits_passage(passage)) {
                notes.left_out("questions: passage excluded");
                continue;
            }
            let answers = answers.into_iter().filter(|answer| contains(&gold.text, answer));
            let answers = answers.map(|text| Answer { text, start: None }).collect();
            let gold = self.intern(gold);
            let kept: Vec<usize> = negatives
                .into_iter()
                .filter(|passage| !exclusion.hits_passage(passage) && spells_token(&passage.text).is_none())
                .map(|passage| self.intern(passage))
                .collect();
            let id = format!("{set}_{index}");
            let plausible = Vec::new();
            let question =
                Question { id, set: String::new(), text: question, gold, answers, plausible, negatives: kept };
            self.push(set, question, exclusion, notes);
        }
    }
}

/// A file's name without folder and endings: what rows are named after.
fn set_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    name.strip_suffix(".jsonl").or_else(|| name.strip_suffix(".json")).unwrap_or(name).to_owned()
}

/// SQuAD writes titles as addresses: `Marxism%E2%80%93Leninism`.
fn title(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let code = after.get(..2).filter(|_| byte == b'%').and_then(|code| std::str::from_utf8(code).ok());
        match code.filter(|code| !code.starts_with('+')).and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(decoded) => {
                bytes.push(decoded);
                rest = &after[2..];
            }
            None => {
                bytes.push(if byte == b'_' { b' ' } else { byte });
                rest = after;
            }
        }
    }
    // A title that is no address, such as `100%ab`, stays as it is.
    let decoded = String::from_utf8(bytes).unwrap_or_else(|_| text.replace('_', " "));
    decoded.trim().to_owned()
}

/// The articles of a file in SQuAD's format; none: the file is made of rows.
fn squad(rows: &Rows) -> Result<Option<Vec<Value>>> {
    let bytes = rows.bytes();
    let start = bytes.iter().position(|byte| !byte.is_ascii_whitespace());
    if start.is_none_or(|start| bytes[start] != b'{') {
        return Ok(None);
    }
    match serde_json::from_slice::<Value>(bytes) {
        Ok(Value::Object(mut file)) => match file.remove("data") {
            Some(Value::Array(articles)) => Ok(Some(articles)),
            Some(other) => Err(Error::input(rows.name(), "data", format!("{}, a list expected", kind(&other)))),
            None if file.contains_key("question") => Ok(None),
            None => {
                Err(Error::input(rows.name(), "the file", "`data` (SQuAD's format) or `question` (DPR's) expected"))
            }
        },
        // A first line that is whole: JSON lines. Otherwise the file is one object, broken where the parser says.
        Err(_) if !rows.is_empty() && rows.object(0).is_ok_and(|first| !first.contains_key("data")) => Ok(None),
        Err(e) => {
            let problem = e.to_string();
            let problem = problem.split(" at line ").next().unwrap_or_default();
            let place = format!("line {}, column {}", e.line(), e.column());
            Err(Error::input(rows.name(), place, format!("no JSON: {problem}")))
        }
        Ok(_) => Ok(None),
    }
}

type Parsed<T> = std::result::Result<T, String>;

fn text(item: &Map<String, Value>, field: &str) -> Parsed<String> {
    match item.get(field) {
        None => Err(format!("missing field `{field}`")),
        Some(Value::String(text)) if text.trim().is_empty() => Err(format!("{field}: empty, a text expected")),
        Some(Value::String(text)) => match spells_token(text) {
            Some(name) => Err(format!("{field}: {name} in it, text without reflection tokens expected")),
            None => Ok(text.trim().to_owned()),
        },
        Some(other) => Err(format!("{field}: {}, a text expected", kind(other))),
    }
}

/// Id, question, and what is wrong with answers that were dropped.
fn squad_question(qa: &Value, context: &str) -> Parsed<(Option<String>, Question, Vec<String>)> {
    let qa = qa.as_object().ok_or("an object expected")?;
    let question = text(qa, "question")?;
    let id = match qa.get("id") {
        Some(Value::String(id)) => Some(id.clone()),
        Some(Value::Number(id)) => Some(id.to_string()),
        _ => None,
    };
    let impossible = match qa.get("is_impossible") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(impossible)) => *impossible,
        Some(other) => return Err(format!("is_impossible: {}, true or false expected", kind(other))),
    };
    let mut lost = Vec::new();
    let mut read = |field: &str| -> Parsed<Vec<Answer>> {
        let list = match qa.get(field) {
            None | Some(Value::Null) => return Ok(Vec::new()),
            Some(Value::Array(list)) => list,
            Some(other) => return Err(format!("{field}: {}, a list expected", kind(other))),
        };
        let mut answers: Vec<Answer> = Vec::new();
        for (at, value) in list.iter().enumerate() {
            match answer(value, context) {
                Ok(answer) => answers.push(answer),
                Err(problem) => lost.push(format!("{field}[{at}]: {problem}")),
            }
        }
        Ok(answers)
    };
    let (answers, plausible) = (read("answers")?, read("plausible_answers")?);
    match (impossible, answers.is_empty()) {
        (true, false) => return Err("is_impossible, and yet it has `answers`".into()),
        (false, true) => return Err("no answer that is in the passage, and not `is_impossible`".into()),
        _ => {}
    }
    let (set, negatives) = (String::new(), Vec::new());
    Ok((id, Question { id: String::new(), set, text: question, gold: 0, answers, plausible, negatives }, lost))
}

/// An answer, its start in bytes of the trimmed passage. One that does not stand where it should but elsewhere is taken without a start.
fn answer(value: &Value, context: &str) -> Parsed<Answer> {
    let (raw, start) = match value {
        Value::String(raw) => (raw, None),
        Value::Object(answer) => match answer.get("text") {
            Some(Value::String(raw)) => (raw, answer.get("answer_start").and_then(Value::as_u64)),
            _ => return Err("a text `text` expected".into()),
        },
        other => return Err(format!("{}, {{text, answer_start}} or a text expected", kind(other))),
    };
    let answer = raw.trim();
    if answer.is_empty() {
        return Err("empty, a text expected".into());
    }
    if !context.contains(answer) {
        let shown: String = answer.chars().take(60).collect();
        return Err(format!("{shown:?} is not in the passage"));
    }
    let start = start.and_then(|start| {
        let start = context.char_indices().nth(usize::try_from(start).ok()?)?.0;
        let start = start + (raw.len() - raw.trim_start().len());
        // Passages are kept without the white space around them.
        let lead = context.len() - context.trim_start().len();
        context.get(start..)?.starts_with(answer).then(|| start.checked_sub(lead))?
    });
    Ok(Answer { text: answer.to_owned(), start })
}

/// Question, answers, positive passages, negative ones.
type Dpr = (String, Vec<String>, Vec<Text>, Vec<Text>);

fn dpr_question(item: &Map<String, Value>) -> Parsed<Dpr> {
    let question = text(item, "question")?;
    let Some(Value::Array(list)) = item.get("answers") else { return Err("a list `answers` expected".into()) };
    let mut answers = Vec::new();
    for (at, answer) in list.iter().enumerate() {
        match answer {
            Value::String(text) if !text.trim().is_empty() => answers.push(text.trim().to_owned()),
            other => return Err(format!("answers[{at}]: {}, a text expected", kind(other))),
        }
    }
    if answers.is_empty() {
        return Err("answers: empty, at least one expected".into());
    }
    if !item.contains_key("positive_ctxs") {
        return Err("missing field `positive_ctxs`".into());
    }
    let positives = texts(item, "positive_ctxs", usize::MAX)?;
    let mut negatives = texts(item, "hard_negative_ctxs", 30)?;
    negatives.extend(texts(item, "negative_ctxs", 30)?);
    Ok((question, answers, positives, negatives))
}

/// The first `n` passages of a field, none where it is missing.
fn texts(item: &Map<String, Value>, field: &str, n: usize) -> Parsed<Vec<Text>> {
    let list = match item.get(field) {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(list)) => list,
        Some(other) => return Err(format!("{field}: {}, a list expected", kind(other))),
    };
    let one = |(at, value): (usize, &Value)| {
        let passage = value.as_object().ok_or_else(|| format!("{field}[{at}]: {}, an object expected", kind(value)))?;
        let body = text(passage, "text").map_err(|problem| format!("{field}[{at}].{problem}"))?;
        match passage.get("title") {
            None | Some(Value::Null) => Ok(Text { title: String::new(), text: body }),
            Some(Value::String(found)) if spells_token(&title(found)).is_none() => {
                Ok(Text { title: title(found), text: body })
            }
            Some(_) => Err(format!("{field}[{at}].title: a text without reflection tokens expected")),
        }
    };
    list.iter().take(n).enumerate().map(one).collect()
}

/// Whether a text has the answer's words in their order, case and punctuation aside.
pub fn contains(text: &str, answer: &str) -> bool {
    let (text, answer) = (format!(" {} ", plain(text)), plain(answer));
    // An answer of punctuation alone has no words.
    !answer.is_empty() && text.contains(&format!(" {answer} "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> (Corpus, Notes, Result<()>) {
        let (mut corpus, mut notes) = (Corpus::default(), Notes::default());
        let read = corpus.add("s", &Rows::new("f", json.into()), &mut Exclusion::default(), &mut notes);
        (corpus, notes, read)
    }

    fn squad_file(context: &str, qas: &str) -> String {
        format!(r#"{{"data": [{{"title": "A_b", "paragraphs": [{{"context": {context:?}, "qas": [{qas}]}}]}}]}}"#)
    }

    #[test]
    fn starts_are_characters_and_become_bytes() {
        let qas = r#"{"id": "1", "question": "Q?", "answers": [{"text": " élan ", "answer_start": 4}, "b", {"text": "b", "answer_start": 99}]}"#;
        let (corpus, notes, _) = read(&squad_file("  é: élan b \n", qas));
        assert!(notes.problems.is_empty(), "{notes:?}");
        let question = &corpus.questions[0];
        assert_eq!((corpus.passages[0].title.as_str(), corpus.passages[0].text.as_str()), ("A b", "é: élan b"));
        let starts: Vec<_> = question.answers.iter().map(|answer| (answer.text.as_str(), answer.start)).collect();
        assert_eq!(starts, [("élan", Some(4)), ("b", None), ("b", None)]);
    }

    #[test]
    fn bad_questions_are_named_and_the_rest_is_read() {
        let qas = r#"{"id": "1", "question": "Q?", "answers": ["no"]}, {"question": 1}, 7, {"question": "Q?", "answers": [], "is_impossible": true},
            {"question": "Q?", "answers": ["a"], "is_impossible": true}, {"question": "[Relevant]?", "answers": ["a"]},
            {"question": "Q?", "answers": {}}, {"question": "R?", "answers": [{"text": ""}, {"text": "a", "answer_start": -1}]}"#;
        let (corpus, notes, read) = read(&squad_file("a", qas));
        read.unwrap();
        assert_eq!(corpus.questions.len(), 2, "{notes:?}");
        assert!(corpus.questions[0].answers.is_empty() && corpus.questions[1].answers.len() == 1);
        let problems: Vec<String> = notes.problems.iter().map(|(_, problem)| problem.to_string()).collect();
        for (at, expected) in [
            "f: data[0].paragraphs[0].qas[0]: no answer that is in the passage",
            "qas[1]: question: a number, a text expected",
            "qas[2]: an object expected",
            "qas[4]: is_impossible, and yet",
            "qas[5]: question: [Relevant] in it",
            "qas[6]: answers: an object, a list",
            "qas[7]: answers[0]: empty",
        ]
        .iter()
        .enumerate()
        {
            assert!(problems[at].contains(expected), "{}", problems[at]);
        }
    }

    #[test]
    fn broken_files_are_errors() {
        for (json, expected) in [
            (r#"{"data": 1}"#, "f: data: a number, a list expected"),
            (r#"{"dat": []}"#, "f: the file: `data`"),
            ("{\"data\": [\n{]}", "f: line 2, column 2: no JSON"),
        ] {
            let error = read(json).2.unwrap_err().to_string();
            assert!(error.contains(expected), "{json}: {error}");
        }
        let (_, notes, read) = read("[1, {\"question\": \"Q\"}, {");
        read.unwrap();
        assert_eq!(notes.problems.len(), 3, "{notes:?}");
    }

    #[test]
    fn dpr_rows_have_their_passages() {
        let row = r#"[{"question": "who?", "answers": ["The Queen", "x"], "positive_ctxs": [{"title": "A", "text": "nothing"},
            {"title": "B_c", "text": "It was the queen."}], "hard_negative_ctxs": [{"title": "N", "text": "n"}], "negative_ctxs": []},
            {"question": "who?", "answers": ["y"], "positive_ctxs": [{"title": "A", "text": "nothing"}]}]"#;
        let (corpus, notes, _) = read(row);
        let question = &corpus.questions[0];
        assert_eq!((corpus.passages[question.gold].title.as_str(), question.answers.len()), ("B c", 1));
        assert_eq!(corpus.passages[question.negatives[0]].text, "n");
        assert!(notes.problems[0].1.to_string().contains("f: line 3: none of `positive_ctxs`"), "{notes:?}");
    }

    #[test]
    fn excluded_articles_do_not_pass() {
        let mut exclusion = Exclusion::default();
        exclusion.title("a B", "--exclude-titles a B");
        let (mut corpus, mut notes) = (Corpus::default(), Notes::default());
        assert!(exclusion.check().unwrap_err().to_string().contains("--exclude-titles a B: matches no article"));
        let file = squad_file("a", r#"{"question": "Q?", "answers": ["a"]}"#);
        corpus.add("s", &Rows::new("f", file.into()), &mut exclusion, &mut notes).unwrap();
        assert_eq!((corpus.passages.len(), corpus.questions.len(), notes.left_out["passages: excluded"]), (0, 0, 1));
        exclusion.check().unwrap();
        // A title of no words is no title, not every passage without one.
        let mut exclusion = Exclusion::default();
        exclusion.title("—", "--exclude-titles —");
        assert!(!exclusion.titles.contains_key(""));
        assert!(exclusion.check().is_err());
    }

    /// What an index finds is as foreign as what a set holds.
    #[test]
    fn hits_are_checked_and_known_passages_are_found_again() {
        let file = squad_file("a", r#"{"question": "Q?", "answers": ["a"]}"#);
        let (mut corpus, mut notes, _) = read(&file);
        let mut exclusion = Exclusion::default();
        exclusion.title("Held out", "--exclude-titles Held out");
        let hit = |title: &str, text: &str| Passage { id: "7".into(), title: title.into(), text: text.into() };
        let hits = vec![hit("x", " A. "), hit("Held_out", "b"), hit("y", "[Relevant]"), hit("z", " "), hit("w", "new")];
        corpus.add_hits(0, hits, &mut exclusion, &mut notes);
        assert_eq!((corpus.questions[0].negatives.as_slice(), corpus.passages.len()), ([0, 1].as_slice(), 2));
        assert_eq!(corpus.passages[1], Text { title: "w".into(), text: "new".into() });
        assert_eq!((notes.left_out["passages of the index: excluded"], notes.problems.len()), (1, 1));
    }

    #[test]
    fn titles_are_no_addresses() {
        assert_eq!(title("Marxism%E2%80%93Leninism_(a)"), "Marxism–Leninism (a)");
        assert_eq!((title("100%"), title("1%+5"), title("%ff_%é")), ("100%".into(), "1%+5".into(), "%ff %é".into()));
    }

    #[test]
    fn containing_is_by_words() {
        assert!(
            contains("In 1905, the U.S. won", "1905")
                && contains("the U.S. won.", "u.s.")
                && contains("a \"b c\"", "B C")
        );
        assert!(!contains("In 1905", "90") && !contains("abc", "") && !contains("x $ y", "$"));
    }
}
