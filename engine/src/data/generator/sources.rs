//! Where it begins: instructions with answers, as the released `process_data` writes them, `{instruction, output, input, id,
//! dataset_name}` a row.

use std::{collections::HashSet, path::Path};

use serde::{Deserialize, Serialize};

use crate::{
    Error, Result,
    data::{
        notes::Notes,
        parts::spells_token,
        rows::{TrainingFile, TrainingRow},
    },
};

/// An instruction with its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Unique among the sources.
    pub id: String,
    /// `dataset_name`; empty where a row has none.
    pub set: String,
    /// What is asked.
    pub instruction: String,
    /// More of it, or nothing.
    pub input: String,
    /// The answer.
    pub output: String,
}

impl Source {
    /// What the critic is shown as the instruction.
    pub fn asked(&self) -> String {
        match self.input.as_str() {
            "" => self.instruction.clone(),
            input => format!("{}\n{input}", self.instruction),
        }
    }

    /// What of the instruction goes into a sentence's query: without the task's words, which stand before `## Input:`.
    pub fn query(&self) -> String {
        const INPUT: &str = "## Input:\n\n";
        let question = self.instruction.split_once(INPUT).map_or(self.instruction.as_str(), |(_, question)| question);
        match self.input.as_str() {
            "" => question.to_owned(),
            input => format!("{question} {input}"),
        }
    }

    /// A row with an output of reflection tokens.
    pub fn row(&self, output: String) -> TrainingRow {
        TrainingRow {
            instruction: self.instruction.clone(),
            input: self.input.clone(),
            output,
            id: Some(self.id.clone()),
            dataset_name: Some(self.set.clone()).filter(|set| !set.is_empty()),
            task: None,
            pieces: None,
        }
    }
}

/// The rows of some files in their order. Rows without an id get `FILE_LINE`; rows whose text spells a reflection token are problems, for
/// a tokenizer would take it for one.
pub fn read(files: &[impl AsRef<Path>], notes: &mut Notes) -> Result<Vec<Source>> {
    let (mut sources, mut ids) = (Vec::new(), HashSet::new());
    for path in files {
        let file = TrainingFile::open(path.as_ref())?;
        if let Some(error) = file.broken() {
            return Err(error);
        }
        let stem = path.as_ref().file_name().unwrap_or_default().to_string_lossy();
        let stem = stem.split('.').next().unwrap_or_default();
        for index in 0..file.len() {
            let place = format!("line {}", file.line(index));
            let row = match file.row(index) {
                Ok(row) => row,
                Err(error) => {
                    notes.problems.push(("unusable source", error));
                    continue;
                }
            };
            let spelt = [&row.instruction, &row.input, &row.output].into_iter().find_map(|text| spells_token(text));
            if let Some(name) = spelt {
                notes.problem("unusable source", file.name(), &place, format!("{name} in it, plain text expected"));
                continue;
            }
            let id = row.id.unwrap_or_else(|| format!("{stem}_{}", file.line(index)));
            if !ids.insert(id.clone()) {
                notes.problem("unusable source", file.name(), &place, format!("id: {id:?} is there before"));
                continue;
            }
            sources.push(Source {
                id,
                set: row.dataset_name.unwrap_or_default(),
                instruction: row.instruction.trim().to_owned(),
                input: row.input.trim().to_owned(),
                output: row.output.trim().to_owned(),
            });
        }
    }
    match sources.is_empty() {
        true => Err(Error::input(names(files), "rows", "no usable source")),
        false => Ok(sources),
    }
}

fn names(files: &[impl AsRef<Path>]) -> String {
    let names: Vec<String> = files.iter().map(|path| path.as_ref().display().to_string()).collect();
    names.join(", ")
}
