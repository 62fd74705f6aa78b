//! The vocabulary in GGUF metadata.
//!
//! | `tokenizer.ggml.model` | kind | merges |
//! | --- | --- | --- |
//! | `llama` | SentencePiece | from `scores` |
//! | `gpt2` | byte-level BPE | `merges`, words cut as `pre` says |
//! | `bert` | WordPiece | none |
//!
//! `tokenizer.huggingface.json`, where present, is read instead: it says everything exactly. Ids by role come from the metadata
//! either way.

use super::{
    json, merges, model,
    vocabulary::{Kind, MAX_TOKENS, SpacePrefix, TokenType, Vocabulary},
};
use crate::{
    Error, Result,
    weights::{Metadata, Value},
};

pub(super) fn read(file: &str, metadata: &Metadata) -> Result<Vocabulary> {
    let reader = Reader { file, metadata };
    let mut vocabulary = match reader.text("huggingface.json") {
        Some(text) => {
            let mut vocabulary = json::read(&format!("{file}: tokenizer.huggingface.json"), text.as_bytes())?;
            reader.add_missing(&mut vocabulary)?;
            vocabulary
        }
        None => reader.vocabulary()?,
    };
    reader.roles(&mut vocabulary);
    Ok(vocabulary)
}

struct Reader<'a> {
    file: &'a str,
    metadata: &'a Metadata,
}

