//! The normal form that every source of a vocabulary is read into.

use tokenizers::{NormalizerWrapper, PreTokenizerWrapper, models::bpe::Merges};

use super::reflection::NAMES;
use crate::{Error, Result};

/// Most tokens of a vocabulary; the largest in use have 260,000.
pub(super) const MAX_TOKENS: usize = 1 << 22;

/// How text becomes tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// BPE over characters, `▁` for the space, byte tokens `<0x0A>` for characters without a token.
    SentencePiece,
    /// BPE over bytes, each written as a printable character.
    ByteLevel,
    /// Longest match from the left in lower-cased words, `##` before continuations.
    WordPiece,
}

/// What a token is; the numbers are SentencePiece's and GGUF's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenType {
    Normal = 1,
    Unknown = 2,
    Control = 3,
    UserDefined = 4,
    Unused = 5,
    Byte = 6,
}

impl TokenType {
    /// From the number in a file.
    pub(super) fn from_number(number: u64) -> Option<Self> {
        [Self::Normal, Self::Unknown, Self::Control, Self::UserDefined, Self::Unused, Self::Byte]
            .into_iter()
            .find(|token_type| *token_type as u64 == number)
    }

    /// Whether the model that splits text may produce it: special tokens are given as ids only.
    pub(super) fn is_spellable(self) -> bool {
        matches!(self, Self::Normal | Self::Unknown | Self::Byte)
    }
}

/// When a space goes in front of a text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum SpacePrefix {
    #[default]
    Never,
    Always,
    /// Unless the text begins with one.
    IfMissing,
}

impl SpacePrefix {
    pub(super) fn applies_to(self, text: &str) -> bool {
        match self {
            Self::Never => false,
            Self::Always => true,
            Self::IfMissing => !text.starts_with(' '),
        }
    }
}

/// A vocabulary, whatever the file it came from.
#[derive(Debug, Clone)]
pub(super) struct Vocabulary {
    pub(super) kind: Kind,
    /// Text by id; empty where no token has the id.
    pub(super) tokens: Vec<String>,
    /// As many as tokens.
    pub(super) types: Vec<TokenType>,
    /// In order of rank; the parts and their union are tokens.
    pub(super) merges: Merges,
    pub(super) normalizer: Option<NormalizerWrapper>,
    pub(super) pre_tokenizer: Option<PreTokenizerWrapper>,
    /// A pre-token that is in the vocabulary is taken whole (Llama 3).
    pub(super) ignore_merges: bool,
    pub(super) space_prefix: SpacePrefix,
    pub(super) unknown: Option<u32>,
    pub(super) bos: Option<u32>,
    pub(super) eos: Option<u32>,
    /// Tokens that end an answer.
    pub(super) stops: Vec<u32>,
    pub(super) add_bos: bool,
    pub(super) add_eos: bool,
}

impl Vocabulary {
    pub(super) fn new(kind: Kind) -> Self {
        Self {
            kind,
            tokens: Vec::new(),
            types: Vec::new(),
            merges: Merges::new(),
            normalizer: None,
            pre_tokenizer: None,
            ignore_merges: false,
            space_prefix: SpacePrefix::Never,
            unknown: None,
            bos: None,
            eos: None,
            stops: Vec::new(),
            add_bos: false,
            add_eos: false,
        }
    }

    /// Sets the token of an id. `n_entries` is how many the file lists: ids far beyond it are refused before memory is reserved.
    pub(super) fn set(
        &mut self,
        file: &str,
        id: u64,
        token: &str,
        token_type: TokenType,
        n_entries: usize,
    ) -> Result<()> {
        let limit = MAX_TOKENS.min(2 * n_entries + 1024);
        let index = usize::try_from(id).ok().filter(|&index| index < limit);
        let place = || format!("token {token:?}");
        let index = index.ok_or_else(|| Error::input(file, place(), format!("id {id}, ids under {limit} expected")))?;
        if index >= self.tokens.len() {
            self.tokens.resize(index + 1, String::new());
            self.types.resize(index + 1, TokenType::Unused);
        }
        token.clone_into(&mut self.tokens[index]);
        self.types[index] = token_type;
        Ok(())
    }

    /// Reflection tokens are special whatever a file calls them: no text may spell one.
    pub(super) fn forbid_reflection_text(&mut self) {
        for (token, token_type) in self.tokens.iter().zip(&mut self.types) {
            if NAMES.contains(&token.as_str()) {
                *token_type = TokenType::Control;
            }
        }
    }

    /// The id of a token by its text.
    pub(super) fn find(&self, text: &str) -> Option<u32> {
        self.tokens.iter().position(|token| token == text).map(|id| id as u32)
    }

    /// The end token by name, for sources that do not say.
    pub(super) fn guess_eos(&self) -> Option<u32> {
        ["</s>", "<|im_end|>", "<|eot_id|>", "<|endoftext|>", "[SEP]"].iter().find_map(|name| self.find(name))
    }

    /// Adds the end token to the stop tokens.
    pub(super) fn stop_at(&mut self, token: Option<u32>) {
        if let Some(id) = token.filter(|id| !self.stops.contains(id)) {
            self.stops.push(id);
        }
    }
}
