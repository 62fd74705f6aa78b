//! Which ids begin, end, pad and so on: from tokenizer_config.json, special_tokens_map.json, added_tokens.json and config.json.

use std::path::Path;

use serde_json::Value as Json;

use super::{TokenType, Vocabulary, folder};
use crate::{
    Error, Result,
    weights::{Value, vocabulary::MAX_TOKENS},
};

/// Hugging Face's name, and GGUF's keys for the id. BERT's `[CLS]` and `[SEP]` take the places of BOS and EOS in llama.cpp.
const ROLES: [(&str, &[&str]); 7] = [
    ("cls_token", &["tokenizer.ggml.cls_token_id", "tokenizer.ggml.bos_token_id"]),
    ("sep_token", &["tokenizer.ggml.seperator_token_id", "tokenizer.ggml.eos_token_id"]),
    ("bos_token", &["tokenizer.ggml.bos_token_id"]),
    ("eos_token", &["tokenizer.ggml.eos_token_id"]),
    ("unk_token", &["tokenizer.ggml.unknown_token_id"]),
    ("pad_token", &["tokenizer.ggml.padding_token_id"]),
    ("mask_token", &["tokenizer.ggml.mask_token_id"]),
];

pub(super) fn read(folder: &Path, vocabulary: &mut Vocabulary) -> Result<()> {
    if let Some(added) = folder::read_json(folder, "added_tokens.json")? {
        add_tokens(&folder.join("added_tokens.json").display().to_string(), &added, vocabulary)?;
    }
    let config = folder::read_json(folder, "config.json")?.unwrap_or(Json::Null);
    let map = folder::read_json(folder, "special_tokens_map.json")?.unwrap_or(Json::Null);
    let tokenizer = folder::read_json(folder, "tokenizer_config.json")?.unwrap_or(Json::Null);
    // Later files win: the model's configuration names ids, the tokenizer's own files name texts.
    for role in ["bos_token", "eos_token", "pad_token"] {
        let id = &config[format!("{role}_id")];
        let id = id.as_u64().or_else(|| id.as_array()?.first()?.as_u64());
        insert(vocabulary, role, id.filter(|&id| id < MAX_TOKENS as u64));
    }
    for (role, _) in ROLES {
        for file in [&map, &tokenizer] {
            let id = token_text(&file[role]).and_then(|text| vocabulary.id_of(text));
            insert(vocabulary, role, id);
        }
    }
    for (field, key) in
        [("add_bos_token", "tokenizer.ggml.add_bos_token"), ("add_eos_token", "tokenizer.ggml.add_eos_token")]
    {
        if let Some(add) = tokenizer[field].as_bool() {
            vocabulary.extra.insert(key.into(), Value::Bool(add));
        }
    }
    if let Some(template) = tokenizer["chat_template"].as_str() {
        vocabulary.extra.insert("tokenizer.chat_template".into(), template.into());
    }
    mark_additional(&map, vocabulary);
    Ok(())
}

fn insert(vocabulary: &mut Vocabulary, role: &str, id: Option<u64>) {
    let keys = ROLES.iter().find(|row| row.0 == role).map_or(&[] as &[&str], |row| row.1);
    if let Some(id) = id {
        keys.iter().for_each(|key| drop(vocabulary.extra.insert((*key).into(), Value::U64(id))));
    }
}

/// A special token is a text, or an object with its content.
fn token_text(token: &Json) -> Option<&str> {
    token.as_str().or_else(|| token["content"].as_str())
}

/// added_tokens.json: text → id, beyond the base vocabulary. Those already known keep their type.
fn add_tokens(file: &str, added: &Json, vocabulary: &mut Vocabulary) -> Result<()> {
    let added = added.as_object().ok_or_else(|| Error::input(file, "JSON", "an object expected"))?;
    for (text, id) in added {
        let id = id.as_u64().ok_or_else(|| Error::input(file, text, "a whole number expected"))?;
        let known = usize::try_from(id).ok().and_then(|id| vocabulary.tokens.get(id)?.as_ref());
        match known {
            Some((known, _)) if known == text => {}
            Some((known, _)) => return Err(Error::input(file, text, format!("id {id} is already {known:?}"))),
            None => vocabulary.set(file, id, text, TokenType::UserDefined)?,
        }
    }
    Ok(())
}

/// The tokens that special_tokens_map.json lists are control tokens.
fn mark_additional(map: &Json, vocabulary: &mut Vocabulary) {
    let additional = map["additional_special_tokens"].as_array().into_iter().flatten();
    let named = ROLES.iter().map(|(role, _)| &map[*role]);
    let special: std::collections::HashSet<&str> = additional.chain(named).filter_map(token_text).collect();
    for token in vocabulary.tokens.iter_mut().flatten() {
        if special.contains(token.0.as_str()) && token.1 != TokenType::Unknown {
            token.1 = TokenType::Control;
        }
    }
}
