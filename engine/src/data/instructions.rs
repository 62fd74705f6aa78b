//! Plain instructions, which need no passage.

use std::path::Path;

use super::{notes::Notes, parts::spells_token};
use crate::{Result, json_rows::Rows};

/// A plain instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instruction {
    /// What is asked.
    pub instruction: String,
    /// More of it, or nothing.
    pub input: String,
    /// The answer; empty: the decision alone is trained.
    pub output: String,
}

/// Plain instructions from a file: one a line, an answer after a tab if it is known; or a JSON list or JSON lines with `instruction`,
/// and optionally `input` and `output`.
pub fn read(path: &Path, notes: &mut Notes) -> Result<Vec<Instruction>> {
    const REASON: &str = "unusable instruction";
    let rows = Rows::open(path)?;
    let name = path.to_string_lossy();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    let is_json = name.ends_with(".json") || name.ends_with(".jsonl");
    let mut found = Vec::new();
    let mut push = |place: &str, [instruction, input, output]: [String; 3], notes: &mut Notes| {
        let spelt = [&instruction, &input, &output].into_iter().find_map(|text| spells_token(text));
        match spelt {
            Some(name) => notes.problem(REASON, rows.name(), place, format!("{name} in it, plain text expected")),
            None if instruction.is_empty() => {
                notes.problem(REASON, rows.name(), place, "empty, an instruction expected")
            }
            None => found.push(Instruction { instruction, input, output }),
        }
    };
    if is_json {
        if let Some(error) = rows.broken() {
            return Err(error);
        }
        for index in 0..rows.len() {
            let place = format!("line {}", rows.line(index));
            let item = match rows.object(index) {
                Ok(item) => item,
                Err(error) => {
                    notes.problems.push((REASON, error));
                    continue;
                }
            };
            let fields = [["instruction", "question"], ["input", "input"], ["output", "answer"]];
            let texts =
                fields.map(|names| names.into_iter().find_map(|name| item.get(name)?.as_str()).unwrap_or_default());
            push(&place, texts.map(|text| text.trim().to_owned()), notes);
        }
    } else {
        for (index, line) in rows.bytes().split(|byte| *byte == b'\n').enumerate() {
            let place = format!("line {}", index + 1);
            match std::str::from_utf8(line) {
                Err(e) => notes.problem(REASON, rows.name(), &place, format!("no UTF-8: {e}")),
                Ok(line) if line.trim().is_empty() => {}
                Ok(line) => {
                    let (instruction, output) = line.split_once('\t').unwrap_or((line, ""));
                    push(&place, [instruction.trim().to_owned(), String::new(), output.trim().to_owned()], notes);
                }
            }
        }
    }
    Ok(found)
}
