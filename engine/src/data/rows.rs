//! Rows of a training file, and which of their text is trained.
//!
//! A file is a JSON list or JSON lines, `.gz` unpacked, in the schema of the released data (`selfrag_train_data`, `gpt4_reward_all`):
//!
//! | field | holds |
//! | --- | --- |
//! | `instruction` | what is asked; not blank |
//! | `input` | more of it, or nothing; a row that has one gets the template with `### Input:` |
//! | `output` | what is to be written, reflection tokens spelled out, passages between `<paragraph>` and `</paragraph>` |
//! | `id`, `dataset_name` | where the row comes from; a generator's row has both |
//! | `task` | critic rows: `retrieval`, `multi_retrieval`, `relevance`, `groudness` (spelled so), `utility` |
//! | `pieces` | ours, optional: `[{"text": "…", "train": true}, …]`, whose texts concatenate to `output` |
//!
//! A generator is trained on the output and an end token, but not on what stands between the paragraph tags (`finetune.py`); a critic on
//! the whole output. `pieces` takes more out: what lies in a piece with `"train": false` is read but not learned, so that a critique can
//! be trained on a sentence that nobody should learn to write. The end token belongs to the last piece. Pieces begin and end at
//! reflection tokens, or their tokens would be others than those that a generator writes.

use std::{collections::BTreeMap, ops::Range, path::Path};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    Error, Result,
    generator::prompt,
    json_rows::{Rows, kind},
};

const OPEN: &str = "<paragraph>";
const CLOSE: &str = "</paragraph>";

/// A part of an output that is trained as a whole or not at all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// The text, reflection tokens spelled out.
    pub text: String,
    /// Whether it is learned; passages never are.
    pub train: bool,
}

/// A row whose fields are there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct TrainingRow {
    /// What is asked.
    pub instruction: String,
    /// More of it; empty: the template without input.
    pub input: String,
    /// What is to be written, reflection tokens and passages included.
    pub output: String,
    /// Unique within its file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The set that it comes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dataset_name: Option<String>,
    /// What a critic judges.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// What of the output is trained; none: all but passages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pieces: Option<Vec<Piece>>,
}

/// Whose row it is: the templates differ in their last newline, and only a generator's output holds tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Template {
    /// `### Response:\n` (`finetune.py`).
    #[default]
    Generator,
    /// `### Response:` (`train_special_tokens.py`); labels are ordinary text, and all of it is trained.
    Critic,
}

/// What of a generator's row is left out of the loss, apart from `pieces`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Masking {
    /// The prompt, and each passage up to the next `</paragraph>`.
    #[default]
    Paper,
    /// As the released code: the prompt without its last newline, and from the first `<paragraph>` to the last `</paragraph>` of the
    /// row, so that of several passages' sentences only the last is trained (issue 95 there).
    Compat,
}

/// A stretch of a row's text: what a trainer encodes, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// The text; never empty.
    pub text: String,
    /// Whether its tokens count in the loss.
    pub trained: bool,
    /// Whether reflection tokens in it are tokens. Prompts and passages are foreign text that can spell none.
    pub special: bool,
}

impl TrainingRow {
    /// The prompt by the row's template: with `### Input:` where there is an input.
    pub fn prompt(&self, template: Template) -> String {
        let mut prompt = match self.input.as_str() {
            "" => prompt::instruction(&self.instruction),
            input => prompt::instruction_with_input(&self.instruction, input),
        };
        if template == Template::Critic {
            prompt.truncate(prompt.len() - 1);
        }
        prompt
    }

    /// The row as text: prompt and output, cut where the mask or the meaning of the text changes. The end token is left to the trainer.
    pub fn spans(&self, template: Template, masking: Masking) -> Vec<Span> {
        let mut prompt = self.prompt(template);
        let mut spans = Vec::new();
        if template == Template::Generator && masking == Masking::Compat {
            let newline = prompt.split_off(prompt.len() - 1);
            spans.push(Span { text: newline, trained: true, special: false });
        }
        spans.insert(0, Span { text: prompt, trained: false, special: false });
        spans.extend(self.output_spans(template, masking));
        spans
    }

    /// Whether the end token that a trainer appends is trained.
    pub fn end_trained(&self) -> bool {
        self.pieces.as_ref().and_then(|pieces| pieces.last()).is_none_or(|piece| piece.train)
    }

