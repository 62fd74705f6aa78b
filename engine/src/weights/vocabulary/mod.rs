//! A folder's tokenizer files as GGUF metadata (`tokenizer.ggml.*`), so that llama.cpp and this engine find the vocabulary in the model.
//!
//! | files | `tokenizer.ggml.model` |
//! | --- | --- |
//! | tokenizer.json, BPE over bytes | `gpt2` with merges |
//! | tokenizer.json, BPE with byte fallback; or tokenizer.model (SentencePiece) | `llama` with scores |
//! | tokenizer.json or vocab.txt, WordPiece | `bert` |
//!
//! A tokenizer.json is also kept whole under `tokenizer.huggingface.json`.

mod json;
mod sentencepiece;
mod special;
mod wordpiece;

use std::path::Path;

use super::{Metadata, Value, folder};
use crate::{Error, Result, order::sort_by};

/// Most tokens of a vocabulary; the largest in use have 260,000.
const MAX_TOKENS: usize = 1 << 22;

/// What a token is, with GGUF's (and SentencePiece's) numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenType {
    Normal = 1,
    Unknown = 2,
    Control = 3,
    UserDefined = 4,
    Unused = 5,
    Byte = 6,
}

/// A vocabulary on its way into metadata.
#[derive(Debug, Default)]
struct Vocabulary {
    /// `gpt2`, `llama` or `bert`.
    model: &'static str,
    /// Text and type by id; none where no token has the id.
    tokens: Vec<Option<(String, TokenType)>>,
    /// Scores by id, for `llama`.
    scores: Vec<f32>,
    /// Merges in order of rank, for `gpt2`.
    merges: Vec<String>,
    /// Further keys: pre-tokenizer, space prefix, ids.
    extra: Metadata,
}

impl Vocabulary {
    /// Sets the token of an id, growing the list.
    fn set(&mut self, file: &str, id: u64, text: &str, token_type: TokenType) -> Result<()> {
        let id = usize::try_from(id).ok().filter(|&id| id < MAX_TOKENS);
        let id = id.ok_or_else(|| Error::input(file, text, format!("token ids under {MAX_TOKENS} expected")))?;
        if id >= self.tokens.len() {
            self.tokens.resize(id + 1, None);
        }
        self.tokens[id] = Some((text.to_owned(), token_type));
        Ok(())
    }

    fn id_of(&self, text: &str) -> Option<u64> {
        self.tokens.iter().position(|token| token.as_ref().is_some_and(|(t, _)| t == text)).map(|id| id as u64)
    }

    fn into_metadata(self) -> Metadata {
        let mut metadata = self.extra;
        let n_tokens = self.tokens.len();
        let mut texts = Vec::with_capacity(n_tokens);
        let mut types = Vec::with_capacity(n_tokens);
        for (id, token) in self.tokens.into_iter().enumerate() {
            let (text, token_type) = token.unwrap_or_else(|| unused(id));
            texts.push(Value::Text(text));
            types.push(Value::I64(token_type as i64));
        }
        metadata.insert("tokenizer.ggml.model".into(), self.model.into());
        metadata.insert("tokenizer.ggml.tokens".into(), Value::Array(texts));
        metadata.insert("tokenizer.ggml.token_type".into(), Value::Array(types));
        if self.model == "llama" {
            let mut scores = self.scores;
            // A token without a score is never made by merging.
            scores.resize(n_tokens, -1e6);
            let scores = scores.into_iter().map(|score| Value::F64(score.into())).collect();
            metadata.insert("tokenizer.ggml.scores".into(), Value::Array(scores));
        }
        if self.model == "gpt2" {
            let merges = self.merges.into_iter().map(Value::Text).collect();
            metadata.insert("tokenizer.ggml.merges".into(), Value::Array(merges));
        }
        metadata
    }
}

/// The placeholder of an id that no token has.
fn unused(id: usize) -> (String, TokenType) {
    (format!("[PAD{id}]"), TokenType::Unused)
}

