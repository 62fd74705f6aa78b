//! Text → token ids → text, for SentencePiece BPE (Llama), byte-level BPE (SmolLM, Llama 3) and WordPiece (BERT).
//!
//! ```text
//! GGUF metadata ┐
//! tokenizer.json├→ Vocabulary (one normal form) → `tokenizers` crate: normalizer, pre-tokenizer, merges → ids
//! tokenizer.model┘
//! ```
//!
//! The crate never sees special tokens. They are kept here, as ids, and text that a user or a web page wrote can not spell one:
//! `[Relevant]` in a passage becomes `[`, `Re`, `levant`, `]`. Only [`EncodeOptions::special`] (training data, our own files)
//! looks for them in text. Departure from the `tokenizers` crate: user-defined tokens too are split off only then.

mod gguf;
mod json;
mod merges;
mod model;
pub mod reflection;
mod sentencepiece;
mod stream;
mod vocabulary;
#[cfg(feature = "cli")]
mod write;

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

#[cfg(feature = "training")]
pub(crate) use self::write::added_token;
#[cfg(feature = "cli")]
pub use self::write::tokenizer_json;
pub use self::{reflection::ReflectionTokens, stream::DecodeStream};
use self::{
    stream::TokenBytes,
    vocabulary::{SpacePrefix, TokenType, Vocabulary},
};
use crate::{Error, Result, weights::Metadata};

/// Whether text that follows a special token gets a space in front, as text at the very start does (SentencePiece vocabularies only).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SegmentPrefix {
    /// No: the slow Llama tokenizer with `legacy=false`, which Self-RAG was trained with.
    #[default]
    None,
    /// Yes: the fast tokenizer of transformers 4.36, which vLLM used for the published runs.
    Every,
}

/// How to encode a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EncodeOptions {
    /// Begin with the BOS token if the vocabulary asks for it.
    pub bos: bool,
    /// End with the EOS token if the vocabulary asks for it.
    pub eos: bool,
    /// Put a space in front if the vocabulary asks for it; off for text that continues after a special token.
    pub space_prefix: bool,
    /// Look for special tokens in the text. Only for trusted text.
    pub special: bool,
    /// The space in front of text after a special token, where `special` is on.
    pub segment_prefix: SegmentPrefix,
}

impl EncodeOptions {
    /// The start of a sequence: untrusted text after BOS.
    pub const START: Self =
        Self { bos: true, eos: false, space_prefix: true, special: false, segment_prefix: SegmentPrefix::None };
    /// Untrusted text after a special token.
    pub const CONTINUE: Self = Self { bos: false, space_prefix: false, ..Self::START };
    /// A whole BERT input, `[CLS]` … `[SEP]`.
    pub const WHOLE: Self = Self { eos: true, ..Self::START };
    /// Trusted text, special tokens spelled out.
    pub const TRUSTED: Self = Self { special: true, ..Self::START };
}

/// A vocabulary with its rules.
pub struct Tokenizer {
    model: tokenizers::Tokenizer,
    /// Text by id; empty where no token has the id.
    tokens: Vec<String>,
    types: Vec<TokenType>,
    ids: HashMap<String, u32>,
    /// The ids of special tokens, ascending: text is searched for each of them.
    special: Vec<u32>,
    bytes: TokenBytes,
    space_prefix: SpacePrefix,
    bos: Option<u32>,
    eos: Option<u32>,
    stops: Vec<u32>,
    add_bos: bool,
    add_eos: bool,
}

impl Tokenizer {
    /// From the vocabulary in a model's metadata (`tokenizer.ggml.*`, `tokenizer.huggingface.json`); `file` is for messages.
    pub fn from_metadata(file: &str, metadata: &Metadata) -> Result<Self> {
        Self::build(file, gguf::read(file, metadata)?)
    }

    /// From the bytes of a tokenizer.json.
    pub fn from_json(file: &str, bytes: &[u8]) -> Result<Self> {
        Self::build(file, json::read(file, bytes)?)
    }

    /// From the bytes of a SentencePiece tokenizer.model (BPE kind).
    pub fn from_sentencepiece(file: &str, bytes: &[u8]) -> Result<Self> {
        Self::build(file, sentencepiece::read(file, bytes)?)
    }

    fn build(file: &str, vocabulary: Vocabulary) -> Result<Self> {
        let mut vocabulary = vocabulary;
        vocabulary.forbid_reflection_text();
        let model = model::build(file, &vocabulary)?;
        let mut ids = HashMap::with_capacity(vocabulary.tokens.len());
        for (id, token) in vocabulary.tokens.iter().enumerate().filter(|(_, token)| !token.is_empty()) {
            // The first of several equal tokens counts, as in llama.cpp.
            ids.entry(token.clone()).or_insert(id as u32);
        }
        let is_special =
            |id: &u32| matches!(vocabulary.types[*id as usize], TokenType::Control | TokenType::UserDefined);
        let special = (0..vocabulary.tokens.len() as u32).filter(is_special).collect();
        Ok(Self {
            model,
            ids,
            special,
            bytes: TokenBytes::new(vocabulary.kind),
            space_prefix: vocabulary.space_prefix,
            bos: vocabulary.bos,
            eos: vocabulary.eos,
            stops: vocabulary.stops,
            add_bos: vocabulary.add_bos,
            add_eos: vocabulary.add_eos,
            tokens: vocabulary.tokens,
            types: vocabulary.types,
        })
    }

