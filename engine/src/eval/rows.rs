//! Rows of evaluation files: a JSON list or JSON lines, each row checked alone, so that one bad row costs one row.
//!
//! | task | fields |
//! | --- | --- |
//! | PopQA, TriviaQA | `question`, `answers` (or `answer`), `ctxs` (or `top_contexts`) |
//! | PubHealth | the same; answers are `true` or `false` |
//! | ARC-Challenge | `question`, `choices` {`text`, `label`}, `answerKey`, `ctxs` |
//! | ASQA | `question`, `qa_pairs` with `short_answers`, `annotations` with `long_answer`, `docs` |
//! | ELI5 | `question`, `answer`, `docs` |
//! | FactScore | `input`, `ctxs`; `topic` and `cat` are passed on |
//!
//! A passage is `{title, text}`, with or without `id`; its other fields, such as a score, are not read.

use serde_json::{Map, Value};

use super::task::Task;
pub use crate::json_rows::Rows;
use crate::{Error, Result, json_rows::kind, retriever::Passage};

/// A row whose fields are there.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Place in the file, counted from 0, unusable rows included.
    pub index: usize,
    /// Line it begins on, counted from 1.
    pub line: usize,
    /// The question alone.
    pub question: String,
    /// The choices of a multiple-choice question as the prompt has them, else empty.
    pub choices: String,
    /// Any of these is right.
    pub golds: Vec<String>,
    /// Groups of short answers, each of which should be mentioned (ASQA).
    pub qa_pairs: Vec<Vec<String>>,
    /// Reference answers (ASQA, ELI5).
    pub references: Vec<String>,
    /// Its passages; none: the field is missing.
    pub passages: Option<Vec<Passage>>,
    /// The row as it is, passages left out.
    pub item: Map<String, Value>,
}

/// What a row of a task must have.
#[derive(Debug, Clone, Copy)]
pub struct Schema {
    /// The task.
    pub task: Task,
    /// Whether rows without passages can be answered: with a retriever, or where none are wanted.
    pub passages_optional: bool,
    /// Passages that are used; what follows them is not looked at.
    pub n_docs: usize,
    /// As the released code: a fifth choice is dropped, `answerKey` 1 to 4 stays as it is. Otherwise five choices make a row unusable, and
    /// the key becomes A to D, as the choices do.
    pub compat: bool,
}

impl Rows {
    /// A row, or what is wrong with it: file, line and expectation.
    pub fn read(&self, index: usize, schema: Schema) -> Result<Row> {
        let line = self.line(index);
        let item = self.object(index)?;
        parse(index, line, item, schema).map_err(|problem| Error::input(self.name(), format!("line {line}"), problem))
    }
}

type Parsed<T> = std::result::Result<T, String>;

fn parse(index: usize, line: usize, mut item: Map<String, Value>, schema: Schema) -> Parsed<Row> {
    let task = schema.task;
    let question = match task {
        Task::Factscore => text(&item, &["input"])?,
        _ => text(&item, &["question", "instruction"])?,
    };
    let (mut choices, mut golds, mut qa_pairs, mut references) = (String::new(), Vec::new(), Vec::new(), Vec::new());
    match task {
        Task::ArcC => (choices, golds) = multiple_choice(&item, schema.compat)?,
        Task::Asqa => {
            qa_pairs = short_answers(&item)?;
            references = long_answers(&item)?;
        }
        Task::Eli5 => references = item.get("answer").and_then(Value::as_str).map(str::to_owned).into_iter().collect(),
        Task::Factscore => {}
        Task::Popqa | Task::Triviaqa | Task::Pubhealth => golds = answers(&item)?,
    }
    let field = [task.passages_field(), "top_contexts"].into_iter().find(|field| item.contains_key(*field));
    let raw_passages = match field.and_then(|field| item.remove(field)) {
        None => None,
        Some(Value::Array(passages)) => Some(passages),
        Some(other) => return Err(format!("{}: {}, a list expected", task.passages_field(), kind(&other))),
    };
    let passages = match &raw_passages {
        None if schema.passages_optional => None,
        None => return Err(format!("missing field `{}`, the passages", task.passages_field())),
        Some(raw) => {
            let used = raw.iter().take(schema.n_docs).enumerate();
            let parsed = used.map(|(at, raw)| passage(task, at, raw)).collect::<Parsed<Vec<Passage>>>()?;
            if parsed.is_empty() && !schema.passages_optional {
                return Err(format!("{}: empty, at least one passage expected", task.passages_field()));
            }
            Some(parsed).filter(|parsed| !parsed.is_empty())
        }
    };
    Ok(Row { index, line, question, choices, golds, qa_pairs, references, passages, item })
}

/// The first of `fields` that is there, as text that is not blank.
fn text(item: &Map<String, Value>, fields: &[&str]) -> Parsed<String> {
    let found = fields.iter().find_map(|field| Some((field, item.get(*field)?)));
    match found {
        None => Err(format!("missing field `{}`", fields[0])),
        Some((field, Value::String(text))) if text.trim().is_empty() => Err(format!("{field}: empty, a text expected")),
        Some((_, Value::String(text))) => Ok(text.clone()),
        Some((field, other)) => Err(format!("{field}: {}, a text expected", kind(other))),
    }
}