    fn output_spans(&self, template: Template, masking: Masking) -> Vec<Span> {
        // How many reasons there are, from a byte on, not to train and not to look for tokens.
        let mut changes: BTreeMap<usize, [i32; 2]> = BTreeMap::new();
        let mut cover = |range: Range<usize>, reason: usize| {
            changes.entry(range.start).or_default()[reason] += 1;
            changes.entry(range.end).or_default()[reason] -= 1;
        };
        const MASKED: usize = 0;
        const PLAIN: usize = 1;
        if template == Template::Generator {
            passages(&self.output, false).into_iter().for_each(|range| cover(range, PLAIN));
            let to_last = masking == Masking::Compat;
            passages(&self.output, to_last).into_iter().for_each(|range| cover(range, MASKED));
        } else {
            cover(0..self.output.len(), PLAIN);
        }
        let mut start = 0;
        for piece in self.pieces.iter().flatten() {
            let end = start + piece.text.len();
            if !piece.train {
                cover(start..end, MASKED);
            }
            start = end;
        }
        changes.entry(self.output.len()).or_default();
        let (mut spans, mut start, mut reasons) = (Vec::<Span>::new(), 0, [0; 2]);
        for (end, change) in changes {
            // Nothing where pieces that were not checked do not fit the output.
            let text = self.output.get(start..end).unwrap_or_default();
            let (trained, special) = (reasons[MASKED] == 0, reasons[PLAIN] == 0);
            match spans.last_mut() {
                _ if text.is_empty() => {}
                Some(last) if (last.trained, last.special) == (trained, special) => last.text += text,
                _ => spans.push(Span { text: text.to_owned(), trained, special }),
            }
            start = end;
            for (reason, change) in reasons.iter_mut().zip(change) {
                *reason += change;
            }
        }
        spans
    }
}

/// What stands between the paragraph tags of an output: up to the next closing tag or up to the last one, to the end where there is none.
fn passages(output: &str, to_last: bool) -> Vec<Range<usize>> {
    let (mut ranges, mut from) = (Vec::new(), 0);
    let last = output.rfind(CLOSE);
    while let Some(open) = output[from..].find(OPEN) {
        let start = from + open + OPEN.len();
        let next =
            if to_last { last.filter(|last| *last >= start) } else { output[start..].find(CLOSE).map(|at| start + at) };
        let end = next.unwrap_or(output.len());
        ranges.push(start..end);
        if next.is_none() {
            break;
        }
        from = end + CLOSE.len();
    }
    ranges
}

/// A training file, split but not parsed.
#[derive(Debug)]
pub struct TrainingFile {
    rows: Rows,
}

impl TrainingFile {
    /// Reads a file, `.gz` unpacked.
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Self { rows: Rows::open(path)? })
    }

    /// From bytes; `name` is for messages.
    pub fn new(name: impl Into<String>, bytes: Vec<u8>) -> Self {
        Self { rows: Rows::new(name, bytes) }
    }

    /// The file's name.
    pub fn name(&self) -> &str {
        self.rows.name()
    }

    /// SHA-256 of the bytes (unpacked).
    pub fn sha256(&self) -> &str {
        self.rows.sha256()
    }

    /// How many rows there are, unusable ones included.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// What is wrong with the file as a whole.
    pub fn broken(&self) -> Option<Error> {
        self.rows.broken()
    }

    /// A row's line, counted from 1.
    pub fn line(&self, index: usize) -> usize {
        self.rows.line(index)
    }

    /// A row, or what is wrong with it: file, line and expectation.
    pub fn row(&self, index: usize) -> Result<TrainingRow> {
        let bad = |problem: String| Error::input(self.name(), format!("line {}", self.line(index)), problem);
        parse(&self.rows.object(index)?).map_err(bad)
    }

    /// The rows in their order, each as [`Self::row`] has it.
    pub fn iter(&self) -> impl Iterator<Item = Result<TrainingRow>> {
        (0..self.len()).map(|index| self.row(index))
    }
}

type Parsed<T> = std::result::Result<T, String>;