    /// The ids of a text.
    pub fn encode(&self, text: &str, options: EncodeOptions) -> Result<Vec<u32>> {
        let mut ids = Vec::new();
        if options.bos && self.add_bos {
            ids.extend(self.bos);
        }
        let (mut rest, mut prefix) = (text, options.space_prefix);
        if options.special {
            while let Some((start, id)) = self.find_special(rest) {
                self.encode_stretch(&rest[..start], prefix, &mut ids)?;
                ids.push(id);
                rest = &rest[start + self.tokens[id as usize].len()..];
                prefix = options.segment_prefix == SegmentPrefix::Every;
            }
        }
        self.encode_stretch(rest, prefix, &mut ids)?;
        if options.eos && self.add_eos {
            ids.extend(self.eos);
        }
        Ok(ids)
    }

    /// Text without special tokens.
    fn encode_stretch(&self, text: &str, prefix: bool, ids: &mut Vec<u32>) -> Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        let prefixed = prefix && self.space_prefix.applies_to(text);
        let encoding = if prefixed {
            self.model.encode_fast(format!(" {text}"), false)
        } else {
            self.model.encode_fast(text, false)
        };
        let encoding = encoding.map_err(|e| Error::input("tokenizer", "encode", e.to_string()))?;
        ids.extend_from_slice(encoding.get_ids());
        Ok(())
    }

    /// The leftmost special token in `text`, the longest of those that start there: byte offset and id.
    fn find_special(&self, text: &str) -> Option<(usize, u32)> {
        let starts = |&id: &u32| Some((text.find(self.tokens[id as usize].as_str())?, id));
        let found = self.special.iter().filter(|&&id| !self.tokens[id as usize].is_empty()).filter_map(starts);
        found.min_by_key(|&(start, id)| (start, std::cmp::Reverse(self.tokens[id as usize].len())))
    }

    /// The text of a whole sequence, special tokens left out; bytes that are no UTF-8 become U+FFFD.
    pub fn decode(&self, ids: &[u32]) -> String {
        let mut stream = DecodeStream::default();
        let mut text: String = ids.iter().map(|&id| stream.push(self, id)).collect();
        text.push_str(&stream.finish());
        text
    }

    /// A token's bytes, none for special tokens and unknown ids.
    pub(crate) fn token_bytes(&self, id: u32) -> Option<Vec<u8>> {
        let index = id as usize;
        let text = self.tokens.get(index)?;
        match self.types[index] {
            TokenType::Control | TokenType::Unknown | TokenType::Unused => None,
            token_type => Some(self.bytes.of(text, token_type)),
        }
    }

    /// Whether a decoded text loses the space that encoding puts in front.
    pub(crate) fn strips_first_space(&self) -> bool {
        self.space_prefix != SpacePrefix::Never || self.bytes.is_word_piece()
    }

    /// The id of a token by its exact text in the vocabulary.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.ids.get(token).copied()
    }

    /// A token's text in the vocabulary.
    pub fn token(&self, id: u32) -> Option<&str> {
        self.tokens.get(id as usize).map(String::as_str).filter(|token| !token.is_empty())
    }

    /// The beginning-of-sequence token.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// The end-of-sequence token.
    pub fn eos(&self) -> Option<u32> {
        self.eos
    }

    /// Tokens that end an answer.
    pub fn stop_tokens(&self) -> &[u32] {
        &self.stops
    }

    /// Number of ids, gaps included: the rows an embedding needs.
    pub fn vocab_size(&self) -> usize {
        self.tokens.len()
    }

    /// Whether a token is given as an id only, never spelled.
    pub fn is_special(&self, id: u32) -> bool {
        self.special.binary_search(&id).is_ok()
    }

    /// Appends special tokens that the vocabulary lacks; known ones become special. Returns their ids.
    pub fn add_special(&mut self, tokens: &[&str]) -> Vec<u32> {
        let mut add = |token: &&str| match self.id(token) {
            Some(id) => self.make_special(id),
            None => self.append(token),
        };
        tokens.iter().map(&mut add).collect()
    }

    fn append(&mut self, token: &str) -> u32 {
        let id = self.tokens.len() as u32;
        self.tokens.push(token.to_owned());
        self.types.push(TokenType::Control);
        self.special.push(id);
        self.ids.insert(token.to_owned(), id);
        id
    }

    fn make_special(&mut self, id: u32) -> u32 {
        self.types[id as usize] = TokenType::Control;
        if let Err(at) = self.special.binary_search(&id) {
            self.special.insert(at, id);
        }
        id
    }
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut debug = f.debug_struct("Tokenizer");
        debug.field("vocab_size", &self.vocab_size()).field("bos", &self.bos).field("eos", &self.eos);
        debug.finish_non_exhaustive()
    }
}
