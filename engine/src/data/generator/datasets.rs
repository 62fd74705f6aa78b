//! The sets of the released data as instructions with answers (`process_data`).
//!
//! | set | rows | instruction | answer |
//! | --- | --- | --- | --- |
//! | nq | DPR: `question`, `answers` | the question | the first |
//! | wow | the same | task and question | the first |
//! | fever | the same | task and claim | `true`; `false` for `REFUTES` |
//! | asqa | `question` or `ambiguous_question`, `annotations[].long_answer` | task and question | the first |
//! | arc_easy, obqa | `question` or `question_stem`, `choices` {`text`, `label`}, `answerKey` | task, question, choices A to D | the letter |
//! | any other | `messages` of a user and an assistant (Open-Instruct), or rows that are sources already | the user's | the assistant's |
//!
//! Departure: the released filter for English text is not here.

use serde_json::{Map, Value};

use super::sources::Source;
use crate::json_rows::kind;

/// `TASK_INST` of the sets that have one.
const WOW: &str =
    "Given a chat history separated by new lines, generates an informative, knowledgeable and engaging response. ";
const FEVER: &str = "Is the following statement correct or not? Say true if it's correct; otherwise say false.";
const ASQA: &str = "Answer the following question. The question may be ambiguous and have multiple correct answers, and in that \
    case, you have to provide a long-form answer including all correct answers.";
const CHOICE: &str = "Given four answer candidates, A, B, C and D, choose the best answer choice.";
/// Most words of an instruction or answer of a set of messages.
const MOST_WORDS: usize = 500;

/// Why a row gives no source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unused {
    /// It is bad: what was found and expected.
    Problem(String),
    /// It is good, and left out as in the released data.
    LeftOut(&'static str),
}

impl From<String> for Unused {
    fn from(problem: String) -> Self {
        Self::Problem(problem)
    }
}

/// A set's row, `index` counted from 0 over all of the set's files; none: it is no row of that set's own format.
pub fn convert(set: &str, index: usize, item: &Map<String, Value>) -> Result<Option<Source>, Unused> {
    let (instruction, output) = match set {
        "nq" | "wow" | "fever" => {
            let (question, answer) = (text(item, &["question"])?, first(item, "answers", None)?);
            match set {
                "nq" => (question, answer),
                "wow" => (asked(WOW, &question), answer),
                _ => (asked(FEVER, &question), (if answer == "REFUTES" { "false" } else { "true" }).to_owned()),
            }
        }
        "asqa" => {
            let question = text(item, &["question", "ambiguous_question"])?;
            (asked(ASQA, &question), first(item, "annotations", Some("long_answer"))?)
        }
        "arc_easy" | "obqa" => {
            let (question, choices, key) = multiple_choice(item)?;
            (asked(CHOICE, &format!("{question}{choices}")), key)
        }
        _ if item.contains_key("messages") => turn(item)?,
        _ => return Ok(None),
    };
    let (id, input) = (format!("{set}_{index}"), String::new());
    Ok(Some(Source { id, set: set.to_owned(), instruction, input, output }))
}

fn asked(task: &str, question: &str) -> String {
    format!("{task}## Input:\n\n{question}")
}

/// The first of some fields that is there.
fn text(item: &Map<String, Value>, names: &[&str]) -> Result<String, String> {
    let found = names.iter().find_map(|name| Some((name, item.get(*name)?)));
    match found {
        None => Err(format!("missing field `{}`", names[0])),
        Some((_, Value::String(text))) if !text.trim().is_empty() => Ok(text.trim().to_owned()),
        Some((name, Value::String(_))) => Err(format!("{name}: empty, a text expected")),
        Some((name, other)) => Err(format!("{name}: {}, a text expected", kind(other))),
    }
}

/// The first text of a list, or of the first object's field.
fn first(item: &Map<String, Value>, list: &str, field: Option<&str>) -> Result<String, String> {
    let value = item.get(list).ok_or_else(|| format!("missing field `{list}`"))?;
    let found = value.get(0).ok_or_else(|| format!("{list}: {}, a list with something in it expected", kind(value)))?;
    let found = field.map_or(Some(found), |field| found.get(field));
    match found.and_then(Value::as_str).map(str::trim) {
        Some(text) if !text.is_empty() => Ok(text.to_owned()),
        _ => Err(format!("{list}[0]{}: a text expected", field.map(|field| format!(".{field}")).unwrap_or_default())),
    }
}

