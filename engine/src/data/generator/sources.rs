//! Where it begins: instructions with answers, `{instruction, output, input, id, dataset_name}` a row as the released `process_data`
//! writes them, or a set's own rows ([`super::datasets`]).

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
};

use serde::{Deserialize, Serialize};

use super::datasets::{Unused, convert};
use crate::{
    Error, Result,
    data::{
        notes::Notes,
        parts::spells_token,
        rows::{self, TrainingRow},
    },
    json_rows::Rows,
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

/// A file of sources, and the set that its rows are of: `NAME=FILE`, or `FILE` alone, whose rows say it themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// The set's name.
    pub set: Option<String>,
    /// The file.
    pub path: PathBuf,
}

impl std::str::FromStr for SourceFile {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        let is_name =
            |name: &str| !name.is_empty() && name.chars().all(|char| char.is_alphanumeric() || "_-".contains(char));
        Ok(match text.split_once('=') {
            Some((set, path)) if is_name(set) => Self { set: Some(set.to_owned()), path: path.into() },
            _ => Self { set: None, path: text.into() },
        })
    }
}

/// The rows of some files in their order. Rows without an id get `FILE_LINE`, or `SET_ROW` in a set's own format,
/// counted on in another file of that name; rows whose text spells a reflection token are problems, for
/// a tokenizer would take it for one.
pub fn read(files: &[SourceFile], notes: &mut Notes) -> Result<Vec<Source>> {
    const REASON: &str = "unusable source";
    let (mut sources, mut ids) = (Vec::new(), HashSet::new());
    // Rows of each set, and lines of each file's name, in the files before.
    let (mut rows_before, mut lines_before) = (HashMap::<&str, usize>::new(), HashMap::<String, usize>::new());
    for SourceFile { set, path } in files {
        let rows = Rows::open(path)?;
        if let Some(error) = rows.broken() {
            return Err(error);
        }
        let stem = path.file_name().unwrap_or_default().to_string_lossy();
        let stem = stem.split('.').next().unwrap_or_default().to_owned();
        let before = rows_before.entry(set.as_deref().unwrap_or_default()).or_default();
        let lines = lines_before.entry(stem.clone()).or_default();
        for index in 0..rows.len() {
            let place = format!("line {}", rows.line(index));
            let source = match source(set.as_deref(), &rows, index, *before, (&stem, *lines)) {
                Ok(source) => source,
                Err(Unused::LeftOut(reason)) => {
                    notes.left_out(reason);
                    continue;
                }
                Err(Unused::Problem(problem)) => {
                    notes.problem(REASON, rows.name(), &place, problem);
                    continue;
                }
            };
            let texts = [&source.instruction, &source.input, &source.output];
            if let Some(name) = texts.into_iter().find_map(|text| spells_token(text)) {
                notes.problem(REASON, rows.name(), &place, format!("{name} in it, plain text expected"));
            } else if !ids.insert(source.id.clone()) {
                notes.problem(REASON, rows.name(), &place, format!("id: {:?} is there before", source.id));
            } else {
                sources.push(source);
            }
        }
        *before += rows.len();
        *lines += rows.len().checked_sub(1).map_or(0, |last| rows.line(last));
    }
    if sources.is_empty() {
        let names: Vec<String> = files.iter().map(|file| file.path.display().to_string()).collect();
        return Err(Error::input(names.join(", "), "rows", "no usable source"));
    }
    Ok(sources)
}

/// A row with `before` rows of its set before the file's, and as many lines of files of its name.
fn source(
    set: Option<&str>,
    rows: &Rows,
    index: usize,
    before: usize,
    (stem, lines): (&str, usize),
) -> std::result::Result<Source, Unused> {
    // The place is said by whoever asks.
    let bare = |error: Error| match error {
        Error::Input { problem, .. } => problem,
        other => other.to_string(),
    };
    let item = rows.object(index).map_err(bare)?;
    if let Some(source) = convert(set.unwrap_or_default(), before + index, &item)? {
        return Ok(source);
    }
    let row = rows::parse(&item)?;
    Ok(Source {
        id: row.id.unwrap_or_else(|| format!("{stem}_{}", lines + rows.line(index))),
        set: set.map(str::to_owned).or(row.dataset_name).unwrap_or_default(),
        instruction: row.instruction.trim().to_owned(),
        input: row.input.trim().to_owned(),
        output: row.output.trim().to_owned(),
    })
}