fn strings(name: &str, value: &Value) -> Parsed<Vec<String>> {
    let Value::Array(list) = value else { return Err(format!("{name}: {}, a list of texts expected", kind(value))) };
    let one = |(at, value): (usize, &Value)| match value {
        Value::String(text) => Ok(text.clone()),
        other => Err(format!("{name}[{at}]: {}, a text expected", kind(other))),
    };
    list.iter().enumerate().map(one).collect()
}

/// `answers`, or a single `answer`. An empty answer would match everything.
fn answers(item: &Map<String, Value>) -> Parsed<Vec<String>> {
    let answers = match (item.get("answers"), item.get("answer")) {
        (Some(answers), _) => strings("answers", answers)?,
        (None, Some(Value::String(answer))) => vec![answer.clone()],
        (None, Some(other)) => return Err(format!("answer: {}, a text expected", kind(other))),
        (None, None) => return Err("missing field `answers`".into()),
    };
    match answers.iter().position(|answer| answer.is_empty()) {
        Some(at) => Err(format!("answers[{at}]: empty, a text expected")),
        None if answers.is_empty() => Err("answers: empty, at least one expected".into()),
        None => Ok(answers),
    }
}

/// `\nA: …\nB: …\nC: …\nD: …` and the key.
fn multiple_choice(item: &Map<String, Value>, compat: bool) -> Parsed<(String, Vec<String>)> {
    const NAMES: [&str; 4] = ["A", "B", "C", "D"];
    let choices = item.get("choices").ok_or("missing field `choices`")?;
    let part = |name: &str| choices.get(name).ok_or(format!("missing field `choices.{name}`"));
    let texts = strings("choices.text", part("text")?)?;
    let labels: Vec<Value> = part("label")?.as_array().cloned().ok_or("choices.label: a list expected")?;
    let labels: Vec<String> = labels.iter().map(label).collect::<Parsed<_>>()?;
    if texts.len() != labels.len() {
        return Err(format!("choices: {} texts and {} labels", texts.len(), labels.len()));
    }
    let most = if compat { 5 } else { 4 };
    if !(3..=most).contains(&texts.len()) {
        return Err(format!("choices: {} found, A to D expected", texts.len()));
    }
    let named = |name: &str| labels.iter().position(|label| letter(label) == name).map(|at| texts[at].as_str());
    let mut shown = String::new();
    for name in NAMES {
        // Three choices: the released code shows an empty D.
        let text = match named(name) {
            Some(text) => text,
            None if name == "D" => "",
            None => return Err(format!("choices.label: {name} is missing")),
        };
        shown += &format!("\n{name}: {text}");
    }
    let key = label(item.get("answerKey").ok_or("missing field `answerKey`")?)?;
    let gold = if compat { key.clone() } else { letter(&key).to_owned() };
    if !compat && named(&gold).is_none() {
        return Err(format!("answerKey: {key:?} is none of the labels"));
    }
    Ok((shown, vec![gold]))
}

/// A label or key; numbers are taken as their digits.
fn label(value: &Value) -> Parsed<String> {
    match value {
        Value::String(text) => Ok(text.trim().to_owned()),
        Value::Number(number) => Ok(number.to_string()),
        other => Err(format!("answerKey or label: {}, a letter expected", kind(other))),
    }
}

/// 1 to 4 as A to D.
fn letter(label: &str) -> &str {
    match label {
        "1" => "A",
        "2" => "B",
        "3" => "C",
        "4" => "D",
        other => other,
    }
}

fn short_answers(item: &Map<String, Value>) -> Parsed<Vec<Vec<String>>> {
    let pairs = item.get("qa_pairs").ok_or("missing field `qa_pairs`")?;
    let pairs = pairs.as_array().ok_or(format!("qa_pairs: {}, a list expected", kind(pairs)))?;
    let one = |(at, pair): (usize, &Value)| {
        let answers = pair.get("short_answers").ok_or(format!("missing field `qa_pairs[{at}].short_answers`"))?;
        strings(&format!("qa_pairs[{at}].short_answers"), answers)
    };
    pairs.iter().enumerate().map(one).collect()
}

fn long_answers(item: &Map<String, Value>) -> Parsed<Vec<String>> {
    let Some(annotations) = item.get("annotations") else { return Ok(Vec::new()) };
    let annotations = annotations.as_array().ok_or(format!("annotations: {}, a list expected", kind(annotations)))?;
    let one = |(at, annotation): (usize, &Value)| match annotation.get("long_answer") {
        Some(Value::String(text)) => Ok(text.clone()),
        _ => Err(format!("missing field `annotations[{at}].long_answer`")),
    };
    annotations.iter().enumerate().map(one).collect()
}