/// The `tokenizer.*` metadata of a folder; none when it has no tokenizer file.
pub(crate) fn read_folder(folder: &Path) -> Result<Option<Metadata>> {
    let json_text = folder::read_text(folder, "tokenizer.json")?;
    let mut vocabulary = if let Some(text) = &json_text {
        json::read(&folder.join("tokenizer.json").display().to_string(), text)?
    } else if let Some(bytes) = folder::read_bytes(folder, "tokenizer.model")? {
        sentencepiece::read(&folder.join("tokenizer.model").display().to_string(), &bytes)?
    } else if let Some(text) = folder::read_text(folder, "vocab.txt")? {
        wordpiece::from_list(&folder.join("vocab.txt").display().to_string(), &text)?
    } else {
        return Ok(None);
    };
    special::read(folder, &mut vocabulary)?;
    if vocabulary.model == "bert" {
        wordpiece::mark_word_starts(&mut vocabulary);
    }
    let mut metadata = vocabulary.into_metadata();
    if let Some(text) = json_text {
        metadata.insert("tokenizer.huggingface.json".into(), Value::Text(text));
    }
    Ok(Some(metadata))
}

/// Adds the tokens of a folder's added_tokens.json, as control tokens, to a vocabulary in metadata. Ids must follow on those that are there.
pub(crate) fn add_tokens(folder: &Path, metadata: &mut Metadata) -> Result<()> {
    let Some(added) = folder::read_json(folder, "added_tokens.json")? else { return Ok(()) };
    let file = folder.join("added_tokens.json").display().to_string();
    let added = added.as_object().ok_or_else(|| Error::input(&file, "JSON", "an object expected"))?;
    let mut added: Vec<(u64, &String)> = added
        .iter()
        .map(|(text, id)| Some((id.as_u64()?, text)))
        .collect::<Option<_>>()
        .ok_or_else(|| Error::input(&file, "JSON", "a whole number for each token expected"))?;
    sort_by(&mut added, Ord::cmp);
    for (id, text) in added {
        let Some(Value::Array(tokens)) = metadata.get_mut("tokenizer.ggml.tokens") else { return Ok(()) };
        match tokens.get(id as usize) {
            Some(Value::Text(known)) if known == text => {}
            None if id == tokens.len() as u64 => tokens.push(Value::Text(text.clone())),
            Some(known) => return Err(Error::input(&file, text, format!("id {id} is already {known:?}"))),
            None => return Err(Error::input(&file, text, format!("id {id}, {} expected next", tokens.len()))),
        }
        let mut set = |key: &str, value: Value| {
            if let Some(Value::Array(values)) = metadata.get_mut(key)
                && id as usize == values.len()
            {
                values.push(value);
            }
        };
        set("tokenizer.ggml.token_type", Value::I64(TokenType::Control as i64));
        // Never made by merging.
        set("tokenizer.ggml.scores", Value::F64(-1e6));
    }
    Ok(())
}

/// Makes the vocabulary as long as the embedding: llama.cpp expects a token for every row.
pub(crate) fn pad_to_rows(file: &str, metadata: &mut Metadata, n_rows: usize) -> Result<()> {
    let Some(Value::Array(tokens)) = metadata.get_mut("tokenizer.ggml.tokens") else { return Ok(()) };
    let n_tokens = tokens.len();
    if n_tokens > n_rows {
        let problem = format!("{n_tokens} tokens, but the embedding has only {n_rows} rows");
        return Err(Error::input(file, "tokenizer.ggml.tokens", problem));
    }
    tokens.extend((n_tokens..n_rows).map(|id| Value::Text(unused(id).0)));
    let mut pad = |key: &str, value: Value| {
        if let Some(Value::Array(values)) = metadata.get_mut(key) {
            values.resize(n_rows, value);
        }
    };
    pad("tokenizer.ggml.token_type", Value::I64(TokenType::Unused as i64));
    pad("tokenizer.ggml.scores", Value::F64(-1e6));
    Ok(())
}
