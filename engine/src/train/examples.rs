//! Rows of a training file as tokens, with what of them is trained.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{
    Error, Result,
    data::rows::{Masking, Template, TrainingFile, TrainingRow},
    tokenizer::{EncodeOptions, SegmentPrefix, Tokenizer},
};

/// A row as the model sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// Tokens.
    pub ids: Vec<u32>,
    /// Whether each counts in the loss.
    pub trained: Vec<bool>,
}

/// How rows become examples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encoding {
    /// Whose rows they are.
    pub template: Template,
    /// What is left out of the loss.
    pub masking: Masking,
    /// The space in front of text after a special token (SentencePiece).
    pub segment_prefix: SegmentPrefix,
    /// What ends an answer.
    pub end: u32,
    /// Longest example in tokens; what is longer loses its end.
    pub max_length: usize,
}

/// What happened to a file's rows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Census {
    /// Rows in the file.
    pub rows: usize,
    /// Rows that became examples.
    pub used: usize,
    /// Of them, those that lost their end.
    pub cut: usize,
    /// Rows without a trained token.
    pub untrained: usize,
    /// Rows that could not be read.
    pub broken: usize,
    /// The first of these, with file and line.
    pub first_broken: Vec<String>,
    /// Tokens of all examples.
    pub tokens: u64,
    /// Tokens that count in the loss.
    pub trained_tokens: u64,
}

impl Encoding {
    /// A row's tokens; the mask and the meaning of its text change where [`TrainingRow::spans`] says.
    pub fn encode(&self, tokenizer: &Tokenizer, row: &TrainingRow) -> Result<Example> {
        let mut example = Example { ids: Vec::new(), trained: Vec::new() };
        let mut after_special = false;
        for (index, span) in row.spans(self.template, self.masking).into_iter().enumerate() {
            let start =
                EncodeOptions { special: span.special, segment_prefix: self.segment_prefix, ..EncodeOptions::START };
            let prefix = after_special && self.segment_prefix == SegmentPrefix::Every;
            let options = if index == 0 { start } else { EncodeOptions { bos: false, space_prefix: prefix, ..start } };
            let ids = tokenizer.encode(&span.text, options)?;
            after_special = span.special && span.text.ends_with(['>', ']']);
            example.trained.extend(std::iter::repeat_n(span.trained, ids.len()));
            example.ids.extend(ids);
        }
        example.ids.push(self.end);
        example.trained.push(row.end_trained());
        // The first token is predicted from nothing.
        example.trained[0] = false;
        Ok(example)
    }

    /// All rows of a file. Rows that cannot be used are counted and named, never silently left out; a file without a usable row is an error.
    pub fn encode_file(&self, tokenizer: &Tokenizer, path: &Path) -> Result<(Vec<Example>, Census, String)> {
        let file = TrainingFile::open(path)?;
        if let Some(error) = file.broken() {
            return Err(error);
        }
        let (mut examples, mut census) = (Vec::new(), Census { rows: file.len(), ..Census::default() });
        for row in file.iter() {
            let row = match row {
                Ok(row) => row,
                Err(error) => {
                    census.broken += 1;
                    if census.first_broken.len() < 5 {
                        census.first_broken.push(error.to_string());
                    }
                    continue;
                }
            };
            let mut example = self.encode(tokenizer, &row)?;
            if example.ids.len() > self.max_length {
                census.cut += 1;
                example.ids.truncate(self.max_length);
                example.trained.truncate(self.max_length);
            }
            let trained = example.trained.iter().filter(|&&trained| trained).count();
            if trained == 0 {
                census.untrained += 1;
                continue;
            }
            census.tokens += example.ids.len() as u64;
            census.trained_tokens += trained as u64;
            examples.push(example);
        }
        census.used = examples.len();
        if examples.is_empty() {
            let reason = census.first_broken.first().map_or("no row has a trained token".to_owned(), Clone::clone);
            return Err(Error::input(
                file.name(),
                "rows",
                format!("none of {} can be trained on: {reason}", census.rows),
            ));
        }
        Ok((examples, census, file.sha256().to_owned()))
    }
}

/// The vocabulary that training adds to a base.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTokens {
    /// Texts with their ids, ascending by id: those whose rows are trained.
    pub added: Vec<(String, u32)>,
    /// What fills short rows.
    pub pad: u32,
}

impl NewTokens {
    /// Adds the fifteen reflection tokens in Self-RAG's order and `<pad>` (generator), or `<pad>` alone (critic), as far as they are missing.
    ///
    /// A base that has them already has their rows trained further.
    pub fn add(tokenizer: &mut Tokenizer, template: Template) -> Self {
        let mut names = match template {
            Template::Generator => crate::tokenizer::reflection::NAMES.to_vec(),
            Template::Critic => Vec::new(),
        };
        names.push("<pad>");
        let ids = tokenizer.add_special(&names);
        let pad = ids[ids.len() - 1];
        let mut added: Vec<(String, u32)> = names.into_iter().map(str::to_owned).zip(ids).collect();
        added.sort_by_key(|(_, id)| *id);
        Self { added, pad }
    }

    /// The ids.
    pub fn rows(&self) -> Vec<u32> {
        self.added.iter().map(|(_, id)| *id).collect()
    }
}
