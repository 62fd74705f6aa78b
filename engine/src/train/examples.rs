//! All rows of a training file as tokens, and the vocabulary that training adds.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{
    Error, Result,
    data::{
        encode::{Encoding, Example},
        rows::{Template, TrainingFile},
    },
    tokenizer::Tokenizer,
};

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