/// A row's fields, or what is wrong with them.
pub(super) fn parse(item: &Map<String, Value>) -> Parsed<TrainingRow> {
    let text = |field: &str| match item.get(field) {
        None => Err(format!("missing field `{field}`")),
        Some(Value::String(text)) if text.trim().is_empty() => Err(format!("{field}: empty, a text expected")),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(other) => Err(format!("{field}: {}, a text expected", kind(other))),
    };
    let name = |field: &str| match item.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(Value::Number(number)) => Ok(Some(number.to_string())),
        Some(other) => Err(format!("{field}: {}, a text expected", kind(other))),
    };
    let row = TrainingRow {
        instruction: text("instruction")?,
        input: name("input")?.unwrap_or_default(),
        output: text("output")?,
        id: name("id")?,
        dataset_name: name("dataset_name")?,
        task: name("task")?,
        pieces: match item.get("pieces") {
            None | Some(Value::Null) => None,
            Some(Value::Array(list)) => Some(list.iter().enumerate().map(piece).collect::<Parsed<_>>()?),
            Some(other) => return Err(format!("pieces: {}, a list expected", kind(other))),
        },
    };
    let mut rest = row.output.as_str();
    for (at, piece) in row.pieces.iter().flatten().enumerate() {
        let goes_on = "the pieces' texts must concatenate to `output`";
        rest = rest.strip_prefix(piece.text.as_str()).ok_or_else(|| format!("pieces[{at}].text: {goes_on}"))?;
    }
    match row.pieces {
        Some(_) if !rest.is_empty() => Err(format!("pieces: the last {} bytes of `output` are missing", rest.len())),
        _ => Ok(row),
    }
}

