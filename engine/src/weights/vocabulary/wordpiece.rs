//! WordPiece: vocab.txt, and GGUF's way to write its tokens.

use super::{TokenType, Vocabulary};
use crate::{Error, Result, weights::Value};

/// A token on each line; the line's number is its id.
pub(super) fn from_list(file: &str, text: &str) -> Result<Vocabulary> {
    let mut vocabulary = Vocabulary { model: "bert", ..Vocabulary::default() };
    for (id, token) in text.lines().enumerate() {
        let special = matches!(token, "[PAD]" | "[UNK]" | "[CLS]" | "[SEP]" | "[MASK]");
        vocabulary.set(file, id as u64, token, if special { TokenType::Control } else { TokenType::Normal })?;
    }
    for token in ["[UNK]", "[CLS]", "[SEP]"] {
        vocabulary.id_of(token).ok_or_else(|| Error::input(file, token, "missing from the vocabulary"))?;
    }
    let ids = [
        ("tokenizer.ggml.unknown_token_id", "[UNK]"),
        ("tokenizer.ggml.bos_token_id", "[CLS]"),
        ("tokenizer.ggml.cls_token_id", "[CLS]"),
        ("tokenizer.ggml.eos_token_id", "[SEP]"),
        ("tokenizer.ggml.seperator_token_id", "[SEP]"),
        ("tokenizer.ggml.padding_token_id", "[PAD]"),
        ("tokenizer.ggml.mask_token_id", "[MASK]"),
    ];
    for (key, token) in ids {
        if let Some(id) = vocabulary.id_of(token) {
            vocabulary.extra.insert(key.into(), Value::U64(id));
        }
    }
    Ok(vocabulary)
}

/// GGUF marks the start of a word (`▁word`) where WordPiece marks its continuation (`##ing`); control tokens stay as they are.
pub(super) fn mark_word_starts(vocabulary: &mut Vocabulary) {
    for (text, token_type) in vocabulary.tokens.iter_mut().flatten() {
        if *token_type != TokenType::Control {
            *text = match text.strip_prefix("##") {
                Some(rest) => rest.to_owned(),
                None => format!("\u{2581}{text}"),
            };
        }
    }
}
