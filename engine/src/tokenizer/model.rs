//! Vocabulary → the `tokenizers` crate's pipeline, and the fixed pipelines that GGUF names by a word.

use std::collections::HashSet;

use tokenizers::tokenizer::SplitDelimiterBehavior;
use tokenizers::{
    Tokenizer,
    models::{
        bpe::{BpeBuilder, Merges, Vocab},
        wordpiece::WordPieceBuilder,
    },
    normalizers::{BertNormalizer, NormalizerWrapper, replace::Replace},
    pre_tokenizers::{
        PreTokenizerWrapper,
        bert::BertPreTokenizer,
        byte_level::ByteLevel,
        digits::Digits,
        sequence::Sequence,
        split::{Split, SplitPattern},
    },
};

use super::vocabulary::{Kind, Vocabulary};
use crate::{Error, Result};

/// Words of Llama 3: contractions, letters with one leading mark, up to three digits, marks, line breaks, spaces.
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// The same with single digits (Qwen 2).
const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The crate's tokenizer without any special token.
pub(super) fn build(file: &str, vocabulary: &Vocabulary) -> Result<Tokenizer> {
    let bad = |e: tokenizers::Error| Error::input(file, "vocabulary", e.to_string());
    let entries = vocabulary.tokens.iter().zip(&vocabulary.types).enumerate().rev();
    let spellable = entries.filter(|(_, (token, token_type))| token_type.is_spellable() && !token.is_empty());
    // Reversed, so that the first of several equal tokens stays.
    let vocab: Vocab = spellable.map(|(id, (token, _))| (token.clone(), id as u32)).collect();
    let unknown = vocabulary.unknown.and_then(|id| vocabulary.tokens.get(id as usize));
    let mut tokenizer = match vocabulary.kind {
        Kind::WordPiece => {
            let unknown = unknown.filter(|token| vocab.contains_key(*token));
            let unknown =
                unknown.ok_or_else(|| Error::input(file, "vocabulary", "WordPiece needs an unknown token"))?;
            Tokenizer::new(WordPieceBuilder::new().vocab(vocab).unk_token(unknown.clone()).build().map_err(bad)?)
        }
        kind => {
            let mut bpe = BpeBuilder::new().byte_fallback(kind == Kind::SentencePiece);
            if let Some(unknown) = unknown.filter(|token| kind == Kind::SentencePiece && vocab.contains_key(*token)) {
                bpe = bpe.unk_token(unknown.clone()).fuse_unk(true);
            }
            bpe = bpe.ignore_merges(vocabulary.ignore_merges);
            let merges = spellable_merges(vocabulary);
            Tokenizer::new(bpe.vocab_and_merges(vocab, merges).build().map_err(bad)?)
        }
    };
    tokenizer.with_normalizer(vocabulary.normalizer.clone());
    tokenizer.with_pre_tokenizer(vocabulary.pre_tokenizer.clone());
    Ok(tokenizer)
}

/// The merges that touch no special token; a merge of unknown tokens stays, for the crate to refuse.
pub(super) fn spellable_merges(vocabulary: &Vocabulary) -> Merges {
    let entries = vocabulary.tokens.iter().zip(&vocabulary.types);
    let special: HashSet<&str> =
        entries.filter(|(_, token_type)| !token_type.is_spellable()).map(|(token, _)| token.as_str()).collect();
    let spellable = |text: &str| !special.contains(text);
    let keep = |merge: &&(String, String)| {
        spellable(&merge.0) && spellable(&merge.1) && spellable(&format!("{}{}", merge.0, merge.1))
    };
    vocabulary.merges.iter().filter(keep).cloned().collect()
}

/// SentencePiece: spaces are written `▁`.
pub(super) fn sentencepiece_normalizer() -> NormalizerWrapper {
    Replace::new(" ", "\u{2581}").expect("a plain string is a valid pattern").into()
}

/// BERT, uncased: control characters out, Chinese characters apart, accents off, lower case.
pub(super) fn bert_pipeline(vocabulary: &mut Vocabulary) {
    vocabulary.normalizer = Some(BertNormalizer::new(true, true, None, true).into());
    vocabulary.pre_tokenizer = Some(BertPreTokenizer.into());
}

/// The pre-tokenizer that GGUF's `tokenizer.ggml.pre` names.
pub(super) fn pre_tokenizer(file: &str, name: &str) -> Result<PreTokenizerWrapper> {
    let gpt2 = ByteLevel::new(false, true, true);
    Ok(match name {
        "" | "default" | "gpt-2" => gpt2.into(),
        "smollm" | "starcoder" | "refact" | "command-r" => digits_then(gpt2),
        "llama-bpe" | "llama3" | "llama-v3" => split_then_bytes(LLAMA3),
        "qwen2" => split_then_bytes(QWEN2),
        other => {
            let problem = format!("{other:?} found; gpt-2, smollm, llama-bpe or qwen2 expected");
            return Err(Error::input(file, "tokenizer.ggml.pre", problem));
        }
    })
}

/// Each digit alone, the rest by GPT-2's pattern.
fn digits_then(gpt2: ByteLevel) -> PreTokenizerWrapper {
    Sequence::new(vec![Digits::new(true).into(), gpt2.into()]).into()
}

fn split_then_bytes(pattern: &str) -> PreTokenizerWrapper {
    let split = Split::new(SplitPattern::Regex(pattern.into()), SplitDelimiterBehavior::Isolated, false);
    let split = split.expect("the pattern is a constant that compiles");
    Sequence::new(vec![split.into(), ByteLevel::new(false, true, false).into()]).into()
}