fn piece((at, value): (usize, &Value)) -> Parsed<Piece> {
    match (value.get("text"), value.get("train")) {
        (Some(Value::String(text)), Some(Value::Bool(train))) => Ok(Piece { text: text.clone(), train: *train }),
        _ => Err(format!("pieces[{at}]: {{\"text\": a text, \"train\": true or false}} expected")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = "So.[Retrieval]<paragraph>T\n[Relevant] x</paragraph>[Relevant]A.[Fully supported]\
        [Retrieval]<paragraph>U\ny</paragraph>[Irrelevant]B.[Utility:5]";

    fn row(output: &str) -> TrainingRow {
        TrainingRow { instruction: "Q?".into(), output: output.into(), ..TrainingRow::default() }
    }

    /// Trained text as it is, masked text in braces, foreign text with `~` in front.
    fn shown(spans: &[Span]) -> String {
        let one = |span: &Span| {
            let foreign = if span.special { "" } else { "~" };
            match span.trained {
                true => format!("{foreign}{}", span.text),
                false => format!("{{{foreign}{}}}", span.text),
            }
        };
        spans.iter().map(one).collect()
    }

    #[test]
    fn templates_word_for_word() {
        let mut row = row("x");
        assert_eq!(row.prompt(Template::Generator), "### Instruction:\nQ?\n\n### Response:\n");
        assert_eq!(row.prompt(Template::Critic), "### Instruction:\nQ?\n\n### Response:");
        row.input = "I".into();
        assert_eq!(row.prompt(Template::Generator), "### Instruction:\nQ?\n\n### Input:\nI\n\n### Response:\n");
        assert_eq!(row.prompt(Template::Critic), "### Instruction:\nQ?\n\n### Input:\nI\n\n### Response:");
    }

    /// The released code masks from the first opening tag to the last closing one, and trains the prompt's newline.
    #[test]
    fn passages_are_masked_to_the_next_tag_or_as_the_released_code_does() {
        assert_eq!(
            shown(&row(TWO).spans(Template::Generator, Masking::Paper)),
            "{~### Instruction:\nQ?\n\n### Response:\n}So.[Retrieval]<paragraph>{~T\n[Relevant] x}</paragraph>[Relevant]A.\
             [Fully supported][Retrieval]<paragraph>{~U\ny}</paragraph>[Irrelevant]B.[Utility:5]"
        );
        assert_eq!(
            shown(&row(TWO).spans(Template::Generator, Masking::Compat)),
            "{~### Instruction:\nQ?\n\n### Response:}~\nSo.[Retrieval]<paragraph>{~T\n[Relevant] x}{</paragraph>[Relevant]A.\
             [Fully supported][Retrieval]<paragraph>}{~U\ny}</paragraph>[Irrelevant]B.[Utility:5]"
        );
        for masking in [Masking::Paper, Masking::Compat] {
            let open = row("[Retrieval]<paragraph>T").spans(Template::Generator, masking);
            assert!(
                shown(&open).ends_with("[Retrieval]<paragraph>{~T}"),
                "a passage that does not end is masked to the end"
            );
            let empty = row("a<paragraph></paragraph>b").spans(Template::Generator, masking);
            assert!(shown(&empty).ends_with("a<paragraph></paragraph>b"));
        }
        let critic = row("[Relevant]").spans(Template::Critic, Masking::Compat);
        assert_eq!(shown(&critic), "{~### Instruction:\nQ?\n\n### Response:}~[Relevant]");
    }

    #[test]
    fn pieces_take_more_out() {
        let texts =
            [("[Retrieval]<paragraph>p</paragraph>[Relevant]", true), ("é wrong", false), ("[Utility:1]", true)];
        let pieces: Vec<Piece> = texts.map(|(text, train)| Piece { text: text.into(), train }).into();
        let output: String = texts.map(|(text, _)| text).concat();
        let mut row = TrainingRow { pieces: Some(pieces), ..row(&output) };
        let spans = row.spans(Template::Generator, Masking::Paper);
        let expected = "[Retrieval]<paragraph>{~p}</paragraph>[Relevant]{é wrong}[Utility:1]";
        assert_eq!((shown(&spans[1..]), row.end_trained()), (expected.into(), true));
        row.pieces.as_mut().unwrap()[2].train = false;
        assert!(!row.end_trained(), "the end token belongs to the last piece");
        let file = TrainingFile::new("rows", serde_json::to_vec(&row).unwrap());
        assert_eq!(file.row(0).unwrap(), row, "written and read");
        // Not a row of a file, which would be refused: pieces that do not fit never panic.
        row.pieces.as_mut().unwrap()[1].text = "é".repeat(100);
        row.spans(Template::Generator, Masking::Paper);
        row.output = "é".into();
        row.pieces.as_mut().unwrap()[0].text = "x".into();
        row.spans(Template::Generator, Masking::Paper);
    }

    #[test]
    fn spans_are_the_row() {
        let mut random = crate::ops::self_test::Random::new(1);
        let parts = ["<paragraph>", "</paragraph>", "[Relevant]", "é", "x", ""];
        for _ in 0..500 {
            let pieces: Vec<Piece> = (0..random.pick(1..=9))
                .map(|_| Piece { text: parts[random.pick(0..=5)].into(), train: random.pick(0..=1) == 0 })
                .collect();
            let output = pieces.iter().map(|piece| piece.text.as_str()).collect::<String>();
            let row = TrainingRow { pieces: Some(pieces), ..row(&output) };
            for (template, masking) in [
                (Template::Generator, Masking::Paper),
                (Template::Generator, Masking::Compat),
                (Template::Critic, Masking::Paper),
            ] {
                let text: String = row.spans(template, masking).into_iter().map(|span| span.text).collect();
                assert_eq!(text, row.prompt(template) + &output);
            }
        }
    }

    #[test]
    fn bad_rows_are_named_by_file_and_line() {
        let lines = [
            (r#"{"instruction": "i", "output": "o", "id": 7}"#, ""),
            (r#"{"instruction": "i"}"#, "f: line 2: missing field `output`"),
            (r#"{"instruction": " ", "output": "o"}"#, "f: line 3: instruction: empty"),
            (r#"{"instruction": "i", "output": ["o"]}"#, "f: line 4: output: a list, a text expected"),
            (
                r#"{"instruction": "i", "output": "ab", "pieces": [{"text": "b", "train": true}]}"#,
                "pieces[0].text: the",
            ),
            (r#"{"instruction": "i", "output": "ab", "pieces": [{"text": "a", "train": true}]}"#, "the last 1 bytes"),
            (r#"{"instruction": "i", "output": "ab", "pieces": [{"text": "ab"}]}"#, "pieces[0]: {\"text\""),
            (r#"{"instruction": "i", "output": "ab", "pieces": 1}"#, "pieces: a number, a list expected"),
            (r#"{"instruction": "i", "#, "f: line 9, column"),
        ];
        let text = lines.map(|(line, _)| line).join("\n");
        let file = TrainingFile::new("f", text.into_bytes());
        for (row, (line, problem)) in file.iter().zip(lines) {
            match row {
                Ok(row) => assert_eq!((row.id.as_deref(), problem), (Some("7"), "")),
                Err(error) => assert!(!problem.is_empty() && error.to_string().contains(problem), "{line}: {error}"),
            }
        }
        let latin = TrainingFile::new("f", b"{\"instruction\": \"\xe9\"}".to_vec()).row(0).unwrap_err().to_string();
        assert!(latin.contains("f: line 1") && latin.contains("unicode"), "{latin}");
    }
}
