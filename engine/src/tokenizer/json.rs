//! tokenizer.json of Hugging Face's `tokenizers`.
//!
//! The file describes a pipeline of parts. Only the parts that Llama-like and BERT models use are let through, each checked here:
//! the crate is written for files it trusts. What puts a space in front of the text is taken out and kept as
//! [`SpacePrefix`], because whether it applies depends on where the text stands.

use serde_json::{Value as Json, json};

use super::{
    model,
    vocabulary::{Kind, MAX_TOKENS, SpacePrefix, TokenType, Vocabulary},
};
use crate::{Error, Result};

/// Longest accepted pattern of a pre-tokenizer; Llama 3's has 170 characters.
const MAX_PATTERN_BYTES: usize = 2048;

pub(super) fn read(file: &str, bytes: &[u8]) -> Result<Vocabulary> {
    let json: Json = serde_json::from_slice(bytes).map_err(|e| Error::input(file, "JSON", e.to_string()))?;
    let reader = Reader { file, json: &json };
    let mut vocabulary = Vocabulary::new(reader.kind()?);
    reader.entries(&mut vocabulary)?;
    reader.merges(&mut vocabulary)?;
    reader.normalizer(&mut vocabulary)?;
    reader.pre_tokenizer(&mut vocabulary)?;
    reader.roles(&mut vocabulary);
    Ok(vocabulary)
}

struct Reader<'a> {
    file: &'a str,
    json: &'a Json,
}

impl<'a> Reader<'a> {
    fn bad(&self, place: impl Into<String>, problem: impl Into<String>) -> Error {
        Error::input(self.file, place, problem)
    }

    fn kind(&self) -> Result<Kind> {
        let model = &self.json["model"];
        // Old files leave the type out; only BPE has merges.
        let name = model["type"].as_str().unwrap_or(if model["merges"].is_array() { "BPE" } else { "" });
        for key in ["continuing_subword_prefix", "end_of_word_suffix"] {
            if name == "BPE" && model[key].as_str().is_some_and(|text| !text.is_empty()) {
                return Err(self.bad(format!("model.{key}"), "not supported with BPE"));
            }
        }
        match name {
            "BPE" if model["byte_fallback"] == true => Ok(Kind::SentencePiece),
            "BPE" if self.mentions("pre_tokenizer", "ByteLevel") => Ok(Kind::ByteLevel),
            "WordPiece" if matches!(model["continuing_subword_prefix"].as_str(), None | Some("##")) => {
                Ok(Kind::WordPiece)
            }
            other => {
                let expected = "BPE over bytes, BPE with byte fallback or WordPiece with ## expected";
                Err(self.bad("model.type", format!("{other:?} found; {expected}")))
            }
        }
    }

    fn mentions(&self, part: &str, type_name: &str) -> bool {
        members(&self.json[part]).any(|member| member["type"] == type_name)
    }

    fn entries(&self, vocabulary: &mut Vocabulary) -> Result<()> {
        let entries = &self.json["model"]["vocab"];
        let entries = entries.as_object().ok_or_else(|| self.bad("model.vocab", "an object expected"))?;
        let added = self.json["added_tokens"].as_array().map_or(&[] as &[Json], Vec::as_slice);
        let n_entries = entries.len() + added.len();
        if n_entries > MAX_TOKENS {
            return Err(self.bad("model.vocab", format!("at most {MAX_TOKENS} tokens expected")));
        }
        let sentencepiece = vocabulary.kind == Kind::SentencePiece;
        for (text, id) in entries {
            let id =
                id.as_u64().ok_or_else(|| self.bad(format!("model.vocab[{text:?}]"), "a whole number expected"))?;
            let is_byte = sentencepiece && text.len() == 6 && text.starts_with("<0x") && text.ends_with('>');
            let token_type = if is_byte { TokenType::Byte } else { TokenType::Normal };
            vocabulary.set(self.file, id, text, token_type, n_entries)?;
        }
        for (index, token) in added.iter().enumerate() {
            let (Some(id), Some(text)) = (token["id"].as_u64(), token["content"].as_str()) else {
                return Err(self.bad(format!("added_tokens[{index}]"), "an id and a content expected"));
            };
            let token_type = if token["special"] == true { TokenType::Control } else { TokenType::UserDefined };
            vocabulary.set(self.file, id, text, token_type, n_entries)?;
        }
        vocabulary.unknown = self.json["model"]["unk_token"].as_str().and_then(|text| vocabulary.find(text));
        if let Some(id) = vocabulary.unknown {
            vocabulary.types[id as usize] = TokenType::Unknown;
        }
        Ok(())
    }