/// Question, choices as the prompt has them, the right one's letter. ARC's own files have the question in an object.
fn multiple_choice(item: &Map<String, Value>) -> Result<(String, String, String), Unused> {
    const NAMES: [&str; 4] = ["A", "B", "C", "D"];
    let letter = |label: &Value| {
        let label = label.as_str().map_or_else(|| label.to_string(), |label| label.trim().to_owned());
        match ["1", "2", "3", "4"].iter().position(|number| label == *number) {
            Some(at) => NAMES[at].to_owned(),
            None => label,
        }
    };
    let own = item.get("question").and_then(Value::as_object);
    let question = match own {
        Some(own) => text(own, &["stem"])?,
        None => text(item, &["question", "question_stem"])?,
    };
    let choices = own.unwrap_or(item).get("choices").ok_or("missing field `choices`".to_owned())?;
    let listed = |name: &str| match choices {
        Value::Array(list) => Some(list.iter().map(|choice| choice[name].clone()).collect()),
        other => other[name].as_array().cloned(),
    };
    let (Some(texts), Some(labels)) = (listed("text"), listed("label")) else {
        return Err("choices: `text` and `label` expected".to_owned().into());
    };
    let labels: Vec<String> = labels.iter().map(letter).collect();
    if texts.len() != labels.len() {
        return Err(format!("choices: {} texts and {} labels", texts.len(), labels.len()).into());
    }
    if texts.len() < NAMES.len() {
        return Err(Unused::LeftOut("sources: fewer than four choices"));
    }
    let mut shown = String::new();
    for name in NAMES {
        let found = labels.iter().position(|label| label == name).and_then(|at| texts[at].as_str());
        let found = found.ok_or_else(|| format!("choices: no text for {name}"))?;
        shown += &format!("\n{name}: {found}");
    }
    let key = letter(item.get("answerKey").ok_or("missing field `answerKey`".to_owned())?);
    match NAMES.contains(&key.as_str()) {
        true => Ok((question, shown, key)),
        false => Err(format!("answerKey: {key:?}, one of A to D expected").into()),
    }
}

