//! A vocabulary as tokenizer.json of Hugging Face's `tokenizers`, for Llama's two kinds.

use serde_json::{Value as Json, json};

use super::{
    Tokenizer, gguf,
    vocabulary::{Kind, SpacePrefix, TokenType, Vocabulary},
};
use crate::{
    Error, Result,
    weights::{Metadata, MetadataExt},
};

/// The tokenizer.json of the vocabulary in a model's metadata: its own with the special tokens that it lacks, or one that is made of the
/// vocabulary. `file` is for messages.
pub fn tokenizer_json(file: &str, metadata: &Metadata) -> Result<Json> {
    let vocabulary = gguf::read(file, metadata)?;
    let Some(text) = metadata.get_text(file, "tokenizer.huggingface.json")? else {
        return from_scratch(file, &vocabulary);
    };
    let bad = |problem: String| Error::input(file, "tokenizer.huggingface.json", problem);
    let known = Tokenizer::from_json(file, text.as_bytes())?;
    let mut json: Json = serde_json::from_str(text).map_err(|e| bad(e.to_string()))?;
    if json["added_tokens"].is_null() {
        json["added_tokens"] = json!([]);
    }
    let added = json["added_tokens"].as_array_mut().ok_or_else(|| bad("added_tokens: a list expected".into()))?;
    for (id, text, special) in given_as_ids(&vocabulary).filter(|(id, ..)| known.token(*id as u32).is_none()) {
        added.push(added_token(id, text, special));
    }
    Ok(json)
}

/// Tokens that are given as ids, never spelled: id, text, whether it is a control token.
fn given_as_ids(vocabulary: &Vocabulary) -> impl Iterator<Item = (usize, &str, bool)> {
    let tokens = vocabulary.tokens.iter().zip(&vocabulary.types).enumerate();
    tokens.filter_map(|(id, (text, token_type))| match token_type {
        _ if text.is_empty() => None,
        TokenType::Control => Some((id, text.as_str(), true)),
        TokenType::UserDefined => Some((id, text.as_str(), false)),
        _ => None,
    })
}

/// What this engine keeps apart from the library's pipeline goes back into it: special tokens, the space in front of a text, BOS and EOS.
fn from_scratch(file: &str, vocabulary: &Vocabulary) -> Result<Json> {
    let bad = |problem: String| Error::input(file, "tokenizer", problem);
    let is_sentencepiece = vocabulary.kind == Kind::SentencePiece;
    if !is_sentencepiece && vocabulary.kind != Kind::ByteLevel {
        return Err(bad("tokenizer.json is written for the two kinds of BPE only".into()));
    }
    let part = |part: serde_json::Result<Json>| part.map_err(|e| bad(e.to_string()));
    let mut normalizer = part(serde_json::to_value(&vocabulary.normalizer))?;
    let mut pre_tokenizer = part(serde_json::to_value(&vocabulary.pre_tokenizer))?;
    match (vocabulary.space_prefix, is_sentencepiece) {
        (SpacePrefix::Never, _) => {}
        (SpacePrefix::Always, true) => {
            let prepend = json!({"type": "Prepend", "prepend": "\u{2581}"});
            normalizer = json!({"type": "Sequence", "normalizers": [prepend, normalizer]});
        }
        (SpacePrefix::IfMissing, true) => {
            normalizer = Json::Null;
            pre_tokenizer = json!({
                "type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": "first", "split": false,
            });
        }
        (_, false) => set_prefix(&mut pre_tokenizer),
    }
    let decoder = if is_sentencepiece {
        let strip = usize::from(vocabulary.space_prefix != SpacePrefix::Never);
        json!({"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "\u{2581}"}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": strip, "stop": 0},
        ]})
    } else {
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true})
    };
    // Special tokens are in the model's own list too, or the library would number them itself. Reversed: the first of equal tokens stays.
    let entries = vocabulary.tokens.iter().zip(&vocabulary.types).enumerate().rev();
    let entries = entries.filter(|(_, (text, token_type))| **token_type != TokenType::Unused && !text.is_empty());
    let vocab: serde_json::Map<String, Json> = entries.map(|(id, (text, _))| (text.clone(), id.into())).collect();
    let unknown = vocabulary.unknown.filter(|_| is_sentencepiece).map(|id| &vocabulary.tokens[id as usize]);
    let merges: Vec<Json> =
        super::model::spellable_merges(vocabulary).into_iter().map(|(left, right)| json!([left, right])).collect();
    let added = given_as_ids(vocabulary).map(|(id, text, special)| added_token(id, text, special));
    Ok(json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added.collect::<Vec<_>>(),
        "normalizer": normalizer, "pre_tokenizer": pre_tokenizer, "post_processor": template(vocabulary), "decoder": decoder,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": unknown, "continuing_subword_prefix": null, "end_of_word_suffix": null,
            "fuse_unk": is_sentencepiece, "byte_fallback": is_sentencepiece, "ignore_merges": vocabulary.ignore_merges,
            "vocab": vocab, "merges": merges,
        },
    }))
}

/// Puts BOS and EOS where the vocabulary wants them.
fn template(vocabulary: &Vocabulary) -> Json {
    let bos = vocabulary.bos.filter(|_| vocabulary.add_bos);
    let eos = vocabulary.eos.filter(|_| vocabulary.add_eos);
    if bos.is_none() && eos.is_none() {
        return Json::Null;
    }
    let text = |id: u32| &vocabulary.tokens[id as usize];
    let special = |id: &u32| json!({"SpecialToken": {"id": text(*id), "type_id": 0}});
    let around = |sequences: &[&str]| -> Vec<Json> {
        let each = sequences.iter().map(|name| json!({"Sequence": {"id": name, "type_id": 0}}));
        bos.iter().map(special).chain(each).chain(eos.iter().map(special)).collect()
    };
    let entry = |id: u32| (text(id).clone(), json!({"id": text(id), "ids": [id], "tokens": [text(id)]}));
    let named: serde_json::Map<String, Json> = [bos, eos].into_iter().flatten().map(entry).collect();
    json!({"type": "TemplateProcessing", "single": around(&["A"]), "pair": around(&["A", "B"]), "special_tokens": named})
}

/// An entry of `added_tokens`.
pub(crate) fn added_token(id: usize, text: &str, special: bool) -> Json {
    json!({
        "id": id, "content": text, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": special,
    })
}

/// ByteLevel's own switch for the space in front.
fn set_prefix(pre_tokenizer: &mut Json) {
    match pre_tokenizer["type"].as_str() {
        Some("ByteLevel") => pre_tokenizer["add_prefix_space"] = json!(true),
        Some("Sequence") => pre_tokenizer["pretokenizers"].as_array_mut().into_iter().flatten().for_each(set_prefix),
        _ => {}
    }
}