    /// Merges are texts `"a b"`, or pairs in newer files.
    fn merges(&self, vocabulary: &mut Vocabulary) -> Result<()> {
        let model = &self.json["model"];
        vocabulary.ignore_merges = model["ignore_merges"] == true;
        let read = |merge: &Json| match merge {
            Json::String(text) => text.split_once(' ').map(|(left, right)| (left.to_owned(), right.to_owned())),
            Json::Array(pair) if pair.len() == 2 => Some((pair[0].as_str()?.to_owned(), pair[1].as_str()?.to_owned())),
            _ => None,
        };
        let merges = model["merges"].as_array().map_or(&[] as &[Json], Vec::as_slice);
        let read =
            |(rank, merge)| read(merge).ok_or_else(|| self.bad(format!("model.merges[{rank}]"), "a pair expected"));
        vocabulary.merges = merges.iter().enumerate().map(read).collect::<Result<_>>()?;
        Ok(())
    }

    fn normalizer(&self, vocabulary: &mut Vocabulary) -> Result<()> {
        let mut kept = Vec::new();
        for part in members(&self.json["normalizer"]) {
            let name = part["type"].as_str().unwrap_or("");
            match name {
                "Prepend" if part["prepend"] == "\u{2581}" => vocabulary.space_prefix = SpacePrefix::Always,
                "Replace" if part["pattern"]["String"].as_str().is_some_and(|text| !text.is_empty()) => {
                    kept.push(part.clone())
                }
                "BertNormalizer" | "Lowercase" | "NFC" | "NFD" | "NFKC" | "NFKD" | "StripAccents" => {
                    kept.push(part.clone())
                }
                _ => return Err(self.bad("normalizer", format!("{name:?} is not supported here"))),
            }
        }
        if !kept.is_empty() {
            let sequence = json!({"type": "Sequence", "normalizers": kept});
            let read = serde_json::from_value(sequence).map_err(|e| self.bad("normalizer", e.to_string()))?;
            vocabulary.normalizer = Some(read);
        }
        Ok(())
    }

    fn pre_tokenizer(&self, vocabulary: &mut Vocabulary) -> Result<()> {
        let mut kept = Vec::new();
        for part in members(&self.json["pre_tokenizer"]) {
            let mut part = part.clone();
            let name = part["type"].as_str().unwrap_or("").to_owned();
            match name.as_str() {
                "Metaspace" => {
                    let scheme = part["prepend_scheme"].as_str();
                    let prepends = scheme.map_or(part["add_prefix_space"] != false, |scheme| scheme != "never");
                    if prepends {
                        vocabulary.space_prefix = SpacePrefix::IfMissing;
                    }
                    part["prepend_scheme"] = json!("never");
                    part["add_prefix_space"] = json!(false);
                }
                "ByteLevel" => {
                    if part["add_prefix_space"] == true {
                        vocabulary.space_prefix = SpacePrefix::IfMissing;
                    }
                    part["add_prefix_space"] = json!(false);
                }
                "Split" => self.check_pattern(&part["pattern"])?,
                "Digits" | "BertPreTokenizer" | "Whitespace" | "WhitespaceSplit" | "Punctuation" => {}
                _ => return Err(self.bad("pre_tokenizer", format!("{name:?} is not supported here"))),
            }
            kept.push(part);
        }
        if !kept.is_empty() {
            let sequence = json!({"type": "Sequence", "pretokenizers": kept});
            let read = serde_json::from_value(sequence).map_err(|e| self.bad("pre_tokenizer", e.to_string()))?;
            vocabulary.pre_tokenizer = Some(read);
        }
        if vocabulary.kind == Kind::WordPiece && vocabulary.pre_tokenizer.is_none() {
            model::bert_pipeline(vocabulary);
        }
        Ok(())
    }

    fn check_pattern(&self, pattern: &Json) -> Result<()> {
        let text = pattern["Regex"].as_str().or_else(|| pattern["String"].as_str()).unwrap_or("");
        if text.is_empty() || text.len() > MAX_PATTERN_BYTES {
            let problem = format!("a pattern of 1 to {MAX_PATTERN_BYTES} bytes expected, {} found", text.len());
            return Err(self.bad("pre_tokenizer", problem));
        }
        Ok(())
    }

    /// BOS and EOS are what the template puts before and after a text, or the usual names.
    fn roles(&self, vocabulary: &mut Vocabulary) {
        let template = members(&self.json["post_processor"]).find(|member| member["type"] == "TemplateProcessing");
        let single = template.and_then(|template| template["single"].as_array());
        let special =
            |piece: Option<&Json>| piece?["SpecialToken"]["id"].as_str().and_then(|text| vocabulary.find(text));
        let before = single.and_then(|pieces| special(pieces.first()));
        let after = single.and_then(|pieces| special(pieces.last()));
        (vocabulary.add_bos, vocabulary.add_eos) = (before.is_some(), after.is_some());
        vocabulary.bos = before.or_else(|| vocabulary.find("<s>"));
        vocabulary.eos = after.or_else(|| vocabulary.guess_eos());
        vocabulary.stop_at(vocabulary.eos);
    }
}

/// A part's members when it is a sequence, else itself; nothing for null.
fn members(part: &Json) -> impl Iterator<Item = &Json> {
    let lists = ["pretokenizers", "normalizers", "processors"];
    let list = lists.iter().find_map(|key| part[*key].as_array());
    let alone = if list.is_none() && !part.is_null() { Some(part) } else { None };
    list.into_iter().flatten().chain(alone)
}