impl<'a> Reader<'a> {
    fn get(&self, key: &str) -> Option<&'a Value> {
        self.metadata.get(&format!("tokenizer.ggml.{key}"))
    }

    /// `tokenizer.{key}`.
    fn text(&self, key: &str) -> Option<&'a str> {
        match self.metadata.get(&format!("tokenizer.{key}")) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    fn array(&self, key: &str) -> &'a [Value] {
        match self.get(key) {
            Some(Value::Array(values)) => values,
            _ => &[],
        }
    }

    fn flag(&self, key: &str) -> Option<bool> {
        match self.get(key) {
            Some(Value::Bool(flag)) => Some(*flag),
            _ => None,
        }
    }

    fn bad(&self, key: &str, problem: impl Into<String>) -> Error {
        Error::input(self.file, format!("tokenizer.ggml.{key}"), problem)
    }

    fn token(&self, id: usize, value: &'a Value) -> Result<&'a str> {
        match value {
            Value::Text(text) => Ok(text),
            _ => Err(self.bad(&format!("tokens[{id}]"), "a string expected")),
        }
    }

    fn token_type(&self, id: usize) -> Result<TokenType> {
        let number = match self.array("token_type").get(id) {
            None => return Ok(TokenType::Normal),
            Some(value) => unsigned(value),
        };
        let token_type = number.and_then(TokenType::from_number);
        token_type.ok_or_else(|| self.bad(&format!("token_type[{id}]"), "a number from 1 to 6 expected"))
    }

    fn vocabulary(&self) -> Result<Vocabulary> {
        let kind = match self.text("ggml.model") {
            Some("llama") => Kind::SentencePiece,
            Some("gpt2") => Kind::ByteLevel,
            Some("bert") => Kind::WordPiece,
            Some(other) => return Err(self.bad("model", format!("{other:?} found; llama, gpt2 or bert expected"))),
            None => return Err(self.bad("model", "missing: the file has no vocabulary")),
        };
        let mut vocabulary = Vocabulary::new(kind);
        let tokens = self.array("tokens");
        if tokens.is_empty() || tokens.len() > MAX_TOKENS {
            return Err(self.bad("tokens", format!("{} tokens, 1 to {MAX_TOKENS} expected", tokens.len())));
        }
        for (id, value) in tokens.iter().enumerate() {
            vocabulary.tokens.push(self.token(id, value)?.to_owned());
            vocabulary.types.push(self.token_type(id)?);
        }
        match kind {
            Kind::SentencePiece => self.sentencepiece(&mut vocabulary)?,
            Kind::ByteLevel => self.byte_level(&mut vocabulary)?,
            Kind::WordPiece => self.word_piece(&mut vocabulary),
        }
        Ok(vocabulary)
    }

    fn sentencepiece(&self, vocabulary: &mut Vocabulary) -> Result<()> {
        let number = |(id, value): (usize, &Value)| match value {
            Value::F64(score) => Ok(*score as f32),
            _ => Err(self.bad(&format!("scores[{id}]"), "a number expected")),
        };
        let scores: Vec<f32> = self.array("scores").iter().enumerate().map(number).collect::<Result<_>>()?;
        if scores.len() != vocabulary.tokens.len() {
            let problem = format!("{} scores for {} tokens", scores.len(), vocabulary.tokens.len());
            return Err(self.bad("scores", problem));
        }
        vocabulary.merges = merges::from_scores(vocabulary, &scores);
        vocabulary.normalizer = Some(model::sentencepiece_normalizer());
        let prefix = self.flag("add_space_prefix").unwrap_or(true);
        vocabulary.space_prefix = if prefix { SpacePrefix::Always } else { SpacePrefix::Never };
        (vocabulary.add_bos, vocabulary.unknown) = (true, Some(0));
        (vocabulary.bos, vocabulary.eos) = (Some(1), Some(2));
        Ok(())
    }

    fn byte_level(&self, vocabulary: &mut Vocabulary) -> Result<()> {
        let pair = |(rank, value): (usize, &Value)| {
            let text = if let Value::Text(text) = value { text.as_str() } else { "" };
            // The space that separates can not be the first character: a part may not be empty.
            let cut = text.char_indices().skip(1).find(|&(_, c)| c == ' ').map(|(at, _)| at);
            let pair = cut.map(|at| (text[..at].to_owned(), text[at + 1..].to_owned()));
            pair.ok_or_else(|| self.bad(&format!("merges[{rank}]"), "two parts separated by a space expected"))
        };
        vocabulary.merges = self.array("merges").iter().enumerate().map(pair).collect::<Result<_>>()?;
        let pre = self.text("ggml.pre").unwrap_or("");
        vocabulary.pre_tokenizer = Some(model::pre_tokenizer(self.file, pre)?);
        vocabulary.ignore_merges = matches!(pre, "llama-bpe" | "llama3" | "llama-v3");
        let prefix = self.flag("add_space_prefix").unwrap_or(false);
        vocabulary.space_prefix = if prefix { SpacePrefix::IfMissing } else { SpacePrefix::Never };
        vocabulary.add_bos = vocabulary.ignore_merges;
        Ok(())
    }

    fn word_piece(&self, vocabulary: &mut Vocabulary) {
        let starting = |prefix: &str| vocabulary.tokens.iter().filter(|token| token.starts_with(prefix)).count();
        if starting("\u{2581}") > starting("##") {
            unmark_word_starts(vocabulary);
        }
        model::bert_pipeline(vocabulary);
        (vocabulary.add_bos, vocabulary.add_eos) = (true, true);
        vocabulary.unknown = vocabulary.find("[UNK]");
        (vocabulary.bos, vocabulary.eos) = (vocabulary.find("[CLS]"), vocabulary.find("[SEP]"));
        if let Some(id) = vocabulary.unknown {
            vocabulary.types[id as usize] = TokenType::Unknown;
        }
    }

    /// Tokens that the metadata has beyond the tokenizer.json: those an adapter added, and padding.
    fn add_missing(&self, vocabulary: &mut Vocabulary) -> Result<()> {
        let tokens = self.array("tokens");
        for (id, value) in tokens.iter().enumerate().skip(vocabulary.tokens.len()) {
            let token_type = match self.token_type(id)? {
                // The crate's merges do not know it: it can only be given as an id.
                TokenType::Normal => TokenType::UserDefined,
                other => other,
            };
            vocabulary.set(self.file, id as u64, self.token(id, value)?, token_type, tokens.len())?;
        }
        Ok(())
    }

    /// Ids by role and whether they are added; ids outside the vocabulary are ignored.
    fn roles(&self, vocabulary: &mut Vocabulary) {
        let n_tokens = vocabulary.tokens.len() as u64;
        let id = |key: &str| {
            let id = self.get(&format!("{key}_token_id")).and_then(unsigned);
            id.filter(|&id| id < n_tokens).map(|id| id as u32)
        };
        let known = |id: Option<u32>| id.filter(|&id| u64::from(id) < n_tokens);
        vocabulary.unknown = known(vocabulary.unknown.or_else(|| id("unknown")));
        vocabulary.bos = known(id("cls").or_else(|| id("bos")).or(vocabulary.bos));
        vocabulary.eos = known(id("eos").or_else(|| id("seperator")).or(vocabulary.eos));
        vocabulary.add_bos = self.flag("add_bos_token").unwrap_or(vocabulary.add_bos);
        vocabulary.add_eos = self.flag("add_eos_token").unwrap_or(vocabulary.add_eos);
        vocabulary.stops.clear();
        vocabulary.stop_at(vocabulary.eos);
        vocabulary.stop_at(id("eot"));
    }
}

/// llama.cpp's `▁word` and `ing` → WordPiece's `word` and `##ing`.
fn unmark_word_starts(vocabulary: &mut Vocabulary) {
    for (token, token_type) in vocabulary.tokens.iter_mut().zip(&vocabulary.types) {
        if matches!(token_type, TokenType::Normal | TokenType::Byte) && !token.is_empty() {
            *token = match token.strip_prefix('\u{2581}') {
                Some(word) => word.to_owned(),
                None => format!("##{token}"),
            };
        }
    }
}

fn unsigned(value: &Value) -> Option<u64> {
    match value {
        Value::U64(n) => Some(*n),
        Value::I64(n) => u64::try_from(*n).ok(),
        _ => None,
    }
}