/// A single turn of Open-Instruct's messages.
fn turn(item: &Map<String, Value>) -> Result<(String, String), Unused> {
    let Some([user, assistant]) = item["messages"].as_array().map(Vec::as_slice) else {
        return Err(Unused::LeftOut("sources: not a single turn"));
    };
    let said = |message: &Value, role: &str| match (message["role"].as_str(), message["content"].as_str()) {
        (Some(found), Some(text)) if found == role => {
            Ok(text.replace("\nOutput:", "").trim_end_matches('\n').to_owned())
        }
        _ => Err(format!("messages: {{\"role\": {role:?}, \"content\": a text}} expected")),
    };
    let (instruction, output) = (said(user, "user")?, said(assistant, "assistant")?);
    if [&instruction, &output].iter().any(|text| text.trim().is_empty()) {
        return Err("messages: empty, a text expected".to_owned().into());
    }
    match [&instruction, &output].iter().all(|text| text.split_whitespace().count() <= MOST_WORDS) {
        true => Ok((instruction, output)),
        false => Err(Unused::LeftOut("sources: more than 500 words")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn made(set: &str, item: Value) -> Result<(String, String), Unused> {
        let source = convert(set, 7, item.as_object().unwrap())?.expect("the set's own format");
        assert_eq!((source.id.as_str(), source.set.as_str()), (format!("{set}_7").as_str(), set));
        Ok((source.instruction, source.output))
    }

    fn pair(instruction: &str, output: &str) -> Result<(String, String), Unused> {
        Ok((instruction.to_owned(), output.to_owned()))
    }

    #[test]
    fn each_set_in_its_format() {
        let dpr = |answer: &str| json!({"question": "Q?", "answers": [answer, "other"], "positive_ctxs": []});
        assert_eq!(made("nq", dpr("A")), pair("Q?", "A"));
        assert_eq!(made("wow", dpr("A")), pair(&format!("{WOW}## Input:\n\nQ?"), "A"));
        let fever = format!("{FEVER}## Input:\n\nQ?");
        assert_eq!(
            (made("fever", dpr("REFUTES")), made("fever", dpr("SUPPORTS"))),
            (pair(&fever, "false"), pair(&fever, "true"))
        );
        let asqa = json!({"ambiguous_question": "Q?", "annotations": [{"long_answer": "Long."}, {}]});
        assert_eq!(made("asqa", asqa), pair(&format!("{ASQA}## Input:\n\nQ?"), "Long."));
        let choice = format!("{CHOICE}## Input:\n\nQ?\nA: w\nB: x\nC: y\nD: z");
        let (texts, numbers) = (["w", "x", "y", "z"], ["1", "2", "3", "4"]);
        let arc = json!({"question": "Q?", "choices": {"text": texts, "label": numbers}, "answerKey": "3"});
        assert_eq!(made("arc_easy", arc), pair(&choice, "C"));
        let listed: Vec<Value> =
            texts.iter().zip(["A", "B", "C", "D"]).map(|(text, label)| json!({"text": text, "label": label})).collect();
        let own = json!({"question": {"stem": "Q?", "choices": listed}, "answerKey": "D"});
        assert_eq!(made("arc_easy", own), pair(&choice, "D"));
        let obqa =
            json!({"question_stem": "Q?", "choices": {"text": texts, "label": ["A", "B", "C", "D"]}, "answerKey": "A"});
        assert_eq!(made("obqa", obqa), pair(&choice, "A"));
        let messages = |user: &str| json!({"messages": [{"role": "user", "content": user}, {"role": "assistant", "content": "A\n\n"}]});
        assert_eq!(made("alpaca", messages("Do it.\nOutput:")), pair("Do it.", "A"));
        assert_eq!(made("alpaca", messages(&"w ".repeat(501))), Err(Unused::LeftOut("sources: more than 500 words")));
        assert_eq!(convert("alpaca", 0, json!({"instruction": "I"}).as_object().unwrap()), Ok(None));
    }

    #[test]
    fn bad_rows_say_what_is_expected() {
        for (set, item, expected) in [
            ("nq", json!({"answers": ["A"]}), "missing field `question`"),
            ("nq", json!({"question": 7, "answers": ["A"]}), "question: a number"),
            ("nq", json!({"question": "Q", "answers": []}), "answers: a list, a list with something in it"),
            ("nq", json!({"question": "Q", "answers": [" "]}), "answers[0]: a text expected"),
            ("asqa", json!({"question": "Q", "annotations": [{}]}), "annotations[0].long_answer: a text"),
            ("obqa", json!({"question_stem": "Q", "choices": 7}), "choices: `text` and `label`"),
            ("obqa", json!({"question_stem": "Q", "choices": {"text": [1], "label": []}}), "1 texts and 0 labels"),
            (
                "obqa",
                json!({"question_stem": "Q", "choices": {"text": ["a", "b", "c", "d"], "label": ["A", "B", "C", "E"]}}),
                "choices: no text for D",
            ),
            (
                "obqa",
                json!({"question_stem": "Q", "choices": {"text": ["a", "b", "c", "d"], "label": [1, 2, "3", "4"]}, "answerKey": 9}),
                "answerKey: \"9\", one of A to D expected",
            ),
            ("x", json!({"messages": [{"role": "system"}, {}]}), "\"role\": \"user\""),
        ] {
            match made(set, item) {
                Err(Unused::Problem(problem)) => assert!(problem.contains(expected), "{expected}: {problem}"),
                other => panic!("{expected}: {other:?}"),
            }
        }
        let three = json!({"question_stem": "Q", "choices": {"text": ["a"], "label": ["A"]}, "answerKey": "A"});
        assert_eq!(made("obqa", three), Err(Unused::LeftOut("sources: fewer than four choices")));
        assert_eq!(made("x", json!({"messages": [1, 2, 3]})), Err(Unused::LeftOut("sources: not a single turn")));
    }
}
