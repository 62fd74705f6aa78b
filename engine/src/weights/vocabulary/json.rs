//! tokenizer.json of the `tokenizers` library: BPE over bytes, BPE with byte fallback, WordPiece.

use std::collections::HashMap;

use serde_json::Value as Json;

use super::{TokenType, Vocabulary};
use crate::{Error, Result, weights::Value};

pub(super) fn read(file: &str, text: &str) -> Result<Vocabulary> {
    let json: Json = serde_json::from_str(text).map_err(|e| Error::input(file, "JSON", e.to_string()))?;
    let model = &json["model"];
    let mut vocabulary = Vocabulary { model: kind(file, &json)?, ..Vocabulary::default() };
    let bad = |place: &str, problem: &str| Error::input(file, place, problem);
    let entries = model["vocab"].as_object().ok_or_else(|| bad("model.vocab", "an object expected"))?;
    for (text, id) in entries {
        let id = id.as_u64().ok_or_else(|| bad("model.vocab", &format!("{text:?} has no whole number as its id")))?;
        vocabulary.set(file, id, text, plain_type(vocabulary.model, text))?;
    }
    if let Some(id) = model["unk_token"].as_str().and_then(|unk| vocabulary.id_of(unk)) {
        let (_, token_type) = vocabulary.tokens[id as usize].as_mut().expect("id_of found it");
        *token_type = if vocabulary.model == "llama" { TokenType::Unknown } else { TokenType::Normal };
    }
    let merges = read_merges(file, &model["merges"])?;
    if vocabulary.model == "llama" {
        score_by_rank(&mut vocabulary, &merges);
        let prefix = adds_space_prefix(&json);
        vocabulary.extra.insert("tokenizer.ggml.add_space_prefix".into(), Value::Bool(prefix));
    } else if vocabulary.model == "gpt2" {
        vocabulary.merges =
            merges.iter().map(|(left, right)| format!("{} {}", no_space(left), no_space(right))).collect();
        vocabulary.extra.insert("tokenizer.ggml.pre".into(), pre_tokenizer(&json).into());
        vocabulary.extra.insert("tokenizer.ggml.add_space_prefix".into(), Value::Bool(false));
    }
    add_tokens(file, &json, &mut vocabulary)?;
    add_template(&json, &mut vocabulary);
    Ok(vocabulary)
}

/// GGUF's name for the kind of tokenizer.
fn kind(file: &str, json: &Json) -> Result<&'static str> {
    let model = &json["model"];
    // Old files leave the type out; only BPE has merges.
    let name = model["type"].as_str().unwrap_or(if model["merges"].is_array() { "BPE" } else { "" });
    match name {
        "BPE" if model["byte_fallback"].as_bool() == Some(true) => Ok("llama"),
        "BPE" if mentions(&json["pre_tokenizer"], "ByteLevel") || mentions(&json["decoder"], "ByteLevel") => Ok("gpt2"),
        "WordPiece" => Ok("bert"),
        other => {
            let problem = format!("{other:?} found; BPE over bytes, BPE with byte fallback or WordPiece expected");
            Err(Error::input(file, "model.type", problem))
        }
    }
}

/// Whether a component, or a member of a sequence of them, has the type.
fn mentions(component: &Json, type_name: &str) -> bool {
    members(component).any(|member| member["type"] == type_name)
}

/// A component's members when it is a sequence, else itself.
fn members(component: &Json) -> impl Iterator<Item = &Json> {
    let lists = ["pretokenizers", "normalizers", "processors", "decoders"];
    let list = lists.iter().find_map(|key| component[*key].as_array());
    let alone = if list.is_none() { Some(component) } else { None };
    list.into_iter().flatten().chain(alone)
}

fn plain_type(model: &str, text: &str) -> TokenType {
    let is_byte = text.len() == 6 && text.starts_with("<0x") && text.ends_with('>');
    if model == "llama" && is_byte { TokenType::Byte } else { TokenType::Normal }
}

/// Merges are texts `"a b"`, or pairs in newer files.
fn read_merges(file: &str, merges: &Json) -> Result<Vec<(String, String)>> {
    let read = |merge: &Json| match merge {
        Json::String(text) => text.split_once(' ').map(|(left, right)| (left.to_owned(), right.to_owned())),
        Json::Array(pair) if pair.len() == 2 => Some((pair[0].as_str()?.to_owned(), pair[1].as_str()?.to_owned())),
        _ => None,
    };
    let read = |(rank, merge)| {
        read(merge).ok_or_else(|| Error::input(file, format!("model.merges[{rank}]"), "a pair expected"))
    };
    merges.as_array().map_or(&[] as &[Json], Vec::as_slice).iter().enumerate().map(read).collect()
}

/// GGUF joins a merge's parts with a space, so a space inside one is written as the byte-level alphabet writes it (U+0120).
fn no_space(part: &str) -> String {
    part.replace(' ', "\u{120}")
}