fn passage(task: Task, at: usize, raw: &Value) -> Parsed<Passage> {
    let name = task.passages_field();
    let Value::Object(raw) = raw else { return Err(format!("{name}[{at}]: {}, an object expected", kind(raw))) };
    let text = match raw.get("text") {
        Some(Value::String(text)) if !text.trim().is_empty() => text.clone(),
        Some(Value::String(_)) => return Err(format!("{name}[{at}].text: empty, a text expected")),
        Some(other) => return Err(format!("{name}[{at}].text: {}, a text expected", kind(other))),
        None => return Err(format!("missing field `{name}[{at}].text`")),
    };
    let title = match raw.get("title") {
        Some(Value::String(title)) => title.clone(),
        None | Some(Value::Null) => String::new(),
        Some(other) => return Err(format!("{name}[{at}].title: {}, a text expected", kind(other))),
    };
    // Web hits have no id.
    let id = match raw.get("id") {
        Some(Value::String(id)) => id.clone(),
        Some(Value::Number(id)) => id.to_string(),
        _ => format!("{name}[{at}]"),
    };
    Ok(Passage { id, title, text })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(task: Task, compat: bool, row: &str) -> std::result::Result<Row, String> {
        let rows = Rows::new("rows", row.as_bytes().to_vec());
        let schema = Schema { task, passages_optional: true, n_docs: 5, compat };
        rows.read(0, schema).map_err(|e| e.to_string())
    }

    fn arc(labels: &str, key: &str, n: usize) -> String {
        let texts: Vec<String> = (0..n).map(|at| format!("t{at}")).collect();
        format!(r#"{{"question": "Q", "choices": {{"text": {texts:?}, "label": [{labels}]}}, "answerKey": {key}}}"#)
    }

    /// The released code renames labels 1 to 4 and leaves the key, which then never matches; it loses a fifth choice.
    #[test]
    fn choices_and_keys_in_both_ways() {
        let numbers = arc(r#""1", "2", "3", "4""#, r#""3""#, 4);
        let (paper, compat) = (read(Task::ArcC, false, &numbers).unwrap(), read(Task::ArcC, true, &numbers).unwrap());
        assert_eq!(paper.choices, "\nA: t0\nB: t1\nC: t2\nD: t3");
        assert_eq!(
            (paper.choices == compat.choices, paper.golds, compat.golds),
            (true, vec!["C".into()], vec!["3".into()])
        );
        assert_eq!(read(Task::ArcC, false, &arc("1, 2, 3, 4", "4", 4)).unwrap().golds, ["D"], "numbers are labels too");
        let three = read(Task::ArcC, false, &arc(r#""A", "B", "C""#, r#""C""#, 3)).unwrap();
        assert_eq!(three.choices, "\nA: t0\nB: t1\nC: t2\nD: ", "an empty D, as in the released code");
        let five = arc(r#""A", "B", "C", "D", "E""#, r#""E""#, 5);
        assert!(read(Task::ArcC, false, &five).unwrap_err().contains("5 found, A to D expected"));
        let compat = read(Task::ArcC, true, &five).unwrap();
        assert_eq!((compat.choices.ends_with("D: t3"), compat.golds), (true, vec!["E".to_owned()]));
        assert!(read(Task::ArcC, false, &arc(r#""A", "B", "C", "D""#, r#""E""#, 4)).unwrap_err().contains("answerKey"));
    }

    #[test]
    fn the_fields_of_each_task() {
        let row =
            read(Task::Popqa, false, r#"{"question": "Q", "answer": "a", "top_contexts": [{"text": "t", "id": 3}]}"#);
        let row = row.unwrap();
        assert_eq!((row.golds, row.item.contains_key("top_contexts")), (vec!["a".to_owned()], false));
        let passages = row.passages.unwrap();
        assert_eq!(passages, [Passage { id: "3".into(), title: String::new(), text: "t".into() }]);
        let asqa = read(
            Task::Asqa,
            false,
            r#"{"question": "Q", "qa_pairs": [{"short_answers": ["a", "b"]}], "annotations": [{"long_answer": "l"}], "docs": []}"#,
        );
        let asqa = asqa.unwrap();
        assert_eq!((asqa.qa_pairs, asqa.references), (vec![vec!["a".into(), "b".into()]], vec!["l".to_owned()]));
        assert!(
            read(Task::Asqa, false, r#"{"question": "Q", "qa_pairs": 1}"#).unwrap_err().contains("qa_pairs: a number")
        );
        assert!(read(Task::Factscore, false, r#"{"question": "Q"}"#).unwrap_err().contains("missing field `input`"));
    }

    /// What lies behind the passages that are used is not looked at.
    #[test]
    fn passages_that_are_not_used_may_be_anything() {
        let list = |n: usize| {
            let good = vec![r#"{"text": "t"}"#; n].join(", ");
            format!(r#"{{"question": "Q", "answers": ["a"], "ctxs": [{good}, 7]}}"#)
        };
        assert_eq!(read(Task::Popqa, false, &list(5)).unwrap().passages.unwrap().len(), 5);
        assert!(read(Task::Popqa, false, &list(4)).unwrap_err().contains("ctxs[4]: a number, an object expected"));
    }
}