/// SentencePiece merges the pair whose result has the highest score. Trainers give out ids in the order of merging, so −id is what its
/// own file would say (for Llama 2, whose tokenizer.json puts the merges of spaces last, it alone does). Where ids follow no such order,
/// −rank of a token's first merge takes their place.
fn score_by_rank(vocabulary: &mut Vocabulary, merges: &[(String, String)]) {
    let ids: HashMap<&str, usize> =
        vocabulary.tokens.iter().enumerate().filter_map(|(id, token)| Some((token.as_ref()?.0.as_str(), id))).collect();
    let made: Vec<String> = merges.iter().map(|(left, right)| format!("{left}{right}")).collect();
    let made_ids: Vec<Option<usize>> = made.iter().map(|text| ids.get(text.as_str()).copied()).collect();
    let descents = made_ids.windows(2).filter(|pair| pair[0] > pair[1]).count();
    let by_id = descents * 100 <= made.len();
    let mut ranks = HashMap::new();
    for text in &made {
        let next = ranks.len();
        ranks.entry(text.as_str()).or_insert(next);
    }
    let score = |(id, token): (usize, &Option<(String, TokenType)>)| match token {
        Some((_, TokenType::Byte | TokenType::Unknown)) => 0.0,
        Some((text, _)) => -(if by_id { id } else { ranks.get(text.as_str()).copied().unwrap_or(ranks.len()) } as f32),
        None => -(vocabulary.tokens.len() as f32),
    };
    vocabulary.scores = vocabulary.tokens.iter().enumerate().map(score).collect();
}

/// Whether a space goes in front of the text: a `Prepend` normaliser or a `Metaspace` that prepends.
fn adds_space_prefix(json: &Json) -> bool {
    let metaspace = members(&json["pre_tokenizer"]).find(|member| member["type"] == "Metaspace");
    let prepends = |metaspace: &Json| match metaspace["prepend_scheme"].as_str() {
        Some(scheme) => scheme != "never",
        None => metaspace["add_prefix_space"].as_bool().unwrap_or(true),
    };
    mentions(&json["normalizer"], "Prepend") || metaspace.is_some_and(prepends)
}

/// llama.cpp's name for how text is cut before merging.
fn pre_tokenizer(json: &Json) -> &'static str {
    let pre = &json["pre_tokenizer"];
    let pattern = members(pre).find_map(|member| member["pattern"]["Regex"].as_str()).unwrap_or("");
    let digits = members(pre).find(|member| member["type"] == "Digits");
    if digits.is_some_and(|digits| digits["individual_digits"].as_bool() == Some(true)) && pattern.is_empty() {
        "smollm"
    } else if pattern.contains(r"\p{N}{1,3}") && pattern.contains("(?i:'s|'t|'re|'ve|'m|'ll|'d)") {
        "llama-bpe"
    } else if pattern.contains(r"|\p{N}|") && pattern.contains("(?i:'s|'t|'re|'ve|'m|'ll|'d)") {
        "qwen2"
    } else if pattern.is_empty() && mentions(pre, "ByteLevel") {
        "gpt-2"
    } else {
        "default"
    }
}

fn add_tokens(file: &str, json: &Json, vocabulary: &mut Vocabulary) -> Result<()> {
    for (index, token) in json["added_tokens"].as_array().into_iter().flatten().enumerate() {
        let (Some(id), Some(text)) = (token["id"].as_u64(), token["content"].as_str()) else {
            return Err(Error::input(file, format!("added_tokens[{index}]"), "an id and a content expected"));
        };
        let known = usize::try_from(id).ok().and_then(|id| vocabulary.tokens.get(id)?.as_ref());
        if known.is_some_and(|(_, token_type)| *token_type == TokenType::Unknown) {
            continue;
        }
        let special = token["special"].as_bool() == Some(true);
        vocabulary.set(file, id, text, if special { TokenType::Control } else { TokenType::UserDefined })?;
    }
    Ok(())
}

/// Whether the template puts a token before and after every text.
fn add_template(json: &Json, vocabulary: &mut Vocabulary) {
    let template = members(&json["post_processor"]).find(|member| member["type"] == "TemplateProcessing");
    let Some(single) = template.and_then(|template| template["single"].as_array()) else { return };
    let special = |piece: Option<&Json>| Value::Bool(piece.is_some_and(|piece| piece.get("SpecialToken").is_some()));
    vocabulary.extra.insert("tokenizer.ggml.add_bos_token".into(), special(single.first()));
    vocabulary.extra.insert("tokenizer.ggml.add_eos_token".into(), special(single.last()));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scores(vocab: &str) -> Vec<f32> {
        let text = format!(
            r#"{{"model": {{"type": "BPE", "byte_fallback": true, "unk_token": "<unk>", "vocab": {vocab},
                "merges": ["a b", "ab c", "b c"]}}}}"#
        );
        let vocabulary = read("tokenizer.json", &text).unwrap();
        assert_eq!(vocabulary.model, "llama");
        let types: Vec<TokenType> = vocabulary.tokens.iter().flatten().map(|token| token.1).collect();
        assert_eq!(types[..2], [TokenType::Unknown, TokenType::Byte]);
        vocabulary.scores
    }

    #[test]
    fn pieces_score_in_the_order_of_merging() {
        let in_order = scores(r#"{"<unk>": 0, "<0x0A>": 1, "ab": 2, "abc": 3, "bc": 4, "a": 5, "b": 6, "c": 7}"#);
        assert!(in_order[2] > in_order[3] && in_order[3] > in_order[4] && in_order[4] > in_order[5]);
        let shuffled = scores(r#"{"<unk>": 0, "<0x0A>": 1, "bc": 2, "abc": 3, "ab": 4, "a": 5, "b": 6, "c": 7}"#);
        assert!(shuffled[4] > shuffled[3] && shuffled[3] > shuffled[2] && shuffled[2] > shuffled[5]);
    }
}
